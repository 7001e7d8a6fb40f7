"""Attributes of tasks: what is known about a task besides its runs, one row per task."""

import dataclasses

import numpy as np
import pandas as pd

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs.readers.files import load_table
from bayes_prehoc.runs.trajectories import Trajectories

__all__ = ["read_attributes", "scalar", "with_attributes"]


def read_attributes(source) -> pd.DataFrame:
    """Read a table of task attributes: a column `task` and any others, one row per task.

    Parameters
    ----------
    source : path or pd.DataFrame
        CSV, TSV (gzipped or not) or Parquet.

    Returns
    -------
    pd.DataFrame
        Indexed by task (str), one column per attribute.

    Raises
    ------
    InputError
        If the source is no table, has no column `task`, or names a task twice or not at all.
    """
    if isinstance(source, pd.DataFrame) and source.index.name == "task" and "task" not in source.columns:
        source = source.reset_index()
    table = load_table(source)
    frame = table.frame
    if "task" not in frame.columns:
        raise InputError(
            f"no column 'task'; the columns are: {', '.join(frame.columns[:12])}",
            table.name,
            "Add a column 'task' that holds the names the run table uses.",
        )
    nameless = frame.index[frame["task"].isna()]
    if len(nameless):
        raise InputError("no task is named", table.place(nameless[0]), "Fill in the column 'task' or drop the row.")
    frame = frame.assign(task=frame["task"].astype(str))
    twice = frame.index[frame["task"].duplicated()]
    if len(twice):
        raise InputError(
            f"task {frame['task'][twice[0]]!r} has two rows", table.place(twice[0]), "Keep one row per task."
        )
    return frame.set_index("task")


def with_attributes(trajectories: Trajectories, table) -> Trajectories:
    """Join attributes to the tasks they belong to.

    Parameters
    ----------
    trajectories : Trajectories
    table : path or pd.DataFrame
        What `read_attributes` reads or has read. Blank cells are left out, and so are tasks without runs.

    Returns
    -------
    Trajectories
        The same tasks with more attributes; a task that the table does not name gets a note that says so.

    Raises
    ------
    InputError
        If the table names none of the tasks, or contradicts an attribute that is already there.
    """
    table = read_attributes(table)
    if not any(runs.task in table.index for runs in trajectories):
        raise InputError(
            f"names none of the {len(trajectories)} tasks (such as {trajectories.tasks[0].task!r})"
            if len(trajectories)
            else "there are no tasks to join it to",
            "attribute table",
            "Use the names of the run table in its column 'task'.",
        )
    return dataclasses.replace(trajectories, tasks=tuple(_join(runs, table) for runs in trajectories))


def _join(runs, table):
    if runs.task not in table.index:
        return dataclasses.replace(runs, notes=(*runs.notes, "the attribute table does not name this task"))
    row = {name: scalar(table.at[runs.task, name]) for name in table.columns}
    row = {name: value for name, value in row.items() if value is not None}
    for name, value in row.items():
        if name in runs.attributes and runs.attributes[name] != value:
            raise InputError(
                f"{name!r} is {value!r} here but {runs.attributes[name]!r} in the runs",
                f"attribute table, task {runs.task!r}",
                "Correct it or rename the column.",
            )
    return dataclasses.replace(runs, attributes={**runs.attributes, **row})


def scalar(value):
    """Plain Python scalar (bool, int, float, str) of a table's cell; None where it is blank."""
    if not pd.api.types.is_scalar(value) or pd.isna(value):
        return None if pd.api.types.is_scalar(value) else str(value)
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, bool | int | float | str) else str(value)
