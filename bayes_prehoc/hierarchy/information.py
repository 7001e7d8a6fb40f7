"""Gaussian stand-in for the likelihood of each task's latents around a point.

With s the normal scores of the estimates, C their correlation and J the derivative of log U by the latents, the
log likelihood is close to -s' C^-1 s / 2, and ds / dlog U to minus the root of the margin's information k. Its
Gauss-Newton expansion around z is

    log-lik ~ -z' H z / 2 + b' z,    H = J' K C^-1 K J,    b = H z + J' K C^-1 s,    K = diag(sqrt(k)),

where C^-1 costs no inverse: the copula's filter makes columns independent.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bayes_prehoc.hierarchy.copula import chains_of, whitened
from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.laws import POWER
from bayes_prehoc.hierarchy.likelihood import (
    Shared,
    deviation,
    errors_of,
    information_of,
    log_mean_curve,
    normal_scores,
)

__all__ = ["gauss_newton"]

MOST_CORRELATED = 0.99
"""Neighbours closer than this count as this close: a stand-in needs no sharper."""


def gauss_newton(z: Float[Array, "T 3"], shared: Shared, noise, data: ModelData, proxy: str, law: str = POWER):
    """H (T, 3, 3) and b (T, 3) around the latents z; arguments as in `model.task_log_likelihood`."""

    def curve(level, share, rate):
        return log_mean_curve(level, share, rate, shared.onset, noise, data.depth, proxy, law)

    latents = tuple(jnp.broadcast_to(z[:, i], data.depth.shape) for i in range(3))
    log_mean, push = jax.linearize(curve, *latents)
    one, zero = jnp.ones_like(log_mean), jnp.zeros_like(log_mean)
    columns = [push(*(one if i == j else zero for j in range(3))) for i in range(3)]

    errors = errors_of(data.dof, data.depth, shared)
    scores = normal_scores(deviation(data.log_risk, log_mean, errors), errors)
    width = jnp.sqrt(information_of(errors))
    chains = chains_of(data.depth, log_mean, shared, proxy, MOST_CORRELATED)
    rows = jnp.stack([*(width * column for column in columns), scores], axis=-1)
    mask, chains, errors = jax.tree.map(lambda part: part[..., None], (data.mask, chains, errors))
    rows = whitened(rows, chains, errors, mask).scores
    information = jnp.einsum("dti,dtj->tij", rows[..., :3], rows[..., :3])
    slope = jnp.einsum("dti,dt->ti", rows[..., :3], rows[..., 3])
    return information, slope + jnp.einsum("tij,tj->ti", information, z)
