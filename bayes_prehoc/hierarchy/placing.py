"""Before chains start: where the posterior lies, and points of quadrature in place there.

The two depend on each other. Points that are put where a point estimate of the latents is tell roughly where the
posterior of the hyperparameters lies (`explore`). Draws from there, and the latents that they call for, place the
points better (`collapsed.Frame`): the means of the latents become the point of expansion, and where draws of them lie
in those coordinates tells where the points belong. So exploring and placing take turns, three and two times, and the
coarsest rule of quadrature that is fine enough is chosen when the points are in their last place (`precision`).
"""

import sys
from typing import NamedTuple

import jax
import numpy as np
from tqdm.auto import tqdm

from bayes_prehoc.hierarchy.collapsed import RULES, Frame, fitted_frame, groups_by_depths, plain_frame
from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.evaluator import Evaluator, generator
from bayes_prehoc.hierarchy.explore import Weighted, find_modes, narrowed, population, wide_mixture
from bayes_prehoc.hierarchy.mixture import Mixture
from bayes_prehoc.hierarchy.precision import FINE_ENOUGH, fine_enough
from bayes_prehoc.hierarchy.start import Reference, reference_of_draws
from bayes_prehoc.hierarchy.target import Arguments, flat_values

__all__ = ["Known", "Placed", "place"]

START_JITTER = 0.5
"""How far apart starts of the search for modes are: a standard deviation, of unconstrained values."""
MANY = 500
"""Tasks from which on the population is told so well that less effort finds its posterior, and as many of them tell
roughly where it lies."""
ROUGHLY = 4.0 * FINE_ENOUGH
"""What is fine enough to place points by."""


class Known(NamedTuple):
    """What may be known before: where the latents lie, how to leap, and how many rules are too coarse."""

    reference: Reference
    proposal: Mixture | None = None
    too_coarse: int = 0


class Rounds(NamedTuple):
    """Of exploration: at most so many, of so many draws, until so many count."""

    most: int
    draws: int
    enough: int


class Effort(NamedTuple):
    """Starts of the search for modes, draws that tell where latents lie, draws that tell what rules are off by, roughly
    and at last, and how to explore before points are placed, after the first time and after the second."""

    climbs: int
    placing: int
    judging: tuple[int, int]
    rounds: tuple[Rounds, Rounds, Rounds]


FEW_TASKS = Effort(16, 80, (80, 400), (Rounds(8, 1000, 500), Rounds(4, 1000, 500), Rounds(8, 2000, 1500)))
MANY_TASKS = Effort(4, 40, (80, 400), (Rounds(8, 1000, 300), Rounds(4, 1000, 500), Rounds(6, 1000, 800)))


class Placed(NamedTuple):
    """The tasks with points in place, the rule of quadrature, and what the posterior looks like with them."""

    arguments: Arguments
    rule: tuple[int, int, int]
    found: Weighted


def place(key, known: Known, evaluator: Evaluator, data: ModelData) -> Placed:
    """Explore the posterior and place the points, by turns."""
    latents_key, rng_key = jax.random.split(key)
    rng = generator(rng_key)
    target = evaluator.target
    effort = FEW_TASKS if data.kind.shape[0] < MANY else MANY_TASKS

    def arguments_at(frame: Frame) -> Arguments:
        return Arguments.by_rule(groups_by_depths(data, frame), data, RULES[0])

    def moved(frame: Frame, found: Weighted) -> Frame:
        """The frame that draws of the hyperparameters call for."""
        points = target.points(found.resampled(rng, effort.placing), data)
        latents = reference_of_draws(evaluator.sites(latents_key, points, arguments_at(frame)), data).latents
        sites = evaluator.sites(latents_key, points, arguments_at(frame._replace(start=latents)))
        return fitted_frame(latents, sites["white"])

    def with_rule(frame: Frame, found: Weighted, judging: int, rules, enough: float):
        points = target.points(_different(rng, found, judging), data)
        return fine_enough(evaluator, points, arguments_at(frame), found.covariance(), rules, enough)

    with tqdm(
        total=1 + len(effort.rounds), desc="exploring", unit="stage", disable=None, file=sys.stderr, leave=False
    ) as bar:

        def explored(proposal: Mixture, arguments: Arguments, rounds: Rounds) -> Weighted:
            def log_p(x):
                return evaluator.densities(target.points(x, data), arguments).total

            found = population(rng, proposal, log_p, *rounds)
            bar.update()
            return found

        frame = plain_frame(known.reference.latents)
        arguments = arguments_at(frame)
        proposal = known.proposal or _first_proposal(rng, evaluator, known.reference, arguments, effort.climbs)
        bar.update()
        found = explored(proposal, arguments, effort.rounds[0])

        frame = moved(frame, found)
        rough, _ = with_rule(frame, found, effort.judging[0], RULES, ROUGHLY)
        found = explored(found.proposal, rough, effort.rounds[1])

        frame = moved(frame, found)
        arguments, rule = with_rule(frame, found, effort.judging[1], RULES[known.too_coarse :], FINE_ENOUGH)
        found = explored(found.proposal, arguments, effort.rounds[2])
    return Placed(arguments, rule, found)


def _different(rng, found: Weighted, number: int):
    """About so many draws that differ; where few hold the weight, some that hold less."""
    for times in (1, 4, 16):
        x = np.unique(found.resampled(rng, times * number), axis=0)
        if len(x) >= number / 2:
            break
    return rng.permutation(x)[:number]


def _first_proposal(rng, evaluator: Evaluator, reference: Reference, arguments: Arguments, climbs: int) -> Mixture:
    target, tasks = evaluator.target, arguments.tasks
    center = flat_values(reference, target.prior, target.proxy, arguments.data)
    starts = center + START_JITTER * rng.normal(size=(climbs, len(center)))

    def density_of(arguments: Arguments, each=None):
        return lambda x: evaluator.densities(target.points(x, arguments.data), arguments, each=each).total

    some = arguments if tasks < MANY else arguments.taken(np.linspace(0, tasks - 1, MANY).astype(int))
    found = find_modes(starts, density_of(some, each=map), evaluator.pool.map)
    if found is not None and tasks >= MANY:
        found = narrowed(found, density_of(arguments), np.sqrt(MANY / tasks))
    return found or wide_mixture(center, START_JITTER)
