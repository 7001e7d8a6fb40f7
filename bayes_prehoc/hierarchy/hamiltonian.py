"""Hamiltonian Monte Carlo of several chains in step.

All chains take as many leapfrog steps, a number drawn afresh for each trajectory, of a size that is adapted to the
acceptance of all together. So a trajectory is a few calls of one compiled gradient at one point per chain, in threads
or as a batch, whatever the number of chains.

Sources: Neal 2011 (trajectories of random length), Hoffman and Gelman 2014, section 3.2 (dual averaging).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

__all__ = ["Moved", "Scale", "State", "StepSize", "trajectory"]

DIVERGED = 1000.0
"""Error of the energy, in nats, beyond which a trajectory has diverged; NUTS's usual."""


class State(NamedTuple):
    """Points (C, Q) of C chains, log densities (C,) there and their slopes (C, Q)."""

    point: Float[np.ndarray, "C Q"]
    log_p: Float[np.ndarray, " C"]
    slope: Float[np.ndarray, "C Q"]


class Moved(NamedTuple):
    """How a trajectory went: arrays (C,)."""

    accept_prob: np.ndarray
    diverging: np.ndarray
    energy: np.ndarray


class Scale(NamedTuple):
    """Coordinates in which the posterior is about standard: its Cholesky factor for the first P, the rest as they are.

    The factor times its transpose is the inverse of the mass matrix.
    """

    factor: Float[np.ndarray, "P P"]

    def out(self, white: Float[np.ndarray, "C Q"]) -> Float[np.ndarray, "C Q"]:
        """Steps of a point for steps in these coordinates."""
        return self._times(white, self.factor.T)

    def into(self, slope: Float[np.ndarray, "C Q"]) -> Float[np.ndarray, "C Q"]:
        """Slopes in these coordinates."""
        return self._times(slope, self.factor)

    def _times(self, rows, matrix):
        size = len(matrix)
        return np.concatenate([rows[:, :size] @ matrix, rows[:, size:]], axis=1)


def trajectory(
    rng: np.random.Generator, state: State, gradients: Callable, scale: Scale, step: float, number: int
) -> tuple[State, Moved]:
    """One transition of each chain.

    Parameters
    ----------
    rng : Generator
    state : State
    gradients : callable
        Log densities (C,) and slopes (C, Q) at points (C, Q).
    scale : Scale
    step : float
    number : int
        Leapfrog steps.
    """
    momentum = rng.normal(size=state.point.shape)
    point, (log_p, slope) = state.point, _supported(state.log_p, state.slope)
    before = 0.5 * np.sum(momentum**2, axis=1) - log_p
    for _ in range(number):
        momentum = momentum + 0.5 * step * scale.into(slope)
        point = point + step * scale.out(momentum)
        # A chain that left the support goes on straight and is rejected; one that comes in from outside is not.
        log_p, slope = _supported(*gradients(point))
        momentum = momentum + 0.5 * step * scale.into(slope)
    after = 0.5 * np.sum(momentum**2, axis=1) - log_p
    with np.errstate(invalid="ignore"):  # from outside to outside
        accept_prob = np.where(after < np.inf, np.exp(np.minimum(before - after, 0.0)), 0.0)
    taken = rng.random(len(point)) < accept_prob

    def chosen(new, old):
        return np.where(taken.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    with np.errstate(invalid="ignore"):
        moved = Moved(accept_prob, ~(after - before <= DIVERGED), np.where(taken, after, before))
    return State(*map(chosen, (point, log_p, slope), state)), moved


def _supported(log_p, slope):
    """Log densities and slopes, of no density and level where they are not numbers."""
    log_p, slope = np.asarray(log_p, np.float64), np.asarray(slope, np.float64)
    lost = ~(np.isfinite(log_p) & np.isfinite(slope).all(axis=1))
    return np.where(lost, -np.inf, log_p), np.where(lost[:, None], 0.0, slope)


class StepSize:
    """A step size under adaptation, by dual averaging towards an acceptance.

    Attributes
    ----------
    exploring : float
        While adapting.
    settled : float
        The average that is used afterwards.
    """

    def __init__(self, first: float, target_accept: float):
        self.target = target_accept
        self.center = np.log(10.0 * first)
        self.count, self.error = 0, 0.0
        self.log_step, self.log_average = np.log(first), 0.0

    def adapt(self, accept_prob: float) -> None:
        """Take in the mean acceptance of one trajectory."""
        self.count += 1
        fresh = 1.0 / (self.count + 10)
        self.error += fresh * (self.target - accept_prob - self.error)
        self.log_step = self.center - 20.0 * np.sqrt(self.count) * self.error
        share = self.count**-0.75
        self.log_average += share * (self.log_step - self.log_average)

    @property
    def exploring(self) -> float:
        return float(np.exp(self.log_step))

    @property
    def settled(self) -> float:
        return float(np.exp(self.log_average)) if self.count else self.exploring
