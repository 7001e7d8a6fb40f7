"""`estimate_risk`: from runs to a proxy of the risk at each depth, with its sampling error.

    conditional   mean squared error of the cross-fitted prediction of R from the prefix
    run_to_run    variance over runs of the metric at depth c

One proxy for all tasks: what they estimate differs, so proxies are never pooled together.
"""

import dataclasses
import numbers

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from bayes_prehoc.errors import InputError
from bayes_prehoc.risk import conditional, run_to_run
from bayes_prehoc.risk.estimates import LeftOut, RiskEstimates, TaskEstimates
from bayes_prehoc.risk.noise import split_outcome_variance
from bayes_prehoc.risk.observed import LARGEST, complete_runs, prefix_table, spread_table, why_too_few
from bayes_prehoc.risk.rising import find_rise
from bayes_prehoc.runs.depths import agreeing
from bayes_prehoc.runs.trajectories import SetAside, Trajectories, metric_kind

__all__ = ["ENOUGH_RUNS", "FEWEST_RUNS", "estimate_risk"]

FEWEST_RUNS, ENOUGH_RUNS = 20, 30
"""Complete runs that `conditional` needs when it is asked for (below the second with a flag), and by itself."""
NO_ERROR = 1e-6
"""Mean squared error, relative to the variance of R, that the smallest penalty and float32 cannot tell from none."""
NEAR_ZERO = 0.01
"""Mean of the outcome over its standard deviation, below which it is no scale."""

_REMEDY = {
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
        "run_to_run" is the spread of the metric between runs, and not the risk that remains. "auto" takes the first
        that every usable task allows. "branching" needs runs forked at a depth, which recorded runs are not.
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
    for chosen in candidates:
        made = _with_conditional(tasks, seed) if chosen == "conditional" else _with_run_to_run(tasks)
        refused = [SetAside(t.task, r) for t, r in zip(tasks, made, strict=True) if isinstance(r, str)]
        estimates = [r for r in made if not isinstance(r, str)]
        if estimates:
            break
    else:
        raise _none_left((*unnamed, *refused), chosen)
    if proxy == "auto" and chosen == "run_to_run":
        estimates = _say_who_blocked(estimates, tasks)
    return RiskEstimates(chosen, tuple(estimates), (*runs.set_aside, *unnamed, *refused))


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
            changes = {"outcome_metric": named, "outcome": None, "outcome_examples": None, "higher_is_better": better}
            tasks.append(dataclasses.replace(task, **changes))
        else:
            set_aside.append(SetAside(task.task, f"{named!r} was not recorded ({', '.join(task.metrics)} were)"))
    return tasks, set_aside


def _candidates(proxy, tasks):
    """Proxies to try, the best first."""
    if proxy in ("conditional", "run_to_run"):
        return (proxy,)
    complete = np.array([complete_runs(task).sum() for task in tasks])
    spread = np.array([not isinstance(_spread(task), str) for task in tasks])
    if proxy != "auto":
        usable = (
            f"conditional ({(complete >= FEWEST_RUNS).sum()} of {len(tasks)} tasks have {FEWEST_RUNS} or more complete "
            f"runs) and run_to_run ({spread.sum()} of {len(tasks)} tasks have two depths to compare)"
        )
        if proxy == "branching":
            what = "branching needs continuations of runs forked at a depth, and none of the tasks has any"
        else:
            what = f"{proxy!r} is no proxy"
        raise InputError(what, "proxy", f"What there is: {usable}; auto takes the first that every task allows.")
    enough = complete >= ENOUGH_RUNS
    return ("conditional", "run_to_run") if enough.any() and not (spread & ~enough).any() else ("run_to_run",)


def _say_who_blocked(estimates, tasks):
    """Flags the tasks for whose sake all of them have the spread, where others allow more."""
    complete = {task.task: int(complete_runs(task).sum()) for task in tasks}
    if max(complete.values()) < ENOUGH_RUNS:
        return estimates

    def flagged(task):
        if complete[task.task] >= ENOUGH_RUNS:
            return task
        why = (
            f"{complete[task.task]} complete runs: run_to_run was taken for all tasks, because the conditional proxy "
            f"needs {ENOUGH_RUNS} in each"
        )
        return dataclasses.replace(task, flags=(*task.flags, why))

    return [flagged(task) for task in estimates]


def _spread(task):
    """The table of a task's spread, or the reason why there is none."""
    if task.n_runs < 2:
        return "one run only; a spread needs two" if task.n_runs else "no runs"
    if task.outcome_metric not in task.values:
        return f"no trajectory of {task.outcome_metric!r} (recorded: {', '.join(task.metrics)})"
    table = spread_table(task)
    return table if len(table.depths) >= 2 else why_too_few(table.left_out, len(table.depths))


def _with_run_to_run(tasks):
    """Estimates of each task, or the reason why not."""
    tables = [_spread(task) for task in tasks]
    kurtosis = run_to_run.pooled_excess_kurtosis([t.values for t in tables if not isinstance(t, str)])
    return [
        table if isinstance(table, str) else _run_to_run_of(task, table, kurtosis)
        for task, table in zip(tasks, tables, strict=True)
    ]


def _run_to_run_of(task, table, kurtosis):
    risk, count = run_to_run.sample_variances(table.values)
    nu = run_to_run.degrees_of_freedom(count, kurtosis)
    flags = list(table.flags)
    outcome = task.final_outcome()[complete_runs(task)]
    if len(outcome):
        mean = float(outcome.mean())
    else:
        mean = float(np.nanmean(table.values[:, -1]))
        flags.append(f"no run is complete: the mean of {task.outcome_metric!r} at {table.depths[-1]:g} stands in")
    estimates = _assemble(
        task,
        "run_to_run",
        depths=table.depths,
        risk=risk,
        nu=nu,
        outcome_mean=mean,
        outcome_sd=float(np.sqrt(risk[-1])),
        n_runs=int(count.min()),
        left_out=table.left_out,
        flags=flags,
    )
    return _if_decaying(estimates)


def _with_conditional(tasks, seed):
    """Estimates of each task, or the reason why not."""
    # The same key for all: the tasks are independent, and so what is said of one does not depend on the others.
    key = jax.random.key(np.uint32(seed))
    # The regressions are thousands of small decompositions: threads of the BLAS only wait for each other in them (on
    # two busy cores 10 tasks of 64 runs took 217 s with them and 8 s without).
    with threadpool_limits(limits=1, user_api="blas"):
        return [_conditional_of(task, key) for task in tasks]


def _if_decaying(estimates):
    """The estimates, or the reason why no decay can describe them."""
    rise = find_rise(estimates.risk, estimates.nu)
    if rise is None:
        return estimates
    foot, top = (f"{np.sqrt(estimates.risk[i]):.3g} at {estimates.depths[i]:g}" for i in (rise.foot, rise.top))
    chance = f"p = {rise.p_value:.1g}" if rise.p_value > 0.0 else "p < 1e-300"
    what = "spread" if estimates.proxy == "run_to_run" else "prediction error"
    return (
        f"its {what} rises with depth (from {foot} to {top}, in units of {estimates.metric}) beyond its sampling error "
        f"({chance}), which no decay of risk describes"
    )


def _conditional_of(task, key):
    complete = int(complete_runs(task).sum())
    if complete < FEWEST_RUNS:
        return f"{complete} of {task.n_runs} runs are complete; the conditional proxy needs {FEWEST_RUNS}"
    table = prefix_table(task)
    if agreeing(table.outcome[:, None])[0]:
        return f"R is constant over {complete} complete runs ({table.outcome[0]:g})"
    largest = np.abs(table.outcome).max()
    if not 1.0 / LARGEST < largest < LARGEST:
        return f"R is too large or too small for a variance (up to {largest:.3g})"
    if len(table.fitted) < 2:
        return why_too_few(table.left_out, len(table.fitted))
    mean, sd = float(table.outcome.mean()), float(table.outcome.std())
    prefix = conditional.prefix_features(table.values)
    fitted = prefix._replace(last=prefix.last[table.fitted], until=prefix.until[table.fitted])
    errors = conditional.cross_fitted_errors(key, fitted, jnp.asarray((table.outcome - mean) / sd))
    errors = np.asarray(errors, np.float64)
    relative = (errors**2).mean(axis=(1, 2))
    known = relative <= NO_ERROR
    depths = table.depths[table.fitted]
    left_out = [
        *table.left_out,
        *(LeftOut(float(c), "the prefix gives R away, to rounding error") for c in depths[known]),
    ]
    if (~known).sum() < 2:
        return why_too_few(tuple(left_out), int((~known).sum()))
    flags = ["the conditional proxy lies at or above the Bayes risk", *table.flags]
    if complete < ENOUGH_RUNS:
        flags.append(f"{complete} complete runs: fewer than {ENOUGH_RUNS}, so that it may lie far above")
    noise, noise_se, why_none = _outcome_noise(task, table.outcome)
    estimates = _assemble(
        task,
        "conditional",
        depths=depths[~known],
        risk=sd**2 * relative[~known],
        nu=conditional.degrees_of_freedom(errors[~known]),
        outcome_mean=mean,
        outcome_sd=sd,
        n_runs=complete,
        noise=noise,
        noise_se=noise_se,
        left_out=tuple(sorted(left_out, key=lambda left: left.depth)),
        flags=[*flags, *why_none],
    )
    return _if_decaying(estimates)


def _outcome_noise(task, outcome):
    """V_eval of the outcome and its standard error, NaN where the outcome set's results do not give it; why, if so."""
    unknown = float("nan"), float("nan")
    if task.outcome_examples is None:
        return *unknown, []
    examples = np.asarray(task.outcome_examples, np.float64)[complete_runs(task)]
    if examples.shape[1] < 2 or not np.isfinite(examples).all():
        return *unknown, ["the outcome set's results are incomplete: its noise is not known"]
    if not np.allclose(examples.mean(axis=1), outcome, rtol=1e-4, atol=1e-6):
        return *unknown, ["R is not the mean of the outcome set's results: its noise is not known"]
    split = split_outcome_variance(examples)
    return split.evaluation, split.evaluation_se, []


def _assemble(task, proxy, *, outcome_mean, outcome_sd, flags, **fields):
    """What a task's estimates take from its runs whatever the proxy."""
    scale = abs(outcome_mean)
    if scale < NEAR_ZERO * outcome_sd:
        scale = outcome_sd
        flags = [*flags, f"the outcome's mean is near 0 ({outcome_mean:.3g}): its scale is the standard deviation"]
    return TaskEstimates(
        task=task.task,
        proxy=proxy,
        metric=task.outcome_metric,
        metric_kind=metric_kind(task.outcome_metric),
        scale=scale,
        outcome_mean=outcome_mean,
        horizon=float(task.horizon),
        horizon_assumed=task.horizon_assumed,
        depth_unit=task.depth_unit,
        outcome_stands_in=task.outcome is None,
        higher_is_better=task.higher_is_better,
        flags=tuple(flags),
        hashes=task.run_hashes(),
        **fields,
    )


def _none_left(set_aside, proxy):
    shown = "; ".join(f"task {s.task!r}: {s.reason}" for s in set_aside[:3])
    more = f"; and {len(set_aside) - 3} more" if len(set_aside) > 3 else ""
    which = "the only task cannot be used" if len(set_aside) == 1 else f"none of {len(set_aside)} tasks can be used"
    return InputError(f"{which} ({shown}{more})", f"proxy {proxy}", _REMEDY[proxy])
