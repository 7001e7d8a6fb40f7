r"""Several projects' cards as one prior for a new project: a meta-analysis with heterogeneity between projects.

In coordinates in which the weak prior is standard normal, project k has hyperparameters theta_k, and a new one
theta_new,

    theta_k, theta_new ~ Normal(mu, diag(h^2)),   mu ~ Normal(0, I),   h_j ~ half-normal(1/2) .

Half of the weak prior's width is a large difference between projects, and none is the likeliest (Neuenschwander et al.
2010; Roever et al. 2021). What project k's data say of theta_k is its card over the weak prior that is in it, taken as
normal by its first two moments: of precision Lambda_k = S_k^-1 - I and S_k^-1 m_k. Where a card knows less than the
weak prior, in any direction, it says nothing. A coordinate that a card lacks (another kind of metric) is one of which
it says nothing.

With theta_k and mu integrated out there is a closed form for the density of h, which elliptical slices sample (Murray,
Adams & MacKay 2010) from coordinates of h that are standard normal; mu and theta_new are drawn exactly. The draws of
theta_new make the new card's mixture.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats
from jaxtyping import Float, Int
from scipy import special

from bayes_prehoc.errors import InputError

__all__ = ["HETEROGENEITY", "Evidence", "Predictive", "evidence_of", "predictive"]

HETEROGENEITY = 0.5
"""Scale of the half-normal prior of h, in standard deviations of the weak prior."""
LEAST_VARIANCE = 1e-8
"""Of a posterior, in those of the weak prior: that something is known better makes no difference here."""
CHAINS, WARM_UP, DRAWS = 4, 250, 500
LONGEST = 12
"""Times that `DRAWS` may be appended until chains agree."""
R_HAT, ESS = 1.01, 400.0


class Evidence(NamedTuple):
    """What K projects' data say of their hyperparameters: exp(-theta' precision theta / 2 + linear' theta)."""

    precision: Float[np.ndarray, "K P P"]
    linear: Float[np.ndarray, "K P"]


class Predictive(NamedTuple):
    """Draws for a new project, in the coordinates of the equation above.

    Attributes
    ----------
    theta : array (S, P)
    heterogeneity : array (S, P)
        h.
    r_hat, ess : float
        The worst over h.
    """

    theta: Float[np.ndarray, "S P"]
    heterogeneity: Float[np.ndarray, "S P"]
    r_hat: float
    ess: float


def evidence_of(
    means: Sequence[Float[np.ndarray, " _"]],
    covariances: Sequence[Float[np.ndarray, "_ _"]],
    places: Sequence[Int[np.ndarray, " _"]],
    size: int,
) -> Evidence:
    """What is left of posteriors once the weak prior Normal(0, I) is taken out of each.

    `places` says which of the `size` coordinates those of each posterior are.
    """
    precision, linear = np.zeros((len(means), size, size)), np.zeros((len(means), size))
    for k, (mean, covariance, at) in enumerate(zip(means, covariances, places, strict=True)):
        variance, directions = np.linalg.eigh(covariance)
        told = variance < 1.0
        directions, variance = directions[:, told], np.maximum(variance[told], LEAST_VARIANCE)
        precision[k][np.ix_(at, at)] = (directions * (1.0 / variance - 1.0)) @ directions.T
        linear[k, at] = (directions / variance) @ (directions.T @ mean)
    return Evidence(precision, linear)


def predictive(rng: np.random.Generator, evidence: Evidence) -> Predictive:
    """Hyperparameters of a new project.

    Raises
    ------
    InputError
        The chains did not come to agree.
    """
    size = evidence.linear.shape[1]
    u = rng.normal(size=(CHAINS, size))
    log_likelihood = _marginal(_half_normal(u), evidence)[0]
    for _ in range(WARM_UP):
        u, log_likelihood = _slice(rng, u, log_likelihood, evidence)
    kept = []
    for _ in range(LONGEST):
        for _ in range(DRAWS):
            u, log_likelihood = _slice(rng, u, log_likelihood, evidence)
            kept.append(u)
        chains = np.stack(kept, axis=1)
        along = {"chain_axis": 0, "draw_axis": 1}
        r_hat = float(np.max(array_stats.rhat(chains, method="rank", **along)))
        ess = float(np.min(array_stats.ess(chains, method="bulk", **along)))
        if r_hat <= R_HAT and ess >= ESS:
            break
    else:
        raise InputError(
            f"the chains of the heterogeneity do not agree (R-hat {r_hat:.3g}, {ess:.0f} effective draws)",
            "combine",
            "Combine fewer cards, or with another seed.",
        )
    h = _half_normal(chains.reshape(-1, size))
    _, precision, linear = _marginal(h, evidence)
    factor = np.linalg.cholesky(precision)
    mean = np.linalg.solve(precision, linear[..., None])[..., 0]
    fresh, apart = rng.normal(size=(2, *h.shape))
    mu = mean + np.linalg.solve(np.swapaxes(factor, 1, 2), fresh[..., None])[..., 0]
    return Predictive(mu + h * apart, h, r_hat, ess)


def _half_normal(u):
    """h of a standard normal u."""
    # The quantile of a half-normal at Phi(u) is the normal's at (1 + Phi(u)) / 2.
    return HETEROGENEITY * np.where(
        u < 0.0,
        np.sqrt(2.0) * special.erfinv(special.ndtr(np.minimum(u, 0.0))),
        np.sqrt(2.0) * special.erfcinv(special.ndtr(-u)),
    )


def _marginal(h, evidence):
    """Log likelihood (N,) of h (N, P) with theta_k and mu integrated out, and the precision (N, P, P) and linear term
    (N, P) of mu given h.

    With theta = mu + h z and A = I + h Lambda h, a project's z integrates to
    |A|^-1/2 exp(b' A^-1 b / 2) where b = h (linear - Lambda mu).
    """
    size = h.shape[1]
    scaled = h[:, None, :, None] * evidence.precision  # h Lambda, (N, K, P, P)
    factor = np.linalg.cholesky(np.eye(size) + scaled * h[:, None, None, :])
    both = np.concatenate([scaled, (h[:, None] * evidence.linear)[..., None]], axis=-1)
    solved = np.linalg.solve(factor, both)
    matrix, vector = solved[..., :-1], solved[..., -1]
    precision = np.eye(size) + (evidence.precision - np.swapaxes(matrix, 2, 3) @ matrix).sum(axis=1)
    linear = (evidence.linear - np.einsum("nkij,nki->nkj", matrix, vector)).sum(axis=1)
    found = 0.5 * np.sum(vector**2, axis=(1, 2)) - _log_det(factor).sum(axis=1)
    outer = np.linalg.cholesky(precision)
    white = np.linalg.solve(outer, linear[..., None])[..., 0]
    return found + 0.5 * np.sum(white**2, axis=1) - _log_det(outer), precision, linear


def _log_det(factor):
    return np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)


def _slice(rng, u, log_likelihood, evidence):
    """One elliptical slice of each chain; positions (C, P) with their log likelihoods (C,)."""
    fresh, level = rng.normal(size=u.shape), log_likelihood + np.log(rng.random(len(u)))
    angle = rng.uniform(0.0, 2.0 * np.pi, len(u))
    low, high = angle - 2.0 * np.pi, angle.copy()
    moved, found = u.copy(), log_likelihood.copy()
    left = np.arange(len(u))
    while len(left):
        turn = angle[left, None]
        offered = u[left] * np.cos(turn) + fresh[left] * np.sin(turn)
        values = _marginal(_half_normal(offered), evidence)[0]
        taken = values > level[left]
        moved[left[taken]], found[left[taken]] = offered[taken], values[taken]
        left = left[~taken]
        negative = angle[left] < 0.0
        low[left] = np.where(negative, angle[left], low[left])
        high[left] = np.where(negative, high[left], angle[left])
        angle[left] = rng.uniform(low[left], high[left])
    return moved, found
