"""Gaussian stand-in for the likelihood of each task's latents around a point.

With s the normal scores of the estimates, C their Markov correlation and J the derivative of log U by the latents, the
log likelihood is close to -s' C^-1 s / 2, and ds / dlog U to -sqrt(k). Its Gauss-Newton expansion around z is

    log-lik ~ -z' H z / 2 + b' z,    H = J' K C^-1 K J,    b = H z + J' K C^-1 s,    K = diag(sqrt(k)),

where C^-1 costs no inverse: it is the sum of squared differences of neighbours.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.laws import POWER
from bayes_prehoc.hierarchy.likelihood import (
    deviation,
    effective_shape,
    log_mean_curve,
    neighbour_correlation,
    normal_scores,
    sampled_share,
)

__all__ = ["gauss_newton"]

MOST_CORRELATED = 0.99
"""Neighbours closer than this count as this close: a stand-in needs no sharper."""


def gauss_newton(
    z: Float[Array, "T 3"], onset, misfit, dependence, noise, data: ModelData, proxy: str, law: str = POWER
):
    """H (T, 3, 3) and b (T, 3) around the latents z; arguments as in `model.task_log_likelihood`."""

    def curve(level, share, rate):
        return log_mean_curve(level, share, rate, onset, noise, data.depth, proxy, law)

    latents = tuple(jnp.broadcast_to(z[:, i], data.depth.shape) for i in range(3))
    log_mean, push = jax.linearize(curve, *latents)
    one, zero = jnp.ones_like(log_mean), jnp.zeros_like(log_mean)
    columns = [push(*(one if i == j else zero for j in range(3))) for i in range(3)]

    k = effective_shape(data.dof, misfit)
    pair = data.mask[1:] & data.mask[:-1]
    r = neighbour_correlation(data.depth, log_mean, dependence, sampled_share(data.dof, k), proxy)
    r = jnp.where(pair, jnp.minimum(r, MOST_CORRELATED), 0.0)
    weight = 1.0 / jnp.sqrt(1.0 - r**2)

    def independent(column):
        column = jnp.where(data.mask, column, 0.0)
        return jnp.concatenate([column[:1], (column[1:] - r * column[:-1]) * weight])

    rows = [independent(jnp.sqrt(k) * column) for column in columns]
    scores = independent(normal_scores(deviation(data.log_risk, log_mean), k))
    information = jnp.stack([jnp.stack([jnp.sum(a * b, axis=0) for b in rows], axis=-1) for a in rows], axis=-2)
    slope = jnp.stack([jnp.sum(a * scores, axis=0) for a in rows], axis=-1)
    return information, slope + jnp.sum(information * z[:, None, :], axis=-1)
