r"""Draw tasks and their estimates from the model itself, with the truth that made them.

Hyperparameters from the hyperprior, latents from their population, estimates from the gamma margins tied by the
Gaussian copula of `likelihood`: what the model believes, so that its posterior can be held against the truth.
Scores follow the Markov chain s_j = r_j s_i + sqrt(1 - r_j^2) e_j along the depths; each is turned into its margin
through the inverse of the gamma distribution function at Phi(s).

Source: Talts et al. 2018 (simulation-based calibration).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy import stats

from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.laws import POWER
from bayes_prehoc.hierarchy.likelihood import effective_shape, log_mean_curve, neighbour_correlation, sampled_share
from bayes_prehoc.hierarchy.model import Hyperprior

__all__ = ["Truth", "draw_estimates", "draw_log_values", "draw_truth"]


class Truth(NamedTuple):
    """Hyperparameters and latents, named and shaped as the sites of the model; float64 arrays."""

    mu_level: np.ndarray
    mu_share: np.ndarray
    mu_rate: np.ndarray
    tau: np.ndarray
    corr_chol: np.ndarray
    log_onset: np.ndarray
    misfit: np.ndarray
    dependence: np.ndarray
    level: np.ndarray
    share: np.ndarray
    rate: np.ndarray


def draw_truth(key, prior: Hyperprior, proxy: str, kind: np.ndarray) -> Truth:
    """Hyperparameters from the prior and the latents of T tasks from their population.

    Parameters
    ----------
    key : jax key
    prior : Hyperprior
    proxy : str
    kind : float array (T, kinds)
        One-hot kind of metric.
    """
    keys = dict(zip(Truth._fields, jax.random.split(key, len(Truth._fields)), strict=True))
    kinds = kind.shape[1]
    mu_level = dist.Normal(*prior.level).sample(keys["mu_level"], (kinds,))
    mu_share = dist.Normal(*prior.share).sample(keys["mu_share"])
    mu_rate = dist.Normal(*prior.rate).sample(keys["mu_rate"])
    tau = dist.HalfNormal(jnp.asarray(prior.tau)).sample(keys["tau"])
    corr_chol = dist.LKJCholesky(3, 2.0).sample(keys["corr_chol"])
    if proxy == "run_to_run":
        dependence = dist.LogNormal(*prior.length).sample(keys["dependence"])
    else:
        dependence = dist.Beta(*prior.kappa).sample(keys["dependence"])
    log_onset = dist.Normal(*prior.onset).sample(keys["log_onset"])
    misfit = dist.HalfNormal(prior.misfit).sample(keys["misfit"])
    white = np.asarray(jax.random.normal(keys["level"], (len(kind), 3)), float)
    hyper = [np.asarray(v, float) for v in (mu_level, mu_share, mu_rate, tau, corr_chol, log_onset, misfit, dependence)]
    mean = np.stack([kind @ hyper[0], np.full(len(kind), hyper[1]), np.full(len(kind), hyper[2])], axis=1)
    latents = mean + white @ (hyper[3][:, None] * hyper[4]).T
    return Truth(*hyper, *latents.T)


def draw_estimates(key, truth: Truth, depth, dof, kind, proxy: str, noise=None, law: str = POWER) -> ModelData:
    """Estimates of every task at its depths, as the likelihood has them.

    Parameters
    ----------
    key : jax key
    truth : Truth
    depth : float array (T, D)
        Shares of the horizon, increasing.
    dof : float array (T, D)
        Degrees of freedom nu of each estimate.
    kind : float array (T, kinds)
    proxy : str
    noise : pair of float arrays (T,), optional
        V_eval of the outcome and the standard error it is estimated with, over the squared scale. The estimate that
        the model sees is drawn around it.
    law : str, optional
        One of `laws.LAWS`.

    Returns
    -------
    ModelData
    """
    score_key, noise_key = jax.random.split(key)
    true_noise, noise_se = (np.zeros(len(depth)), np.zeros(len(depth))) if noise is None else map(np.asarray, noise)
    latents = [jnp.asarray(v) for v in (truth.level, truth.share, truth.rate)]
    depth, dof = np.asarray(depth).T, np.asarray(dof).T
    onset = jnp.exp(jnp.asarray(truth.log_onset))
    log_mean = log_mean_curve(*latents, onset, jnp.asarray(true_noise), jnp.asarray(depth), proxy, law)
    k = effective_shape(jnp.asarray(dof), truth.misfit)
    sampled = sampled_share(jnp.asarray(dof), k)
    neighbour = neighbour_correlation(jnp.asarray(depth), log_mean, truth.dependence, sampled, proxy)
    log_risk = draw_log_values(score_key, log_mean, neighbour, k)
    measured = true_noise + noise_se * np.asarray(jax.random.normal(noise_key, true_noise.shape), float)
    floats = [jnp.asarray(a, jnp.float32) for a in (depth, log_risk, dof)]
    rest = [jnp.asarray(a, jnp.float32) for a in (kind, measured, noise_se)]
    return ModelData(*floats, jnp.ones(depth.shape, bool), *rest)


def draw_log_values(key, log_mean, neighbour, k) -> np.ndarray:
    """Draw from gamma margins with these means and shapes, tied along the first axis by the Markov copula.

    Parameters
    ----------
    key : jax key
    log_mean, k : arrays (D, ...)
    neighbour : array (D - 1, ...)
        Correlation of the scores at adjacent depths.

    Returns
    -------
    float64 array (D, ...), logarithms
    """
    log_mean, neighbour, k = (np.asarray(a, np.float64) for a in (log_mean, neighbour, k))
    fresh = np.asarray(jax.random.normal(key, log_mean.shape), np.float64)
    score = np.empty_like(fresh)
    score[0] = fresh[0]
    for j in range(1, len(score)):
        r = neighbour[j - 1]
        score[j] = r * score[j - 1] + np.sqrt(1.0 - r**2) * fresh[j]
    return log_mean + np.log(_gamma_quantile(score, k) / k)


def _gamma_quantile(score, k):
    """Quantile of a Gamma(k, 1) at Phi(score), from whichever tail keeps its digits."""
    lower = stats.gamma.ppf(stats.norm.cdf(np.minimum(score, 0.0)), k)
    upper = stats.gamma.isf(stats.norm.sf(np.maximum(score, 0.0)), k)
    return np.where(score < 0.0, lower, upper)
