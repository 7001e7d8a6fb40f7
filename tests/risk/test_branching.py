"""Continuations of runs: variances, degrees of freedom and calibration, against slow formulas and by simulation."""

import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.risk.branching import (
    EQUAL_RUNS,
    correlation_of_means,
    degrees_of_freedom,
    within_run_variances,
)

NAN = np.nan


def test_variances_within_runs():
    forked = np.random.default_rng(0).normal(size=(5, 3, 4))
    forked[0, 1, 2], forked[1, 2, 1:], forked[2, 0] = NAN, np.inf, NAN
    variances, count = within_run_variances(forked)
    assert count.tolist() == [[4, 3, 4], [4, 4, 1], [0, 4, 4], [4, 4, 4], [4, 4, 4]]
    for run, depth in np.ndindex(5, 3):
        own = forked[run, depth][np.isfinite(forked[run, depth])]
        expected = np.var(own, ddof=1) if len(own) > 1 else NAN
        assert variances[run, depth] == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_variances_keep_their_digits_around_a_large_mean():
    forked = np.random.default_rng(0).normal(size=(5, 3, 4))
    np.testing.assert_allclose(within_run_variances(1e8 + forked)[0], forked.var(axis=2, ddof=1), rtol=1e-6)


def test_mean_square_within_is_that_of_the_analysis_of_variance():
    forked = np.random.default_rng(1).normal(size=(6, 1, 5)) + np.arange(6)[:, None, None]
    mean_square = within_run_variances(forked)[0].mean()
    between = 5 * forked.mean(axis=2).var(ddof=1)
    assert between / mean_square == pytest.approx(stats.f_oneway(*forked[:, 0]).statistic, rel=1e-12)


def test_degrees_of_freedom_follow_the_scatter_of_the_variances():
    variances = np.random.default_rng(2).gamma(1.0, size=(40, 3))
    relative = np.mean([c.var(ddof=1) / c.mean() ** 2 / (1 - c.var(ddof=1) / c.mean() ** 2 / 40) for c in variances.T])
    shrunk = (40 * relative + EQUAL_RUNS * 2 / 3) / (40 + EQUAL_RUNS)
    np.testing.assert_allclose(degrees_of_freedom(variances, np.full((40, 3), 4)), 80 / shrunk, rtol=1e-12)


def test_runs_without_variances_do_not_count():
    variances, count = np.random.default_rng(3).gamma(1.0, size=(30, 2)), np.full((30, 2), 3)
    variances[10:, 1], count[10:, 1] = NAN, 0
    nu = degrees_of_freedom(variances, count)
    assert nu[0] / nu[1] == pytest.approx(3.0, rel=1e-12)


@pytest.mark.parametrize(("runs", "branches", "unequal"), [(8, 4, 0.0), (16, 2, 0.0), (64, 2, 0.25), (64, 4, 0.25)])
def test_unbiased_and_calibrated(runs, branches, unequal):
    """Normal continuations whose standard deviations are equal, or log-normal over runs; variances one on average."""
    rng = np.random.default_rng(4)
    replicates, depths = 1000, 6
    risk, nu = np.zeros((2, replicates, depths))
    for i in range(replicates):
        sd = np.exp(unequal * rng.normal(size=(runs, 1, 1)) - unequal**2)
        variances, count = within_run_variances(rng.normal(size=(runs, depths, branches)) * sd)
        risk[i], nu[i] = variances.mean(axis=0), degrees_of_freedom(variances, count)
    # Depths share the runs, and replicates are independent.
    error = risk.mean(axis=1).std(ddof=1) / np.sqrt(replicates)
    assert abs(risk.mean() - 1.0) < 3.0 * error
    lower, upper = risk * nu / stats.chi2.ppf(0.95, nu), risk * nu / stats.chi2.ppf(0.05, nu)
    assert 0.87 < np.mean((lower <= 1.0) & (upper >= 1.0)) < 0.93


def test_few_unequal_runs_are_taken_for_less():
    """With one run that leaves nearly all the variance open, several runs are worth hardly more than one."""
    variances = np.ones((8, 1))
    variances[0] = 100.0
    assert degrees_of_freedom(variances, np.full((8, 1), 4))[0] < 4.0
    assert degrees_of_freedom(np.ones((8, 1)), np.full((8, 1), 4))[0] > 24.0


@pytest.mark.parametrize("unequal", [0.0, 0.8])
def test_means_are_correlated_as_far_as_runs_differ(unequal):
    """By a scale that all depths of a run share; their randomness is their own."""
    rng = np.random.default_rng(8)
    sd = np.exp(unequal * rng.normal(size=(600, 40, 1, 1)))
    variances = np.array([within_run_variances(own)[0] for own in sd * rng.normal(size=(600, 40, 2, 6))])
    told = np.median([correlation_of_means(own)[0, 1] for own in variances])
    seen = np.corrcoef(np.log(variances.mean(axis=1)).T)[0, 1]
    # Heavy tails of the scales are seen more fully over replicates than within one.
    assert told == pytest.approx(seen, abs=0.12) and correlation_of_means(variances[0, :3]) is None
