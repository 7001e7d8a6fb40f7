"""Leaps draw from what they say, keep the target, and find its modes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.hierarchy.leaps import FREEDOM, LEAPS, MOST, WIDENING, leap, log_density, proposal_of_draws

SHARE = 0.3
"""Mass of the first of two modes, which lie nine standard deviations apart."""


def two_modes(rng, number):
    first = rng.random(number) < SHARE
    wide = rng.normal(size=(number, 3)) @ np.array([[1.0, 0, 0], [0.7, 0.7, 0], [0, 0, 0.5]]).T
    return np.where(first[:, None], wide - 4.5, 0.5 * rng.normal(size=(number, 3)) + 4.5)


def log_target(x):
    """Two normals, one of them with correlated coordinates."""
    factor = jnp.array([[1.0, 0, 0], [0.7, 0.7, 0], [0, 0, 0.5]])
    solved = jax.scipy.linalg.solve_triangular(factor, x + 4.5, lower=True)
    one = jnp.log(SHARE) - 0.5 * jnp.sum(solved**2) - jnp.sum(jnp.log(jnp.diag(factor)))
    other = jnp.log(1 - SHARE) - 0.5 * jnp.sum(((x - 4.5) / 0.5) ** 2) - 3 * jnp.log(0.5)
    return jnp.logaddexp(one, other)


def test_density_is_that_of_the_mixture():
    rng = np.random.default_rng(0)
    proposal = proposal_of_draws(two_modes(rng, 600))
    weight = np.exp(np.asarray(proposal.log_weight, float))
    assert weight.shape == (MOST,) and weight.sum() == pytest.approx(1.0, abs=1e-5) and (weight > 0).sum() == 2
    for x in two_modes(rng, 5):
        parts = [
            w * stats.multivariate_t(m, f @ f.T, df=FREEDOM).pdf(x)
            for w, m, f in zip(
                weight, np.asarray(proposal.mean, float), np.asarray(proposal.factor, float), strict=True
            )
        ]
        assert float(log_density(proposal, jnp.asarray(x, jnp.float32))) == pytest.approx(np.log(sum(parts)), abs=1e-3)


def test_one_mode_takes_one_component():
    rng = np.random.default_rng(1)
    scales = np.array([1.0, 20.0, 0.01])
    proposal = proposal_of_draws(3.0 + scales * rng.normal(size=(800, 3)))
    assert np.sum(np.asarray(proposal.log_weight) > -np.inf) == 1
    np.testing.assert_allclose(proposal.mean[0], 3.0, atol=3 * 20 / np.sqrt(800))
    np.testing.assert_allclose(np.diag(proposal.factor[0]), np.sqrt(WIDENING) * scales, rtol=0.15)


def test_leaps_leave_the_target_as_it_is_and_cross_between_its_modes():
    """From one mode only, with a proposal that has the masses of the modes wrong."""
    rng = np.random.default_rng(2)
    draws = two_modes(rng, 600)
    proposal = proposal_of_draws(draws)
    proposal = proposal._replace(log_weight=jnp.where(proposal.log_weight > -jnp.inf, jnp.log(0.5), -jnp.inf))

    def chain(key):
        def step(state, key):
            x, log_p, accepted = leap(key, *state, log_target, proposal)
            return (x, log_p), (x, accepted)

        start = jnp.full(3, 4.5)
        return jax.lax.scan(step, (start, log_target(start)), jax.random.split(key, 300))[1]

    x, accepted = jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(3), 40))
    x = np.asarray(x)[:, 20:]
    assert x.shape == (40, 280, 3) and 0.2 < float(accepted.mean()) < 1.0 and LEAPS > 1
    in_first = (x[..., 0] < 0).mean(axis=1)
    assert abs(in_first.mean() - SHARE) < 4 * in_first.std(ddof=1) / np.sqrt(40)
    first, other = x[x[..., 0] < 0], x[x[..., 0] > 0]
    np.testing.assert_allclose(np.cov(other.T), 0.25 * np.eye(3), atol=0.03)
    np.testing.assert_allclose(np.cov(first.T), [[1.0, 0.7, 0], [0.7, 0.98, 0], [0, 0, 0.25]], atol=0.1)


def test_impossible_proposals_are_never_taken():
    proposal = proposal_of_draws(np.random.default_rng(4).normal(size=(200, 2)))
    here = jnp.zeros(2)
    x, log_p, accepted = leap(jax.random.key(0), here, jnp.float32(0.0), lambda x: jnp.nan, proposal)
    np.testing.assert_array_equal(x, here)
    assert float(log_p) == 0.0 and float(accepted) == 0.0
