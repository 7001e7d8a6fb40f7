"""Numbers as a person reads them: three significant digits, one common power of ten per interval.

Formatting only. Draws are finitely many, so no probability is printed as certain; what is withheld is None here and
the word 'withheld' on the page.
"""

import dataclasses
import math

__all__ = [
    "IntervalText",
    "depth_unit",
    "interval",
    "number",
    "probability",
    "quantity",
    "regime_key",
    "root",
    "squared",
    "stated",
]

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SMALLEST, _LARGEST = -3, 5
"""Powers of ten of the numbers that are written out in full."""


@dataclasses.dataclass(frozen=True)
class IntervalText:
    """Median and 90% interval as text; `power` is their common factor, empty where there is none."""

    median: str
    range: str
    power: str

    def __str__(self):
        return f"{self.median} {self.range}{' ' if self.power else ''}{self.power}"


def number(value: float | None, digits: int = 3) -> str:
    """A number to `digits` significant digits; powers of ten where it is small or large."""
    if value is None:
        return "withheld"
    power = _power(value, digits)
    if _SMALLEST <= power < _LARGEST:
        return _fixed(value, digits - 1 - power)
    return f"{_fixed(value / 10.0**power, digits - 1)}×10{superscript(power)}"


def interval(given, digits: int = 3) -> IntervalText | None:
    """An interval (median, lower, upper) as text; None stays None."""
    if given is None:
        return None
    numbers = (given.median, given.lower, given.upper)
    power = _power(max(numbers, key=abs), digits)
    if _SMALLEST <= power < _LARGEST:
        median, lower, upper = (_fixed(value, digits - 1 - power) for value in numbers)
        return IntervalText(median, f"[{lower}, {upper}]", "")
    median, lower, upper = (_fixed(value / 10.0**power, digits - 1) for value in numbers)
    return IntervalText(median, f"[{lower}, {upper}]", f"×10{superscript(power)}")


def probability(value: float | None) -> str:
    """Two digits, but never 0.00 or 1.00: some thousand draws cannot tell what is merely improbable from the rest."""
    if value is None:
        return "withheld"
    if value < 0.005:
        return "<0.01"
    if value >= 0.995:
        return ">0.99"
    return f"{value:.2f}"


def stated(value: float) -> str:
    """A number that somebody stated (a tolerance, a horizon): as it was given, without digits that it never had."""
    short = f"{value:.6g}"
    return number(value) if "e" in short else short


def depth_unit(unit: str) -> str:
    """The unit in the plural: steps, epochs, samples; what ends in s stays."""
    return unit if unit.lower().endswith("s") else f"{unit}s"


def quantity(task) -> str:
    """What the task's proxy measures: the risk of a prediction, or the spread between runs."""
    return "risk" if task.reading == "verdict" else "spread"


def root(task) -> str:
    """The square root of that: an error of prediction, or a standard deviation between runs."""
    return "RMSE" if task.reading == "verdict" else "SD between runs"


def regime_key(regime: str | None) -> str:
    """The short name of a regime in the page's style sheet; 'plain' where there is none."""
    return "plain" if regime is None else regime.partition("-")[0]


def squared(metric: str) -> str:
    """The unit of a variance of the metric."""
    return f"{metric}²"


def superscript(power: int) -> str:
    """An exponent in superscript digits."""
    return str(power).translate(_SUPERSCRIPTS)


def _power(value, digits):
    """The power of ten of a number as rounded to `digits`, so that 9.996 is written 10.0 and not 9.996."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2]) if value and math.isfinite(value) else 0


def _fixed(value, decimals):
    if decimals < 0:
        value = round(value, decimals)
    return f"{value:.{max(decimals, 0)}f}".replace("-", "−")
