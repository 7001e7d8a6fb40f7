"""A store of runs: one SQLite file that several processes may add to.

Values are unique per (task, spec hash, seed, depth, metric). Writing what is already there changes nothing,
writing something else in its place is an error, and every write is one transaction, so a store never holds half
of what somebody wrote. The schema carries a version: `PRAGMA user_version`, and readably in the table `meta`.
"""

import contextlib
import dataclasses
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs import _extras, _rows
from bayes_prehoc.runs.trajectories import TaskRuns, Trajectories

__all__ = ["SCHEMA_VERSION", "RunStore"]

SCHEMA_VERSION = 2

_FORMAT = "bayes_prehoc run store"

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE task (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    spec_hash TEXT NOT NULL,
    horizon REAL NOT NULL,
    horizon_assumed INTEGER NOT NULL,
    depth_unit TEXT NOT NULL,
    outcome_metric TEXT,
    higher_is_better INTEGER,
    depths BLOB NOT NULL,
    metrics TEXT NOT NULL,
    attributes TEXT NOT NULL,
    notes TEXT NOT NULL,
    UNIQUE (name, spec_hash)
);
CREATE TABLE metric (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES task,
    seed TEXT NOT NULL,
    has_outcome INTEGER NOT NULL,
    outcome REAL,
    examples_kind TEXT,
    examples_count INTEGER,
    examples BLOB,
    UNIQUE (task, seed)
);
CREATE TABLE value (
    run INTEGER NOT NULL REFERENCES run,
    metric INTEGER NOT NULL REFERENCES metric,
    depth REAL NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (run, metric, depth)
) WITHOUT ROWID;
CREATE TABLE set_aside (task TEXT PRIMARY KEY, reason TEXT NOT NULL);
"""
_ADDED = {2: _extras.SCHEMA}
"""What later versions of the schema add."""


class RunStore:
    """Runs of many tasks in one file; made if it is not there.

    Parameters
    ----------
    path : path
        Of the file, customarily ending in `.db`. Where the file or its folder cannot be written, it is opened
        for reading only.

    Raises
    ------
    InputError
        If the file is no run store, was written by a newer version of the package, or cannot be opened.

    Examples
    --------
    >>> with RunStore("runs.db") as store:  # doctest: +SKIP
    ...     store.write(runs)
    ...     store.seeds("digits")
    (0, 1, 2)
    """

    def __init__(self, path):
        self.path = Path(path)
        if self.path.is_dir():
            raise InputError("is a directory", str(self.path), "Name a file in it, such as runs.db.")
        if not self.path.parent.is_dir():
            raise InputError("its folder does not exist", str(self.path), f"Create {self.path.parent} first.")
        self._connection = None
        try:
            self._connection = self._connect()
            self._open()
        except sqlite3.Error as error:
            self.close()
            raise self._explain(error) from None
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def schema_version(self) -> int:
        """Version of the schema the file was written with."""
        with self._reading() as connection:
            return connection.execute("PRAGMA user_version").fetchone()[0]

    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that have runs here, in the order they were first written."""
        with self._reading() as connection:
            rows = connection.execute("SELECT name FROM task GROUP BY name ORDER BY MIN(id)").fetchall()
        return tuple(name for (name,) in rows)

    def seeds(self, task: str, spec_hash: str | None = None) -> tuple:
        """Seeds of a task that are already here, in the order they were first written.

        Parameters
        ----------
        task : str
        spec_hash : str, optional
            Of the specification the runs were made with. Default: the one `read` would take.

        Returns
        -------
        tuple of int or str
            Empty if the task is not here, or not with this specification.
        """
        with self._reading() as connection:
            found = connection.execute(
                "SELECT id FROM task WHERE name = ? AND spec_hash = ifnull(?, spec_hash) ORDER BY id DESC LIMIT 1",
                (task, spec_hash),
            ).fetchone()
            rows = connection.execute("SELECT seed FROM run WHERE task = ? ORDER BY id", found or (None,)).fetchall()
        return tuple(json.loads(seed) for (seed,) in rows)

    def write(self, trajectories: Trajectories, spec_hashes: Mapping[str, str] | None = None) -> None:
        """Add runs in one transaction: all of them, or, after an error, none.

        Seeds, depths, metrics, attributes and notes are merged with what the task has already; an assumed
        horizon gives way to a deeper one. Tasks that were set aside are kept with their reason until runs of
        them are written.

        Parameters
        ----------
        trajectories : Trajectories
        spec_hashes : mapping from task name to str, optional
            Hash of the specification the runs were made with; runs of different specifications of a task are
            kept apart. Tasks that are not named have none.

        Raises
        ------
        InputError
            If something else is already stored in a run's place, or the file cannot be written.
        """
        with self._writing() as connection:
            for runs in trajectories:
                _rows.write_task(connection, runs, (spec_hashes or {}).get(runs.task, ""), str(self.path))
                connection.execute("DELETE FROM set_aside WHERE task = ?", (runs.task,))
            connection.executemany(
                "INSERT INTO set_aside SELECT :task, :reason WHERE NOT EXISTS (SELECT 1 FROM task WHERE name = :task) "
                "ON CONFLICT (task) DO UPDATE SET reason = excluded.reason",
                [{"task": s.task, "reason": s.reason} for s in trajectories.set_aside],
            )

    def read(self, tasks: Iterable[str] | None = None) -> Trajectories:
        """Read the runs of some tasks, or of all, in the order they were first written.

        Of a task with runs of several specifications, those of the one first written last are read, and a note
        says so.

        Parameters
        ----------
        tasks : iterable of str, optional

        Returns
        -------
        Trajectories

        Raises
        ------
        InputError
            If a task is not here.
        """
        with self._reading() as connection:
            known = self.tasks()
            wanted = known if tasks is None else [tasks] if isinstance(tasks, str) else list(dict.fromkeys(tasks))
            for name in wanted:
                if name not in known:
                    raise InputError(f"no task {name!r}", str(self.path), f"The tasks are: {', '.join(known[:8])}.")
            read = tuple(self._read_newest(connection, name) for name in wanted)
            set_aside = _rows.read_set_aside(connection) if tasks is None else ()
        return Trajectories(read, set_aside)

    def _read_newest(self, connection, name) -> TaskRuns:
        ids = [i for (i,) in connection.execute("SELECT id FROM task WHERE name = ? ORDER BY id", (name,))]
        runs = _rows.read_task(connection, ids[-1])
        if len(ids) == 1:
            return runs
        note = f"runs of {len(ids) - 1} older specification{'s' * (len(ids) > 2)} of this task not read"
        return dataclasses.replace(runs, notes=(*runs.notes, note))

    def _connect(self):
        place = self.path.absolute()
        self._read_only = place.exists() and not (os.access(place, os.W_OK) and os.access(place.parent, os.W_OK))
        mode = "rwc"
        if self._read_only:
            # Without write access SQLite cannot make the shared memory that WAL needs; immutable does without, but
            # would overlook what another process has written and not yet merged.
            mode = "ro" if place.with_name(f"{place.name}-wal").exists() else "ro&immutable=1"
        uri = f"{place.as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=30.0, isolation_level=None)

    def _open(self):
        connection = self._connection
        connection.execute("PRAGMA foreign_keys = ON")
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if not names and not self._read_only:
            self._create()
            return
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        meta = dict(connection.execute("SELECT key, value FROM meta")) if "meta" in names else {}
        if meta.get("format") != _FORMAT:
            raise InputError(
                "is a SQLite database but not a run store",
                str(self.path),
                "Give a file that RunStore wrote, or a new name.",
            )
        if version > SCHEMA_VERSION:
            raise InputError(
                f"has schema version {version}, this package reads up to {SCHEMA_VERSION}",
                str(self.path),
                "Update bayes-prehoc to read it.",
            )
        if version < SCHEMA_VERSION and not self._read_only:
            with self._transaction() as connection:
                # Another process may have been faster.
                _upgrade(connection, connection.execute("PRAGMA user_version").fetchone()[0])

    def _create(self):
        self._connection.execute("PRAGMA journal_mode = WAL")
        with self._transaction() as connection:
            # Another process may have been faster.
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return
            _execute(connection, _SCHEMA)
            meta = {"format": _FORMAT, "schema_version": "1"}
            connection.executemany("INSERT INTO meta VALUES (?, ?)", list(meta.items()))
            _upgrade(connection, 1)

    @contextlib.contextmanager
    def _reading(self):
        """One consistent snapshot for all that is read inside; may be nested."""
        if self._connection is None:
            raise InputError("the store is closed", str(self.path), "Open it again with RunStore(path).")
        nested = self._connection.in_transaction
        try:
            if not nested:
                self._connection.execute("BEGIN")
            yield self._connection
        except sqlite3.Error as error:
            raise self._explain(error) from None
        finally:
            if not nested and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def _writing(self):
        if self._connection is None:
            raise InputError("the store is closed", str(self.path), "Open it again with RunStore(path).")
        if self._read_only:
            raise InputError(
                "may not be written", str(self.path), "Copy it to a folder you may write, or name another."
            )
        try:
            with self._transaction() as connection:
                yield connection
        except sqlite3.Error as error:
            raise self._explain(error) from None

    @contextlib.contextmanager
    def _transaction(self):
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _explain(self, error):
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            return InputError(
                "is not a run store (not a SQLite file)",
                str(self.path),
                "Give a file that RunStore wrote, or a new name.",
            )
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            return InputError("another process is writing to it", str(self.path), "Try again when it has finished.")
        return InputError(f"SQLite cannot use it ({error})", str(self.path), "Check the file and the disk it is on.")


def _upgrade(connection, version: int) -> None:
    """Add what the schema has gained since this version, inside the caller's transaction."""
    for later in range(version + 1, SCHEMA_VERSION + 1):
        _execute(connection, _ADDED[later])
    connection.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (str(SCHEMA_VERSION),))
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _execute(connection, script: str) -> None:
    """The statements of a script, one by one: `executescript` would end the transaction."""
    for statement in script.split(";"):
        connection.execute(statement)
