"""Before chains start: where the posterior lies, and points of quadrature in place there.

The two depend on each other. Points that are put where a point estimate of the latents is tell roughly where the
posterior of the hyperparameters lies (`explore`). Draws from there, and the latents that they call for, place the
points better (`collapsed.Frame`): the means of the latents become the point of expansion, and where draws of them lie
in those coordinates tells where the points belong. So exploring and placing take turns, three and two times, and the
coarsest rule of quadrature that is fine enough is chosen when the points are in their last place. What matters is how
its error varies over the posterior: a constant cancels, and what is linear in the hyperparameters is told by a few
draws and taken off (`target.Correction`). Draws alone do not tell: where a rule is off by nats it takes the posterior
away, and no draw comes there to show it. So the error must be bounded far out along each hyperparameter too.
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from tqdm.auto import tqdm

from bayes_prehoc.hierarchy.collapsed import (
    FINEST,
    RULES,
    Frame,
    fitted_frame,
    groups_by_depths,
    plain_frame,
)
from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.evaluator import Evaluator, generator
from bayes_prehoc.hierarchy.explore import Weighted, find_modes, population, wide_mixture
from bayes_prehoc.hierarchy.mixture import Mixture
from bayes_prehoc.hierarchy.start import Reference, reference_of_draws
from bayes_prehoc.hierarchy.target import Arguments, Correction, flat_values

__all__ = ["Known", "Placed", "fine_enough", "next_rule", "place", "quadrature_errors"]

START_JITTER = 0.5
"""How far apart starts of the search for modes are: a standard deviation, of unconstrained values."""
MANY = 500
"""Tasks from which on the population is told so well that less effort finds its posterior, and as many of them tell
roughly where it lies."""
FINE_ENOUGH = 0.25
"""Standard deviation over draws of the error of the log marginal likelihood, all tasks together, that is left alone."""
ROUGHLY = 1.0
"""The same for a rule that is good enough to place points by."""
FAR, FAR_ENOUGH = 3.0, 4.0
"""At so many standard deviations from the mean the error may differ by so many times as much from that at the mean: by
one nat, beyond which a thousandth of the posterior lies."""


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
    """Starts of the search for modes, draws that tell where latents lie, and how to explore before points are placed,
    after the first time and after the second."""

    climbs: int
    placing: int
    rounds: tuple[Rounds, Rounds, Rounds]


FEW_TASKS = Effort(16, 80, (Rounds(8, 1000, 500), Rounds(4, 1000, 500), Rounds(8, 2000, 1500)))
MANY_TASKS = Effort(4, 80, (Rounds(8, 1000, 500), Rounds(4, 1000, 500), Rounds(6, 1000, 800)))


class Placed(NamedTuple):
    """The tasks with points in place, the rule of quadrature, and what the posterior looks like with them."""

    arguments: Arguments
    rule: tuple[int, int, int]
    found: Weighted


def next_rule(rule: tuple[int, int, int]) -> int:
    """How many of `collapsed.RULES` to leave out after this one failed; the finest stays."""
    return min(RULES.index(rule) + 1, len(RULES) - 1)


def quadrature_errors(
    evaluator: Evaluator, points: Float[np.ndarray, "S Q"], arguments: Arguments
) -> Float[np.ndarray, "S T"]:
    """Log marginal likelihood of each task less that by `FINEST`."""
    by_rule, finest = (evaluator.densities(points, own).by_task for own in (arguments, arguments.with_rule(FINEST)))
    return by_rule - finest


def fine_enough(
    evaluator: Evaluator,
    points: Float[np.ndarray, "S Q"],
    arguments: Arguments,
    covariance: Float[np.ndarray, "P P"],
    rules: Sequence[tuple[int, int, int]],
    enough: float = FINE_ENOUGH,
) -> tuple[Arguments, tuple[int, int, int]]:
    """With the first of the rules whose error hardly varies over these points and is bounded beyond them, or the last,
    and that rule.

    A constant error is none, and of many tasks most of it is linear in the hyperparameters where the posterior is
    narrow: that is taken off.

    Parameters
    ----------
    points : array (S, Q)
        Draws of the posterior, more than twice as many as there are hyperparameters.
    covariance : array (P, P)
        Of the hyperparameters.
    """
    number, size = len(points), len(covariance)
    everywhere = np.concatenate([points, _far(points, covariance)])
    finest = evaluator.densities(everywhere, arguments.with_rule(FINEST)).by_task

    def good(left, errors):
        """Whether what varies near is little, and errors far out are not much."""
        beyond = np.abs(errors.sum(axis=1)[number:] - errors[:number].sum(axis=1).mean())
        # Where there is no density there is no error.
        return left <= enough and np.all(beyond[np.isfinite(beyond)] <= FAR_ENOUGH * enough)

    for rule in rules:
        arguments = arguments.with_rule(rule)
        errors = evaluator.densities(everywhere, arguments).by_task - finest
        if good(errors[:number].sum(axis=1).std(), errors):
            break
        correction, left = _correction(points[:, :size], covariance, errors[:number])
        if good(left, errors - correction.off(everywhere)):
            return arguments._replace(correction=correction), rule
    return arguments, rule


def _far(points, covariance):
    """Points `FAR` standard deviations to either side of the mean along each hyperparameter, the others where they are
    likeliest then; array (2 P, Q)."""
    along = FAR * covariance / np.sqrt(np.diag(covariance))[:, None]
    away = np.pad(np.concatenate([along, -along]), ((0, 0), (0, points.shape[1] - len(covariance))))
    return points.mean(axis=0) + away


def _correction(x, covariance, errors) -> tuple[Correction, float]:
    """By least squares, and the standard deviation of what is left of the errors of all tasks."""
    mean, into = x.mean(axis=0), np.linalg.inv(np.linalg.cholesky(covariance))
    white = np.column_stack([np.ones(len(x)), (x - mean) @ into.T])
    error = np.linalg.lstsq(white, errors)[0]
    left = (errors - white @ error).sum(axis=1)
    single = (np.asarray(part, np.float32) for part in (mean, into, error))
    return Correction(*single), float(np.sqrt(np.sum(left**2) / max(len(x) - white.shape[1], 1)))


def place(key, known: Known, evaluator: Evaluator, data: ModelData) -> Placed:
    """Explore the posterior and place the points, by turns."""
    latents_key, rng_key = jax.random.split(key)
    rng = generator(rng_key)
    target = evaluator.target
    effort = FEW_TASKS if data.kind.shape[0] < MANY else MANY_TASKS

    def arguments_at(frame: Frame) -> Arguments:
        return Arguments.by_rule(groups_by_depths(data, frame), data, RULES[0])

    def moved(frame: Frame, found: Weighted):
        """The frame that draws of the hyperparameters call for, and the draws."""
        points = target.points(found.resampled(rng, effort.placing), data)
        latents = reference_of_draws(evaluator.sites(latents_key, points, arguments_at(frame)), data).latents
        sites = evaluator.sites(latents_key, points, arguments_at(frame._replace(start=latents)))
        return fitted_frame(latents, sites["white"]), points

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

        frame, points = moved(frame, found)
        rough, _ = fine_enough(evaluator, points, arguments_at(frame), found.covariance(), RULES, ROUGHLY)
        found = explored(found.proposal, rough, effort.rounds[1])

        frame, points = moved(frame, found)
        rules = RULES[known.too_coarse :]
        arguments, rule = fine_enough(evaluator, points, arguments_at(frame), found.covariance(), rules)
        found = explored(found.proposal, arguments, effort.rounds[2])
    return Placed(arguments, rule, found)


def _first_proposal(rng, evaluator: Evaluator, reference: Reference, arguments: Arguments, climbs: int) -> Mixture:
    target, tasks = evaluator.target, arguments.data.kind.shape[0]
    center = flat_values(reference, target.prior, target.proxy, arguments.data)
    starts = center + START_JITTER * rng.normal(size=(climbs, len(center)))

    def modes(starts, arguments) -> Mixture | None:
        def log_p(x):
            return evaluator.densities(target.points(x, arguments.data), arguments, each=map).total

        return find_modes(starts, log_p, evaluator.pool.map)

    if tasks >= MANY:
        rough = modes(starts, _some_of(arguments, reference))
        starts = starts[:1] if rough is None else rough.mean
    return modes(starts, arguments) or wide_mixture(center, START_JITTER)


def _some_of(arguments: Arguments, reference: Reference) -> Arguments:
    """`MANY` of the tasks."""
    rows = np.linspace(0, arguments.data.kind.shape[0] - 1, MANY).astype(int)
    data = jax.tree.map(np.asarray, arguments.data).taken(rows)
    return Arguments(groups_by_depths(data, plain_frame(reference.latents[rows])), data, arguments.blocks)
