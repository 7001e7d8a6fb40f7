"""From a tidy table to one `TaskRuns` per task.

The columns task, seed, step, metric, value are coded once for the whole table and sorted, so that a task is a
slice and filling its arrays is one assignment per metric.
"""

import dataclasses
import datetime

import numpy as np
import pandas as pd

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs.readers.attributes import scalar
from bayes_prehoc.runs.readers.files import Table
from bayes_prehoc.runs.trajectories import SetAside, TaskRuns

__all__ = ["COLUMNS", "tasks_of_table"]

COLUMNS = ("task", "seed", "step", "metric", "value")


def tasks_of_table(table: Table, depth_unit: str) -> tuple[list[TaskRuns], list[SetAside]]:
    """Build the runs of every task of a tidy table.

    Parameters
    ----------
    table : Table
    depth_unit : str

    Returns
    -------
    tasks : list of TaskRuns
        In the order of their first row; the horizon is the largest depth reached, the outcome metric the
        only one.
    set_aside : list of SetAside
        Tasks with no value or with conflicting duplicates.

    Raises
    ------
    InputError
        If a column is missing or a row cannot be read.
    """
    _check_columns(table)
    frame = table.frame
    for column in ("task", "seed", "metric"):
        _check_filled(table, column)
    step, value = _numbers(table, "step"), _numbers(table, "value")
    _check_steps(table, step)
    task, tasks = pd.factorize(frame["task"].astype(str))
    seed, seeds = pd.factorize(_hashable(frame["seed"]))
    metric, metrics = pd.factorize(frame["metric"].astype(str))
    facts, dropped = _attributes(frame, task, len(tasks))

    there = np.flatnonzero(~np.isnan(value))
    order = there[np.lexsort((step[there], metric[there], seed[there], task[there]))]
    columns = _Columns(task[order], seed[order], metric[order], step[order], value[order])
    again = columns.repeats()
    conflict = np.zeros(len(again), bool)
    conflict[1:] = again[1:] & (columns.value[1:] != columns.value[:-1])

    n_missing = np.bincount(task[np.isnan(value)], minlength=len(tasks))
    n_listed = _distinct_per_group(task, seed, len(tasks))
    seed_labels = [_seed_label(label) for label in seeds]
    edges = np.searchsorted(columns.task, np.arange(len(tasks) + 1))
    made, set_aside = [], []
    for t, name in enumerate(tasks):
        part = slice(edges[t], edges[t + 1])
        if edges[t] == edges[t + 1]:
            set_aside.append(SetAside(name, "no values: every cell is blank or NaN"))
        elif conflict[part].any():
            set_aside.append(SetAside(name, _conflict_reason(columns, part, conflict, seed_labels, metrics)))
        else:
            runs = _task_runs(name, columns.at(part, ~again[part]), seed_labels, metrics, facts[t], depth_unit)
            notes = _notes(dropped[t], int(n_missing[t]), int(again[part].sum()), int(n_listed[t]) - runs.n_runs)
            made.append(dataclasses.replace(runs, notes=notes))
    return made, set_aside


@dataclasses.dataclass(frozen=True)
class _Columns:
    """Codes and numbers of the rows that hold a value, sorted by task, seed, metric and step; arrays (rows,)."""

    task: np.ndarray
    seed: np.ndarray
    metric: np.ndarray
    step: np.ndarray
    value: np.ndarray

    def repeats(self):
        """Rows whose task, seed, metric and step are those of the row before."""
        again = np.zeros(len(self.task), bool)
        keys = (self.task, self.seed, self.metric, self.step)
        again[1:] = np.all([key[1:] == key[:-1] for key in keys], axis=0)
        return again

    def at(self, part, keep):
        return _Columns(*(getattr(self, f.name)[part][keep] for f in dataclasses.fields(self)))


def _task_runs(name, rows, seed_labels, metrics, facts, depth_unit):
    seed_codes, row = np.unique(rows.seed, return_inverse=True)
    depths, column = np.unique(rows.step, return_inverse=True)
    values = {}
    for code in np.unique(rows.metric):
        of = rows.metric == code
        values[str(metrics[code])] = filled = np.full((len(seed_codes), len(depths)), np.nan)
        filled[row[of], column[of]] = rows.value[of]
    runs = TaskRuns(
        task=str(name),
        seeds=tuple(seed_labels[code] for code in seed_codes),
        depths=depths,
        values=values,
        outcome_metric=next(iter(values)) if len(values) == 1 else None,
        horizon=float(depths[-1]),
        depth_unit=depth_unit,
        attributes=facts,
    )
    return dataclasses.replace(runs, horizon_assumed=bool(runs.censored.any()))


def _conflict_reason(columns, part, conflict, seed_labels, metrics):
    found = part.start + np.flatnonzero(conflict[part])
    row = found[0]
    first, second = columns.value[row - 1], columns.value[row]
    reason = (
        f"conflicting duplicates: seed {seed_labels[columns.seed[row]]} has {metrics[columns.metric[row]]!r} = "
        f"{first:.6g} and {second:.6g} at step {columns.step[row]:g}"
    )
    return reason if len(found) == 1 else f"{reason} ({len(found)} such rows)"


def _notes(dropped, missing, repeated, empty):
    notes = []
    if dropped:
        names = ", ".join(repr(column) for column in dropped)
        notes.append(f"column{'s' * (len(dropped) > 1)} {names} not constant within the task, left out")
    if missing:
        notes.append(f"{missing} value{'s' * (missing > 1)} missing")
    if repeated:
        notes.append(f"{repeated} identical duplicate row{'s' * (repeated > 1)} collapsed")
    if empty:
        notes.append(f"{empty} run{'s' * (empty > 1)} without any value left out")
    return tuple(notes)


def _check_columns(table):
    have = list(table.frame.columns)
    missing = [c for c in COLUMNS if c not in have]
    if not missing:
        return
    what = f"no column{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}; the columns are: "
    what += ", ".join(have[:12]) + (", ..." if len(have) > 12 else "")
    if missing == ["seed", "step", "metric", "value"]:
        remedy = (
            "This looks like a table of task attributes: read the runs from their own table and join this one "
            "with with_attributes(runs, read_attributes(...))."
        )
    elif set(missing) <= {"metric", "value"}:
        remedy = (
            "Bring it into long form: frame.melt(['task', 'seed', 'step'], [names of the metric columns], "
            "'metric', 'value')."
        )
    else:
        remedy = "A table of runs has one row per evaluation and columns task, seed, step, metric, value; rename yours."
    raise InputError(what, table.name, remedy)


def _check_filled(table, column):
    blank = table.frame.index[table.frame[column].isna()]
    if len(blank):
        raise InputError(
            f"no {column} is given", table.place(blank[0]), f"Fill in the column {column!r} or drop the row."
        )


def _check_steps(table, step):
    for bad, what, remedy in (
        (np.isnan(step), "no step is given", "Fill in the column 'step' or drop the row."),
        (np.isinf(step), "the step is infinite", "Give the depth at which the value was measured."),
        (step < 0, "depth {step:g} is negative", "Depths count from 0, where fine-tuning starts."),
    ):
        found = np.flatnonzero(bad)
        if len(found):
            place = table.place(table.frame.index[found[0]])
            raise InputError(what.format(step=step[found[0]]), f"{place}, column 'step'", remedy)


def _numbers(table, column):
    """Float64 array of a column, NaN where blank; an error names the first cell that is no number."""
    cells = table.frame[column]
    if pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_complex_dtype(cells):
        return cells.to_numpy(dtype=np.float64, na_value=np.nan)
    cells = cells.astype(object)
    blank = cells.isna() | cells.map(lambda cell: isinstance(cell, str) and not cell.strip())
    numbers = pd.to_numeric(cells.where(~blank), errors="coerce")
    # Dates become numbers too, but not ones that were meant.
    numbers = numbers.mask(cells.map(lambda cell: isinstance(cell, datetime.date | datetime.timedelta | complex)))
    bad = numbers.index[numbers.isna() & ~blank]
    if len(bad):
        raise InputError(
            f"{str(cells[bad[0]])!r} is not a number",
            f"{table.place(bad[0])}, column {column!r}",
            "Give a plain number (decimal point, no unit), or leave the cell blank if the value is missing.",
        )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _hashable(cells):
    return cells if cells.dtype != object else cells.map(lambda c: c if isinstance(c, int | float | str) else str(c))


def _seed_label(label):
    """Seed as int where it is a whole number, else as str."""
    if pd.api.types.is_number(label) and float(label).is_integer():
        return int(label)
    return str(label)


def _distinct_per_group(group, code, n_groups):
    n_codes = code.max() + 1
    return np.bincount(np.unique(group * n_codes + code) // n_codes, minlength=n_groups)


def _attributes(frame, task, n_tasks):
    """Per task, the other columns that are constant in it, and the names of those that are not.

    Columns that are blank throughout a task are neither.
    """
    facts, dropped = [{} for _ in range(n_tasks)], [[] for _ in range(n_tasks)]
    order = np.argsort(task, kind="stable")
    starts = np.searchsorted(task[order], np.arange(n_tasks))
    for column in frame.columns.difference(COLUMNS, sort=False):
        cells = frame[column]
        try:
            code, labels = pd.factorize(cells)
        except TypeError:  # lists and other cells that are not scalars
            for names in dropped:
                names.append(column)
            continue
        low = np.minimum.reduceat(code[order], starts)
        high = np.maximum.reduceat(code[order], starts)
        for t in range(n_tasks):
            if low[t] != high[t]:
                dropped[t].append(column)
            elif low[t] >= 0:
                facts[t][column] = scalar(labels[low[t]])
    return facts, dropped
