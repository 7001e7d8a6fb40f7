"""A comparison of proxies as a page: a chart, the words that it comes to and every figure of each task."""

import math
from collections import defaultdict
from typing import NamedTuple

from bayes_prehoc.report import rendering, text
from bayes_prehoc.report.charts import proxies_chart
from bayes_prehoc.report.charts.proxies import MARKS, shape

__all__ = ["MEANINGS", "render_comparison", "task_words"]

MEANINGS = {
    "conditional": "how well the outcome can be predicted from the prefix, by the best linear prediction",
    "branching": "how much the outcome varies among continuations of one run",
    "run_to_run": "how far runs differ at a depth in what trajectories show, not how unpredictable their end is",
}
TOLD = 0.05
"""p-value up to which watching is said to tell something."""


def _agreement(row) -> str:
    """What a row of `Comparison.agreement` comes to."""
    lowest, highest = text.number(row["smallest"], 2), text.number(row["largest"], 2)
    reach = f"{lowest} times it" if lowest == highest else f"{lowest} to {highest} times it"
    sides = [f"{word} at {row[side]}" for side, word in (("lower", "below"), ("higher", "above")) if row[side]]
    found = f"{' and '.join(sides)} of {row['depths']} depths" if sides else f"not told apart at {row['depths']} depths"
    return f"{row['proxy']} against {row['against']}: {found} ({reach})"


def _information(frame) -> str:
    """Whether watching tells anything, from the rows of `InformationEstimates.frame` of one task."""
    best = frame.loc[frame["nats"].idxmax()]
    share = math.exp(-2.0 * best["nats"])
    at = f"depth {text.stated(best['depth'])}"
    p_any = best["p_any"]
    if p_any > TOLD:
        return f"watching tells nothing that {best['runs']} runs could show (p = {p_any:.2g}, permutations)"
    return (
        f"watching tells of the outcome (p = {p_any:.2g}, permutations): {best['nats']:.2f} nats at {at}, standard "
        f"error {best['se']:.2f}, which leave {share:.0%} of its variance open"
    )


def _noise(task) -> str:
    """What is known of the outcome set's noise, which a task's estimates include."""
    noise, se = text.number(task.noise), text.number(task.noise_se, 2)
    return f"{noise} of the outcome's variance (standard error {se}) is the noise of the outcome set"


def task_words(comparison, task: str) -> list[str]:
    """What the figures of a task come to, in sentences."""
    agreement = comparison.agreement
    words = [_agreement(row) for row in agreement[agreement["task"] == task].to_dict("records")]
    if comparison.information is not None:
        told = comparison.information.frame
        told = told[told["task"] == task]
        words += [_information(told)] if len(told) else []
    return words + [_noise(own) for own in _estimates_of(comparison, task) if own.has_noise]


def render_comparison(comparison) -> str:
    """The page as text, of a `risk.Comparison`."""
    return rendering.rendered(
        "proxies.html.j2",
        tasks=[_shown(comparison, task, f"proxies-{i}") for i, task in enumerate(comparison.tasks)],
        meanings=MEANINGS,
        shown=tuple(comparison.estimates),
        marks=MARKS,
        shapes={proxy: shape(proxy, 13.0, 6.0) for proxy in MARKS},
        notes=_notes(comparison),
        refused=_refused(comparison),
        script_hash="",
    )


def _estimates_of(comparison, task: str) -> list:
    """The `TaskEstimates` of a task, by each proxy that has any."""
    return [own for found in comparison.estimates.values() for own in found if own.task == task]


def _shown(comparison, task, name):
    """What the template shows of a task."""
    known = _estimates_of(comparison, task)
    unit = text.depth_unit(known[0].depth_unit)
    frame, outside = (whole[whole["task"] == task] for whole in (comparison.frame, comparison.outside))
    told = {} if comparison.information is None else _by_depth(comparison.information.frame, task)
    by_proxy = {own.proxy: _by_depth(comparison.estimates[own.proxy].frame, task) for own in known}
    rows = []
    for depth in sorted(set(frame["depth"])):
        at = told.get(depth)
        rows.append(
            {"depth": depth}
            | {proxy: _interval(found.get(depth)) for proxy, found in by_proxy.items()}
            | {"nats": f"{at['nats']:.2f}, {at['se']:.2f}" if at else ""}
            | {"p": f"{at['p_value']:.2g}" if at else ""}
        )
    return {
        "name": task,
        "runs": ", ".join(_runs(known)),
        "unit": unit,
        "metric": known[0].metric,
        "proxies": list(by_proxy),
        "informed": bool(told),
        "rows": rows,
        "words": task_words(comparison, task),
        "chart": proxies_chart(frame, outside, name, unit),
    }


def _runs(known):
    """How many runs there are, and how many of them are forked."""
    whole = [own.n_runs for own in known if own.proxy != "branching"]
    forked = [own.n_runs for own in known if own.proxy == "branching"]
    return [f"{number} runs" for number in sorted(set(whole))] + [f"{number} forked" for number in forked]


def _by_depth(frame, task):
    return frame[frame["task"] == task].set_index("depth").to_dict("index")


class _Interval(NamedTuple):
    """An estimate with its interval, as `text.interval` reads it."""

    median: float
    lower: float
    upper: float


def _interval(row):
    return None if row is None else text.interval(_Interval(row["risk"], row["lower"], row["upper"]))


def _notes(comparison):
    """What a reader must know, each note once with the tasks and proxies that it is about."""
    about = defaultdict(list)
    for proxy, found in comparison.estimates.items():
        for task in found:
            for flag in task.flags:
                about[flag].append(f"{task.task} ({proxy})")
            for left in task.left_out:
                about[left.reason].append(f"{task.task} at {text.stated(left.depth)} ({proxy})")
    return [(note, ", ".join(where)) for note, where in sorted(about.items(), key=lambda item: -len(item[1]))]


def _refused(comparison):
    """What has no estimates, with the reason: a proxy of all tasks, or of one."""
    aside = [(f"{s.task}, {proxy}", s.reason) for proxy, found in comparison.estimates.items() for s in found.set_aside]
    if comparison.information is not None:
        aside += [(f"{s.task}, information", s.reason) for s in comparison.information.set_aside]
    return [*comparison.refused.items(), *dict.fromkeys(aside)]
