"""What a posterior knows of the hyperparameters, as a prior card for another project.

A card's coordinates are those of `target`, in the order of the sites here: each hyperparameter's transform follows from
its prior, so a hyperparameter that the model gains is on the card as soon as it has a prior in `model.hyperpriors`.
What the data left open is then exactly standard normal there, but for correlations, which nearly are.
"""

from collections.abc import Sequence

import numpy as np
import numpyro.distributions as dist
from arviz_stats.base import array_stats

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.basis import metric_kinds
from bayes_prehoc.hierarchy.data import REFERENCE_DEPTH
from bayes_prehoc.hierarchy.model import LATENTS, hyperpriors, sizes_of
from bayes_prehoc.hierarchy.posterior import Posterior
from bayes_prehoc.priors import Calibration, Diagnostic, PriorCard, Provenance, Scope, Site, Transform, Weak, make_card

__all__ = ["card_of", "sites_of"]

LOG_OF = {"mu_level": "risk", "log_onset": "depth"}
"""Hyperparameters that are logarithms of what has a unit."""
ROUNDING = 6e-8
"""Draws in single precision next to an end of their range stand for values within it."""


def card_of(
    posterior: Posterior,
    name: str,
    *,
    description: str = "",
    licence: str = "unknown",
    citation: str = "",
    families: Sequence[str] | None = None,
    task_names: bool = False,
    ancestors: Sequence[PriorCard] = (),
    calibration: Sequence[Calibration] = (),
) -> PriorCard:
    """The prior card of a fit.

    Parameters
    ----------
    posterior : Posterior
        What `fit` returned.
    name, description, licence, citation : str
        As in `priors.Provenance`.
    families : sequence of str, optional
        Families of the tasks. Default: those that they name.
    task_names : bool
        Whether the card names the tasks; otherwise it holds nothing that tells them.
    ancestors : sequence of PriorCard
        Cards that were the fit's prior, whose runs count as seen.
    calibration : sequence of Calibration
        Figures of how well fits of this kind are calibrated.

    Returns
    -------
    PriorCard

    Raises
    ------
    InputError
        The posterior did not pass its gate or is an update, or a field is not as it must be.
    """
    if not posterior.converged:
        raise InputError("the posterior did not pass its gate", "prior card", "What did not converge is no prior.")
    group, estimates = posterior.draws["posterior"], posterior.estimates
    names = [_name(site) for site in _priors_of(posterior)]
    if not all(name in group and "task" not in group[name].dims for name in names):
        raise InputError("the posterior is an update", "prior card", "Make the card of the fit that was updated.")
    if families is None:
        families = sorted({task.family for task in estimates if task.family is not None})
    sites, weak = sites_of(posterior)
    values = {site.name: _within(group[site.name].values, site.transform) for site in sites}
    about = Provenance(
        name=name,
        tasks=len(estimates),
        runs=sum(max(task.n_runs, len(task.hashes)) for task in estimates),
        description=description,
        licence=licence,
        citation=citation,
        fitted_under=posterior.prior,
        task_names=posterior.tasks if task_names else None,
    )
    return make_card(
        {site: own.reshape(-1, *own.shape[2:]) for site, own in values.items()},
        sites,
        weak,
        Scope(posterior.proxy, REFERENCE_DEPTH, metric_kinds(estimates), tuple(families)),
        about,
        hashes=[own for task in estimates for own in task.hashes],
        ancestors=ancestors,
        population=_population(sites),
        effective=_effective(values),
        diagnostics=[
            Diagnostic(check.name, True, float(check.value), float(check.threshold), _nameless(check.worst, posterior))
            for check in posterior.gate
        ],
        calibration=calibration,
    )


def sites_of(posterior: Posterior) -> tuple[tuple[Site, ...], Weak]:
    """Sites of a card of a posterior, and the weak prior in their coordinates."""
    group = posterior.draws["posterior"]
    sites, mean, scale = [], [], []
    for own, prior in _priors_of(posterior).items():
        name = _name(own)
        shape = group[name].shape[2:]
        transform, located = _transform(name, prior)
        labels = _labels(name, group[name])
        sites.append(Site(name, shape, transform, labels, LOG_OF.get(name)))
        for collected, value in zip((mean, scale), located, strict=True):
            collected.append(np.broadcast_to(value, len(labels)) if np.ndim(value) < 2 else np.ravel(value))
    return tuple(sites), Weak(*(np.concatenate(part).astype(np.float64) for part in (mean, scale)))


def _priors_of(posterior):
    """Prior of each hyperparameter that was fitted."""
    return hyperpriors(posterior.hyperprior, posterior.proxy, sizes_of(posterior.draws["posterior"]))


def _name(site):
    """What a site is called in the draws, which have the correlations themselves."""
    return "corr" if site == "corr_chol" else site


def _transform(name, prior):
    """The transform under which a prior is normal, and mean and scale of that normal."""
    base = prior
    while isinstance(base, dist.ExpandedDistribution | dist.Independent):
        base = base.base_dist
    standard = (0.0, 1.0)
    if isinstance(base, dist.Normal):
        return Transform("identity"), (np.asarray(base.loc), np.asarray(base.scale))
    if isinstance(base, dist.LogNormal):
        return Transform("log"), (np.asarray(base.loc), np.asarray(base.scale))
    if isinstance(base, dist.HalfNormal):
        return Transform("half_normal", {"scale": _floats(base.scale)}), standard
    if isinstance(base, dist.TwoSidedTruncatedDistribution) and _is_cut_half_normal(base):
        own = base.base_dist
        return Transform("half_normal", {"scale": _floats(own.scale), "most": _floats(base.high)}), standard
    if isinstance(base, dist.Exponential):
        return Transform("exponential", {"mean": _floats(1.0 / np.asarray(base.rate, np.float64))}), standard
    if isinstance(base, dist.Beta) and np.all(np.asarray(base.concentration0) == 1.0):
        return Transform("power", {"a": _floats(base.concentration1)}), standard
    if isinstance(base, dist.LKJCholesky):
        return Transform("correlation", {"lkj": _floats(base.concentration)}), standard
    raise InputError(
        f"{name} has the prior {type(base).__name__}, which no card can hold", "prior card", "Fit under the weak prior."
    )


def _is_cut_half_normal(base):
    own = base.base_dist
    return isinstance(own, dist.Normal) and np.all(np.asarray(base.low) == 0.0) and np.all(np.asarray(own.loc) == 0.0)


def _floats(values):
    # Of a single-precision number the decimal that was meant.
    return tuple(float(str(value)) for value in np.atleast_1d(np.asarray(values, np.float32)))


def _labels(name, values):
    """Labels of the coordinates of a site, by the names of its elements."""
    dims = values.dims[2:]
    if name == "corr":
        return tuple(f"corr[{LATENTS[row]}, {LATENTS[column]}]" for row in range(3) for column in range(row))
    coords = [[str(one) for one in values.coords[dim].values] for dim in dims]
    if not coords:
        return (name,)
    return tuple(
        f"{name}[{', '.join(axis[place] for axis, place in zip(coords, index, strict=True))}]"
        for index in np.ndindex(*map(len, coords))
    )


def _population(sites):
    """Which scale goes with which mean: by the names that the model gives them."""
    labels = {label for site in sites for label in site.labels}
    return {
        label: f"tau[{latent}]"
        for latent in LATENTS
        for label in sorted(labels)
        if label.partition("[")[0] == f"mu_{latent}" and f"tau[{latent}]" in labels
    }


def _within(values, transform):
    values = np.asarray(values, np.float64)
    if transform.kind in ("half_normal", "exponential", "log"):
        return np.clip(values, 1e-30, min(transform.parameters.get("most", (np.inf,))))
    return np.clip(values, 1e-30, 1.0 - ROUNDING) if transform.kind == "power" else values


def _effective(values):
    """Effective number of draws of the worst hyperparameter."""
    along = {"chain_axis": 0, "draw_axis": 1}
    found = []
    for own in values.values():
        flat = own.reshape(*own.shape[:2], -1)
        varies = np.ptp(flat, axis=(0, 1)) > 0.0
        found.append(array_stats.ess(flat[..., varies], method="bulk", **along).min())
    return float(min(found))


def _nameless(worst, posterior):
    """Where a check is worst, without the name of a task."""
    named = next((task for task in posterior.tasks if worst.endswith(f" {task}")), None)
    if named is None:
        return worst
    site = worst.removesuffix(f" {named}")
    return "one task" if site == "task" else f"{site} of one task"
