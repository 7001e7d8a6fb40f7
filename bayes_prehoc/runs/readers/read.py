"""`read_runs`: from any source of recorded runs to `Trajectories`."""

import dataclasses
import math
import numbers

import pandas as pd

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs.readers.files import SQLITE_MAGIC, existing_file, load_table
from bayes_prehoc.runs.readers.tidy import tasks_of_table
from bayes_prehoc.runs.readers.usable import why_unusable
from bayes_prehoc.runs.store import RunStore
from bayes_prehoc.runs.trajectories import SetAside, TaskRuns, Trajectories, metric_kind

__all__ = ["read_runs"]


def read_runs(
    source,
    *,
    outcome: str | None = None,
    depth_unit: str = "step",
    horizon: float | None = None,
    higher_is_better: bool | None = None,
) -> Trajectories:
    """Read runs that somebody recorded.

    A table has columns task, seed, step, metric, value, one row per evaluation. Any other column that is
    constant within a task becomes an attribute of the task. Blank or NaN is missing, infinite is diverged,
    identical duplicates collapse. A task that cannot be used (one run, fewer than two depths that 90% of its
    runs share, conflicting duplicates, a constant metric, no values) is set aside with its reason.

    Parameters
    ----------
    source : path or pd.DataFrame
        A CSV, TSV (gzipped or not) or Parquet file, a run store, or a DataFrame.
    outcome : str, optional
        Metric that a full run is judged by. Default: the only metric; where there are several, none.
    depth_unit : str, optional
        Unit of the column `step`: "step", "epoch", "sample", "token", ... A run store knows its own.
    horizon : float, optional
        Depth c_T at which a full run ends, in `depth_unit`, for every task; what lies beyond is left out.
        Default: the largest depth that any run of the task reached, marked as assumed if other runs stopped
        earlier without diverging.
    higher_is_better : bool, optional
        Of the outcome. Default: by its name (True for accuracies, False for losses, else unknown).

    Returns
    -------
    Trajectories
        Tasks in the order of the source, with depths and values as recorded.

    Raises
    ------
    InputError
        If the source is no table of runs, a row cannot be read, an argument is impossible, or no task is left.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [("a", s, c, "loss", 1 / c + s * c) for s in range(3) for c in (1, 2)]
    >>> runs = read_runs(pd.DataFrame(rows, columns=["task", "seed", "step", "metric", "value"]))
    >>> runs["a"].depths.tolist(), runs["a"].outcome_metric
    ([1.0, 2.0], 'loss')
    """
    _check_horizon(horizon)
    if not isinstance(source, pd.DataFrame) and _is_store(existing_file(source)):
        name, tasks, set_aside = _read_store(source, depth_unit)
    else:
        table = load_table(source)
        name, (tasks, set_aside) = table.name, tasks_of_table(table, depth_unit)
    _check_outcome(outcome, tasks, name)
    _check_reach(horizon, tasks)
    usable = []
    for runs in tasks:
        runs = runs if outcome is None else _judged_by(outcome, runs)
        if horizon is not None:
            runs = _cut(runs, float(horizon))
        reason = why_unusable(runs, outcome)
        if reason:
            set_aside.append(SetAside(runs.task, reason))
        else:
            usable.append(_finish(runs, higher_is_better))
    if not usable:
        raise _none_left(set_aside, name)
    return Trajectories(tuple(usable), tuple(set_aside))


def _is_store(path):
    if path.suffix in (".db", ".sqlite", ".sqlite3"):
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", str(path), "Check who may read it.") from None


def _read_store(source, depth_unit):
    with RunStore(source) as store:
        stored = store.read()
    if not len(stored) and not stored.set_aside:
        raise InputError("the run store holds no runs", str(source), "Write runs to it first.")
    for runs in stored:
        if depth_unit not in ("step", runs.depth_unit):
            raise InputError(
                f"depth unit is {depth_unit!r}, but the store has {runs.depth_unit!r}",
                f"{source}, task {runs.task!r}",
                "Leave depth_unit out: a run store knows its own.",
            )
    return str(source), list(stored.tasks), list(stored.set_aside)


def _check_horizon(horizon):
    if horizon is None:
        return
    number = isinstance(horizon, numbers.Real) and not isinstance(horizon, bool)
    if not number or not math.isfinite(horizon) or horizon <= 0:
        raise InputError(
            f"{horizon!r} is no depth at which a run can end", "horizon", "Give a positive number in the depth's unit."
        )


def _check_outcome(outcome, tasks, name):
    metrics = list(dict.fromkeys(m for runs in tasks for m in runs.metrics))
    if outcome is not None and tasks and outcome not in metrics:
        raise InputError(f"no metric {outcome!r}", f"outcome of {name}", f"The metrics are: {', '.join(metrics)}.")


def _check_reach(horizon, tasks):
    if horizon is None:
        return
    last = [runs.last_depths for runs in tasks if runs.n_runs and runs.values and len(runs.depths)]
    reached = [depth for depths in last for depth in depths if depth >= 0]
    if reached and horizon < min(reached):
        raise InputError(
            f"{horizon:g} is shallower than every run (the shortest ends at {min(reached):g})",
            "horizon",
            "Give the depth at which a full run ends, in the unit of the column 'step'.",
        )


def _judged_by(outcome, runs):
    if outcome == runs.outcome_metric or outcome not in runs.values:
        return runs
    # What was recorded on an outcome set belongs to the metric it was recorded for.
    return dataclasses.replace(runs, outcome_metric=outcome, outcome=None, outcome_examples=None, higher_is_better=None)


def _cut(runs: TaskRuns, horizon: float) -> TaskRuns:
    """End the runs at a horizon that the user gave."""
    within = runs.depths <= horizon
    notes = list(runs.notes)
    if not within.all():
        beyond, depths = int((runs.last_depths > horizon).sum()), int((~within).sum())
        notes.append(f"{beyond} of {runs.n_runs} runs go past the horizon, left out there (depths: {depths})")
    keep_outcome = runs.outcome is not None and horizon == runs.horizon
    if runs.outcome is not None and not keep_outcome:
        notes.append(f"outcome left out: it was measured at depth {runs.horizon:g}, not at the horizon given")
    return dataclasses.replace(
        runs,
        depths=runs.depths[within],
        values={metric: value[:, within] for metric, value in runs.values.items()},
        horizon=horizon,
        horizon_assumed=False,
        outcome=runs.outcome if keep_outcome else None,
        outcome_examples=runs.outcome_examples if keep_outcome else None,
        notes=tuple(notes),
    )


def _finish(runs, higher_is_better):
    if higher_is_better is None:
        higher_is_better = runs.higher_is_better
    if higher_is_better is None and runs.outcome_metric is not None:
        higher_is_better = {"accuracy": True, "loss": False}.get(metric_kind(runs.outcome_metric))
    return dataclasses.replace(runs, higher_is_better=higher_is_better)


def _none_left(set_aside, name):
    shown = "; ".join(f"task {s.task!r}: {s.reason}" for s in set_aside[:3])
    more = f"; and {len(set_aside) - 3} more" if len(set_aside) > 3 else ""
    which = "the only task cannot be used" if len(set_aside) == 1 else f"none of {len(set_aside)} tasks can be used"
    return InputError(
        f"{which} ({shown}{more})",
        name,
        "A task needs two or more runs (seeds) with differing finite values at two or more depths that 90% of "
        "them share, and one value per seed, step and metric.",
    )
