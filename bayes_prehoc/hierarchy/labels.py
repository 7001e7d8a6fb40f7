"""Draws as ArviZ groups with named dimensions."""

import arviz_base
import numpy as np
import xarray as xr

from bayes_prehoc.hierarchy.basis import Basis, basis_of
from bayes_prehoc.hierarchy.data import model_data
from bayes_prehoc.hierarchy.likelihood import alpha_of_rate
from bayes_prehoc.hierarchy.model import LATENTS, shared_sites
from bayes_prehoc.risk.estimates import RiskEstimates

__all__ = ["OF_POPULATION", "coordinates_of", "labelled"]

OF_POPULATION = {
    "mu_level": ["metric_kind"],
    "tau": ["latent"],
    "corr": ["latent", "latent_"],
    "tau_family": ["latent"],
    "family_white": ["family", "latent"],
    "family_onset": ["family"],
    "family_misfit": ["family"],
    "sway": ["latent"],
    "slope_white": ["covariate", "latent"],
}
"""Dimensions of the hyperparameters that have any."""


def coordinates_of(basis: Basis) -> dict[str, list]:
    """Coordinates of these dimensions."""
    return {
        "metric_kind": list(basis.kinds),
        "family": list(basis.families),
        "covariate": list(range(0 if basis.covariates is None else basis.covariates.into.shape[1])),
        "latent": list(LATENTS),
        "latent_": list(LATENTS),
    }


def labelled(sites, statistics, estimates: RiskEstimates, **groups) -> xr.DataTree:
    """Groups `posterior`, with the figures that follow from the latents, `sample_stats`, `observed_data` and others.

    Parameters
    ----------
    sites, statistics : mappings from name to array (chains, draws, ...)
        What is one number for all tasks may be one for each: after an update those at `model.shared_sites`.
    estimates : RiskEstimates
    **groups : mappings from name to array (chains, draws) or (chains, draws, T)
    """
    sites = dict(sites)
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
        {"posterior": sites, "sample_stats": dict(statistics), "observed_data": observed, **groups},
        coords={
            **coordinates_of(basis_of(estimates)),
            "task": [task.task for task in estimates],
            "place": np.arange(len(missing)),
        },
        dims={
            **{name: own for name, own in OF_POPULATION.items() if name in sites},
            **{name: ["task"] for name in (*per_task, *shared_sites(estimates.proxy)) if np.ndim(sites[name]) == 3},
            **{name: ["task", "place"] for name in observed},
            **{name: ["task"] for group in groups.values() for name, values in group.items() if np.ndim(values) == 3},
        },
    )
