"""Simulated estimates have the margins and the correlation that the likelihood says."""

import jax
import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.hierarchy.model import weak_prior
from bayes_prehoc.hierarchy.simulate import draw_log_values, draw_truth


def test_margins_and_correlation():
    n, k = 20_000, np.array([1.0, 6.0, 40.0])
    log_mean, r = np.log([2.0, 1.0, 0.5]), np.array([0.8, 0.5])
    values = draw_log_values(jax.random.key(0), *(np.tile(v[:, None], (1, n)) for v in (log_mean, r, k)))
    for column, (m, shape) in enumerate(zip(log_mean, k, strict=True)):
        ratio = np.exp(values[column] - m)
        assert stats.kstest(ratio, stats.gamma(shape, scale=1 / shape).cdf).pvalue > 1e-3
    ranks = stats.norm.ppf(stats.rankdata(values, axis=1) / (n + 1))
    got = np.corrcoef(ranks)
    np.testing.assert_allclose([got[0, 1], got[1, 2], got[0, 2]], [0.8, 0.5, 0.4], atol=0.02)


def test_extreme_scores_stay_finite():
    values = draw_log_values(jax.random.key(3), np.zeros((2, 100_000)), np.full((1, 100_000), 0.999), np.float64(0.5))
    assert np.isfinite(values).all()


@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_truth_follows_the_prior(proxy):
    kind = np.eye(2)[np.arange(400) % 2]
    drawn = [draw_truth(key, weak_prior(proxy), proxy, kind) for key in jax.random.split(jax.random.key(1), 300)]
    prior = weak_prior(proxy)
    for name in ("share", "rate"):
        center, sd = getattr(prior, name)
        means = np.array([getattr(truth, f"mu_{name}") for truth in drawn])
        assert stats.kstest(means, stats.norm(center, sd).cdf).pvalue > 1e-3
    tau = np.array([truth.tau for truth in drawn])
    spread = np.array([np.std(truth.share) for truth in drawn])
    np.testing.assert_allclose(spread, tau[:, 1], rtol=0.2)
    assert all(truth.mu_level.shape == (2,) and truth.level.shape == (400,) for truth in drawn)
    np.testing.assert_allclose(
        [truth.level[0::2].mean() for truth in drawn], [t.mu_level[0] for t in drawn], atol=0.2 * tau[:, 0].max()
    )
