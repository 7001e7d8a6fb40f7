"""What explorers and samplers ask of a target, at many points at a time.

On a CPU points go to threads, one per core, a few at a time: always as many, so that exploring, climbing and sampling
share their compiled programs, whose compilation takes longer than many a fit's sampling. On an accelerator all
points are one batch, but for those whose latents are drawn, which takes memory.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jaxtyping import Array, Float

from bayes_prehoc._machine import cores
from bayes_prehoc.hierarchy.target import (
    Arguments,
    Density,
    Target,
    gradients,
    log_marginals_at,
    posterior_sites,
    values_at,
)

__all__ = ["Evaluator", "generator"]

POINTS = 8
"""Points that a thread of a CPU is given in one call."""
SITES = 50
"""Points whose latents an accelerator draws in one call."""


def generator(key) -> np.random.Generator:
    """NumPy's random numbers for what is computed on the host, from a key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


class Evaluator:
    """A target's densities, gradients and sites at many points; use it as a context, which ends its threads.

    Parameters
    ----------
    target : Target
    together : bool, optional
        Whether all points are one batch. Default: on an accelerator.
    """

    def __init__(self, target: Target, together: bool | None = None):
        self.target = target
        self.together = jax.default_backend() != "cpu" if together is None else together
        self.pool = ThreadPoolExecutor(1 if self.together else cores())

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.pool.shutdown(cancel_futures=True)

    def densities(
        self, points: Float[np.ndarray, "N Q"], arguments: Arguments, each: Callable | None = None
    ) -> Density:
        """Densities, arrays (N,) and (N, T), in double precision: a sum over many tasks loses digits of single.

        `each` is how parts are run; threads of the pool itself give `map`.
        """

        def some(part):
            values = values_at(self.target, part, arguments.data)
            by_block = [
                log_marginals_at(self.target, values, arguments.groups, nodes, self.together)
                for nodes in arguments.blocks
            ]
            with np.errstate(invalid="ignore"):  # where there is no density
                return Density(values.log_prior, np.logaddexp.reduce(np.asarray(by_block, np.float64)))

        found = self._in_parts(some, len(points) if self.together else POINTS, points, each=each)
        return Density(*(np.asarray(part, np.float64) for part in found))

    def gradients(self, points: Float[np.ndarray, "N Q"], arguments: Arguments):
        """Log densities (N,) and their gradients (N, Q)."""

        def some(part):
            return gradients(self.target, part, arguments, self.together)

        return self._in_parts(some, len(points) if self.together else 1, points)

    def sites(self, key, points: Float[np.ndarray, "N Q"], arguments: Arguments) -> dict[str, Array]:
        """Hyperparameters, noise and latents at the points, arrays (N, ...), with `corr` for its Cholesky factor."""

        def some(part, keys):
            values = values_at(self.target, part, arguments.data)
            return posterior_sites(self.target, keys, values, arguments.groups, self.together)

        size = SITES if self.together else POINTS
        sites = self._in_parts(some, size, points, jax.random.split(key, len(points)))
        factor = sites.pop("corr_chol").astype(np.float64)
        return sites | {"corr": factor @ np.swapaxes(factor, -1, -2)}

    def _in_parts(self, compute: Callable, size: int, points, *beside, each: Callable | None = None):
        """What `compute` gives for points and what goes with each, `size` at a time; the last part is filled up."""
        points, number = np.asarray(points, np.float32), len(points)
        parts = np.resize(np.arange(number), -(-number // size) * size).reshape(-1, size)

        def part(rows):
            return jax.tree.map(np.asarray, compute(points[rows], *(array[rows] for array in beside)))

        return jax.tree.map(lambda *found: np.concatenate(found)[:number], *(each or self.pool.map)(part, parts))
