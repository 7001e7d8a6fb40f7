"""Before chains start: where the posterior lies, and points of quadrature in place there.

The two depend on each other. Points that are put where a point estimate of the latents is tell roughly where the
posterior of the hyperparameters lies (`explore`). Draws from there, and the latents that they call for, place the
points better (`collapsed.Frame`): the means of the latents become the point of expansion, and where draws of them lie
in those coordinates tells where the points belong. So exploring and placing take turns, three and two times, and the
coarsest rule of quadrature that is fine enough is chosen when the points are in their last place.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from bayes_prehoc._machine import cores
from bayes_prehoc.hierarchy.collapsed import (
    RULES,
    Frame,
    coarsest_rule,
    fitted_frame,
    groups_by_depths,
    plain_frame,
)
from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.explore import Weighted, find_modes, population, wide_mixture
from bayes_prehoc.hierarchy.mixture import Mixture
from bayes_prehoc.hierarchy.start import Reference, reference_of_draws
from bayes_prehoc.hierarchy.target import (
    Arguments,
    Target,
    flat_values,
    gradient,
    log_densities,
    posterior_sites,
    with_correlation,
)

__all__ = ["REPRESENTATIVE", "Known", "Placed", "next_rule", "place"]

CLIMBS = 16
"""Starts of the search for modes."""
START_JITTER = 0.5
"""How far apart they are: a standard deviation, of unconstrained values."""
EXPLORING = 2000
"""Draws of each round of exploration."""
ROUNDS = (8, 4, 4)
"""At most, before the points are placed, after the first time and after the second."""
PLACING = 200
"""Draws that tell where the tasks' latents lie."""
REPRESENTATIVE = 24
"""Draws at which the quadrature's error is computed."""


class Known(NamedTuple):
    """What may be known before: where the latents lie, how to leap, and how many rules are too coarse."""

    reference: Reference
    proposal: Mixture | None = None
    too_coarse: int = 0


class Placed(NamedTuple):
    """The tasks with points in place, the rule of quadrature, and what the posterior looks like with them."""

    arguments: Arguments
    rule: tuple[int, int, int]
    found: Weighted


def next_rule(rule: tuple[int, int, int]) -> int:
    """How many of `collapsed.RULES` to leave out after this one failed; the finest stays."""
    return min(RULES.index(rule) + 1, len(RULES) - 1)


def place(key, known: Known, target: Target, data: ModelData) -> Placed:
    """Explore the posterior and place the points, by turns."""
    latents_key, rng_key, *keys = jax.random.split(key, 5)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(rng_key)))

    def arguments_at(frame: Frame, rule=RULES[0]) -> Arguments:
        return Arguments.by_rule(groups_by_depths(data, frame), data, rule)

    def sites_at(x, frame: Frame):
        sites = posterior_sites(target, latents_key, x, arguments_at(frame))
        return with_correlation(jax.tree.map(np.asarray, sites))

    def moved(frame: Frame, found: Weighted):
        """The frame that draws of the hyperparameters call for, and the sites at those draws."""
        x = jnp.asarray(found.resampled(rng, PLACING), jnp.float32)
        latents = reference_of_draws(sites_at(x, frame), data).latents
        sites = sites_at(x, frame._replace(start=latents))
        return fitted_frame(latents, sites["white"]), sites

    with (
        _Densities(target) as densities,
        tqdm(total=1 + len(ROUNDS), desc="exploring", unit="stage", disable=None, file=sys.stderr, leave=False) as bar,
    ):

        def explored(key, proposal: Mixture, arguments: Arguments, rounds: int) -> Weighted:
            found = population(key, proposal, densities.at(arguments), EXPLORING, rounds)
            bar.update()
            return found

        frame = plain_frame(known.reference.latents)
        arguments = arguments_at(frame)
        proposal = known.proposal or _first_proposal(rng, densities, known.reference, arguments)
        bar.update()
        found = explored(keys[0], proposal, arguments, ROUNDS[0])

        frame, _ = moved(frame, found)
        arguments = arguments_at(frame)
        found = explored(keys[1], found.proposal, arguments, ROUNDS[1])

        frame, sites = moved(frame, found)
        few = {name: values[:REPRESENTATIVE] for name, values in sites.items()}
        rule = coarsest_rule(few, groups_by_depths(data, frame), target.proxy, RULES[known.too_coarse :])
        arguments = arguments_at(frame, rule)
        found = explored(keys[2], found.proposal, arguments, ROUNDS[2])
    return Placed(arguments, rule, found)


def _first_proposal(rng, densities: "_Densities", reference: Reference, arguments: Arguments) -> Mixture:
    target = densities.target
    center = flat_values(reference, target.prior, target.proxy, arguments.data)
    starts = center + START_JITTER * rng.normal(size=(CLIMBS, len(center)))
    modes = find_modes(starts, lambda x: gradient(target, jnp.asarray(x, jnp.float32), arguments), densities.pool.map)
    return modes or wide_mixture(center, START_JITTER)


class _Densities:
    """Densities of the target at many points: threads on a CPU, all at once on an accelerator."""

    def __init__(self, target: Target):
        self.target = target
        self.parts, self.at_once = (cores(), 1) if jax.default_backend() == "cpu" else (1, EXPLORING)

    def __enter__(self):
        self.pool = ThreadPoolExecutor(self.parts)
        return self

    def __exit__(self, *failure):
        self.pool.shutdown()

    def at(self, arguments: Arguments) -> Callable:
        """Log densities (N,) at points (N, P)."""

        def some(x):
            return np.asarray(log_densities(self.target, x, arguments, self.at_once))

        return lambda x: np.concatenate(list(self.pool.map(some, jnp.array_split(x, self.parts))))
