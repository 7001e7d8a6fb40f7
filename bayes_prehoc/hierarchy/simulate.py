r"""Draw tasks and their estimates from the model itself, with the truth that made them.

Hyperparameters from the hyperprior, latents from their population, estimates from the margins tied by the Gaussian
copula: what the model believes, so that its posterior can be held against the truth. A score s is turned into its
margin through the inverse of the distribution function at Phi(s).

Source: Talts et al. 2018 (simulation-based calibration).
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy import special

from bayes_prehoc.hierarchy.copula import chains_of, drawn_scores
from bayes_prehoc.hierarchy.data import ModelData, Sizes
from bayes_prehoc.hierarchy.laws import POWER
from bayes_prehoc.hierarchy.likelihood import Errors, errors_of, log_mean_curve
from bayes_prehoc.hierarchy.model import (
    LATENTS,
    OF_COVARIATES,
    OF_FAMILIES,
    Hyperprior,
    hyperpriors,
    population_of,
    shared_of,
    shared_of_tasks,
)

__all__ = ["Truth", "draw_estimates", "draw_truth", "log_ratios", "truth_at"]

NO_MISFIT = 1e-9
"""1 / b below which an F variable is a gamma variable to all digits."""


class Truth(NamedTuple):
    """Hyperparameters and latents, named and shaped as the sites of the model; float64 arrays.

    A drift of 0 is none, a lasting share of 1 all: so it is for the proxies of remaining risk. Those of families and
    of covariates are None where there are none.
    """

    mu_level: np.ndarray
    mu_share: np.ndarray
    mu_rate: np.ndarray
    tau: np.ndarray
    corr_chol: np.ndarray
    log_onset: np.ndarray
    misfit: np.ndarray
    dependence: np.ndarray
    drift: np.ndarray
    lasting: np.ndarray
    level: np.ndarray
    share: np.ndarray
    rate: np.ndarray
    tau_family: np.ndarray | None = None
    family_white: np.ndarray | None = None
    family_onset: np.ndarray | None = None
    family_misfit: np.ndarray | None = None
    sway: np.ndarray | None = None
    slope_white: np.ndarray | None = None

    @property
    def sites(self) -> dict[str, np.ndarray]:
        """What there is, by name."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def draw_truth(key, prior: Hyperprior, proxy: str, kind: np.ndarray, family=None, covariates=None) -> Truth:
    """Hyperparameters from the prior and the latents of T tasks from their population.

    Parameters
    ----------
    key : jax key
    prior : Hyperprior
    proxy : str
    kind : float array (T, kinds)
        One-hot kind of metric.
    family, covariates : float arrays (T, families) and (T, covariates), optional
        One-hot family, and covariates.
    """
    family, covariates = (np.zeros((len(kind), 0)) if own is None else own for own in (family, covariates))
    keys = dict(zip(Truth._fields, jax.random.split(key, len(Truth._fields)), strict=True))
    kinds = kind.shape[1]
    mu_level = dist.Normal(*prior.level).sample(keys["mu_level"], (kinds,))
    mu_share = dist.Normal(*prior.share).sample(keys["mu_share"])
    mu_rate = dist.Normal(*prior.rate).sample(keys["mu_rate"])
    tau = dist.HalfNormal(jnp.asarray(prior.tau)).sample(keys["tau"])
    corr_chol = dist.LKJCholesky(3, 2.0).sample(keys["corr_chol"])
    if proxy == "run_to_run":
        dependence = dist.LogNormal(*prior.length).sample(keys["dependence"])
        drift = dist.Exponential(1.0 / prior.drift).sample(keys["drift"])
        lasting = dist.Beta(prior.lasting, 1.0).sample(keys["lasting"])
    else:
        dependence, drift, lasting = dist.Beta(*prior.kappa).sample(keys["dependence"]), 0.0, 1.0
    log_onset = dist.Normal(*prior.onset).sample(keys["log_onset"])
    misfit = dist.HalfNormal(prior.misfit).sample(keys["misfit"])
    white = np.asarray(jax.random.normal(keys["level"], (len(kind), 3)), float)
    shared = (log_onset, misfit, dependence, drift, lasting)
    hyper = [np.asarray(v, float) for v in (mu_level, mu_share, mu_rate, tau, corr_chol, *shared)]
    mean = np.stack([kind @ hyper[0], np.full(len(kind), hyper[1]), np.full(len(kind), hyper[2])], axis=1)
    priors = hyperpriors(prior, proxy, Sizes(kinds, family.shape[1], covariates.shape[1]))
    rest = {
        name: np.asarray(priors[name].sample(keys[name]), float)
        for name in (*OF_FAMILIES, *OF_COVARIATES)
        if name in priors
    }
    if "tau_family" in rest:
        mean = mean + family @ (rest["tau_family"] * rest["family_white"])
    if "sway" in rest:
        mean = mean + covariates @ (rest["sway"] * rest["slope_white"]) / np.sqrt(covariates.shape[1])
    latents = mean + white @ (hyper[3][:, None] * hyper[4]).T
    return Truth(*hyper, *latents.T, **rest)


def truth_at(key, sites: Mapping[str, np.ndarray], data: ModelData) -> Truth:
    """Given hyperparameters by site, and latents from the population that they make of the tasks of `data`."""
    population = population_of({name: jnp.asarray(value) for name, value in sites.items()})
    mean = np.stack([np.asarray(part, float) for part in population.mean(data)], axis=1)
    white = np.asarray(jax.random.normal(key, mean.shape), float)
    latents = mean + white @ np.asarray(population.scale, float).T
    own = {"drift": np.array(0.0), "lasting": np.array(1.0)} | {
        name: np.asarray(value, float) for name, value in sites.items()
    }
    return Truth(**own, **dict(zip(LATENTS, latents.T, strict=True)))


def draw_estimates(
    key, truth: Truth, depth, dof, kind, proxy: str, noise=None, law: str = POWER, family=None, covariates=None
) -> ModelData:
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
    family, covariates : float arrays (T, families) and (T, covariates), optional

    Returns
    -------
    ModelData
    """
    score_key, noise_key = jax.random.split(key)
    true_noise, noise_se = (np.zeros(len(depth)), np.zeros(len(depth))) if noise is None else map(np.asarray, noise)
    latents = [jnp.asarray(v) for v in (truth.level, truth.share, truth.rate)]
    depth, dof = jnp.asarray(depth).T, jnp.asarray(dof).T
    family, covariates = (np.zeros((len(kind), 0)) if own is None else own for own in (family, covariates))
    of_each = shared_of_tasks({name: value[None] for name, value in truth.sites.items()}, proxy, family)
    shared = shared_of({name: jnp.asarray(value[0]) for name, value in of_each.items()})
    log_mean = log_mean_curve(*latents, shared.onset, jnp.asarray(true_noise), depth, proxy, law)
    errors, chains = errors_of(dof, depth, shared), chains_of(depth, log_mean, shared, proxy)
    log_risk = np.asarray(log_mean, np.float64) + log_ratios(drawn_scores(score_key, chains, errors), errors)
    measured = true_noise + noise_se * np.asarray(jax.random.normal(noise_key, true_noise.shape), float)
    floats = [jnp.asarray(a, jnp.float32) for a in (depth, log_risk, dof)]
    rest = [jnp.asarray(a, jnp.float32) for a in (kind, measured, noise_se, family, covariates)]
    return ModelData(*floats, jnp.ones(depth.shape, bool), *rest)


def log_ratios(scores, errors: Errors) -> np.ndarray:
    """Logarithms of estimates over their curve, from their scores; float64 arrays (D, ...)."""
    parts = (scores, errors.shape, errors.inverse_shape, errors.shift)
    scores, shape, inverse, shift = np.broadcast_arrays(*(np.asarray(part, np.float64) for part in parts))
    below = special.ndtr(-np.abs(scores))
    sure, misfit = inverse < NO_MISFIT, np.maximum(inverse, NO_MISFIT)
    # Each from whichever tail keeps its digits.
    low = scores < 0.0
    gamma = np.log(np.where(low, special.gammaincinv(shape, below), special.gammainccinv(shape, below)) / shape)
    part = np.where(
        low, special.betaincinv(shape, 1.0 / misfit, below), special.betainccinv(shape, 1.0 / misfit, below)
    )
    rest = np.where(
        low, special.betainccinv(1.0 / misfit, shape, below), special.betaincinv(1.0 / misfit, shape, below)
    )
    return shift + np.where(sure, gamma, np.log(part) - np.log(rest) - np.log(shape * misfit))
