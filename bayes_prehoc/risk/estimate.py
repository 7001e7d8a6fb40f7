"""From runs to a proxy of the risk at each depth, and to what prefixes tell of the outcome.

    conditional   mean squared error of the cross-fitted prediction of R from the prefix
    branching     variance of R among continuations of one run from depth c
    run_to_run    variance over runs of the metric at depth c

One proxy for all tasks: what they estimate differs, so proxies are never pooled together.
"""

import dataclasses
import functools
import numbers

import jax
import numpy as np
import pandas as pd

from bayes_prehoc.errors import InputError
from bayes_prehoc.risk.by_task import (
    ENOUGH_RUNS,
    FEWEST_RUNS,
    features_of,
    forks_of,
    prefixes_of,
    small_regressions,
    spread_of,
    why_no_outcomes,
    with_branching,
    with_conditional,
    with_run_to_run,
)
from bayes_prehoc.risk.estimates import InformationEstimates, RiskEstimates
from bayes_prehoc.risk.information import information
from bayes_prehoc.risk.observed import complete_runs
from bayes_prehoc.runs.trajectories import SetAside, Trajectories, metric_kind

__all__ = ["estimate_information", "estimate_risk"]

FEWEST_PERMUTATIONS = 19
"""With fewer, no p-value is below 0.05."""

_REMEDY = {
    "branching": "Branching needs two or more runs with two or more continuations from each of two or more depths "
    "(ProbeSpec(branches=..., fork_depths=...)), and outcomes that differ among them.",
    "conditional": f"The conditional proxy needs {FEWEST_RUNS} or more complete runs of a task with differing outcomes "
    "at two or more shared depths; proxy run_to_run needs two runs.",
    "run_to_run": "A task needs two or more runs with differing finite values of the metric at two or more depths that "
    "90% of them share, and a spread that does not grow with depth (proxy conditional allows that it does).",
}


def estimate_risk(
    runs: Trajectories, *, proxy: str = "auto", metric: str | None = None, seed: int = 0
) -> RiskEstimates:
    """Estimate the risk at each depth, for every task that allows it.

    Parameters
    ----------
    runs : Trajectories
    proxy : str, optional
        "conditional" predicts R from the prefix and needs complete runs (30; if named, 20 with a flag);
        "branching" is the variance of R among continuations of a run and needs probes with forks; "run_to_run" is the
        spread of the metric between runs, and not the risk that remains. "auto" takes the first of them that every
        usable task allows.
    metric : str, optional
        What the risk is a variance of. Default: the outcome's metric, or the only one. The outcome's metric is
        judged by the recorded outcome; of any other, R is the last value.
    seed : int, optional
        From 0 to 2**32 - 1, for the folds of the cross-fitting. A task's estimates depend on it and on the task's
        own runs only.

    Returns
    -------
    RiskEstimates
        In squared units of the metric. Depths and tasks that could not be used are listed with their reasons.

    Raises
    ------
    InputError
        If an argument is impossible, the metric is unknown or must be named, or no task can be used.

    Examples
    --------
    >>> import pandas as pd
    >>> from bayes_prehoc.runs import read_runs
    >>> rows = [("a", s, c, "loss", (1 + s) / c) for s in range(3) for c in (1, 2)]
    >>> runs = read_runs(pd.DataFrame(rows, columns=["task", "seed", "step", "metric", "value"]))
    >>> estimates = estimate_risk(runs)
    >>> estimates.proxy, estimates["a"].risk.tolist()
    ('run_to_run', [1.0, 0.25])
    """
    _check_arguments(runs, seed)
    tasks, unnamed = _judged_by(metric, runs)
    candidates = _candidates(proxy, tasks)
    makers = {
        "conditional": functools.partial(with_conditional, seed=seed),
        "branching": with_branching,
        "run_to_run": with_run_to_run,
    }
    for chosen in candidates:
        made = makers[chosen](tasks)
        refused = [SetAside(t.task, r) for t, r in zip(tasks, made, strict=True) if isinstance(r, str)]
        estimates = [r for r in made if not isinstance(r, str)]
        if estimates:
            break
    else:
        raise _none_left((*unnamed, *refused), chosen)
    if proxy == "auto" and chosen == "run_to_run":
        estimates = _say_who_blocked(estimates, tasks)
    return RiskEstimates(chosen, tuple(estimates), (*runs.set_aside, *unnamed, *refused))


def estimate_information(
    runs: Trajectories, *, metric: str | None = None, permutations: int = 199, seed: int = 0
) -> InformationEstimates:
    """Estimate what watching a run up to each depth tells of its outcome, and whether it tells anything.

    Parameters
    ----------
    runs : Trajectories
    metric : str, optional
        As for `estimate_risk`.
    permutations : int, optional
        Of outcomes among runs, 19 or more; the smallest p-value is 1 / (permutations + 1).
    seed : int, optional

    Returns
    -------
    InformationEstimates
        Of tasks with 20 or more complete runs; the others are listed with their reasons. See `risk.information` for
        what its figures are.

    Raises
    ------
    InputError
        If an argument is impossible, the metric is unknown or must be named, or no task can be used.
    """
    _check_arguments(runs, seed)
    if not isinstance(permutations, numbers.Integral) or permutations < FEWEST_PERMUTATIONS:
        raise InputError(f"{permutations!r} permutations", "permutations", f"Give {FEWEST_PERMUTATIONS} or more.")
    tasks, unnamed = _judged_by(metric, runs)
    tables = [prefixes_of(task) for task in tasks]
    refused = [SetAside(t.task, r) for t, r in zip(tasks, tables, strict=True) if isinstance(r, str)]
    parts = []
    with small_regressions():
        for task, table in zip(tasks, tables, strict=True):
            if isinstance(table, str):
                continue
            found = information(jax.random.key(np.uint32(seed)), features_of(table), table.outcome, permutations)
            columns = {"task": task.task, "depth": table.depths[table.fitted], "runs": len(table.outcome)}
            parts.append(pd.DataFrame(columns | found._asdict()))
    if not parts:
        raise _none_left((*unnamed, *refused), "conditional")
    return InformationEstimates(pd.concat(parts, ignore_index=True), (*runs.set_aside, *unnamed, *refused))


def _check_arguments(runs, seed):
    if not isinstance(runs, Trajectories):
        raise InputError(
            f"a {type(runs).__name__} is no set of runs", "estimate_risk", "Give what `read_runs` or `probe` return."
        )
    if not len(runs):
        aside = "".join(f"; task {s.task!r}: {s.reason}" for s in runs.set_aside[:3])
        raise InputError(f"there are no tasks{aside}", "estimate_risk", "Give runs of one or more tasks.")
    whole = isinstance(seed, numbers.Integral) and not isinstance(seed, bool)
    if not whole or not 0 <= seed < 2**32:
        raise InputError(f"{seed!r} cannot be a seed", "seed", "Give a whole number from 0 to 2**32 - 1.")


def _judged_by(metric, runs):
    """The tasks with the metric as their outcome's, and those set aside because they have it not."""
    known = list(dict.fromkeys(m for task in runs for m in (task.outcome_metric, *task.metrics) if m is not None))
    if metric is not None and metric not in known:
        raise InputError(f"no metric {metric!r}", "metric", f"The metrics are: {', '.join(known) or 'none'}.")
    tasks, set_aside = [], []
    for task in runs:
        named = metric or task.outcome_metric or (task.metrics[0] if len(task.metrics) == 1 else None)
        if not task.metrics:
            set_aside.append(SetAside(task.task, "no metric was recorded"))
        elif named is None:
            raise InputError(
                f"several metrics and none named: {', '.join(task.metrics)}",
                f"task {task.task!r}",
                "Name one: metric= here (--metric), or outcome= (--outcome) when the runs are read.",
            )
        elif named == task.outcome_metric:
            tasks.append(task)
        elif named in task.metrics:
            # What was recorded on an outcome set belongs to the metric it was recorded for.
            better = {"accuracy": True, "loss": False}.get(metric_kind(named))
            there = dict.fromkeys(("outcome", "outcome_examples", "fork_depths", "forked"))
            tasks.append(dataclasses.replace(task, outcome_metric=named, higher_is_better=better, **there))
        else:
            set_aside.append(SetAside(task.task, f"{named!r} was not recorded ({', '.join(task.metrics)} were)"))
    return tasks, set_aside


def _candidates(proxy, tasks):
    """Proxies to try, the best first."""
    if proxy in _REMEDY:
        return (proxy,)
    known = [why_no_outcomes(task) is None for task in tasks]
    enough = [complete_runs(task).sum() >= ENOUGH_RUNS for task in tasks]
    allowed = {
        "conditional": np.logical_and(known, enough),
        "branching": np.array([not isinstance(forks_of(task), str) for task in tasks], bool),
        "run_to_run": np.array([not isinstance(spread_of(task), str) for task in tasks], bool),
    }
    if proxy != "auto":
        usable = (
            f"conditional ({sum(known)} of {len(tasks)} tasks have {FEWEST_RUNS} or more complete "
            f"runs), branching ({allowed['branching'].sum()} have continuations from two depths) and run_to_run "
            f"({allowed['run_to_run'].sum()} have two depths to compare)"
        )
        raise InputError(f"{proxy!r} is no proxy", "proxy", f"What there is: {usable}; auto takes the first possible.")
    usable = np.any(list(allowed.values()), axis=0)
    by_all = [name for name, own in allowed.items() if own.any() and not (usable & ~own).any()]
    return tuple(dict.fromkeys((*by_all[:1], "run_to_run")))


def _say_who_blocked(estimates, tasks):
    """Flags the tasks for whose sake all of them have the spread, where others allow more."""
    complete = {task.task: int(complete_runs(task).sum()) for task in tasks}
    if max(complete.values()) < ENOUGH_RUNS:
        return estimates

    why = {
        task.task: f"{complete[task.task]} complete runs, where the conditional proxy needs {ENOUGH_RUNS}"
        if complete[task.task] < ENOUGH_RUNS
        else why_no_outcomes(task)
        for task in tasks
    }

    def flagged(task):
        if why[task.task] is None:
            return task
        return dataclasses.replace(task, flags=(*task.flags, f"{why[task.task]}: run_to_run was taken for all tasks"))

    return [flagged(task) for task in estimates]


def _none_left(set_aside, proxy):
    shown = "; ".join(f"task {s.task!r}: {s.reason}" for s in set_aside[:3])
    more = f"; and {len(set_aside) - 3} more" if len(set_aside) > 3 else ""
    which = "the only task cannot be used" if len(set_aside) == 1 else f"none of {len(set_aside)} tasks can be used"
    return InputError(f"{which} ({shown}{more})", f"proxy {proxy}", _REMEDY[proxy])
