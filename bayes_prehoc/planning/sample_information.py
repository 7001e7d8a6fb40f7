r"""What n more seeds of a task are worth to its plan, before they are run, by weighing the draws of its posterior.

A plan takes the depth a that minimises the posterior mean of J(a) = gamma L(a) + C(a); new estimates y would move it.
Each future run that uses the plan is then better off by

.. math:: \min_a E[J(a)] - E_y \min_a E[J(a) \mid y] .

y is simulated at draws of the posterior, and E[J | y] is the mean over the others weighted by p(y | draw): no fit. Runs
that are added to those there are make one estimate of all of them at each depth, so the weight is the ratio of the
likelihoods of that and of the old estimate, and y is drawn given the old: how far a task lies off the law (misfit,
drift) is the same for old and new runs, and does not average out.

Sources: Raiffa and Schlaifer 1961 (sample information), Heath et al. 2020 (its computation by reweighting).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import special

from bayes_prehoc.hierarchy.copula import (
    Chains,
    chains_of,
    copula_log_density,
    correlation_of_drift,
)
from bayes_prehoc.hierarchy.evaluator import generator
from bayes_prehoc.hierarchy.likelihood import Shared, deviation, errors_of, log_density, normal_scores

__all__ = ["TaskDraws", "gains"]

SIMULATED = 200
"""Draws at which new estimates are simulated."""


class TaskDraws(NamedTuple):
    """A task at S draws and D depths.

    Attributes
    ----------
    depths : float64 array (D,), shares of the horizon
    log_value, dof : float64 arrays (D,)
        Of the estimates there are; where there is none dof is 0 and log_value any number.
    log_mean : float64 array (D, S)
        Of the draws' curves, with the outcome set's noise.
    shared : Shared of arrays (S,)
        Of onset nothing is asked.
    proxy : str
    """

    depths: np.ndarray
    log_value: np.ndarray
    dof: np.ndarray
    log_mean: np.ndarray
    shared: Shared
    proxy: str


def gains(
    key, task: TaskDraws, losses: Float[np.ndarray, "S A"], added: Float[np.ndarray, " D"]
) -> tuple[Float[np.ndarray, " M"], float]:
    """What a run that uses the plan is better off by, given new estimates.

    Parameters
    ----------
    key : PRNG key
    task : TaskDraws
    losses : array (S, A)
        J of each draw at each depth that a plan may take.
    added : array (D,)
        Degrees of freedom that the probe adds to the estimate at each depth.

    Returns
    -------
    array (M,)
        At each of M = min(S, `SIMULATED`) simulations, given the new estimates; 0 where they change nothing.
    float
        Median over these of the effective number of draws behind E[J | y]; below some 25 the gain is rough.
    """
    count = losses.shape[0]
    truths = np.linspace(0, count - 1, min(SIMULATED, count)).round().astype(int)
    log_value, dof = _simulated(key, task, added, truths)
    known = task.dof > 0.0
    before = _log_likelihood(task, task.log_value[:, None], task.dof, known)
    after = _log_likelihood(task, log_value, dof, dof > 0.0)
    log_weight = after - before
    # A draw that made the estimates does not stand among those that are weighed by them.
    log_weight[np.arange(len(truths)), truths] = -np.inf
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    expected = weight @ losses
    best_before = int(losses.mean(axis=0).argmin())
    return expected[:, best_before] - expected.min(axis=1), float(np.median(1.0 / np.sum(weight**2, axis=1)))


def _log_likelihood(task: TaskDraws, log_value: Float[np.ndarray, "D M"], dof, mask) -> Float[np.ndarray, "M S"]:
    """Of M sets of estimates at S draws, up to what does not depend on the draw."""
    there = {name: jnp.asarray(value, jnp.float32) for name, value in task.shared._asdict().items()}
    arrays = (task.depths, log_value, np.where(mask, dof, 2.0), mask, task.log_mean)
    found = _density(*map(jnp.asarray, arrays), Shared(**there), task.proxy)
    return np.array(found, np.float64)


@functools.partial(jax.jit, static_argnames="proxy")
def _density(depth, log_value, dof, mask, log_mean, shared: Shared, proxy: str):
    # The scale of the values is nothing to the density; float32 keeps digits near 1.
    unit = jnp.mean(log_mean, axis=1, keepdims=True)
    log_value, log_mean = (log_value - unit)[:, :, None], (log_mean - unit)[:, None, :]
    depth, dof, mask = (own[:, None, None] for own in (depth, dof, mask))
    errors = errors_of(dof, depth, shared)
    off = deviation(log_value, log_mean, errors)
    margins = jnp.sum(jnp.where(mask, log_density(log_value, off, errors), 0.0), axis=0)
    chains = chains_of(depth, log_mean + unit[:, :, None], shared, proxy)
    return margins + copula_log_density(normal_scores(off, errors), chains, errors, mask)


def _simulated(key, task: TaskDraws, added, truths):
    """Estimates (D, M) of old and new runs together, at some of the draws, and their degrees of freedom (D,)."""
    rng = generator(key)
    log_mean = task.log_mean[:, truths].T
    shared = Shared(*(np.broadcast_to(own, task.log_mean.shape[1:])[truths, None, None] for own in task.shared))
    lasting, same = shared.lasting, np.eye(len(task.depths))
    across = lasting * _correlation_of_sampling(task, truths) + (1.0 - lasting) * same
    away = np.sqrt(np.abs(np.log(task.depths)))
    at = np.log(task.depths)
    drift = np.outer(away, away) * np.asarray(correlation_of_drift(at[:, None], at[None, :]))
    off_law = shared.misfit**2 * same + shared.drift**2 * drift
    # How far the task lies off the law, given its old estimates; in logarithms all is close to normal.
    known = task.dof > 0.0
    dof = np.where(known, task.dof, 1.0)
    sd = np.where(known, np.sqrt(2.0 / dof + 4.0 / dof**2), 1e3)
    shift = np.where(known, special.digamma(0.5 * dof) - np.log(0.5 * dof), 0.0)
    residual = np.where(known, task.log_value - log_mean - shift, 0.0)
    both = off_law + np.outer(sd, sd) * np.where(np.outer(known, known), across, same)
    gain = np.linalg.solve(both, off_law).swapaxes(1, 2)
    mean = np.einsum("mij,mj->mi", gain, residual)
    left = off_law - gain @ off_law
    off = mean + _normals(rng, left)
    # Errors of the new runs.
    scores = _normals(rng, across)
    shape = np.where(added > 0.0, 0.5 * added, 1.0)
    below = special.ndtr(-np.abs(scores))
    ratio = np.where(scores < 0.0, special.gammaincinv(shape, below), special.gammainccinv(shape, below)) / shape
    with np.errstate(divide="ignore"):
        new = np.maximum(np.log(ratio), -700.0) + log_mean + off
    total = np.maximum(task.dof + added, 1e-12)
    old = np.where(known, np.log(np.maximum(task.dof, 1e-300) / total) + task.log_value, -np.inf)
    fresh = np.where(added > 0.0, np.log(np.maximum(added, 1e-300) / total) + new, -np.inf)
    return np.maximum(np.logaddexp(old, fresh), -700.0).T, task.dof + added


def _correlation_of_sampling(task: TaskDraws, truths):
    """Of the errors at any two depths, the product of those between, (M, D, D)."""
    shared = Shared(*(np.broadcast_to(own, task.log_mean.shape[1:])[truths] for own in task.shared))
    chains: Chains = chains_of(task.depths[:, None], task.log_mean[:, truths], shared, task.proxy)
    steps = np.maximum(np.asarray(chains.sampling, np.float64), 1e-12)
    sums = np.concatenate([np.zeros((1, len(truths))), np.cumsum(np.log(steps), axis=0)])
    return np.exp(-np.abs(sums[:, None] - sums[None, :])).transpose(2, 0, 1)


def _normals(rng, covariance: Float[np.ndarray, "M D D"]):
    """One draw from each normal with mean 0, (M, D)."""
    values, vectors = np.linalg.eigh(covariance)
    white = np.sqrt(np.maximum(values, 0.0)) * rng.normal(size=values.shape)
    return np.einsum("mij,mj->mi", vectors, white)
