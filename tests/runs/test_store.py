"""The run store: exact round trips, idempotent writes, conflicts, versions, partial seeds."""

import concurrent.futures
import contextlib
import dataclasses
import os
import sqlite3
import threading

import numpy as np
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs import RunStore, SetAside, TaskRuns, Trajectories, read_runs


def _assert_same(got, expected):
    for field in dataclasses.fields(TaskRuns):
        a, b = getattr(got, field.name), getattr(expected, field.name)
        if field.name == "values":
            assert list(a) == list(b)
            for metric in b:
                np.testing.assert_array_equal(a[metric], b[metric])
        elif isinstance(b, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b, field.name


def _upto(runs, columns):
    """The runs of a task up to some depth."""
    return dataclasses.replace(
        runs, depths=runs.depths[:columns], values={metric: value[:, :columns] for metric, value in runs.values.items()}
    )


def _dump(path):
    with sqlite3.connect(path) as connection:
        dump = list(connection.iterdump())
    connection.close()
    return dump


def forked(runs, kind=bool):
    """The same runs with forks, one of which diverged, and with examples at each depth."""
    rng = np.random.default_rng(1)
    outcomes = rng.uniform(size=(runs.n_runs, 2, 4))
    outcomes[0, 1, 2] = np.inf
    examples = rng.uniform(size=(*runs.values["loss"].shape, 11))
    examples = examples > 0.5 if kind is bool else examples.astype(np.float32)
    return dataclasses.replace(runs, fork_depths=runs.depths[:2], forked=outcomes, depth_examples=examples)


@pytest.mark.parametrize("examples", ["bool", "float32"])
def test_round_trip_is_exact(task_runs, tmp_path, examples):
    tasks = (
        task_runs("all fields", examples=examples),
        task_runs("no outcome", outcome=None, outcome_examples=None, outcome_metric=None, higher_is_better=None),
        task_runs("all nan outcome", outcome=np.full(3, np.nan), outcome_examples=None),
        task_runs("assumed", horizon_assumed=True, attributes={}, notes=(), horizon=1e300),
        task_runs("big seeds", seeds=(2**63, -1, "1", 1)),
        forked(task_runs("forked")),
    )
    written = Trajectories(tasks, (SetAside("other", "one run only"),))
    with RunStore(tmp_path / "r.db") as store:
        store.write(written)
    with RunStore(tmp_path / "r.db") as store:
        read = store.read()
        assert store.tasks() == tuple(t.task for t in tasks)
    assert read.set_aside == written.set_aside
    for got, expected in zip(read, tasks, strict=True):
        _assert_same(got, expected)
        assert got.run_hashes() == expected.run_hashes()


def test_floats_keep_every_bit(tmp_path):
    rng = np.random.default_rng(1)
    value = rng.integers(0, 2**62, size=(20, 30)).view(np.float64)
    value[0, :6] = [5e-324, 1.7976931348623157e308, np.inf, -np.inf, 1 / 3, 1e16]
    runs = TaskRuns("a", tuple(range(20)), np.cumsum(rng.uniform(size=30)), {"m": value}, "m", 40.0)
    with RunStore(tmp_path / "r.db") as store:
        store.write(Trajectories((runs,)))
        got = store.read()["a"]
    assert got.values["m"].tobytes() == value.tobytes()
    assert got.depths.tobytes() == runs.depths.tobytes()


def test_depths_and_runs_without_values_survive(tmp_path):
    value = np.array([[1.0, np.nan], [np.nan, np.nan]])
    runs = TaskRuns("a", (0, 1), np.array([1.0, 2.0]), {"m": value, "unseen": value * np.nan}, "m", 2.0)
    with RunStore(tmp_path / "r.db") as store:
        store.write(Trajectories((runs,)))
        _assert_same(store.read()["a"], runs)


def test_writing_again_changes_nothing(task_runs, tmp_path):
    path = tmp_path / "r.db"
    with RunStore(path) as store:
        store.write(Trajectories((task_runs("a"), task_runs("b"))), {"a": "h"})
    before = _dump(path)
    with RunStore(path) as store:
        store.write(Trajectories((task_runs("a"), task_runs("b"))), {"a": "h"})
    assert _dump(path) == before


def test_partial_seeds_merge(task_runs, tmp_path):
    runs = task_runs(seeds=tuple(range(7)))
    with RunStore(tmp_path / "r.db") as store:
        store.write(Trajectories((runs.taken([0, 1, 2]),)), {"a": "h"})
        assert store.seeds("a", "h") == (0, 1, 2)
        store.write(Trajectories((runs.taken([2, 3, 4]),)), {"a": "h"})
        store.write(Trajectories((runs.taken([5, 6]),)), {"a": "h"})
        assert store.seeds("a", "h") == store.seeds("a") == tuple(range(7))
        _assert_same(store.read()["a"], runs)


def test_runs_grow_deeper_and_get_their_outcome_later(task_runs, tmp_path):
    runs = task_runs(outcome_examples=None)
    short = dataclasses.replace(_upto(runs, 2), outcome=None, notes=("cut short",))
    with RunStore(tmp_path / "r.db") as store:
        store.write(Trajectories((short,)))
        store.write(Trajectories((runs,)))
        store.write(Trajectories((short,)))
        _assert_same(store.read()["a"], dataclasses.replace(runs, notes=("cut short", "read with care")))


def test_metrics_depths_and_attributes_of_separate_writes_are_united(tmp_path):
    one = TaskRuns("a", (0,), np.array([1.0, 4.0]), {"x": np.array([[1.0, 2.0]])}, "x", 4.0, attributes={"p": 1})
    two = TaskRuns("a", (1,), np.array([2.0, 4.0]), {"y": np.array([[3.0, 5.0]])}, "x", 4.0, attributes={"q": 2})
    with RunStore(tmp_path / "r.db") as store:
        store.write(Trajectories((one,)))
        store.write(Trajectories((two,)))
        got = store.read()["a"]
    nan = np.nan
    assert got.depths.tolist() == [1, 2, 4] and got.attributes == {"p": 1, "q": 2}
    np.testing.assert_array_equal(got.values["x"], [[1, nan, 2], [nan] * 3])
    np.testing.assert_array_equal(got.values["y"], [[nan] * 3, [nan, 3, 5]])


def _changed(runs, **changes):
    return dataclasses.replace(runs, **changes)


def _other_value(runs):
    value = runs.values["loss"].copy()
    value[1, 1] = np.nextafter(value[1, 1], np.inf)
    return _changed(runs, values={**runs.values, "loss": value})


CONFLICTS = {
    "value": (_other_value, "seed 1: 'loss' at depth 0.1 is"),
    "outcome": (lambda r: _changed(r, outcome=r.outcome + 1), "seed 0: outcome is"),
    "examples": (lambda r: _changed(r, outcome_examples=~r.outcome_examples), "per-example outcomes differ"),
    "no examples": (
        lambda r: _changed(r, outcome_examples=None),
        "the runs have no per-example outcomes, those stored have 13 per-example outcomes \\(bits\\)",
    ),
    "fewer examples": (lambda r: _changed(r, outcome_examples=r.outcome_examples[:, :5]), "have 5 per-example"),
    "unit": (lambda r: _changed(r, depth_unit="step"), "depth_unit is 'step', but 'epoch' is stored"),
    "outcome metric": (lambda r: _changed(r, outcome_metric="loss"), "outcome_metric is 'loss'"),
    "direction": (lambda r: _changed(r, higher_is_better=None), "higher_is_better is None"),
    "horizon": (lambda r: _changed(r, horizon=9.0), "horizon is 9, but 3 is stored"),
    "attribute": (lambda r: _changed(r, attributes={"layers": 4}), "attribute 'layers' is 4, but 3 is stored"),
}


@pytest.mark.parametrize("case", CONFLICTS)
def test_a_conflict_is_an_error_and_nothing_of_the_write_stays(task_runs, tmp_path, case):
    change, message = CONFLICTS[case]
    path = tmp_path / "r.db"
    with RunStore(path) as store:
        store.write(Trajectories((task_runs("z"),)))
    before = _dump(path)
    with RunStore(path) as store:
        with pytest.raises(InputError, match=message) as caught:
            store.write(Trajectories((task_runs("new"), change(task_runs("z")))))
        assert "task 'z'" in caught.value.where and caught.value.remedy
        assert store.tasks() == ("z",)
    assert _dump(path) == before


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        ((3.0, True), (9.0, True), (9.0, True)),
        ((9.0, True), (3.0, True), (9.0, True)),
        ((3.0, True), (9.0, False), (9.0, False)),
        ((9.0, False), (3.0, True), (9.0, False)),
        ((3.0, False), (3.0, True), (3.0, False)),
        ((3.0, False), (9.0, True), None),
        ((9.0, True), (3.0, False), None),
        ((9.0, False), (3.0, False), None),
    ],
)
def test_an_assumed_horizon_gives_way_to_a_deeper_one(task_runs, tmp_path, first, second, merged):
    one, two = (
        task_runs(horizon=h, horizon_assumed=assumed).taken([row]) for row, (h, assumed) in enumerate((first, second))
    )
    with RunStore(tmp_path / "r.db") as store:
        store.write(Trajectories((one,)))
        if merged is None:
            with pytest.raises(InputError, match="horizon is"):
                store.write(Trajectories((two,)))
        else:
            store.write(Trajectories((two,)))
            got = store.read()["a"]
            assert (got.horizon, got.horizon_assumed) == merged


def test_specifications_are_kept_apart(task_runs, tmp_path):
    old, new = task_runs(seeds=(0, 1)), task_runs(seeds=(0, 1, 2), horizon=9.0)
    with RunStore(tmp_path / "r.db") as store:
        store.write(Trajectories((old,)), {"a": "old"})
        store.write(Trajectories((new,)), {"a": "new"})
        assert store.tasks() == ("a",)
        assert store.seeds("a", "old") == (0, 1) and store.seeds("a", "new") == store.seeds("a") == (0, 1, 2)
        assert store.seeds("a", "other") == store.seeds("b") == ()
        read = store.read()["a"]
    assert read.horizon == 9.0
    assert read.notes[-1] == "runs of 1 older specification of this task not read"


def test_read_some_tasks(task_runs, tmp_path):
    with RunStore(tmp_path / "r.db") as store:
        store.write(Trajectories((task_runs("a"), task_runs("b"), task_runs("c"))))
        assert [t.task for t in store.read(["c", "a", "c"])] == ["c", "a"]
        assert [t.task for t in store.read("b")] == ["b"]
        with pytest.raises(InputError, match="no task 'd'.*The tasks are: a, b, c"):
            store.read(["a", "d"])


def test_set_aside_gives_way_to_runs(task_runs, tmp_path):
    with RunStore(tmp_path / "r.db") as store:
        store.write(Trajectories((), (SetAside("a", "one run only"), SetAside("b", "no runs"))))
        store.write(Trajectories((), (SetAside("b", "no values"),)))
        store.write(Trajectories((task_runs("a"),)))
        store.write(Trajectories((), (SetAside("a", "one run only"),)))
        assert store.read().set_aside == (SetAside("b", "no values"),)


def test_read_runs_sets_unusable_tasks_of_a_store_aside(task_runs, tmp_path):
    path = tmp_path / "r.db"
    with RunStore(path) as store:
        store.write(Trajectories((task_runs("good", seeds=range(20)), task_runs("single", seeds=(7,)))))
        assert len(store.read()) == 2
    runs = read_runs(path)
    assert [t.task for t in runs] == ["good"]
    assert [(s.task, s.reason) for s in runs.set_aside] == [("single", "one run only (seed 7); a spread needs two")]
    with RunStore(tmp_path / "empty.db"):
        pass
    with pytest.raises(InputError, match="holds no runs"):
        read_runs(tmp_path / "empty.db")


def test_schema_is_versioned_and_in_wal_mode(tmp_path):
    path = tmp_path / "r.db"
    with RunStore(path) as store:
        assert store.schema_version == 2
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert ("schema_version", "2") in connection.execute("SELECT * FROM meta").fetchall()
        connection.execute("PRAGMA user_version = 3")
    connection.close()
    with pytest.raises(InputError, match="schema version 3, this package reads up to 2. Update bayes-prehoc"):
        RunStore(path)


def test_what_is_no_store_is_refused_and_left_alone(tmp_path):
    text = tmp_path / "text.db"
    text.write_text("task,seed\n" * 200)
    with pytest.raises(InputError, match="not a run store \\(not a SQLite file\\)"):
        RunStore(text)
    assert text.read_text() == "task,seed\n" * 200
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE meta (key, value)")
    connection.close()
    with pytest.raises(InputError, match="a SQLite database but not a run store"):
        RunStore(other)
    with pytest.raises(InputError, match="is a directory"):
        RunStore(tmp_path)
    with pytest.raises(InputError, match="folder does not exist"):
        RunStore(tmp_path / "no" / "r.db")


def test_a_store_that_may_not_be_written_can_be_read(task_runs, tmp_path, monkeypatch):
    path = tmp_path / "r.db"
    with RunStore(path) as store:
        store.write(Trajectories((task_runs(),)))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with RunStore(path) as store:
        _assert_same(store.read()["a"], task_runs())
        with pytest.raises(InputError, match="may not be written"):
            store.write(Trajectories(()))


def test_bad_seeds_and_closed_stores(task_runs, tmp_path):
    store = RunStore(tmp_path / "r.db")
    with pytest.raises(InputError, match="seed 0.5 is neither"):
        store.write(Trajectories((task_runs(seeds=(0.5, 1)),)))
    assert store.tasks() == ()
    store.close()
    store.close()
    for use in (store.tasks, store.read, lambda: store.write(Trajectories(()))):
        with pytest.raises(InputError, match="the store is closed"):
            use()


def test_writers_may_come_at_once(tmp_path):
    path, together = tmp_path / "r.db", threading.Barrier(8)

    def write(seed):
        runs = TaskRuns("a", (seed,), np.array([1.0, 2.0]), {"m": np.array([[seed, 1.0]])}, "m", 2.0)
        together.wait()
        with RunStore(path) as store:
            store.write(Trajectories((runs,)))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    with RunStore(path) as store:
        got = store.read()["a"]
    assert sorted(got.seeds) == list(range(8))
    assert got.values["m"][:, 0].tolist() == [float(seed) for seed in got.seeds]


def test_a_writer_that_waits_too_long_is_told_why(task_runs, tmp_path, monkeypatch):
    path = tmp_path / "r.db"
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, **{**options, "timeout": 0.0}))
    with RunStore(path) as busy, RunStore(path) as store:
        with busy._transaction(), pytest.raises(InputError, match="another process is writing"):
            store.write(Trajectories((task_runs(),)))
        assert store.tasks() == ()


@pytest.mark.parametrize("kind", [bool, np.float32])
def test_forks_and_examples_are_written_once_and_must_agree(task_runs, tmp_path, kind):
    runs = forked(task_runs(), kind)
    with RunStore(tmp_path / "r.db") as store:
        store.write(Trajectories((runs.taken([0, 2]),)))
        store.write(Trajectories((runs,)))
        read = store.read()["a"]
        rows = [read.seeds.index(seed) for seed in runs.seeds]
        np.testing.assert_array_equal(read.forked[rows], runs.forked)
        np.testing.assert_array_equal(read.depth_examples[rows], runs.depth_examples)
        assert read.depth_examples.dtype == np.dtype(kind)
        for name in ("forked", "depth_examples"):
            other = getattr(runs, name).copy()
            other[1, 0, 0] = 1 - other[1, 0, 0]
            with pytest.raises(InputError, match=f"{name.removesuffix('ed').replace('_', ' ')} at depth 0 differs"):
                store.write(Trajectories((dataclasses.replace(runs, **{name: other}),)))
        store.write(Trajectories((task_runs(seeds=(7,)),)))
        assert store.read()["a"].forked is None, "one run has no forks"


def test_forks_have_a_row_for_each_run(task_runs):
    with pytest.raises(InputError, match="forked has shape .2, 2, 4., expected it to begin with .3, 2."):
        dataclasses.replace(forked(task_runs()), forked=np.zeros((2, 2, 4)))


def test_a_store_of_schema_1_is_read_and_upgraded_when_it_may_be_written(task_runs, tmp_path):
    path = tmp_path / "r.db"
    with RunStore(path) as store:
        store.write(Trajectories((task_runs(),)))
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript("DROP TABLE fork; DROP TABLE depth_examples; PRAGMA user_version = 1;")
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'schema_version'")
    with RunStore(path) as store:
        assert store.schema_version == 2 and store.read()["a"].forked is None
        store.write(Trajectories((forked(task_runs("b")),)))
        assert store.read()["b"].forked.shape == (3, 2, 4)
