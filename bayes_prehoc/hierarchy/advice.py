"""Checks that a reader should know of and that no fit fails by: the prior's say, how the law fits, what was learned.

The gate says whether draws are those of the posterior; these say what the posterior rests on.

Sources: Kallioinen et al. 2024 (sensitivity by power scaling), Gelman, Meng and Stern 1996 (posterior predictive
p-values of a discrepancy).
"""

import dataclasses
import warnings

import arviz_stats
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import stats

from bayes_prehoc.hierarchy.checks import Check
from bayes_prehoc.hierarchy.copula import chains_of, whitened
from bayes_prehoc.hierarchy.data import model_data
from bayes_prehoc.hierarchy.labels import OF_POPULATION
from bayes_prehoc.hierarchy.likelihood import deviation, errors_of, log_mean_curve, normal_scores
from bayes_prehoc.hierarchy.model import LATENTS, shared_of, shared_sites
from bayes_prehoc.risk.estimates import RiskEstimates

__all__ = ["fit_of_law", "misfit_p_values", "sensitivity_to_prior"]

SENSITIVE = 0.05
"""Power-scaling sensitivity above which a prior is informative, after Kallioinen et al."""
CHANCE = 0.05
"""Of as bad a fit in the worst of all tasks, below which the law is said not to fit."""
AT_ONCE = 500_000
"""Draws times tasks that are computed together."""


def sensitivity_to_prior(draws, proxy: str) -> Check:
    """How much the posterior of the hyperparameters moves as their prior is sharpened a little; the largest of them."""
    there = draws["posterior"].data_vars
    names = ["mu_share", "mu_rate", *(name for name in OF_POPULATION if name in there), *shared_sites(proxy)]
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        # Of what does not vary, such as the diagonal of a correlation matrix, there is no sensitivity.
        warnings.simplefilter("ignore")
        found = arviz_stats.psense(draws, var_names=names)
    largest = {name: float(np.nanmax(found[name].values)) for name in names}
    worst = max(largest, key=largest.get)
    advice = (
        "The prior on this has a say beside the data, as a card is meant to. More tasks, runs or depths leave it less; "
        "judge figures of single tasks by their intervals, which include it."
    )
    return Check("prior_sensitivity", largest[worst] <= SENSITIVE, largest[worst], SENSITIVE, worst, advice)


def fit_of_law(p_values: Float[np.ndarray, " T"], tasks: tuple[str, ...]) -> Check:
    """Whether the task that the law fits worst fits worse than chance would have it, from `misfit_p_values`."""
    row = int(np.argmin(p_values))
    least, threshold = float(p_values[row]), CHANCE / len(tasks)
    advice = "This task's estimates do not follow the law within their errors: look at its curve before its figures."
    return Check("fit_of_law", least >= threshold, least, threshold, f"task {tasks[row]}", advice)


def misfit_p_values(sites, estimates: RiskEstimates) -> Float[np.ndarray, " T"]:
    """Posterior predictive p-value of each task's estimates: the chance of lying as far off its curve.

    The discrepancy is the sum of squared scores, decorrelated along depth, which under the model is chi-square with as
    many degrees of freedom as there are depths; the p-value is the mean over draws.

    Parameters
    ----------
    sites : mapping from site to array (S, ...)
        Latents (S, T), `model.shared_sites` (S,) or (S, T), and `noise` (S, T) where there is any.
    estimates : RiskEstimates
    """
    draws, tasks = sites["level"].shape
    parts = np.array_split(np.arange(tasks), -(-draws * tasks // AT_ONCE))
    return np.concatenate([_p_values(sites, estimates, rows) for rows in parts])


def _p_values(sites, estimates, rows):
    """Of the tasks in these rows."""
    some = dataclasses.replace(estimates, tasks=tuple(estimates.tasks[row] for row in rows))
    data = model_data(some)
    of_depths = (data.depth, data.log_risk, data.dof, data.mask)
    depth, log_risk, dof, mask = (jnp.asarray(part)[..., None] for part in of_depths)
    latents = (jnp.asarray(sites[name][:, rows].T) for name in LATENTS)
    shared = shared_of({name: jnp.asarray(_by_task(sites[name], rows)) for name in shared_sites(some.proxy)})
    noise = jnp.asarray(sites["noise"][:, rows].T) if "noise" in sites else jnp.zeros((1, 1))
    log_mean = log_mean_curve(*latents, shared.onset, noise, depth, some.proxy)
    errors = errors_of(dof, depth, shared)
    scores = normal_scores(deviation(log_risk, log_mean, errors), errors)
    independent = whitened(scores, chains_of(depth, log_mean, shared, some.proxy), errors, mask).scores
    squares = np.sum(np.asarray(independent, np.float64) ** 2, axis=0)
    depths = np.sum(data.mask, axis=0)[:, None]
    return np.where(depths > 0, stats.chi2.sf(squares, np.maximum(depths, 1)), 1.0).mean(axis=1)


def _by_task(values, rows):
    """Draws of what tasks share, (1, S), or of each of these tasks, (T, S)."""
    return values[None] if values.ndim == 1 else values[:, rows].T
