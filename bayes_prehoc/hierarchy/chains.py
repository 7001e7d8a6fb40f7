"""Markov chains on the points of a target: leaps, then a Hamiltonian trajectory, and so on.

There can be modes that trajectories do not cross between, and leaps (`leaps`), with the explored posterior as proposal,
do. Trajectories move what leaps leave alone, and reach where the proposal is too thin.
"""

import math
import sys
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from tqdm.auto import tqdm

from bayes_prehoc.hierarchy.evaluator import Evaluator
from bayes_prehoc.hierarchy.explore import Weighted
from bayes_prehoc.hierarchy.hamiltonian import Scale, State, StepSize, trajectory
from bayes_prehoc.hierarchy.leaps import leap
from bayes_prehoc.hierarchy.mixture import draw
from bayes_prehoc.hierarchy.target import Arguments

__all__ = ["Chains", "Drawn"]

FIRST_STEP = 0.5
"""Size of a step before it is adapted, in standard deviations."""
PATH = 3.0
"""Longest trajectory, in standard deviations: half a turn of a standard normal. It is half as long on average."""
MOST_STEPS = 15
"""Leapfrog steps of a trajectory, at most."""


class Drawn(NamedTuple):
    """Points (C, S, Q) of the chains, and what is known of each draw, arrays (C, S) by name."""

    points: Float[np.ndarray, "C S Q"]
    statistics: dict[str, np.ndarray]


class Chains:
    """Chains with one step size, which go on from where they are.

    Parameters
    ----------
    rng : Generator
    evaluator : Evaluator
    arguments : Arguments
    found : Weighted
        The explored posterior of the hyperparameters: chains start at draws of its proposal, which is wider.
    number : int
    target_accept : float
        Mean acceptance that the step size is adapted to.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        evaluator: Evaluator,
        arguments: Arguments,
        found: Weighted,
        number: int,
        target_accept: float,
    ):
        self._rng, self._evaluator, self._arguments = rng, evaluator, arguments
        self._proposal, self._scale = found.proposal, Scale(np.linalg.cholesky(found.covariance()))
        self._step = StepSize(FIRST_STEP, target_accept)
        self._points = evaluator.target.points(draw(rng, found.proposal, number), arguments.data)

    def warm_up(self, moves: int) -> None:
        """Move on while the step size is adapted."""
        self._move(moves, "warm-up", adapting=True)

    def draw(self, moves: int) -> Drawn:
        """Move on, and keep where the chains come to."""
        return self._move(moves, "sampling", adapting=False)

    def _move(self, moves: int, label: str, adapting: bool) -> Drawn:
        points, statistics = [], []
        total = moves * len(self._points)
        with tqdm(total=total, desc=label, unit="draw", disable=None, file=sys.stderr, leave=False) as bar:
            for _ in range(moves):
                statistics.append(self._once(adapting))
                points.append(self._points)
                bar.update(len(self._points))
        by_name = {name: np.stack([one[name] for one in statistics], axis=1) for name in statistics[0]}
        return Drawn(np.stack(points, axis=1), by_name)

    def _once(self, adapting: bool) -> dict[str, np.ndarray]:
        """Leaps and a trajectory of every chain."""
        points, leapt = leap(self._rng, self._points, self._log_densities, self._proposal)
        step = self._step.exploring if adapting else self._step.settled
        number = int(self._rng.integers(1, min(MOST_STEPS, math.ceil(PATH / step)), endpoint=True))
        state, moved = trajectory(self._rng, self._state(points), self._gradients, self._scale, step, number)
        if adapting:
            self._step.adapt(float(moved.accept_prob.mean()))
        self._points = state.point
        return moved._asdict() | {"leapt": leapt, "num_steps": np.full(len(points), number)}

    def _state(self, points) -> State:
        return State(points, *(np.asarray(part, np.float64) for part in self._gradients(points)))

    def _log_densities(self, points):
        return self._evaluator.log_densities(points, self._arguments)

    def _gradients(self, points):
        return self._evaluator.gradients(points, self._arguments)
