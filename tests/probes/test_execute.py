"""`probe`: what it returns, stores, resumes and refuses."""

import numpy as np
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.probes import engine, execute, probe
from bayes_prehoc.probes.prepare import prepare
from bayes_prehoc.runs import RunStore

pytest.importorskip("sklearn")


@pytest.fixture
def calls(monkeypatch):
    """Seeds of every group that the engine is given; `calls.fail_at` interrupts that call."""

    class Calls(list):
        fail_at = None

    made, real = Calls(), engine.run_group

    def counted(program, seeds, *rest):
        made.append(sorted(set(np.asarray(seeds).tolist())))
        if made.fail_at == len(made):
            raise KeyboardInterrupt
        return real(program, seeds, *rest)

    monkeypatch.setattr(execute.engine, "run_group", counted)
    return made


def assert_same(one, other):
    assert one.seeds == other.seeds
    for metric in other.metrics:
        np.testing.assert_array_equal(one.values[metric], other.values[metric])
    np.testing.assert_array_equal(one.outcome, other.outcome)
    np.testing.assert_array_equal(one.outcome_examples, other.outcome_examples)


def test_runs_are_complete(small):
    runs = probe(small, 3, progress=False)["small"]
    assert runs.seeds == (0, 1, 2) and runs.depths.tolist() == small.depths.tolist()
    assert set(runs.metrics) == {"loss", "train_loss", "accuracy", "learning_rate"}
    assert runs.horizon == small.steps and runs.depth_unit == "step" and runs.higher_is_better
    np.testing.assert_allclose(runs.outcome, runs.outcome_examples.mean(axis=1))
    assert runs.attributes["learning_rate"] == small.learning_rate
    assert not runs.censored.any()


def share_of_class_zero(judged, classes):
    """A metric of the user's: how many answers are class 0, and one for each class there is."""
    return (judged.told == 0).mean() + classes


def every_answer(judged, classes):
    """Not one number."""
    return judged.right


def test_a_metric_of_the_user_is_recorded(variant, tmp_path):
    spec = variant(metric=share_of_class_zero, higher_is_better=False)
    runs = probe(spec, 3, store=tmp_path / "runs.db", progress=False)["small"]
    assert runs.outcome_metric == "share_of_class_zero" and not runs.higher_is_better
    values = runs.values["share_of_class_zero"]
    assert np.all((values >= 3) & (values <= 4)) and np.all((runs.outcome >= 3) & (runs.outcome <= 4))
    assert np.ptp(values) > 0 and runs.outcome_examples is None
    again = probe(spec, 3, store=tmp_path / "runs.db", progress=False)["small"]
    np.testing.assert_array_equal(again.outcome, runs.outcome)
    with pytest.raises(InputError, match="an array of shape.*one number"):
        probe(variant(metric=every_answer, higher_is_better=True), 3, progress=False)


def test_store_is_resumed_with_the_missing_seeds_only(small, tmp_path, calls):
    probe(small, 4, store=tmp_path / "runs.db", progress=False)
    assert calls == [[0, 1, 2, 3]]
    resumed = probe(small, [5, 2, 0], store=tmp_path / "runs.db", progress=False)["small"]
    assert calls[1:] == [[5]]
    assert_same(resumed, probe(small, [5, 2, 0], progress=False)["small"])
    del calls[:]
    assert_same(probe(small, [5, 2, 0], store=tmp_path / "runs.db", progress=False)["small"], resumed)
    assert calls == []


def test_another_specification_is_run_anew(small, variant, tmp_path, calls):
    with RunStore(tmp_path / "runs.db") as store:
        first = probe(small, 2, store=store, progress=False)["small"]
        changed = probe(variant(learning_rate=1e-3), 2, store=store, progress=False)["small"]
        assert len(calls) == 2 and np.any(first.values["loss"] != changed.values["loss"])
        back = probe(small, 3, store=store, progress=False)["small"]
    np.testing.assert_array_equal(back.values["loss"][:2], first.values["loss"])


def test_interrupted_probe_goes_on_where_it_was(small, variant, tmp_path, calls, capsys):
    other = variant(name="other", learning_rate=1e-3)
    calls.fail_at = 6
    with pytest.raises(KeyboardInterrupt):
        probe([small, other], 40, store=tmp_path / "runs.db", progress=False)
    assert "1 of 2 tasks are complete" in capsys.readouterr().err
    with RunStore(tmp_path / "runs.db") as store:
        assert set(store.seeds("small")) == set(range(40))
        kept = set(store.seeds("other"))
    assert set(range(16)) <= kept < set(range(40))
    calls.fail_at = None
    del calls[:]
    resumed = probe([small, other], 40, store=tmp_path / "runs.db", progress=False)
    assert {seed for group in calls for seed in group} == set(range(40)) - kept
    assert_same(resumed["other"], probe(other, 40, progress=False)["other"])


def test_interrupt_without_a_store_says_that_nothing_is_kept(small, calls, capsys):
    calls.fail_at = 1
    with pytest.raises(KeyboardInterrupt):
        probe(small, 2, progress=False)
    assert "nothing is kept" in capsys.readouterr().err


def test_diverged_runs_are_recorded(variant, tmp_path):
    # Gradient explosion of some depth: Adam's first step has the size of the learning rate.
    spec = variant(learning_rate=1e30)
    runs = probe(spec, 3, store=tmp_path / "runs.db", progress=False)["small"]
    assert runs.n_runs == 3
    assert np.all(np.isfinite(runs.diverged_at))
    for value in runs.values.values():
        assert np.all(np.isposinf(value[:, runs.depths >= runs.diverged_at.max()]))
    assert np.all(np.isposinf(runs.outcome)) and np.all(np.isnan(runs.final_outcome()))
    with RunStore(tmp_path / "runs.db") as store:
        assert_same(store.read()["small"], runs)


def test_a_run_that_diverges_midway_is_finite_before():
    loss = np.array([[1.0, 2.0, np.nan, 3.0], [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]], np.float32)
    train = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, np.inf, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]], np.float32)
    half, ones = np.full((3, 4), 0.5, np.float32), np.ones(3, np.float32)
    right, none = np.ones((3, 5), bool), np.zeros((3, 0, 0), np.float32)
    result = engine.RunResult(loss, half, train, ones, right, right[:, None][:, :0], none)
    task = prepare(execute.dataclasses.replace(execute.suite_task("wine"), steps=8, n_depths=4))
    spec, runs = task.spec, execute._as_task_runs(task, (0, 1, 2), result, {"width": 16})
    assert runs.diverged_at[:2].tolist() == [spec.depths[2], spec.depths[1]] and np.isnan(runs.diverged_at[2])
    assert np.isfinite(runs.values["accuracy"][0, :2]).all() and np.isposinf(runs.values["accuracy"][0, 2:]).all()
    assert np.isposinf(runs.outcome[:2]).all() and runs.outcome[2] == 1


def test_progress_bar_counts_to_the_end(small, capsys):
    probe(small, 20, progress=True)
    shown = capsys.readouterr().err
    assert "small" in shown and "to go" in shown and "100%" in shown


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        (0, "seeds is 0"),
        ([], "no seeds"),
        ([1, 1], "given twice"),
        ([-1], "cannot be a seed"),
        ([2**32], "cannot be a seed"),
        ([1.5], "cannot be a seed"),
        (True, "cannot be a seed"),
        (None, "cannot be a seed"),
        ("12", "cannot be a seed"),
    ],
)
def test_impossible_seeds_are_explained(small, seeds, words):
    with pytest.raises(InputError, match=words):
        probe(small, seeds, progress=False)


def test_impossible_tasks_are_explained(small, variant):
    for specs, words in (
        ([], "no tasks"),
        ([3], "is no task"),
        ("wines", "no task 'wines'"),
        ([small, small], "given twice"),
        (variant(backbone="nobody"), "no backbone 'nobody'"),
        (variant(data="cancer"), "the data have 30 inputs"),
        (variant(head="kept"), "3 outputs"),
        (variant(data="mnist"), "unknown data source"),
    ):
        with pytest.raises(InputError, match=words):
            probe(specs, 2, progress=False)
    with pytest.raises(InputError, match="no devices"):
        probe(small, 2, devices=[], progress=False)
