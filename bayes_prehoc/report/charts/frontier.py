"""The efficient frontier: risk against what it costs to know it, both logarithmic."""

import numpy as np
from markupsafe import Markup

from bayes_prehoc.report.charts import svg
from bayes_prehoc.report.text import number, quantity, regime_key, squared

__all__ = ["frontier_chart"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 12.0, 14.0, 40.0
_DECADES = 1.5
"""How far the axis follows the band below the lowest median."""


def frontier_chart(task, name: str, *, wide: bool = False) -> Markup:
    """The frontier of one task, with its best depth.

    Parameters
    ----------
    task : TaskPlan
        With a frontier whose costs are positive, and a best depth.
    name : str
        Unique on the page; ids derive from it.
    wide : bool
        For pages of one or two tasks.
    """
    width, height = (640.0, 300.0) if wide else (380.0, 220.0)
    found, key = task.frontier, regime_key(task.regime)
    floor = max(float(np.min(found.median)), np.finfo(float).tiny) / 10**_DECADES
    lower = np.maximum(found.lower, floor)
    low, high = float(lower.min()), float(found.upper.max())
    room = max((high / low) ** 0.06, 1.1)
    x = svg.LogScale(float(found.cost[0]) / 1.06, float(found.cost[-1]) * 1.06, _LEFT, width - _RIGHT)
    y = svg.LogScale(low / room, high * room, height - _BOTTOM, _TOP)
    cost = float(np.interp(task.best_depth, found.depths, found.cost))
    risk = float(np.interp(task.best_depth, found.depths, found.median))
    told = (
        f"best depth {number(task.best_depth)}: {quantity(task)} {number(risk)} {squared(task.metric)} (median) for "
        f"{number(cost)} {task.cost.counted_in}"
    )
    parts = [
        *svg.log_axes(
            x, y, height, task.cost.counted_in, f"{quantity(task)} ({svg.shorten(squared(task.metric), 20)})", "cost"
        ),
        svg.area(x(found.cost), y(lower), y(found.upper), f"band {key}"),
        svg.polyline(x(found.cost), y(found.median), f"median {key}"),
        svg.element("circle", svg.element("title", told), cx=x(cost), cy=y(risk), r=4.6, class_="star-dot"),
    ]
    title = f"{task.task}: {quantity(task)} against cost"
    first, last = found.median[0], found.median[-1]
    ends = (
        f"{quantity(task)} {number(float(first))} for {number(float(found.cost[0]))} and {number(float(last))} for "
        f"{number(float(found.cost[-1]))} {task.cost.counted_in} (medians); {told}."
    )
    return svg.drawing(name, width, height, title, ends, parts, "decay")
