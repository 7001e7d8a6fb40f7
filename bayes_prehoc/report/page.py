"""A plan as a page that a person reads, or as JSON that a machine reads. Rendering only: every figure is the plan's.

The page is one file. Style, script and charts are inline, and a content security policy forbids the browser to load
anything else or to run any script but ours, so that it works offline and a task's name can do no harm.
"""

import base64
import dataclasses
import hashlib
import json
from collections import defaultdict

from markupsafe import Markup

from bayes_prehoc.report import rendering, text
from bayes_prehoc.report.charts import decay_chart, depth_dots, depth_strip, frontier_chart, phase_chart
from bayes_prehoc.report.charts.decay import curve_without_noise
from bayes_prehoc.report.charts.depths import DOTS, depth_axis
from bayes_prehoc.report.compare import plans_beside
from bayes_prehoc.report.proxies import render_comparison
from bayes_prehoc.risk import Comparison

__all__ = ["render_page", "write_report"]

REGIMES = ("static-sufficient", "dynamic-critical", "noise-dominant")
MANY = 12
"""Above this many tasks, panels are smaller, rows flatter, and all but the first `MANY` panels are folded."""
LISTED = 6
"""As many depths of a task are listed one by one."""
ACTIONS = {
    "best_depth": "Best depth",
    "plug_in": "Plug-in c*",
    "no_probe": "No probe",
    "fixed_fraction": "10% of the run",
    "hundred_steps": "100 steps",
    "full_run": "Full run",
}
_FIGURES = {"c_star": "c*", "best_depth": "best depth", "c_cheap": "cheap depth", "L(c_T)": "risk at the end"}


@dataclasses.dataclass(frozen=True)
class _Group:
    """Tasks with the same answer, most probable first; `name` is a regime or why there is none."""

    name: str
    tasks: tuple


def write_report(plan, path, *, compare=()) -> None:
    """Write a plan, or a comparison of proxies, as a page or as JSON.

    Parameters
    ----------
    plan : Plan or risk.Comparison
        What `bp.plan` or `risk.compare_proxies` made.
    path : str or Path
        Ends in .html: one self-contained page that works offline. Ends in .json: its `to_dict()` as strict JSON.
        Its folder must exist; an existing file is replaced only when the new one is complete.
    compare : sequence of Posterior
        Posteriors of other proxies for the same tasks. The page shows them beside the plan's own: dashed in the decay
        charts, and in a table. They are read under the plan's tolerances and cheap depths. JSON leaves them out.

    Raises
    ------
    InputError
        If the ending is another one, the folder does not exist or cannot be written to, or a posterior in `compare`
        shares no task with the plan.
    """
    path, is_page = rendering.checked_path(path)
    if is_page and isinstance(plan, Comparison):
        content = render_comparison(plan)
    elif is_page:
        content = render_page(plan, compare=compare)
    else:
        content = json.dumps(plan.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    rendering.replace(path, content)


def render_page(plan, *, compare=()) -> str:
    """The page as text; parameters as in `write_report`."""
    converged = bool(plan.posterior.converged)
    beside = plans_beside(plan, compare) if converged else ()
    tasks = _reading_order(plan.tasks)
    script = rendering.resource("script.js")
    return rendering.rendered(
        "report.html.j2",
        {"runner_up": _runner_up, "reading": _reading},
        plan=plan,
        converged=converged,
        tasks=tasks,
        groups=_groups(tasks),
        many=len(tasks) > MANY,
        first=MANY,
        metrics=sorted({t.metric for t in tasks}),
        depth_units=sorted({t.depth_unit for t in tasks}),
        cost_units=sorted({t.cost.counted_in for t in tasks}),
        # Money has no plural.
        costs_counted={
            t.cost.counted_in: t.cost.counted_in if t.cost.currency else f"{t.cost.counted_in}s" for t in tasks
        },
        tolerances=sorted({t.tolerance for t in tasks if t.tolerance is not None}),
        spread=any(t.reading != "verdict" for t in tasks),
        any_noise=any(curve_without_noise(t) is not None for t in tasks),
        checks=[{"check": name, **row} for name, row in plan.posterior.checks().to_dict("index").items()],
        notes=_notes(tasks),
        left_out=_left_out(plan, tasks),
        beside=beside,
        marks=_marks,
        shared_marks=_shared_marks(tasks),
        dots=DOTS,
        regimes=REGIMES,
        actions={key: name for key, name in ACTIONS.items() if any(key in (t.actions or ()) for t in tasks)},
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **(_charts(tasks, beside) if converged else {}),
    )


def _charts(tasks, beside):
    """Every chart of the page, by the place of its task."""
    many = len(tasks) > MANY
    placed = [t for t in tasks if t.regimes is not None]
    stopping = [t for t in tasks if t.c_star is not None]
    low = min([0.5, *(t.c_min / t.horizon for t in stopping)])
    row = depth_strip if many else depth_dots
    return {
        "decays": {
            t.task: decay_chart(
                t, f"decay-{i}", [b.tasks[t.task] for b in beside if t.task in b.tasks], wide=len(tasks) <= 2
            )
            for i, t in enumerate(tasks)
        },
        "phase": phase_chart(placed, "phase-chart", label_all=not many) if placed else None,
        "depths": {t.task: row(t, low, f"depth-{i}") for i, t in enumerate(stopping)},
        "depths_axis": depth_axis(low, "depth-axis") if stopping else None,
        "frontiers": {
            t.task: frontier_chart(t, f"frontier-{i}", wide=len(tasks) <= 2)
            for i, t in enumerate(tasks)
            if t.frontier is not None and t.best_depth is not None and t.frontier.cost[0] > 0
        },
    }


def _reading_order(tasks):
    """By regime, the most probable first; then what has no regime."""

    def place(task):
        if task.regime is None:
            return len(REGIMES) + (not task.answered), 0.0
        return REGIMES.index(task.regime), -task.regimes[task.regime]

    return tuple(sorted(tasks, key=place))


def _groups(tasks):
    groups = [_Group(regime, tuple(t for t in tasks if t.regime == regime)) for regime in REGIMES]
    groups.append(_Group("no tolerance", tuple(t for t in tasks if t.answered and t.regime is None)))
    withheld = [t for t in tasks if not t.answered]
    groups += [
        _Group(status, tuple(t for t in withheld if t.status == status))
        for status in ("not_identified", "not_converged")
    ]
    return [group for group in groups if group.tasks]


def _marks(task):
    """What the reader of a task's figures must know, in a few words each."""
    marks = ["spread reading"] if task.reading != "verdict" else []
    marks += [f"extrapolated: {_FIGURES.get(name, name)}" for name in task.extrapolated]
    known = {
        "horizon assumed": task.horizon_assumed,
        "last value stands in": task.outcome_stands_in,
        "not identified": task.status == "not_identified",
    }
    return marks + [mark for mark, there in known.items() if there]


def _shared_marks(tasks):
    """Marks of every task, said once above the table. A withheld figure is not extrapolated: it does not count."""
    answered = [t for t in tasks if t.answered]
    if len(answered) < 2:
        return []
    return [mark for mark in _marks(answered[0]) if all(mark in _marks(t) for t in answered)]


def _notes(tasks):
    """What a reader must know, each note once with the tasks it is about."""
    about = defaultdict(list)
    for task in tasks:
        for flag in task.flags:
            about[flag].append(task.task)
    return sorted(about.items(), key=lambda item: -len(item[1]))


def _left_out(plan, tasks):
    """Depths that were not used, by reason; for each task as many as one reads, then their range."""
    about = defaultdict(list)
    for task in tasks:
        by_reason = defaultdict(list)
        for left in plan.posterior.estimates[task.task].left_out:
            by_reason[left.reason].append(left.depth)
        for reason, depths in by_reason.items():
            shown = [text.stated(depth) for depth in sorted(depths)]
            if len(shown) > LISTED:
                shown = [f"{len(shown)} depths from {shown[0]} to {shown[-1]}"]
            about[reason].append(f"{task.task} at {', '.join(shown)} {text.depth_unit(task.depth_unit)}")
    return sorted(about.items(), key=lambda item: -len(item[1]))


def _runner_up(regimes):
    """The second most probable regime."""
    return sorted(regimes, key=regimes.get)[-2]


def _reading(value):
    """The value of a check: a number, or whatever else the check reports."""
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return "none"
    return text.stated(float(f"{float(value):.4g}"))
