"""What is known of tasks before any run, as columns: kind of metric, family, and covariates made of static descriptors.

Descriptors are many, correlated and of all magnitudes, and tasks are few. So logarithms are taken of those that are
positive everywhere, all are standardised over the tasks that have them, and their first principal components are the
covariates, one for every `TASKS_PER_COVARIATE` tasks: regression on principal components. What is missing is taken to
be average.

Families are a level of their own where there are two or more, with three tasks each or more on average; of fewer,
a family and its tasks cannot be told apart.

Sources: Massy 1965 (regression on principal components), Harrell 2015, section 4.4 (ten cases to a covariate).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from bayes_prehoc.risk.estimates import RiskEstimates, TaskEstimates

__all__ = ["Basis", "Covariates", "basis_of", "family_of", "metric_kinds"]

TASKS_PER_COVARIATE = 10
MOST_COVARIATES = 5
TASKS_PER_FAMILY = 3
FARTHEST = 3.0
"""Standard deviations from the mean up to which a descriptor counts: laws are not known to go on beyond the data."""
NO_FAMILY = ""
"""Tasks that name no family are one."""
LEAST_KNOWN = 0.5
"""Share of the tasks that must have a descriptor."""


class Covariates(NamedTuple):
    """How N descriptors become K covariates.

    Attributes
    ----------
    names : of the descriptors
    logarithm : bool array (N,)
    center, scale : arrays (N,)
    into : array (N, K)
        From standardised descriptors.
    """

    names: tuple[str, ...]
    logarithm: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    into: Float[np.ndarray, "N K"]

    def of(self, task: TaskEstimates) -> Float[np.ndarray, " K"]:
        """Those of a task; a descriptor that is missing or that has no logarithm counts as average."""
        given = np.array([task.descriptors.get(name, np.nan) for name in self.names], np.float64)
        standard = (_on_scale(given, self.logarithm) - self.center) / self.scale
        return np.nan_to_num(np.clip(standard, -FARTHEST, FARTHEST)) @ self.into


class Basis(NamedTuple):
    """Names of the columns of `ModelData.kind`, `family` and `covariates`.

    Attributes
    ----------
    kinds : of metrics
    families : none where they are no level of the model
    covariates : Covariates or None
    """

    kinds: tuple[str, ...]
    families: tuple[str, ...] = ()
    covariates: Covariates | None = None


def family_of(task: TaskEstimates) -> str:
    """The family that a task counts as one of."""
    return NO_FAMILY if task.family is None else task.family


def metric_kinds(estimates: RiskEstimates) -> tuple[str, ...]:
    """Kinds of metric among the tasks, sorted."""
    return tuple(sorted({task.metric_kind for task in estimates}))


def basis_of(estimates: RiskEstimates) -> Basis:
    """The columns that a fit of these estimates has."""
    families = tuple(sorted({family_of(task) for task in estimates}))
    told = len(families) > 1 and len(estimates) >= TASKS_PER_FAMILY * len(families)
    return Basis(metric_kinds(estimates), families if told else (), _covariates(estimates))


def _covariates(estimates: RiskEstimates) -> Covariates | None:
    tasks = len(estimates)
    most = min(tasks // TASKS_PER_COVARIATE, MOST_COVARIATES)
    every = sorted({name for task in estimates for name in task.descriptors})
    given = np.array([[task.descriptors.get(name, np.nan) for name in every] for task in estimates], np.float64)
    if not most or not every:
        return None
    there = np.isfinite(given)
    logarithm = np.all((given > 0.0) | ~there, axis=0)
    values = _on_scale(given, logarithm)
    count = np.maximum(there.sum(axis=0), 1)
    center = np.where(there, values, 0.0).sum(axis=0) / count
    off = np.where(there, values - center, 0.0)
    scale = np.sqrt((off**2).sum(axis=0) / count)
    kept = (there.mean(axis=0) >= LEAST_KNOWN) & (scale > 1e-9 * (np.abs(center) + 1.0))
    if not kept.any():
        return None
    standard = np.clip(off[:, kept] / scale[kept], -FARTHEST, FARTHEST)
    _, widths, rows = np.linalg.svd(standard, full_matrices=False)
    rows = rows[: min(most, int(np.sum(widths > 1e-6 * widths[0])))]
    # Which way a component points is nobody's choice; that its largest weight is positive is as good as any.
    rows = rows * np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)])[:, None]
    into = rows.T * np.sqrt(tasks) / widths[: len(rows)]
    names = tuple(name for name, own in zip(every, kept, strict=True) if own)
    return Covariates(names, logarithm[kept], center[kept], scale[kept], into)


def _on_scale(values, logarithm):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(logarithm, np.where(values > 0.0, np.log(values), np.nan), values)
