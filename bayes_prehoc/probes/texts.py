"""Fine-tuning data that people have: texts with what they are to be answered by, from files or tables.

Three kinds. A "class" or a "number" is said about a text or a pair of texts; an "answer" is a text that follows a
prompt, of which only the answer is learned. Texts are tokenised once. The examples of the training table are trained
on; those of the evaluation table are cut in two disjoint sets, of which one is the probe set and the other the outcome
set, unless the outcome set has a table of its own.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayes_prehoc.errors import InputError
from bayes_prehoc.probes.objectives import IGNORED
from bayes_prehoc.probes.tables import read_table

__all__ = ["Encoded", "TextData", "encode"]

TABLES = ("train", "evaluation", "outcome")
KINDS = ("class", "number", "answer")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TextData:
    """Texts to fine-tune on.

    Attributes
    ----------
    train, evaluation : path, pandas.DataFrame or datasets.Dataset
        CSV, TSV, JSON lines or Parquet, gzipped or not.
    text, label : str or int
        Columns: what is read, and what is asked about it. By position, counted from 0, in a file without a header.
    pair : str or int, optional
        Column of a second text.
    kind : str
        "class" (any number of classes), "number" (regression), or "answer" (the label is a text to be written after
        the prompt).
    outcome : like `train`, optional
        The outcome set; default: a half of `evaluation`.
    longest : int, optional
        Tokens that an example may have; what is longer is cut at its end, or, if an answer follows, at its beginning.
        Default: as many as the model takes, and an example that is longer is an error.
    evaluation_label : str or int, optional
        Column of `evaluation` and `outcome` that holds the label, if it is another one there: a clean label beside one
        that is noisy.

    Raises
    ------
    InputError
        If a value is impossible.
    """

    train: Any
    evaluation: Any
    text: str | int
    label: str | int
    pair: str | int | None = None
    kind: str = "class"
    outcome: Any = None
    longest: int | None = None
    evaluation_label: str | int | None = None

    def __post_init__(self):
        if self.kind not in KINDS:
            raise InputError(f"kind is {self.kind!r}", "TextData, kind", f"Use one of {', '.join(KINDS)}.")
        if self.kind == "answer" and self.pair is not None:
            raise InputError("an answer follows one prompt", "TextData, pair", "Join the two columns into one.")
        if self.longest is not None and not (isinstance(self.longest, int) and self.longest >= 2):
            raise InputError(f"longest is {self.longest!r}", "TextData, longest", "Give a whole number of at least 2.")
        named = [c for c in (self.text, self.label, self.pair, self.evaluation_label) if c is not None]
        if len({isinstance(column, int) for column in named}) > 1:
            raise InputError(
                f"columns are {', '.join(map(repr, named))}", "TextData", "Give all by name, or all by position."
            )

    @property
    def described(self) -> dict:
        """What is read of the tables, without the tables."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in TABLES}


class Encoded(NamedTuple):
    """Tokenised examples, padded on the right to the longest of them.

    Attributes
    ----------
    ids, types : int32 array (N, L)
    mask : bool array (N, L)
    target : int32 array (N,) of classes, float32 array (N,), or int32 array (N, L)
        Of an answer the token that follows each position, `IGNORED` where nothing is asked.
    """

    ids: np.ndarray
    mask: np.ndarray
    types: np.ndarray
    target: np.ndarray

    def take(self, rows) -> "Encoded":
        """Some of the examples, in this order, padded no further than they need."""
        length = max(1, int(self.mask[rows].sum(axis=1).max(initial=1)))
        target = self.target[rows]
        return Encoded(
            self.ids[rows][:, :length],
            self.mask[rows][:, :length],
            self.types[rows][:, :length],
            target[:, :length] if target.ndim == 2 else target,
        )

    def padded(self, length: int) -> "Encoded":
        """The same examples, with so many positions."""
        more = ((0, 0), (0, length - self.ids.shape[1]))
        target = np.pad(self.target, more, constant_values=IGNORED) if self.target.ndim == 2 else self.target
        return Encoded(*(np.pad(part, more) for part in self[:3]), target)


class Texts(NamedTuple):
    """The tables of a task, encoded; what the labels are called, and what identifies the data.

    Attributes
    ----------
    train, evaluation : Encoded
    outcome : Encoded or None
    classes : tuple of str
        In the order of their numbers; empty unless the kind is "class".
    digest : str
        sha256 of the encoded examples.
    cut : int
        Examples that were longer than asked for.
    """

    train: Encoded
    evaluation: Encoded
    outcome: Encoded | None
    classes: tuple[str, ...]
    digest: str
    cut: int


def encode(data: TextData, tokenizer, longest: int) -> Texts:
    """Read, tokenise and number a task's examples.

    Parameters
    ----------
    data : TextData
    tokenizer : tokenizer of transformers
    longest : int
        Tokens that the model takes.

    Raises
    ------
    InputError
        If a table cannot be read, a column is missing, a cell is empty, a label of the evaluation does not occur in
        training, or a text is longer than the model takes.
    """
    if data.longest is not None and data.longest > longest:
        raise InputError(
            f"longest is {data.longest}, the model takes {longest} tokens", "TextData, longest", "Give a smaller one."
        )
    columns = (data.text, data.pair, data.label)
    evaluated = (data.text, data.pair, data.label if data.evaluation_label is None else data.evaluation_label)
    tables = [_columns(data.train, columns, "train"), _columns(data.evaluation, evaluated, "evaluation")]
    if data.outcome is not None:
        tables.append(_columns(data.outcome, evaluated, "outcome"))

    classes = _classes(tables, data) if data.kind == "class" else ()
    encoded, cut = [], 0
    for table in tables:
        made, longer = _encoded(table, data, classes, tokenizer, longest)
        encoded.append(made)
        cut += longer
    digest = hashlib.sha256()
    for part in (array for one in encoded for array in one):
        digest.update(f"{part.dtype.str}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
    train, evaluation, outcome = (*encoded, None)[:3]
    return Texts(train, evaluation, outcome, classes, digest.hexdigest(), cut)


class _Table(NamedTuple):
    place: str
    text: list[str]
    pair: list[str] | None
    label: pd.Series


def _columns(source, columns, role: str) -> _Table:
    frame, place = read_table(source, has_header=isinstance(columns[0], str), role=role)
    for column in columns:
        if column is not None and column not in frame.columns:
            known = ", ".join(str(c) for c in frame.columns[:12])
            remedy = f"The columns are {known}. In a file without a header give positions, counted from 0."
            raise InputError(f"no column {column!r}", place, remedy)
    if not len(frame):
        raise InputError("there are no examples", place, "Give a table with at least one row.")
    text, pair, label = (None if column is None else frame[column] for column in columns)
    for column, values in zip(columns, (text, pair, label), strict=True):
        empty = [] if values is None else np.flatnonzero(values.isna())
        if len(empty):
            raise InputError(f"row {empty[0] + 1} has no {column!r}", place, "Fill it in, or drop the row.")
    return _Table(place, list(text.astype(str)), None if pair is None else list(pair.astype(str)), label)


def _classes(tables: Sequence[_Table], data: TextData) -> tuple[str, ...]:
    """Names of the classes that occur in training, numbers in their own order."""
    found = [[_class_name(value) for value in table.label] for table in tables]
    classes = sorted(set(found[0]), key=lambda name: (not name.lstrip("-").isdigit(), _as_number(name), name))
    if len(classes) < 2:
        raise InputError(
            f"all examples have the label {classes[0]!r}",
            f"{tables[0].place}, column {data.label!r}",
            "Give data with two classes at least.",
        )
    for table, names in zip(tables[1:], found[1:], strict=True):
        for row, name in enumerate(names):
            if name not in classes:
                raise InputError(
                    f"row {row + 1} has the label {name!r}, of which training has no example",
                    table.place,
                    f"Its classes are {', '.join(classes[:12])}.",
                )
    return tuple(classes)


def _class_name(value) -> str:
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value).strip()


def _as_number(name: str) -> int:
    return int(name) if name.lstrip("-").isdigit() else 0


def _encoded(table: _Table, data: TextData, classes, tokenizer, longest: int) -> tuple[Encoded, int]:
    if data.kind == "answer":
        return _answers(table, data, tokenizer, longest)
    most = data.longest or longest
    cells = [table.text] if table.pair is None else [table.text, table.pair]
    given = tokenizer(*cells, return_token_type_ids=True, verbose=False)
    rows, types = list(given["input_ids"]), list(given["token_type_ids"])
    longer = [i for i, row in enumerate(rows) if len(row) > most] if data.longest is not None else []
    if longer:
        some = [[column[i] for i in longer] for column in cells]
        shorter = tokenizer(*some, return_token_type_ids=True, truncation=True, max_length=most)
        for i, row, kinds in zip(longer, shorter["input_ids"], shorter["token_type_ids"], strict=True):
            rows[i], types[i] = row, kinds
    _check_length(rows, most, table.place)
    if data.kind == "class":
        number = {name: i for i, name in enumerate(classes)}
        target = np.array([number[_class_name(value)] for value in table.label], np.int32)
    else:
        target = _numbers(table, data)
    return _padded(rows, types, target), len(longer)


def _answers(table: _Table, data: TextData, tokenizer, longest: int) -> tuple[Encoded, int]:
    """Prompt, answer and the token that ends it; what is too long loses its prompt's beginning, then its own end."""
    end = tokenizer.eos_token_id
    if end is None:
        raise InputError(
            "the tokenizer has no token that ends a text", table.place, "Use a language model's tokenizer."
        )
    most, rows, targets, cut = data.longest or longest, [], [], 0
    prompts = tokenizer(table.text, verbose=False)["input_ids"]
    answers = tokenizer(list(table.label.astype(str)), add_special_tokens=False, verbose=False)["input_ids"]
    for prompt, answer in zip(prompts, answers, strict=True):
        answer = [*answer, end]
        if data.longest is not None and len(prompt) + len(answer) > most:
            cut += 1
            answer = answer[: most - 1]
            prompt = prompt[len(prompt) + len(answer) - most :]
        whole = [*prompt, *answer]
        rows.append(whole)
        targets.append([*[IGNORED] * (len(prompt) - 1), *answer, IGNORED])
    _check_length(rows, most, table.place)
    encoded = _padded(rows, [[0] * len(row) for row in rows], np.zeros(0))
    target = np.full(encoded.ids.shape, IGNORED, np.int32)
    for row, values in enumerate(targets):
        target[row, : len(values)] = values
    return encoded._replace(target=target), cut


def _check_length(rows, most: int, place: str) -> None:
    lengths = np.array([len(row) for row in rows])
    longer = np.flatnonzero(lengths > most)
    if len(longer):
        raise InputError(
            f"{len(longer)} of {len(rows)} examples are longer than the {most} tokens that the model takes, "
            f"the first in row {longer[0] + 1} with {lengths[longer[0]]}",
            place,
            "Say longest=N to cut them, or shorten them.",
        )


def _numbers(table: _Table, data: TextData) -> np.ndarray:
    values = pd.to_numeric(table.label, errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise InputError(
            f"row {wrong[0] + 1} has {table.label.iloc[wrong[0]]!r}, which is no finite number",
            f"{table.place}, column {data.label!r}",
            "Give numbers, or use kind='class'.",
        )
    return values.astype(np.float32)


def _padded(rows, types, target) -> Encoded:
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max())[None, :] < lengths[:, None]
    ids, kinds = np.zeros(mask.shape, np.int32), np.zeros(mask.shape, np.int32)
    ids[mask] = np.concatenate([np.asarray(row, np.int32) for row in rows])
    kinds[mask] = np.concatenate([np.asarray(row, np.int32) for row in types])
    return Encoded(ids, mask, kinds, target)
