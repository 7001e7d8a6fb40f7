"""Leaps keep the target and find its modes."""

import jax
import jax.numpy as jnp
import numpy as np

from bayes_prehoc.hierarchy.leaps import LEAPS, leap
from bayes_prehoc.hierarchy.mixture import mixture_of_draws


def test_leaps_leave_the_target_as_it_is_and_cross_between_its_modes(two_modes):
    """From one mode only, with a proposal that has the masses of the modes wrong."""
    rng = np.random.default_rng(2)
    proposal = mixture_of_draws(two_modes.draws(rng, 600))
    proposal = proposal._replace(log_weight=jnp.where(proposal.log_weight > -jnp.inf, jnp.log(0.5), -jnp.inf))

    def chain(key):
        def step(x, key):
            x, accepted = leap(key, x, two_modes.log_p, proposal)
            return x, (x, accepted)

        return jax.lax.scan(step, jnp.full(3, 4.5), jax.random.split(key, 300))[1]

    x, accepted = jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(3), 40))
    x = np.asarray(x)[:, 20:]
    assert x.shape == (40, 280, 3) and 0.2 < float(accepted.mean()) < 1.0 and LEAPS > 1
    in_first = (x[..., 0] < 0).mean(axis=1)
    assert abs(in_first.mean() - two_modes.share) < 4 * in_first.std(ddof=1) / np.sqrt(40)
    first, other = x[x[..., 0] < 0], x[x[..., 0] > 0]
    np.testing.assert_allclose(np.cov(other.T), 0.25 * np.eye(3), atol=0.03)
    np.testing.assert_allclose(np.cov(first.T), [[1.0, 0.7, 0], [0.7, 0.98, 0], [0, 0, 0.25]], atol=0.1)


def test_impossible_proposals_are_never_taken():
    proposal = mixture_of_draws(np.random.default_rng(4).normal(size=(200, 2)))
    here = jnp.zeros(2)

    def only_here(x):
        return jnp.where(jnp.all(x == here), 0.0, jnp.nan)

    x, accepted = leap(jax.random.key(0), here, only_here, proposal)
    np.testing.assert_array_equal(x, here)
    assert float(accepted) == 0.0
