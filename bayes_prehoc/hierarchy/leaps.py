r"""Leaps across the posterior of the hyperparameters, and new values of the outcome sets' noise.

A posterior can have more than one mode that gradients do not lead between: levels that differ because rates do, or
because shares do, for tasks that were observed far from c_0. A proposal q that is known before sampling starts, and
then left alone, leads there: an independent draw x' ~ q replaces x with probability

.. math:: \min(1, \frac{p(x') q(x)}{p(x) q(x')}) .

Since proposals do not depend on where a chain is, several are weighed at once, and cost one evaluation of the density
each.

Given the hyperparameters the tasks are independent. So the noise of each task's outcome set is proposed by itself, from
a mixture of its prior and of what chains have seen of it, and one evaluation decides on the proposals of all tasks.

Source: Tierney 1994 (independence Metropolis-Hastings and its mixtures with other kernels).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

from bayes_prehoc.hierarchy.mixture import Mixture, draw, log_density

__all__ = ["LEAPS", "REDRAWS", "Leapt", "NoiseProposal", "leap", "redraw"]

LEAPS = 15
"""Proposals at a time. With where a chain is they make sixteen densities, two calls of a thread of a CPU."""
REDRAWS = 7
"""New noises that each task is offered at a time: one call of a thread, and few noises stay where they were."""
NOISE_WIDENING = 1.2
"""Standard deviation of the proposals of a noise over what chains have seen."""


class Leapt(NamedTuple):
    """What leaps did.

    Attributes
    ----------
    points : array (C, Q)
        Where the chains are now.
    accepted : array (C,)
        Share of the proposals that were accepted.
    log_weight : array (C, LEAPS)
        Log of density over proposal at each proposal; -inf where there is no density.
    """

    points: Float[np.ndarray, "C Q"]
    accepted: Float[np.ndarray, " C"]
    log_weight: Float[np.ndarray, "C N"]


def leap(rng: np.random.Generator, points: Float[np.ndarray, "C Q"], log_p_of: Callable, proposal: Mixture) -> Leapt:
    """`LEAPS` Metropolis-Hastings steps of each of C chains.

    Parameters
    ----------
    rng : Generator
    points : array (C, Q)
        The proposal is for their first P coordinates; the others stay.
    log_p_of : callable
        Log densities (N,) at points (N, Q).
    proposal : Mixture
    """
    chains, size = len(points), proposal.mean.shape[-1]
    offered = np.repeat(points[:, None], 1 + LEAPS, axis=1)
    offered[:, 1:, :size] = draw(rng, proposal, chains * LEAPS).reshape(chains, LEAPS, size)
    log_p = np.asarray(log_p_of(_flat(offered)), np.float64).reshape(chains, -1)
    log_weight = _or_nothing(log_p - log_density(proposal, offered[..., :size]))
    taken, accepted = _metropolis(rng, log_weight)
    return Leapt(offered[np.arange(chains), taken], accepted, log_weight[:, 1:])


class NoiseProposal(NamedTuple):
    """For each task's noise, as the standard normal value of its quantile under its prior.

    Half of the proposals are from the prior, which bounds how much the posterior can outweigh them; the others are
    normal around `center` with standard deviation `spread`.
    """

    center: Float[np.ndarray, " T"]
    spread: Float[np.ndarray, " T"]

    @classmethod
    def of_prior(cls, tasks: int) -> "NoiseProposal":
        """All proposals from the prior."""
        return cls(np.zeros(tasks), np.ones(tasks))

    @classmethod
    def of_draws(cls, white: Float[np.ndarray, "S T"]) -> "NoiseProposal":
        """Around what draws show."""
        return cls(white.mean(axis=0), NOISE_WIDENING * np.maximum(white.std(axis=0), 1e-3))

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
        """Independent draws, array `shape`, whose last axis is the tasks'."""
        standard = rng.normal(size=shape)
        return np.where(rng.random(shape) < 0.5, standard, self.center + self.spread * standard)

    def log_prior_over_proposal(self, white: Float[np.ndarray, "... T"]) -> Float[np.ndarray, "... T"]:
        """Log of the prior's density over that of the proposals."""
        prior = norm.logpdf(white)
        return prior - np.logaddexp(prior, norm.logpdf(white, self.center, self.spread)) + np.log(2.0)


def redraw(
    rng: np.random.Generator, points: Float[np.ndarray, "C Q"], by_task_of: Callable, proposal: NoiseProposal
) -> Float[np.ndarray, "C Q"]:
    """Where `REDRAWS` Metropolis-Hastings steps of each task's noise bring each of C chains.

    Parameters
    ----------
    rng : Generator
    points : array (C, Q)
        Their last T coordinates are the noises.
    by_task_of : callable
        Log of each task's factor of the density, (N, T), at points (N, Q).
    proposal : NoiseProposal
    """
    chains, tasks = len(points), len(proposal.center)
    offered = np.repeat(points[:, None], 1 + REDRAWS, axis=1)
    noise = offered[..., -tasks:]
    noise[:, 1:] = proposal.draw(rng, (chains, REDRAWS, tasks))
    by_task = np.asarray(by_task_of(_flat(offered)), np.float64).reshape(noise.shape)
    taken, _ = _metropolis(rng, _or_nothing(by_task + proposal.log_prior_over_proposal(noise)))
    chosen = np.take_along_axis(noise, taken[:, None], axis=1)[:, 0]
    return np.concatenate([points[:, :-tasks], chosen], axis=1)


def _flat(offered):
    return offered.reshape(-1, offered.shape[-1])


def _or_nothing(log_weight):
    return np.where(np.isfinite(log_weight), log_weight, -np.inf)


def _metropolis(rng, log_weight):
    """Which offer, of (C, 1 + N, ...), chains end at, and the share that was accepted, arrays (C, ...).

    The first offer is where they are. Weights are density over proposal.
    """
    thresholds = np.log(rng.random(log_weight[:, 1:].shape))
    held = log_weight[:, 0]
    taken, accepted = np.zeros(held.shape, int), np.zeros(held.shape)
    for offer in range(1, log_weight.shape[1]):
        moves = thresholds[:, offer - 1] + held < log_weight[:, offer]
        held, taken = np.where(moves, log_weight[:, offer], held), np.where(moves, offer, taken)
        accepted += moves
    return taken, accepted / thresholds.shape[1]
