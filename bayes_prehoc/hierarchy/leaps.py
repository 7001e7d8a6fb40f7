r"""Leaps across the posterior of the hyperparameters, between the steps of NUTS.

A posterior can have more than one mode that gradients do not lead between: levels that differ because rates do, or
because shares do, for tasks that were observed far from c_0. A proposal q that is made from all chains' warm-up, and
then left alone, leads there: an independent draw x' ~ q replaces x with probability

.. math:: \min(1, \frac{p(x') q(x)}{p(x) q(x')}) .

q is a mixture of multivariate t distributions. Since proposals do not depend on
where a chain is, several are weighed at once, and cost one evaluation of the density each.

Source: Tierney 1994 (independence Metropolis-Hastings and its mixtures with other kernels).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

__all__ = ["LEAPS", "Proposal", "leap", "log_density", "proposal_of_draws", "wide_proposal"]

LEAPS = 8
"""Proposals for each step of NUTS."""
FREEDOM = 6.0
"""Degrees of freedom of the t distributions."""
WIDENING = 1.3
"""Their squared scale over the covariance of the draws."""
MOST = 4
"""Components of the mixture."""
EM_STEPS = 60
SHRINKAGE = 8.0
"""Weight in draws, of a covariance that is the posterior's own scales without correlation."""


class Proposal(NamedTuple):
    """A mixture of C multivariate t distributions in P dimensions: means, Cholesky factors, log weights."""

    mean: Float[Array, "C P"]
    factor: Float[Array, "C P P"]
    log_weight: Float[Array, " C"]


def wide_proposal(center: Float[np.ndarray, " P"], scale: float) -> Proposal:
    """One t distribution, where nothing is known yet."""
    return _proposal(center[None], scale * np.eye(len(center))[None], np.ones(1))


def proposal_of_draws(draws: Float[np.ndarray, "S P"]) -> Proposal:
    """Components by expectation maximisation; how many, up to `MOST`, by the Bayesian information criterion."""
    spread = np.maximum(draws.std(axis=0), 1e-6)
    scaled = (draws - draws.mean(axis=0)) / spread
    size = scaled.shape[1]
    best = (np.inf, None)
    for count in range(1, MOST + 1):
        fitted, log_likelihood = _maximise(scaled, count)
        parameters = count * (1 + size + size * (size + 1) / 2)
        best = min(best, (parameters * np.log(len(scaled)) - 2.0 * log_likelihood, fitted), key=lambda pair: pair[0])
    mean, covariance, weight = best[1]
    factor = np.linalg.cholesky(WIDENING * covariance) * spread[:, None]
    return _proposal(draws.mean(axis=0) + spread * mean, factor, weight)


def _maximise(x, count):
    """(means, covariances, weights) of a Gaussian mixture and its log likelihood, from one start."""
    rng = np.random.default_rng(0)
    size = x.shape[1]
    centers = x[[int(rng.integers(len(x)))]]
    while len(centers) < count:
        # The next centre where draws are far from all others, as in k-means++.
        squares = ((x[:, None, :] - centers[None]) ** 2).sum(-1).min(axis=1)
        centers = np.vstack([centers, x[rng.choice(len(x), p=squares / squares.sum())]])
    mean, covariance = centers, np.tile(np.eye(size) / count, (count, 1, 1))
    weight = np.full(count, 1.0 / count)
    for _ in range(EM_STEPS):
        factor = np.linalg.cholesky(covariance)
        off = np.linalg.solve(factor, np.swapaxes(x[None] - mean[:, None], 1, 2))
        log_det = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
        terms = np.log(weight)[:, None] - log_det[:, None] - 0.5 * (off**2).sum(axis=1) - 0.5 * size * np.log(2 * np.pi)
        total = np.logaddexp.reduce(terms, axis=0)
        share = np.exp(terms - total)
        held = share.sum(axis=1)
        weight = (held + 1.0) / (held + 1.0).sum()
        mean = share @ x / np.maximum(held, 1e-9)[:, None]
        off = x[None] - mean[:, None]
        scatter = np.einsum("cs,csi,csj->cij", share, off, off)
        covariance = (scatter + SHRINKAGE * np.eye(size)) / (held + SHRINKAGE)[:, None, None]
    return (mean, covariance, weight), float(total.sum())


def _proposal(mean, factor, weight) -> Proposal:
    """Padded to `MOST` components, the rest with no weight, so that one program serves all."""
    missing = MOST - len(mean)
    mean, factor = (np.concatenate([a, np.repeat(a[:1], missing, axis=0)]) for a in (mean, factor))
    with np.errstate(divide="ignore"):
        log_weight = np.log(np.concatenate([weight, np.zeros(missing)]))
    return Proposal(*(jnp.asarray(a, jnp.float32) for a in (mean, factor, log_weight)))


def _draw(key, proposal: Proposal, number: int) -> Float[Array, "N P"]:
    which_key, normal_key, scale_key = jax.random.split(key, 3)
    size = proposal.mean.shape[1]
    which = jax.random.categorical(which_key, proposal.log_weight, shape=(number,))
    normal = jax.random.normal(normal_key, (number, size))
    scale = jnp.sqrt(FREEDOM / (2.0 * jax.random.gamma(scale_key, FREEDOM / 2.0, (number, 1))))
    return proposal.mean[which] + scale * jnp.einsum("nij,nj->ni", proposal.factor[which], normal)


def log_density(proposal: Proposal, x: Float[Array, " P"]) -> Float[Array, ""]:
    """log q(x)."""
    size = proposal.mean.shape[1]
    solved = jax.vmap(lambda factor, off: jax.scipy.linalg.solve_triangular(factor, off, lower=True))(
        proposal.factor, x[None, :] - proposal.mean
    )
    log_det = jnp.sum(jnp.log(jnp.diagonal(proposal.factor, axis1=1, axis2=2)), axis=1)
    constant = gammaln((FREEDOM + size) / 2) - gammaln(FREEDOM / 2) - 0.5 * size * jnp.log(FREEDOM * jnp.pi)
    terms = constant - log_det - 0.5 * (FREEDOM + size) * jnp.log1p(jnp.sum(solved**2, axis=1) / FREEDOM)
    return jax.nn.logsumexp(proposal.log_weight + terms)


def leap(key, x: Float[Array, " P"], log_p, log_p_of, proposal: Proposal):
    """`LEAPS` Metropolis-Hastings steps from x, whose log density is `log_p`.

    Returns
    -------
    x, log_p : where the chain is now
    leapt : share of the proposals that were accepted
    """
    draw_key, accept_key = jax.random.split(key)
    proposed = _draw(draw_key, proposal, LEAPS)
    log_ps = jax.lax.map(log_p_of, proposed)
    log_weights = log_ps - jax.vmap(lambda y: log_density(proposal, y))(proposed)
    log_weights = jnp.where(jnp.isfinite(log_weights), log_weights, -jnp.inf)
    thresholds = jnp.log(jax.random.uniform(accept_key, (LEAPS,)))

    def step(state, offer):
        _, _, weight = state
        accepted = offer[3] < offer[2] - weight
        return jax.tree.map(lambda a, b: jnp.where(accepted, a, b), tuple(offer[:3]), state), accepted

    here = (x, log_p, log_p - log_density(proposal, x))
    (x, log_p, _), accepted = jax.lax.scan(step, here, (proposed, log_ps, log_weights, thresholds))
    return x, log_p, accepted.mean()
