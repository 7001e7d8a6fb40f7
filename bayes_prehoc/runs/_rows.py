"""How a `TaskRuns` becomes rows of a run store, and rows a `TaskRuns` again.

Floats are stored as the eight bytes they are, seeds as JSON so that 1 and "1" stay apart, missing values as no
row. Per-example outcomes are packed to one bit each where they are boolean, else float32.
"""

import json
import sqlite3

import numpy as np

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs._extras import AGREE, pack, read_extras, unpack, write_extras
from bayes_prehoc.runs.trajectories import SetAside, TaskRuns

__all__ = ["read_set_aside", "read_task", "write_task"]


def write_task(connection: sqlite3.Connection, runs: TaskRuns, spec_hash: str, where: str) -> None:
    """Merge the runs of one task into the store, inside the caller's transaction.

    Raises
    ------
    InputError
        If they contradict what is stored.
    """
    where = f"{where}, task {runs.task!r}"
    task = _write_facts(connection, runs, spec_hash, where)
    stored = {seed: row for row, seed in connection.execute("SELECT id, seed FROM run WHERE task = ?", (task,))}
    metrics = [_metric_id(connection, metric) for metric in runs.metrics]
    _check_examples_alike(connection, task, runs, where)
    fresh, ids = [], []
    for row, seed in enumerate(runs.seeds):
        key = _seed_key(seed, where)
        outcome = _outcome_cells(runs, row)
        if key not in stored:
            run = connection.execute(
                "INSERT INTO run (task, seed, has_outcome, outcome, examples_kind, examples_count, examples) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (task, key, *outcome),
            ).lastrowid
            have = {}
        else:
            run = stored[key]
            _merge_outcome(connection, run, outcome, f"{where}, seed {seed!r}")
            found = connection.execute("SELECT metric, depth, value FROM value WHERE run = ?", (run,))
            have = {(metric, depth): value for metric, depth, value in found}
        ids.append(run)
        for metric, name in zip(metrics, runs.metrics, strict=True):
            values = runs.values[name][row]
            there = ~np.isnan(values)
            for depth, value in zip(runs.depths[there].tolist(), values[there].tolist(), strict=True):
                old = have.get((metric, depth))
                if old is None:
                    fresh.append((run, metric, depth, value))
                elif old != value:
                    raise InputError(
                        f"{name!r} at depth {depth:g} is {value!r}, but {old!r} is stored",
                        f"{where}, seed {seed!r}",
                        AGREE,
                    )
    connection.executemany("INSERT INTO value (run, metric, depth, value) VALUES (?, ?, ?, ?)", fresh)
    write_extras(connection, ids, runs, where)


def read_task(connection: sqlite3.Connection, task: int) -> TaskRuns:
    """Read the runs of the task with this id."""
    name, horizon, assumed, unit, outcome_metric, higher, depths, metrics, attributes, notes = connection.execute(
        "SELECT name, horizon, horizon_assumed, depth_unit, outcome_metric, higher_is_better, depths, metrics, "
        "attributes, notes FROM task WHERE id = ?",
        (task,),
    ).fetchone()
    runs = connection.execute(
        "SELECT id, seed, has_outcome, outcome, examples_kind, examples_count, examples FROM run WHERE task = ? "
        "ORDER BY id",
        (task,),
    ).fetchall()
    ids = np.array([run[0] for run in runs], dtype=np.int64)
    depths = np.frombuffer(depths, dtype="<f8").astype(np.float64)
    values = {}
    for metric in json.loads(metrics):
        rows = connection.execute(
            "SELECT v.run, v.depth, v.value FROM run r JOIN value v ON v.run = r.id "
            "WHERE r.task = ? AND v.metric = (SELECT id FROM metric WHERE name = ?)",
            (task, metric),
        ).fetchall()
        values[metric] = filled = np.full((len(ids), len(depths)), np.nan)
        if rows:
            run, depth, value = np.array(rows, dtype=np.float64).T
            filled[np.searchsorted(ids, run.astype(np.int64)), np.searchsorted(depths, depth)] = value
    outcome = None
    if any(run[2] for run in runs):
        outcome = np.array([np.nan if run[3] is None else run[3] for run in runs], dtype=np.float64)
    examples = None
    if any(run[4] for run in runs):
        examples = np.stack([unpack(kind, count, blob) for *_, kind, count, blob in runs])
    return TaskRuns(
        task=name,
        seeds=tuple(json.loads(run[1]) for run in runs),
        depths=depths,
        values=values,
        outcome_metric=outcome_metric,
        horizon=horizon,
        horizon_assumed=bool(assumed),
        outcome=outcome,
        outcome_examples=examples,
        depth_unit=unit,
        higher_is_better=None if higher is None else bool(higher),
        attributes=json.loads(attributes),
        notes=tuple(json.loads(notes)),
        **read_extras(connection, ids, depths),
    )


def read_set_aside(connection: sqlite3.Connection) -> tuple[SetAside, ...]:
    """Tasks that were written as set aside and have no runs."""
    return tuple(SetAside(*row) for row in connection.execute("SELECT task, reason FROM set_aside ORDER BY rowid"))


def _write_facts(connection, runs, spec_hash, where):
    """Insert or merge what is known about the task as a whole; its id."""
    attributes = {str(name): _plain(value) for name, value in runs.attributes.items()}
    new = {
        "horizon": float(runs.horizon),
        "horizon_assumed": int(runs.horizon_assumed),
        "depth_unit": runs.depth_unit,
        "outcome_metric": runs.outcome_metric,
        "higher_is_better": None if runs.higher_is_better is None else int(runs.higher_is_better),
        "depths": np.asarray(runs.depths, dtype="<f8").tobytes(),
        "metrics": json.dumps(runs.metrics),
        "attributes": json.dumps(attributes),
        "notes": json.dumps(runs.notes),
    }
    names = list(new)
    found = connection.execute(
        f"SELECT id, {', '.join(names)} FROM task WHERE name = ? AND spec_hash = ?", (runs.task, spec_hash)
    ).fetchone()
    if found is None:
        return connection.execute(
            f"INSERT INTO task (name, spec_hash, {', '.join(names)}) VALUES (?, ?{', ?' * len(names)})",
            (runs.task, spec_hash, *new.values()),
        ).lastrowid
    task, old = found[0], dict(zip(names, found[1:], strict=True))
    for name in ("depth_unit", "outcome_metric", "higher_is_better"):
        if old[name] != new[name]:
            raise InputError(f"{name} is {new[name]!r}, but {old[name]!r} is stored", where, AGREE)
    merged = _merge_horizon(old, new, where)
    depths = [np.frombuffer(side["depths"], dtype="<f8") for side in (old, new)]
    merged["depths"] = np.union1d(*depths).astype("<f8").tobytes()
    for name in ("metrics", "notes"):
        merged[name] = json.dumps(list(dict.fromkeys(json.loads(old[name]) + json.loads(new[name]))))
    known = json.loads(old["attributes"])
    for name, value in attributes.items():
        # Compared as text, in which NaN equals itself.
        if name in known and json.dumps(known[name]) != json.dumps(value):
            raise InputError(f"attribute {name!r} is {value!r}, but {known[name]!r} is stored", where, AGREE)
    merged["attributes"] = json.dumps({**known, **attributes})
    changed = {name: value for name, value in merged.items() if value != old[name]}
    if changed:
        assign = ", ".join(f"{name} = ?" for name in changed)
        connection.execute(f"UPDATE task SET {assign} WHERE id = ?", (*changed.values(), task))
    return task


def _merge_horizon(old, new, where):
    deep, shallow = (new, old) if new["horizon"] >= old["horizon"] else (old, new)
    if deep["horizon"] > shallow["horizon"] and not shallow["horizon_assumed"]:
        raise InputError(
            f"horizon is {new['horizon']:g}, but {old['horizon']:g} is stored",
            where,
            "State the horizon of both (read_runs(..., horizon=...)), or start a new store.",
        )
    same = deep["horizon"] == shallow["horizon"]
    assumed = deep["horizon_assumed"] and (shallow["horizon_assumed"] or not same)
    return {"horizon": deep["horizon"], "horizon_assumed": int(assumed)}


def _metric_id(connection, metric):
    connection.execute("INSERT INTO metric (name) VALUES (?) ON CONFLICT DO NOTHING", (metric,))
    return connection.execute("SELECT id FROM metric WHERE name = ?", (metric,)).fetchone()[0]


def _seed_key(seed, where):
    if isinstance(seed, np.generic):
        seed = seed.item()
    if isinstance(seed, bool) or not isinstance(seed, int | str):
        raise InputError(f"seed {seed!r} is neither an integer nor a string", where, "Name runs by int or str.")
    return json.dumps(seed)


def _plain(value):
    if isinstance(value, np.generic):
        value = value.item()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _outcome_cells(runs, row):
    """Cells has_outcome, outcome, examples_kind, examples_count, examples of one run; SQLite keeps NaN as NULL."""
    if runs.outcome is None:
        outcome = (0, None)
    else:
        value = float(runs.outcome[row])
        outcome = (1, None if np.isnan(value) else value)
    if runs.outcome_examples is None:
        return (*outcome, None, None, None)
    return (*outcome, *pack(np.asarray(runs.outcome_examples[row])))


def _merge_outcome(connection, run, new, where):
    columns = "has_outcome, outcome, examples_kind, examples_count, examples"
    old = connection.execute(f"SELECT {columns} FROM run WHERE id = ?", (run,)).fetchone()
    if new[0] and old[0] and new[1] is not None and old[1] is not None and new[1] != old[1]:
        raise InputError(f"outcome is {new[1]!r}, but {old[1]!r} is stored", where, AGREE)
    if new[2:] != old[2:]:
        raise InputError("per-example outcomes differ from those stored", where, AGREE)
    # A run that was cut short has no outcome until it is finished.
    merged = (max(new[0], old[0]), old[1] if new[1] is None else new[1])
    if merged != old[:2]:
        connection.execute("UPDATE run SET has_outcome = ?, outcome = ? WHERE id = ?", (*merged, run))


def _check_examples_alike(connection, task, runs, where):
    """All runs of a task have per-example outcomes on one outcome set, or none has."""
    examples = runs.outcome_examples
    new = (None, None) if examples is None else ("bits" if examples.dtype == bool else "float32", examples.shape[1])
    old = connection.execute(
        "SELECT DISTINCT examples_kind, examples_count FROM run WHERE task = ?", (task,)
    ).fetchall()
    if runs.n_runs and any(stored != new for stored in old):
        say = [
            f"{count} per-example outcomes ({kind})" if kind else "no per-example outcomes"
            for kind, count in (new, old[0])
        ]
        raise InputError(f"the runs have {say[0]}, those stored have {say[1]}", where, AGREE)
