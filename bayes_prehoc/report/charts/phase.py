"""The phase diagram: what is open at the cheap depth against what stays open at the end, in units of the tolerance."""

import dataclasses

import numpy as np
from markupsafe import Markup

from bayes_prehoc.report.charts import svg
from bayes_prehoc.report.text import interval, probability, regime_key, root

__all__ = ["phase_chart"]

_WIDTH, _HEIGHT = 720.0, 600.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 66.0, 16.0, 16.0, 56.0
_DRAWS = 4800
"""Points in all, so that a page of many tasks stays small."""
_LETTER, _LINE = 7.6, 15.0
"""Width of a letter (of a wide font) and height of a line of a label, in pixels."""
_FLOOR = 1e-3
"""Where the axes end at the latest; an RMSE of zero has no logarithm."""
_ROOM = 2.0
"""The axes reach at least this factor beyond the boundaries at 1."""


@dataclasses.dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other):
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def phase_chart(tasks, name: str, *, label_all: bool = True) -> Markup:
    """Posterior clouds of all tasks that have a regime.

    Parameters
    ----------
    tasks : sequence of TaskPlan
        Each with regimes and a cloud in units of its tolerance.
    name : str
        Unique on the page; ids derive from it.
    label_all : bool
        Every median gets a label, with a leader where it is crowded; else only where there is room beside it.
    """
    x, y = _scales(tasks)
    axes = (root(tasks[0]), "at the end of the run" if tasks[0].reading == "verdict" else "in the limit")
    parts = [*_regions(x, y), *_axes(x, y, *axes)]
    share = max(25, _DRAWS // len(tasks))
    parts += [_cloud(task, x, y, share) for task in tasks]
    medians = [(x(np.median(t.cloud["rmse_cheap"])), y(np.median(t.cloud["rmse_final"]))) for t in tasks]
    parts += [_marker(t, *at) for t, at in zip(tasks, medians, strict=True)]
    parts += _labels(tasks, medians, label_all)
    title = "Phase diagram"
    description = (
        "Horizontal: {0} at the cheap depth over the tolerance. Vertical: {0} {1} over the tolerance. ".format(*axes)
        + " ".join(f"{t.task}: {t.regime} {probability(t.regimes[t.regime])}." for t in tasks)
    )
    return svg.drawing(name, _WIDTH, _HEIGHT, title, description, parts, "phase")


def _scales(tasks):
    def reach(field):
        # Nearly all of each cloud; what lies outside is drawn at the edge.
        ends = [np.quantile(t.cloud[field], [0.03, 0.97]) for t in tasks]
        low, high = (float(f(e[i] for e in ends)) for i, f in enumerate((min, max)))
        return max(min(low / 1.15, 1 / _ROOM), _FLOOR), max(high * 1.15, _ROOM)

    return (
        svg.LogScale(*reach("rmse_cheap"), _LEFT, _WIDTH - _RIGHT),
        svg.LogScale(*reach("rmse_final"), _HEIGHT - _BOTTOM, _TOP),
    )


def _regions(x, y):
    """Three regions, and the part no task can reach: risk does not grow with depth."""
    one_x, one_y = x(1.0), y(1.0)
    left, right, top, bottom = x.start, x.end, y.end, y.start
    yield _rectangle(left, one_y, one_x, bottom, "region static")
    yield _rectangle(one_x, one_y, right, bottom, "region dynamic")
    yield _rectangle(left, top, right, one_y, "region noise")
    # Where risk at the end equals risk at the cheap depth nothing is learnt in between.
    low, high = max(x.low, y.low), min(x.high, y.high)
    corner = [(x(low), y(low)), (x(high), y(high))]
    closing = [(left, y(low)), *corner] if x.low < y.low else [*corner]
    if y.high > x.high:
        closing += [(right, top)]
    closing += [(left, top)]
    if x.low >= y.low:
        closing += [(left, y(x.low))]
    yield svg.element("polygon", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in closing), class_="unreachable")
    yield svg.line(*corner[0], *corner[1], "diagonal")
    yield svg.line(one_x, one_y, one_x, bottom, "boundary")
    yield svg.line(one_x, one_y, right, one_y, "boundary")
    yield svg.text(left + 10, bottom - 10, "static-sufficient", "region-name static")
    yield svg.text(right - 10, bottom - 10, "dynamic-critical", "region-name dynamic", "end")
    yield svg.text(right - 10, top + 20, "noise-dominant", "region-name noise", "end")
    yield svg.text(left + 10, top + 20, "out of reach: it does not", "note")
    yield svg.text(left + 10, top + 34, "grow with depth", "note")


def _axes(x, y, kind, end):
    for value in x.ticks(7):
        at = x(value)
        yield svg.line(at, y.start, at, y.start + 4, "axis")
        yield svg.text(at, y.start + 18, f"{value:.3g}", "tick", "middle")
    for value in y.ticks(7):
        at = y(value)
        yield svg.line(x.start - 4, at, x.start, at, "axis")
        yield svg.text(x.start - 8, at + 4, f"{value:.3g}", "tick", "end")
    yield _rectangle(x.start, y.end, x.end, y.start, "frame")
    middle = (y.start + y.end) / 2
    yield svg.text((x.start + x.end) / 2, _HEIGHT - 10, f"{kind} at the cheap depth / tolerance", "label", "middle")
    yield svg.text(
        16.0,
        middle,
        f"{kind} {end} / tolerance",
        "label",
        "middle",
        transform=f"rotate(-90 16 {middle:g})",
    )


def _cloud(task, x, y, most):
    cheap, final = np.asarray(task.cloud["rmse_cheap"], float), np.asarray(task.cloud["rmse_final"], float)
    step = -(-len(cheap) // most)
    places = zip(x(cheap[::step]).tolist(), y(final[::step]).tolist(), strict=True)
    dots = (svg.element("circle", cx=a, cy=b, r=1.7) for a, b in places)
    probabilities = ", ".join(f"{regime} {probability(p)}" for regime, p in task.regimes.items())
    hint = (
        f"{task.task}: {probabilities}; {root(task)} at the cheap depth "
        f"{interval(task.rmse_cheap)} {task.metric}, at the end {interval(task.rmse_final)} {task.metric}"
    )
    return svg.element("g", svg.element("title", hint), *dots, class_=f"cloud {regime_key(task.regime)}")


def _marker(task, x, y):
    """A circle, diamond or square at the median, so that regimes differ by more than colour."""
    key, r = regime_key(task.regime), 5.5
    attributes = {"class_": f"marker {key}"}
    if key == "static":
        return svg.element("circle", cx=x, cy=y, r=r, **attributes)
    if key == "noise":
        return svg.element("rect", x=x - r + 0.5, y=y - r + 0.5, width=2 * r - 1, height=2 * r - 1, **attributes)
    corners = ((x, y - r - 1.5), (x + r + 1.5, y), (x, y + r + 1.5), (x - r - 1.5, y))
    return svg.element("polygon", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in corners), **attributes)


def _labels(tasks, medians, label_all):
    """Greedy placement: nearest free place around each median, most probable verdicts first."""
    plot = _Box(_LEFT + 2, _TOP + 2, _WIDTH - _RIGHT - 2, _HEIGHT - _BOTTOM - 2)
    # Region names keep their places.
    taken = [_Box(a - 7, b - 7, a + 7, b + 7) for a, b in medians]
    taken += [_Box(plot.left, plot.bottom - 24, plot.left + 130, plot.bottom)]
    taken += [_Box(plot.right - 130, plot.bottom - 24, plot.right, plot.bottom)]
    taken += [_Box(plot.right - 130, plot.top, plot.right, plot.top + 24)]
    order = sorted(range(len(tasks)), key=lambda i: (-max(tasks[i].regimes.values()), i))
    for i in order:
        label = f"{svg.shorten(tasks[i].task, 26)} {probability(tasks[i].regimes[tasks[i].regime])}"
        found = _place(medians[i], len(label) * _LETTER, taken, plot, 11 if label_all else 1)
        if found is None:
            continue
        box, anchor, far = found
        taken.append(box)
        x, y = medians[i]
        if far:
            end = min(max(x, box.left), box.right)
            yield svg.line(x, y, end, box.top if box.top > y else box.bottom, "leader")
        # The end of the text that faces the mark is fixed: fonts differ in width.
        at = {"start": box.left + 2, "middle": (box.left + box.right) / 2, "end": box.right - 2}[anchor]
        yield svg.text(at, box.bottom - 4, label, "name halo", anchor)


def _place(median, width, taken, plot, rings):
    x, y = median
    for ring in range(rings):
        gap = 9 + 14 * ring
        for dx, dy in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1)):
            left = x + dx * gap - (width if dx < 0 else width / 2 if dx == 0 else 0)
            top = y + dy * gap - (_LINE if dy < 0 else _LINE / 2 if dy == 0 else 0)
            box = _Box(left, top, left + width, top + _LINE)
            inside = plot.left <= left and box.right <= plot.right and plot.top <= top and box.bottom <= plot.bottom
            if inside and not any(box.meets(other) for other in taken):
                return box, ("middle", "start", "end")[dx], ring > 0
    return None


def _rectangle(left, top, right, bottom, class_):
    return svg.element("rect", x=left, y=top, width=right - left, height=bottom - top, class_=class_)
