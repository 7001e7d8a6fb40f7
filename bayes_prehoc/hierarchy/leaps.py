r"""Leaps across the posterior of the hyperparameters, between trajectories.

A posterior can have more than one mode that gradients do not lead between: levels that differ because rates do, or
because shares do, for tasks that were observed far from c_0. A proposal q that is known before sampling starts, and
then left alone, leads there: an independent draw x' ~ q replaces x with probability

.. math:: \min(1, \frac{p(x') q(x)}{p(x) q(x')}) .

Since proposals do not depend on where a chain is, several are weighed at once, and cost one evaluation of the density
each.

Source: Tierney 1994 (independence Metropolis-Hastings and its mixtures with other kernels).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from bayes_prehoc.hierarchy.mixture import Mixture, draw, log_density

__all__ = ["LEAPS", "leap"]

LEAPS = 7
"""Proposals for each trajectory. With where a chain is they make eight densities."""


def leap(rng: np.random.Generator, points: Float[np.ndarray, "C Q"], log_p_of: Callable, proposal: Mixture):
    """`LEAPS` Metropolis-Hastings steps of each of C chains.

    Parameters
    ----------
    rng : Generator
    points : array (C, Q)
        The proposal is for their first P coordinates; the others stay.
    log_p_of : callable
        Log densities (N,) at points (N, Q).
    proposal : Mixture

    Returns
    -------
    points : array (C, Q)
        Where the chains are now.
    leapt : array (C,)
        Share of the proposals that were accepted.
    """
    chains, size = len(points), proposal.mean.shape[-1]
    offered = np.repeat(points[:, None], 1 + LEAPS, axis=1)
    offered[:, 1:, :size] = draw(rng, proposal, chains * LEAPS).reshape(chains, LEAPS, size)
    log_p = np.asarray(log_p_of(offered.reshape(-1, offered.shape[-1])), np.float64).reshape(chains, -1)
    log_weight = log_p - log_density(proposal, offered[..., :size])
    log_weight = np.where(np.isfinite(log_weight), log_weight, -np.inf)
    thresholds = np.log(rng.random((LEAPS, chains)))

    rows = np.arange(chains)
    at, accepted = np.zeros(chains, int), np.zeros(chains)
    for offer, threshold in enumerate(thresholds, start=1):
        taken = threshold + log_weight[rows, at] < log_weight[:, offer]
        at, accepted = np.where(taken, offer, at), accepted + taken
    return offered[rows, at], accepted / LEAPS
