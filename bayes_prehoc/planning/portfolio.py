"""The verb `allocate`: one budget for probing over all tasks of a posterior.

What is minimised, and how, is in `planning.allocation`; here a user's words become its arrays, and its answer a table.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning import draws
from bayes_prehoc.planning.allocation import Options, Portfolio, allot
from bayes_prehoc.planning.arguments import Arguments, check_names
from bayes_prehoc.planning.costs import positive
from bayes_prehoc.planning.expected import expected_risk
from bayes_prehoc.planning.results import Interval, plain
from bayes_prehoc.runs.trajectories import SetAside

__all__ = ["Allocation", "allocate"]

ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class Allocation:
    """How deep to probe each task for one budget.

    Attributes
    ----------
    posterior : Posterior
    table : DataFrame
        By task: probed, depth (0 where not probed), depth_unit, cost, weight, group, risk at that depth with its 90%
        interval (`risk_lower`, `risk_upper`) and risk_before, each the posterior mean in the metric's unit squared,
        without the outcome set's noise; at_min and at_max say that a limit holds the depth, extrapolated that it lies
        outside the fitted depths. Risk of a task that is not probed, and risk_before, are those at the shallowest
        fitted depth.
    budget, spent : float
        In `unit`.
    unit : str
    expected_risk, expected_before : float
        Posterior mean of the weighted sum of risks, and of what it is if nothing is probed.
    risk, before : Interval
        Median and 90% interval of the same.
    marginal_value : float
        What one more unit of budget takes off `expected_risk`; 0 where nothing is left to buy.
    gap : float
        `expected_risk` is at most this much above the least that is possible.
    groups : dict of bool by group
        Whether it is probed.
    left_out : tuple of SetAside
        Tasks that get nothing, with the reason: their posterior gives no answer, or they were set aside before the fit.
    reading : str
        "verdict", or "spread reading" where the proxy is run_to_run.
    proxy : str
    """

    posterior: Any
    table: pd.DataFrame
    budget: float
    spent: float
    unit: str
    expected_risk: float
    expected_before: float
    risk: Interval
    before: Interval
    marginal_value: float
    gap: float
    groups: dict[str, bool]
    left_out: tuple[SetAside, ...]
    reading: str
    proxy: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready and strict."""
        own = {
            field.name: plain(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name not in ("posterior", "table", "left_out")
        }
        left = [{"task": one.task, "reason": one.reason} for one in self.left_out]
        return own | {"tasks": plain(self.table.reset_index().to_dict("records")), "left_out": left}


def allocate(
    posterior, budget, *, cost=None, weights=None, min_depth=None, max_depth=None, step=None, groups=None
) -> Allocation:
    """Spread one budget for probing over many tasks.

    Parameters
    ----------
    posterior : Posterior
    budget : float
        What all probes may cost together, in what costs are counted in.
    cost : LinearCost, ConvexCost, TableCost, or mapping from task to one of them, optional
        As in `plan`; all must be counted in the same. Default: a full run of any task costs 1.
    weights : mapping from task to float, optional
        Price of one unit of squared error; a task that is not named has 1. Needed where tasks are measured in different
        metrics, and then of every task.
    min_depth, max_depth : float or mapping from task to float, optional
        Limits of the depth of a task that is probed, at most its horizon. Default: the shallowest fitted depth and the
        horizon.
    step : float or mapping from task to float, optional
        Depths are whole multiples of it, 1 where depth is counted in steps that cannot be split. Default: any depth.
    groups : mapping from name to a sequence of tasks, optional
        Each group is probed as a whole or not at all. A task in no group is probed in any case.

    Returns
    -------
    Allocation
        Tasks without an answer (`Posterior.status` is not "ok") are left out and get nothing, also where their group is
        probed.

    Raises
    ------
    InputError
        No task has an answer, an argument that cannot be used, a task that was not fitted or is in two groups, or a
        budget below what the least depths cost, with that cost.

    Notes
    -----
    A task that is not probed costs nothing, and leaves open what is open at the shallowest fitted depth, or more. Of
    `run_to_run` the risk is the law's, which falls with depth, without the drift off it that `plan` goes by. With
    10,000 tasks it takes some ten seconds on one core.
    """
    arguments = Arguments(cost)
    arguments.check(posterior.estimates)
    budget = positive(budget, "budget")
    given = {"weights": weights, "min_depth": min_depth, "max_depth": max_depth, "step": step}
    for where, value in given.items():
        _check_numbers(value, where, posterior.estimates)
    members = _members(groups, posterior.estimates)
    tasks, left_out = _answered(posterior)
    _check_weights(weights, tasks)
    unit = _unit(tasks, arguments)

    low, high = _limits(tasks, given)
    options = _options(tasks, arguments, low, high)
    there = {task.task for task in tasks}
    names = [name for name, own in members.items() if not there.isdisjoint(own)]
    group_of = {task: i for i, name in enumerate(names) for task in members[name]}
    shallowest = np.array([task.c_min for task in tasks])
    # One at a time: the draws of thousands of tasks together would fill the memory.
    curves = (posterior.curve(task.task) for task in tasks)
    # The shallowest depth, where a task that is not probed stands, lies within the cubics too.
    expected = expected_risk(curves, np.minimum(low, shallowest), np.maximum(high, shallowest))
    portfolio = Portfolio(
        expected,
        options,
        weight=np.array([_of(weights, task.task, 1.0) for task in tasks]),
        unprobed=expected.risk(np.arange(len(tasks)), shallowest),
        group=np.array([group_of.get(task.task, -1) for task in tasks]),
        step=np.array([_of(step, task.task, 0.0) for task in tasks]),
    )
    found = allot(portfolio, budget)
    if isinstance(found, float):
        raise InputError(
            f"{budget:.6g} {unit} do not pay for the least depths of the tasks, which cost {found:.6g}",
            "budget",
            "Give at least that, lower min_depth, or put tasks into groups that may be left out.",
        )
    table, after, before = _told(posterior, tasks, portfolio, found, low, high, names)
    probed = dict.fromkeys(members, False)
    probed |= {name: bool(found.probed[portfolio.group == i].any()) for i, name in enumerate(names)}
    return Allocation(
        posterior,
        table,
        budget,
        float(found.cost.sum()),
        unit,
        float(after.mean()),
        float(before.mean()),
        Interval.of(after),
        Interval.of(before),
        found.marginal_value,
        found.gap,
        probed,
        left_out,
        "spread reading" if posterior.proxy == "run_to_run" else "verdict",
        posterior.proxy,
    )


def _answered(posterior):
    """Estimates of the tasks that have an answer, and the others with the reason."""
    why = {
        "not_converged": "the fit did not converge",
        "not_identified": "the data cannot tell alpha from L_int",
    }
    tasks, left_out = [], []
    for task in posterior.estimates:
        status = posterior.status(task.task) if posterior.converged else "not_converged"
        if status == "ok" and not _finite(posterior.curve(task.task)):
            left_out.append(SetAside(task.task, "its expected risk is not finite"))
        elif status == "ok":
            tasks.append(task)
        else:
            left_out.append(SetAside(task.task, why[status]))
    if not tasks:
        reasons = "; ".join(dict.fromkeys(one.reason for one in left_out))
        raise InputError(
            f"no task has an answer: {reasons}", "allocate", "posterior.checks() says what to do about it."
        )
    return tasks, (*left_out, *posterior.estimates.set_aside)


def _finite(curve):
    return bool(np.isfinite(curve.l_int).all() and np.isfinite(curve.reducible).all())


def _limits(tasks, given):
    """Least and greatest depth of each task, moved inwards to multiples of its step."""
    low, high = np.empty(len(tasks)), np.empty(len(tasks))
    for i, task in enumerate(tasks):
        where, horizon = f"task {task.task!r}", float(task.horizon)
        high[i] = _of(given["max_depth"], task.task, horizon)
        low[i] = _of(given["min_depth"], task.task, min(task.c_min, high[i]))
        for name, depth in (("max_depth", high[i]), ("min_depth", low[i])):
            if depth > horizon * (1.0 + ROUNDING):
                raise InputError(
                    f"{depth:.10g} lies beyond the horizon ({horizon:.10g}, unit {task.depth_unit})",
                    f"{name}, {where}",
                    f"Give a depth of at most {horizon:.10g}, or one per task.",
                )
        if low[i] > high[i]:
            raise InputError(
                f"the least depth {low[i]:.10g} lies beyond the greatest, {high[i]:.10g}",
                f"min_depth, {where}",
                "Give limits that leave a depth.",
            )
        step = _of(given["step"], task.task, 0.0)
        if step:
            first, last = low[i], high[i]
            low[i] = np.ceil(first / step * (1.0 - ROUNDING)) * step
            high[i] = np.floor(last / step * (1.0 + ROUNDING)) * step
            if low[i] > high[i]:
                raise InputError(
                    f"no multiple of {step:.10g} lies between depths {first:.10g} and {last:.10g}",
                    f"step, {where}",
                    "Give a smaller step, or wider limits.",
                )
    return low, high


def _options(tasks, arguments, low, high):
    """Pieces of all costs."""
    rows = []
    for i, task in enumerate(tasks):
        cost = arguments.cost_of(task)
        try:
            pieces = cost.pieces(low[i], high[i])
        except InputError as error:
            raise InputError(error.what, f"cost, task {task.task!r}", error.remedy) from None
        rows += [(i, *piece) for piece in pieces]
    task, *rest = (np.array(column) for column in zip(*rows, strict=True))
    return Options(task.astype(int), *(part.astype(float) for part in rest))


def _told(posterior, tasks, portfolio, found, low, high, names):
    """The table, and draws (S,) of the weighted sum of risks after and before."""
    rows, after, before = [], 0.0, 0.0
    for i, task in enumerate(tasks):
        curve, shallowest, depth = posterior.curve(task.task), task.c_min, float(found.depth[i])
        probed = bool(found.probed[i])
        risk, unprobed = draws.risk(curve, [depth if probed else shallowest, shallowest]).T
        after = after + portfolio.weight[i] * risk
        before = before + portfolio.weight[i] * unprobed
        lower, upper = np.quantile(risk, (0.05, 0.95))
        seen = task.c_min * (1 - ROUNDING) <= depth <= task.c_max * (1 + ROUNDING)
        rows.append(
            {
                "task": task.task,
                "probed": probed,
                "depth": depth,
                "depth_unit": task.depth_unit,
                "cost": float(found.cost[i]),
                "weight": float(portfolio.weight[i]),
                "group": None if portfolio.group[i] < 0 else names[portfolio.group[i]],
                "risk": float(risk.mean()),
                "risk_lower": float(lower),
                "risk_upper": float(upper),
                "risk_before": float(unprobed.mean()),
                "metric": task.metric,
                "at_min": probed and depth <= low[i] * (1 + ROUNDING),
                "at_max": probed and depth >= high[i] * (1 - ROUNDING),
                "extrapolated": probed and not seen,
            }
        )
    return pd.DataFrame(rows).set_index("task"), after, before


def _members(groups, estimates) -> dict[str, tuple[str, ...]]:
    """Tasks by group, checked."""
    if groups is None:
        return {}
    if not isinstance(groups, Mapping):
        raise InputError(f"they are {groups!r}", "groups", "Give {name: [tasks]}.")
    members, group_of = {}, {}
    for name, own in groups.items():
        where = f"groups, {name!r}"
        if isinstance(own, str) or not isinstance(own, Iterable):
            raise InputError(f"its tasks are {own!r}", where, "Give a list of tasks.")
        members[name] = tuple(own)
        check_names(dict.fromkeys(members[name]), where, estimates)
        for task in members[name]:
            if task in group_of:
                raise InputError(f"task {task!r} is in group {group_of[task]!r} too", where, "Name each task once.")
            group_of[task] = name
    return members


def _check_numbers(given, where, estimates):
    if isinstance(given, Mapping):
        check_names(given, where, estimates)
        for task, value in given.items():
            positive(value, f"{where}, task {task!r}")
    elif given is not None:
        if where == "weights":
            raise InputError(f"they are {given!r}", where, "Give {task: weight}; one for all changes nothing.")
        positive(given, where)


def _check_weights(weights, tasks):
    metrics = sorted({task.metric for task in tasks})
    missing = [task.task for task in tasks if task.task not in (weights or {})]
    if len(metrics) > 1 and missing:
        raise InputError(
            f"tasks are measured in {', '.join(metrics)}, whose squared errors do not add up",
            "weights",
            f"Give what a unit of squared error is worth in each task; {missing[0]} has none.",
        )


def _unit(tasks, arguments):
    """What all costs are counted in."""
    units = list(dict.fromkeys(arguments.cost_of(task).counted_in for task in tasks))
    if len(units) > 1:
        raise InputError(
            f"costs are counted in {' and '.join(units)}",
            "cost",
            "Count them in one unit, or give prices in one currency.",
        )
    return units[0]


def _of(given, task, default) -> float:
    value = given.get(task) if isinstance(given, Mapping) else given
    return default if value is None else float(value)
