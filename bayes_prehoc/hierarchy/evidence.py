r"""The evidence of the data under a prior, by bridge sampling.

The evidence Z is the integral of prior times likelihood over the hyperparameters, which is what `target` gives up to
nothing: its priors are normalised. With draws x of the posterior and draws y of a proposal g that is normalised and
close to it,

.. math:: Z = \frac{E_g[p(y) / (s_1 p(y) + s_2 Z g(y))]}{E_{p/Z}[g(x) / (s_1 p(x) + s_2 Z g(x))]} ,

which is solved by iteration; s_1 and s_2 are the shares of the two samples, of the first by its effective number. Of
all bridges this one has the least error. Neither tail of p or g beyond the other does harm, where importance sampling
would need g to be the wider one and the harmonic mean the narrower.

The proposal (`proposal`) is made of one half of each chain and used with the other, then the other way round.

Outcome sets' noise, one number for each task that has any, is integrated out by quadrature before: a bridge over
thousands of dimensions would be a poor one.

Sources: Meng & Wong 1996; Gronau et al. 2017 (iteration, effective numbers, halves); Fruhwirth-Schnatter 2004 (error).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats
from jaxtyping import Float
from scipy.special import logsumexp
from scipy.stats import norm

from bayes_prehoc.hierarchy.evaluator import Evaluator
from bayes_prehoc.hierarchy.leaps import NoiseProposal
from bayes_prehoc.hierarchy.precision import quadrature_errors
from bayes_prehoc.hierarchy.proposal import proposal_of_draws
from bayes_prehoc.hierarchy.target import Arguments

__all__ = ["Evidence", "bridge", "evidence_at"]

MOST_DRAWS = 600
"""Draws of a half that the bridge stands on, and of its proposal."""
STEPS, CONVERGED = 500, 1e-9
"""Iterations, and the change of log Z at which they end."""
NOISE_NODES = 7
JUDGED = 60
"""Draws at which the error of quadrature over the tasks' latents is computed."""
_ALONG = {"chain_axis": 0, "draw_axis": 1}


class Evidence(NamedTuple):
    """Logarithm of the evidence, and its standard error, which is the relative error of the evidence itself."""

    log_z: float
    error: float


def bridge(rng: np.random.Generator, draws: Float[np.ndarray, "C S P"], log_p: Callable) -> Evidence:
    """Evidence of a density from draws of it.

    Parameters
    ----------
    rng : Generator
    draws : array (C, S, P)
        C chains of the posterior.
    log_p : callable
        Log of prior times likelihood (N,) at points (N, P); one that is not finite counts as no density.

    Returns
    -------
    Evidence
        NaN with an infinite error where no proposal meets the density.
    """
    middle = draws.shape[1] // 2
    halves = draws[:, :middle], draws[:, middle:]
    found = [_bridge(rng, *pair, log_p) for pair in (halves, halves[::-1])]
    log_z, error = (np.array(part) for part in zip(*found, strict=True))
    return Evidence(float(log_z.mean()), float(np.sqrt(np.sum(error**2)) / 2.0))


def evidence_at(
    rng: np.random.Generator, evaluator: Evaluator, arguments: Arguments, points: Float[np.ndarray, "C S Q"], size: int
) -> Evidence:
    """Evidence of the estimates under the evaluator's prior.

    Parameters
    ----------
    rng : Generator
    evaluator : Evaluator
    arguments : Arguments
        The tasks with points of quadrature in place.
    points : array (C, S, Q)
        Draws of the posterior, of which the first `size` coordinates are hyperparameters and the others noises.

    Returns
    -------
    Evidence
        By the finest rule of quadrature: what the rule at hand is off by is told by some of the draws.
    """
    flat = points.reshape(-1, points.shape[-1])
    nodes, log_weight = _noise_nodes(flat[:, size:])

    def log_p(x):
        if not nodes.shape[1]:
            return evaluator.densities(x, arguments).total
        at = np.concatenate([np.tile(x, (len(nodes), 1)), np.repeat(nodes, len(x), axis=0)], axis=1)
        found = evaluator.densities(at, arguments)
        by_task = found.by_task.reshape(len(nodes), len(x), -1) + log_weight[:, None]
        of_noise = norm.logpdf(at[: len(x), size:]).sum(axis=1)
        return found.log_prior[: len(x)] - of_noise + logsumexp(by_task, axis=0).sum(axis=1)

    found = bridge(rng, points[..., :size], log_p)
    some = flat[np.linspace(0, len(flat) - 1, min(JUDGED, len(flat))).astype(int)]
    # Z by the finest rule over Z by this one is the posterior mean of the ratio of the likelihoods.
    off = -quadrature_errors(evaluator, some, arguments).sum(axis=1)
    ratio = np.exp(off - off.max())
    mean = ratio.mean()
    error = ratio.std() / mean / np.sqrt(len(off))
    return Evidence(found.log_z + float(off.max() + np.log(mean)), float(np.hypot(found.error, error)))


def _noise_nodes(noise):
    """Gauss-Hermite nodes (K, T) where the noises lie, and log weights (K, T) of a standard normal there."""
    at = NoiseProposal.of_draws(noise) if noise.shape[1] else NoiseProposal.of_prior(0)
    standard, weight = np.polynomial.hermite_e.hermegauss(NOISE_NODES)
    nodes = at.center + at.spread * standard[:, None]
    log_weight = np.log(weight / weight.sum())[:, None] + norm.logpdf(nodes) - norm.logpdf(nodes, at.center, at.spread)
    return nodes, log_weight


def _bridge(rng, learned, used, log_p):
    """(log Z, its error) with a proposal made of the draws `learned`, by those `used`, arrays (C, S, P)."""
    proposal = proposal_of_draws(learned.reshape(-1, learned.shape[-1]))
    stride = -(-used.shape[0] * used.shape[1] // MOST_DRAWS)
    used = used[:, ::stride]
    posterior = used.reshape(-1, used.shape[-1])
    proposed = proposal.draw(rng, len(posterior))

    def log_ratio(x):
        found = np.asarray(log_p(x), np.float64) - proposal.log_density(x)
        return np.where(np.isfinite(found), found, -np.inf)

    at, there = log_ratio(posterior), log_ratio(proposed)
    if not (np.isfinite(at).all() and np.isfinite(there).any()):
        return np.nan, np.inf
    # Effective draws of what is averaged over them, at a first guess of Z.
    log_z = float(np.median(at))
    effective = _effective(-np.logaddexp(at, log_z), used.shape[:2])
    shares = np.log([effective, len(proposed)]) - np.log(effective + len(proposed))

    def terms(log_z):
        bottom = [np.logaddexp(shares[0] + ratio, shares[1] + log_z) for ratio in (there, at)]
        return there - bottom[0], -bottom[1]

    for _ in range(STEPS):
        top, bottom = terms(log_z)
        before, log_z = log_z, float(_log_mean(top) - _log_mean(bottom))
        if abs(log_z - before) < CONVERGED:
            break
    top, bottom = terms(log_z)
    effective = _effective(bottom, used.shape[:2])
    return log_z, np.sqrt(_relative_variance(top) / len(top) + _relative_variance(bottom) / effective)


def _log_mean(logs):
    return logsumexp(logs) - np.log(len(logs))


def _relative_variance(logs):
    values = np.exp(logs - logs.max())
    return values.var() / values.mean() ** 2


def _effective(logs, shape):
    """Effective number of draws of what has these logarithms, (C S,)."""
    values = np.exp(logs - logs.max()).reshape(shape)
    if np.ptp(values) == 0.0:
        return float(values.size)
    found = float(array_stats.ess(values, method="mean", **_ALONG))
    return min(found, float(values.size)) if found > 0.0 else 1.0
