"""Turn a path or a DataFrame into a table, or say why it is none.

What a file is follows from its first bytes, not from its name: a gzipped CSV may be called anything, and a web
page saved as `runs.csv` is still a web page.
"""

import dataclasses
import gzip
import os
import warnings
import zlib
from pathlib import Path

import pandas as pd

from bayes_prehoc.errors import InputError

__all__ = ["IDENTITY", "MISSING", "SQLITE_MAGIC", "Table", "existing_file", "load_table"]

IDENTITY = ("task", "seed", "metric")
"""Columns that name things: in them a text such as "NA" or "None" is a name."""

MISSING = ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None"]
"""What counts as a blank cell in every other column."""

SQLITE_MAGIC = b"SQLite format 3\x00"

_SAVE = "Give a CSV, TSV or Parquet table, or a run store that this package wrote."


@dataclasses.dataclass(frozen=True)
class Table:
    """A table with a name, and a way to say where one of its rows is.

    Attributes
    ----------
    frame : pd.DataFrame
        Index 0, 1, ... by the row's place in the source; all-blank rows are dropped.
    name : str
        File name, or "the DataFrame".
    lines : bool
        The source is a text file, so rows have line numbers.
    """

    frame: pd.DataFrame
    name: str
    lines: bool = False

    def place(self, row: int) -> str:
        """Where the row with this index is; in text files the header is line 1."""
        return f"{self.name}, line {row + 2}" if self.lines else f"{self.name}, row {row} (the first is 0)"


def existing_file(source) -> Path:
    """Path of a file that is there and holds something.

    Raises
    ------
    InputError
        If it is no path, not found, a directory or empty.
    """
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            f"cannot read runs from a {type(source).__name__}", "source", "Give the path of a file or a DataFrame."
        )
    path = Path(source)
    if path.is_dir():
        raise InputError("is a directory", str(path), "Name the file in it that holds the table.")
    if not path.exists():
        raise InputError("no such file", str(path), f"Check the path; it was looked up from {Path.cwd()}.")
    if path.stat().st_size == 0:
        raise InputError("the file is empty", str(path), _SAVE)
    return path


def load_table(source) -> Table:
    """Load a CSV, TSV (both possibly gzipped) or Parquet file, or a DataFrame.

    Raises
    ------
    InputError
        If the source is missing, empty or no table, or pyarrow is needed and not installed.
    """
    if isinstance(source, pd.DataFrame):
        table = Table(source.reset_index(drop=True), "the DataFrame")
    else:
        table = _load_file(existing_file(source))
    columns = [str(c).strip() for c in table.frame.columns]
    twice = sorted({c for c in columns if columns.count(c) > 1})
    if twice:
        raise InputError(f"two columns are called {twice[0]!r}", table.name, "Rename or drop one of them.")
    frame = table.frame.set_axis(columns, axis=1)
    frame = frame[frame.notna().any(axis=1)]
    if frame.empty:
        raise InputError("the table has no rows", table.name, _SAVE)
    return dataclasses.replace(table, frame=frame)


def _load_file(path):
    name = str(path)
    try:
        with path.open("rb") as file:
            head = file.read(1 << 16)
        if head.startswith(b"\x1f\x8b"):
            with gzip.open(path) as file:
                head = file.read(1 << 16)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"cannot be read ({error})", name, "Check the file; a damaged one must be copied anew."
        ) from None
    if head.startswith(b"PAR1") or path.suffix in (".parquet", ".pq"):
        return Table(_load_parquet(path), name)
    _refuse_other_formats(head, name)
    return Table(_load_text(path, head, name), name, lines=True)


def _refuse_other_formats(head, name):
    text = head.lstrip().lower()
    if not text:
        raise InputError("the file is empty", name, _SAVE)
    if head.startswith(SQLITE_MAGIC):
        raise InputError("is a database, not a table", name, "Read it with read_runs or RunStore.")
    if head.startswith(b"PK\x03\x04"):
        raise InputError("is a zip archive or a spreadsheet, not a table", name, "Save the sheet as CSV.")
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InputError("is a web page, not a table", name, "Download the raw file, not the page that shows it.")
    if text.startswith((b"{", b"[")):
        raise InputError("looks like JSON, not a table", name, "Convert it: pandas.read_json(...).to_csv(...).")
    if b"\x00" in head:
        raise InputError("is a binary file, not a table", name, _SAVE)


def _load_parquet(path):
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise InputError(
            "reading Parquet needs pyarrow",
            str(path),
            "Install it with `pip install 'bayes-prehoc[parquet]'`, or give a CSV file.",
        ) from None
    try:
        return pd.read_parquet(path, engine="pyarrow").reset_index(drop=True)
    except Exception as error:  # pyarrow raises many kinds for a damaged file
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"is not a readable Parquet file ({reason})", str(path), "Write it again or give a CSV."
        ) from None


def _load_text(path, head, name):
    # utf-8-sig drops the byte order mark that spreadsheets write.
    header = head.lstrip(b"\xef\xbb\xbf").split(b"\n", 1)[0]
    separator = max(",\t;", key=lambda s: header.count(s.encode()))
    options = {
        "sep": separator,
        "encoding": "utf-8-sig",
        "compression": "gzip" if _is_gzip(path) else None,
        "skip_blank_lines": False,
        "index_col": False,
        "low_memory": False,
    }
    try:
        columns = pd.read_csv(path, nrows=0, **options).columns
        with warnings.catch_warnings():
            # Rows longer than the header would be cut with no more than this warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path,
                dtype={c: str for c in columns if c.strip() in ("task", "metric")},
                keep_default_na=False,
                na_values={c: [""] if c.strip() in IDENTITY else MISSING for c in columns},
                **options,
            )
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", name, "Save the table as UTF-8.") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        reason = str(error).strip().splitlines()[0].removeprefix("Error tokenizing data. C error: ").rstrip(".")
        raise InputError(f"is not a table ({reason})", name, "Give every row as many cells as the header.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"cannot be read ({error})", name, "Check the file; a damaged one must be copied anew."
        ) from None


def _is_gzip(path):
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"
