"""The verb `fit`: from risk estimates to a posterior."""

import arviz_base
import jax
import numpy as np

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.data import metric_kinds, model_data
from bayes_prehoc.hierarchy.inference import Samples, sample
from bayes_prehoc.hierarchy.likelihood import alpha_of_rate
from bayes_prehoc.hierarchy.model import LATENTS, weak_prior
from bayes_prehoc.hierarchy.posterior import Posterior
from bayes_prehoc.risk.estimates import RiskEstimates

__all__ = ["fit"]


def fit(estimates: RiskEstimates, *, prior: str | None = None, seed: int = 0) -> Posterior:
    """Fit the hierarchical model of the decay of risk to the estimates of many tasks.

    Parameters
    ----------
    estimates : RiskEstimates
        One proxy, one task or more.
    prior : str, optional
        A prior card's name or folder. Default: the documented weak prior (`hierarchy.model.weak_prior`).
    seed : int
        Of the sampler.

    Returns
    -------
    Posterior
        Its gate says whether sampling converged; where it did not, no figures are given.

    Raises
    ------
    InputError
        No estimates, one that is not a positive number, a prior card that is not there, or a seed that is no whole
        number from 0 to 2**32 - 1.

    Notes
    -----
    The model is that of `hierarchy.model`. The hyperparameters are sampled, by leaps and Hamiltonian trajectories, with
    the tasks' latents integrated out (`hierarchy.collapsed`), which are drawn afterwards; a run that misses the gate is
    extended or made anew with shorter steps (`hierarchy.inference.Sampler`).
    """
    if not isinstance(estimates, RiskEstimates):
        raise InputError(f"got a {type(estimates).__name__}", "fit", "Give what estimate_risk returns.")
    if not len(estimates):
        raise InputError("there are no tasks", "fit", "Give estimates of one task or more.")
    for task in estimates:
        for name in ("depths", "risk", "nu"):
            if not np.all(np.isfinite(getattr(task, name)) & (getattr(task, name) > 0.0)):
                raise InputError(
                    f"{name} of task {task.task!r} holds a value that is not a positive number",
                    "fit",
                    "Leave out the depth where it is, or the task.",
                )
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise InputError(f"{seed!r} cannot be a seed", "seed", "Give a whole number from 0 to 2**32 - 1.")
    if prior is not None:
        raise InputError(f"there is no prior card {prior!r}", "prior", "Leave it out to use the weak prior.")
    hyperprior = weak_prior(estimates.proxy)
    samples = sample(jax.random.key(int(seed)), model_data(estimates), hyperprior, estimates.proxy)
    checks = tuple(check.naming([task.task for task in estimates]) for check in samples.checks)
    return Posterior(_labelled(samples, estimates), estimates, checks, hyperprior, "weak prior", int(seed))


def _labelled(samples: Samples, estimates: RiskEstimates):
    """Draws as ArviZ groups with named dimensions, and the figures that follow from the latents."""
    sites = dict(samples.sites)
    unit = np.array([task.scale for task in estimates]) ** 2
    level, share, rate = (np.asarray(sites[name], np.float64) for name in LATENTS)
    sites["alpha"] = np.asarray(alpha_of_rate(rate, estimates.proxy), np.float64)
    u0 = np.exp(level) * unit
    sites["L_int"] = u0 / (1.0 + np.exp(-share))
    if any(task.has_noise for task in estimates):
        sites.setdefault("noise", np.zeros_like(level))
    per_task = [*LATENTS, "alpha", "L_int", *(("noise",) if "noise" in sites else ())]
    data = model_data(estimates)
    missing = ~np.asarray(data.mask)
    observed = {
        "risk": np.where(missing, np.nan, np.exp(np.asarray(data.log_risk, np.float64)) * unit).T,
        "nu": np.where(missing, np.nan, np.asarray(data.dof)).T,
        "depth": (np.where(missing, np.nan, np.asarray(data.depth)) * [task.horizon for task in estimates]).T,
    }
    return arviz_base.from_dict(
        {"posterior": sites, "sample_stats": samples.statistics, "observed_data": observed},
        coords={
            "task": [task.task for task in estimates],
            "metric_kind": list(metric_kinds(estimates)),
            "latent": list(LATENTS),
            "latent_": list(LATENTS),
            "place": np.arange(len(missing)),
        },
        dims={
            "mu_level": ["metric_kind"],
            "tau": ["latent"],
            "corr": ["latent", "latent_"],
            **{name: ["task"] for name in per_task},
            **{name: ["task", "place"] for name in observed},
        },
    )
