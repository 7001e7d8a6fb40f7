"""What a posterior knows of the hyperparameters, as a prior card for another project.

A card's coordinates are those of `target`, in the order of the sites here: each hyperparameter's transform follows from
its prior, so a hyperparameter that the model gains is on the card as soon as it has a prior in `model.hyperpriors`.
What the data left open is then exactly standard normal there, but for correlations, which nearly are.

Covariates are made of descriptors as one fit's tasks have them (`basis`), so their slopes mean nothing to another fit:
a card is of tasks whose descriptors nobody looks at.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpyro.distributions as dist
from arviz_stats.base import array_stats
from jaxtyping import Float

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.basis import Basis, basis_of, metric_kinds
from bayes_prehoc.hierarchy.data import REFERENCE_DEPTH, Sizes
from bayes_prehoc.hierarchy.labels import OF_POPULATION, coordinates_of
from bayes_prehoc.hierarchy.model import LATENTS, OF_COVARIATES, Hyperprior, hyperpriors
from bayes_prehoc.hierarchy.posterior import Posterior
from bayes_prehoc.priors import Calibration, Diagnostic, PriorCard, Provenance, Scope, Site, Transform, Weak, make_card

__all__ = ["card_of", "sites_of", "wider", "within", "without_covariates"]

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
        Cards that the runs descend from in ways that the posterior does not tell, whose runs count as seen. Those of
        the cards that were the fit's prior count in any case.
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
    if "tau" not in group:
        raise InputError("the posterior is an update", "prior card", "Make the card of the fit that was updated.")
    if families is None:
        families = sorted({task.family for task in estimates if task.family is not None})
    sites, weak = sites_of(
        posterior.hyperprior, posterior.proxy, basis_of(posterior.estimates)._replace(covariates=None)
    )
    drawn = without_covariates({name: group[name].values for name in group.data_vars})
    values = {site.name: within(drawn[site.name], site.transform) for site in sites}
    about = Provenance(
        name=name,
        tasks=len(estimates),
        runs=sum(max(task.n_runs, len(task.hashes)) for task in estimates),
        description=description,
        licence=licence,
        citation=citation,
        fitted_under=posterior.prior if posterior.card is None else posterior.card.briefly,
        task_names=posterior.tasks if task_names else None,
    )
    card = make_card(
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
    if posterior.card is None:
        return card
    seen = np.unique(np.concatenate([card.fingerprints, posterior.card.fingerprints]), axis=0)
    return dataclasses.replace(card, fingerprints=seen)


def sites_of(prior: Hyperprior, proxy: str, basis: Basis) -> tuple[tuple[Site, ...], Weak]:
    """Sites of the hyperparameters of a model with these columns, and the weak prior in their coordinates."""
    coordinates = coordinates_of(basis)
    sizes = Sizes(*(len(coordinates[dim]) for dim in ("metric_kind", "family", "covariate")))
    sites, mean, scale = [], [], []
    for own, distribution in hyperpriors(prior, proxy, sizes).items():
        name = "corr" if own == "corr_chol" else own
        axes = [[str(one) for one in coordinates[dim]] for dim in OF_POPULATION.get(name, ())]
        transform, located = _transform(name, distribution)
        labels = _labels(name, axes)
        sites.append(Site(name, tuple(map(len, axes)), transform, labels, LOG_OF.get(name)))
        for collected, value in zip((mean, scale), located, strict=True):
            collected.append(np.broadcast_to(value, len(labels)) if np.ndim(value) < 2 else np.ravel(value))
    return tuple(sites), Weak(*(np.concatenate(part).astype(np.float64) for part in (mean, scale)))


def without_covariates(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Hyperparameters (..., ...) by site of the same tasks where nobody looks at their descriptors.

    Covariates have unit variance and no correlation over the tasks that they were made of, so what they tell of a
    latent is variance between tasks once they are left out.
    """
    found = {name: np.asarray(own, np.float64) for name, own in values.items() if name not in OF_COVARIATES}
    if "slope_white" not in values:
        return found
    white = np.asarray(values["slope_white"], np.float64)
    slopes = np.asarray(values["sway"], np.float64)[..., None, :] * white / np.sqrt(white.shape[-2])
    return found | wider(found, np.einsum("...ki,...kj->...ij", slopes, slopes))


def wider(values: Mapping[str, np.ndarray], more: Float[np.ndarray, "... 3 3"]) -> dict[str, np.ndarray]:
    """Scales and correlations of tasks whose latents have so much more covariance."""
    tau, corr = (np.asarray(values[name], np.float64) for name in ("tau", "corr"))
    covariance = tau[..., :, None] * corr * tau[..., None, :] + more
    scale = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    return {"tau": scale, "corr": covariance / (scale[..., :, None] * scale[..., None, :])}


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


def _labels(name, axes):
    """Labels of the coordinates of a site, by the names along its axes."""
    if name == "corr":
        return tuple(f"corr[{LATENTS[row]}, {LATENTS[column]}]" for row in range(3) for column in range(row))
    return tuple(f"{name}[{', '.join(own)}]" for own in itertools.product(*axes)) if axes else (name,)


def _population(sites):
    """Which scale goes with which mean: by the names that the model gives them."""
    labels = {label for site in sites for label in site.labels}
    return {
        label: f"tau[{latent}]"
        for latent in LATENTS
        for label in sorted(labels)
        if label.partition("[")[0] == f"mu_{latent}" and f"tau[{latent}]" in labels
    }


def within(values: Float[np.ndarray, "..."], transform: Transform) -> Float[np.ndarray, "..."]:
    """Values that rounding has not put at an end of their range."""
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
