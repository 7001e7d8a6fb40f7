"""The command `prior`: what it prints, writes and refuses."""

import contextlib
import io
import json
import shlex

import pandas as pd
import pytest

from bayes_prehoc.cli import main
from bayes_prehoc.priors import Combination, load_card


def run(command):
    """Exit code, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(shlex.split(command))
    return ended.value.code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make):
    """Two cards, and runs that one of them has seen."""
    from bayes_prehoc.runs import read_runs

    where = tmp_path_factory.mktemp("prior")
    values = {"old": 0.1, "new": 0.2}
    rows = [f"{t},{s},{c},accuracy,{values[t]}{s}{c}" for t in values for s in range(3) for c in (1, 2, 3)]
    (where / "runs.csv").write_text("\n".join(["task,seed,step,metric,value", *rows]))
    hashes = read_runs(where / "runs.csv")["old"].run_hashes()
    make.card(name="first", description="Of bert.").save(where / "a")
    make.card(at=-0.5, name="second", seed=1, first=1000, more=hashes).save(where / "b")
    (where / "file").write_text("x")
    return where


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def test_show(here):
    code, out, err = run("prior show a")
    assert (code, err) == (0, "")
    for words in ("'first' of 12 tasks, 96 runs", "Of bert.", "CC0-1.0", "tau[rate]", "narrowing"):
        assert words in out
    document = json.loads(run("prior show a --json")[1])
    assert document["provenance"]["name"] == "first"
    assert {row["of"] for row in document["hyperparameters"]} == set(load_card("a").labels)
    assert document["scope"]["units"] == {"depth": 1.0, "risk": 1.0}


def test_check(here):
    code, out, err = run("prior check b")
    assert (code, err) == (0, "") and "joint_distance" in out and "sound" in out
    assert run("prior check a runs.csv")[0] == 0
    code, out, err = run("prior check b runs.csv --json")
    assert code == 1 and "old (3)" in err and "new" not in err
    assert json.loads(out)["runs_seen"] == {"old": 3}


def test_combine(here, tmp_path, monkeypatch):
    given = {}

    def combined(cards, name, *, seed, **about):
        given.update(cards=[card.name for card in cards], name=name, seed=seed, about=about)
        between = pd.DataFrame({"median": [0.3], "lower": [0.1], "upper": [0.9]}, index=["mu_share"])
        return Combination(cards[1], between)

    monkeypatch.setattr("bayes_prehoc.priors.combine", combined)
    command = f"prior combine a b --out {tmp_path / 'both'} --name both --seed 3 --licence MIT"
    code, out, err = run(command)
    assert code == 0 and "card saved" in err and "0.3     0.1    0.9" in out
    about = {"description": None, "licence": "MIT", "citation": None}
    assert given == {"cards": ["first", "second"], "name": "both", "seed": 3, "about": about}
    assert load_card(tmp_path / "both").name == "second"
    document = json.loads(run(command + " --json")[1])
    assert document["heterogeneity"] == [{"of": "mu_share", "median": 0.3, "lower": 0.1, "upper": 0.9}]


def test_push_and_pull_hand_over_to_the_hub(here, tmp_path, monkeypatch):
    from bayes_prehoc.priors import hub

    shelf = {}

    def push(card, repository, *, private, revision):
        shelf[repository] = (card, private, revision)
        return "https://hub.example/commit/1"

    monkeypatch.setattr(hub, "push_card", push)
    monkeypatch.setattr(hub, "pull_card", lambda repository, *, revision: shelf[repository][0])
    assert run("prior push a some/body --private --revision side")[1] == "https://hub.example/commit/1\n"
    assert shelf["some/body"][1:] == (True, "side")
    assert run(f"prior pull some/body --out {tmp_path / 'got'} --json")[0] == 0
    assert load_card(tmp_path / "got").name == "first"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("prior show none", "no prior card 'none'"),
        ("prior show ./none", "no such folder"),
        ("prior show file", "no prior card 'file'"),
        ("prior check a absent.csv", "absent.csv"),
        ("prior combine a --out c --name c", "two or more"),
        ("prior combine a a --out c --name c", "has seen a run that first has seen too"),
        ("prior combine a b --out nowhere/c --name c", "Create nowhere first"),
        ("prior export absent.nc --out c --name c", "absent.nc"),
        ("prior export absent.nc --out nowhere/c --name c", "Create nowhere first"),
        ("prior pull some/body --out nowhere/c", "Create nowhere first"),
        ("prior push none some/body", "no prior card 'none'"),
        ("prior nonsense", "nonsense"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(here, command, words):
    before = sorted(here.rglob("*"))
    code, out, err = run(command)
    assert (code, out) == (2, "")
    assert words in err and err.startswith("Error: ") and err.count("\n") == 1
    assert sorted(here.rglob("*")) == before


def test_it_explains_itself():
    for command in ("export", "show", "check", "combine", "push", "pull"):
        code, out, _ = run(f"prior {command} --help")
        assert code == 0 and "Example" in out
