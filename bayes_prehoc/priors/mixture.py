"""Mixtures of multivariate normals, made from draws: the density of a prior card.

    p(y) = sum_k w_k Normal(y; m_k, S_k)

Components are found by expectation maximisation with a conjugate penalty (after Fraley & Raftery 2007): to each
component's scatter come P + 2 draws with the covariance of all, which keeps it from collapsing. Their number, 1 to
`MOST`, is by Akaike's information criterion, since what is wanted is the density nearest to the posterior's in expected
log density, not the true number of clusters. Draws that hang together count as their effective number.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

__all__ = [
    "MOST",
    "Gaussians",
    "fit_gaussians",
    "log_density",
    "marginal",
    "marginal_cdf",
    "marginal_information",
    "moments",
    "sample",
]

MOST = 4
"""Components of a mixture."""
STARTS, ROUNDS, STEPS = 3, 10, 300
"""Starts of expectation maximisation, rounds of k-means that make one, and the most steps from it."""
ADDED = 2
"""Draws with the covariance of all that are added to each component, beside one per dimension."""
CONVERGED = 1e-3
"""Gain of the penalised log likelihood in a step, in nats, at which expectation maximisation ends."""


class Gaussians(NamedTuple):
    """C normals in P dimensions; float64, weights sum to one."""

    weight: Float[np.ndarray, " C"]
    mean: Float[np.ndarray, "C P"]
    covariance: Float[np.ndarray, "C P P"]


def fit_gaussians(draws: Float[np.ndarray, "S P"], effective: float | None = None, seed: int = 0) -> Gaussians:
    """A mixture that stands for draws.

    Parameters
    ----------
    draws : array (S, P)
        More than P + 1 of them that differ in every direction.
    effective : float, optional
        What they count as. Default: S.
    seed : int
        Of the starts of expectation maximisation.
    """
    draws = np.asarray(draws, np.float64)
    number, size = draws.shape
    each = (number if effective is None else min(effective, number)) / number
    center, covariance = draws.mean(axis=0), np.cov(draws.T).reshape(size, size)
    factor = np.linalg.cholesky(covariance)
    white = np.linalg.solve(factor, (draws - center).T).T
    standard = (draws - center) / np.sqrt(np.diag(covariance))
    rng = np.random.default_rng(seed)
    best = (np.inf, None)
    for count in range(1, MOST + 1):
        tries = [_maximise(rng, white, standard, each, count) for _ in range(1 if count == 1 else STARTS)]
        log_likelihood, _, fitted = max(tries, key=lambda found: found[1])
        parameters = count * (1 + size + size * (size + 1) // 2) - 1
        best = min(best, (2.0 * parameters - 2.0 * log_likelihood, fitted), key=lambda pair: pair[0])
    of = best[1]
    covariance = factor @ of.covariance @ factor.T
    covariance = 0.5 * (covariance + np.swapaxes(covariance, 1, 2))
    return Gaussians(of.weight, center + of.mean @ factor.T, covariance)


def log_density(of: Gaussians, y):
    """Log density at points (..., P), array (...).

    NumPy arrays are computed in float64; JAX arrays, traced ones too, by JAX in their own precision.
    """
    xp = jnp if isinstance(y, jax.Array) else np
    y = y if xp is jnp else np.asarray(y, np.float64)
    inverse, log_det = _whitening(of)
    size = of.mean.shape[1]
    constant = np.log(of.weight) - log_det - 0.5 * size * math.log(2.0 * math.pi)
    inverse, mean, constant = (xp.asarray(part, y.dtype) for part in (inverse, of.mean, constant))
    white = (y.reshape(1, -1, size) - mean[:, None]) @ inverse.swapaxes(1, 2)  # (C, N, P)
    terms = constant[:, None] - 0.5 * xp.sum(white**2, axis=2)
    most = xp.max(terms, axis=0, keepdims=True)
    return (most[0] + xp.log(xp.sum(xp.exp(terms - most), axis=0))).reshape(y.shape[:-1])


def sample(rng: np.random.Generator, of: Gaussians, number: int) -> Float[np.ndarray, "N P"]:
    """Independent draws."""
    which = rng.choice(len(of.weight), size=number, p=of.weight)
    draws = rng.normal(size=(number, of.mean.shape[1]))
    for component, factor in enumerate(np.linalg.cholesky(of.covariance)):
        own = which == component
        draws[own] = of.mean[component] + draws[own] @ factor.T
    return draws


def moments(of: Gaussians) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, "P P"]]:
    """Mean and covariance."""
    mean = of.weight @ of.mean
    off = of.mean - mean
    return mean, np.einsum("c,cij->ij", of.weight, of.covariance + off[:, :, None] * off[:, None, :])


def marginal(of: Gaussians, places) -> Gaussians:
    """The mixture of some coordinates alone, in the order of `places`."""
    places = np.asarray(places, int)
    return Gaussians(of.weight, of.mean[:, places], of.covariance[:, places[:, None], places])


def marginal_cdf(of: Gaussians, y: Float[np.ndarray, "S P"]) -> Float[np.ndarray, "S P"]:
    """Distribution function of each coordinate."""
    scale = np.sqrt(np.diagonal(of.covariance, axis1=1, axis2=2))
    return np.einsum("c,csp->sp", of.weight, ndtr((y - of.mean[:, None]) / scale[:, None]))


def marginal_information(of: Gaussians, y: Float[np.ndarray, "S P"]) -> Float[np.ndarray, "S P"]:
    """-d^2 log p(y_i) / dy_i^2 of the density of each coordinate alone."""
    variance = np.diagonal(of.covariance, axis1=1, axis2=2)[:, None]
    off = (y - of.mean[:, None]) / variance
    terms = np.log(of.weight)[:, None, None] - 0.5 * np.log(variance) - 0.5 * off**2 * variance
    share = np.exp(terms - np.logaddexp.reduce(terms, axis=0))
    score, curvature = -(share * off).sum(axis=0), (share * (off**2 - 1.0 / variance)).sum(axis=0)
    return score**2 - curvature


def _whitening(of):
    """Inverse Cholesky factors (C, P, P), and logarithms of the factors' determinants (C,)."""
    factor = np.linalg.cholesky(of.covariance)
    log_det = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    return np.linalg.solve(factor, np.broadcast_to(np.eye(factor.shape[1]), factor.shape)), log_det


def _maximise(rng, x, standard, each, count):
    """(log likelihood, the same penalised, mixture) of whitened draws x, each of which counts as `each`, from one
    start.

    `standard` are the draws with unit variance in every coordinate, where modes are as far apart as they are.
    """
    size = x.shape[1]
    if count == 1:
        found = Gaussians(np.ones(1), x.mean(axis=0)[None], np.cov(x.T, bias=True).reshape(1, size, size))
        log_likelihood = each * float(log_density(found, x).sum())
        return log_likelihood, log_likelihood, found
    share = each * (_nearest(standard, _centers(rng, standard, count)) == np.arange(count)[:, None])
    penalised = -np.inf
    for _ in range(STEPS):
        of = _of_shares(x, share)
        inverse, log_det = _whitening(of)
        white = np.einsum("cij,csj->csi", inverse, x - of.mean[:, None], optimize=True)
        terms = np.log(of.weight)[:, None] - log_det[:, None] - 0.5 * (white**2).sum(axis=2)
        terms -= 0.5 * size * math.log(2.0 * math.pi)
        total = np.logaddexp.reduce(terms, axis=0)
        log_likelihood = each * float(total.sum())
        penalty = (size + ADDED) * float(np.sum(log_det) + 0.5 * np.sum(inverse**2))
        before, penalised = penalised, log_likelihood - penalty
        if penalised - before < CONVERGED:
            break
        share = each * np.exp(terms - total)
    return log_likelihood, penalised, of


def _of_shares(x, share):
    """The mixture whose components hold these shares (C, S) of whitened draws."""
    size = x.shape[1]
    held = np.maximum(share.sum(axis=1), 1e-9)
    mean = share @ x / held[:, None]
    off = x - mean[:, None]
    scatter = np.einsum("cs,csi,csj->cij", share, off, off, optimize=True)
    added = size + ADDED
    return Gaussians(held / held.sum(), mean, (scatter + added * np.eye(size)) / (held + added)[:, None, None])


def _centers(rng, x, count):
    """Means of parts of the draws: k-means from a start as in k-means++."""
    centers = x[[rng.integers(len(x))]]
    while len(centers) < count:
        squares = ((x[:, None, :] - centers) ** 2).sum(axis=2).min(axis=1)
        centers = np.vstack([centers, x[rng.choice(len(x), p=squares / squares.sum())]])
    for _ in range(ROUNDS):
        own = _nearest(x, centers)
        centers = np.stack([x[own == c].mean(axis=0) if np.any(own == c) else centers[c] for c in range(count)])
    return centers


def _nearest(x, centers):
    return ((x[:, None, :] - centers) ** 2).sum(axis=2).argmin(axis=1)
