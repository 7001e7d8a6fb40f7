"""The spread between runs, Var over seeds of a metric at depth c: the proxy of arXiv 2606.17649.

It says how far the runs still differ at a depth, not how unpredictable their end is. Its sampling error follows the
kurtosis of the runs: the sample variance of n runs with excess kurtosis g has relative variance g / n + 2 / (n - 1),
hence nu = 2 / (g / n + 2 / (n - 1)) effective degrees of freedom.
"""

import numpy as np
from jaxtyping import Float, Int

from bayes_prehoc.runs.depths import agreeing

__all__ = ["degrees_of_freedom", "pooled_excess_kurtosis", "sample_variances"]

NORMAL_RUNS = 50.0
"""Weight of zero excess kurtosis, in runs."""


def sample_variances(values: Float[np.ndarray, "n D"]) -> tuple[Float[np.ndarray, " D"], Int[np.ndarray, " D"]]:
    """Unbiased variance over the finite values of each column (NaN below two), and how many there are."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    kept = np.where(finite, values, 0.0)
    deviation = np.where(finite, kept - kept.sum(axis=0) / np.maximum(count, 1), 0.0)
    return np.where(count > 1, (deviation**2).sum(axis=0) / np.maximum(count - 1, 1), np.nan), count


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


def degrees_of_freedom(count: Int[np.ndarray, " D"], excess_kurtosis: float) -> Float[np.ndarray, " D"]:
    """Effective degrees of freedom of sample variances of `count` runs (two or more)."""
    return 2.0 / (excess_kurtosis / count + 2.0 / (count - 1.0))
