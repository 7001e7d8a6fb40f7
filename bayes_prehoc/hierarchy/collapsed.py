r"""The hierarchical model with the tasks' latents integrated out, task by task, and drawn afterwards.

In the coordinates of `model.color` a task's latents are close to standard normal whatever the hyperparameters are, so
Gauss-Hermite quadrature at fixed nodes gives the task's marginal likelihood,

.. math:: p(\hat U_t | \theta) = \int N(w; 0, I) \, e^{f_t(w, \theta)} dw \approx \sum_m q_m e^{f_t(w_m, \theta)},

with f the log likelihood at the latents that w stands for plus what corrects the density. The sampler then sees the
hyperparameters and the noise of the outcome sets only. The nodes of each task are moved to where its whitened
coordinates lie, seen over draws, as in adaptive quadrature; but once, before sampling, so that the density stays one
smooth function.

Given a draw of the hyperparameters the tasks are independent, and their latents are drawn by sampling importance
resampling from a randomly shifted Sobol sequence.

Tasks with few depths and tasks with many are computed in groups, so that the former do not pay for the latter.

Sources: Naylor and Smith 1982 (adaptive Gauss-Hermite quadrature), Rubin 1988 (sampling importance resampling).
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.stats import qmc

from bayes_prehoc.hierarchy import linear3
from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.laws import POWER
from bayes_prehoc.hierarchy.model import (
    Hyperprior,
    Population,
    color,
    sampled_noise,
    sampled_population,
    task_log_likelihood,
)

__all__ = [
    "FINEST",
    "RULES",
    "Frame",
    "Group",
    "Nodes",
    "draw_latents",
    "fitted_frame",
    "groups_by_depths",
    "in_parts",
    "joined",
    "log_marginals",
    "log_marginals_of_all",
    "log_terms",
    "plain_frame",
    "quadrature",
    "sampled_priors",
]

RULES = ((2, 4, 2), (3, 5, 5), (5, 7, 7), (5, 9, 9), (7, 11, 11))
"""Gauss-Hermite nodes along each of the whitened coordinates, coarse to fine."""
FINEST = (9, 15, 15)
"""The rule that others are held against."""
LEAST_WEIGHT = 16.0
"""Nodes whose weight is below exp(-this) of the largest are left out."""
NODES_AT_ONCE = (16, 80)
"""Nodes of the only block of the coarsest rule, and of each block of the others: two programs serve all rules."""
POINTS = 128
"""Points that latents are resampled among; a power of two."""
POINTS_WIDTH = 1.3
TOGETHER = 250
"""Tasks whose points are computed at a time: about what caches hold."""
MOST_GROUPS = 3
GROUP_COST = 150
"""Estimates, padding included, whose computing costs as much as one more group does in compiling."""


class Nodes(NamedTuple):
    """Points for a standard normal and the logarithms of their weights; exp(log_weight) sums to about 1 over a rule."""

    at: Float[np.ndarray | Array, "M 3"]
    log_weight: Float[np.ndarray | Array, " M"]


class Frame(NamedTuple):
    """Where the points of each task lie; none of it changes what is computed, only how well.

    Attributes
    ----------
    start : latents around which the likelihood is expanded (`model.color`)
    center, spread : mean and Cholesky factor of the covariance of its whitened coordinates
    """

    start: Float[Array, "T 3"]
    center: Float[Array, "T 3"]
    spread: Float[Array, "T 3 3"]


class Group(NamedTuple):
    """Tasks with similar numbers of depths: their places among all tasks, their estimates and their frame."""

    rows: Int[np.ndarray | Array, " T"]
    data: ModelData
    frame: Frame


def plain_frame(start: Float[Array, "T 3"]) -> Frame:
    """The whitened coordinates as they are."""
    eye = jnp.broadcast_to(jnp.eye(3, dtype=start.dtype), (len(start), 3, 3))
    return Frame(start, jnp.zeros_like(start), eye)


def fitted_frame(start: Float[Array, "T 3"], white: Float[np.ndarray, "S T 3"]) -> Frame:
    """From draws of the whitened coordinates."""
    off = white - white.mean(axis=0)
    covariance = np.einsum("sti,stj->tij", off, off) / len(white) + 1e-3 * np.eye(3)
    floats = (jnp.asarray(a, jnp.float32) for a in (white.mean(axis=0), np.linalg.cholesky(covariance)))
    return Frame(start, *floats)


def quadrature(rule: tuple[int, int, int]) -> tuple[Nodes, ...]:
    """Gauss-Hermite product rule for the standard normal, in blocks of `NODES_AT_ONCE`; the last is filled up."""
    rules = [np.polynomial.hermite_e.hermegauss(n) for n in rule]
    at = np.stack(np.meshgrid(*(x for x, _ in rules), indexing="ij"), axis=-1).reshape(-1, 3)
    log_weight = sum(np.meshgrid(*(np.log(w / w.sum()) for _, w in rules), indexing="ij")).ravel()
    kept = np.flatnonzero(log_weight > log_weight.max() - LEAST_WEIGHT)
    few, many = NODES_AT_ONCE
    size = few if len(kept) <= few else many
    missing = -len(kept) % size
    at = np.pad(at[kept], ((0, missing), (0, 0))).astype(np.float32).reshape(-1, size, 3)
    log_weight = np.pad(log_weight[kept], (0, missing), constant_values=-np.inf).astype(np.float32)
    return tuple(map(Nodes, at, log_weight.reshape(-1, size)))


def joined(blocks: tuple[Nodes, ...]) -> Nodes:
    """All nodes of a rule together."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *blocks)


def groups_by_depths(data: ModelData, frame: Frame) -> tuple[Group, ...]:
    """At most `MOST_GROUPS` groups, cut where padding is least."""
    depths = np.asarray(data.mask).sum(axis=0)
    widths = np.unique(depths)
    best = (np.inf, ())
    for count in range(1, min(MOST_GROUPS, len(widths)) + 1):
        for cuts in itertools.combinations(widths[:-1], count - 1):
            tops = np.array([*cuts, widths[-1]])
            padded = tops[np.searchsorted(tops, depths)].sum()
            best = min(best, (padded + GROUP_COST * count, tuple(tops)))
    # Of a task that nobody has probed there are none, and arrays need a length.
    tops = np.maximum(best[1], 1)
    # By NumPy: JAX would compile a program for each shape.
    data, frame = jax.tree.map(np.asarray, (data, frame))
    groups = []
    for place, top in enumerate(tops):
        rows = np.flatnonzero(np.searchsorted(tops, depths) == place)
        groups.append(Group(rows, data.taken(rows, top), jax.tree.map(lambda part, rows=rows: part[rows], frame)))
    return tuple(groups)


def log_terms(standard, population: Population, group: Group, noise, proxy: str, law: str):
    """Whitened coordinates and latents at points of the frame, and what the marginal likelihood averages there.

    `standard`, the whitened coordinates and the latents are triples of arrays (T, M) or broadcast to it; the average is
    over the standard normal.
    """
    start, center, spread = group.frame
    factor = tuple(part[:, None] for part in linear3.triangle(spread))
    white = tuple(center[:, i, None] + part for i, part in enumerate(linear3.product(factor, standard)))
    # Without the barriers here and below, XLA computes what stands before them anew wherever it is used.
    latents, correction = jax.lax.optimization_barrier(color(white, population, start, noise, group.data, proxy, law))
    log_likelihood = task_log_likelihood(latents, population.shared_of(group.data), noise, group.data, proxy, law)
    volume = linear3.log_det(factor) + 0.5 * sum(x**2 - w**2 for x, w in zip(standard, white, strict=True))
    return white, latents, log_likelihood + correction + volume


def log_marginals(
    population: Population, group: Group, noise: Float[Array, " T"], proxy: str, nodes: Nodes, law: str = POWER
):
    """Log marginal likelihood of each task of the group, (T,), or what some nodes of a rule contribute to it."""
    standard = tuple(nodes.at[None, :, i] for i in range(3))
    _, _, terms = log_terms(standard, population, group, noise, proxy, law)
    return jax.nn.logsumexp(jax.lax.optimization_barrier(nodes.log_weight + terms), axis=1)


def draw_latents(
    key,
    population: Population,
    group: Group,
    noise: Float[Array, " T"],
    proxy: str,
    points: int = POINTS,
    law: str = POWER,
):
    """Latents of each task of the group given the hyperparameters, each one of so many points (a power of two).

    Returns
    -------
    white, latents : arrays (T, 3)
    effective : array (T,)
        Effective number of the points, (sum w)^2 / sum w^2.
    """
    tasks = group.frame.start.shape[0]
    shift_key, pick_key = jax.random.split(key)
    shift = jax.random.uniform(shift_key, (3, tasks, 1))
    uniform = jnp.mod(jnp.asarray(_sobol(points).T)[:, None, :] + shift, 1.0)
    standard = POINTS_WIDTH * jax.scipy.special.ndtri(jnp.clip(uniform, 1e-6, 1.0 - 1e-6))
    white, latents, terms = log_terms(tuple(standard), population, group, noise, proxy, law)
    terms = terms - 0.5 * (1.0 - POINTS_WIDTH**-2) * jnp.sum(standard**2, axis=0)
    picked = jax.random.categorical(pick_key, terms, axis=1)[:, None]
    white, latents = (
        jnp.concatenate([jnp.take_along_axis(part, picked, axis=1) for part in parts], axis=1)
        for parts in (white, latents)
    )
    effective = jnp.exp(2.0 * jax.nn.logsumexp(terms, axis=1) - jax.nn.logsumexp(2.0 * terms, axis=1))
    return white, latents, effective


def _sobol(points: int) -> np.ndarray:
    return qmc.Sobol(3, scramble=False).random(points).astype(np.float32)


def sampled_priors(data: ModelData, prior: Hyperprior, proxy: str, with_noise: bool):
    """NumPyro model of the hyperparameters and the noise before any data; sites as in `model.hierarchical_model`."""
    population = sampled_population(prior, proxy, data.sizes)
    return population, sampled_noise(data, with_noise)


def log_marginals_of_all(
    population: Population,
    groups: tuple[Group, ...],
    noise: Float[Array, " T"],
    proxy: str,
    nodes: Nodes,
    law: str = POWER,
):
    """`log_marginals` of each task of all groups, (T,)."""
    # Without the barrier, XLA would derive them anew wherever they are used, which takes long to compile.
    population, noise = jax.lax.optimization_barrier((population, noise))
    found = jnp.zeros_like(noise)
    for group in groups:

        def own(part, its, _):
            return log_marginals(population, part, its, proxy, nodes, law)

        found = found.at[group.rows].set(in_parts(own, group, noise[group.rows]))
    return found


def in_parts(compute: Callable, group: Group, noise: Float[Array, " T"], key=None):
    """What `compute(group, noise, key)` gives for all tasks, arrays (T, ...), but `TOGETHER` of them at a time.

    Each part has a key of its own.
    """
    tasks = noise.shape[0]
    if tasks <= TOGETHER:
        return compute(group, noise, key)
    count = -(-tasks // TOGETHER)
    rows = np.resize(np.arange(tasks), (count, TOGETHER))
    frame = jax.tree.map(lambda part: part[rows], group.frame)
    parts = Group(rows, group.data.taken(rows), frame)
    keys = None if key is None else jax.random.split(key, count)
    found = jax.lax.map(lambda part: compute(*part), (parts, noise[rows], keys))
    return jax.tree.map(lambda part: jnp.reshape(part, (-1, *part.shape[2:]))[:tasks], found)
