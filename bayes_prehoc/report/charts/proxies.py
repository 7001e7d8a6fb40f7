"""What every proxy of a task estimates, against depth, both logarithmic: marks of their own, with 90% intervals."""

import pandas as pd
from markupsafe import Markup

from bayes_prehoc.report.charts import svg
from bayes_prehoc.report.text import number, squared

__all__ = ["MARKS", "proxies_chart", "shape"]

_WIDTH, _HEIGHT = 480.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 74.0, 10.0, 12.0, 40.0
_APART = 5.0
"""Pixels between the marks of neighbouring proxies at one depth, so that their intervals can be told apart."""
_BEYOND = 10.0
"""Intervals reach no further than this many times beyond the estimates."""
MARKS = {"conditional": "static", "branching": "noise", "run_to_run": "dynamic"}
"""The colour of each, by its name in the style sheet."""


def proxies_chart(frame, outside, name: str, unit: str) -> Markup:
    """The chart of one task.

    Parameters
    ----------
    frame, outside : DataFrame
        Rows of `Comparison.frame` and of `Comparison.outside` of the task; the latter are drawn faintly.
    name : str
        Unique on the page.
    unit : str
        Of depth, in the plural.
    """
    rows = pd.concat([frame.assign(used=True), outside.assign(used=False)])
    x, y = _axes_of(rows)
    metric = frame["metric"].iloc[0]
    parts = [*svg.log_axes(x, y, _HEIGHT, unit, f"variance ({svg.shorten(squared(metric), 24)})")]
    shown = [proxy for proxy in MARKS if (frame["proxy"] == proxy).any()]
    for place, proxy in enumerate(shown):
        shift = _APART * (place - (len(shown) - 1) / 2)
        for used, faint in ((False, " faint"), (True, "")):
            own = rows[(rows["proxy"] == proxy) & (rows["used"] == used)].to_dict("records")
            marks = [_mark(row, proxy, unit, metric, x, y, shift) for row in own]
            parts.append(svg.element("g", *marks, class_=f"points {MARKS[proxy]}{faint}") if marks else None)
    title = f"{frame['task'].iloc[0]}: proxies against depth"
    counts = ", ".join(f"{(frame['proxy'] == proxy).sum()} by {proxy}" for proxy in shown)
    described = f"Estimates with 90% intervals: {counts}; {len(outside)} outside the law of decay."
    return svg.drawing(name, _WIDTH, _HEIGHT, title, described, filter(None, parts), "decay")


def _axes_of(frame):
    low, high = frame["risk"].min() / _BEYOND, frame["risk"].max() * _BEYOND
    bottom, top = max(frame["lower"].min(), low), min(frame["upper"].max(), high)
    room = max((top / bottom) ** 0.05, 1.1)
    first, last = frame["depth"].min(), frame["depth"].max()
    return (
        svg.LogScale(first / 1.15, last * 1.15, _LEFT, _WIDTH - _RIGHT),
        svg.LogScale(bottom / room, top * room, _HEIGHT - _BOTTOM, _TOP),
    )


def _mark(row, proxy, unit, metric, x, y, shift):
    across, level = x(row["depth"]) + shift, y(row["risk"])
    hint = (
        f"{proxy}, depth {number(row['depth'])} {unit}: {number(row['risk'])} "
        f"[{number(row['lower'])}, {number(row['upper'])}] {squared(metric)}"
    )
    return Markup("").join(
        [
            svg.line(across, y(row["lower"]), across, y(row["upper"]), "whisker"),
            svg.element("path", svg.element("title", hint), d=shape(proxy, across, level), class_="mark"),
        ]
    )


def shape(proxy: str, x: float, y: float) -> str:
    """The path of a proxy's mark around a point: a circle, a square or a triangle."""
    if proxy == "conditional":
        return f"M{x - 3.4:.2f} {y:.2f}a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0 -6.8 0Z"
    if proxy == "branching":
        return f"M{x - 3:.2f} {y - 3:.2f}h6v6h-6Z"
    return f"M{x:.2f} {y - 3.8:.2f}l3.8 6.6h-7.6Z"
