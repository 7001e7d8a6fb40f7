"""Which depths the runs of a task share.

Recorded runs are evaluated where their authors chose: some stop early, some evaluate at steps of their own. A
risk can be estimated at a depth only from runs that were all seen there, so a depth counts as shared when
nearly all runs that are still alive have a finite value, and the values differ.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs.trajectories import TaskRuns

__all__ = ["SHARE", "agreeing", "shared_depths", "summarise_left_out"]

SHARE = 0.9
"""Share of the runs not yet diverged that must have been seen at a depth for it to be used."""

_AGREE = "zero variance: all runs agree"
_SEEN = re.compile(r"seen in (\d+) of (\d+) runs")


def shared_depths(
    runs: TaskRuns, metric: str, share: float = SHARE
) -> tuple[np.ndarray, tuple[tuple[float, str], ...]]:
    """Find the depths at which nearly all runs have a finite value of one metric, and the values differ.

    A run that has diverged (an infinite value of any metric) counts as gone from that depth on; a run that
    stopped early counts as missing at every later depth.

    Parameters
    ----------
    runs : TaskRuns
        n runs, D depths.
    metric : str
        One of `runs.metrics`.
    share : float, optional
        Share of the runs not yet diverged that must have a value, in (0, 1].

    Returns
    -------
    usable : bool array (D,)
    left_out : tuple of (float, str)
        The other depths in increasing order, each with its reason; `summarise_left_out` shortens the list.

    Raises
    ------
    InputError
        If the metric was not recorded.
    """
    if metric not in runs.values:
        raise InputError(f"no metric {metric!r}", f"task {runs.task!r}", f"The metrics are: {', '.join(runs.metrics)}.")
    value = runs.values[metric]
    diverged_at = np.where(np.isnan(runs.diverged_at), np.inf, runs.diverged_at)
    alive = runs.depths < diverged_at[:, None]
    finite = np.isfinite(value) & alive
    n_alive, n_seen = alive.sum(axis=0), finite.sum(axis=0)
    agree = agreeing(np.where(finite, value, np.nan))
    # The small slack keeps 0.9 * 10 = 9 from being missed by rounding.
    enough = (n_seen >= share * n_alive - 1e-9) & (n_seen >= 2)
    usable = enough & ~agree & (runs.depths > 0)

    def reason(column):
        if runs.depths[column] <= 0:
            return "depth 0 is not fitted"
        if not enough[column]:
            gone = runs.n_runs - n_alive[column]
            seen = f"seen in {n_seen[column]} of {n_alive[column]} runs"
            return f"{seen} ({gone} diverged)" if gone else seen
        return _AGREE

    return usable, tuple((float(runs.depths[c]), reason(c)) for c in np.flatnonzero(~usable))


def agreeing(value: np.ndarray) -> np.ndarray:
    """Tell the depths at which all finite values are equal, to within rounding of float64.

    Parameters
    ----------
    value : float array (n, D)
        Only finite values are compared.

    Returns
    -------
    bool array (D,)
        True where there are two or more finite values with a range below 1e-12 of the largest magnitude.
    """
    finite = np.isfinite(value)
    low = np.where(finite, value, np.inf).min(axis=0, initial=np.inf)
    high = np.where(finite, value, -np.inf).max(axis=0, initial=-np.inf)
    several = finite.sum(axis=0) >= 2
    low, high = np.where(several, low, 0.0), np.where(several, high, 0.0)
    return several & (high - low <= 1e-12 * np.maximum(np.abs(low), np.abs(high)))


def summarise_left_out(left_out: Sequence[tuple[float, str]]) -> str:
    """Shorten the reasons of `shared_depths` to one line of counts, the most frequent first.

    Parameters
    ----------
    left_out : sequence of (float, str)

    Returns
    -------
    str
        Such as "118 depths seen in 1 to 8 of 10 runs; 1 depth with zero variance: all runs agree"; empty if
        nothing was left out.
    """
    seen, others = [], Counter()
    for _, reason in left_out:
        found = _SEEN.match(reason)
        if found:
            seen.append((int(found[1]), int(found[2])))
        else:
            others[reason] += 1
    parts = [(count, _phrase(count, reason)) for reason, count in others.items()]
    if seen:
        few, many = (_span(numbers) for numbers in zip(*seen, strict=True))
        parts.append((len(seen), f"{_depths(len(seen))} seen in {few} of {many} runs"))
    return "; ".join(text for _, text in sorted(parts, key=lambda part: -part[0]))


def _span(numbers):
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


def _depths(count):
    return f"{count} depth{'' if count == 1 else 's'}"


def _phrase(count, reason):
    if reason == _AGREE:
        return f"{_depths(count)} with {reason}"
    return reason if count == 1 else f"{_depths(count)}: {reason}"
