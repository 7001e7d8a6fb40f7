r"""What a posterior says of tasks that it was not fitted to, or of which more is known since, without another fit.

Given the hyperparameters the tasks are independent. So a draw of them, with the latents that a new task's estimates
call for, is a draw of the posterior with that task if it is weighted by the task's marginal likelihood,

.. math:: p(\theta, z_t | \hat U, \hat U_t) \propto
    p(\theta | \hat U) \, p(\hat U_t | \theta) \, p(z_t | \hat U_t, \theta),

and for a task that was fitted before, by the ratio of its marginal likelihoods with the new estimates and the old ones.
Draws are smoothed and resampled by these weights (Pareto smoothed importance sampling); where their Pareto shape shows
that the task says of the population what the draws do not reach, it must be fitted.

Each task is weighed by itself: what several new tasks say together of the population needs a fit.

Sources: Rubin 1988 (sampling importance resampling), Vehtari et al. 2024 (Pareto smoothing, and its shape as a check).
"""

import dataclasses
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from arviz_stats.base import array_stats
from jaxtyping import Array, Float

from bayes_prehoc._machine import cores
from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.basis import Basis, family_of
from bayes_prehoc.hierarchy.checks import GATE
from bayes_prehoc.hierarchy.collapsed import (
    RULES,
    Group,
    draw_latents,
    fitted_frame,
    joined,
    log_marginals,
    plain_frame,
    quadrature,
)
from bayes_prehoc.hierarchy.data import ModelData, model_data
from bayes_prehoc.hierarchy.evaluator import generator
from bayes_prehoc.hierarchy.model import (
    OF_COVARIATES,
    OF_FAMILIES,
    Population,
    central_noise,
    outcome_noise,
    population_of,
    shared_of_tasks,
    shared_sites,
)
from bayes_prehoc.hierarchy.start import POSITIVE, task_modes
from bayes_prehoc.risk.estimates import RiskEstimates, TaskEstimates
from bayes_prehoc.runs.trajectories import SetAside

__all__ = ["Known", "Updated", "known_of", "updated"]

DRAWS = 500
"""Draws of the hyperparameters, spread evenly over those of the fit."""
PLACING = 40
"""As many of them tell where a task's latents lie."""
EVEN = 0.05
"""Standard deviation of log weights below which they are even: what is left of it is the error of quadrature."""
RULE = RULES[1]
"""Of the quadrature that weights are computed by."""
POINTS = 128
"""Points that a latent is drawn from, at each draw of the hyperparameters."""
PAD_DEPTHS = 8
"""Depths are filled up to multiples of this, so that tasks of about one size share a compilation."""


class Known(NamedTuple):
    """Draws of the hyperparameters, arrays (S, ...) by site, and the columns that they belong to.

    Where families are a level, the draws have one more than the basis: a family that nobody has seen.
    """

    sites: dict[str, np.ndarray]
    basis: Basis

    def basis_for(self, task: TaskEstimates) -> Basis:
        """The columns for a task, the last that of its family where that is new."""
        families = self.basis.families
        if not families:
            return self.basis
        own = family_of(task)
        return self.basis._replace(families=(*families, None if own in families else own))


class Updated(NamedTuple):
    """Draws for each task that could be weighed.

    Attributes
    ----------
    sites : mapping from site to array (S, T)
        Latents, `model.shared_sites` and `noise`.
    estimates : RiskEstimates
        Those of the T tasks; the others are set aside with the reason.
    k_hat, effective : arrays (T,)
        Pareto shape of the weights; median effective number of the points that latents were drawn from.
    """

    sites: dict[str, np.ndarray]
    estimates: RiskEstimates
    k_hat: np.ndarray
    effective: np.ndarray


class _Weighed(NamedTuple):
    """A task's latents (S, 3), what its likelihood needs besides by site (S,), its noise, log marginal likelihood and
    effective points (S,), at S draws of the hyperparameters."""

    latents: np.ndarray
    shared: dict[str, np.ndarray]
    noise: np.ndarray
    log_marginal: np.ndarray
    effective: np.ndarray


def known_of(key, draws, basis: Basis, proxy: str) -> tuple[Known, np.ndarray]:
    """Hyperparameters of a fit's draws, a mapping from site to array (chains, draws, ...), and which draws they are.

    The key is for the family that nobody has seen.
    """
    flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in draws.items()}
    count = len(flat["misfit"])
    rows = np.linspace(0, count - 1, min(DRAWS, count)).astype(int)
    names = ("mu_level", "mu_share", "mu_rate", "tau", *shared_sites(proxy), *OF_FAMILIES, *OF_COVARIATES)
    sites = {name: flat[name][rows] for name in names if name in flat}
    if basis.families:
        rng = generator(key)
        for name in ("family_white", "family_onset", "family_misfit"):
            unseen = rng.normal(size=(len(rows), 1, *sites[name].shape[2:]))
            sites[name] = np.concatenate([sites[name], unseen], axis=1)
    # Rounding may leave a correlation matrix that is all but singular not quite positive definite.
    corr = flat["corr"][rows] + 1e-6 * np.eye(3)
    sites["corr_chol"] = np.linalg.cholesky(corr / (1.0 + 1e-6))
    return Known({name: np.asarray(values, np.float32) for name, values in sites.items()}, basis), rows


def updated(
    key,
    known: Known,
    estimates: RiskEstimates,
    before: dict[str, tuple[TaskEstimates, Float[np.ndarray, " S"]]],
) -> Updated:
    """Draws of the latents of some tasks, and of the hyperparameters weighted by what each task says of them.

    Parameters
    ----------
    key : PRNG key
    known : Known
    estimates : RiskEstimates
    before : dict by task
        Of those that were fitted before, their estimates then, and the noise of their outcome sets at the same draws.
    """
    unknown = sorted({task.metric_kind for task in estimates} - set(known.basis.kinds))
    if unknown:
        raise InputError(
            f"there was no task with a metric of the kind {unknown[0]!r}",
            "update",
            f"Fit such a task with the others; the posterior knows {', '.join(known.basis.kinds)}.",
        )
    keys = jax.random.split(key, len(estimates))

    def one(pair):
        task, own = pair
        if task.task not in before:
            new = _weighed(own, known, task, estimates.proxy, None)
            return new, new.log_marginal
        earlier, noise = before[task.task]
        # The noise that was fitted is as good a draw for the new estimates, once it is weighed by what they say of it.
        kept = noise if task.has_noise and earlier.has_noise else None
        new = _weighed(own, known, task, estimates.proxy, kept)
        old = _weighed(jax.random.fold_in(own, 1), known, earlier, estimates.proxy, noise)
        log_weight = new.log_marginal - old.log_marginal
        return new, log_weight if kept is None else log_weight + _log_noise(kept, task) - _log_noise(kept, earlier)

    with ThreadPoolExecutor(cores()) as pool:
        weighed = list(pool.map(one, zip(estimates, keys, strict=True)))
    return _resampled(generator(key), estimates, weighed)


def _log_noise(noise, task: TaskEstimates):
    """Log density of the noise over the squared scale, a normal truncated at zero; up to its constant, (S,)."""
    return -0.5 * ((noise * task.scale**2 - task.noise) / task.noise_se) ** 2


def _resampled(rng, estimates, weighed):
    kept, columns, set_aside = [], [], list(estimates.set_aside)
    for task, (found, log_weight) in zip(estimates, weighed, strict=True):
        effective = float(np.median(found.effective))
        smoothed, k_hat = _smoothed(np.asarray(log_weight, np.float64))
        if not k_hat <= GATE.k_hat:
            why = f"it says of the population what the posterior does not reach (Pareto shape {k_hat:.2f})"
            set_aside.append(SetAside(task.task, f"{why}: fit it with the others"))
        elif effective < GATE.points:
            why = f"its latents lie where the points do not reach ({effective:.0f} effective)"
            set_aside.append(SetAside(task.task, f"{why}: fit it with the others"))
        else:
            rows = _systematic(rng, np.exp(smoothed - smoothed.max()))
            kept.append(task)
            columns.append((found, rows, float(k_hat), effective))
    if not kept:
        reasons = "; ".join(f"task {aside.task!r}: {aside.reason}" for aside in set_aside[:3])
        raise InputError(f"no task can be updated ({reasons})", "update", "Fit it together with the others.")
    sites = {
        name: np.stack([found.latents[rows, place] for found, rows, *_ in columns], axis=1)
        for place, name in enumerate(("level", "share", "rate"))
    }
    sites |= {
        name: np.stack([found.shared[name][rows] for found, rows, *_ in columns], axis=1)
        for name in shared_sites(estimates.proxy)
    }
    sites["noise"] = np.stack([found.noise[rows] for found, rows, *_ in columns], axis=1)
    k_hat, effective = (np.array([column[place] for column in columns]) for place in (2, 3))
    kept = dataclasses.replace(estimates, tasks=tuple(kept), set_aside=tuple(set_aside))
    return Updated(sites, kept, k_hat, effective)


def _smoothed(log_weight):
    """Log weights after Pareto smoothing, and their shape; 0 where they are even."""
    if log_weight.std() < EVEN:
        return np.zeros_like(log_weight), 0.0
    # ArviZ takes minus the log weights, as leave-one-out cross-validation has them.
    return array_stats.psislw(-log_weight)


def _systematic(rng, weight):
    """As many rows as there are weights, each as often as its weight asks for to within one (Kitagawa 1996)."""
    ends = np.cumsum(weight) / weight.sum()
    places = (rng.random() + np.arange(len(weight))) / len(weight)
    return np.minimum(np.searchsorted(ends, places), len(weight) - 1)


def _weighed(key, known, task, proxy, noise):
    """`_Weighed` of a task's estimates; noise of the outcome set (S,), or None to draw it."""
    data = _padded(model_data(RiskEstimates(proxy, (task,)), known.basis_for(task)))
    frame_key, noise_key, draw_key = jax.random.split(key, 3)
    count = len(known.sites["misfit"])
    if noise is None:
        drawn = _noises(noise_key, data, count)
    else:
        drawn = jnp.asarray(noise, jnp.float32)[:, None]
    start = _mode(_average(known.sites), data, proxy)
    few = np.linspace(0, count - 1, min(PLACING, count)).astype(int)
    some = {name: values[few] for name, values in known.sites.items()}
    white, *_ = _latents(frame_key, some, Group(np.array([0]), data, plain_frame(start)), drawn[few], proxy)
    group = Group(np.array([0]), data, fitted_frame(start, np.asarray(white)))
    found = (*_latents(draw_key, known.sites, group, drawn, proxy), _marginals(known.sites, group, drawn, proxy))
    _, latents, effective, log_marginal = (np.asarray(part)[:, 0] for part in found)
    of_task = shared_of_tasks(known.sites, proxy, np.asarray(data.family))
    shared = {name: values if values.ndim == 1 else values[:, 0] for name, values in of_task.items()}
    return _Weighed(latents, shared, np.asarray(drawn)[:, 0], log_marginal, effective)


def _padded(data: ModelData) -> ModelData:
    missing = max(1, -(-len(data.mask) // PAD_DEPTHS)) * PAD_DEPTHS - len(data.mask)
    filled = {"depth": 1.0, "log_risk": 0.0, "dof": 2.0, "mask": False}
    return data._replace(
        **{
            name: np.pad(np.asarray(getattr(data, name)), ((0, missing), (0, 0)), constant_values=value)
            for name, value in filled.items()
        }
    )


def _average(sites) -> Population:
    """The population at the means of the hyperparameters; of positive ones geometric means."""
    mean = {name: values.mean(axis=0) for name, values in sites.items()}
    for name in sites.keys() & set(POSITIVE):
        mean[name] = np.exp(np.log(np.maximum(sites[name], 1e-12)).mean(axis=0))
    return population_of(mean)


@functools.partial(jax.jit, static_argnames="count")
def _noises(key, data: ModelData, count: int) -> Float[Array, "S 1"]:
    return jax.vmap(lambda standard: outcome_noise(standard, data))(jax.random.normal(key, (count, 1)))


@functools.partial(jax.jit, static_argnames="proxy")
def _mode(population: Population, data: ModelData, proxy: str) -> Float[Array, "1 3"]:
    mean = jnp.stack(population.mean(data), axis=-1)
    precision = jnp.linalg.inv(population.scale @ population.scale.T)
    return task_modes(mean, mean, precision, population.shared_of(data), central_noise(data), data, proxy)


@functools.partial(jax.jit, static_argnames="proxy")
def _latents(key, sites, group: Group, noise, proxy: str):
    """`draw_latents` at every draw of the hyperparameters."""
    keys = jax.random.split(key, noise.shape[0])
    return jax.vmap(lambda own, at, its: draw_latents(own, population_of(at), group, its, proxy, POINTS))(
        keys, sites, noise
    )


@functools.partial(jax.jit, static_argnames="proxy")
def _marginals(sites, group: Group, noise, proxy: str) -> Float[Array, "S 1"]:
    """`log_marginals` at every draw of the hyperparameters: quadrature is smooth where sampling would scatter."""
    nodes = joined(quadrature(RULE))
    return jax.vmap(lambda at, its: log_marginals(population_of(at), group, its, proxy, nodes))(sites, noise)
