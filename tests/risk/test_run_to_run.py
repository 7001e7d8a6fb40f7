"""Spread between runs: variances, kurtosis and degrees of freedom, against scipy and by simulation."""

import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.risk.laboratory import martingale, power_rates, sgd, stopped
from bayes_prehoc.risk.run_to_run import correlation_of_variances, pooled_excess_kurtosis, spread_variances

NAN = np.nan


def spread(values, excess_kurtosis=0.0, alive=None):
    return spread_variances(values, np.full(values.shape, True) if alive is None else alive, excess_kurtosis)


def test_variance_where_nobody_is_missing():
    values = np.random.default_rng(0).normal(size=(7, 4)) + 1e8
    risk, nu = spread(values)
    np.testing.assert_allclose(risk, values.var(axis=0, ddof=1), rtol=1e-6)
    np.testing.assert_allclose(nu, 6.0)


def test_diverged_runs_are_gone_at_earlier_depths_too():
    values = np.random.default_rng(0).normal(size=(12, 3)).cumsum(axis=1)
    alive = np.full(values.shape, True)
    values[:3, 2], alive[:3, 2] = NAN, False
    np.testing.assert_allclose(spread(values, alive=alive)[0][2], values[3:, 2].var(ddof=1), rtol=1e-12)
    values[3, 2] = NAN
    risk, nu = spread(values, alive=alive)
    np.testing.assert_allclose((risk[2], nu[2]), np.array(spread(values[3:]))[:, 2], rtol=1e-12)


def test_missing_runs_are_allowed_for_by_the_regression_on_the_depth_before():
    """Against the factored likelihood of a normal pair, whose maximum is biased by known factors."""
    values = np.random.default_rng(1).normal(size=(20, 2)).cumsum(axis=1)
    values[np.argsort(values[:, 0])[-6:], 1] = NAN
    seen = np.isfinite(values[:, 1])
    line = stats.linregress(*values[seen].T)
    residual = np.sum((values[seen, 1] - line.intercept - line.slope * values[seen, 0]) ** 2) / 12
    expected = (line.slope**2 - line.stderr**2) * values[:, 0].var(ddof=1) + residual
    assert spread(values)[0][1] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("last", [4, 5])
def test_a_regression_needs_five_runs(last):
    values = np.random.default_rng(0).normal(size=(9, 2))
    values[last:, 1] = NAN
    risk, nu = spread(values)
    assert np.isfinite(risk).tolist() == np.isfinite(nu).tolist() == [True, last == 5]


@pytest.mark.parametrize("kind", ["martingale", "curved"])
@pytest.mark.parametrize("runs", [20, 64])
def test_stopping_at_a_target_does_not_bias_the_spread(kind, runs):
    """The variance of those that go on is too small by a third; the estimate is not, and its intervals hold."""
    depths = np.geomspace(5, 500, 8).round()
    chain = (
        martingale(depths, 0.6, 1e-3, 0.0)
        if kind == "martingale"
        else sgd(depths, power_rates(500, 0.8), 0.05, 0.02, 0.0)
    )
    rng, replicates = np.random.default_rng(0), 400
    risk, nu = np.zeros((2, replicates, len(depths)))
    naive = np.zeros(replicates)
    for i in range(replicates):
        values = stopped(chain.draw(rng, runs), 0.8 + np.sqrt(chain.spread[-1])).values["score"]
        risk[i], nu[i] = spread(values)
        naive[i] = np.nanvar(values[:, -1], ddof=1)
    assert naive.mean() < 0.67 * chain.spread[-1]
    error = risk.std(axis=0, ddof=1) / np.sqrt(replicates)
    assert (np.abs(risk.mean(axis=0) - chain.spread) < 3.5 * error).all()
    lower, upper = (risk * nu / stats.chi2.ppf(q, nu) for q in (0.95, 0.05))
    held = np.mean((lower <= chain.spread) & (chain.spread <= upper), axis=0)
    assert ((held > 0.85) & (held < 0.95)).all()


def test_waiting_for_sets_of_runs_of_which_none_stopped_is_no_remedy():
    chain = martingale(np.geomspace(5, 500, 8).round(), 0.6, 1e-3, 0.0)
    rng, kept = np.random.default_rng(0), []
    for _ in range(2000):
        values = stopped(chain.draw(rng, 5), 0.83).values["score"]
        if np.isfinite(values).all():
            kept.append(values[:, -1].var(ddof=1))
    assert len(kept) > 400 and np.mean(kept) < 0.7 * chain.spread[-1]


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


@pytest.mark.parametrize("excess", [1e3, 1e9])
def test_degrees_of_freedom_stay_positive(excess):
    assert (spread(np.random.default_rng(0).normal(size=(10, 2)), excess)[1] > 0.0).all()


@pytest.mark.parametrize(("df", "n"), [(12, 5), (12, 30), (9, 10)])
def test_relative_variance_of_heavy_tailed_sample_variances(df, n):
    values = np.random.default_rng(2).standard_t(df, size=(n, 400_000))
    risk = values.var(axis=0, ddof=1)
    nu = spread(values[:, :1], 6.0 / (df - 4.0))[1][0]
    assert risk.mean() == pytest.approx(df / (df - 2.0), rel=0.01)
    assert risk.var() / risk.mean() ** 2 == pytest.approx(2.0 / nu, rel=0.06)


@pytest.mark.parametrize("runs", [8, 60])
def test_variances_of_the_same_runs_are_correlated(runs):
    """Paths of independent steps, of which neighbouring depths share most; then values that share nothing."""
    rng = np.random.default_rng(5)
    paths = np.cumsum(rng.normal(size=(1500, runs, 4)), axis=2)
    told = np.mean([correlation_of_variances(values) for values in paths], axis=0)
    seen = np.corrcoef(paths.var(axis=1, ddof=1).T)
    np.testing.assert_allclose(told, seen, atol=0.09)
    unrelated = np.mean([correlation_of_variances(rng.normal(size=(runs, 2))) for _ in range(300)], axis=0)
    assert unrelated[0, 1] < 1.0 / runs + 0.02 and unrelated[0, 0] == 1.0


def test_correlation_needs_runs_that_were_seen_at_both_depths():
    values = np.random.default_rng(6).normal(size=(6, 3))
    assert correlation_of_variances(values[:3]) is None
    values[:3, 2] = np.nan
    found = correlation_of_variances(values)
    assert np.isfinite(found).all() and found[0, 2] == 0.0 and (np.diagonal(found) == 1.0).all()
