"""Where sampling starts, and where the likelihood is expanded.

The first guess is the mode of each task's latents under an empirical population, found before chains start. It
alternates, a few times, between the mode of each task's latents under the current population (damped Gauss-Newton,
exact gradients), the population's mean and covariance given those modes (an EM step), and the shared parameters
(onset, misfit, dependence of depths) by their profile over a grid. Once there are draws, their means take its place.
The posterior does not depend on any of it.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.information import gauss_newton
from bayes_prehoc.hierarchy.laws import POWER
from bayes_prehoc.hierarchy.model import LATENTS, Hyperprior, central_noise, task_log_likelihood

__all__ = ["Reference", "find_reference", "reference_of_draws", "task_modes"]

ROUNDS = 8
NEWTON_STEPS = 12
STEP_SIZES = (1.0, 0.5, 0.2, 0.05, 0.0)
LONGEST_MOVE = 3.0
PRIOR_TASKS = 5.0
"""Weight of the prior in the population's covariance, in tasks."""


class Reference(NamedTuple):
    """Where sampling starts."""

    latents: Float[Array, "T 3"]
    mean: Float[Array, "T 3"]
    covariance: Float[Array, "3 3"]
    onset: Float[Array, ""]
    misfit: Float[Array, ""]
    dependence: Float[Array, ""]


def _shared_grid(prior: Hyperprior, proxy: str) -> np.ndarray:
    """Candidate (onset, misfit, dependence) triples."""
    onsets = np.exp(prior.onset[0] + prior.onset[1] * np.array([-1.5, -0.75, 0.0, 0.75, 1.5]))
    misfits = prior.misfit * np.array([0.05, 0.15, 0.3, 0.6, 1.0, 1.7, 2.5])
    if proxy == "run_to_run":
        dependences = np.exp(prior.length[0] + prior.length[1] * np.array([-1.5, -0.75, 0.0, 0.75, 1.5]))
    else:
        dependences = np.array([0.6, 0.75, 0.85, 0.92, 0.97])
    return np.array(list(itertools.product(onsets, misfits, dependences)), np.float32)


@functools.partial(jax.jit, static_argnames=("prior", "proxy", "law"))
def find_reference(data: ModelData, prior: Hyperprior, proxy: str, law: str = POWER) -> Reference:
    """Modes of the tasks' latents under an empirical population."""
    tasks = data.kind.shape[0]
    noise = central_noise(data)
    grid = jnp.asarray(_shared_grid(prior, proxy))
    if proxy == "run_to_run":
        log_prior_dependence = -0.5 * ((jnp.log(grid[:, 2]) - prior.length[0]) / prior.length[1]) ** 2
    else:
        log_prior_dependence = (prior.kappa[0] - 1.0) * jnp.log(grid[:, 2])
    center = jnp.array([prior.level[0], prior.share[0], prior.rate[0]], jnp.float32)
    spread = jnp.array([prior.level[1], prior.share[1], prior.rate[1]], jnp.float32)
    wide = jnp.diag(spread**2 + jnp.asarray(prior.tau, jnp.float32) ** 2)
    weak = jnp.diag(jnp.asarray(prior.tau, jnp.float32) ** 2 * 0.5)

    def log_likelihood(z, shared):
        return task_log_likelihood((z[:, 0], z[:, 1], z[:, 2]), *shared, noise, data, proxy, law)

    def one_round(state, _):
        z, mean, covariance, shared = state
        precision = jnp.linalg.inv(covariance)
        z = task_modes(z, mean, precision, shared, noise, data, proxy, law)
        width = jnp.linalg.inv(gauss_newton(z, *shared, noise, data, proxy, law)[0] + precision)
        by_kind = (data.kind.T @ z + center / spread**2) / (data.kind.sum(0)[:, None] + 1.0 / spread**2)
        overall = (z.sum(0) + center / spread**2) / (tasks + 1.0 / spread**2)
        mean = jnp.concatenate([(data.kind @ by_kind)[:, :1], jnp.broadcast_to(overall[1:], (tasks, 2))], axis=1)
        off = z - mean
        scatter = jnp.einsum("ti,tj->ij", off, off) + width.sum(0)
        covariance = (scatter + PRIOR_TASKS * weak) / (tasks + PRIOR_TASKS)
        profile = jax.vmap(lambda s: jnp.nansum(log_likelihood(z, s)))(grid)
        profile = profile - 0.5 * ((jnp.log(grid[:, 0]) - prior.onset[0]) / prior.onset[1]) ** 2
        profile = profile - 0.5 * (grid[:, 1] / prior.misfit) ** 2
        shared = grid[jnp.argmax(profile + log_prior_dependence)]
        return (z, mean, covariance, shared), None

    start = jnp.broadcast_to(center, (tasks, 3))
    shared = jnp.array([jnp.exp(prior.onset[0]), 0.5 * prior.misfit, 0.9], jnp.float32)
    state, _ = jax.lax.scan(one_round, (start, start, wide, shared), None, length=ROUNDS)
    z, mean, covariance, shared = state
    return Reference(z, mean, covariance, *shared)


def task_modes(
    z: Float[Array, "T 3"],
    mean: Float[Array, "T 3"],
    precision,
    shared,
    noise,
    data: ModelData,
    proxy: str,
    law: str = POWER,
):
    """Modes (T, 3) of the tasks' latents under a normal population, sought from z.

    `shared` are onset, misfit and dependence, `noise` (T,) that of the outcome sets.
    """

    def objective(v):
        likelihood = task_log_likelihood((v[:, 0], v[:, 1], v[:, 2]), *shared, noise, data, proxy, law)
        return likelihood - 0.5 * jnp.einsum("ti,ij,tj->t", v - mean, precision, v - mean)

    def step(v, _):
        information, _ = gauss_newton(v, *shared, noise, data, proxy, law)
        slope = jax.grad(lambda own: objective(own).sum())(v)
        move = jnp.linalg.solve(information + precision, slope[..., None])[..., 0]
        move = jnp.where(jnp.isfinite(move), jnp.clip(move, -LONGEST_MOVE, LONGEST_MOVE), 0.0)
        candidates = jnp.stack([v + size * move for size in STEP_SIZES])
        values = jnp.nan_to_num(jax.vmap(objective)(candidates), nan=-jnp.inf)
        best = jnp.argmax(values, axis=0)
        return jnp.take_along_axis(candidates, best[None, :, None], axis=0)[0], None

    return jax.lax.scan(step, z, None, length=NEWTON_STEPS)[0]


def reference_of_draws(sites: dict[str, np.ndarray], data: ModelData) -> Reference:
    """Means of draws, arrays (S, ...) by site; of positive quantities geometric means."""
    means = {name: values.mean(axis=0) for name, values in sites.items()}
    tau, misfit, dependence = (np.exp(np.log(sites[name]).mean(axis=0)) for name in ("tau", "misfit", "dependence"))
    level = np.asarray(data.kind) @ means["mu_level"]
    mean = np.stack([level, np.full_like(level, means["mu_share"]), np.full_like(level, means["mu_rate"])], axis=-1)
    return Reference(
        *(
            jnp.asarray(value, jnp.float32)
            for value in (
                np.stack([means[name] for name in LATENTS], axis=-1),
                mean,
                tau[:, None] * means["corr"] * tau[None, :],
                np.exp(means["log_onset"]),
                misfit,
                dependence,
            )
        )
    )
