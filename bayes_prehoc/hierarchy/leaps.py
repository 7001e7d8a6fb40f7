r"""Leaps across the posterior of the hyperparameters, and new values of the outcome sets' noise.

A posterior can have more than one mode that gradients do not lead between: levels that differ because rates do, or
because shares do, for tasks that were observed far from c_0. A proposal q that is known before sampling starts, and
then left alone, leads there: an independent draw x' ~ q replaces x with probability

.. math:: \min(1, \frac{p(x') q(x)}{p(x) q(x')}) .

Since proposals do not depend on where a chain is, several are weighed at once, and cost one evaluation of the density
each.

Where the proposal is too thin a chain that has come there stays for long. A few steps of a random walk after the leaps
bring it away.

Given the hyperparameters the tasks are independent. So the noise of each task's outcome set is proposed by itself, from
a mixture of its prior and of what chains have seen of it, and one evaluation decides on the proposals of all tasks.

Source: Tierney 1994 (independence Metropolis-Hastings and its mixtures with other kernels).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

from bayes_prehoc.hierarchy.proposal import Proposal
from bayes_prehoc.hierarchy.target import Density

__all__ = ["LEAPS", "REDRAWS", "At", "Leapt", "NoiseProposal", "chosen", "enough_leaps", "leap", "redraw", "walk"]

LEAPS = 4, 8
"""Proposals at a time, at least and at most."""
LEFT_BEHIND = 0.05
"""Probability with which a chain stays where it is, that is as good as none."""
STRIDE = 2.0
"""Length of the steps of a walk in P dimensions, over the root of P: near what mixes fastest (Roberts et al. 1997)."""
REDRAWS = 7
"""New noises that each task is offered at a time: few noises stay where they were."""
NOISE_WIDENING = 1.2
"""Standard deviation of the proposals of a noise over what chains have seen."""


class At(NamedTuple):
    """Points (C, Q) where chains are, and the densities there."""

    points: Float[np.ndarray, "C Q"]
    density: Density


class Leapt(NamedTuple):
    """What leaps did.

    Attributes
    ----------
    at : At
        Where the chains are now.
    accepted : array (C,)
        Share of the proposals that were accepted.
    log_weight : array (C, N)
        Log of density over proposal at each proposal; -inf where there is no density.
    """

    at: At
    accepted: Float[np.ndarray, " C"]
    log_weight: Float[np.ndarray, "C N"]


def leap(rng: np.random.Generator, at: At, densities: Callable, proposal: Proposal, number: int = LEAPS[1]) -> Leapt:
    """So many Metropolis-Hastings steps of each of C chains.

    Parameters
    ----------
    rng : Generator
    at : At
        The proposal is for the first P coordinates of the points; the others stay.
    densities : callable
        `Density` at points (N, Q).
    proposal : Proposal
    number : int
    """
    chains, size = len(at.points), proposal.size
    offered = np.repeat(at.points[:, None], number, axis=1)
    offered[..., :size] = proposal.draw(rng, chains * number).reshape(chains, number, size)
    there = Density(*(part.reshape(chains, number, *part.shape[1:]) for part in densities(_flat(offered))))
    log_weight = _or_nothing(there.total - proposal.log_density(offered[..., :size]))
    held = _or_nothing(at.density.total - proposal.log_density(at.points[:, :size]))
    taken, accepted = _metropolis(rng, held, log_weight)
    rows = np.arange(chains)
    new = At(offered[rows, taken], Density(*(part[rows, taken] for part in there)))
    return Leapt(chosen(taken >= 0, new, at), accepted, log_weight)


def enough_leaps(accepted: float) -> int:
    """How many leaps leave next to no chain where it was, if that share of them is accepted."""
    needed = np.log(LEFT_BEHIND) / np.log1p(-np.clip(accepted, 1e-9, 1.0 - 1e-9))
    return int(np.clip(np.ceil(needed), *LEAPS))


def walk(rng: np.random.Generator, at: At, densities: Callable, factor: Float[np.ndarray, "P P"]) -> At:
    """A random-walk Metropolis step of each of C chains, by a normal with `STRIDE` times this Cholesky factor."""
    size = len(factor)
    points = at.points.copy()
    points[:, :size] += STRIDE / np.sqrt(size) * rng.normal(size=(len(points), size)) @ factor.T
    new = At(points, densities(points))
    with np.errstate(invalid="ignore"):  # from outside to outside
        taken = np.log(rng.random(len(points))) < new.density.total - at.density.total
    return chosen(taken, new, at)


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


def redraw(rng: np.random.Generator, at: At, densities: Callable, proposal: NoiseProposal) -> At:
    """Where `REDRAWS` Metropolis-Hastings steps of each task's noise bring each of C chains.

    The last T coordinates of the points are the noises; `densities` and the rest are as for `leap`.
    """
    chains, tasks = len(at.points), len(proposal.center)
    offered = np.repeat(at.points[:, None], REDRAWS, axis=1)
    noise, before = offered[..., -tasks:], at.points[:, -tasks:]
    noise[...] = proposal.draw(rng, (chains, REDRAWS, tasks))
    by_task = densities(_flat(offered)).by_task.reshape(noise.shape)
    held = _or_nothing(at.density.by_task + proposal.log_prior_over_proposal(before))
    taken, _ = _metropolis(rng, held, _or_nothing(by_task + proposal.log_prior_over_proposal(noise)))

    def ended(new, old):
        return np.where(taken >= 0, np.take_along_axis(new, np.maximum(taken, 0)[:, None], axis=1)[:, 0], old)

    after = ended(noise, before)
    log_prior = at.density.log_prior + 0.5 * np.sum(before**2 - after**2, axis=1)
    points = np.concatenate([at.points[:, :-tasks], after], axis=1)
    return At(points, Density(log_prior, ended(by_task, at.density.by_task)))


def chosen(which, new: At, old: At) -> At:
    """The chains `which` (C,) at the new place, the others at the old."""

    def own(there, here):
        return np.where(which.reshape(-1, *[1] * (here.ndim - 1)), there, here)

    return At(own(new.points, old.points), Density(*map(own, new.density, old.density)))


def _flat(offered):
    return offered.reshape(-1, offered.shape[-1])


def _or_nothing(log_weight):
    return np.where(np.isfinite(log_weight), log_weight, -np.inf)


def _metropolis(rng, held, log_weight):
    """Which offer, of (C, N, ...), chains end at, -1 for none, and the share that was accepted, arrays (C, ...).

    Weights are density over proposal; `held` (C, ...) is that of where chains are.
    """
    thresholds = np.log(rng.random(log_weight.shape))
    taken, accepted = np.full(held.shape, -1), np.zeros(held.shape)
    for offer in range(log_weight.shape[1]):
        moves = thresholds[:, offer] + held < log_weight[:, offer]
        held, taken = np.where(moves, log_weight[:, offer], held), np.where(moves, offer, taken)
        accepted += moves
    return taken, accepted / log_weight.shape[1]
