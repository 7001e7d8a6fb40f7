r"""The hierarchical model: level, share and rate of every task, partially pooled.

    level = log(U(c0) / scale^2)    share = logit(L_int / U(c0))    rate = logit of alpha within its bounds
    (level, share, rate)_t ~ Normal(mu, Sigma),   Sigma = diag(tau) Omega diag(tau),   Omega ~ LKJ(2)

The mean of the level is one per kind of metric. Onset, misfit and the correlation of depths are shared by the
tasks. (L_int, K, alpha) are deterministic functions of the latents.

Each task's latents are sampled in coordinates in which they are close to standard normal whatever the hyperparameters
are. If the log likelihood of task t were -z'H_t z / 2 + b_t'z, then z_t = mu + L u_t with L L' = Sigma would have,
given the hyperparameters,

    u_t ~ Normal(P_t^-1 L'(b_t - H_t mu), P_t^-1),   P_t = I + L' H_t L ,

and that is the transform used, with (H, b) from a Gauss-Newton expansion around a fixed point of each task, at the
current onset, misfit and dependence. It runs from the non-centred form (no data, H = 0) to the centred one (much data)
by itself; for a Gaussian likelihood it makes the latents independent of the hyperparameters, as integrating them out
would.

The likelihood is not Gaussian: it has a curved ridge, along which a high floor with a large alpha looks like a low
floor with a small one. So level and rate are moved from the expansion's tangent to the ridge (`straighten`), which
changes no volume. Both changes of variables are exact: a poor expansion costs speed, never correctness.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float

from bayes_prehoc import theory
from bayes_prehoc.hierarchy import linear3
from bayes_prehoc.hierarchy.data import REFERENCE_DEPTH, ModelData
from bayes_prehoc.hierarchy.information import gauss_newton
from bayes_prehoc.hierarchy.likelihood import (
    alpha_of_rate,
    copula_log_density,
    effective_shape,
    gamma_log_density,
    log_mean_curve,
    log_risk_curve,
    neighbour_correlation,
    normal_scores,
)

__all__ = [
    "HYPERPARAMETERS",
    "LATENTS",
    "Hyperprior",
    "hierarchical_model",
    "prior_draws",
    "task_log_likelihood",
    "weak_prior",
]

LATENTS = ("level", "share", "rate")
PRIOR_SAMPLE = 20_000
HYPERPARAMETERS = ("mu_level", "mu_share", "mu_rate", "tau", "corr_chol", "log_onset", "misfit", "dependence")


class Hyperprior(NamedTuple):
    """Parameters of the prior on the hyperparameters; location and scale of normals unless said otherwise.

    `tau` are scales of half-normals for (level, share, rate); `onset` is the log of c_1 over the horizon; `misfit`
    the scale of a half-normal; `length` the log of the correlation length; `kappa` a Beta.
    """

    level: tuple[float, float]
    share: tuple[float, float]
    rate: tuple[float, float]
    tau: tuple[float, float, float]
    onset: tuple[float, float]
    misfit: float
    length: tuple[float, float]
    kappa: tuple[float, float]


def weak_prior(proxy: str) -> Hyperprior:
    """The documented weak prior.

    The outcome's standard deviation at a fifth of the horizon is around 2% of its mean, give or take a factor of
    several; anything between nearly none and nearly all of it may be intrinsic; alpha is centred where theory puts
    it for step sizes c^-rho with rho = 3/4: rho for the spread, 2 rho - 1 for the remaining risk.
    """
    rate = -1.466 if proxy == "run_to_run" else -0.847  # alpha = 0.75 in (0, 4); alpha = 0.5 in (-1, 4)
    return Hyperprior(
        level=(-8.0, 2.5),
        share=(-1.0, 1.5),
        rate=(rate, 0.7),
        tau=(1.5, 1.0, 0.5),
        onset=(-4.0, 1.0),
        misfit=0.2,
        length=(0.0, 0.7),
        kappa=(9.0, 1.0),
    )


def prior_draws(prior: Hyperprior) -> tuple[np.ndarray, np.ndarray]:
    """Share and rate of a task nobody has seen, under the prior; a fixed sample, arrays (M,).

    What a posterior is held against to tell how much was learned.
    """
    rng = np.random.default_rng(0)
    tau = np.abs(rng.normal(size=(2, PRIOR_SAMPLE))) * np.array(prior.tau[1:])[:, None]
    mean = np.array([prior.share[0], prior.rate[0]])[:, None]
    spread = np.array([prior.share[1], prior.rate[1]])[:, None]
    shape = (2, PRIOR_SAMPLE)
    share, rate = mean + spread * rng.normal(size=shape) + tau * rng.normal(size=shape)
    return share, rate


def task_log_likelihood(latents, onset, misfit, dependence, noise, data: ModelData, proxy: str):
    """Log likelihood of each task's estimates, (T,).

    `latents` is a triple (level, share, rate) of arrays (T,); `dependence` is the correlation length for `run_to_run`
    and kappa for the other proxies; `noise` the outcome set's noise over the squared scale, (T,).
    """
    level, share, rate = (latent[:, None] for latent in latents)
    log_mean = log_mean_curve(level, share, rate, onset, noise, data.depth, proxy)
    k = effective_shape(data.dof, misfit)
    margins = jnp.sum(jnp.where(data.mask, gamma_log_density(data.log_risk, log_mean, k), 0.0), axis=-1)
    scores = normal_scores(data.log_risk, log_mean, k)
    neighbour = neighbour_correlation(data.depth, log_mean, dependence, proxy)
    return margins + copula_log_density(scores, neighbour, data.mask)


def central_noise(data: ModelData) -> Float[Array, " T"]:
    """A positive value near the outcome set's noise, where it is known; the rest 0."""
    return jnp.maximum(data.noise, 0.5 * data.noise_se)


def outcome_noise(standard: Float[Array, " T"], data: ModelData) -> Float[Array, " T"]:
    """The outcome set's noise from a standard normal: its estimate's normal, truncated at zero."""
    se = jnp.where(data.noise_se > 0.0, data.noise_se, 1.0)
    below = jax.scipy.stats.norm.cdf(-data.noise / se)
    uniform = below + (1.0 - below) * jax.scipy.stats.norm.cdf(standard)
    drawn = data.noise + se * jax.scipy.special.ndtri(jnp.clip(uniform, 1e-6, 1.0 - 1e-6))
    return jnp.where(data.noise_se > 0.0, jnp.maximum(drawn, 0.0), jnp.maximum(data.noise, 0.0))


def hierarchical_model(data: ModelData, start: Float[Array, "T 3"], prior: Hyperprior, proxy: str, with_noise: bool):
    """NumPyro model; sites are the hyperparameters, `white` (T, 3) and, where the outcome has noise, `noise_white`."""
    tasks, kinds = data.kind.shape
    mu_level = numpyro.sample("mu_level", dist.Normal(prior.level[0], prior.level[1]).expand([kinds]))
    mu_share = numpyro.sample("mu_share", dist.Normal(prior.share[0], prior.share[1]))
    mu_rate = numpyro.sample("mu_rate", dist.Normal(prior.rate[0], prior.rate[1]))
    tau = numpyro.sample("tau", dist.HalfNormal(jnp.asarray(prior.tau)))
    corr_chol = numpyro.sample("corr_chol", dist.LKJCholesky(3, 2.0))
    log_onset = numpyro.sample("log_onset", dist.Normal(prior.onset[0], prior.onset[1]))
    onset = jnp.exp(log_onset)
    misfit = numpyro.sample("misfit", dist.HalfNormal(prior.misfit))
    if proxy == "run_to_run":
        dependence = numpyro.sample("dependence", dist.LogNormal(prior.length[0], prior.length[1]))
    else:
        dependence = numpyro.sample("dependence", dist.Beta(prior.kappa[0], prior.kappa[1]))

    mean = population_mean(mu_level, mu_share, mu_rate, data)
    scale = tau[:, None] * corr_chol
    white = numpyro.sample("white", dist.Normal(0.0, 1.0).expand([tasks, 3]).to_event(2))
    latents, log_jacobian = color(white, mean, scale, start, onset, misfit, dependence, data, proxy)
    numpyro.factor("coordinates", log_jacobian.sum())
    for name, latent in zip(LATENTS, latents, strict=True):
        numpyro.deterministic(name, latent)

    if with_noise:
        noise_white = numpyro.sample("noise_white", dist.Normal(0.0, 1.0).expand([tasks]).to_event(1))
        noise = numpyro.deterministic("noise", outcome_noise(noise_white, data))
    else:
        noise = jnp.zeros(tasks)
    log_likelihood = task_log_likelihood(latents, onset, misfit, dependence, noise, data, proxy)
    numpyro.factor("estimates", log_likelihood.sum())


def population_mean(mu_level, mu_share, mu_rate, data: ModelData) -> Float[Array, "T 3"]:
    """Mean of each task's latents."""
    level = data.kind @ mu_level
    return jnp.stack([level, jnp.full_like(level, mu_share), jnp.full_like(level, mu_rate)], axis=-1)


def color(white, mean, scale, start, onset, misfit, dependence, data: ModelData, proxy: str):
    """Latents from whitened coordinates, and what corrects the density.

    Parameters
    ----------
    white, mean, start : arrays (T, 3)
        `start`: where the likelihood is expanded; a constant, best near the posterior mean.
    scale : array (3, 3), L

    Returns
    -------
    latents : triple of arrays (T,)
    log_correction : array (T,)
        log Normal(u; 0, I) + log |du/dwhite| - log Normal(white; 0, I).
    """
    information, linear = gauss_newton(start, onset, misfit, dependence, central_noise(data), data, proxy)
    u, half_log_det = linear3.precision_draw(white, mean, scale, information, linear)
    latents = mean + jnp.sum(scale * u[:, None, :], axis=-1)
    lower = (scale[0, 0], scale[1, 0], scale[1, 1], scale[2, 0], scale[2, 1], scale[2, 2])
    bend = straighten(latents, start, information, lower, onset, data, proxy)
    latents, u = latents + bend, u + linear3.solve_lower(lower, bend)
    correction = 0.5 * jnp.sum(white**2 - u**2, axis=-1) - half_log_det
    return (latents[:, 0], latents[:, 1], latents[:, 2]), correction


def straighten(latents, start, information, lower, onset, data: ModelData, proxy: str) -> Float[Array, "T 3"]:
    """What to add to latents that follow the expansion's tangent for them to follow the likelihood's curved ridge.

    Where a task's depths lie, around c, its estimates tell log U(c) best and next how steep log U is there. As the
    share moves, the rate moves so that the steepness (1 - s) alpha stays, with the floor's share s taken at c, and the
    level so that U(c) stays. Each only as far as the data, and not the population, hold it given the other latents.
    The rate's shift depends on the share alone and the level's on the other two, so no volume changes.
    """
    share, rate = latents[:, 1], latents[:, 2]
    share_0, rate_0 = start[:, 1], start[:, 2]
    center = jnp.exp(jnp.sum(jnp.where(data.mask, jnp.log(data.depth), 0.0), axis=1) / data.mask.sum(axis=1))
    rate_bend = jnp.zeros_like(rate)
    if proxy == "run_to_run":
        # -log(1 - s) = softplus(share), and d log alpha / d rate = 1 - alpha / 4.
        fraction = jax.nn.sigmoid(rate_0)
        left = jnp.log(theory.decay(center, REFERENCE_DEPTH, alpha_of_rate(rate_0, proxy), onset))
        at, at_0 = share - left, share_0 - left
        beyond = jax.nn.softplus(at) - jax.nn.softplus(at_0) - jax.nn.sigmoid(at_0) * (at - at_0)
        prior = lower[5] ** -2
        told = information[:, 2, 2]
        rate_bend = told / (told + prior) * beyond / jnp.maximum(1.0 - fraction, 0.3)

    def log_risk(share, rate):
        return log_risk_curve(0.0, share, rate, onset, center, proxy)

    at_start, slope = jax.linearize(log_risk, share_0, rate_0)
    tangent = at_start + slope(share - share_0, rate - rate_0)
    first = linear3.solve_lower(lower, jnp.array([1.0, 0.0, 0.0]))
    prior = jnp.sum(first**2)
    told = information[:, 0, 0]
    level_bend = told / (told + prior) * (tangent - log_risk(share, rate + rate_bend))
    return jnp.stack([level_bend, jnp.zeros_like(share), rate_bend], axis=-1)
