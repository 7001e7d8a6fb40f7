"""What a field of a prior card may hold: types, sizes and characters, each complaint naming the field."""

import math
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from bayes_prehoc.errors import InputError

__all__ = ["LONGEST", "LONGEST_TEXT", "count", "names", "number", "short_name", "text", "tuple_of_arrays"]

LONGEST = 200
"""Characters of a name."""
LONGEST_TEXT = 20_000
"""Characters of a description or a citation."""
MOST_COUNT = 10**12
_SHORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REMEDY = "Make the card again, or ask whoever made it."


def text(value, where: str, most: int = LONGEST, lines: bool = False, empty: bool = False) -> str:
    """A string without control characters, which could reach a terminal; line breaks where `lines` are meant."""
    if not isinstance(value, str):
        raise InputError(f"it is a {type(value).__name__}, not a text", where, _REMEDY)
    if len(value) > most:
        raise InputError(f"it has {len(value)} characters", where, f"Give at most {most}.")
    if not empty and not value.strip():
        raise InputError("it is empty", where, "Give a text.")
    # Of category C are control characters, marks that turn the direction of writing, and halves of surrogate pairs.
    odd = next((c for c in value if unicodedata.category(c)[0] == "C" and not (lines and c == "\n")), None)
    if odd is not None:
        raise InputError(f"it holds the character U+{ord(odd):04X}", where, "Leave out what cannot be printed.")
    return value


def short_name(value, where: str) -> str:
    """A name that can be a folder's: letters, digits, full stop, hyphen, underscore."""
    if not isinstance(value, str) or not _SHORT.fullmatch(value):
        shown = ascii(value)[:80] if isinstance(value, str) else type(value).__name__
        raise InputError(f"{shown} cannot be a name", where, "Use up to 64 letters, digits, '.', '-' and '_'.")
    return value


def names(values, where: str, most: int) -> tuple[str, ...]:
    """A sequence of different names."""
    if not isinstance(values, list | tuple):
        raise InputError(f"it is a {type(values).__name__}, not a list", where, _REMEDY)
    if len(values) > most:
        raise InputError(f"it has {len(values)} entries", where, f"At most {most} are allowed.")
    found = tuple(text(value, where) for value in values)
    if len(set(found)) < len(found):
        raise InputError("an entry is there twice", where, _REMEDY)
    return found


def number(value, where: str, positive: bool = False) -> float:
    """A finite number; no bool."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise InputError(f"it is a {type(value).__name__}, not a number", where, _REMEDY)
    # Of an integer beyond the range of floats even the test would overflow.
    if isinstance(value, int) and abs(value) > 10**300:
        raise InputError("it is out of range", where, _REMEDY)
    if not math.isfinite(value) or (positive and not value > 0.0):
        raise InputError(f"it is {value!r}", where, "Give a positive number." if positive else "Give a finite number.")
    return float(value)


def count(value, where: str, least: int = 0) -> int:
    """A whole number from `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(f"it is a {type(value).__name__}, not a whole number", where, _REMEDY)
    if not least <= value <= MOST_COUNT:
        raise InputError("it is out of range", where, f"Give a whole number from {least}.")
    return int(value)


def tuple_of_arrays(parts: Sequence, shapes: Sequence[tuple[int, ...]], where: str) -> tuple[np.ndarray, ...]:
    """float64 arrays of these shapes without what is not finite, or so far out that squares lose it."""
    found = []
    for part, shape in zip(parts, shapes, strict=True):
        if not isinstance(part, np.ndarray) or part.dtype != np.float64 or part.shape != shape:
            told = f"{part.dtype} of shape {part.shape}" if isinstance(part, np.ndarray) else type(part).__name__
            raise InputError(f"an array is {told}, not float64 of shape {shape}", where, _REMEDY)
        if not np.all(np.abs(part) <= 1e6):
            raise InputError("a number is not finite, or beyond a million", where, _REMEDY)
        found.append(part)
    return tuple(found)
