"""The little that charts need: escaped SVG elements, logarithmic axes with ticks, paths.

Everything that a user named (tasks, metrics, units) goes through `element`, which escapes it. Colours and fonts are
classes of the page's style sheet, so that a chart turns dark with the page and prints well.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
from markupsafe import Markup, escape

from bayes_prehoc.report.text import superscript

__all__ = [
    "LogScale",
    "area",
    "depth_label",
    "drawing",
    "element",
    "line",
    "log_axes",
    "polyline",
    "risk_label",
    "shorten",
    "text",
]


def element(tag: str, *children, **attributes) -> Markup:
    """An SVG element; text is escaped, `class_` is class, `text_anchor` is text-anchor, None is left out."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    inside = "".join(str(escape(child)) for child in children if child is not None)
    return Markup(f"<{tag}{written}>{inside}</{tag}>" if inside else f"<{tag}{written}/>")


def drawing(name: str, width: float, height: float, title: str, description: str, parts: Iterable, kind: str) -> Markup:
    """An SVG image with a title and a description for those who do not see it; `name` is unique on the page."""
    return element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", description, id=f"{name}-text"),
        *parts,
        class_=f"chart {kind}",
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-text",
    )


def text(x: float, y: float, content, class_: str | None = None, anchor: str | None = None, **attributes) -> Markup:
    """Text at a point; `anchor` is start (default), middle or end."""
    return element("text", content, x=x, y=y, class_=class_, text_anchor=anchor, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def polyline(xs: Sequence[float], ys: Sequence[float], class_: str) -> Markup:
    """A line through points."""
    return element("path", d=_path(xs, ys), class_=class_)


def area(xs: Sequence[float], lower: Sequence[float], upper: Sequence[float], class_: str) -> Markup:
    """The area between two curves."""
    return element("path", d=_path([*xs, *xs[::-1]], [*lower, *upper[::-1]]) + "Z", class_=class_)


@dataclasses.dataclass(frozen=True)
class LogScale:
    """A logarithmic axis from `low` at pixel `start` to `high` at pixel `end`; values outside are clamped."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, values):
        """Pixels of values, a float for a float."""
        inside = np.clip(np.asarray(values, dtype=float), self.low, self.high)
        share = np.log(inside / self.low) / math.log(self.high / self.low)
        pixels = self.start + share * (self.end - self.start)
        return float(pixels) if np.ndim(values) == 0 else pixels

    def covers(self, value: float) -> bool:
        """Whether a value lies on the axis, its ends included."""
        return self.low <= value <= self.high

    def ticks(self, most: int = 6) -> list[float]:
        """Round values inside the axis: powers of ten where it is long, 1-2-5 or even steps where it is short."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        powers = [10.0**p for p in range(first, last + 1)]
        sparsest = None
        for steps in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,)):
            found = [s * p for p in powers for s in steps if self.covers(s * p)]
            if 3 <= len(found) <= most:
                return found
            sparsest = found if len(found) >= 3 else sparsest
        # Too many powers of ten: every second or third. Too few round values: even steps.
        return sparsest[:: -(-len(sparsest) // most)] if sparsest else list(_even_steps(self.low, self.high))


def log_axes(x: LogScale, y: LogScale, height: float, unit: str, up: str, across: str = "depth") -> Iterable[Markup]:
    """The axes of a chart against depth, or what `across` names, in a unit; `up` says what stands on the other one."""
    left, right, bottom, top = x.start, x.end, y.start, y.end
    for value in y.ticks(6):
        level = y(value)
        yield line(left, level, right, level, "grid")
        yield text(left - 6, level + 3.5, risk_label(value), "tick", "end")
    for value in x.ticks(6):
        place = x(value)
        yield line(place, bottom, place, bottom + 4, "axis")
        yield text(place, bottom + 16, depth_label(value), "tick", "middle")
    yield line(left, bottom, right, bottom, "axis")
    yield text((left + right) / 2, height - 5, f"{across} ({unit})", "label", "middle")
    middle = (top + bottom) / 2
    yield text(11.0, middle, up, "label", "middle", transform=f"rotate(-90 11 {middle:g})")


def depth_label(value: float) -> str:
    """A depth on an axis: 50, 2k, 1.5M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # Four digits are as short as "2.5k" and easier to compare.
        if value >= size and value >= 1e4:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}"


def risk_label(value: float) -> str:
    """A risk on an axis: 0.01, 10⁻⁵, 2×10⁻⁵."""
    mantissa, _, power = f"{value:.2e}".partition("e")
    if -2 <= int(power) <= 3:
        return f"{value:.3g}"
    factor = f"{float(mantissa):g}"
    return f"10{superscript(int(power))}" if factor == "1" else f"{factor}×10{superscript(int(power))}"


def shorten(name: str, length: int) -> str:
    """The name, its middle left out where it is longer: the ends tell tasks apart."""
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[-tail:]}"


def _even_steps(low, high):
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(s * size for s in (1, 2, 5, 10) if s * size >= rough)
    return (step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1))


def _path(xs, ys):
    return "M" + "L".join(f"{_value(float(x))} {_value(float(y))}" for x, y in zip(xs, ys, strict=True))


def _value(value):
    """Pixels to a tenth; anything else as escaped text."""
    if isinstance(value, float):
        return f"{round(value, 1) + 0.0:g}"
    return escape(value)
