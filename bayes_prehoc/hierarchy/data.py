"""Risk estimates as the dense, masked, unitless arrays that the model works on.

Depth is a share of the horizon, risk is divided by the square of the task's outcome scale: so tasks with
different metrics and units pool, and what the latents mean does not move with what was probed.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.basis import Basis, basis_of, family_of
from bayes_prehoc.risk.estimates import RiskEstimates

__all__ = [
    "MOST_DEPTHS",
    "ONE_KIND",
    "REFERENCE_DEPTH",
    "ModelData",
    "Sizes",
    "check_estimates",
    "model_data",
    "spread_depths",
]

REFERENCE_DEPTH = 0.2
"""c_0 as a share of the horizon, for every task."""

MOST_DEPTHS = 12
"""Of a task. More of the same runs tell little more, and of the tails of many that hang together the copula is wrong:
estimates of three runs that are all e^6 too small at fifty depths are no coincidence to it."""


class Sizes(NamedTuple):
    """How many columns there are of each sort, which is how many hyperparameters there are."""

    kinds: int = 1
    families: int = 0
    covariates: int = 0


ONE_KIND = Sizes()
"""Tasks with one kind of metric and nothing else to tell them apart by."""


class ModelData(NamedTuple):
    """What the likelihood sees, D depths by T tasks, the depths that are used first.

    Attributes
    ----------
    depth : share of the horizon, in (0, 1]; 1 where masked
    log_risk : log of U-hat over the squared outcome scale; 0 where masked
    dof : effective degrees of freedom nu; 2 where masked
    mask : True where there is a value
    kind : one-hot kind of metric (T, kinds)
    noise, noise_se : V_eval of the outcome over the squared scale and its standard error; 0 where unknown
    family : one-hot family (T, families), or nothing in a task of a family that is not among them
    covariates : of each task (T, covariates)
    """

    depth: Float[Array, "D T"]
    log_risk: Float[Array, "D T"]
    dof: Float[Array, "D T"]
    mask: Bool[Array, "D T"]
    kind: Float[Array, "T kinds"]
    noise: Float[Array, " T"]
    noise_se: Float[Array, " T"]
    family: Float[Array, "T families"]
    covariates: Float[Array, "T covariates"]

    @property
    def sizes(self) -> Sizes:
        """Numbers of columns."""
        return Sizes(*(part.shape[-1] for part in (self.kind, self.family, self.covariates)))

    def taken(self, rows, most: int | None = None) -> "ModelData":
        """Of the tasks in these rows, and of at most so many depths; rows (P, n) give P such, along a first axis."""

        def of_depths(values):
            found = values[:most, rows]
            return found.swapaxes(0, 1) if np.ndim(rows) == 2 else found

        def of_tasks(values):
            return values[rows]

        return ModelData(*map(of_depths, self[:4]), *map(of_tasks, self[4:]))


def model_data(estimates: RiskEstimates, basis: Basis | None = None) -> ModelData:
    """Arrays of the model for a set of estimates; float32, logarithms taken in float64 first.

    Of each task at most `MOST_DEPTHS` depths, spread evenly in log depth. `basis` names the columns. Default: those of
    a fit of these estimates.
    """
    basis = basis_of(estimates) if basis is None else basis
    taken = [spread_depths(t.depths) for t in estimates]
    shape = (max(1, *map(len, taken)), len(estimates))
    depth, log_risk, dof = np.ones(shape), np.zeros(shape), np.full(shape, 2.0)
    mask = np.zeros(shape, bool)
    noise, noise_se = np.zeros(len(estimates)), np.zeros(len(estimates))
    for row, (task, places) in enumerate(zip(estimates, taken, strict=True)):
        there = slice(0, len(places))
        depth[there, row] = task.depths[places] / task.horizon
        log_risk[there, row] = np.log(task.risk[places]) - 2.0 * np.log(task.scale)
        dof[there, row] = task.nu[places]
        mask[there, row] = True
        if task.has_noise:
            noise[row], noise_se[row] = task.noise / task.scale**2, task.noise_se / task.scale**2
    kind = _one_hot([task.metric_kind for task in estimates], basis.kinds)
    family = _one_hot([family_of(task) for task in estimates], basis.families)
    covariates = np.zeros((len(estimates), 0))
    if basis.covariates is not None:
        covariates = np.stack([basis.covariates.of(task) for task in estimates])
    floats = [jnp.asarray(a, jnp.float32) for a in (depth, log_risk, dof)]
    rest = [jnp.asarray(a, jnp.float32) for a in (kind, noise, noise_se, family, covariates)]
    return ModelData(*floats, jnp.asarray(mask), *rest)


def _one_hot(names, columns) -> np.ndarray:
    return np.array([[name == column for column in columns] for name in names], float).reshape(len(names), len(columns))


def spread_depths(depths: Float[np.ndarray, " D"]) -> np.ndarray:
    """Places of those that the model sees: of more than `MOST_DEPTHS`, the nearest to points even in log depth."""
    if len(depths) <= MOST_DEPTHS:
        return np.arange(len(depths))
    logs = np.log(depths)
    return np.unique(np.abs(logs - np.linspace(logs[0], logs[-1], MOST_DEPTHS)[:, None]).argmin(axis=1))


def check_estimates(estimates: RiskEstimates, where: str, seed) -> None:
    """Refuse estimates that no model can be fitted to, and what cannot be a seed.

    Raises
    ------
    InputError
        There are none, one is not a positive number, or the seed is no whole number from 0 to 2**32 - 1.
    """
    if not len(estimates):
        raise InputError("there are no tasks", where, "Give estimates of one task or more.")
    for task in estimates:
        for name in ("depths", "risk", "nu"):
            if not np.all(np.isfinite(getattr(task, name)) & (getattr(task, name) > 0.0)):
                raise InputError(
                    f"{name} of task {task.task!r} holds a value that is not a positive number",
                    where,
                    "Leave out the depth where it is, or the task.",
                )
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise InputError(f"{seed!r} cannot be a seed", "seed", "Give a whole number from 0 to 2**32 - 1.")
