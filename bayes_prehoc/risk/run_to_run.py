"""The spread between runs, Var over seeds of a metric at depth c: the proxy of arXiv 2606.17649.

It says how far the runs still differ at a depth, not how unpredictable their end is. Its sampling error follows the
kurtosis of the runs: the sample variance of n runs with excess kurtosis g has relative variance g / n + 2 / (n - 1),
hence nu = 2 / (g / n + 2 / (n - 1)) effective degrees of freedom.

Runs that stop when they reach a target are missing because of what they reached: the variance of those that go on is
too small (in the tests by a third or more where a quarter to a third have stopped). But the stopping follows from
values that were seen, and given those, what would have come is like what came of the others. So the variance at a depth
is carried over from the depth before by the regression on it of the runs that were seen at both,

.. math:: V_i = (b^2 - s^2 / S_{xx}) V_{i-1} + s^2,

b the slope, s^2 the residual variance, S_xx the sum of squares of the values before; with nobody missing it is the
sample variance. It holds for runs whose next value depends on the last one linearly.

Source: Anderson 1957 (normal samples of which ever fewer values were seen).
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from bayes_prehoc.runs.depths import agreeing

__all__ = ["correlation_of_variances", "pooled_excess_kurtosis", "spread_variances"]

FEWEST_RUNS = 4
"""Runs that tell anything of a correlation."""
FEWEST_PAIRS = 5
"""Runs seen at two depths that a regression needs."""
LEAST_NU = 1.0
"""Degrees of freedom, as of two runs, below which a variance that was carried over says nothing."""
NORMAL_RUNS = 50.0
"""Weight of zero excess kurtosis, in runs."""


def spread_variances(
    values: Float[np.ndarray, "n D"], alive: Bool[np.ndarray, "n D"], excess_kurtosis: float
) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, " D"]]:
    """Variance at each depth of the runs alive there, whether seen or not, and its effective degrees of freedom.

    Parameters
    ----------
    values : array (n, D)
        NaN where a run was not seen; at the first depth the variance is that of those seen.
    alive : array (n, D)
        False from where a run has diverged.
    excess_kurtosis : float

    Returns
    -------
    risk, nu : arrays (D,)
        NaN where those missing cannot be allowed for: fewer than five runs were seen both there and at the depth
        before, or the estimate is not positive or worth less than one degree of freedom.
    """
    risk, nu = np.full((2, values.shape[1]), np.nan)
    for i in range(values.shape[1]):
        # Who diverges is gone, at earlier depths too, so that the variance that is carried over is that of the others.
        risk[i], error = _carried_over(values[alive[:, i], : i + 1], excess_kurtosis)
        nu[i] = 2.0 * risk[i] ** 2 / error if error > 0.0 else np.nan
    complete = ~(alive & ~np.isfinite(values)).any(axis=0)
    known = (risk > 0.0) & (complete | (nu >= LEAST_NU))
    return np.where(known, risk, np.nan), np.where(known, nu, np.nan)


def _carried_over(values, excess_kurtosis):
    """Variance at the last column, and the variance of that estimate."""
    there = np.isfinite(values)
    complete = np.flatnonzero(there.all(axis=0))
    first = complete[-1] if len(complete) else 0
    seen = values[there[:, first], first]
    if len(seen) < 2:
        return np.nan, np.nan
    variance = seen.var(ddof=1)
    error = variance**2 * _relative_error(len(seen), excess_kurtosis)
    for i in range(first + 1, values.shape[1]):
        both = there[:, i - 1] & there[:, i]
        pairs = both.sum()
        if pairs < FEWEST_PAIRS:
            return np.nan, np.nan
        before, now = (values[both, j] - values[both, j].mean() for j in (i - 1, i))
        squares = before @ before
        if squares == 0.0:
            return np.nan, np.nan
        slope = (before @ now) / squares
        residual = ((now - slope * before) ** 2).sum() / (pairs - 2)
        error = (
            slope**4 * error
            + 4.0 * slope**2 * variance**2 * residual / squares
            + residual**2 * (excess_kurtosis / pairs + 2.0 / (pairs - 2))
        )
        variance = (slope**2 - residual / squares) * variance + residual
    return variance, error


def correlation_of_variances(values: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "D D"] | None:
    """Correlation of sample variances at different depths of the same runs; None from fewer than `FEWEST_RUNS` runs.

    For normal runs it is the squared correlation of their values; of that the share is taken off that few runs show
    without any (Ezekiel 1930, adjusted R^2). 0 where fewer runs were seen at both.
    """
    if len(values) < FEWEST_RUNS:
        return None
    there = np.isfinite(values).astype(np.float64)
    pairs = there.T @ there
    squared = pd.DataFrame(values).corr(min_periods=FEWEST_RUNS).to_numpy(copy=True) ** 2
    adjusted = 1.0 - (1.0 - squared) * (pairs - 1.0) / np.maximum(pairs - 2.0, 1.0)
    found = np.clip(np.nan_to_num(adjusted), 0.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return found


def pooled_excess_kurtosis(tables: list[Float[np.ndarray, "_ _"]]) -> float:
    """Excess kurtosis common to all tasks and depths, at least 0, shrunk towards 0 where runs are few.

    Averages the sample excess kurtosis that is unbiased for normal runs (Joanes and Gill 1998, G2) over columns with
    four runs or more, weighted by runs per task; at three runs it would be a constant. Depths of one task share their
    runs, so many depths of few runs count no more than one.
    """
    total, weight = 0.0, 0.0
    for values in tables:
        finite = np.isfinite(values)
        several = (finite.sum(axis=0) >= 4) & ~agreeing(values)
        if not several.any():
            continue
        x, n = np.where(finite, values, np.nan)[:, several], finite.sum(axis=0)[several]
        d = x - np.nanmean(x, axis=0)
        d /= np.nanmax(np.abs(d), axis=0)
        g2 = np.nanmean(d**4, axis=0) / np.nanmean(d**2, axis=0) ** 2 - 3.0
        columns = (n - 1.0) / ((n - 2.0) * (n - 3.0)) * ((n + 1.0) * g2 + 6.0)
        total += len(values) * float(columns.mean())
        weight += len(values)
    return max(total / (weight + NORMAL_RUNS), 0.0)


def _relative_error(count, excess_kurtosis):
    """Variance of a sample variance of `count` runs, over the square of its expectation."""
    return excess_kurtosis / count + 2.0 / (count - 1)
