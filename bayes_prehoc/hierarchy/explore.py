"""Where a posterior of a dozen dimensions lies: its modes, then population Monte Carlo.

Quasi-Newton climbs from points far apart find the modes, and again from there in units of the widths that the curvature
tells; the curvature at their ends makes a mixture of t distributions.
Its draws, weighted by density over proposal, make the next proposal (`proposal`), and so on until enough of them count;
the draws of all rounds are weighted as draws of the mixture of all proposals. Where few draws hold all the weight,
weights are flattened, w^beta, until enough draws count, so that the proposal moves towards the posterior by steps that
its draws can tell; and at the end none counts for more than a bound. This takes some thousand densities and no warm-up,
gives every mode that a climb met its mass, and provides what Markov chains need: points to start from, the posterior's
covariance, and a proposal to leap with.

Sources: Cappe et al. 2008 (population Monte Carlo with mixtures); Cornuet et al. 2012 (all rounds together); Koblents
and Miguez 2015 (flattened weights); Ionides 2008 (truncated weights).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.optimize
from jaxtyping import Float

from bayes_prehoc.hierarchy.mixture import MOST, WIDENING, Mixture
from bayes_prehoc.hierarchy.proposal import Proposal, proposal_of_draws

__all__ = ["Weighted", "find_modes", "flattened", "modes_near", "population", "wide_mixture"]

CLIMB_STEPS = 80
SLOPE_STEP = 0.01
"""Slopes are by differences: a gradient takes longer to compile than most fits take to climb."""
CURVATURE_STEP = 0.03
ROUGH_STEP = 0.1
"""The same of slopes, in standard deviations, once those are about known."""
FITTING_STEP = 0.3
"""The same of slopes to both sides and of curvature."""
LEVEL, ABOUT_LEVEL = 0.01, 0.1
"""Slopes at which a climb ends; in standard deviations, and of many tasks, smaller ones are noise."""
LEAST_CURVATURE = 0.25
"""A direction that is flatter counts as this curved: the standard deviation of the proposal is at most 2."""
SAME_MODE = 4.0
"""Squared distance, in standard deviations of the higher one, below which two ends of climbs are one mode."""
HOPELESSLY_LOW = 20.0
"""Log density below the highest at which the end of a climb is no mode worth a component."""
NOWHERE = 1e10
"""Energy that a climb is told where the density is not finite."""
LEAST_SHARE = 0.1
"""Of each mode in the first mixture: curvature tells its mass badly."""
LEAST_COUNTING = 0.2
"""Share of the draws that must count, by flattening their weights, for a mixture to be made of them."""


class Weighted(NamedTuple):
    """Draws (N, P) whose weights sum to one, and the proposal made from them."""

    x: Float[np.ndarray, "N P"]
    weight: Float[np.ndarray, " N"]
    proposal: Proposal

    @property
    def effective(self) -> float:
        """Effective number of draws, 1 / sum w^2."""
        return float(1.0 / np.sum(self.weight**2))

    def resampled(self, rng: np.random.Generator, number: int) -> Float[np.ndarray, "S P"]:
        """Draws of equal weight."""
        return self.x[rng.choice(len(self.x), size=number, p=self.weight)]


def find_modes(climb_from: Sequence[np.ndarray], log_p: Callable, each: Callable = map) -> Mixture | None:
    """A component at each mode that climbs reach, or None where none ends at a finite density.

    Parameters
    ----------
    climb_from : sequence of arrays (P,)
    log_p : callable
        Log densities (N,) at points (N, P).
    each : callable
        Like `map`: how the climbs are run.
    """

    first = _climb(log_p, climb_from[0], np.eye(len(climb_from[0])), SLOPE_STEP, central=False)
    scale, step = np.eye(len(first.x)), SLOPE_STEP
    if first.fun < NOWHERE:
        # Widths differ by more than climbs in even units can take, so those of one mode serve the other climbs.
        curvature = _curvature(log_p, first.x, CURVATURE_STEP * scale)
        scale, step = np.linalg.inv(np.linalg.cholesky(curvature)).T, ROUGH_STEP

    def rough(x):
        return _climb(log_p, x, scale, step, central=False)

    ends = sorted([first, *each(rough, climb_from[1:])], key=lambda end: end.fun)
    modes = []
    for end in ends:
        if len(modes) == MOST or end.fun > ends[0].fun + HOPELESSLY_LOW or end.fun >= NOWHERE:
            break
        if not _is_one_of(modes, end.x):
            curvature = _curvature(log_p, end.x, CURVATURE_STEP * np.eye(len(end.x)))
            modes.append(_mode(log_p, end.x, np.linalg.inv(np.linalg.cholesky(curvature)).T))
    return _mixture_of_modes(modes)


def modes_near(climb_from: Sequence[np.ndarray], scale: Float[np.ndarray, "P P"], log_p: Callable) -> Mixture | None:
    """As `find_modes`, where it is known how wide they are: by the columns of `scale`."""
    found = [_mode(log_p, x, scale, ABOUT_LEVEL) for x in climb_from]
    return _mixture_of_modes([mode for mode in found if mode[2] < NOWHERE])


def _mode(log_p, x, scale, level=LEVEL):
    """The end of a climb from x in steps that fit, the curvature there, and the energy.

    Slopes by differences over more than a standard deviation would lead astray, and so would slopes over much less.
    """
    end = _climb(log_p, x, scale, FITTING_STEP, central=True, level=level)
    return end.x, _curvature(log_p, end.x, FITTING_STEP * scale), end.fun


def _is_one_of(modes, x) -> bool:
    return any((x - at) @ precision @ (x - at) < SAME_MODE for at, precision, _ in modes)


def _mixture_of_modes(found) -> Mixture | None:
    modes = []
    # Climbs that began apart may have ended together.
    for mode in sorted(found, key=lambda mode: mode[2]):
        if not _is_one_of(modes, mode[0]):
            modes.append(mode)
    if not modes:
        return None
    center, precision, energy = (np.array(part) for part in zip(*modes, strict=True))
    log_mass = -energy - 0.5 * np.linalg.slogdet(precision)[1]
    share = np.maximum(np.exp(log_mass - np.logaddexp.reduce(log_mass)), LEAST_SHARE)
    return Mixture(center, np.linalg.cholesky(WIDENING * np.linalg.inv(precision)), share / share.sum())


def _climb(log_p, x, scale, step, central, level=LEVEL):
    """The end of a quasi-Newton climb from x, in coordinates whose units are the columns of `scale`.

    Slopes are by differences over `step`, to one side or to both.
    """
    directions = [np.eye(len(x)), -np.eye(len(x))] if central else [np.eye(len(x))]
    steps = step * np.vstack([np.zeros(len(x)), *directions]) @ scale.T

    def downhill(z):
        here, *beside = np.asarray(log_p(x + scale @ z + steps), np.float64)
        ahead, *behind = np.reshape(beside, (-1, len(z)))
        slope = (ahead - behind[0]) / (2.0 * step) if central else (ahead - here) / step
        if not (np.isfinite(here) and np.isfinite(slope).all()):
            return NOWHERE, np.zeros_like(slope)
        return -here - start, -slope

    # Energies are told over that at the start: a climb ends where gains are small beside them.
    start = -float(np.asarray(log_p(x[None]), np.float64)[0])
    start = start if np.isfinite(start) else 0.0
    end = scipy.optimize.minimize(
        downhill,
        np.zeros(len(x)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": CLIMB_STEPS, "ftol": 1e-5, "gtol": level},
    )
    end.x = x + scale @ end.x
    end.fun = end.fun if end.fun >= NOWHERE else end.fun + start
    return end


def _curvature(log_p, x, scale):
    """Hessian of the energy by second differences along the columns of `scale`, made positive definite."""
    size = len(x)
    pairs = np.array([(i, j) for i in range(size) for j in range(i + 1)])
    one, other = (scale.T[pairs[:, side]] for side in range(2))
    ends = [x + sign * one + turn * other for sign in (1, -1) for turn in (1, -1)]
    up, across, back, down = np.asarray(log_p(np.concatenate(ends)), np.float64).reshape(4, -1)
    hessian = np.zeros((size, size))
    hessian[pairs[:, 0], pairs[:, 1]] = (across + back - up - down) / 4.0
    if not np.isfinite(hessian).all():
        return LEAST_CURVATURE * np.eye(size)
    hessian = np.tril(hessian) + np.tril(hessian, -1).T
    into = np.linalg.inv(scale)
    value, vector = np.linalg.eigh(into.T @ hessian @ into)
    return (vector * np.maximum(value, LEAST_CURVATURE)) @ vector.T


def wide_mixture(center: Float[np.ndarray, " P"], scale: float) -> Mixture:
    """One component, where nothing is known."""
    return Mixture(center[None], scale * np.eye(len(center))[None], np.ones(1))


def population(
    rng: np.random.Generator,
    proposal: Proposal,
    log_p: Callable,
    rounds: int,
    number: int,
    enough: int,
    learn: Callable | None = None,
) -> Weighted:
    """Weighted draws of all rounds, and the proposal they make.

    Parameters
    ----------
    rng : Generator
    proposal : Proposal
        To begin with.
    log_p : callable
        Log densities (N,) at points (N, P); one that is not finite counts as no density.
    rounds : int
        At most.
    number : int
        Draws of each round.
    enough : int
        Effective number of draws at which it ends.
    learn : callable, optional
        Called after each round with all draws (N, P), their log densities and weights; says what those are off by.
    """
    x, log_ps = np.empty((0, proposal.size)), np.empty(0)
    proposals, log_qs, off = [], np.empty((0, 0)), lambda x: 0.0
    for _ in range(rounds):
        new = proposal.draw(rng, number)
        # Each draw counts as one of the mixture of all rounds' proposals: (rounds, draws), the new row and columns.
        log_qs = np.hstack([log_qs, np.array([q.log_density(new) for q in proposals]).reshape(-1, number)])
        x, log_ps = np.concatenate([x, new]), np.append(log_ps, np.asarray(log_p(new), np.float64))
        log_qs = np.vstack([log_qs, proposal.log_density(x)])
        proposals.append(proposal)
        log_weight = _log_weights(log_ps - off(x), log_qs)
        if not np.isfinite(log_weight).any():
            return Weighted(x, np.full(len(x), 1.0 / len(x)), proposal)
        if learn:
            off = learn(x, log_ps, flattened(log_weight, LEAST_COUNTING * number))
            log_weight = _log_weights(log_ps - off(x), log_qs)
        proposal = proposal_of_draws(x, flattened(log_weight, LEAST_COUNTING * number))
        made = Weighted(x, _truncated(log_weight), proposal)
        if made.effective >= enough:
            break
    return made


def _log_weights(log_p, log_qs):
    log_weight = log_p - np.logaddexp.reduce(log_qs, axis=0)
    return np.where(np.isfinite(log_weight), log_weight, -np.inf)


def _normalised(log_weight):
    weight = np.exp(log_weight - log_weight.max())
    return weight / weight.sum()


def _truncated(log_weight):
    """Weights, none above the root of their number times their mean: one draw where all proposals were thin says that
    they were, and not that the others are worth nothing."""
    weight = np.exp(log_weight - log_weight.max())
    return _normalised(np.minimum(log_weight, log_weight.max() + np.log(np.sqrt(len(weight)) * weight.mean())))


def flattened(log_weight, least: float):
    """Weights w^beta, with the largest beta up to 1 for which `least` draws count."""

    def at(beta):
        return _normalised(np.where(np.isfinite(log_weight), beta * log_weight, -np.inf))

    if 1.0 / np.sum(at(1.0) ** 2) >= least:
        return at(1.0)
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if 1.0 / np.sum(at(middle) ** 2) >= least else (low, middle)
    return at(low)
