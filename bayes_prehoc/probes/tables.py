"""Tables of examples: files of the usual formats, data frames, and data sets of the datasets library."""

import csv
import gzip
import json
import zlib
from pathlib import Path

import pandas as pd

from bayes_prehoc.errors import InputError

__all__ = ["read_table"]

FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "json", ".json": "json", ".parquet": "parquet", ".pq": "parquet"}


def read_table(source, *, has_header: bool, role: str) -> tuple[pd.DataFrame, str]:
    """Read a table of examples.

    Parameters
    ----------
    source : path, pandas.DataFrame or datasets.Dataset
        CSV, TSV, JSON lines (or one JSON array) or Parquet, by the name's ending; text formats may be gzipped. Tabs
        separate cells as they are: in a TSV quotation marks are part of a text.
    has_header : bool
        Of CSV and TSV; without one columns are called 0, 1, ...
    role : str
        What the table is for, in errors.

    Returns
    -------
    frame : pandas.DataFrame
    place : str
        What to call the table in errors.

    Raises
    ------
    InputError
        If there is no such file, or it is not such a table.
    """
    if isinstance(source, pd.DataFrame):
        return source.reset_index(drop=True), f"{role} table"
    if hasattr(source, "to_pandas"):
        return source.to_pandas().reset_index(drop=True), f"{role} data set"
    path = Path(source).expanduser()
    place = str(path)
    if not path.is_file():
        raise InputError("no such file", place, f"Give the file of the {role} table.")
    name = path.with_suffix("") if path.suffix == ".gz" else path
    kind = FORMATS.get(name.suffix.lower())
    if kind is None:
        raise InputError(
            f"the ending {name.suffix!r} is none of a table", place, f"Use one of {', '.join(FORMATS)}, or .gz of it."
        )
    try:
        frame = _READERS[kind](path, has_header)
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", place, "Save the table as UTF-8.") from None
    except pd.errors.EmptyDataError:
        raise InputError("the file is empty", place, "Give a table with at least one row.") from None
    except ImportError:
        remedy = "pip install 'bayes-prehoc[parquet]', or give a CSV file."
        raise InputError("reading Parquet needs pyarrow", place, remedy) from None
    except (OSError, EOFError, zlib.error, ValueError, csv.Error) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise InputError(f"is not a readable table ({reason})", place, "Check the file.") from None
    return frame, place


def _read_csv(path: Path, has_header: bool) -> pd.DataFrame:
    return pd.read_csv(path, **_text_options(has_header))


def _read_tsv(path: Path, has_header: bool) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE, **_text_options(has_header))


def _text_options(has_header: bool) -> dict:
    # utf-8-sig drops the byte order mark that spreadsheets write; "nan" and "None" are words.
    return {
        "header": 0 if has_header else None,
        "encoding": "utf-8-sig",
        "keep_default_na": False,
        "na_values": [""],
        "index_col": False,
    }


def _read_json(path: Path, has_header: bool) -> pd.DataFrame:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    if text.lstrip().startswith("["):
        return pd.DataFrame(json.loads(text))
    return pd.DataFrame([json.loads(line) for line in text.splitlines() if line.strip()])


def _read_parquet(path: Path, has_header: bool) -> pd.DataFrame:
    import pyarrow  # noqa: F401

    return pd.read_parquet(path, engine="pyarrow").reset_index(drop=True)


_READERS = {"csv": _read_csv, "tsv": _read_tsv, "json": _read_json, "parquet": _read_parquet}
