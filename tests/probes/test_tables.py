"""Tables of examples in every format, and what is said about files that are none."""

import gzip
import json
import types

import pandas as pd
import pytest

from bayes_prehoc import InputError
from bayes_prehoc.probes.tables import read_table

ROWS = [('He said "yes".', "1"), ("nan", "0"), ("commas, too", "1")]
FRAME = pd.DataFrame(ROWS, columns=["text", "label"])


def written(folder, name):
    """The rows in a file, in the format that its name says."""
    path = folder / name
    lines = {
        "csv": 'text,label\n"He said ""yes"".",1\nnan,0\n"commas, too",1\n',
        "tsv": "\ufefftext\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in ROWS),
        "jsonl": "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS),
        "json": json.dumps([{"text": text, "label": label} for text, label in ROWS]),
    }
    if name.endswith("parquet"):
        FRAME.to_parquet(path)
        return path
    raw = lines[name.split(".")[1]].encode()
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return path


@pytest.mark.parametrize(
    "name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.csv.gz", "a.tsv.gz", "a.jsonl.gz"]
)
def test_every_format_gives_the_same_rows(name, tmp_path):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = written(tmp_path, name)
    frame, place = read_table(path, has_header=True, role="train")
    assert place == str(path) and list(frame["text"]) == [text for text, _ in ROWS]
    assert list(frame["label"].astype(str)) == [label for _, label in ROWS]


def test_quotation_marks_in_a_tsv_are_text(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('1\t" an open quote\n0\tand a "word"\n')
    frame, _ = read_table(path, has_header=False, role="train")
    assert list(frame[1]) == ['" an open quote', 'and a "word"'] and list(frame.columns) == [0, 1]


def test_frames_and_data_sets_are_tables():
    data_set = types.SimpleNamespace(to_pandas=lambda: FRAME.iloc[1:])
    assert read_table(FRAME.iloc[1:], has_header=True, role="train")[0].index.tolist() == [0, 1]
    frame, place = read_table(data_set, has_header=True, role="evaluation")
    assert frame["text"].tolist() == ["nan", "commas, too"] and place == "evaluation data set"


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("a.xlsx", b"PK", "the ending '.xlsx' is none of a table"),
        ("a.csv", b"", "the file is empty"),
        ("a.tsv", b"text\n\xff\xfe", "not UTF-8"),
        ("a.jsonl", b'{"text": "a"\n', "not a readable table"),
        ("a.csv.gz", b"text", "not a readable table"),
        ("a.parquet", b"PAR1", "not a readable table"),
    ],
)
def test_what_is_no_table_is_explained(name, raw, words, tmp_path):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(InputError, match=words):
        read_table(tmp_path / name, has_header=True, role="train")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no such file.*evaluation table"):
        read_table(tmp_path / "a.csv", has_header=True, role="evaluation")
