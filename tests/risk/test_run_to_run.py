"""Spread between runs: variances, kurtosis and degrees of freedom, against scipy and by simulation."""

import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.risk.run_to_run import degrees_of_freedom, pooled_excess_kurtosis, sample_variances

NAN = np.nan


def test_variance_of_what_is_there():
    values = np.array([[1.0, 2.0, NAN, 5.0], [2.0, NAN, NAN, NAN], [4.0, 7.0, 1.0, NAN], [np.inf, 3.0, 2.0, NAN]])
    risk, count = sample_variances(values)
    assert count.tolist() == [3, 3, 2, 1]
    np.testing.assert_allclose(risk[:3], [np.var([1, 2, 4], ddof=1), np.var([2, 7, 3], ddof=1), 0.5], rtol=1e-12)
    assert np.isnan(risk[3])


def test_variance_keeps_its_digits_around_a_large_mean():
    x = np.random.default_rng(0).normal(size=(10, 3))
    np.testing.assert_allclose(sample_variances(1e8 + x)[0], x.var(axis=0, ddof=1), rtol=1e-6)


def test_kurtosis_matches_scipy_before_shrinkage():
    values = np.random.default_rng(0).standard_t(5, size=(30, 6))
    values[:4, 2] = NAN
    g2 = [stats.kurtosis(c[np.isfinite(c)], bias=False) for c in values.T]
    assert pooled_excess_kurtosis([values]) == pytest.approx(np.mean(g2) * 30 / 80, rel=1e-9)


def test_kurtosis_weighs_tasks_by_their_runs():
    rng = np.random.default_rng(0)
    many, few = rng.laplace(size=(200, 3)), rng.laplace(size=(5, 3))
    g = [np.mean([stats.kurtosis(c, bias=False) for c in t.T]) for t in (many, few)]
    assert pooled_excess_kurtosis([many, few]) == pytest.approx((200 * g[0] + 5 * g[1]) / 255, rel=1e-9)
    assert pooled_excess_kurtosis([many * 1e90, few * 1e-90]) == pytest.approx(pooled_excess_kurtosis([many, few]))


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=(3, 5)),  # of three runs it is a constant
        np.full((10, 4), 0.3),
        np.full((6, 2), NAN),
        np.random.default_rng(0).uniform(size=(50, 4)),  # lighter tails than the normal
    ],
    ids=["three runs", "constant", "missing", "uniform"],
)
def test_kurtosis_is_zero_where_nothing_says_more(values):
    assert pooled_excess_kurtosis([values]) == 0.0


def test_normal_runs_have_n_minus_one():
    np.testing.assert_allclose(degrees_of_freedom(np.array([2, 3, 10]), 0.0), [1.0, 2.0, 9.0])


@pytest.mark.parametrize("excess", [1e3, 1e9])
def test_degrees_of_freedom_stay_positive(excess):
    assert (degrees_of_freedom(np.array([2, 10, 1000]), excess) > 0.0).all()


@pytest.mark.parametrize(("df", "n"), [(12, 5), (12, 30), (9, 10)])
def test_relative_variance_of_heavy_tailed_sample_variances(df, n):
    values = np.random.default_rng(2).standard_t(df, size=(n, 400_000))
    risk, count = sample_variances(values)
    nu = degrees_of_freedom(count[:1], 6.0 / (df - 4.0))[0]
    assert risk.mean() == pytest.approx(df / (df - 2.0), rel=0.01)
    assert risk.var() / risk.mean() ** 2 == pytest.approx(2.0 / nu, rel=0.06)
