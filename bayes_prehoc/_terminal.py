"""Fits and plans as text for a terminal of 100 to 120 columns: formatting only, no arithmetic on the answer."""

import math
import textwrap
from collections import defaultdict
from collections.abc import Iterable

__all__ = ["allocation_text", "comparison_text", "fit_text", "interval_text", "listing", "plan_text", "set_aside_lines"]

REGIMES = ("static-sufficient", "dynamic-critical", "noise-dominant")
WIDTH = 110
WIDEST = 120
LONGEST_NAMES = range(32, 11, -2)
LONGEST_METRIC = 9
SHOWN = 5

ACTIONS = {
    "best_depth": "best depth",
    "plug_in": "plug-in c*",
    "no_probe": "no probe",
    "fixed_fraction": "10% of run",
    "hundred_steps": "100 steps",
    "full_run": "full run",
}

LEGEND = {
    "S": "spread reading: how far runs still differ at a depth, not how unpredictable their end is",
    "X": "extrapolated: rests on depths outside those observed",
    "H": "horizon assumed: the deepest depth that any run reached",
    "n": "not identified: the data cannot tell alpha from L_int, so what needs them apart is withheld",
    "!": "not converged: the fit failed its gate, so the answer is withheld",
}


def listing(rows: list[dict], columns: Iterable[str]) -> str:
    """Left-aligned columns of text, with a header."""
    columns = list(columns)
    cells = [columns, *([str(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def fit_text(posterior) -> str:
    """The tasks with the figures of their curves."""
    from bayes_prehoc.planning import Interval

    summary, figures = posterior.summary().reset_index(), ("L_int", "alpha", "share")
    rows = []
    for cells in summary.to_dict("records"):
        row = {name: cells[name] for name in ("task", "status", "metric")}
        for name in figures:
            numbers = Interval(cells[name], cells[f"{name}_lower"], cells[f"{name}_upper"])
            row[name] = "-" if math.isnan(numbers.median) else interval_text(numbers)
        rows.append(row)
    reading = (
        f"Proxy: {posterior.proxy}. Medians [90% intervals]. Risk falls with depth at the rate alpha towards L_int, in "
        "the metric's unit squared; share is what L_int is of the risk at a fifth of a full run."
    )
    table = listing(rows, ("task", "status", "metric", *figures))
    unknown = any(row["status"] == "not_identified" for row in rows)
    meaning = [_paragraph("not_identified", "the data cannot tell alpha from L_int; observe more or deeper runs")]
    prior = _paragraph("Prior", posterior.prior)
    lines = [textwrap.fill(reading, WIDTH), prior, "", table, *(["", *meaning] if unknown else [])]
    return "\n".join([*lines, *set_aside_lines(posterior.estimates.set_aside)])


def comparison_text(comparison) -> str:
    """What every proxy says of each task, and what that comes to."""
    from bayes_prehoc.report.proxies import MEANINGS, task_words

    lines = [_paragraph(proxy, MEANINGS[proxy]) for proxy in comparison.estimates]
    reading = "Estimates [90% intervals], in the metric's unit squared; in brackets where no law of decay holds."
    lines += [reading, "Information of the prefix about the outcome, in nats, with its standard error and p-value."]
    for task in comparison.tasks:
        rows = _estimates_by_depth(comparison, task)
        columns = ["depth", *comparison.estimates, "information", "p"]
        columns = [column for column in columns if any(column in row for row in rows)]
        table = listing([dict.fromkeys(columns, "-") | row for row in rows], columns)
        words = [textwrap.fill(words, WIDTH, subsequent_indent="  ") for words in task_words(comparison, task)]
        lines += ["", task, table, *words]
    refused = [_paragraph(f"No estimates of {what}", reason) for what, reason in comparison.refused.items()]
    aside = [f for found in comparison.estimates.values() for f in set_aside_lines(found.set_aside)]
    return "\n".join([*lines, "", *refused, *dict.fromkeys(aside)]).rstrip()


def plan_text(made) -> str:
    """The tables of tasks, with what one must know to read them."""
    tasks = made.tasks
    metrics, units = _distinct(t.metric for t in tasks), _distinct(t.depth_unit for t in tasks)
    squared = f"squared {metrics[0]}" if len(metrics) == 1 else "squared units of the metric"
    depth = _plural(units[0]) if len(units) == 1 else "the unit shown"
    reading = [f"Proxy: {', '.join(_distinct(t.proxy for t in tasks))}."]
    reading += ["static, dynamic, noise: probabilities of the regimes. Medians [90% intervals];"]
    reading += [f"L_int in {squared}, c* in {depth}."]
    lines = [textwrap.fill(" ".join(reading), WIDTH), "", _answers(tasks, metrics, units)]
    marks = {mark for t in tasks for mark in _marks(t)}
    lines += ["", *(f"{mark}  {meaning}" for mark, meaning in LEGEND.items() if mark in marks)]
    answered = [t for t in tasks if t.answered]
    if answered:
        noise = any(t.regimes_with_noise is not None for t in answered)
        explained = (
            "How firm it is: the most probable regime by tolerance (RMSE)"
            f"{', and with the noise of the outcome set' if noise else ''}; "
            f"the depth of least expected risk plus cost in {depth}, its expected regret in units of "
            f"{', '.join(_distinct(t.cost.counted_in for t in answered))}, and the probability that watching beyond "
            "the shallowest depth pays:"
        )
        lines += ["", textwrap.fill(explained, WIDTH), "", _firmness(answered, units, noise)]
    stopped = [t for t in tasks if t.actions is not None]
    if stopped:
        counted = ", ".join(_distinct(t.cost.counted_in for t in stopped))
        explained = (
            f"What depths lose: expected regret (mean of the worst tenth of the posterior) in units of {counted}, "
            "beyond the best depth of each draw; no probe: negative where none is worth its cost. That of the best "
            "depth is the value of perfect information:"
        )
        lines += ["", textwrap.fill(explained, WIDTH), "", _regrets(stopped)]
    lines += ["", *(_paragraph(name, text) for name, text in made.assumptions.items())]
    return "\n".join([*lines, *_notes(tasks), *set_aside_lines(made.set_aside)])


def allocation_text(found) -> str:
    """The depths of all tasks for a budget, and what it buys."""
    units = _distinct(found.table["depth_unit"])
    rows = [
        {
            "task": task,
            "depth": f"{_number(row['depth'])} {row['depth_unit']}" if len(units) > 1 else _number(row["depth"]),
            "cost": _number(row["cost"]),
            "weight": _number(row["weight"]),
            "risk before": _number(row["risk_before"]),
            "risk": f"{_number(row['risk'])} [{_number(row['risk_lower'])}, {_number(row['risk_upper'])}]",
            "": "".join(mark for mark, there in (("-", not row["probed"]), ("X", row["extrapolated"])) if there),
        }
        for task, row in found.table.iterrows()
    ]
    spent = (
        f"Proxy: {found.proxy} ({found.reading}). {_number(found.spent, 6)} of {_number(found.budget, 6)} "
        f"{found.unit} spent. The weighted sum of risks goes from {_number(found.expected_before)} to "
        f"{_number(found.expected_risk)} (means; 90% {_number(found.risk.lower)} to {_number(found.risk.upper)}), at "
        f"most {_number(found.gap, 2)} above the least possible. One more {found.unit} would take off "
        f"{_number(found.marginal_value)}."
    )
    unit = _plural(units[0]) if len(units) == 1 else "the unit shown"
    reading = f"Depth in {unit}, cost in {found.unit}, risk in the metric's unit squared: mean [90% interval]."
    lines = [textwrap.fill(spent, WIDTH), textwrap.fill(reading, WIDTH), "", _fitted(rows, without=None), ""]
    if not found.table["probed"].all():
        lines.append("-  not probed: risk is that of the shallowest fitted depth, or more")
    if found.table["extrapolated"].any():
        lines.append(f"X  {LEGEND['X']}")
    left = [_paragraph(f"Left out: {one.task}", one.reason) for one in found.left_out[:SHOWN]]
    more = len(found.left_out) - SHOWN
    return "\n".join(
        [*lines, *left, *([f"... and {more} more left out (all of them with --json)"] if more > 0 else [])]
    )


def interval_text(interval) -> str:
    """Median [lower, upper] to three digits of the largest, with one exponent where the numbers are small or large."""
    if interval is None:
        return "-"
    numbers = (interval.median, interval.lower, interval.upper)
    exponent = _exponent(max(numbers, key=abs))
    if -3 <= exponent <= 5:
        median, lower, upper = (_fixed(n, 2 - exponent) for n in numbers)
        return f"{median} [{lower}, {upper}]"
    median, lower, upper = (f"{n / 10.0**exponent:.2f}" for n in numbers)
    return f"{median} [{lower}, {upper}]e{exponent}"


def set_aside_lines(set_aside) -> list[str]:
    """What was not used, with reasons; the first few where there are many."""
    shown = [_paragraph(f"Set aside: {s.task}", s.reason) for s in set_aside[:SHOWN]]
    more = len(set_aside) - SHOWN
    return shown + ([f"... and {more} more (all of them with --json)"] if more > 0 else [])


def _estimates_by_depth(comparison, task):
    """A row of cells for each depth at which any proxy estimates a task."""
    from bayes_prehoc.planning import Interval

    rows = defaultdict(dict)
    for whole, around in ((comparison.frame, "{}"), (comparison.outside, "({})")):
        for cells in whole[whole["task"] == task].to_dict("records"):
            numbers = Interval(cells["risk"], cells["lower"], cells["upper"])
            rows[cells["depth"]][cells["proxy"]] = around.format(interval_text(numbers))
    if comparison.information is not None:
        told = comparison.information.frame
        for cells in told[told["task"] == task].to_dict("records"):
            rows[cells["depth"]] |= {"information": f"{cells['nats']:.2f} ({cells['se']:.2f})"}
            rows[cells["depth"]] |= {"p": f"{cells['p_value']:.2g}"}
    return [{"depth": f"{depth:g}"} | rows[depth] for depth in sorted(rows)]


def _answers(tasks, metrics, units):
    rows = [
        {
            "task": t.task,
            "metric": _shortened(t.metric, LONGEST_METRIC),
            "runs": t.n_runs,
            "static": _probability(t.regimes, 0),
            "dynamic": _probability(t.regimes, 1),
            "noise": _probability(t.regimes, 2),
            "L_int": interval_text(t.L_int),
            "alpha": interval_text(t.alpha),
            "c*": _with_unit(interval_text(t.c_star), t, units),
            "": _marks(t),
        }
        for t in tasks
    ]
    return _fitted(rows, without="metric" if len(metrics) == 1 else None)


def _firmness(tasks, units, noise):
    rows = [
        {
            "task": t.task,
            "tolerance": "-" if t.tolerance is None else f"{t.tolerance:.3g}",
            "regime by tolerance": _flips(t),
            "with noise": _leader(t.regimes_with_noise),
            "best depth": _with_unit(_number(t.best_depth), t, units),
            "regret": "-" if t.value_of_information is None else _number(t.value_of_information),
            "pays": _percent(t.p_gain),
        }
        for t in tasks
    ]
    return _fitted(rows, without=None if noise else "with noise")


def _regrets(tasks):
    """Expected regret and mean of the worst tenth of every action."""
    shown = [name for name in ACTIONS if any(name in t.actions for t in tasks)]
    rows = [{"task": t.task} | {ACTIONS[name]: _regret(t.actions.get(name)) for name in shown} for t in tasks]
    return _fitted(rows, without=None)


def _regret(action):
    if action is None:
        return "-"
    return f"{_number(action.regret.expected, 2)} ({_number(action.regret.cvar, 2)})"


def _fitted(rows, without):
    """A listing with names as long as the width allows."""
    columns = [c for c in rows[0] if c != without]
    for longest in LONGEST_NAMES:
        text = listing([row | {"task": _shortened(row["task"], longest)} for row in rows], columns)
        if max(map(len, text.splitlines())) <= WIDEST:
            break
    return text


def _flips(task):
    """Such as: noise <0.0071< dynamic <0.035< static."""
    if not task.flips:
        return "-"
    short = {name: name.partition("-")[0] for name in REGIMES}
    parts = [short[task.flips[0][1]], *(f"<{_number(at, 2)}< {short[above]}" for at, _, above in task.flips)]
    return " ".join(parts)


def _notes(tasks):
    """What a reader must know, each once with the tasks that it holds for."""
    who = {}
    for t in tasks:
        for flag in t.flags:
            who.setdefault(flag, []).append(t.task)
    notes = []
    for flag, names in list(who.items())[:SHOWN]:
        others = f" and {len(names) - 3} more" if len(names) > 3 else ""
        every = len(names) == len(tasks) > 1
        notes.append(_paragraph("Note" if every else f"Note on {', '.join(names[:3])}{others}", flag))
    more = len(who) - SHOWN
    return notes + ([f"... and {more} more notes (all of them with --json)"] if more > 0 else [])


def _marks(task) -> str:
    flags = {
        "S": task.reading != "verdict" and task.answered,
        "X": bool(task.extrapolated),
        "H": task.horizon_assumed,
        "n": task.status == "not_identified",
        "!": task.status == "not_converged",
    }
    return "".join(mark for mark, there in flags.items() if there)


def _leader(regimes):
    """The most probable regime with its probability, such as: static 0.93."""
    if regimes is None:
        return "-"
    name = max(REGIMES, key=regimes.__getitem__)
    return f"{name.partition('-')[0]} {_percent(regimes[name])}"


def _probability(regimes, index):
    return _percent(None if regimes is None else regimes[REGIMES[index]])


def _percent(value):
    """Two decimals, but what is merely improbable is not printed as impossible."""
    if value is None:
        return "-"
    if 0 < value < 0.005:
        return "<0.01"
    return ">0.99" if 0.995 <= value < 1 else f"{value:.2f}"


def _number(value, digits=3):
    if value is None:
        return "-"
    exponent = _exponent(value, digits)
    return _fixed(value, digits - 1 - exponent) if -4 <= exponent <= 5 else f"{value:.{digits - 1}e}"


def _exponent(value, digits=3):
    """Power of ten of a number rounded to so many digits, so that 9.996 counts as 10.0."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2]) if value and math.isfinite(value) else 0


def _fixed(value, decimals):
    return f"{value:.{max(decimals, 0)}f}"


def _with_unit(text, task, units):
    return text if text == "-" or len(units) == 1 else f"{text} {task.depth_unit}"


def _paragraph(name, text):
    return textwrap.fill(f"{name}: {text}", WIDTH, subsequent_indent="  ", break_long_words=False)


def _shortened(name, longest):
    """The middle left out where a name is long: its end often tells it from others."""
    if len(name) <= longest:
        return name
    end = (longest - 1) // 2
    return f"{name[: longest - 1 - end]}…{name[-end:]}"


def _plural(unit):
    return unit if unit.endswith("s") else f"{unit}s"


def _distinct(values):
    return sorted(set(values))
