"""Simulated estimates have the margins and the correlation that the likelihood says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.hierarchy.copula import chains_of, drawn_scores
from bayes_prehoc.hierarchy.likelihood import Errors, Shared, errors_of
from bayes_prehoc.hierarchy.model import weak_prior
from bayes_prehoc.hierarchy.simulate import draw_truth, log_ratios


def test_margins_and_correlation():
    """Two depths and the horizon, where nothing drifts, of tasks with few runs, many and very many."""
    tasks, depth = 20_000, np.array([0.05, 0.3, 1.0])
    shared = Shared(onset=0.01, misfit=0.4, dependence=0.9, drift=0.5, lasting=0.8)
    for dof in (2.0, 12.0, 500.0):
        errors = errors_of(jnp.full((3, tasks), dof), jnp.asarray(depth)[:, None], shared)
        chains = chains_of(jnp.asarray(depth)[:, None], jnp.zeros((3, tasks)), shared, "run_to_run")
        scores = drawn_scores(jax.random.key(0), chains, errors)
        values = log_ratios(scores, errors)
        variance = 0.4**2 + 0.5**2 * -np.log(depth)
        for row, a, inverse, shift in zip(values, *errors[:3], strict=True):
            known = stats.f(2.0 * float(a[0]), 2.0 / float(inverse[0]))
            assert stats.kstest(np.exp(row - float(shift[0])), known.cdf).pvalue > 1e-3
        sampling = 2.0 / dof + 4.0 / dof**2
        parts = [0.8 * sampling * np.exp(-2.0 * np.abs(np.log(depth[:, None] / depth)) / 0.9)]
        parts += [0.5**2 * np.minimum(-np.log(depth)[:, None], -np.log(depth)), (0.4**2 + 0.2 * sampling) * np.eye(3)]
        expected = sum(parts) / np.sqrt(np.outer(*2 * [sampling + variance]))
        ranks = stats.norm.ppf(stats.rankdata(values, axis=1) / (tasks + 1))
        np.testing.assert_allclose(np.corrcoef(ranks), expected, atol=0.025)


def test_extreme_scores_stay_finite():
    scores = np.linspace(-8.0, 8.0, 201)[:, None, None]
    shapes, inverses = np.array([0.5, 3.0, 750.0])[:, None], np.array([1e-20, 1e-12, 1e-6, 0.01, 1.0, 4.0])
    values = log_ratios(scores, Errors(shapes, inverses, 0.0, 1.0, 0.0, 0.0))
    assert np.isfinite(values).all() and np.all(np.diff(values, axis=0) > 0.0)


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
