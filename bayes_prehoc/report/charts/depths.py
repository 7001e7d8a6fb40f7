"""Posterior of c*: quantile dots over the depth as a share of the horizon, with the mass that is clipped at either end.

Each dot is the same share of the posterior, so that what is clipped (a stack at an end) and what is not compare by
counting.
"""

import numpy as np
from markupsafe import Markup

from bayes_prehoc.report.charts import svg
from bayes_prehoc.report.text import depth_unit, interval, number, probability, regime_key

__all__ = ["DOTS", "depth_axis", "depth_dots", "depth_strip"]

DOTS = 40
"""Quantile dots per task: each is 2.5% of the posterior."""
_WIDTH, _STEP, _RADIUS = 620.0, 6.4, 2.7
_GUTTER, _ABREAST = 44.0, 5
"""Room for the stacks at either end, and how many dots stand abreast there."""
_TALLEST = 11
"""Dots in the highest stack; higher ones are pressed together."""


def depth_axis(low: float, name: str) -> Markup:
    """The axis below the rows: depth as a share of the horizon, from `low` to 1."""
    scale = _scale(low)
    parts = [svg.line(scale.start, 1.0, scale.end, 1.0, "axis")]
    for value in scale.ticks(8):
        x = scale(value)
        parts += [svg.line(x, 1.0, x, 5.0, "axis"), svg.text(x, 17.0, f"{100 * value:.3g}%", "tick", "middle")]
    parts.append(svg.text((scale.start + scale.end) / 2, 33.0, "depth, share of the full run", "label", "middle"))
    description = "Axis: depth as a share of the full run, logarithmic."
    return svg.drawing(name, _WIDTH, 38.0, "Axis of the c* posteriors", description, parts, "depths")


def depth_dots(task, low: float, name: str) -> Markup:
    """One row of quantile dots.

    Parameters
    ----------
    task : TaskPlan
        With c_star and a cloud.
    low : float
        Left end of the axis shared by all rows, as a share of the horizon.
    name : str
        Unique on the page.
    """
    scale, key = _scale(low), regime_key(task.regime)
    at_min, at_max = round(DOTS * task.c_star_at_min), round(DOTS * task.c_star_at_max)
    columns = _columns(_between(task, at_min, at_max) / task.horizon, scale)
    ends = [-(-n // _ABREAST) for n in (at_min, at_max)]
    tallest = max([len(c) for c in columns.values()] + ends + [3])
    rise = _STEP if tallest <= _TALLEST else _STEP * _TALLEST / tallest
    floor = 20.0 + rise * tallest
    dots = [(x, floor - _STEP / 2 - rise * i) for x, members in columns.items() for i in range(len(members))]
    left, right = _limits(task, scale)
    for n, edge, side in ((at_min, left, -1), (at_max, right, 1)):
        dots += [
            (edge + side * (10 + _STEP * (i % _ABREAST)), floor - _STEP / 2 - rise * (i // _ABREAST)) for i in range(n)
        ]
    marks = [svg.element("circle", cx=x, cy=y, r=_RADIUS) for x, y in dots]
    parts = [
        *_track(task, scale, floor),
        svg.element("g", *marks, class_=f"dots {key}"),
        *_ends(task, scale, floor - rise * max(ends) - 6, ends, floor, rise),
    ]
    return _row(task, name, floor + 6.0, parts)


def depth_strip(task, low: float, name: str) -> Markup:
    """One flat row for pages of many tasks: 90% interval, median and a tick per quantile."""
    scale, key, y = _scale(low), regime_key(task.regime), 10.0
    share = task.horizon
    quantiles = np.quantile(task.cloud["c_star"], (np.arange(DOTS) + 0.5) / DOTS) / share
    star = task.c_star
    parts = [
        *_track(task, scale, y),
        svg.element("path", d="".join(f"M{x:.1f} 4v12" for x in scale(quantiles)), class_=f"rug {key}"),
        svg.line(scale(star.lower / share), y, scale(star.upper / share), y, f"interval {key}"),
        svg.element("circle", cx=scale(star.median / share), cy=y, r=4.2, class_=f"marker {key}"),
    ]
    for mass, x, anchor in ((task.c_star_at_min, 2.0, None), (task.c_star_at_max, _WIDTH - 2, "end")):
        if mass:
            parts.append(svg.text(x, y + 4, probability(mass), "note", anchor))
    return _row(task, name, 20.0, parts)


def _row(task, name, height, parts):
    told = (
        f"c* {interval(task.c_star)} {depth_unit(task.depth_unit)}; probability {probability(task.c_star_at_min)} of "
        f"no deeper than {number(task.c_min)}, {probability(task.c_star_at_max)} of the full run."
    )
    return svg.drawing(name, _WIDTH, height, f"{task.task}: posterior of c*", told, parts, "depths")


def _scale(low):
    return svg.LogScale(low, 1.0, _GUTTER, _WIDTH - _GUTTER)


def _limits(task, scale):
    return scale(task.c_min / task.horizon), scale.end


def _track(task, scale, y):
    left, right = _limits(task, scale)
    yield svg.line(left, y, right, y, "axis")
    observed = scale(min(task.c_max / task.horizon, 1.0))
    if observed < right - 1:
        yield svg.line(observed, y, right, y, "beyond")
    for x in (left, right):
        yield svg.line(x, y - 5, x, y + 3, "axis")


def _ends(task, scale, y, ends, floor, rise):
    left, right = _limits(task, scale)
    for mass, edge, side, height in (
        (task.c_star_at_min, left, -1, ends[0]),
        (task.c_star_at_max, right, 1, ends[1]),
    ):
        if mass:
            yield svg.text(
                edge + side * (8 + _STEP * 2), floor - rise * height - 5, probability(mass), "note", "middle"
            )


def _between(task, at_min, at_max):
    """Quantiles of what is not clipped: as many as the stacks at the ends leave over."""
    draws = np.sort(np.asarray(task.cloud["c_star"], float))
    inside = draws[(draws > task.c_min) & (draws < task.horizon)]
    left = DOTS - at_min - at_max
    if left <= 0 or not len(inside):
        return np.empty(0)
    return np.quantile(inside, (np.arange(left) + 0.5) / left)


def _columns(shares, scale):
    """Dots by column: neighbours within one step of a column's first dot stand on it."""
    columns = {}
    start = None
    for x in scale(shares).tolist() if len(shares) else ():
        if start is None or x - start >= _STEP:
            start = x
            columns[start] = []
        columns[start].append(x)
    return columns
