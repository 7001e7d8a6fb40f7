r"""What cards say of a new project: a meta-analysis with heterogeneity between projects.

In coordinates in which the weak prior is standard normal, project k has hyperparameters theta_k, and a new one
theta_new,

    theta_k = (mu + h z_k) / sqrt(1 + h^2),   mu, z_k ~ Normal(0, I),   h_j ~ half-Cauchy(1/4) ,

each operation coordinate by coordinate. So every project by itself has the weak prior, under which cards are fitted,
and any two correlate by 1 / (1 + h^2) in each coordinate. That projects do not differ is the likeliest; half of the
weak prior's width is a large difference, with seven tenths of the probability below it, as under the half-normal(1/2)
that is usual (Neuenschwander et al. 2010; Roever et al. 2021). The tail is heavier (Gelman 2006), because projects may
have nothing in common in one respect: under h above 2, of probability .08, a coordinate is the weak prior's but for a
correlation of .2.

Of one project (`of_new_project`) the data say nothing of h, and theta_new given theta_1 and h is normal, so a card
that is a mixture of normals makes another one for a new project, over many values of h, each coordinate's its own.
Where data contradict a card in one coordinate, the components in which that one differs gain, and the others stay.

Of several (`predictive`), what project k's data say of theta_k is its card over the weak prior that is in it, taken as
normal by its first two moments: of precision Lambda_k = S_k^-1 - I and S_k^-1 m_k. Where a card knows less than the
weak prior, in any direction, it says nothing. A coordinate that a card lacks (another kind of metric) is one of which
it says nothing. With theta_k and mu integrated out there is a closed form for the density of h, which elliptical
slices sample (Murray, Adams & MacKay 2010) from coordinates of h that are standard normal; mu and theta_new are drawn
exactly. The draws of theta_new make the new card's mixture.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats
from jaxtyping import Float, Int
from scipy import special

from bayes_prehoc.errors import InputError
from bayes_prehoc.priors.mixture import Gaussians

__all__ = ["HETEROGENEITY", "Evidence", "Predictive", "evidence_of", "of_new_project", "predictive"]

HETEROGENEITY = 0.25
"""Scale of the half-Cauchy prior of h."""
VALUES = 64
"""Of h, that stand for its prior: as many quantiles of each coordinate, in an order of its own."""
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
        Standard deviation of projects around what they have in common, h / sqrt(1 + h^2).
    r_hat, ess : float
        The worst over h.
    """

    theta: Float[np.ndarray, "S P"]
    heterogeneity: Float[np.ndarray, "S P"]
    r_hat: float
    ess: float


def of_new_project(project: Gaussians) -> Gaussians:
    """The prior of a new project that follows from the posterior of one, both in the coordinates of the equation above.

    Parameters
    ----------
    project : Gaussians
        C normals in P dimensions.

    Returns
    -------
    Gaussians
        64 C normals: for each of them and of 64 values of h one that is moved towards the weak prior by
        1 / (1 + h^2) in every coordinate.
    """
    count, size = project.mean.shape
    ranks = np.random.default_rng(0).permuted(np.tile(np.arange(VALUES), (size, 1)), axis=1).T
    alike = 1.0 / (1.0 + _half_cauchy(special.ndtri((ranks + 0.5) / VALUES)) ** 2)
    mean = alike[:, None] * project.mean
    covariance = alike[:, None, :, None] * project.covariance * alike[:, None, None, :]
    covariance += ((1.0 - alike**2)[:, :, None] * np.eye(size))[:, None]
    return Gaussians(
        np.tile(project.weight / VALUES, VALUES),
        mean.reshape(VALUES * count, size),
        covariance.reshape(VALUES * count, size, size),
    )


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
    log_likelihood = _marginal(_half_cauchy(u), evidence)[0]
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
    h = _half_cauchy(chains.reshape(-1, size))
    _, precision, linear = _marginal(h, evidence)
    factor = np.linalg.cholesky(precision)
    mean = np.linalg.solve(precision, linear[..., None])[..., 0]
    fresh, apart = rng.normal(size=(2, *h.shape))
    mu = mean + np.linalg.solve(np.swapaxes(factor, 1, 2), fresh[..., None])[..., 0]
    unit = _unit(h)
    return Predictive(unit * (mu + h * apart), unit * h, r_hat, ess)


def _half_cauchy(u):
    """h of a standard normal u."""
    # By the probability above, which keeps its digits where h is large.
    return HETEROGENEITY / np.tan(0.5 * np.pi * special.ndtr(-u))


def _unit(h):
    """What makes every project's variance that of the weak prior."""
    return 1.0 / np.sqrt(1.0 + h**2)


def _marginal(h, evidence):
    """Log likelihood (N,) of h (N, P) with theta_k and mu integrated out, and the precision (N, P, P) and linear term
    (N, P) of mu given h.

    With theta = unit (mu + h z), evidence of mu + h z is of precision unit Lambda unit; with A = I + h Lambda h of
    that one, a project's z integrates to |A|^-1/2 exp(b' A^-1 b / 2) where b = h (linear - Lambda mu).
    """
    size, unit = h.shape[1], _unit(h)
    evidence = Evidence(
        unit[:, None, :, None] * evidence.precision * unit[:, None, None, :], unit[:, None] * evidence.linear
    )
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
        values = _marginal(_half_cauchy(offered), evidence)[0]
        taken = values > level[left]
        moved[left[taken]], found[left[taken]] = offered[taken], values[taken]
        left = left[~taken]
        negative = angle[left] < 0.0
        low[left] = np.where(negative, angle[left], low[left])
        high[left] = np.where(negative, high[left], angle[left])
        angle[left] = rng.uniform(low[left], high[left])
    return moved, found
