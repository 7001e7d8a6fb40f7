"""Every assumption behind a plan, in words with numbers and units."""

from collections.abc import Iterable, Mapping

import numpy as np

from bayes_prehoc.planning.arguments import Arguments
from bayes_prehoc.planning.costs import ConvexCost, TableCost

__all__ = ["assumptions_in_words", "plural"]

PROXIES = {
    "conditional": "conditional, the risk of the best linear prediction of the outcome from the prefix, without the "
    "bias of training on few runs; at or above the Bayes risk",
    "branching": "branching, the variance of the outcome among continuations of one run with fresh randomness",
    "run_to_run": "run_to_run, the variance between runs at a depth, which is how far they still differ and not how "
    "unpredictable their end is",
}


def assumptions_in_words(posterior, tasks, arguments: Arguments) -> dict[str, str]:
    """Sentences by subject.

    Parameters
    ----------
    posterior : Posterior
    tasks : tuple of TaskPlan
    arguments : Arguments
    """
    words = {"proxy": PROXIES.get(posterior.proxy, posterior.proxy)}
    if any(t.reading == "spread reading" for t in tasks):
        words["reading"] = (
            "spread reading, not a verdict: regimes classify the spread between runs, with L_int, the limit of its "
            "power law beyond any depth, in place of L(c_T)"
        )
    words["intervals"] = "median and central 90% posterior interval; a probability is a share of posterior draws"
    words["tolerance"] = _tolerance(tasks, arguments)
    words["c_cheap"] = _c_cheap(tasks, arguments)
    words["cost"] = _cost(tasks, arguments)
    words["gamma"] = _gamma(tasks, arguments)
    words["horizon"] = _horizon(tasks)
    if posterior.proxy != "run_to_run" or any(t.outcome_stands_in for t in tasks):
        words["outcome"] = _outcome(tasks)
    words["noise"] = _noise(posterior.estimates)
    if posterior.converged:
        words["misfit"] = _misfit(posterior.misfit)
        if posterior.drift is not None:
            words["drift"] = _drift(posterior.drift)
    words["prior"] = str(posterior.prior)
    return words


def plural(unit: str) -> str:
    """A unit of depth in the plural: steps, epochs, FLOPs."""
    return unit if unit.endswith("s") else f"{unit}s"


def _tolerance(tasks, arguments):
    groups = {}
    for t in tasks:
        if t.tolerance is None:
            text = "none, so no regimes: state one"
        elif arguments.states("tolerance", t.task):
            text = f"{_number(t.tolerance)} {t.metric}, stated"
        else:
            text = f"{_number(t.tolerance)} {t.metric}, the default for accuracies in [0, 1]"
        groups.setdefault(text, []).append(t.task)
    return "largest RMSE of prediction that is accepted: " + _by_group(groups)


def _c_cheap(tasks, arguments):
    depths = _range_by_unit(tasks, lambda t: t.c_cheap)
    stated = [arguments.states("c_cheap", t.task) for t in tasks]
    if all(stated):
        return f"{depths}, stated"
    rule = "5% of the horizon, or the shallowest fitted depth where that is deeper"
    return f"{depths}: {rule}" + (", where none was stated" if any(stated) else "")


def _cost(tasks, arguments):
    if arguments.cost is None:
        return "a full run costs 1 and every unit of its depth the same"
    units, groups = {}, {}
    for t in tasks:
        units.setdefault(t.cost, {})[t.depth_unit] = None
    for t in tasks:
        groups.setdefault(_cost_in_words(t.cost, " or ".join(units[t.cost])), []).append(t.task)
    return _by_group(groups)


def _cost_in_words(cost, depth_unit):
    if isinstance(cost, TableCost):
        text = (
            f"measured at {len(cost.depths)} depths, from {_number(cost.costs[0])} {cost.unit} at "
            f"{_number(cost.depths[0])} to {_number(cost.costs[-1])} at {_number(cost.depths[-1])} "
            f"{plural(depth_unit)}, with straight lines between"
        )
    else:
        text = f"{_number(cost.per_unit)} {cost.unit} per {depth_unit}"
    if isinstance(cost, ConvexCost):
        text += (
            f" at first, growing with depth to the power {_number(cost.power)}, to twice that for a run of "
            f"{_number(cost.doubling)} {plural(depth_unit)}"
        )
    if not isinstance(cost, TableCost) and cost.fixed > 0:
        text += f", plus {_number(cost.fixed)} {cost.unit} for a probe of any depth, which moves no depth"
    return text if cost.price is None else f"{text}; one {cost.unit} at {_number(cost.price)} {cost.currency}"


def _gamma(tasks, arguments):
    groups = {}
    for t in tasks:
        groups.setdefault(_price_in_words(t, arguments.gamma_of(t), isinstance(arguments.gamma, Mapping)), []).append(t)
    told = {}
    for (rule, found), own in groups.items():
        told[rule + (_found(own) if found else "")] = [t.task for t in own]
    return _by_group(told)


def _price_in_words(task, stated, by_task):
    """The rule that a task's gamma follows, and whether the number that it comes to must be added."""
    cost = task.cost.counted_in
    if isinstance(stated, float):
        many = "" if by_task else ", one number for all tasks"
        return f"{_number(stated)} ({cost} per unit of squared error){many}, stated", False
    if stated is None:
        return (
            "price of one unit of squared error such that removing the whole expected risk at c_cheap is worth one "
            "full run (gamma E[L(c_cheap)] = C(c_T) - C_s), one number per task, the same for every draw and depth"
        ), True
    return (
        f"price of one unit of squared error that follows from {_number(stated.false_start)} {cost} for a full run "
        f"that ends on the wrong side of {_number(stated.threshold)} {task.metric} and {_number(stated.missed)} {cost} "
        "for one forgone that would not have, its mean over what a whole run's watching removes, outcomes taken for "
        "normal"
    ), True


def _found(tasks):
    """The prices that a rule came to."""
    groups = {}
    for t in tasks:
        if t.gamma is not None:
            groups.setdefault(f"{t.cost.counted_in} per squared {t.metric}", []).append(t.gamma)
    return ": " + ("; ".join(f"{_range(values, _number)} ({unit})" for unit, values in groups.items()) or "withheld")


def _horizon(tasks):
    depths = _range_by_unit(tasks, lambda t: t.horizon)
    assumed = [t.task for t in tasks if t.horizon_assumed]
    if not assumed:
        return f"a full run ends at {depths}"
    who = "" if len(assumed) == len(tasks) else f" for {_names(assumed)}"
    return f"a full run ends at {depths}; assumed{who} to be the deepest depth that any run reached"


def _outcome(tasks):
    stands_in = [t.task for t in tasks if t.outcome_stands_in]
    if not stands_in:
        return "the result on an outcome set that is disjoint from what a prefix shows"
    text = "the metric's last value stands in for a result on a separate outcome set"
    return text if len(stands_in) == len(tasks) else f"{text} for {_names(stands_in)}"


def _noise(estimates):
    known = [t.task for t in estimates if t.has_noise]
    if not known:
        return "how much noise the outcome set's finite size adds is unknown, so risks include it"
    text = "verdicts are without the noise that the outcome set's finite size adds; with it they stand beside"
    unknown = [t.task for t in estimates if not t.has_noise]
    return text + (f"; unknown and included for {_names(unknown)}" if unknown else "")


def _misfit(draws):
    low, middle, high = (f"{value:.2f}" for value in np.quantile(draws, (0.05, 0.5, 0.95)))
    return (
        f"beyond their sampling error, estimates lie off the curves by a deviation of {middle} [{low}, {high}] "
        "in log risk (omega), which the intervals allow for"
    )


def _drift(draws):
    low, middle, high = (f"{value:.2f}" for value in np.quantile(draws, (0.05, 0.5, 0.95)))
    return (
        f"before the end of a run spreads drift off the law, by a deviation of {middle} [{low}, {high}] in log risk "
        "from a depth to one e times as deep; risks and depths go on from what a task's estimates show of it, L_int, "
        "alpha and K are the law's"
    )


def _by_group(groups):
    if len(groups) == 1:
        return next(iter(groups))
    return "; ".join(f"{text} ({_names(tasks)})" for text, tasks in groups.items())


def _names(tasks):
    shown = ", ".join(tasks[:4])
    return f"{shown} and {len(tasks) - 4} more" if len(tasks) > 4 else shown


def _range_by_unit(tasks, value):
    groups = {}
    for t in tasks:
        groups.setdefault(plural(t.depth_unit), []).append(value(t))
    return "; ".join(f"{_range(values, '{:.10g}'.format)} {unit}" for unit, values in groups.items())


def _range(values: Iterable[float], form) -> str:
    low, high = form(min(values)), form(max(values))
    return low if low == high else f"{low} to {high}"


def _number(value: float) -> str:
    """Four significant digits, without an exponent where the number is neither small nor large."""
    return f"{float(f'{value:.4g}'):.10g}"
