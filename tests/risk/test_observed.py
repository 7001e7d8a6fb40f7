"""What each proxy sees: runs, depths, gaps."""

import numpy as np
import pytest

from bayes_prehoc.risk.observed import MOST_DEPTHS, complete_runs, prefix_table, spread_table
from bayes_prehoc.runs import TaskRuns

NAN, INF = np.nan, np.inf
AGREE, NOTHING_LEFT = "zero variance: all runs agree", "R is the value of 'm' at this depth"


def _task(depths=4, n=10, outcome=None, **metrics):
    """Ten runs of metric m (and others), all different everywhere."""
    rng = np.random.default_rng(0)
    c = np.arange(1.0, depths + 1)
    values = {"m": rng.normal(size=(n, depths))} | metrics
    return TaskRuns("a", tuple(range(n)), c, values, "m", float(depths), outcome=outcome)


def _with(cells, value, depths=4, metric="m", **options):
    task = _task(depths, **options)
    for cell in cells:
        task.values[metric][cell] = value
    return task


RUN_0, TWO_RUNS = (0, slice(None)), (slice(0, 2), slice(None))


@pytest.mark.parametrize(
    ("task", "depths", "left_out", "flags"),
    [
        (_task(), [1, 2, 3, 4], {}, []),
        (_with([np.s_[0, 1]], NAN), [1, 2, 3, 4], {}, ["up to 1 of 10 runs have no value at 1 of the 4 depths"]),
        (_with([np.s_[:2, 1]], NAN), [1, 3, 4], {2: "seen in 8 of 10 runs"}, []),
        (_with([np.s_[0, 2:]], INF), [1, 2, 3, 4], {}, ["1 of 10 runs diverged at depth 3; the spread is"]),
        (_with([np.s_[0, 0], np.s_[1, 2]], INF), [1, 2, 3, 4], {}, ["2 of 10 runs diverged at depths 1 to 3; the"]),
        (_with([np.s_[:, 2]], 0.5), [1, 2, 4], {3: AGREE}, []),
        (_with([np.s_[:, 2]], 1e-180, n=9), [1, 2, 4], {3: AGREE}, []),
        (_with([np.s_[:5, 2]], 1e200), [1, 2, 4], {3: "values too large or too small for a variance"}, []),
    ],
)
def test_spread_sees_runs_alive_at_shared_depths(task, depths, left_out, flags):
    table = spread_table(task)
    assert table.depths.tolist() == depths
    assert {left.depth: left.reason for left in table.left_out} == left_out
    assert len(table.flags) == len(flags) and all(f.startswith(e) for f, e in zip(table.flags, flags, strict=True))


def test_a_run_that_diverged_in_another_metric_is_gone():
    task = _with([np.s_[3, 1]], INF, metric="loss", loss=np.random.default_rng(1).normal(size=(10, 4)))
    values = spread_table(task).values
    assert (
        np.isnan(values[3, 1:]).all() and np.isfinite(np.delete(values, 3, axis=0)).all() and np.isfinite(values[3, 0])
    )


@pytest.mark.parametrize(
    ("changes", "complete"),
    [
        ({}, 10),
        ({"outcome": np.r_[NAN, INF, np.arange(8.0)]}, 8),
        ({"cells": [np.s_[0, 3]], "value": NAN}, 9),
        ({"cells": [np.s_[0, 1]], "value": NAN}, 10),
        ({"cells": [np.s_[0, 1]], "value": INF, "outcome": np.arange(10.0)}, 9),
    ],
)
def test_complete_runs(changes, complete):
    task = _with(changes.pop("cells", []), changes.pop("value", NAN), **changes)
    assert complete_runs(task).sum() == complete


def test_no_run_is_complete_where_the_outcome_is_nowhere():
    task = TaskRuns("a", (0, 1), np.array([1.0, 2.0]), {"loss": np.eye(2)}, "accuracy", 2.0)
    assert not complete_runs(task).any()


R = np.arange(10.0)


@pytest.mark.parametrize(
    ("task", "fitted", "left_out", "flags"),
    [
        (_task(outcome=R), [1, 2, 3, 4], {}, []),
        (_task(), [1, 2, 3], {4: NOTHING_LEFT}, []),
        (_with([np.s_[:, 1]], 0.5, outcome=R), [1, 3, 4], {2: AGREE}, []),
        (
            _with([np.s_[:, 1]], 0.5, outcome=R, loss=np.random.default_rng(1).normal(size=(10, 4))),
            [1, 2, 3, 4],
            {},
            [],
        ),
        (_with([np.s_[:2, 1]], NAN, outcome=R), [1, 3, 4], {2: "seen in 8 of 10 runs"}, []),
        (_with([np.s_[0, 1]], NAN, outcome=R), [1, 2, 3, 4], {}, ["1 of 40 values of 'm' are missing"]),
        (_with([np.s_[0, 3]], NAN), [1, 2, 3], {4: NOTHING_LEFT}, ["1 of 10 runs have no outcome at the horizon"]),
        (_with([np.s_[1, 2]], INF, outcome=R), [1, 2, 3, 4], {}, ["1 of 10 runs diverged at depth 3; left out"]),
    ],
)
def test_prefix_sees_complete_runs_at_depths_shared_by_any_metric(task, fitted, left_out, flags):
    table = prefix_table(task)
    assert table.depths[table.fitted].tolist() == fitted
    assert table.values.shape == (len(task.metrics), len(table.outcome), len(table.depths))
    assert np.isfinite(table.values).all() and np.isfinite(table.outcome).all()
    assert [left.depth for left in table.left_out] == list(left_out)
    assert all(left.reason.startswith(left_out[left.depth]) for left in table.left_out)
    assert len(table.flags) == len(flags) and all(f.startswith(e) for f, e in zip(table.flags, flags, strict=True))


def test_gaps_hold_the_last_value_before_and_never_a_later_one():
    task = _with([np.s_[0, 1], np.s_[0, 2], np.s_[5, 0]], NAN, outcome=R)
    before = task.values["m"].copy()
    values = prefix_table(task).values[0]
    assert values[0].tolist() == [before[0, 0], before[0, 0], before[0, 0], before[0, 3]]
    assert values[5, 0] == pytest.approx(np.delete(before[:, 0], 5).mean())
    there = np.isfinite(before)
    np.testing.assert_array_equal(values[there], before[there])


def test_a_metric_that_is_recorded_less_often_is_carried_forward():
    seldom = np.random.default_rng(2).normal(size=(10, 4))
    seldom[:, [0, 2]] = NAN
    table = prefix_table(_task(outcome=R, seldom=seldom))
    assert table.depths.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(table.values[1][:, [1, 2, 3]], seldom[:, [1, 1, 3]])
    assert (table.values[1][:, 0] == 0.0).all()
    assert table.flags[0].startswith("20 of 40 values of 'seldom'")


def test_many_depths_are_thinned_and_stay_features():
    task = _task(200, outcome=R)
    table = prefix_table(task)
    assert table.values.shape == (1, 10, 200)
    fitted = table.depths[table.fitted]
    assert MOST_DEPTHS // 2 < len(fitted) <= MOST_DEPTHS and fitted[0] == 1.0 and fitted[-1] == 200.0
    assert len(table.left_out) == 200 - len(fitted)
    assert all(left.reason.startswith("not estimated: ") for left in table.left_out)


def test_depths_beyond_the_horizon_are_left_out():
    task = TaskRuns("a", tuple(range(10)), np.arange(1.0, 5.0), _task().values, "m", 3.0, outcome=R)
    for table in (spread_table(task), prefix_table(task)):
        assert [(left.depth, left.reason) for left in table.left_out] == [(4.0, "beyond the horizon")]
