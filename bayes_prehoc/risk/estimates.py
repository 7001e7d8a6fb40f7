"""Risk estimates: for each task, the value of a proxy at each depth with its sampling error.

A `TaskEstimates` is what the hierarchical model sees of a task. It carries the effective degrees of freedom
of each value (design of the likelihood: U-hat ~ Gamma with shape nu/2), the noise that the outcome has
because the outcome set is finite, and what was left out.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs.trajectories import SetAside

__all__ = ["SHALLOWEST", "InformationEstimates", "LeftOut", "RiskEstimates", "TaskEstimates"]

SHALLOWEST = 0.02
"""Share of the horizon at which probes begin."""


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A depth that was not used, with the reason; where the law does not hold, with what was estimated there."""

    depth: float
    reason: str
    risk: float | None = None
    nu: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class TaskEstimates:
    """Proxy values of one task.

    Attributes
    ----------
    task, proxy, metric, metric_kind, depth_unit : str
        `metric` is what the risk is a variance of; risk has its squared unit.
    depths : float64 array (D,)
        Strictly increasing, positive: the depths that are fitted.
    risk : float64 array (D,)
        U-hat, positive. Includes the noise of the outcome set where the outcome has any.
    nu : float64 array (D,)
        Effective degrees of freedom of each value.
    bias : float64 array (D,), or None
        Bias that was estimated and removed, relative to `risk`; None where the proxy has none that is known.
    correlation : float64 array (D, D), or None
        Of the sampling errors at different depths, which share runs.
    scale : float
        Recorded outcome scale in the metric's unit (|mean R|), used to make the model unitless.
    outcome_mean : float
        Mean of R (or of the metric at the deepest used depth where no run is complete).
    n_runs : int
        Runs behind each value.
    horizon : float
        c_T, in `depth_unit`.
    horizon_assumed : bool
    noise, noise_se : float
        V_eval of the outcome and its standard error; NaN where per-example results are missing.
    outcome_stands_in : bool
        R is the last value of a trajectory metric, not a result on a separate outcome set.
    higher_is_better : bool or None
    left_out : tuple of LeftOut
    flags : tuple of str
        What a reader of the answer must know (few seeds, diverged runs, direction of bias).
    hashes : tuple of str
        One per run.
    family : str or None
        Tasks of one family resemble each other beyond what all tasks do.
    descriptors : dict of float by name
        Static descriptors X_s: what is known of the task before a run.
    branches : int or None
        Continuations of a run at each depth; None but for `branching`.
    """

    task: str
    proxy: str
    metric: str
    metric_kind: str
    depths: np.ndarray
    risk: np.ndarray
    nu: np.ndarray
    scale: float
    outcome_mean: float
    n_runs: int
    horizon: float
    horizon_assumed: bool = False
    depth_unit: str = "step"
    bias: np.ndarray | None = None
    correlation: np.ndarray | None = None
    noise: float = float("nan")
    noise_se: float = float("nan")
    outcome_stands_in: bool = True
    higher_is_better: bool | None = None
    left_out: tuple[LeftOut, ...] = ()
    flags: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()
    family: str | None = None
    descriptors: dict[str, float] = dataclasses.field(default_factory=dict)
    branches: int | None = None

    @property
    def c_min(self) -> float:
        """Shallowest depth fitted; of a task that nobody has probed, a fiftieth of the run, where probes begin."""
        return float(self.depths[0]) if len(self.depths) else SHALLOWEST * self.horizon

    @property
    def c_max(self) -> float:
        """Deepest depth fitted; 0 of a task that nobody has probed."""
        return float(self.depths[-1]) if len(self.depths) else 0.0

    @property
    def has_noise(self) -> bool:
        """Whether the outcome set's noise was estimated."""
        return bool(np.isfinite(self.noise) and np.isfinite(self.noise_se))


@dataclasses.dataclass(frozen=True, eq=False)
class RiskEstimates:
    """Estimates of one proxy for many tasks.

    Attributes
    ----------
    proxy : str
        "conditional", "branching" or "run_to_run"; one per set, proxies are never pooled together.
    tasks : tuple of TaskEstimates
    set_aside : tuple of SetAside
    """

    proxy: str
    tasks: tuple[TaskEstimates, ...]
    set_aside: tuple[SetAside, ...] = ()

    def __iter__(self) -> Iterator[TaskEstimates]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, task: str) -> TaskEstimates:
        for estimates in self.tasks:
            if estimates.task == task:
                return estimates
        known = ", ".join(t.task for t in self.tasks[:8])
        raise InputError(f"no task {task!r}", "RiskEstimates", f"The tasks are: {known}.")

    @property
    def frame(self) -> pd.DataFrame:
        """Tidy table: task, depth, risk with its 90% interval (chi-square with nu degrees of freedom), proxy.

        `bias` is what was removed, relative to the risk; NaN where the proxy has none that is known.
        """
        return pd.concat([_frame(t, t.depths, t.risk, t.nu, bias=t.bias) for t in self.tasks], ignore_index=True)

    @property
    def outside(self) -> pd.DataFrame:
        """The same of depths that were estimated and left out, since the law does not hold there, with the reason."""
        parts = []
        for task in self.tasks:
            left = [one for one in task.left_out if one.risk is not None]
            depths, risk, nu = (np.array([getattr(one, f) for one in left]) for f in ("depth", "risk", "nu"))
            parts.append(_frame(task, depths, risk, nu).assign(reason=[one.reason for one in left]))
        return pd.concat(parts, ignore_index=True)


def _frame(task, depths, risk, nu, bias=None):
    return pd.DataFrame(
        {
            "task": task.task,
            "depth": depths,
            "risk": risk,
            "lower": risk * nu / stats.chi2.ppf(0.95, nu),
            "upper": risk * nu / stats.chi2.ppf(0.05, nu),
            "nu": nu,
            "bias": np.nan if bias is None else bias,
            "runs": task.n_runs,
            "metric": task.metric,
            "proxy": task.proxy,
        }
    )


@dataclasses.dataclass(frozen=True, eq=False)
class InformationEstimates:
    """What watching tells of the outcome, for many tasks.

    Attributes
    ----------
    frame : DataFrame
        For each task and depth: task, depth, runs, nats, an estimate of I(R; X_d^(c) | X_s) with its standard error
        se, p_value against none, and p_any, the same for all depths of the task together.
    set_aside : tuple of SetAside
    """

    frame: pd.DataFrame
    set_aside: tuple[SetAside, ...] = ()
