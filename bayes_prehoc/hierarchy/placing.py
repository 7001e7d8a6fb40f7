"""Before chains start: where the posterior lies, and points of quadrature in place there.

The two depend on each other. Points that are put where a point estimate of the latents is tell roughly where the
posterior of the hyperparameters lies (`explore`). Draws from there, and the latents that they call for, place the
points better (`collapsed.Frame`): the means of the latents become the point of expansion, and where draws of them lie
in those coordinates tells where the points belong. So exploring and placing take turns, three and two times, and the
coarsest rule of quadrature that is fine enough is chosen when the points are in their last place (`precision`).

Of many tasks some tell where to begin: their posterior is explored first, then, with points in place for all, that of
a few times as many, until all are in. All of them are explored by the coarsest rule, which learns what it is off by
(`leading`), and where the rule that is fine enough is not that one, it leads chains at a fraction of the cost
(`chains`).
"""

import itertools
import logging
import math
import sys
from typing import NamedTuple

import jax
import numpy as np
from tqdm.auto import tqdm

from bayes_prehoc.hierarchy.collapsed import RULES, Frame, fitted_frame, groups_by_depths, plain_frame
from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.evaluator import Evaluator, generator
from bayes_prehoc.hierarchy.explore import Weighted, find_modes, modes_near, population, wide_mixture
from bayes_prehoc.hierarchy.leading import Leading
from bayes_prehoc.hierarchy.precision import FINE_ENOUGH, Judge
from bayes_prehoc.hierarchy.proposal import Proposal
from bayes_prehoc.hierarchy.start import Reference, reference_of_draws
from bayes_prehoc.hierarchy.target import Arguments, flat_values

__all__ = ["Known", "Placed", "place"]

logger = logging.getLogger(__name__)

START_JITTER = 0.5
"""How far apart starts of the search for modes are: a standard deviation, of unconstrained values."""
MANY = 500
"""Tasks from which on the population is told so well that less effort finds its posterior. As many of them tell roughly
where it lies, and more of them less roughly."""
MORE = 5.0
"""How many times more tasks may be looked at next: the posterior becomes at most so much narrower, squared."""
ROUGHLY = 4.0 * FINE_ENOUGH
"""What is fine enough to place points by."""


class Known(NamedTuple):
    """What may be known before: where the latents lie, how to leap, and how many rules are too coarse."""

    reference: Reference
    proposal: Proposal | None = None
    too_coarse: int = 0


class Rounds(NamedTuple):
    """Of exploration: at most so many, of so many draws, until so many count."""

    most: int
    draws: int
    enough: int


class Effort(NamedTuple):
    """Starts of the search for modes, draws that tell where latents lie, draws that tell what rules are off by, roughly
    and at last, and how to explore before points are placed, after the first time and at last."""

    climbs: int
    placing: int
    judging: tuple[int, int]
    rounds: tuple[Rounds, Rounds, Rounds]


FEW_TASKS = Effort(16, 80, (80, 400), (Rounds(8, 1000, 500), Rounds(4, 1000, 500), Rounds(8, 2000, 1500)))
MANY_TASKS = Effort(4, 40, (80, 300), (Rounds(8, 1000, 300), Rounds(8, 1000, 300), Rounds(12, 1000, 1500)))


class Placed(NamedTuple):
    """The tasks with points in place, the rule of quadrature, what the posterior looks like with them, and, where a
    coarser rule found that and leads chains, the tasks with that rule."""

    arguments: Arguments
    rule: tuple[int, int, int]
    found: Weighted
    rough: Arguments | None = None


def place(key, known: Known, evaluator: Evaluator, data: ModelData) -> Placed:
    """Explore the posterior and place the points, by turns."""
    latents_key, rng_key = jax.random.split(key)
    rng = generator(rng_key)
    target = evaluator.target
    effort = FEW_TASKS if data.kind.shape[0] < MANY else MANY_TASKS

    def arguments_at(frame: Frame) -> Arguments:
        return Arguments.by_rule(groups_by_depths(data, frame), data, RULES[0])

    def log_densities(x, arguments: Arguments):
        return evaluator.densities(target.points(x, arguments.data), arguments).total

    def moved(frame: Frame, found: Weighted) -> Frame:
        """The frame that draws of the hyperparameters call for."""
        points = target.points(found.resampled(rng, effort.placing), data)
        latents = reference_of_draws(evaluator.sites(latents_key, points, arguments_at(frame)), data).latents
        sites = evaluator.sites(latents_key, points, arguments_at(frame._replace(start=latents)))
        return fitted_frame(latents, sites["white"])

    def judge(frame: Frame, found: Weighted, judging: int) -> Judge:
        points = target.points(_different(rng, found, judging), data)
        return Judge(evaluator, points, arguments_at(frame), found.proposal.covariance())

    fewer = _fewer(data.kind.shape[0])
    stages = 3 + (len(fewer) - 1 if fewer else 1)
    with tqdm(total=stages, desc="exploring", unit="stage", disable=None, file=sys.stderr, leave=False) as bar:

        def explored(
            proposal: Proposal, arguments: Arguments, rounds: Rounds, leading: Leading | None = None
        ) -> Weighted:
            learn = leading.learn if leading else None
            found = population(rng, proposal, lambda x: log_densities(x, arguments), *rounds, learn=learn)
            bar.update()
            counted = found.effective, len(found.x)
            logger.info("explored %d tasks: %.0f of %d draws count", arguments.tasks, *counted)
            return found

        def nearer(found: Weighted, times: float, arguments: Arguments) -> Proposal:
            """From the posterior of some tasks to that of so many times as many, which is as many times narrower."""
            mean, scale = found.weight @ found.x, np.linalg.cholesky(found.proposal.covariance() / times)
            modes = modes_near([mean], scale, lambda x: log_densities(x, arguments))
            return Proposal(modes) if modes else found.proposal

        frame = plain_frame(known.reference.latents)
        arguments = arguments_at(frame)
        if fewer:
            arguments = _some(arguments, fewer[0])
        proposal = known.proposal
        if proposal is None:
            center = flat_values(known.reference, target.prior, target.proxy, data)
            proposal = _first_proposal(rng, evaluator, center, arguments, effort.climbs)
        bar.update()
        found = explored(proposal, arguments, effort.rounds[0])

        frame, rough, rules = moved(frame, found), None, RULES[known.too_coarse :]
        if fewer:
            for before, number in itertools.pairwise(fewer):
                arguments = _some(arguments_at(frame), number)
                proposal = nearer(found, number / before, arguments)
                found = explored(proposal, arguments, effort.rounds[1])
            frame = moved(frame, found)
            leading = Leading(rng, evaluator, arguments_at(frame), arguments_at(frame).with_rule(RULES[1]))
            proposal = nearer(found, data.kind.shape[0] / fewer[-1], leading.rough)
            found = explored(proposal, leading.rough, effort.rounds[2], leading)
        else:
            arguments, _ = judge(frame, found, effort.judging[0]).first_within(RULES, ROUGHLY)
            found = explored(found.proposal, arguments, effort.rounds[1])
            frame = moved(frame, found)
        arguments, rule = judge(frame, found, effort.judging[1]).first_within(rules, FINE_ENOUGH)
        if not fewer:
            found = explored(found.proposal, arguments, effort.rounds[2])
        elif rule != RULES[0]:
            rough = leading.follow(arguments, found.proposal.covariance())
    logger.info("quadrature with %d points a task%s", math.prod(rule), ", led by a coarser one" if rough else "")
    return Placed(arguments, rule, found, rough)


def _different(rng, found: Weighted, number: int):
    """About so many draws that differ; where few hold the weight, some that hold less."""
    for times in (1, 4, 16):
        x = np.unique(found.resampled(rng, times * number), axis=0)
        if len(x) >= number / 2:
            break
    return rng.permutation(x)[:number]


def _first_proposal(rng, evaluator: Evaluator, center, arguments: Arguments, climbs: int) -> Proposal:
    """From the modes that climbs from around `center` reach."""
    target = evaluator.target
    starts = center + START_JITTER * rng.normal(size=(climbs, len(center)))

    def log_p(x):
        return evaluator.densities(target.points(x, arguments.data), arguments, each=map).total

    return Proposal(find_modes(starts, log_p, evaluator.pool.map) or wide_mixture(center, START_JITTER))


def _fewer(tasks: int) -> list[int]:
    """Numbers of tasks from `MANY` on, each at most `MORE` times the one before, that lead to all of them."""
    steps = int(np.ceil(np.log(max(tasks / MANY, 1.0)) / np.log(MORE) - 1e-9))
    return [round(MANY * (tasks / MANY) ** (step / steps)) for step in range(steps)]


def _some(arguments: Arguments, number: int) -> Arguments:
    """Of so many tasks, evenly among all."""
    return arguments.taken(np.linspace(0, arguments.tasks - 1, number).astype(int))
