"""What a set of fine-tuning runs is, wherever it came from.

A `TaskRuns` holds the runs of one task as dense arrays, rows are seeds and columns are depths; a
`Trajectories` holds many of them and says which tasks were set aside, and why. Probes and readers make
them, `bayes_prehoc.risk` consumes them; neither knows about the other.

Missing is NaN, diverged is infinite. The outcome R is kept apart from the trajectory: it is what a full run
is judged by, the trajectory is what a predictor may look at.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayes_prehoc.errors import InputError

__all__ = ["BY_RUN", "DESCRIPTOR", "SetAside", "TaskRuns", "Trajectories", "metric_kind"]

BY_RUN = ("outcome", "outcome_examples", "depth_examples", "forked")
"""Fields of `TaskRuns`, beside its values, that have a row for each run or are None."""
DESCRIPTOR = "descriptor."
"""Before the names of static descriptors among a task's attributes."""
FAMILY = "family"
"""The attribute that names a task's family."""


@dataclasses.dataclass(frozen=True)
class SetAside:
    """A task that cannot be used, with the reason a person can read."""

    task: str
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class TaskRuns:
    """The runs of one task.

    Attributes
    ----------
    task : str
        Name of the task.
    seeds : tuple of str or int, length n
        One per run, unique within the task.
    depths : float64 array (D,)
        Strictly increasing, non-negative, in `depth_unit`. Depth 0 is kept; it is never fitted.
    values : mapping from metric name to float64 array (n, D)
        NaN where a run has no value at a depth, +-inf where it has diverged.
    outcome_metric : str or None
        The metric a full run is judged by; None where several were recorded and the user named none.
    outcome : float64 array (n,) or None
        R on the outcome set, NaN where the run did not reach the horizon. None: the last value of
        `outcome_metric` stands in (see `final_outcome`), and answers say so.
    outcome_examples : bool array (n, m) or None
        Per-example results behind `outcome` on one shared outcome set of m examples.
    depth_examples : bool or float32 array (n, D, m) or None
        The same at each depth.
    fork_depths : float64 array (F,) or None
        Depths at which each run was forked into continuations with fresh randomness.
    forked : float64 array (n, F, b) or None
        Outcomes of its b continuations from each of them; infinite for one that diverged.
    horizon : float
        Depth c_T at which a full run ends.
    horizon_assumed : bool
        The horizon was not given but taken from the longest run while others stopped earlier.
    depth_unit : str
        "step", "epoch", "sample", "token", ...
    higher_is_better : bool or None
        Of the outcome metric.
    attributes : mapping
        Whatever else is known about the task; scalars only. "family" names the tasks that it is one of, what begins
        with "descriptor." is a static descriptor: both have a say in what the task is expected to be like.
    notes : tuple of str
        What was left out or assumed while reading, in words.
    """

    task: str
    seeds: tuple
    depths: np.ndarray
    values: Mapping[str, np.ndarray]
    outcome_metric: str | None
    horizon: float
    horizon_assumed: bool = False
    outcome: np.ndarray | None = None
    outcome_examples: np.ndarray | None = None
    depth_examples: np.ndarray | None = None
    fork_depths: np.ndarray | None = None
    forked: np.ndarray | None = None
    depth_unit: str = "step"
    higher_is_better: bool | None = None
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        shape = (len(self.seeds), len(self.depths))
        for name, wanted in self._extra_shapes().items():
            given = getattr(self, name)
            if given is not None and given.shape[: len(wanted)] != wanted:
                raise InputError(
                    f"{name} has shape {given.shape}, expected it to begin with {wanted}",
                    f"task {self.task!r}",
                    "Give one row per seed and one column per depth.",
                )
        for metric, value in self.values.items():
            if value.shape != shape:
                raise InputError(
                    f"values have shape {value.shape}, expected (seeds, depths) = {shape}",
                    f"task {self.task!r}, metric {metric!r}",
                    "Give one row per seed and one column per depth.",
                )
        if len(set(self.seeds)) != len(self.seeds):
            raise InputError("a seed appears twice", f"task {self.task!r}", "Give each run its own seed.")
        if np.any(np.diff(self.depths) <= 0) or np.any(self.depths < 0):
            raise InputError(
                "depths are negative or not increasing", f"task {self.task!r}", "Sort them and drop duplicates."
            )

    def _extra_shapes(self) -> dict[str, tuple[int, ...]]:
        forks = 0 if self.fork_depths is None else len(self.fork_depths)
        return {"depth_examples": (len(self.seeds), len(self.depths)), "forked": (len(self.seeds), forks)}

    def taken(self, rows) -> "TaskRuns":
        """Some of the runs, in this order."""
        rows = np.asarray(rows, dtype=int)
        there = {name: getattr(self, name) for name in BY_RUN}
        return dataclasses.replace(
            self,
            seeds=tuple(self.seeds[row] for row in rows),
            values={name: value[rows] for name, value in self.values.items()},
            **{name: None if value is None else value[rows] for name, value in there.items()},
        )

    @property
    def family(self) -> str | None:
        """The family that the task is one of."""
        named = self.attributes.get(FAMILY)
        return None if named is None else str(named)

    @property
    def descriptors(self) -> dict[str, float]:
        """Static descriptors by name: what is known of the task before a run. Those that are no finite number are none.

        Raises
        ------
        InputError
            One is text.
        """
        found = {name: value for name, value in self.attributes.items() if name.startswith(DESCRIPTOR)}
        for name, value in found.items():
            if not isinstance(value, int | float):
                raise InputError(
                    f"{name} is {value!r}", f"task {self.task!r}", "Give a number, or name the attribute otherwise."
                )
        numbers = {name.removeprefix(DESCRIPTOR): float(value) for name, value in found.items()}
        return {name: value for name, value in numbers.items() if np.isfinite(value)}

    @property
    def n_runs(self) -> int:
        """Number of runs n."""
        return len(self.seeds)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the recorded trajectory metrics."""
        return tuple(self.values)

    @property
    def last_depths(self) -> np.ndarray:
        """Deepest depth at which each run has any value, finite or diverged; float array (n,)."""
        seen = ~np.all([np.isnan(v) for v in self.values.values()], axis=0)
        return np.where(seen, self.depths, -np.inf).max(axis=1)

    @property
    def diverged_at(self) -> np.ndarray:
        """Shallowest depth at which each run has an infinite value, NaN for runs that never do; float (n,)."""
        infinite = np.any([np.isinf(v) for v in self.values.values()], axis=0)
        first = np.where(infinite, self.depths, np.inf).min(axis=1)
        return np.where(np.isfinite(first), first, np.nan)

    @property
    def censored(self) -> np.ndarray:
        """Runs that stopped before the horizon without diverging; bool array (n,)."""
        return (self.last_depths < self.horizon) & np.isnan(self.diverged_at)

    def final_outcome(self, metric: str | None = None) -> np.ndarray:
        """R of every run, NaN for runs that did not reach the horizon or diverged; float array (n,).

        The recorded outcome where there is one; else the value of `metric` (default: the outcome metric)
        at the horizon.
        """
        if self.outcome is not None:
            return np.where(np.isfinite(self.outcome), self.outcome, np.nan)
        metric = metric or self.outcome_metric
        final = self.values[metric][:, -1]
        complete = np.isfinite(final) & (self.last_depths >= self.horizon)
        return np.where(complete, final, np.nan)

    def run_hashes(self) -> tuple[str, ...]:
        """One content hash per run (sha256 over its metrics, depths and values), for overlap checks."""
        out = []
        for row in range(self.n_runs):
            digest = hashlib.sha256()
            for metric in sorted(self.values):
                value = self.values[metric][row]
                there = ~np.isnan(value)
                digest.update(metric.encode())
                digest.update(self.depths[there].astype("<f8").tobytes())
                digest.update(value[there].astype("<f8").tobytes())
            out.append(digest.hexdigest())
        return tuple(out)


@dataclasses.dataclass(frozen=True, eq=False)
class Trajectories:
    """Runs of many tasks, in the order they were read or probed.

    Attributes
    ----------
    tasks : tuple of TaskRuns
    set_aside : tuple of SetAside
        Tasks that could not be used, each with its reason.
    """

    tasks: tuple[TaskRuns, ...]
    set_aside: tuple[SetAside, ...] = ()

    def __post_init__(self):
        names = [t.task for t in self.tasks]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise InputError(
                f"task {twice[0]!r} appears twice", "Trajectories", "Merge its runs into one task or rename one."
            )

    def __iter__(self) -> Iterator[TaskRuns]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, task: str) -> TaskRuns:
        for runs in self.tasks:
            if runs.task == task:
                return runs
        known = ", ".join(t.task for t in self.tasks[:8])
        raise InputError(f"no task {task!r}", "Trajectories", f"The tasks are: {known}.")

    @property
    def frame(self) -> pd.DataFrame:
        """Tidy table with columns task, seed, step, metric, value; missing cells are absent."""
        parts = []
        for runs in self.tasks:
            for metric, value in runs.values.items():
                row, column = np.nonzero(~np.isnan(value))
                parts.append(
                    pd.DataFrame(
                        {
                            "task": runs.task,
                            "seed": [runs.seeds[r] for r in row],
                            "step": runs.depths[column],
                            "metric": metric,
                            "value": value[row, column],
                        }
                    )
                )
        columns = ["task", "seed", "step", "metric", "value"]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)

    def summary(self) -> pd.DataFrame:
        """One row per task: runs, depths, horizon, how many runs are censored or diverged, notes."""
        rows = [
            {
                "task": t.task,
                "runs": t.n_runs,
                "depths": len(t.depths),
                "horizon": t.horizon,
                "horizon_assumed": t.horizon_assumed,
                "depth_unit": t.depth_unit,
                "outcome_metric": t.outcome_metric,
                "censored": int(t.censored.sum()),
                "diverged": int(np.isfinite(t.diverged_at).sum()),
                "notes": "; ".join(t.notes),
            }
            for t in self.tasks
        ]
        return pd.DataFrame(rows).set_index("task") if rows else pd.DataFrame()


def metric_kind(metric: str) -> str:
    """Kind of a metric, by its name: "accuracy" (bounded by 0 and 1), "loss", or "other".

    Tasks of one kind share a prior mean of the level, and metrics of the accuracy kind have a default
    tolerance of 0.01.
    """
    name = metric.lower()
    if any(word in name for word in ("acc", "exact_match", "f1", "auc", "precision", "recall")):
        return "accuracy"
    if any(word in name for word in ("loss", "nll", "perplexity", "cross_entropy")):
        return "loss"
    return "other"
