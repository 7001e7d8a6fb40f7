"""Where sampling starts, and where the likelihood is expanded.

The first guess is the mode of each task's latents under an empirical population, found before chains start. It
alternates, a few times, between the mode of each task's latents under the current population (damped Gauss-Newton,
exact gradients), the population's mean and covariance given those modes (an EM step), and the shared parameters
(`likelihood.Shared`) by the best of some moves along one or two of them. Once there are draws, their means take its
place. The posterior does not depend on any of it.
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
from bayes_prehoc.hierarchy.likelihood import Shared
from bayes_prehoc.hierarchy.model import LATENTS, Hyperprior, central_noise, task_log_likelihood

__all__ = ["POSITIVE", "Reference", "find_reference", "reference_of_draws", "task_modes"]

ROUNDS = 10
NEWTON_STEPS = 12
STEP_SIZES = (1.0, 0.5, 0.2, 0.05, 0.0)
LONGEST_MOVE = 3.0
POSITIVE = ("tau", "misfit", "dependence", "drift", "lasting")
"""Sites whose means are geometric."""
PRIOR_TASKS = 5.0
"""Weight of the prior in the population's covariance, in tasks."""


class Reference(NamedTuple):
    """Where sampling starts."""

    latents: Float[Array, "T 3"]
    mean: Float[Array, "T 3"]
    covariance: Float[Array, "3 3"]
    shared: Shared


def _values(prior: Hyperprior, proxy: str) -> dict[tuple[str, ...], np.ndarray]:
    """Values (N, fields) to move to, by the fields of `Shared` that are moved together."""
    onsets = np.exp(prior.onset[0] + prior.onset[1] * np.array([-1.5, -0.75, 0.0, 0.75, 1.5]))
    misfits = prior.misfit * np.array([0.05, 0.15, 0.3, 0.6, 1.0, 1.7, 2.5])
    if proxy == "run_to_run":
        dependences = np.exp(prior.length[0] + prior.length[1] * np.array([-1.5, -0.75, 0.0, 0.75, 1.5]))
        drifts = prior.drift * np.array([0.05, 0.3, 1.0, 3.0, 8.0, 20.0])
        lasting = np.array([0.1, 0.3, 0.5, 0.7, 0.85, 0.95])
    else:
        dependences, drifts, lasting = np.array([0.6, 0.75, 0.85, 0.92, 0.97]), np.zeros(1), np.ones(1)
    by_fields = {
        ("onset",): onsets[:, None],
        ("misfit", "drift"): np.array(list(itertools.product(misfits, drifts))),
        ("dependence",): dependences[:, None],
        ("lasting",): lasting[:, None],
    }
    return {fields: values.astype(np.float32) for fields, values in by_fields.items()}


def _moves(shared: Shared, values) -> Shared:
    """All that one move leads to, arrays (N,)."""
    parts = [
        {name: jnp.full(len(to), own) for name, own in shared._asdict().items()} | dict(zip(fields, to.T, strict=True))
        for fields, to in values.items()
    ]
    return Shared(**{name: jnp.concatenate([part[name] for part in parts]) for name in Shared._fields})


def _log_prior(shared: Shared, prior: Hyperprior, proxy: str):
    found = -0.5 * ((jnp.log(shared.onset) - prior.onset[0]) / prior.onset[1]) ** 2
    found += -0.5 * (shared.misfit / prior.misfit) ** 2
    if proxy == "run_to_run":
        found += -0.5 * ((jnp.log(shared.dependence) - prior.length[0]) / prior.length[1]) ** 2
        return found - shared.drift / prior.drift + (prior.lasting - 1.0) * jnp.log(shared.lasting)
    return found + (prior.kappa[0] - 1.0) * jnp.log(shared.dependence)


@functools.partial(jax.jit, static_argnames=("prior", "proxy", "law"))
def find_reference(data: ModelData, prior: Hyperprior, proxy: str, law: str = POWER) -> Reference:
    """Modes of the tasks' latents under an empirical population."""
    tasks = data.kind.shape[0]
    noise = central_noise(data)
    values = _values(prior, proxy)
    center = jnp.array([prior.level[0], prior.share[0], prior.rate[0]], jnp.float32)
    spread = jnp.array([prior.level[1], prior.share[1], prior.rate[1]], jnp.float32)
    wide = jnp.diag(spread**2 + jnp.asarray(prior.tau, jnp.float32) ** 2)
    weak = jnp.diag(jnp.asarray(prior.tau, jnp.float32) ** 2 * 0.5)

    def log_likelihood(z, shared):
        return task_log_likelihood((z[:, 0], z[:, 1], z[:, 2]), shared, noise, data, proxy, law)

    def one_round(state, _):
        z, mean, covariance, shared = state
        precision = jnp.linalg.inv(covariance)
        z = task_modes(z, mean, precision, shared, noise, data, proxy, law)
        width = jnp.linalg.inv(gauss_newton(z, shared, noise, data, proxy, law)[0] + precision)
        by_kind = (data.kind.T @ z + center / spread**2) / (data.kind.sum(0)[:, None] + 1.0 / spread**2)
        overall = (z.sum(0) + center / spread**2) / (tasks + 1.0 / spread**2)
        mean = jnp.concatenate([(data.kind @ by_kind)[:, :1], jnp.broadcast_to(overall[1:], (tasks, 2))], axis=1)
        off = z - mean
        scatter = jnp.einsum("ti,tj->ij", off, off) + width.sum(0)
        covariance = (scatter + PRIOR_TASKS * weak) / (tasks + PRIOR_TASKS)
        moved = _moves(shared, values)
        profile = jax.vmap(lambda own: jnp.nansum(log_likelihood(z, own)))(moved) + _log_prior(moved, prior, proxy)
        best = jnp.argmax(profile)
        shared = jax.tree.map(lambda part: part[best], moved)
        return (z, mean, covariance, shared), None

    start = jnp.broadcast_to(center, (tasks, 3))
    of_spread = (0.3 * prior.drift, 0.7) if proxy == "run_to_run" else (0.0, 1.0)
    shared = Shared(*map(jnp.float32, (np.exp(prior.onset[0]), 0.5 * prior.misfit, 0.9, *of_spread)))
    state, _ = jax.lax.scan(one_round, (start, start, wide, shared), None, length=ROUNDS)
    z, mean, covariance, shared = state
    return Reference(z, mean, covariance, shared)


def task_modes(
    z: Float[Array, "T 3"],
    mean: Float[Array, "T 3"],
    precision,
    shared: Shared,
    noise,
    data: ModelData,
    proxy: str,
    law: str = POWER,
):
    """Modes (T, 3) of the tasks' latents under a normal population, sought from z.

    `noise` (T,) is that of the outcome sets.
    """

    def objective(v):
        likelihood = task_log_likelihood((v[:, 0], v[:, 1], v[:, 2]), shared, noise, data, proxy, law)
        return likelihood - 0.5 * jnp.einsum("ti,ij,tj->t", v - mean, precision, v - mean)

    def step(v, _):
        information, _ = gauss_newton(v, shared, noise, data, proxy, law)
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
    geometric = {name: np.exp(np.log(sites[name]).mean(axis=0)) for name in POSITIVE if name in sites}
    level, tau = np.asarray(data.kind) @ means["mu_level"], geometric["tau"]
    mean = np.stack([level, np.full_like(level, means["mu_share"]), np.full_like(level, means["mu_rate"])], axis=-1)
    latents = np.stack([means[name] for name in LATENTS], axis=-1)
    parts = (latents, mean, tau[:, None] * means["corr"] * tau[None, :])
    as_float = functools.partial(jnp.asarray, dtype=jnp.float32)
    geometric = {"drift": 0.0, "lasting": 1.0} | geometric | {"onset": np.exp(means["log_onset"])}
    return Reference(*map(as_float, parts), Shared(*(as_float(geometric[name]) for name in Shared._fields)))
