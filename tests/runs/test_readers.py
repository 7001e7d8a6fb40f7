"""Reading run tables: what becomes of depths, missing cells, duplicates, divergence, attributes and horizons."""

import decimal
import gzip
import sys

import numpy as np
import pandas as pd
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs import RunStore, Trajectories, read_attributes, read_runs, with_attributes

NAN, INF = np.nan, np.inf


def _append(frame, *rows):
    return pd.concat([frame, pd.DataFrame(rows, columns=frame.columns)], ignore_index=True)


def _write(frame, path):
    if path.name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow, which reads Parquet, is not installed")
        frame.to_parquet(path)
    elif path.name.endswith((".db", ".sqlite")):
        with RunStore(path) as store:
            store.write(read_runs(frame))
    else:
        separator = "\t" if ".tsv" in path.name else ";" if path.name.startswith("semicolon") else ","
        frame.to_csv(path, index=False, sep=separator)
    return path


@pytest.mark.parametrize(
    "name",
    ["r.csv", "r.csv.gz", "r.tsv", "r.tsv.gz", "semicolon.csv", "no_suffix", "r.parquet", "r.db", "r.sqlite"],
)
def test_every_format_holds_the_same_runs(table, tmp_path, name):
    frame = table()
    expected = read_runs(frame)["a"]
    for source in (_write(frame, tmp_path / name), str(tmp_path / name)):
        runs = read_runs(source)["a"]
        assert runs.seeds == expected.seeds == (0, 1, 2, 3)
        np.testing.assert_array_equal(runs.depths, expected.depths)
        np.testing.assert_array_equal(runs.values["loss"], expected.values["loss"])


def test_gzip_is_recognised_by_content_not_name(table, tmp_path):
    path = tmp_path / "runs.csv"
    path.write_bytes(gzip.compress(table().to_csv(index=False).encode()))
    assert len(read_runs(path)) == 1


def test_byte_order_mark_and_spaces_in_the_header_are_harmless(table, tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("\ufeff" + table().to_csv(index=False).replace("task,seed", "task, seed"), encoding="utf-8")
    assert read_runs(path)["a"].n_runs == 4


def test_reading_agrees_with_a_slow_obvious_reader():
    rng = np.random.default_rng(3)
    rows = []
    for task in ("b", "a", "c"):
        for seed in range(6):
            for step in rng.choice(12, size=10, replace=False):
                for metric in ("loss", "acc"):
                    value = rng.choice([rng.normal(), NAN, INF], p=[0.9, 0.08, 0.02])
                    rows += [(task, seed, int(step), metric, value)] * int(rng.choice([1, 2], p=[0.9, 0.1]))
    frame = pd.DataFrame(rows, columns=["task", "seed", "step", "metric", "value"])
    frame = frame.sample(frac=1, random_state=0)
    cells = {tuple(r[:4]): r[4] for r in frame.itertuples(index=False) if not np.isnan(r[4])}
    got = {}
    for runs in read_runs(frame):
        assert list(runs.depths) == sorted({key[2] for key in cells if key[0] == runs.task})
        assert runs.horizon == runs.depths[-1]
        for metric, value in runs.values.items():
            for row, column in np.argwhere(~np.isnan(value)):
                got[runs.task, runs.seeds[row], runs.depths[column], metric] = value[row, column]
    assert got == cells
    assert {t.task for t in read_runs(frame)} == {"a", "b", "c"}


def test_tasks_and_seeds_keep_their_order_and_names(table):
    frame = pd.concat([table(task="z"), table(task="NA"), table(task="007")])
    frame["seed"] = frame["seed"].map({0: 9, 1: 3, 2: 5, 3: 1})
    runs = read_runs(frame)
    assert [t.task for t in runs] == ["z", "NA", "007"]
    assert sorted(runs["z"].seeds) == [1, 3, 5, 9]


def test_names_that_look_like_numbers_or_blanks_stay_names_in_csv(table, tmp_path):
    frame = pd.concat([table(task="007"), table(task="NA"), table(task="None")])
    runs = read_runs(_write(frame, tmp_path / "r.csv"))
    assert [t.task for t in runs] == ["007", "NA", "None"]


def test_seeds_may_be_words_or_floats(table):
    words = table().assign(seed=lambda f: "s" + f["seed"].astype(str))
    assert read_runs(words)["a"].seeds == ("s0", "s1", "s2", "s3")
    floats = table().assign(seed=lambda f: f["seed"].astype(float))
    assert read_runs(floats)["a"].seeds == (0, 1, 2, 3)
    assert all(type(seed) is int for seed in read_runs(floats)["a"].seeds)


@pytest.mark.parametrize(
    "convert",
    [
        lambda cells: cells.astype(str),
        lambda cells: " " + cells.astype(str) + " ",
        lambda cells: cells.astype("category"),
        lambda cells: cells.astype("Float64"),
        lambda cells: cells.map(lambda cell: decimal.Decimal(str(cell))),
    ],
)
def test_numbers_may_come_in_any_dress(table, convert):
    frame = table()
    dressed = frame.assign(value=convert(frame["value"]), step=convert(frame["step"]))
    np.testing.assert_array_equal(read_runs(dressed)["a"].values["loss"], read_runs(frame)["a"].values["loss"])


def test_missing_cells_are_nan_and_counted(table, tmp_path):
    frame = table(seeds=10)
    text = frame.to_csv(index=False).splitlines()
    for line, blank in ((1, ""), (5, "NaN"), (9, "null")):
        text[line] = ",".join([*text[line].split(",")[:4], blank])
    path = tmp_path / "r.csv"
    path.write_text("\n".join([*text, "", ",,,,"]) + "\n")
    runs = read_runs(path)["a"]
    assert np.isnan(runs.values["loss"]).sum() == 3
    assert np.isnan(runs.values["loss"][[0, 1, 2], [0, 1, 2]]).all()
    assert "3 values missing" in runs.notes


def test_a_run_without_any_value_is_left_out_and_noted(table):
    runs = read_runs(_append(table(), ("a", 99, 1, "loss", NAN), ("a", 99, 2, "loss", NAN)))["a"]
    assert runs.seeds == (0, 1, 2, 3)
    assert "1 run without any value left out" in runs.notes


@pytest.mark.parametrize("word", ["inf", "-inf", "Infinity"])
def test_infinite_is_diverged_and_kept(table, tmp_path, word):
    frame = table(seeds=10)
    text = frame.to_csv(index=False).splitlines()
    text[3] = f"a,0,4,loss,{word}"
    path = tmp_path / "r.csv"
    path.write_text("\n".join(text))
    runs = read_runs(path)["a"]
    assert np.isinf(runs.values["loss"][0, 2])
    assert runs.diverged_at[0] == 4 and np.isnan(runs.diverged_at[1:]).all()
    assert not runs.censored.any()


def test_identical_duplicates_collapse_conflicting_ones_set_aside(table):
    good, bad = table(task="good"), table(task="bad")
    first = tuple(bad.iloc[4])
    frame = pd.concat([good, good.iloc[:2], _append(bad, (*first[:4], first[4] + 1e-9))])
    runs = read_runs(frame)
    assert [t.task for t in runs] == ["good"]
    assert "2 identical duplicate rows collapsed" in runs["good"].notes
    (set_aside,) = runs.set_aside
    assert set_aside.task == "bad"
    assert "conflicting duplicates: seed 1 has 'loss'" in set_aside.reason and "at step 2" in set_aside.reason


def test_a_missing_duplicate_of_a_value_does_not_conflict(table):
    frame = table()
    again = frame.iloc[:1].assign(value=NAN)
    assert np.isfinite(read_runs(pd.concat([frame, again]))["a"].values["loss"]).all()


def test_runs_that_stop_early_are_censored_and_the_horizon_assumed(table):
    frame = table(seeds=10, steps=(1, 2, 4, 8))
    short = frame[~((frame["seed"] < 3) & (frame["step"] > 2))]
    runs = read_runs(short)["a"]
    assert runs.horizon == 8 and runs.horizon_assumed
    assert runs.censored.tolist() == [True] * 3 + [False] * 7
    assert np.isnan(runs.final_outcome()[:3]).all() and np.isfinite(runs.final_outcome()[3:]).all()
    complete = read_runs(frame)["a"]
    assert complete.horizon == 8 and not complete.horizon_assumed


def test_a_given_horizon_is_not_assumed_and_cuts_what_lies_beyond(table):
    frame = table(seeds=4, steps=(1, 2, 4, 8))
    deeper = read_runs(frame, horizon=16)["a"]
    assert deeper.horizon == 16 and not deeper.horizon_assumed and deeper.censored.all()
    mixed = frame[~((frame["seed"] == 0) & (frame["step"] > 4))]
    runs = read_runs(mixed, horizon=4)["a"]
    assert runs.depths.tolist() == [1, 2, 4] and runs.horizon == 4
    assert "3 of 4 runs go past the horizon, left out there (depths: 1)" in runs.notes
    assert np.isfinite(runs.final_outcome()).all()


def test_several_metrics_leave_the_outcome_open_unless_named(table):
    frame = pd.concat([table(), table(metric="accuracy"), table(task="b")])
    runs = read_runs(frame)
    assert runs["a"].outcome_metric is None and runs["a"].higher_is_better is None
    assert runs["b"].outcome_metric == "loss" and runs["b"].higher_is_better is False
    named = read_runs(frame, outcome="accuracy")
    assert named["a"].outcome_metric == "accuracy" and named["a"].higher_is_better is True
    assert [(s.task, s.reason) for s in named.set_aside] == [("b", "the outcome 'accuracy' was not recorded")]
    assert read_runs(frame, outcome="accuracy", higher_is_better=False)["a"].higher_is_better is False


def test_depth_zero_is_kept_and_the_unit_recorded(table):
    runs = read_runs(table(steps=(0, 1, 2)), depth_unit="epoch")["a"]
    assert runs.depths.tolist() == [0, 1, 2] and runs.depth_unit == "epoch"


def test_constant_columns_become_attributes_and_others_a_note(table):
    frame = pd.concat([table(task="a"), table(task="b")], ignore_index=True)
    frame["rate"] = np.where(frame["task"] == "a", 0.1, 0.2)
    frame["status"] = np.where((frame["task"] == "b") & (frame["seed"] == 0), "aborted", "success")
    frame["layers"] = 3
    frame["blank"] = NAN
    frame["partly"] = np.where(frame["seed"] == 0, NAN, 1.0)
    frame["lists"] = [[1]] * len(frame)
    runs = read_runs(frame)
    assert runs["a"].attributes == {"rate": 0.1, "status": "success", "layers": 3}
    assert runs["b"].attributes == {"rate": 0.2, "layers": 3}
    assert {type(v) for v in runs["a"].attributes.values()} == {float, str, int}
    assert runs["a"].notes == ("columns 'partly', 'lists' not constant within the task, left out",)
    assert runs["b"].notes == ("columns 'status', 'partly', 'lists' not constant within the task, left out",)


def test_a_constant_metric_beside_a_varying_one_does_no_harm(table):
    frame = pd.concat([table(), table(metric="flat").assign(value=1.0)])
    assert read_runs(frame, outcome="loss")["a"].metrics == ("loss", "flat")
    with pytest.raises(InputError, match="the outcome 'flat' has zero variance at every depth"):
        read_runs(frame, outcome="flat")


def test_a_store_gives_up_an_outcome_that_does_not_fit_the_arguments(task_runs, tmp_path):
    path = tmp_path / "r.db"
    runs = task_runs(seeds=range(12), depths=(1.0, 2.0, 3.0, 4.0))
    for value in runs.values.values():
        value[0, -1] = NAN
    with RunStore(path) as store:
        store.write(Trajectories((runs,)))
    assert read_runs(path)["a"].outcome is not None
    assert read_runs(path, horizon=4)["a"].outcome_examples is not None
    other = read_runs(path, outcome="loss")["a"]
    assert other.outcome is None and other.outcome_examples is None and other.higher_is_better is False
    cut = read_runs(path, horizon=3)["a"]
    assert cut.outcome is None and cut.depths.tolist() == [1, 2, 3]
    assert any("measured at depth 4" in note for note in cut.notes)
    assert read_runs(path, depth_unit="epoch")["a"].depth_unit == "epoch"
    with pytest.raises(InputError, match="'token', but the store has 'epoch'"):
        read_runs(path, depth_unit="token")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "r.parquet"
    path.write_bytes(b"PAR1 and so on")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"needs pyarrow.*pip install 'bayes-prehoc\[parquet\]'"):
        read_runs(path)


def test_attributes_join_by_task(table, tmp_path):
    runs = read_runs(pd.concat([table(task="a"), table(task="b")]))
    attributes = pd.DataFrame({"task": ["a", "c"], "rate": [0.1, 0.2], "rank": [NAN, 8], "name": ["x", None]})
    path = tmp_path / "attributes.csv"
    attributes.to_csv(path, index=False)
    for source in (attributes, path, read_attributes(path)):
        joined = with_attributes(runs, source)
        assert joined["a"].attributes == {"rate": 0.1, "name": "x"}
        assert joined["b"].attributes == {}
        assert joined["b"].notes[-1] == "the attribute table does not name this task"
    assert runs["a"].attributes == {}


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"name": ["a"]}, "no column 'task'; the columns are: name"),
        ({"task": ["z"], "rate": [1]}, "names none of the 1 tasks \\(such as 'a'\\)"),
        ({"task": ["a", "a"], "rate": [1, 2]}, "row 1 .*task 'a' has two rows"),
        ({"task": ["a", None], "rate": [1, 2]}, "row 1 .*no task is named"),
        ({"task": ["a"], "layers": [4]}, "'layers' is 4 here but 3 in the runs"),
    ],
)
def test_bad_attribute_tables(table, attributes, message):
    runs = read_runs(table().assign(layers=3))
    with pytest.raises(InputError, match=message):
        with_attributes(runs, pd.DataFrame(attributes))
