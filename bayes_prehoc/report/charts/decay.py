"""Risk against depth, both logarithmic: what was measured, the posterior of U(c), and where the decisions lie."""

import dataclasses

import numpy as np
from markupsafe import Markup

from bayes_prehoc.report.charts import svg
from bayes_prehoc.report.text import depth_unit, interval, number, quantity, regime_key, squared, stated

__all__ = ["curve_without_noise", "decay_chart"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 10.0, 34.0, 40.0
_DECADES_BELOW = 1.5
"""How far the axis follows the band below the lowest point or median before it is cut."""
_DENSE = 20
"""Above this many estimates their marks are smaller."""
_TOLERANCE_REACH = 30.0
"""The axis is stretched to the tolerance line while that is within this factor of the data."""


@dataclasses.dataclass(frozen=True)
class _Frame:
    x: svg.LogScale
    y: svg.LogScale
    width: float
    height: float

    @property
    def top(self):
        return self.y.end

    @property
    def bottom(self):
        return self.y.start


def decay_chart(task, name: str, beside=(), *, wide: bool = False) -> Markup:
    """The decay chart of one task.

    Parameters
    ----------
    task : TaskPlan
    name : str
        Unique on the page; ids derive from it.
    beside : sequence of TaskPlan
        The same task under other proxies, drawn dashed.
    wide : bool
        For pages of one or two tasks.
    """
    width, height = (640.0, 380.0) if wide else (380.0, 264.0)
    frame = _frame(task, beside, width, height)
    key = regime_key(task.regime)
    parts = [
        *_outside(task, frame),
        *svg.log_axes(
            frame.x,
            frame.y,
            height,
            depth_unit(task.depth_unit),
            f"{quantity(task)} ({svg.shorten(squared(task.metric), 24)})",
        ),
        *_lines(task, frame),
        *(part for i, other in enumerate(beside) for part in _other(other, frame, i)),
        *_bands(task, frame, key),
        *_points(task.points, frame, f"points {key}", task),
        *_tolerance_label(task, frame),
        *_decision_labels(task, frame),
    ]
    title = f"{task.task}: {quantity(task)} against depth"
    return svg.drawing(name, width, height, title, _description(task), parts, "decay")


def curve_without_noise(task):
    """The curve without the outcome set's noise; None where it is unknown or the same."""
    seen, without = task.curve, task.curve_without_noise
    return None if without is None or np.array_equal(seen.median, without.median) else without


def _frame(task, beside, width, height):
    shown = [t for t in (task, *beside) if t.curve is not None]
    depths = [p["depth"] for t in (task, *beside) for p in t.points]
    depths += [task.c_min, task.c_max, task.c_cheap]
    depths += [float(d) for t in shown for d in (t.curve.depths[0], t.curve.depths[-1])]
    # The curve may start far below what was observed; half a decade of extrapolation is enough to see.
    low, high = max(min(depths), min(task.c_min, task.c_cheap) / 3), max(*depths, task.horizon)
    risks = [p[k] for t in (task, *beside) for p in t.points for k in ("risk", "lower", "upper")]
    medians = [p["risk"] for t in (task, *beside) for p in t.points]
    bands = []
    for t in shown:
        for band in filter(None, (t.curve, curve_without_noise(t))):
            inside = (np.asarray(band.depths) >= low) & (np.asarray(band.depths) <= high)
            medians += list(np.asarray(band.median)[inside])
            bands += [*np.asarray(band.lower)[inside], *np.asarray(band.upper)[inside]]
    positive = [v for v in medians if v > 0] or [1.0]
    floor, ceiling = min(positive) / 10**_DECADES_BELOW, max(positive) * 10**_DECADES_BELOW
    inside = [min(max(v, floor), ceiling) for v in (*risks, *bands, *positive)]
    bottom, top = min(inside), max(inside)
    if task.tolerance is not None and bottom / _TOLERANCE_REACH <= task.tolerance**2 <= top * _TOLERANCE_REACH:
        bottom, top = min(bottom, task.tolerance**2), max(top, task.tolerance**2)
    room = max((top / bottom) ** 0.06, 1.1)
    return _Frame(
        svg.LogScale(low / 1.06, high * 1.06, _LEFT, width - _RIGHT),
        svg.LogScale(bottom / room, top * room, height - _BOTTOM, _TOP),
        width,
        height,
    )


def _outside(task, frame):
    """Shade what lies outside the observed depths: there the curve is extrapolated."""
    height = frame.bottom - frame.top
    for low, high in ((frame.x.low, task.c_min), (task.c_max, frame.x.high)):
        # The margin of the axis is no extrapolation.
        if high / low > 1.07:
            start, end = frame.x(low), frame.x(high)
            yield svg.element("rect", x=start, y=frame.top, width=end - start, height=height, class_="outside")


def _lines(task, frame):
    """Below the data: the tolerance, c*, c_cheap and the best depth."""
    if task.c_star is not None:
        start, end = frame.x(task.c_star.lower), frame.x(task.c_star.upper)
        height = frame.bottom - frame.top
        yield svg.element("rect", x=start, y=frame.top, width=end - start, height=height, class_="star")
    if task.tolerance is not None and frame.y.covers(task.tolerance**2):
        y = frame.y(task.tolerance**2)
        yield svg.line(frame.x.start, y, frame.x.end, y, "tolerance")
    for _, depth, class_, y in _decisions(task, frame):
        x = frame.x(depth)
        yield svg.line(x, y + 2, x, frame.bottom, class_)


def _tolerance_label(task, frame):
    if task.tolerance is None:
        return
    level, left, right = task.tolerance**2, frame.x.start + 3, frame.x.end - 3
    label = f"tolerance² ({'RMSE' if task.reading == 'verdict' else 'SD'} {stated(task.tolerance)})"
    if level > frame.y.high:
        yield svg.text(right, frame.top + 12, f"{label} is above ↑", "note halo", "end")
    elif level < frame.y.low:
        yield svg.text(right, frame.bottom - 14, f"{label} is below ↓", "note halo", "end")
    else:
        y = frame.y(level)
        # At the end from which the curve is further away; under the line only where there is no room above.
        at_left = task.curve is not None and abs(frame.y(float(task.curve.median[0])) - y) > abs(
            frame.y(float(task.curve.median[-1])) - y
        )
        below = y - frame.top < 14
        yield svg.text(
            left if at_left else right, y + 12 if below else y - 4, label, "note halo", None if at_left else "end"
        )


def _decisions(task, frame):
    """c_cheap and the best depth, each with a row of its own above the plot so that labels cannot meet."""
    rows = [(f"c_cheap {stated(task.c_cheap)}", task.c_cheap, "cheap", frame.top - 6.0)]
    if task.best_depth is not None:
        rows.append((f"best depth {number(task.best_depth)}", task.best_depth, "best", frame.top - 20.0))
    return rows


def _decision_labels(task, frame):
    for told, depth, _, y in _decisions(task, frame):
        x = frame.x(depth)
        near_end = x > frame.x.end - 90
        yield svg.text(x - 3 if near_end else x + 3, y, told, "note", "end" if near_end else None)
    if task.c_star is not None:
        star, y = task.c_star, frame.bottom - 5.0
        start, end = frame.x(star.lower), frame.x(star.upper)
        yield svg.element(
            "g",
            svg.element("title", f"c*: {interval(star)} {depth_unit(task.depth_unit)} (median, 90% interval)"),
            svg.line(start, y, end, y, "star-bar"),
            svg.element("circle", cx=frame.x(star.median), cy=y, r=3.6, class_="star-dot"),
        )
        at_left = start - frame.x.start > 20
        yield svg.text(start - 6 if at_left else end + 6, y + 3.5, "c*", "note halo", "end" if at_left else None)


def _bands(task, frame, key):
    if task.curve is None:
        return
    yield from _band(task.curve, frame, f"band {key}", f"median {key}")
    without = curve_without_noise(task)
    if without is not None:
        xs, low, middle, high = _inside(without, frame)
        yield svg.polyline(xs, frame.y(low), f"edge {key}")
        yield svg.polyline(xs, frame.y(high), f"edge {key}")
        yield svg.polyline(xs, frame.y(middle), f"without {key}")


def _other(other, frame, rank):
    """Another proxy, dashed; a second one with another dash."""
    if other.curve is not None:
        yield from _band(other.curve, frame, "other-band", f"other-median dash{rank % 2}")
    yield from _points(other.points, frame, "other-points", other)


def _band(band, frame, area_class, line_class):
    xs, low, middle, high = _inside(band, frame)
    yield svg.area(xs, frame.y(low), frame.y(high), area_class)
    yield svg.polyline(xs, frame.y(middle), line_class)


def _inside(band, frame):
    depths = np.asarray(band.depths, float)
    keep = (depths >= frame.x.low) & (depths <= frame.x.high)
    return frame.x(depths[keep]), *(np.asarray(values, float)[keep] for values in (band.lower, band.median, band.upper))


def _points(points, frame, class_, task):
    marks, radius = [], 3.2 if len(points) <= _DENSE else 2.0
    for point in points:
        x, y = frame.x(point["depth"]), frame.y(point["risk"])
        hint = (
            f"{task.proxy}, depth {number(point['depth'])} {depth_unit(task.depth_unit)}: {number(point['risk'])} "
            f"[{number(point['lower'])}, {number(point['upper'])}] {squared(task.metric)}"
        )
        mark = svg.element("circle", svg.element("title", hint), cx=x, cy=y, r=radius)
        marks += [svg.line(x, frame.y(point["lower"]), x, frame.y(point["upper"]), "whisker"), mark]
    yield svg.element("g", *marks, class_=class_)


def _description(task):
    told = [f"{len(task.points)} estimates from depth {number(task.c_min)} to {number(task.c_max)}"]
    if task.points:
        first, last = task.points[0], task.points[-1]
        told.append(f"{quantity(task)} {number(first['risk'])} at the first and {number(last['risk'])} at the last")
    if task.c_star is not None:
        told.append(f"c* {interval(task.c_star)} {depth_unit(task.depth_unit)}")
    if task.curve is None:
        told.append("the curve is withheld")
    return "; ".join(told) + "."
