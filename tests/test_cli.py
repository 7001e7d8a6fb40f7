"""The command line: what it makes of its options, how it answers, and how it ends."""

import contextlib
import dataclasses
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayes_prehoc as bp
from bayes_prehoc import _console
from bayes_prehoc._arguments import parse_cost, parse_loss, parse_numbers, parse_seeds
from bayes_prehoc.cli import main
from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.conflict import UNKNOWN, Threshold
from bayes_prehoc.hierarchy.evidence import Evidence
from bayes_prehoc.hierarchy.mixing import CardWeight
from bayes_prehoc.planning import REGIMES

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()


def run(*arguments):
    """Exit code, standard output and standard error of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code, out.getvalue(), err.getvalue()


def small_runs():
    """Two tasks of 32 complete runs: accuracies that settle as independent shocks get smaller with depth."""
    rng = np.random.default_rng(0)
    depths = np.array([1, 2, 4, 8, 12, 16, 20])
    rows = []
    for task, size in (("wide", 0.04), ("narrow", 0.004)):
        for seed in range(32):
            values = 0.8 + size * np.cumsum(rng.normal(size=len(depths)) / depths**0.8)
            rows += [(task, seed, c, "accuracy", v) for c, v in zip(depths, values, strict=True)]
    return pd.DataFrame(rows, columns=["task", "seed", "step", "metric", "value"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the commands of the README were run on `runs.csv`; what they printed is in `said`."""
    where = tmp_path_factory.mktemp("cli")
    frame = small_runs()
    frame.to_csv(where / "runs.csv", index=False)
    frame[frame["seed"] == 0].to_csv(where / "one_seed.csv", index=False)
    (where / "empty.csv").write_text("")
    (where / "other.txt").write_text("nothing to see")
    commands = re.findall(r"^    bayes-prehoc ((?:fit|plan|report) .*)$", README, flags=re.MULTILINE)
    assert [c.split()[0] for c in commands] == ["fit", "plan", "report"]
    with contextlib.chdir(where):
        said = {c.split()[0]: run(*shlex.split(c)) for c in commands}
        (where / "said.json").write_text(json.dumps(said))
    return where


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def said(here):
    return json.loads((here / "said.json").read_text())


@pytest.mark.parametrize(
    ("text", "seeds"), [("1", 1), ("64", 64), ("0:3", range(3)), ("64:128", range(64, 128)), ("064", 64)]
)
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "-1", "3:3", "4:2", "1:", ":4", "a", "1.5", "1:2:3", "²"])
def test_no_seeds(text):
    with pytest.raises(InputError, match="--seeds: .* names no seeds"):
        parse_seeds(text)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ([], None),
        (["0.01"], 0.01),
        (["1e-2"], 0.01),
        (["a=0.1", "b=0.2"], {"a": 0.1, "b": 0.2}),
        (["lr=0.1=0.02"], {"lr=0.1": 0.02}),
    ],
)
def test_one_number_or_one_per_task(given, expected):
    assert parse_numbers("--tolerance", given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["x"], "--tolerance: 'x' is no number"),
        (["a=x"], "--tolerance a: 'x' is no number"),
        (["a="], "--tolerance a: '' is no number"),
        (["0.1", "0.2"], "0.1 and 0.2 do not go together"),
        (["0.1", "a=0.2"], "0.1 and a=0.2 do not go together"),
        (["a=0.1", "a=0.2"], "a=0.1 and a=0.2 do not go together"),
    ],
)
def test_numbers_that_cannot_be_meant(given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        parse_numbers("--tolerance", given)


def test_cost():
    assert parse_cost(None, None, None) is None
    assert parse_cost(0.5, None, None) == bp.LinearCost(0.5)
    assert parse_cost(0.5, 2.0, "GPU hour") == bp.LinearCost(0.5, 2.0, "GPU hour")
    with pytest.raises(InputError, match="--cost-fixed.*--cost-per-unit"):
        parse_cost(None, 0.0, None)
    with pytest.raises(InputError, match="--cost-unit.*--cost-per-unit"):
        parse_cost(None, None, "hour")


def test_costs_that_grow_and_costs_in_money():
    hours = {"unit": "GPU hour", "price": 2.5, "currency": "EUR"}
    assert parse_cost(0.5, None, *hours.values()) == bp.LinearCost(0.5, **hours)
    assert parse_cost(0.5, 1.0, None, doubling=30.0) == bp.ConvexCost(0.5, 30.0, fixed=1.0)
    assert parse_cost(0.5, None, None, doubling=30.0, power=3.0) == bp.ConvexCost(0.5, 30.0, 3.0)
    with pytest.raises(InputError, match="--cost-power.*--cost-doubling"):
        parse_cost(0.5, None, None, power=3.0)
    with pytest.raises(InputError, match="--cost-price.*--cost-per-unit"):
        parse_cost(None, None, None, price=3.0)


def test_costs_from_a_table(tmp_path):
    table = tmp_path / "costs.csv"
    table.write_text("depth,cost\n0,1\n20,5\n")
    assert parse_cost(None, None, "GPU hour", table=table) == bp.TableCost((0, 20), (1, 5), "GPU hour")
    table.write_text("task,depth,cost\n7,0,1\n7,20,5\nb,0,0\nb,10,3\n")
    assert parse_cost(None, None, None, table=table) == {
        "7": bp.TableCost((0, 20), (1, 5)), "b": bp.TableCost((0, 10), (0, 3))
    }  # fmt: skip
    with pytest.raises(InputError, match="--cost-fixed.*beside --cost-table"):
        parse_cost(None, 1.0, None, table=table)
    for content, said in (("depth,price\n1,2\n", "no column 'cost'"), ("depth,cost\n1,4\n2,3\n", "the cost falls")):
        table.write_text(content)
        with pytest.raises(InputError, match=f"costs.csv: {said}"):
            parse_cost(None, None, None, table=table)
    with pytest.raises(InputError, match="absent.csv: cannot be read"):
        parse_cost(None, None, None, table=tmp_path / "absent.csv")


def test_a_loss_or_a_price():
    assert parse_loss(None, None, None, None) is None and parse_loss(5.0, None, None, None) == 5.0
    assert parse_loss(None, 0.9, 40.0, 25.0) == bp.ThresholdLoss(0.9, 40.0, 25.0)
    with pytest.raises(InputError, match="--gamma.*beside --threshold"):
        parse_loss(5.0, 0.9, 40.0, 25.0)
    with pytest.raises(InputError, match="--missed: not given"):
        parse_loss(None, 0.9, 40.0, None)


def test_without_arguments_it_introduces_itself():
    code, out, err = run()
    assert (code, err) == (0, "")
    for command in ("probe", "ingest", "fit", "plan", "allocate", "report", "demo"):
        assert re.search(rf"^  {command} ", out, flags=re.MULTILINE)
        code, own, _ = run(command, "--help")
        assert code == 0 and "Example" in own
        assert not re.search(r"\n {2,}Default: \.", own)
    assert run("--version")[1] == f"bayes-prehoc {bp.__version__}\n"


MISTAKES = [
    ("probe --model here --data train.tsv", ["--eval, --text, --label missing", "Give all five"]),
    ("probe wine --model a --data b --eval c --text d --label e", ["Give built-in tasks, or a model with data"]),
    ("probe --model ./none --data b --eval c --text d --label e", ["./none", "no such folder"]),
    ("nonsense", ["nonsense", "--help"]),
    ("fit", ["RUNS", "bayes-prehoc fit --help"]),
    ("fit runs.csv", ["--out", "bayes-prehoc fit --help"]),
    ("fit runs.csv --out p.nc --horizon far", ["--horizon", "valid"]),
    ("fit runs.csv --out p.nc --horizon -1", ["horizon", "positive"]),
    ("fit absent.csv --out p.nc", ["absent.csv"]),
    ("fit empty.csv --out p.nc", ["empty.csv"]),
    ("fit other.txt --out p.nc", ["other.txt"]),
    ("fit one_seed.csv --out p.nc", ["one_seed.csv", "two or more runs"]),
    ("fit runs.csv --out nowhere/p.nc", ["nowhere/p.nc", "Create nowhere first"]),
    ("fit runs.csv --out .", ["is a folder"]),
    ("fit runs.csv --out p.nc --outcome loss", ["'loss'", "accuracy"]),
    ("fit runs.csv --out p.nc --metric loss", ["'loss'", "accuracy"]),
    ("fit runs.csv --out p.nc --proxy magic", ["magic", "run_to_run"]),
    ("fit runs.csv --out p.nc --seed -1", ["seed", "-1"]),
    ("fit runs.csv --out p.nc --prior nowhere", ["there is no prior card 'nowhere'"]),
    ("fit absent.csv --out p.nc --prior ./nowhere", ["there is no such folder", "nowhere"]),
    ("plan absent.nc", ["absent.nc"]),
    ("plan runs.csv", ["runs.csv"]),
    ("plan post.nc --out nowhere/p.nc", ["nowhere"]),
    ("plan post.nc --tolerance x", ["--tolerance", "'x'"]),
    ("plan post.nc --tolerance 0", ["tolerance", "0"]),
    ("plan post.nc --tolerance -0.1", ["tolerance"]),
    ("plan post.nc --tolerance nan", ["tolerance", "nan"]),
    ("plan post.nc --tolerance nosuch=0.1", ["tolerance", "nosuch", "wide"]),
    ("plan post.nc --gamma 0", ["gamma"]),
    ("plan post.nc --c-cheap 21", ["c_cheap", "20"]),
    ("plan post.nc --c-cheap wide=21", ["c_cheap", "wide", "20"]),
    ("plan post.nc --cost-per-unit 0", ["cost", "per_unit"]),
    ("plan post.nc --cost-per-unit 1 --cost-fixed -1", ["cost", "fixed"]),
    ("plan post.nc --cost-fixed 1", ["--cost-per-unit"]),
    ("plan post.nc --cost-table absent.csv", ["absent.csv"]),
    ("plan post.nc --threshold 0.9", ["--false-start", "together"]),
    ("allocate absent.nc --budget 1", ["absent.nc"]),
    ("allocate post.nc", ["--budget"]),
    ("allocate post.nc --budget 0.01", ["budget", "least depths"]),
    ("allocate post.nc --budget 1 --group wide,nosuch", ["nosuch", "narrow"]),
    ("allocate post.nc --budget 1 --weight 3", ["weights", "{task: weight}"]),
    ("report absent.nc", ["absent.nc"]),
    ("report other.txt", ["other.txt"]),
    ("report post.nc --out r.pdf", ["r.pdf", ".html or .json"]),
    ("report post.nc --out nowhere/r.html", ["nowhere"]),
    ("report post.nc --compare absent.nc --out r.html", ["absent.nc"]),
    ("probe nosuch --store r.db", ["nosuch", "digits"]),
    ("probe --seeds none", ["--seeds", "none"]),
    ("probe --store nowhere/r.db", ["nowhere"]),
    ("probe --store runs.csv", ["runs.csv"]),
    ("estimate absent.csv", ["absent.csv"]),
    ("estimate runs.csv --out p.txt", ["p.txt"]),
    ("estimate runs.csv --permutations 3", ["3 permutations"]),
    ("update absent.nc runs.csv --out new.nc", ["absent.nc"]),
    ("update post.nc absent.csv --out new.nc", ["absent.csv"]),
    ("ingest absent.csv --store r.db", ["absent.csv"]),
    ("ingest runs.csv --store runs.csv", ["runs.csv"]),
    ("ingest runs.csv --store r.db --attributes one_seed.csv", ["one_seed.csv"]),
    ("demo --out runs.csv", ["runs.csv", "another folder"]),
    ("demo --seeds 0", ["--seeds", "'0'"]),
]


@pytest.mark.parametrize(("command", "words"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_mistake_is_one_line_and_code_2(here, command, words):
    before = {path: path.stat().st_size for path in here.rglob("*")}
    code, out, err = run(*shlex.split(command))
    *progress, last = err.splitlines()
    assert (code, out) == (2, "")
    assert last.startswith("Error: ") and len(last) > len("Error: ")
    assert "Traceback" not in err and not any(line.startswith("Error") for line in progress)
    for word in words:
        assert word in last
    assert {path: path.stat().st_size for path in here.rglob("*")} == before, "a mistake leaves nothing behind"


def test_the_commands_of_the_readme_answer(here, said):
    for command, (code, _, err) in said.items():
        assert code == 0, f"{command}: {err}"
    fitted, planned = said["fit"], said["plan"]
    assert "conditional" in fitted[1] and "wide" in fitted[1] and "narrow" in fitted[1]
    assert "2 tasks" in fitted[2] and "passed the gate" in fitted[2]
    assert "wide" in planned[1] and "tolerance" in planned[1]
    assert (here / "report.html").read_text().lstrip().startswith("<!")


def test_estimate_shows_every_proxy_and_writes_what_is_asked(here, tmp_path):
    page, numbers = tmp_path / "p.html", tmp_path / "p.json"
    command = ("estimate", "runs.csv", "--permutations", "19")
    code, out, err = run(*command, "--out", str(page), "--out", str(numbers))
    assert code == 0 and str(page) in err and "wide" in page.read_text()
    for words in ("conditional: how well", "narrow", "information", "p = 0.05", "No estimates of branching"):
        assert words in out
    code, out, _ = run(*command, "--json")
    assert code == 0 and json.loads(out) == json.loads(numbers.read_text())


def test_an_update_is_saved_and_planned_for(here, tmp_path):
    runs, out = tmp_path / "more.csv", str(tmp_path / "new.nc")
    frame = small_runs()
    frame[frame["task"] == "wide"].assign(task="another").to_csv(runs, index=False)
    code, _, err = run("update", "post.nc", str(runs), "--out", out)
    # The runs are those of "wide".
    assert code == 2 and "runs of task 'another' were fitted as task 'wide'" in err
    shaken = frame[frame["task"] == "wide"].assign(
        task="another", value=lambda own: own["value"] + 1e-4 * (1 + own["seed"])
    )
    shaken.to_csv(runs, index=False)
    code, said, err = run("update", "post.nc", str(runs), "--out", out)
    assert code == 0 and "another" in said and "narrow" not in said and out in err
    document = json.loads(run("plan", out, "--tolerance", "0.01", "--json")[1])
    assert [task["task"] for task in document["tasks"]] == ["another"]
    assert document["tasks"][0]["regimes"]["static-sufficient"] < 0.1


def test_plan_as_json_holds_what_a_machine_needs(here):
    code, out, _ = run("plan", "post.nc", "--tolerance", "0.01", "--json")
    document = json.loads(out)
    assert code == 0
    assert {"tasks", "assumptions", "proxy", "converged", "checks", "set_aside", "version"} <= set(document)
    assert document["converged"] is True and document["proxy"] == "conditional"
    assert [task["task"] for task in document["tasks"]] == ["wide", "narrow"]
    for task in document["tasks"]:
        assert set(task["regimes"]) == set(REGIMES)
        assert sum(task["regimes"].values()) == pytest.approx(1.0)
        for figure in ("L_int", "alpha", "c_star"):
            assert task[figure]["lower"] <= task[figure]["median"] <= task[figure]["upper"]
        assert task["tolerance"] == 0.01
    # Shocks of 0.4 points at most stay within one point from the start; those ten times larger do not.
    assert document["tasks"][1]["regimes"]["static-sufficient"] > 0.9
    assert document["tasks"][0]["regimes"]["static-sufficient"] < 0.1


def test_options_reach_the_plan(here):
    code, out, _ = run(
        *shlex.split("plan post.nc --tolerance wide=0.02 --tolerance narrow=0.03 --gamma 500 --c-cheap 2"),
        *shlex.split("--cost-per-unit 0.1 --cost-fixed 3 --cost-unit 'GPU hour' --json"),
    )
    assert code == 0
    wide, narrow = json.loads(out)["tasks"]
    assert (wide["tolerance"], narrow["tolerance"]) == (0.02, 0.03)
    assert wide["gamma"] == narrow["gamma"] == 500
    assert wide["c_cheap"] == narrow["c_cheap"] == 2
    assert wide["cost"].items() >= {"form": "linear", "per_unit": 0.1, "fixed": 3, "unit": "GPU hour"}.items()


def test_a_budget_is_spread(here):
    code, out, _ = run(*shlex.split("allocate post.nc --budget 1 --step 1 --weight narrow=100"))
    assert code == 0 and "wide" in out and "narrow" in out and "1.00000 of 1.00000 full run spent" in out
    command = "allocate post.nc --budget 6 --cost-per-unit 0.5 --cost-unit h --cost-price 2 --cost-currency EUR --json"
    code, out, _ = run(*shlex.split(command))
    document = json.loads(out)
    assert code == 0 and document["unit"] == "EUR" and document["spent"] == pytest.approx(6.0)
    wide, narrow = document["tasks"]
    assert wide["depth"] + narrow["depth"] == pytest.approx(6.0) and wide["depth"] > narrow["depth"]


def test_a_saved_plan_keeps_its_assumptions_save_for_those_given_anew(here, tmp_path):
    plan = str(tmp_path / "plan.nc")
    assert run(*shlex.split("plan post.nc --tolerance 0.02 --cost-per-unit 0.1 --out"), plan)[0] == 0
    kept = json.loads(run("report", plan, "--json")[1])["tasks"][0]
    assert (kept["tolerance"], kept["cost"]["per_unit"]) == (0.02, 0.1)
    changed = json.loads(run("report", plan, "--json", "--tolerance", "0.03")[1])["tasks"][0]
    assert (changed["tolerance"], changed["cost"]["per_unit"]) == (0.03, 0.1)
    # The file of a plan is a posterior's file too.
    assert run("plan", plan, "--json")[0] == 0


def test_report_writes_what_is_asked_and_the_same_numbers(here, tmp_path):
    page, numbers = tmp_path / "r.html", tmp_path / "r.json"
    code, out, err = run("report", "post.nc", "--out", str(page), "--out", str(numbers), "--compare", "post.nc")
    assert (code, out) == (0, "")
    assert str(page) in err and "wide" in page.read_text()
    assert json.loads(numbers.read_text()) == json.loads(run("report", "post.nc", "--json")[1])


def test_fit_as_json(here, monkeypatch, tmp_path):
    monkeypatch.setattr(bp, "fit", lambda *_, **__: bp.load_posterior(here / "post.nc"))
    code, out, err = run("fit", "runs.csv", "--out", str(tmp_path / "p.nc"), "--json")
    document = json.loads(out)
    assert code == 0
    assert (document["proxy"], document["converged"]) == ("conditional", True)
    assert [task["task"] for task in document["tasks"]] == ["wide", "narrow"]
    assert {check["check"] for check in document["checks"]} >= {"r_hat", "ess_tail", "k_hat"}
    assert "posterior saved" in err


def test_fit_under_a_card(here, monkeypatch, tmp_path):
    """Cards are passed on, and what the estimates say of them is told."""
    evidences = Evidence(0.0, 0.1), Evidence(0.0, 0.1)
    weight = CardWeight("six", 0.4, 0.3, 0.5, *evidences, Threshold(0.2, 0.1, 0.3, 40), np.zeros((1, 16), np.uint8))
    given = {}

    def fitted(*_, **options):
        given.update(options)
        return dataclasses.replace(bp.load_posterior(here / "post.nc"), card=weight, prior=weight.words)

    monkeypatch.setattr(bp, "fit", fitted)
    monkeypatch.setattr(bp, "load_card", lambda name: f"card {name}")
    command = ("fit", "runs.csv", "--out", str(tmp_path / "p.nc"), "--prior", "one", "--prior", "two")
    code, out, err = run(*command)
    assert code == 0 and given["prior"] == ["card one", "card two"]
    assert "Prior: card six, which conflicts with the estimates" in out and "Prior-data conflict" in err
    document = json.loads(run(*command, "--json")[1])
    assert document["prior"] == weight.words and document["card"]["weight"] == 0.4
    assert document["card"]["threshold"] == {"value": 0.2, "lower": 0.1, "upper": 0.3, "simulated": 40}
    assert not {check["check"]: check for check in document["checks"]}["prior_data_conflict"]["passed"]
    assert bp.load_posterior(tmp_path / "p.nc").card.words == weight.words
    weight = dataclasses.replace(weight, threshold=UNKNOWN)
    code, out, err = run(*command, "--json")
    assert code == 0 and json.loads(out)["card"]["threshold"]["value"] is None
    assert "Prior-data conflict is not known" in err and "not known whether it conflicts" in json.loads(out)["prior"]


def test_ingest_fills_a_store_that_fit_reads(here, tmp_path):
    store, configs = tmp_path / "runs.db", tmp_path / "configs.csv"
    configs.write_text("task,rate\nwide,0.1\nnarrow,0.01\n")
    command = ("ingest", "runs.csv", "--store", str(store), "--depth-unit", "epoch", "--attributes", str(configs))
    code, out, _ = run(*command, "--json")
    listed = json.loads(out)
    assert code == 0
    assert [(t["task"], t["runs"], t["depth_unit"]) for t in listed["tasks"]] == [
        ("wide", 32, "epoch"),
        ("narrow", 32, "epoch"),
    ]
    assert bp.read_runs(store)["wide"].attributes["rate"] == 0.1
    assert "wide" in run(*command)[1]


def test_what_is_set_aside_is_listed(here, tmp_path):
    frame = pd.concat([small_runs(), small_runs().query("task == 'wide' and seed == 0").assign(task="lone")])
    frame.to_csv(tmp_path / "more.csv", index=False)
    code, out, _ = run("ingest", str(tmp_path / "more.csv"), "--store", str(tmp_path / "r.db"))
    assert code == 0 and "Set aside: lone: one run only" in out


def test_a_fit_that_fails_its_gate_withholds_the_answer(here, tmp_path, monkeypatch):
    posterior = bp.load_posterior(here / "post.nc")
    r_hat, *others = posterior.gate
    gate = (r_hat._replace(passed=False, value=1.2), *others)
    monkeypatch.setattr(bp, "fit", lambda *_, **__: dataclasses.replace(posterior, gate=gate))
    failed = str(tmp_path / "failed.nc")
    code, _, err = run("fit", "runs.csv", "--out", failed)
    assert code == 1
    assert "failed its convergence gate" in err and "r_hat" in err
    code, out, err = run("plan", failed, "--json")
    document = json.loads(out)
    assert code == 1 and "r_hat" in err
    assert document["converged"] is False
    assert all(task["regimes"] is None and task["c_star"] is None for task in document["tasks"])
    code, out, err = run("allocate", failed, "--budget", "1")
    assert (code, out) == (1, "") and "r_hat" in err
    page = tmp_path / "failed.html"
    assert run("report", failed, "--out", str(page))[0] == 1
    assert page.is_file(), "the report says what failed"


def test_a_defect_shows_its_traceback(monkeypatch, here):
    def broken(*_, **__):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(bp, "plan", broken)
    code, out, err = run("plan", "post.nc")
    assert (code, out) == (70, "")
    assert "Traceback" in err and "ZeroDivisionError" in err and "report it" in err


def test_an_interrupted_fit_says_how_to_go_on(monkeypatch, here, tmp_path):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(bp, "fit", stopped)
    code, _, err = run("fit", "runs.csv", "--out", str(tmp_path / "p.nc"))
    assert code == 130
    assert "run the same command again" in err and "Traceback" not in err


def test_ctrl_c_ends_a_computation_that_does_not_listen():
    code = (
        "import signal, time, sys; from bayes_prehoc._console import exit_code, patiently\n"
        # A shell may have told its background jobs to ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def work(): print('started', flush=True); time.sleep(120)\n"
        "sys.exit(exit_code(lambda: patiently('still at work', work)))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in err and "Traceback" not in err


def test_a_long_computation_shows_signs_of_life(monkeypatch, capsys):
    monkeypatch.setattr(_console, "HEARTBEAT_S", 0.01)
    beats = []
    say = _console.say

    def waits_for_three():
        while len(beats) < 3:
            pass
        return "answer"

    monkeypatch.setattr(_console, "say", lambda text: (beats.append(text), say(text)))
    assert _console.patiently("still at work", waits_for_three) == "answer"
    assert capsys.readouterr().err.count("still at work") >= 3


def test_what_a_computation_raises_comes_through(monkeypatch):
    def late():
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        _console.patiently("still at work", late)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(28, "No space left on device", "post.nc"), 2, "Error: post.nc: No space left on device"),
        (PermissionError(13, "Permission denied", "/r.html"), 2, "Error: /r.html: Permission denied"),
        (OSError("no file named"), 70, "Traceback"),
    ],
)
def test_trouble_with_files_is_one_line(capsys, error, code, words):
    def command():
        raise error

    assert _console.exit_code(command) == code
    assert words in capsys.readouterr().err


def test_a_reader_that_stops_reading_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", "from bayes_prehoc.cli import main; main(['probe', '--list'])"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_probe_lists_the_suite():
    code, out, _ = run("probe", "--list", "--json")
    listed = json.loads(out)["tasks"]
    assert code == 0
    assert [task["task"] for task in listed] == [spec.name for spec in bp.suite()]
    assert [task["hash"] for task in listed] == [spec.hash for spec in bp.suite()]
    text = run("probe", "--list")[1]
    assert all(spec.name in text for spec in bp.suite())


def quick_suite():
    """Two tasks of the suite, shorter than they are."""
    few = [spec for spec in bp.suite() if spec.data == "digits-high"][:2]
    return [dataclasses.replace(spec, steps=80, n_depths=8) for spec in few]


def test_probe_stores_runs_and_does_not_repeat_them(tmp_path, monkeypatch):
    specs = quick_suite()
    monkeypatch.setattr(bp, "suite", lambda: specs)
    store = str(tmp_path / "runs.db")
    code, out, err = run("probe", "--seeds", "2", "--store", store, "--json")
    assert code == 0 and "4 runs of 2 tasks" in err
    assert [(t["task"], t["runs"]) for t in json.loads(out)["tasks"]] == [(s.name, 2) for s in specs]

    monkeypatch.setattr("bayes_prehoc.probes.execute.engine.run_group", None)
    code, again, _ = run("probe", "--seeds", "2", "--store", store, "--json")
    assert (code, again) == (0, out)


def test_probed_runs_are_forked_where_that_is_asked_for(tmp_path, monkeypatch):
    specs = quick_suite()
    monkeypatch.setattr(bp, "suite", lambda: specs)
    store = str(tmp_path / "runs.db")
    assert run("probe", specs[0].name, "--seeds", "3", "--branches", "2", "--store", store)[0] == 0
    (runs,) = bp.read_runs(store)
    assert runs.forked.shape == (3, len(runs.depths) - 1, 2)
    code, _, err = run("probe", specs[0].name, "--seeds", "3", "--branches", "1", "--store", store)
    assert code == 2 and "branches" in err and "Traceback" not in err
    code, _, err = run("probe", "nothing", "--branches", "2", "--store", store)
    assert code == 2 and "no task 'nothing'" in err


def test_a_pretrained_model_is_probed_on_texts(tmp_path, tiny_model):
    """Columns by name with a header and by position without one."""
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in rng.integers(3, 48, rng.integers(2, 9))) for _ in range(60)]
    table = pd.DataFrame({"sentence": texts, "label": rng.integers(0, 2, 60)})
    table.to_csv(tmp_path / "train.tsv", sep="\t", index=False)
    table.to_csv(tmp_path / "bare.tsv", sep="\t", index=False, header=False)
    command = [
        "probe",
        "--model",
        tiny_model("bert"),
        "--adapter",
        "lora",
        "--layers",
        "1",
        "--rank",
        "2",
        "--steps",
        "4",
    ]
    command += ["--batch-size", "8", "--seeds", "2", "--store", str(tmp_path / "runs.db"), "--json", "--name", "mine"]

    def on(name, text, label):
        return run(*command, "--data", tmp_path / name, "--eval", tmp_path / name, "--text", text, "--label", label)

    code, out, err = on("train.tsv", "sentence", "label")
    (task,) = json.loads(out)["tasks"]
    assert code == 0 and (task["task"], task["runs"], task["outcome_metric"]) == ("mine", 2, "accuracy"), err
    first = bp.read_runs(tmp_path / "runs.db")["mine"]
    assert on("bare.tsv", "0", "1")[0] == 0
    np.testing.assert_array_equal(first.outcome, bp.read_runs(tmp_path / "runs.db")["mine"].outcome)
    code, _, err = on("bare.tsv", "sentence", "label")
    assert code == 2 and "no column 'sentence'" in err and "give positions" in err and err.count("\n") == 1


@pytest.mark.slow
def test_demo_does_the_whole_job(tmp_path, monkeypatch):
    specs = quick_suite()
    monkeypatch.setattr(bp, "suite", lambda: specs)
    code, out, err = run("demo", "--out", str(tmp_path / "out"), "--seeds", "32", "--json")
    assert code in (0, 1), err
    document = json.loads(out)
    assert code == (0 if any(task["status"] == "ok" for task in document["tasks"]) else 1)
    assert [task["task"] for task in document["tasks"]] == [spec.name for spec in specs]
    assert {task["tolerance"] for task in document["tasks"]} == {0.01}
    assert document["proxy"] == "conditional"
    lines = err.splitlines()
    assert "0.01" in lines[0], "the tolerance is stated before anything is looked at"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"runs.db", "report.html", "report.json"}
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == document
    assert "run_to_run" in (tmp_path / "out" / "report.html").read_text(), "the other proxy is shown beside"


def test_the_example_of_the_readme_runs(here, tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(example.splitlines()) <= 10
    (tmp_path / "runs.csv").write_text((here / "runs.csv").read_text())
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert "wide" in capsys.readouterr().out
    assert (tmp_path / "report.html").is_file()
