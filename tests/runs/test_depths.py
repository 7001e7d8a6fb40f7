"""Which depths runs share, and how what is left out is told."""

import numpy as np
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs import TaskRuns, shared_depths, summarise_left_out
from bayes_prehoc.runs.depths import agreeing

NAN, INF = np.nan, np.inf


def _runs(value, depths=None):
    value = np.asarray(value, float)
    depths = np.arange(1.0, value.shape[1] + 1) if depths is None else np.asarray(depths, float)
    return TaskRuns("a", tuple(range(len(value))), depths, {"m": value}, "m", float(depths[-1]))


def _column(n_seen, n_runs=10):
    return np.where(np.arange(n_runs) < n_seen, np.arange(n_runs) + 0.5, np.nan)


@pytest.mark.parametrize(("n_seen", "usable"), [(10, True), (9, True), (8, False), (1, False), (0, False)])
def test_nine_in_ten_runs_suffice(n_seen, usable):
    mask, left_out = shared_depths(_runs(np.stack([_column(10), _column(n_seen)], axis=1)), "m")
    assert mask.tolist() == [True, usable]
    assert left_out == (() if usable else ((2.0, f"seen in {n_seen} of 10 runs"),))


def test_share_is_an_argument():
    runs = _runs(np.stack([_column(5), _column(10)], axis=1))
    assert shared_depths(runs, "m", share=0.5)[0].tolist() == [True, True]
    assert shared_depths(runs, "m", share=1.0)[0].tolist() == [False, True]


def test_diverged_runs_do_not_count_from_where_they_diverge():
    value = np.arange(30.0).reshape(10, 3)
    value[:3, 1] = INF  # three of ten gone at the second depth, silent afterwards
    value[:3, 2] = NAN
    mask, left_out = shared_depths(_runs(value), "m")
    assert mask.all() and not left_out
    value[3, 2] = NAN  # 6 of the 7 left is less than 90%
    mask, left_out = shared_depths(_runs(value), "m")
    assert mask.tolist() == [True, True, False]
    assert left_out == ((3.0, "seen in 6 of 7 runs (3 diverged)"),)


def test_a_spread_needs_two_finite_values():
    mask, left_out = shared_depths(_runs([[1.0, 1.0], [2.0, INF], [3.0, INF]]), "m")
    assert mask.tolist() == [True, False]
    assert left_out == ((2.0, "seen in 1 of 1 runs (2 diverged)"),)


def test_depth_zero_and_zero_variance_are_left_out():
    value = np.stack([_column(10), np.full(10, 0.3), _column(10)], axis=1)
    mask, left_out = shared_depths(_runs(value, [0, 5, 10]), "m")
    assert mask.tolist() == [False, False, True]
    assert left_out == ((0.0, "depth 0 is not fitted"), (5.0, "zero variance: all runs agree"))


def test_zero_variance_is_judged_on_the_runs_that_are_there():
    value = np.stack([_column(10), np.where(np.arange(10) < 9, 0.3, NAN)], axis=1)
    assert shared_depths(_runs(value), "m")[1] == ((2.0, "zero variance: all runs agree"),)


def test_agreeing_allows_rounding_and_nothing_more():
    value = np.array([[0.3, 1e9, NAN, 1.0, -2.0], [0.1 + 0.2, 1e9 + 1, NAN, NAN, -2.0], [0.3, 1e9, NAN, NAN, INF]])
    assert agreeing(value).tolist() == [True, False, False, False, True]


def test_unknown_metric_lists_the_known():
    with pytest.raises(InputError, match="no metric 'x'.*The metrics are: m"):
        shared_depths(_runs([[1.0], [2.0]]), "x")


def test_summary_counts_and_orders():
    reasons = [(float(c), f"seen in {1 + c % 8} of 10 runs") for c in range(118)]
    reasons += [(0.0, "depth 0 is not fitted"), (7.0, "zero variance: all runs agree")]
    reasons += [(9.0, "zero variance: all runs agree")]
    assert summarise_left_out(reasons) == (
        "118 depths seen in 1 to 8 of 10 runs; 2 depths with zero variance: all runs agree; depth 0 is not fitted"
    )
    assert summarise_left_out([(3.0, "seen in 2 of 4 runs (6 diverged)")]) == "1 depth seen in 2 of 4 runs"
    assert summarise_left_out(()) == ""
