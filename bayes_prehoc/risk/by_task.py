"""Estimates of each task by one proxy, or in words the reason why there are none.

A proxy's own module knows arrays; here is what a task's runs give it, and what a reader must know of the result.
"""

import dataclasses
import functools
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from bayes_prehoc._machine import cores
from bayes_prehoc.risk import branching, conditional, run_to_run
from bayes_prehoc.risk.estimates import LeftOut, TaskEstimates
from bayes_prehoc.risk.noise import split_outcome_variance
from bayes_prehoc.risk.observed import LARGEST, complete_runs, fork_table, prefix_table, spread_table, why_too_few
from bayes_prehoc.risk.regular import regular_phase
from bayes_prehoc.runs.depths import SHARE, agreeing
from bayes_prehoc.runs.trajectories import metric_kind

__all__ = [
    "ENOUGH_RUNS",
    "FEWEST_RUNS",
    "features_of",
    "forks_of",
    "prefixes_of",
    "small_regressions",
    "spread_of",
    "why_no_outcomes",
    "with_branching",
    "with_conditional",
    "with_run_to_run",
]

FEWEST_RUNS, ENOUGH_RUNS = 20, 30
"""Complete runs that `conditional` needs when it is asked for (below the second with a flag), and by itself."""
FEW_FORKED = 10
"""Runs below which `branching` says that it tells their differences badly."""
NO_ERROR = 1e-6
"""Mean squared error, relative to the variance of R, that the smallest penalty and float32 cannot tell from none."""
TOO_FEW_GO_ON = "too few runs go on to allow for those that stopped"
_SPREADS = {"run_to_run": "spread", "branching": "spread of continuations", "conditional": "prediction error"}
NEAR_ZERO = 0.01
"""Mean of the outcome over its standard deviation, below which it is no scale."""


def spread_of(task):
    """The table of a task's spread, or the reason why there is none."""
    if task.n_runs < 2:
        return "one run only; a spread needs two" if task.n_runs else "no runs"
    if task.outcome_metric not in task.values:
        return f"no trajectory of {task.outcome_metric!r} (recorded: {', '.join(task.metrics)})"
    table = spread_table(task)
    return table if len(table.depths) >= 2 else why_too_few(table.left_out, len(table.depths))


def with_run_to_run(tasks):
    """Estimates of each task, or the reason why not."""
    tables = [spread_of(task) for task in tasks]
    kurtosis = run_to_run.pooled_excess_kurtosis([t.values for t in tables if not isinstance(t, str)])
    return [
        table if isinstance(table, str) else _run_to_run_of(task, table, kurtosis)
        for task, table in zip(tasks, tables, strict=True)
    ]


def _run_to_run_of(task, table, kurtosis):
    risk, nu = run_to_run.spread_variances(table.values, table.alive, kurtosis)
    known = np.isfinite(risk)
    left_out = [*table.left_out, *(LeftOut(float(c), TOO_FEW_GO_ON) for c in table.depths[~known])]
    if known.sum() < 2:
        return why_too_few(tuple(left_out), int(known.sum()))
    seen = np.isfinite(table.values[:, known]).sum(axis=0)
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
        depths=table.depths[known],
        risk=risk[known],
        nu=nu[known],
        correlation=run_to_run.correlation_of_variances(table.values[:, known]),
        outcome_mean=mean,
        outcome_sd=float(np.sqrt(risk[known][-1])),
        n_runs=int(seen.min()),
        left_out=tuple(sorted(left_out, key=lambda left: left.depth)),
        flags=flags,
    )
    return _in_the_regular_phase(estimates)


def forks_of(task):
    """The table of a task's continuations, or the reason why there is none."""
    if task.forked is None:
        return "its runs have no continuations forked at a depth"
    if task.n_runs < 2:
        return "one run only; branching needs two"
    table = fork_table(task)
    return table if len(table.depths) >= 2 else why_too_few(table.left_out, len(table.depths))


def with_branching(tasks):
    """By the variance of R among continuations; see `branching`."""
    tables = [forks_of(task) for task in tasks]
    return [
        table if isinstance(table, str) else _branching_of(task, table)
        for task, table in zip(tasks, tables, strict=True)
    ]


def _branching_of(task, table):
    variances, count = branching.within_run_variances(table.outcomes)
    runs = int(np.isfinite(variances).sum(axis=0).min())
    flags = [*table.flags, "what the noise of the outcome set adds is in these estimates and not told apart"]
    if runs < FEW_FORKED:
        flags.append(f"{runs} forked runs: how much they differ in what they leave open is hardly known")
    outcome = task.final_outcome()[complete_runs(task)]
    known = outcome if len(outcome) else table.outcomes[np.isfinite(table.outcomes)]
    estimates = _assemble(
        task,
        "branching",
        depths=table.depths,
        risk=np.nanmean(variances, axis=0),
        nu=branching.degrees_of_freedom(variances, count),
        correlation=branching.correlation_of_means(variances),
        outcome_mean=float(known.mean()),
        outcome_sd=float(known.std()),
        n_runs=runs,
        left_out=table.left_out,
        flags=flags,
        branches=table.outcomes.shape[2],
    )
    return _in_the_regular_phase(estimates)


def with_conditional(tasks, seed):
    """Estimates of each task, or the reason why not."""
    # The same key for all: the tasks are independent, and so what is said of one does not depend on the others.
    key = jax.random.key(np.uint32(seed))
    with small_regressions(), ThreadPoolExecutor(cores()) as pool:
        one = functools.partial(_conditional_of, key=key)
        # The first compiles for the others.
        return [*map(one, tasks[:1]), *pool.map(one, tasks[1:])]


def small_regressions():
    """A context for thousands of small decompositions, in which threads of the BLAS only wait for each other.

    On two busy cores 10 tasks of 64 runs took 217 s with them and 8 s without.
    """
    return threadpool_limits(limits=1, user_api="blas")


def _in_the_regular_phase(estimates):
    """The estimates at depths where a law of decay holds, or the reason why none does."""
    depths, risk = estimates.depths, estimates.risk
    phase = regular_phase(depths, risk, estimates.nu, estimates.horizon, estimates.proxy, estimates.correlation)
    early, late = phase.before > 0.5, phase.after > 0.5
    used = ~early & ~late
    # What grows beyond all that is left of it lies open at the horizon, whatever the law says.
    if phase.never > 0.5 or used.sum() < 2 or risk[late].max(initial=0.0) > risk[used].max():
        probability = phase.never if phase.never > 0.5 else phase.after[-1]
        return _why_no_decay(estimates, probability)
    if used.all():
        return estimates
    what = _SPREADS[estimates.proxy]
    told = [
        (early, phase.before, f"its {what} rises here, before the law of decay"),
        (late, phase.after, f"its {what} grows here, outside the law of decay"),
    ]
    left_out = [
        LeftOut(float(depths[i]), f"{words} (probability {p[i]:.2f})", float(risk[i]), float(estimates.nu[i]))
        for there, p, words in told
        for i in np.flatnonzero(there)
    ]
    growing = [f"its {what} grows after {depths[used][-1]:g}, which no law of decay describes"] if late.any() else []
    return dataclasses.replace(
        estimates,
        depths=depths[used],
        risk=risk[used],
        nu=estimates.nu[used],
        bias=None if estimates.bias is None else estimates.bias[used],
        correlation=None if estimates.correlation is None else estimates.correlation[np.ix_(used, used)],
        left_out=tuple(sorted([*estimates.left_out, *left_out], key=lambda left: left.depth)),
        flags=(*estimates.flags, *growing),
    )


def _why_no_decay(estimates, probability):
    depths, risk = estimates.depths, estimates.risk
    top = int(np.argmax(risk / np.minimum.accumulate(risk)))
    foot = int(np.argmin(risk[: top + 1]))
    low, high = (f"{np.sqrt(risk[i]):.3g} at {depths[i]:g}" for i in (foot, top))
    return (
        f"its {_SPREADS[estimates.proxy]} rises with depth (from {low} to {high}, in units of {estimates.metric}; "
        f"probability {probability:.2f}), which no law of decay describes"
    )


def why_no_outcomes(task):
    """Why the outcomes of a task's complete runs are no sample of those of all its runs, or None."""
    complete = complete_runs(task)
    if complete.sum() < FEWEST_RUNS:
        return f"{complete.sum()} of {task.n_runs} runs are complete; the conditional proxy needs {FEWEST_RUNS}"
    stopped = (~complete & np.isnan(task.diverged_at)).sum()
    # The small slack keeps a tenth of ten from being missed by rounding.
    if stopped <= (1.0 - SHARE) * task.n_runs + 1e-9:
        return None
    return (
        f"{stopped} of {task.n_runs} runs stopped before the horizon: the outcomes of the others are a selection "
        "(leave out runs that stopped whatever they had reached)"
    )


def prefixes_of(task):
    """The table of a task's prefixes and outcomes, or the reason why there is none."""
    reason = why_no_outcomes(task)
    if reason is not None:
        return reason
    table = prefix_table(task)
    if agreeing(table.outcome[:, None])[0]:
        return f"R is constant over {len(table.outcome)} complete runs ({table.outcome[0]:g})"
    largest = np.abs(table.outcome).max()
    if not 1.0 / LARGEST < largest < LARGEST:
        return f"R is too large or too small for a variance (up to {largest:.3g})"
    return table if len(table.fitted) >= 2 else why_too_few(table.left_out, len(table.fitted))


def features_of(table):
    """Features of the prefixes up to the depths that are fitted."""
    prefix = conditional.prefix_features(table.values)
    return prefix._replace(last=prefix.last[table.fitted], until=prefix.until[table.fitted])


def _conditional_of(task, key):
    table = prefixes_of(task)
    if isinstance(table, str):
        return table
    complete = len(table.outcome)
    mean, sd = float(table.outcome.mean()), float(table.outcome.std())
    standard = jnp.asarray((table.outcome - mean) / sd)
    most, half = (
        np.asarray(errors, np.float64)
        for errors in conditional.cross_fitted_errors(
            key, features_of(table), standard, conditional.MOST, conditional.HALVES
        )
    )
    known = (most**2).mean(axis=(1, 2)) <= NO_ERROR
    depths = table.depths[table.fitted]
    left_out = [
        *table.left_out,
        *(LeftOut(float(c), "the prefix gives R away, to rounding error") for c in depths[known]),
    ]
    if (~known).sum() < 2:
        return why_too_few(tuple(left_out), int((~known).sum()))
    found = conditional.extrapolated(most[~known], half[~known])
    flags = ["the conditional proxy lies at or above the Bayes risk", *table.flags]
    if complete < ENOUGH_RUNS:
        flags.append(f"{complete} complete runs: fewer than {ENOUGH_RUNS}, so that it may lie far above")
    noise, noise_se, why_none = _outcome_noise(task, table.outcome)
    estimates = _assemble(
        task,
        "conditional",
        depths=depths[~known],
        risk=sd**2 * found.risk,
        nu=found.nu,
        bias=found.bias,
        correlation=found.correlation,
        outcome_mean=mean,
        outcome_sd=sd,
        n_runs=complete,
        noise=noise,
        noise_se=noise_se,
        left_out=tuple(sorted(left_out, key=lambda left: left.depth)),
        flags=[*flags, *why_none],
    )
    return _in_the_regular_phase(estimates)


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
        family=task.family,
        descriptors=task.descriptors,
        **fields,
    )
