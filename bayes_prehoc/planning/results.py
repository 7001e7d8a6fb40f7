"""What a plan says of each task: figures with their intervals, in the task's own units, and how to read them.

A figure that is withheld is None: all of them where the fit did not converge, for one task those that would need its
data to tell alpha from L_int. In JSON it is null, in the table it is missing.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning.arguments import Arguments
from bayes_prehoc.planning.costs import Cost
from bayes_prehoc.planning.regimes import REGIMES, Boundaries, Flip
from bayes_prehoc.planning.stopping import Action
from bayes_prehoc.runs.trajectories import SetAside

__all__ = ["Frontier", "Interval", "Plan", "RiskBand", "TaskPlan", "plain"]


@dataclasses.dataclass(frozen=True)
class Interval:
    """Posterior median and central 90% interval."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, draws: np.ndarray) -> "Interval":
        """From draws (S,)."""
        lower, median, upper = np.quantile(draws, (0.05, 0.5, 0.95))
        return cls(float(median), float(lower), float(upper))


class RiskBand(NamedTuple):
    """Posterior of the risk along depth: float64 arrays (D,), median and central 90% interval, metric unit squared."""

    depths: np.ndarray
    median: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


class Frontier(NamedTuple):
    """What each further unit of cost buys, at depths from c_min to c_T, all of them efficient; float64 arrays (D,).

    `cost` in the cost's unit; of the risk, without the outcome set's noise, posterior mean (`expected`), median and
    central 90% interval, metric unit squared.
    """

    depths: np.ndarray
    cost: np.ndarray
    expected: np.ndarray
    median: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class TaskPlan:
    """Decisions about one task.

    Attributes
    ----------
    task, metric, depth_unit, proxy : str
    n_runs : int
        Runs behind the estimates.
    status : str
        "ok", "not_identified" or "not_converged".
    reading : str
        "verdict" where the proxy measures remaining risk, "spread reading" where it measures how far runs still
        differ (`run_to_run`); there L_int stands for L(c_T).
    horizon : float
        c_T; `horizon_assumed` where it was not given.
    outcome_stands_in : bool
        The last trajectory value stands in for the result on an outcome set.
    outcome_mean : float
    c_min, c_max : float
        Shallowest and deepest fitted depth.
    tolerance : float or None
        delta, in the metric's unit; None where there is no default and none was stated.
    c_cheap : float
    cost : Cost
    gamma : float or None
        Price of one unit of squared error, in the cost's unit; 0 where there is no risk to price.
    regimes : dict or None
        Probability of each of `REGIMES`, without the outcome set's noise; `regime` is the most probable.
    regimes_with_noise : dict or None
        The same with the outcome set's noise; None where that is unknown.
    flips : tuple of Flip
        Tolerances at which the most probable regime changes.
    boundaries : Boundaries or None
        Where the regimes meet in the plane of L_int against alpha, at this task's tolerance and cheap depth.
    rmse_cheap, rmse_final : Interval or None
        sqrt L(c_cheap) and sqrt L(c_T), in the metric's unit.
    L_int, L_int_with_noise : Interval or None
        Metric unit squared, without and with the outcome set's noise; the latter None where that is unknown. A larger
        outcome set would remove the difference.
    K : Interval or None
        Amplitude of the power law, metric unit squared times depth to the alpha; None where the curve has a horizon,
        since the amplitude has no limit at alpha = 0.
    alpha : Interval or None
    c_star : Interval or None
        Optimal depth, clipped to [c_min, c_T]; `c_star_at_min` and `c_star_at_max` are the posterior mass at the ends.
    best_depth : float or None
        Minimises posterior expected risk plus cost.
    actions : dict of Action or None
        "best_depth" and what one might do instead, each with its depth and its regret against each draw's own optimum,
        in the cost's unit: "plug_in" (c* of the curve at the posterior medians), "no_probe", "fixed_fraction" (a tenth
        of the horizon), "hundred_steps" (where depth is counted in steps), "full_run"; see `planning.stopping`.
    frontier : Frontier or None
        Risk against cost.
    gain : Interval or None
        G, what watching beyond c_min saves net of its cost, in the cost's unit; `p_gain` = P(G > 0).
    extrapolated : tuple of str
        Figures that lie outside the fitted depths: "c_star", "best_depth", "c_cheap", "L(c_T)", "L_int".
    flags : tuple of str
        What a reader of the answer must know.
    points : tuple of dict
        The estimates: depth, risk, and the 90% sampling interval lower, upper.
    curve, curve_without_noise : RiskBand or None
        Posterior of the risk as it is observed (with the outcome set's noise, so that it passes through the points),
        and without that noise where it is known.
    cloud : dict of arrays or None
        At most 400 draws of rmse_cheap and rmse_final (in units of the tolerance where there is one) and of c_star.
    """

    task: str
    metric: str
    depth_unit: str
    proxy: str
    n_runs: int
    status: str
    reading: str
    horizon: float
    horizon_assumed: bool
    outcome_stands_in: bool
    outcome_mean: float
    c_min: float
    c_max: float
    tolerance: float | None
    c_cheap: float
    cost: Cost
    points: tuple[dict[str, float], ...]
    gamma: float | None = None
    regimes: dict[str, float] | None = None
    regime: str | None = None
    regimes_with_noise: dict[str, float] | None = None
    flips: tuple[Flip, ...] = ()
    boundaries: Boundaries | None = None
    rmse_cheap: Interval | None = None
    rmse_final: Interval | None = None
    L_int: Interval | None = None
    L_int_with_noise: Interval | None = None
    K: Interval | None = None
    alpha: Interval | None = None
    c_star: Interval | None = None
    c_star_at_min: float | None = None
    c_star_at_max: float | None = None
    best_depth: float | None = None
    actions: dict[str, Action] | None = None
    frontier: Frontier | None = None
    gain: Interval | None = None
    p_gain: float | None = None
    extrapolated: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    curve: RiskBand | None = None
    curve_without_noise: RiskBand | None = None
    cloud: dict[str, np.ndarray] | None = None

    @property
    def value_of_information(self) -> float | None:
        """What knowing the curve would save, in the cost's unit: the expected regret of the best depth."""
        return None if self.actions is None else self.actions["best_depth"].regret.expected

    @property
    def answered(self) -> bool:
        """Whether there is a regime or an optimal depth, or would be if a tolerance were stated."""
        return self.rmse_final is not None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the cloud of draws is left out."""
        return {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name != "cloud"}


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Decisions about every task of a posterior, and what they assume.

    Attributes
    ----------
    posterior : Posterior
    tasks : tuple of TaskPlan
    assumptions : dict
        Every assumption behind the answer, in words with numbers and units.
    arguments : Arguments
        What the user stated.
    """

    posterior: Any
    tasks: tuple[TaskPlan, ...]
    assumptions: dict[str, str]
    arguments: Arguments

    @property
    def set_aside(self) -> tuple[SetAside, ...]:
        """Tasks that could not be used, with their reasons."""
        return tuple(self.posterior.estimates.set_aside)

    def __iter__(self) -> Iterator[TaskPlan]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, task: str) -> TaskPlan:
        for planned in self.tasks:
            if planned.task == task:
                return planned
        for aside in self.set_aside:
            if aside.task == task:
                raise InputError(
                    f"task {task!r} was set aside: {aside.reason}",
                    "Plan",
                    "It has no answer until its runs can be used.",
                )
        known = ", ".join(t.task for t in self.tasks[:8])
        raise InputError(f"no task {task!r}", "Plan", f"The tasks are: {known}.")

    @property
    def table(self) -> pd.DataFrame:
        """One row per task: regimes, L_int, alpha and c_star with 90% intervals, best depth, and how to read them."""
        rows = [_row(t) for t in self.tasks]
        return pd.DataFrame(rows).set_index("task") if rows else pd.DataFrame()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready and strict: no NaN; what is withheld is null."""
        from importlib.metadata import version

        checks = self.posterior.checks().reset_index().to_dict("records")
        return {
            "tasks": [t.to_dict() for t in self.tasks],
            "assumptions": dict(self.assumptions),
            "proxy": self.posterior.proxy,
            "converged": bool(self.posterior.converged),
            "checks": plain(checks),
            "set_aside": [{"task": s.task, "reason": s.reason} for s in self.set_aside],
            "version": version("bayes-prehoc"),
        }

    def save(self, path) -> None:
        """Write the posterior and the plan's arguments into one file, which `load_plan` and `load_posterior` read."""
        # Not at the top: reading a plan makes it again, so `saved` needs this module.
        from bayes_prehoc.planning.saved import save_plan

        save_plan(self, path)


def _row(task: TaskPlan) -> dict[str, Any]:
    row = {"task": task.task, "regime": task.regime}
    row |= {name: math.nan if task.regimes is None else task.regimes[name] for name in REGIMES}
    for name in ("L_int", "alpha", "c_star"):
        interval = getattr(task, name) or Interval(math.nan, math.nan, math.nan)
        row |= {name: interval.median, f"{name}_lower": interval.lower, f"{name}_upper": interval.upper}
    best = math.nan if task.best_depth is None else task.best_depth
    tolerance = math.nan if task.tolerance is None else task.tolerance
    row |= {"best_depth": best, "depth_unit": task.depth_unit, "metric": task.metric, "tolerance": tolerance}
    return row | {"status": task.status, "reading": task.reading, "extrapolated": ", ".join(task.extrapolated)}


def plain(value):
    """Plain Python for JSON; a number that is not finite becomes None."""
    if isinstance(value, Cost):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(part) for name, part in value._asdict().items()}
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
