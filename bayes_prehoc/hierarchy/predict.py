"""What a task's risk is at other depths, and what new runs would show there, at each draw of the posterior.

The drift of a spread between runs lasts: what the task's own estimates tell of it goes on to other depths. Scores are
jointly normal (`copula`), so the drift given the scores that were seen is normal too. It is a walk in log depth, and is
nothing at the horizon: it is drawn where estimates are first, then between and beyond, as Brownian bridges and walks.
"""

import jax
import jax.numpy as jnp
import numpy as np

from bayes_prehoc.hierarchy.copula import chains_of, correlation_of_drift, correlation_of_sampling, drawn_scores
from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.evaluator import generator
from bayes_prehoc.hierarchy.likelihood import Shared, deviation, errors_of, log_mean_curve, normal_scores
from bayes_prehoc.hierarchy.simulate import log_ratios

__all__ = ["drawn_drift", "drawn_estimates", "drawn_risk"]

JITTER = 1e-9


def drawn_risk(key, latents, shared: Shared, data: ModelData, depth, proxy: str):
    """log of the risk over the squared scale, float64 array (J, S).

    Parameters
    ----------
    key : PRNG key
    latents : triple of arrays (1, S)
    shared : Shared of arrays (1, S)
    data : ModelData
        Of the one task.
    depth : array (J, 1)
        Shares of the horizon, increasing.
    proxy : str
    """
    log_mean = log_mean_curve(*latents, shared.onset, jnp.zeros((1, 1)), depth, proxy)
    log_mean = np.asarray(log_mean, np.float64)
    if proxy != "run_to_run":
        return log_mean
    return log_mean + drawn_drift(key, latents, shared, data, depth)


def drawn_drift(key, latents, shared: Shared, data: ModelData, depth):
    """log of a spread over what the law says, given the task's estimates, float64 array (J, S).

    Arguments are those of `drawn_risk`.
    """
    scores = _drawn_scores_of_drift(key, latents, shared, data, depth)
    # As an estimate of runs without number would show it.
    away = jnp.where(depth == 1.0, 0.5, depth)
    errors = errors_of(jnp.full_like(away, jnp.inf), away, shared._replace(misfit=0.0))
    return np.where(depth == 1.0, 0.0, log_ratios(scores, errors))


def drawn_estimates(key, latents, shared: Shared, noise, data: ModelData, depth, dof, proxy: str):
    """log of what new runs would show, over the squared scale, float64 array (J, S).

    Arguments are those of `drawn_risk`, `noise` (1, S) of the outcome set and the degrees of freedom of an estimate.
    """
    drift_key, score_key = jax.random.split(key)
    log_mean = log_mean_curve(*latents, shared.onset, noise, depth, proxy)
    errors = errors_of(jnp.full_like(log_mean, dof), depth, shared)
    drift = _drawn_scores_of_drift(drift_key, latents, shared, data, depth) if proxy == "run_to_run" else None
    scores = drawn_scores(score_key, chains_of(depth, log_mean, shared, proxy), errors, drift)
    return np.asarray(log_mean, np.float64) + log_ratios(scores, errors)


def _drawn_scores_of_drift(key, latents, shared: Shared, data: ModelData, depth):
    """What lies there of the drift's chain, standard normal before anything was seen, given what was; (J, S)."""
    rng = generator(key)
    seen, log_risk, dof = (part[np.asarray(data.mask[:, 0])] for part in (data.depth, data.log_risk, data.dof))
    log_mean = log_mean_curve(*latents, shared.onset, jnp.zeros((1, 1)), seen, "run_to_run")
    errors = errors_of(dof, seen, shared)
    scores = np.asarray(normal_scores(deviation(log_risk, log_mean, errors), errors), np.float64)
    sampling, drift, own = (np.asarray(part, np.float64).T for part in (errors.sampling, errors.drift, errors.own))
    at, there = (np.log(np.asarray(c, np.float64)[:, 0]) for c in (seen, depth))
    length = np.asarray(shared.dependence, np.float64)[0][:, None, None]
    of_scores = sampling[:, :, None] * sampling[:, None, :] * correlation_of_sampling(at[:, None], at, length)
    chain = np.asarray(correlation_of_drift(at[:, None], at), np.float64)
    of_scores += drift[:, :, None] * drift[:, None, :] * chain
    of_scores += own[:, :, None] ** 2 * np.eye(len(at))
    across = drift[:, :, None] * chain
    gain = np.linalg.solve(of_scores + JITTER * np.eye(len(at)), across)
    mean = np.einsum("sdj,ds->sj", gain, scores)
    covariance = chain - np.einsum("sdj,sdk->sjk", gain, across)
    factor = np.linalg.cholesky(covariance + 1e3 * JITTER * np.eye(len(at)))
    drawn = mean + np.einsum("sjk,sk->sj", factor, rng.normal(size=mean.shape))
    away = np.sqrt(np.abs(there))[:, None]
    walk = _walked_on(rng, at, drawn.T * np.sqrt(np.abs(at))[:, None], there)
    return np.where(away > 0.0, walk / np.where(away > 0.0, away, 1.0), 0.0)


def _walked_on(rng, at, known, there):
    """A walk in log depth at other depths (J, S), given it at some (D, S); 0 at the horizon, where both sides begin."""
    walk = np.zeros((len(there), known.shape[1]))
    for side in (-1.0, 1.0):
        ahead = list(np.flatnonzero(side * at > 0.0)[np.argsort(np.abs(at[side * at > 0.0]))])
        time, value = 0.0, np.zeros(known.shape[1])
        wanted = np.flatnonzero(side * there > 0.0)
        for place in wanted[np.argsort(np.abs(there[wanted]))]:
            now = abs(there[place])
            while ahead and abs(at[ahead[0]]) <= now:
                time, value = abs(at[ahead[0]]), known[ahead.pop(0)]
            variance = now - time
            if ahead:
                share = (now - time) / (abs(at[ahead[0]]) - time)
                value, variance = value + share * (known[ahead[0]] - value), variance * (1.0 - share)
            value = value + np.sqrt(max(variance, 0.0)) * rng.normal(size=len(value))
            walk[place], time = value, now
    return walk
