r"""Markov chains on the points of a target: leaps, walks, new noises and, where needed, Hamiltonian trajectories.

The explored posterior is the proposal that chains leap with (`leaps`). Where it fits, leaps alone give draws that are
nearly independent, across modes too, for the price of densities; where it is too thin, a few steps of a walk keep
chains from staying. Where few leaps land, and in attempts after the second, a trajectory follows each round of leaps.

Where a coarser rule of quadrature leads (`Placed.rough`), all these moves are by its density p', and where they brought
a chain is accepted or not by the density p itself, with probability

.. math:: \min(1, \frac{p(x') p'(x)}{p(x) p'(x')}) ,

so that the finer rule is asked once a round. That leaves p as it is since moves are reversible under p': each kind of
them is, and they are made in one order or the other with equal probability.

Sources: Christen & Fox 2005 (a density that costs less leads); Liu 2001, section 9.4.3 (several moves by it).
"""

import functools
import math
import sys
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from tqdm.auto import tqdm

from bayes_prehoc.hierarchy.evaluator import Evaluator
from bayes_prehoc.hierarchy.hamiltonian import Scale, State, StepSize, trajectory
from bayes_prehoc.hierarchy.leaps import LEAPS, At, NoiseProposal, chosen, enough_leaps, leap, redraw, walk
from bayes_prehoc.hierarchy.placing import Placed

__all__ = ["Chains", "Drawn"]

FEW_LAND = 0.1
"""Share of leaps that are accepted, below which trajectories are needed."""
FIRST_STEP = 0.5
"""Size of a step before it is adapted, in standard deviations."""
PATH = 3.0
"""Longest trajectory, in standard deviations: half a turn of a standard normal. It is half as long on average."""
MOST_STEPS = 15
"""Leapfrog steps of a trajectory, at most."""
WALKS = 4
"""Steps of a random walk after leaps."""
WALKS_WHERE_LED = 2
"""The same where a coarser rule leads: tasks are many then, and each step takes long."""


class Drawn(NamedTuple):
    """Points (C, S, Q) of the chains, and what is known of each draw, arrays (C, S) by name.

    Of leaps that is `leapt`, the share accepted, and `log_weight` (C, S, N), the weights of all; of trajectories, where
    there are any, the fields of `hamiltonian.Moved` and `num_steps`; `followed`, where a coarser rule leads, whether
    what it led to was accepted; and `by_task` (C, S, T) of the density.
    """

    points: Float[np.ndarray, "C S Q"]
    statistics: dict[str, np.ndarray]


class Chains:
    """Chains that go on from where they are.

    Parameters
    ----------
    rng : Generator
    evaluator : Evaluator
    placed : Placed
        Chains start at draws of the explored posterior's proposal, which is wider.
    number : int
    target_accept : float
        Mean acceptance that the step size of trajectories is adapted to.
    with_trajectories : bool
        Where not, warm-up decides.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        evaluator: Evaluator,
        placed: Placed,
        number: int,
        target_accept: float,
        with_trajectories: bool = False,
    ):
        found = placed.found
        self._rng, self._evaluator, self._arguments = rng, evaluator, placed.rough or placed.arguments
        self._densities = functools.partial(evaluator.densities, arguments=self._arguments)
        self._finer = functools.partial(evaluator.densities, arguments=placed.arguments) if placed.rough else None
        self._proposal, self._scale = found.proposal, Scale(np.linalg.cholesky(found.proposal.covariance()))
        self._step = StepSize(FIRST_STEP, target_accept)
        self._leaps = LEAPS[1]
        points = evaluator.target.points(found.proposal.draw(rng, number), placed.arguments.data)
        self._at = At(points, self._densities(points))
        self._fine = self._at.density
        self._size = found.x.shape[1]
        self._noise = NoiseProposal.of_prior(points.shape[1] - self._size)
        self.with_trajectories = with_trajectories

    def warm_up(self, moves: int) -> None:
        """Move on while proposals of the noise, and the step size of trajectories, are adapted."""
        # The first part brings chains to where the posterior is.
        for part in (moves - moves // 2, moves // 2):
            if part:
                points, statistics = self._move(part, "warm-up", adapting=True)
                self._noise = NoiseProposal.of_draws(np.concatenate(points)[:, self._size :])
                landed = float(statistics["leapt"].mean())
                self.with_trajectories |= landed < FEW_LAND
                self._leaps = enough_leaps(landed)
        if self._finer:
            self._fine = self._finer(self._at.points)

    def draw(self, moves: int) -> Drawn:
        """Move on, and keep where the chains come to."""
        return self._move(moves, "sampling", adapting=False)

    def _move(self, moves: int, label: str, adapting: bool) -> Drawn:
        points, statistics = [], []
        total = moves * len(self._at.points)
        with tqdm(total=total, desc=label, unit="draw", disable=None, file=sys.stderr, leave=False) as bar:
            for _ in range(moves):
                statistics.append(self._once(adapting) if adapting or not self._finer else self._followed())
                density = self._fine if self._finer and not adapting else self._at.density
                statistics[-1]["by_task"] = density.by_task.astype(np.float32)
                points.append(self._at.points)
                bar.update(len(self._at.points))
        by_name = {name: np.stack([one[name] for one in statistics], axis=1) for name in statistics[0]}
        return Drawn(np.stack(points, axis=1), by_name)

    def _once(self, adapting: bool) -> dict[str, np.ndarray]:
        """Leaps, a walk, new noises and a trajectory of every chain, as far as there are such."""
        kinds = [self._leap, self._walk]
        if self._evaluator.target.with_noise:
            kinds.append(self._redraw)
        if self.with_trajectories:
            kinds.append(functools.partial(self._trajectory, adapting))
        if self._finer and self._rng.random() < 0.5:
            kinds.reverse()
        statistics = {}
        for move in kinds:
            statistics |= move() or {}
        return statistics

    def _followed(self) -> dict[str, np.ndarray]:
        """The same by the coarser rule, undone where the finer one does not follow."""
        before, fine_before = self._at, self._fine
        statistics = self._once(adapting=False)
        fine = self._finer(self._at.points)
        with np.errstate(invalid="ignore"):  # from outside to outside
            gain = fine.total - self._at.density.total - (fine_before.total - before.density.total)
            follows = np.log(self._rng.random(len(gain))) < gain
        self._at = chosen(follows, self._at, before)
        self._fine = chosen(follows, At(self._at.points, fine), At(before.points, fine_before)).density
        return statistics | {"followed": follows}

    def _leap(self) -> dict[str, np.ndarray]:
        leapt = leap(self._rng, self._at, self._densities, self._proposal, self._leaps)
        self._at = leapt.at
        return {"leapt": leapt.accepted, "log_weight": leapt.log_weight}

    def _walk(self) -> None:
        for _ in range(WALKS_WHERE_LED if self._finer else WALKS):
            self._at = walk(self._rng, self._at, self._densities, self._scale.factor)

    def _redraw(self) -> None:
        self._at = redraw(self._rng, self._at, self._densities, self._noise)

    def _trajectory(self, adapting: bool) -> dict[str, np.ndarray]:
        step = self._step.exploring if adapting else self._step.settled
        number = int(self._rng.integers(1, min(MOST_STEPS, math.ceil(PATH / step)), endpoint=True))
        start = State(self._at.points, *self._gradients(self._at.points))
        state, moved = trajectory(self._rng, start, self._gradients, self._scale, step, number)
        if adapting:
            self._step.adapt(float(moved.accept_prob.mean()))
        self._at = At(state.point, self._densities(state.point))
        return moved._asdict() | {"num_steps": np.full(len(state.point), number)}

    def _gradients(self, points):
        return tuple(np.asarray(part, np.float64) for part in self._evaluator.gradients(points, self._arguments))
