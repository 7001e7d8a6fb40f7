"""What probes keep of a run beside its trajectory, as rows: outcomes of its forks, and examples at each depth.

Tables of schema 2; a file of schema 1 that may not be written has none of them.
"""

import sqlite3

import numpy as np

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs.trajectories import TaskRuns

__all__ = ["AGREE", "SCHEMA", "pack", "read_extras", "unpack", "write_extras"]

SCHEMA = """
CREATE TABLE fork (
    run INTEGER NOT NULL REFERENCES run,
    depth REAL NOT NULL,
    branch INTEGER NOT NULL,
    outcome REAL,
    PRIMARY KEY (run, depth, branch)
) WITHOUT ROWID;
CREATE TABLE depth_examples (
    run INTEGER NOT NULL REFERENCES run,
    depth REAL NOT NULL,
    kind TEXT NOT NULL,
    count INTEGER NOT NULL,
    examples BLOB NOT NULL,
    PRIMARY KEY (run, depth)
) WITHOUT ROWID;
"""

AGREE = "Write it under another task name, or start a new store."


def pack(examples: np.ndarray) -> tuple[str, int, bytes]:
    """Kind, count and bytes of the results of one run's examples: bits, or single precision."""
    if examples.dtype == bool:
        return "bits", len(examples), np.packbits(examples).tobytes()
    return "float32", len(examples), examples.astype("<f4").tobytes()


def unpack(kind: str, count: int, blob: bytes) -> np.ndarray:
    """The inverse of `pack`."""
    if kind == "bits":
        return np.unpackbits(np.frombuffer(blob, dtype=np.uint8), count=count).astype(bool)
    return np.frombuffer(blob, dtype="<f4").astype(np.float32)


def write_extras(connection: sqlite3.Connection, ids: list[int], runs: TaskRuns, where: str) -> None:
    """Add what runs with these ids have; what is there already must be the same.

    Raises
    ------
    InputError
        If it is not.
    """
    if runs.forked is not None:
        rows = [
            (run, float(depth), branch, None if np.isnan(outcome) else float(outcome))
            for run, own in zip(ids, runs.forked, strict=True)
            for depth, outcomes in zip(runs.fork_depths, own, strict=True)
            for branch, outcome in enumerate(outcomes)
        ]
        _insert(connection, "fork", ("run", "depth", "branch"), ("outcome",), rows, where)
    if runs.depth_examples is not None:
        rows = [
            (run, float(depth), *pack(examples))
            for run, own in zip(ids, runs.depth_examples, strict=True)
            for depth, examples in zip(runs.depths, own, strict=True)
        ]
        _insert(connection, "depth_examples", ("run", "depth"), ("kind", "count", "examples"), rows, where)


def _insert(connection, table, keys, values, rows, where):
    columns = ", ".join((*keys, *values))
    places = ", ".join("?" * len(keys + values))
    connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING", rows)
    same = " AND ".join(f"{name} IS ?" for name in keys + values)
    for row in rows:
        if connection.execute(f"SELECT 1 FROM {table} WHERE {same}", row).fetchone() is None:
            raise InputError(f"{table.replace('_', ' ')} at depth {row[1]:g} differs from what is stored", where, AGREE)


def read_extras(connection: sqlite3.Connection, ids: np.ndarray, depths: np.ndarray) -> dict:
    """Fields of `TaskRuns` for runs with these ids, in order: those that all of the runs have."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "fork" not in tables:
        return {}
    found = {}
    forks = [
        connection.execute("SELECT depth, branch, outcome FROM fork WHERE run = ?", (int(i),)).fetchall() for i in ids
    ]
    if forks and forks[0] and all(len(own) == len(forks[0]) for own in forks):
        at = np.unique([depth for depth, *_ in forks[0]])
        outcomes = [[np.nan if outcome is None else outcome for *_, outcome in sorted(own)] for own in forks]
        found["fork_depths"] = at
        found["forked"] = np.array(outcomes, np.float64).reshape(len(ids), len(at), -1)
    kept = [
        connection.execute(
            "SELECT kind, count, examples FROM depth_examples WHERE run = ? ORDER BY depth", (int(i),)
        ).fetchall()
        for i in ids
    ]
    if kept and all(len(own) == len(depths) for own in kept):
        found["depth_examples"] = np.array([[unpack(*cells) for cells in own] for own in kept])
    return found
