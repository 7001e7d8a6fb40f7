"""What explorers and samplers ask of a target, at many points at a time.

On a CPU points go to threads, one per core, a few at a time: always as many, so that exploring, climbing and sampling
share their compiled programs, whose compilation takes longer than many a fit's sampling. On an accelerator all
points are one batch, but for those whose latents are drawn, which takes memory.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bayes_prehoc._machine import cores
from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.target import (
    Arguments,
    Density,
    Target,
    Values,
    gradients,
    log_marginals_at,
    posterior_sites,
    values_at,
)
from bayes_prehoc.hierarchy.tilt import Tilt, tilts

__all__ = ["Evaluator", "generator", "with_correlations"]

POINTS = 16
"""Points that a thread of a CPU is given in one call, and at most as many are computed together."""
TASKS = 50
"""Of fewer tasks a CPU computes several points together: loops over few numbers take longer to set up than to run."""
OF_LATENTS = 4
"""What drawing latents at a point takes, over a density."""
SITES = 50
"""Points whose latents an accelerator draws in one call."""


def generator(key) -> np.random.Generator:
    """NumPy's random numbers for what is computed on the host, from a key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def with_correlations(sites: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With `corr`, in double precision, for its Cholesky factor `corr_chol`."""
    factor = sites["corr_chol"].astype(np.float64)
    corr = factor @ np.swapaxes(factor, -1, -2)
    return {name: values for name, values in sites.items() if name != "corr_chol"} | {"corr": corr}


class Evaluator:
    """A target's densities, gradients and sites at many points; use it as a context, which ends its threads.

    Parameters
    ----------
    target : Target
    tilt : Tilt, optional
        What the prior is tilted by. Default: nothing.
    batched : bool, optional
        Whether all points are one batch. Default: on an accelerator.
    """

    def __init__(self, target: Target, tilt: Tilt | None = None, batched: bool | None = None):
        self.target, self.tilt = target, tilt
        self.batched = jax.default_backend() != "cpu" if batched is None else batched
        self._threads = 1 if self.batched else cores()
        self.pool = ThreadPoolExecutor(self._threads)

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.pool.shutdown(cancel_futures=True)

    def values(self, points: Float[np.ndarray, "N Q"], data: ModelData) -> Values:
        """What the points stand for, arrays (N, ...)."""
        size = len(points) if self.batched else POINTS
        return self._in_parts(lambda _, part: values_at(self.target, part, data), size, size, points)

    def densities(
        self, points: Float[np.ndarray, "N Q"], arguments: Arguments, each: Callable | None = None
    ) -> Density:
        """Densities, arrays (N,) and (N, T), in double precision: a sum over many tasks loses digits of single.

        `each` is how parts are run; threads of the pool itself give `map`.
        """
        size = len(points) if self.batched else POINTS
        together = self._together(size, arguments)

        def some(number, part):
            values = values_at(self.target, part, arguments.data)
            by_block = [
                log_marginals_at(self.target, values, number, arguments.groups, nodes, together)
                for nodes in arguments.blocks
            ]
            with np.errstate(invalid="ignore"):  # where there is no density
                by_task = np.logaddexp.reduce(np.asarray(by_block, np.float64))
            return Density(values.log_prior, arguments.corrected(by_task, part))

        found = self._in_parts(some, size, together, points, each=each)
        log_prior, by_task = (np.asarray(part, np.float64) for part in found)
        # Beside the compiled program, which serves every prior so.
        return Density(log_prior if self.tilt is None else log_prior + self.tilt.log_ratio(np.asarray(points)), by_task)

    def gradients(self, points: Float[np.ndarray, "N Q"], arguments: Arguments):
        """Log densities (N,) and their gradients (N, Q)."""
        size = len(points) if self.batched else 1

        def some(_, part):
            found = gradients(self.target, part, arguments)
            return found if self.tilt is None else jax.tree.map(jnp.add, found, tilts(self.tilt, part))

        return self._in_parts(some, size, size, points)

    def sites(self, key, points: Float[np.ndarray, "N Q"], arguments: Arguments) -> dict[str, Array]:
        """Hyperparameters, noise and latents at the points, arrays (N, ...), with `corr` for its Cholesky factor."""
        size = SITES if self.batched else POINTS
        together = self._together(size, arguments, OF_LATENTS)

        def some(number, part, keys):
            values = values_at(self.target, part, arguments.data)
            return posterior_sites(self.target, keys, values, number, arguments.groups, together)

        return with_correlations(self._in_parts(some, size, together, points, jax.random.split(key, len(points))))

    def _together(self, number: int, arguments: Arguments, cost: int = 1) -> int:
        """How many of so many points are computed together: a power of two; `cost` is what one takes over a density."""
        if self.batched:
            return number
        most = TASKS // (cost * arguments.tasks)
        return min(number, 2 ** max(0, most.bit_length() - 1))

    def _in_parts(self, compute: Callable, size: int, together: int, points, *beside, each: Callable | None = None):
        """What `compute` gives for points and what goes with each, at most `size` at a time.

        It is told how many it is given, and filled up to `size`.
        """
        points, number = np.asarray(points, np.float32), len(points)
        # Few points are shared by the threads.
        count = max(-(-number // size), min(self._threads, -(-number // together)))
        ends = np.linspace(0, number, count + 1).astype(int)

        def part(first, end):
            rows = np.resize(np.arange(first, end), size)
            found = compute(end - first, points[rows], *(array[rows] for array in beside))
            return jax.tree.map(lambda whole: np.asarray(whole)[: end - first], found)

        found = list((each or self.pool.map)(part, ends[:-1], ends[1:]))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *found)
