"""What a user can get wrong: each a one-line error that names the place and the remedy."""

import gzip

import numpy as np
import pandas as pd
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs import read_runs

NAN, INF = np.nan, np.inf
HEADER = "task,seed,step,metric,value\n"
GOOD = HEADER + "".join(f"a,{s},{c},loss,{s + c}\n" for s in range(3) for c in (1, 2))


def _with(row, **cells):
    """Change cells of one row of a table."""

    def change(frame):
        frame = frame.astype(object)
        for column, cell in cells.items():
            frame.at[row, column] = cell
        return frame

    return change


BAD_TABLES = {
    "no seed": (lambda f: f.drop(columns="seed"), ["no column 'seed'", "task, step, metric, value", "rename"]),
    "wide": (
        lambda f: f.drop(columns="metric").rename(columns={"value": "loss"}),
        ["no columns 'metric', 'value'", "melt"],
    ),
    "two columns alike": (
        lambda f: f.set_axis(["task", "seed", "step", "value", "value"], axis=1),
        ["'value'", "Rename"],
    ),
    "attributes only": (lambda f: f[["task"]].assign(rate=1), ["no columns 'seed', 'step'", "with_attributes"]),
    "no rows": (lambda f: f.iloc[:0], ["no rows", "CSV"]),
    "text value": (_with(5, value="n.a."), ["row 5", "'value'", "'n.a.' is not a number", "blank"]),
    "text step": (_with(2, step="epoch 3"), ["row 2", "'step'", "'epoch 3' is not a number"]),
    "date step": (lambda f: f.assign(step=pd.Timestamp("2026-01-01")), ["row 0", "'step'", "is not a number"]),
    "complex value": (lambda f: f.assign(value=f["value"] * 1j), ["row 0", "'value'", "is not a number"]),
    "time in step": (
        lambda f: f.assign(step=[pd.Timedelta(s, "s") for s in f["step"]]),
        ["row 0", "'step'", "is not a number"],
    ),
    "blank step": (_with(3, step=None), ["row 3", "'step'", "no step"]),
    "infinite step": (_with(3, step=INF), ["row 3", "'step'", "infinite"]),
    "negative depth": (_with(4, step=-1), ["row 4", "'step'", "depth -1 is negative", "count from 0"]),
    "blank task": (_with(1, task=None), ["row 1", "no task is given", "Fill in"]),
    "blank seed": (_with(1, seed=None), ["row 1", "no seed is given"]),
    "blank metric": (_with(1, metric=None), ["row 1", "no metric is given"]),
    "one seed": (lambda f: f[f["seed"] == 0], ["task 'a'", "one run only (seed 0)", "two or more runs"]),
    "one depth": (lambda f: f[f["step"] == 2], ["task 'a'", "fewer than two usable depths ('loss': 1 of 1"]),
    "depth zero does not count": (
        lambda f: f[f["step"] < 4].assign(step=lambda g: g["step"] - 1),
        ["'loss': 1 of 2", "depth 0 is not fitted"],
    ),
    "own steps": (
        lambda f: f.assign(step=f["step"] + 10 * f["seed"]),
        ["fewer than two usable depths ('loss': 0 of 12; left out: 12 depths seen in 1 of 4 runs)"],
    ),
    "constant": (lambda f: f.assign(value=0.5), ["task 'a'", "zero variance at every depth", "'loss'"]),
    "only NaN": (lambda f: f.assign(value=NAN), ["task 'a'", "no values: every cell is blank or NaN"]),
    "only infinite": (lambda f: f.assign(value=INF), ["task 'a'", "every run diverged"]),
    "NaN and infinite": (lambda f: f.assign(value=np.where(f["seed"] > 1, NAN, -INF)), ["every run diverged"]),
    "conflict": (
        lambda f: pd.concat([f, f.iloc[:1].assign(value=7.0)]),
        ["task 'a'", "conflicting duplicates: seed 0 has 'loss'", "7 at step 1", "one value per seed"],
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables(table, case):
    change, said = BAD_TABLES[case]
    with pytest.raises(InputError) as caught:
        read_runs(change(table()))
    message = str(caught.value)
    assert message.startswith("the DataFrame") and "\n" not in message
    for words in said:
        assert words in message
    assert caught.value.remedy and caught.value.where


BAD_FILES = {
    "empty": ("r.csv", b"", ["the file is empty"]),
    "white space": ("r.csv", b" \n\n", ["the file is empty"]),
    "header only": ("r.csv", HEADER.encode(), ["no rows"]),
    "blank rows only": ("r.csv", HEADER.encode() + b",,,,\n", ["no rows"]),
    "web page": ("r.csv", b"<!DOCTYPE html><html><body>404", ["web page", "raw file"]),
    "JSON": ("r.csv", b'[{"task": "a"}]', ["JSON"]),
    "binary": ("r.csv", bytes(range(256)), ["binary file"]),
    "spreadsheet": ("r.xlsx", b"PK\x03\x04....", ["spreadsheet", "as CSV"]),
    "latin-1": ("r.csv", GOOD.replace("a,", "\xe9,").encode("latin-1"), ["not UTF-8"]),
    "long row": ("r.csv", GOOD.encode() + b"a,9,1,loss,1,2,3\n", ["is not a table", "line 8"]),
    "every row longer than the header": ("r.csv", GOOD.replace("loss,", "loss,x,").encode(), ["is not a table"]),
    "prose": ("r.csv", b"Dear all,\nhere are the runs.\n", ["no columns 'task'"]),
    "cut gzip": ("r.csv.gz", gzip.compress(GOOD.encode())[:40], ["cannot be read"]),
    "not gzip inside": ("r.csv.gz", b"\x1f\x8bnothing of the kind", ["cannot be read"]),
    "text value": ("r.csv", GOOD.replace("a,1,2,loss,3", "a,1,2,loss,high").encode(), ["line 5", "'high'"]),
    "text value after a blank line": ("r.csv", (GOOD + "\na,3,1,loss,high\n").encode(), ["line 9", "'high'"]),
    "negative depth": ("r.csv", GOOD.replace("a,2,1,", "a,2,-1,").encode(), ["line 6", "depth -1 is negative"]),
    "parquet": ("r.parquet", b"PAR1 but nothing else", ["not a readable Parquet file"]),
    "parquet in name only": ("r.parquet", GOOD.encode(), ["not a readable Parquet file"]),
    "store in name only": ("r.db", GOOD.encode(), ["not a run store"]),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(tmp_path, case):
    name, content, said = BAD_FILES[case]
    if "parquet" in case:
        pytest.importorskip("pyarrow", reason="pyarrow, which reads Parquet, is not installed")
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_runs(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    for words in said:
        assert words in message


def test_the_file_that_the_bad_ones_are_made_from_is_good(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text(GOOD)
    assert read_runs(path)["a"].values["loss"].tolist() == [[1, 2], [2, 3], [3, 4]]


def test_no_file_directory_and_other_things(tmp_path):
    with pytest.raises(InputError, match="missing.csv: no such file.*Check the path"):
        read_runs(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="missing.db: no such file"):
        read_runs(tmp_path / "missing.db")
    assert not (tmp_path / "missing.db").exists()
    with pytest.raises(InputError, match="is a directory"):
        read_runs(tmp_path)
    with pytest.raises(InputError, match="cannot read runs from a list"):
        read_runs([1, 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outcome": "acc"}, "no metric 'acc'. The metrics are: loss"),
        ({"horizon": 0}, "horizon: 0 is no depth"),
        ({"horizon": -3.0}, "horizon: -3.0 is no depth"),
        ({"horizon": NAN}, "horizon: nan is no depth"),
        ({"horizon": INF}, "horizon: inf is no depth"),
        ({"horizon": "100"}, "horizon: '100' is no depth"),
        ({"horizon": 3}, "horizon: 3 is shallower than every run \\(the shortest ends at 4\\)"),
    ],
)
def test_impossible_arguments(table, arguments, message):
    with pytest.raises(InputError, match=message):
        read_runs(table(), **arguments)


def test_bad_tasks_are_set_aside_while_a_good_one_remains(table):
    frame = pd.concat(
        [
            table(task="good"),
            table(task="one seed", seeds=1),
            table(task="one depth", steps=(3,)),
            table(task="constant").assign(value=1.0),
            table(task="nothing").assign(value=NAN),
            table(task="gone").assign(value=INF),
        ]
    )
    runs = read_runs(frame)
    assert [t.task for t in runs] == ["good"]
    reasons = {s.task: s.reason for s in runs.set_aside}
    assert {task: reason[:12] for task, reason in reasons.items()} == {
        "one seed": "one run only",
        "one depth": "fewer than t",
        "constant": "zero varianc",
        "nothing": "no values: e",
        "gone": "no finite va",
    }


def test_a_task_wholly_beyond_the_horizon_is_set_aside(table):
    frame = pd.concat([table(task="short"), table(task="long", steps=(50, 60, 70))])
    runs = read_runs(frame, horizon=10)
    assert [(s.task, s.reason) for s in runs.set_aside] == [("long", "no depth at or before the horizon")]


def test_the_error_for_many_bad_tasks_names_the_first(table):
    frame = pd.concat([table(task=f"t{i}", seeds=1) for i in range(5)])
    with pytest.raises(InputError, match="none of 5 tasks can be used \\(task 't0': one run only.*; and 2 more\\)"):
        read_runs(frame)
