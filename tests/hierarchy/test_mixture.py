"""Mixtures are densities, draw from what they say, and are made from draws, weighted or not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.hierarchy.mixture import FREEDOM, MOST, WIDENING, draw, log_density, mixture, mixture_of_draws


def test_density_is_that_of_the_mixture(two_modes):
    rng = np.random.default_rng(0)
    proposal = mixture_of_draws(two_modes.draws(rng, 600))
    weight = np.exp(np.asarray(proposal.log_weight, float))
    assert weight.shape == (MOST,) and weight.sum() == pytest.approx(1.0, abs=1e-5) and (weight > 0).sum() == 2
    for x in two_modes.draws(rng, 5):
        parts = [
            w * stats.multivariate_t(m, f @ f.T, df=FREEDOM).pdf(x)
            for w, m, f in zip(
                weight, np.asarray(proposal.mean, float), np.asarray(proposal.factor, float), strict=True
            )
        ]
        assert float(log_density(proposal, jnp.asarray(x, jnp.float32))) == pytest.approx(np.log(sum(parts)), abs=1e-3)


def test_draws_follow_the_density():
    """The mean of (density of another mixture) / (its own) over its draws is 1."""
    one = mixture(np.array([[0.0, 0.0], [4.0, 1.0]]), np.array([np.eye(2), 0.5 * np.eye(2)]), np.array([0.7, 0.3]))
    other = mixture(np.array([[2.0, 0.5]]), np.array([[[1.5, 0.0], [0.4, 0.8]]]), np.ones(1))
    x = draw(jax.random.key(0), one, 40_000)
    ratio = np.exp(np.asarray(log_density(other, x) - log_density(one, x), float))
    assert ratio.mean() == pytest.approx(1.0, abs=4 * ratio.std() / 200)
    assert np.mean(np.asarray(x)[:, 0] > 2.5) == pytest.approx(0.3, abs=0.03)


def test_one_mode_takes_one_component():
    rng = np.random.default_rng(1)
    scales = np.array([1.0, 20.0, 0.01])
    proposal = mixture_of_draws(3.0 + scales * rng.normal(size=(800, 3)))
    assert np.sum(np.asarray(proposal.log_weight) > -np.inf) == 1
    np.testing.assert_allclose(proposal.mean[0], 3.0, atol=3 * 20 / np.sqrt(800))
    np.testing.assert_allclose(np.diag(proposal.factor[0]), np.sqrt(WIDENING) * scales, rtol=0.15)


def test_weights_stand_for_draws():
    """Draws of a wide normal weighted to a narrow one; those of no weight change nothing."""
    rng = np.random.default_rng(3)
    x = 3.0 * rng.normal(size=(4000, 2))
    weight = np.exp(np.sum(-0.5 * (x - 1.0) ** 2 + 0.5 * (x / 3.0) ** 2, axis=1))
    made = mixture_of_draws(x, weight / weight.sum())
    assert np.sum(np.asarray(made.log_weight) > -np.inf) == 1
    np.testing.assert_allclose(made.mean[0], 1.0, atol=0.15)
    np.testing.assert_allclose(made.factor[0] @ made.factor[0].T, WIDENING * np.eye(2), atol=0.25)
    far = np.concatenate([x, np.full((50, 2), 1e3)]), np.concatenate([weight, np.zeros(50)]) / weight.sum()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), made, mixture_of_draws(*far))
