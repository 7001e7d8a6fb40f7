"""Mixtures of multivariate t distributions, made from draws: what explores a posterior and leaps across it.

Source: Cappe et al. 2008 (mixtures of t in population Monte Carlo); components by expectation maximisation.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import gammaln

__all__ = ["Mixture", "covariance", "draw", "draw_bulk", "log_density", "mixture_of_draws"]

WIDENING = 1.15
"""Squared scale of the bulk over the covariance of the draws."""


class _Part(NamedTuple):
    """Of each component: its share, degrees of freedom, and squared scale over that of the bulk."""

    share: float
    freedom: float
    times: float


BULK, TAIL = _Part(0.9, 20.0, 1.0), _Part(0.1, 4.0, 1.75)
"""A t of few degrees of freedom wastes most draws in a dozen dimensions; a tenth of them is enough to be safe."""
MOST = 4
"""Components of the mixture."""
EM_STEPS = 60
CONVERGED = 0.5
"""Gain of log likelihood in a step at which expectation maximisation ends."""
SHRINKAGE = 8.0
"""Weight in draws, of a covariance that is the posterior's own scales without correlation."""


class Mixture(NamedTuple):
    """A mixture of C components in P dimensions: means, Cholesky factors of squared scales, weights that sum to one.

    Each component is two multivariate t distributions of one centre and shape, `BULK` and `TAIL`.
    """

    mean: Float[np.ndarray, "C P"]
    factor: Float[np.ndarray, "C P P"]
    weight: Float[np.ndarray, " C"]


def mixture_of_draws(
    x: Float[np.ndarray, "S P"],
    weight: Float[np.ndarray, " S"] | None = None,
    effective: float | None = None,
) -> Mixture:
    """Components by expectation maximisation; how many, up to `MOST`, by Akaike's information criterion.

    Draws may carry weights that sum to one; they then count as their effective number, by default 1 / sum w^2.
    """
    weight = np.full(len(x), 1.0 / len(x)) if weight is None else weight
    effective = effective or 1.0 / np.sum(weight**2)
    center = weight @ x
    spread = np.maximum(np.sqrt(weight @ (x - center) ** 2), 1e-6)
    size = x.shape[1]
    best = (np.inf, None)
    for count in range(1, MOST + 1):
        fitted, log_likelihood = _maximise((x - center) / spread, effective * weight, count)
        parameters = count * (1 + size + size * (size + 1) / 2)
        best = min(best, (2.0 * parameters - 2.0 * log_likelihood, fitted), key=lambda pair: pair[0])
    mean, covariance, share = best[1]
    return Mixture(center + spread * mean, np.linalg.cholesky(WIDENING * covariance) * spread[:, None], share)


def _maximise(x, number, count):
    """(means, covariances, weights) of a Gaussian mixture and its log likelihood, from one start.

    `number` is how many draws each row of x stands for.
    """
    rng = np.random.default_rng(0)
    size = x.shape[1]
    centers = x[[int(rng.choice(len(x), p=number / number.sum()))]]
    while len(centers) < count:
        # The next centre where draws are far from all others, as in k-means++.
        squares = number * ((x[:, None, :] - centers[None]) ** 2).sum(-1).min(axis=1)
        if not squares.sum() > 0.0:
            squares = number
        centers = np.vstack([centers, x[rng.choice(len(x), p=squares / squares.sum())]])
    mean, covariance = centers, np.tile(np.eye(size) / count, (count, 1, 1))
    weight = np.full(count, 1.0 / count)
    log_likelihood = -np.inf
    for _ in range(EM_STEPS):
        factor = np.linalg.cholesky(covariance)
        off = np.linalg.inv(factor) @ np.swapaxes(x[None] - mean[:, None], 1, 2)
        log_det = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
        terms = np.log(weight)[:, None] - log_det[:, None] - 0.5 * (off**2).sum(axis=1) - 0.5 * size * np.log(2 * np.pi)
        total = np.logaddexp.reduce(terms, axis=0)
        before, log_likelihood = log_likelihood, float(number @ total)
        if log_likelihood - before < CONVERGED:
            break
        share = number * np.exp(terms - total)
        held = share.sum(axis=1)
        weight = (held + 1.0) / (held + 1.0).sum()
        mean = share @ x / np.maximum(held, 1e-9)[:, None]
        off = x[None] - mean[:, None]
        scatter = np.swapaxes(share[..., None] * off, 1, 2) @ off
        covariance = (scatter + SHRINKAGE * np.eye(size)) / (held + SHRINKAGE)[:, None, None]
    return (mean, covariance, weight), log_likelihood


def draw(rng: np.random.Generator, of: Mixture, number: int) -> Float[np.ndarray, "N P"]:
    """Independent draws."""
    tail = rng.random((number, 1)) < TAIL.share
    freedom = np.where(tail, TAIL.freedom, BULK.freedom)
    scale = np.sqrt(np.where(tail, TAIL.times, BULK.times) * freedom / rng.chisquare(freedom))
    return _drawn(rng, of, scale)


def draw_bulk(rng: np.random.Generator, of: Mixture, number: int) -> Float[np.ndarray, "N P"]:
    """Independent draws of normals with the components' covariances."""
    return _drawn(rng, of, np.full((number, 1), 1.0 / np.sqrt(WIDENING)))


def _drawn(rng, of, scale):
    which = rng.choice(len(of.weight), size=len(scale), p=of.weight)
    normal = rng.normal(size=(len(scale), of.mean.shape[1]))
    return of.mean[which] + scale * np.einsum("nij,nj->ni", of.factor[which], normal)


def covariance(of: Mixture) -> Float[np.ndarray, "P P"]:
    """Of the draws that it was made of."""
    off = of.mean - of.weight @ of.mean
    within = np.einsum("c,cij,ckj->ik", of.weight, of.factor, of.factor) / WIDENING
    return within + np.einsum("c,ci,cj->ij", of.weight, off, off)


def log_density(of: Mixture, x: Float[np.ndarray, "... P"]) -> Float[np.ndarray, "..."]:
    """Log density there."""
    size = x.shape[-1]
    off = x.reshape(-1, size) - of.mean[:, None]  # (C, N, P)
    square = np.sum((np.linalg.inv(of.factor) @ np.swapaxes(off, 1, 2)) ** 2, axis=1)
    log_det = np.log(np.diagonal(of.factor, axis1=1, axis2=2)).sum(axis=1)
    terms = np.logaddexp(*(_log_t(square, size, part) for part in (BULK, TAIL)))
    terms += (np.log(of.weight) - log_det)[:, None]
    return np.logaddexp.reduce(terms, axis=0).reshape(x.shape[:-1])


def _log_t(square, size, part: _Part):
    """Log of the share times the density at squared distances in units of the bulk's scale."""
    freedom, times = part.freedom, part.times
    constant = gammaln((freedom + size) / 2) - gammaln(freedom / 2) - 0.5 * size * np.log(freedom * times * np.pi)
    return np.log(part.share) + constant - 0.5 * (freedom + size) * np.log1p(square / (times * freedom))
