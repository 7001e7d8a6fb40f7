"""What each proxy sees of a task's runs: which runs, at which depths, and what was left out with its reason.

The spread between runs sees whoever is alive at a depth. A regression of R on the prefix sees complete runs only, and
needs a table without gaps: a missing cell holds the run's last value before it, which is what a predictor would have.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from bayes_prehoc.risk.estimates import LeftOut
from bayes_prehoc.runs.depths import agreeing, shared_depths, summarise_left_out
from bayes_prehoc.runs.trajectories import TaskRuns

__all__ = [
    "LARGEST",
    "ForkTable",
    "PrefixTable",
    "SpreadTable",
    "complete_runs",
    "fork_table",
    "prefix_table",
    "spread_table",
    "why_too_few",
]

MOST_DEPTHS = 32
"""The conditional proxy is estimated at no more: neighbours tell nearly the same, and each costs a regression."""
LARGEST = 1e100
"""Values beyond this, or all below its inverse, have no variance in float64."""


class SpreadTable(NamedTuple):
    """The metric of the runs that are alive at each used depth.

    Attributes
    ----------
    depths : float64 (D,)
    values : float64 (n, D), NaN where a run has no value or has diverged
    alive : bool (n, D), False from where a run has diverged
    left_out : the other depths
    flags : what was missing, in words
    """

    depths: np.ndarray
    values: np.ndarray
    alive: np.ndarray
    left_out: tuple[LeftOut, ...]
    flags: tuple[str, ...]


class PrefixTable(NamedTuple):
    """The prefixes of the complete runs, without gaps, and their outcome.

    Attributes
    ----------
    depths : float64 (D,), all depths whose values are features
    fitted : int (F,), which of them are estimated
    values : float64 (M, n, D)
    outcome : float64 (n,)
    left_out : the depths that are not estimated
    flags : what was left out or filled, in words
    """

    depths: np.ndarray
    fitted: np.ndarray
    values: np.ndarray
    outcome: np.ndarray
    left_out: tuple[LeftOut, ...]
    flags: tuple[str, ...]


class ForkTable(NamedTuple):
    """Outcomes of the continuations of each run, from the depths that are used.

    Attributes
    ----------
    depths : float64 (F,)
    outcomes : float64 (n, F, b), NaN where a continuation has none or diverged
    left_out : the other depths
    flags : what was missing, in words
    """

    depths: np.ndarray
    outcomes: np.ndarray
    left_out: tuple[LeftOut, ...]
    flags: tuple[str, ...]


def complete_runs(runs: TaskRuns) -> np.ndarray:
    """Runs that reached the horizon with a finite R and never diverged, bool (n,); none where R is not known."""
    if runs.outcome is None and runs.outcome_metric not in runs.values:
        return np.zeros(runs.n_runs, bool)
    return np.isfinite(runs.final_outcome()) & np.isnan(runs.diverged_at)


def spread_table(runs: TaskRuns) -> SpreadTable:
    """Values of the outcome metric, one of the trajectory's, at the depths that the runs share."""
    usable, left_out = _within_horizon(runs, *shared_depths(runs, runs.outcome_metric))
    # A run that diverged in any metric is gone, even if this one is still finite.
    gone = runs.depths >= np.where(np.isnan(runs.diverged_at), np.inf, runs.diverged_at)[:, None]
    values = np.where(gone, np.nan, runs.values[runs.outcome_metric])
    size = np.where(np.isnan(values), 0.0, np.abs(values)).max(axis=0)
    extreme = usable & ((size > LARGEST) | (size < 1.0 / LARGEST))
    left_out += tuple(LeftOut(float(c), "values too large or too small for a variance") for c in runs.depths[extreme])
    left_out = tuple(sorted(left_out, key=lambda left: left.depth))
    usable &= ~extreme
    depths, values = runs.depths[usable], values[:, usable]
    flags = _diverged_flag(runs, "the spread is that of the runs still alive")
    missing = (np.isnan(values) & ~gone[:, usable]).sum(axis=0)
    if missing.any():
        flags.append(
            f"up to {missing.max()} of {runs.n_runs} runs have no value at {(missing > 0).sum()} of the "
            f"{len(depths)} depths used; the spread there allows for them by what their values before tell"
        )
    return SpreadTable(depths, values, ~gone[:, usable], left_out, tuple(flags))


def fork_table(runs: TaskRuns) -> ForkTable:
    """Outcomes of the continuations, at the depths from which two or more runs have two that differ."""
    outcomes = np.where(np.isfinite(runs.forked), runs.forked, np.nan)
    several = np.isfinite(outcomes).sum(axis=2) >= 2
    outcomes = np.where(several[:, :, None], outcomes, np.nan)
    flat = outcomes.transpose(0, 2, 1)
    agree = np.all([agreeing(own) | ~there for own, there in zip(flat, several, strict=True)], axis=0)
    size = np.where(np.isnan(flat), 0.0, np.abs(flat)).max(axis=(0, 1))
    reasons = (
        (runs.fork_depths <= 0, "depth 0 is not fitted"),
        (several.sum(axis=0) < 2, "fewer than two runs have two finite continuations"),
        (agree, "zero variance: all continuations of a run agree"),
        ((size > LARGEST) | (size < 1.0 / LARGEST), "values too large or too small for a variance"),
    )
    why = np.select([wrong for wrong, _ in reasons], [reason for _, reason in reasons], "")
    used = why == ""
    left_out = tuple(LeftOut(float(c), str(r)) for c, r in zip(runs.fork_depths[~used], why[~used], strict=True))
    flags = []
    lost = (~several[:, used]).sum(axis=0)
    if lost.any():
        flags.append(
            f"up to {lost.max()} of {runs.n_runs} runs have fewer than two finite continuations; the variance there is "
            "that of the others"
        )
    single = int((~np.isfinite(runs.forked) & several[:, :, None])[:, used].sum())
    if single:
        flags.append(f"{single} continuations diverged or have no outcome; the variance is that of the others")
    return ForkTable(runs.fork_depths[used], outcomes[:, used], left_out, tuple(flags))


def prefix_table(runs: TaskRuns) -> PrefixTable:
    """Values of all metrics of the complete runs, at the depths that these share."""
    complete = complete_runs(runs)
    flags = _diverged_flag(runs, "left out")
    other = int((~complete & np.isnan(runs.diverged_at)).sum())
    if other:
        flags.append(f"{other} of {runs.n_runs} runs have no outcome at the horizon and are left out")
    outcome = runs.final_outcome()[complete]
    used = dataclasses.replace(
        runs,
        seeds=tuple(s for s, there in zip(runs.seeds, complete, strict=True) if there),
        values={metric: value[complete] for metric, value in runs.values.items()},
    )
    usable, left_out = _within_horizon(used, *_shared_by_any(used))
    columns = np.flatnonzero(usable)
    values, filled = [], {}
    for metric, value in used.values.items():
        values.append(_without_gaps(value)[:, columns])
        missing = np.isnan(value[:, columns])
        if missing.any():
            filled[metric] = f"{missing.sum()} of {missing.size} values of {metric!r}"
    if filled:
        flags.append(
            f"{', '.join(filled.values())} are missing at the depths used; each is filled with the run's last value "
            "before it (the mean of the others at the start)"
        )
    fitted = np.arange(len(columns))
    if runs.outcome is None and len(columns) and runs.depths[columns[-1]] >= runs.horizon:
        fitted = fitted[:-1]
        reason = f"R is the value of {runs.outcome_metric!r} at this depth: nothing is left open by construction"
        left_out += (LeftOut(float(runs.depths[columns[-1]]), reason),)
    if len(fitted) > MOST_DEPTHS:
        kept = fitted[_log_spaced(runs.depths[columns[fitted]])]
        reason = f"not estimated: {len(kept)} of {len(fitted)} depths are, log-spaced"
        left_out += tuple(LeftOut(float(runs.depths[columns[i]]), reason) for i in fitted if i not in kept)
        fitted = kept
    left_out = tuple(sorted(left_out, key=lambda left: left.depth))
    return PrefixTable(runs.depths[columns], fitted, np.array(values), outcome, left_out, tuple(flags))


def why_too_few(left_out: tuple[LeftOut, ...], used: int) -> str:
    """Reason to set a task aside that has fewer than two depths to estimate."""
    reasons = summarise_left_out([(left.depth, left.reason) for left in left_out])
    return f"fewer than two usable depths ({used}; left out: {reasons or 'none'})"


def _shared_by_any(runs):
    """Depths shared in any metric; the others with the reason of the metric that comes closest."""
    shared = [shared_depths(runs, metric) for metric in sorted(runs.metrics, key=lambda m: m != runs.outcome_metric)]
    usable = np.any([mask for mask, _ in shared], axis=0)
    # A metric that all runs have but agree in explains more than one that is not recorded there.
    reasons = {}
    for _, left_out in shared:
        for depth, reason in left_out:
            if depth not in reasons or reasons[depth].startswith("seen in 0 "):
                reasons[depth] = reason
    return usable, tuple((float(c), reasons[float(c)]) for c in runs.depths[~usable])


def _within_horizon(runs, usable, left_out):
    beyond = runs.depths > runs.horizon
    reasons = dict(left_out)
    reasons |= {float(depth): "beyond the horizon" for depth in runs.depths[beyond]}
    return usable & ~beyond, tuple(LeftOut(depth, reasons[depth]) for depth in sorted(reasons))


def _without_gaps(value):
    """Last value before each gap along the depths; where there is none, the mean of the other runs; else 0."""
    there = ~np.isnan(value)
    before = np.maximum.accumulate(np.where(there, np.arange(value.shape[1]), -1), axis=1)
    filled = np.where(before >= 0, np.take_along_axis(value, np.maximum(before, 0), axis=1), np.nan)
    count = (before >= 0).sum(axis=0)
    mean = np.where(before >= 0, filled, 0.0).sum(axis=0) / np.maximum(count, 1)
    return np.where(before >= 0, filled, mean)


def _log_spaced(depths):
    """Indices of at most `MOST_DEPTHS` of the depths (D,), the first and the last among them."""
    targets = np.log(np.geomspace(depths[0], depths[-1], MOST_DEPTHS))
    return np.unique(np.abs(np.log(depths) - targets[:, None]).argmin(axis=1))


def _diverged_flag(runs, consequence):
    at = runs.diverged_at[np.isfinite(runs.diverged_at)]
    if not len(at):
        return []
    where = f"at depth {at.min():g}" if at.min() == at.max() else f"at depths {at.min():g} to {at.max():g}"
    return [f"{len(at)} of {runs.n_runs} runs diverged {where}; {consequence}"]
