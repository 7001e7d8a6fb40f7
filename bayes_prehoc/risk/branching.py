r"""The branching proxy: how much the outcome still varies among continuations of one run.

Every run is forked at depth c into b continuations with fresh randomness. One-way random effects: with s_k^2 the
variance of the outcome among the continuations of run k,

.. math:: \hat U(c) = \frac{1}{N} \sum_k s_k^2, \qquad E[\hat U(c)] = E[Var(R | \theta_c)],

without bias and without a regression. Its scatter is that of the s_k^2 over runs, which need not have one expectation:
nu = 2 mean(s^2)^2 / (Var(s^2) / N), and N (b - 1) only where they have.

theta_c is the whole state of a run, which tells more than a trajectory of metrics: what a prefix leaves open is as
much or more.

Source: Searle, Casella and McCulloch 1992 (one-way random effects).
"""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

__all__ = ["correlation_of_means", "degrees_of_freedom", "within_run_variances"]

EQUAL_RUNS = 3.0
"""Weight of equal variances among normal continuations, in runs."""
FEWEST_RUNS = 4
"""Runs that tell anything of a correlation."""
LEAST_LEFT = 0.2
"""Bound of the correction for few runs."""


def within_run_variances(
    forked: Float[np.ndarray, "n F b"],
) -> tuple[Float[np.ndarray, "n F"], Int[np.ndarray, "n F"]]:
    """Unbiased variance over the finite continuations (NaN below two), and how many there are."""
    finite = np.isfinite(forked)
    count = finite.sum(axis=2)
    kept = np.where(finite, forked, 0.0)
    mean = kept.sum(axis=2) / np.maximum(count, 1)
    squares = np.where(finite, (forked - mean[:, :, None]) ** 2, 0.0).sum(axis=2)
    return np.where(count > 1, squares / np.maximum(count - 1, 1), np.nan), count


def degrees_of_freedom(variances: Float[np.ndarray, "n F"], count: Int[np.ndarray, "n F"]) -> Float[np.ndarray, " F"]:
    """Effective degrees of freedom of the mean over runs of each column of variances.

    The relative variance r of s^2 over runs is pooled over depths, because few runs tell it badly. The square of a
    mean of N runs is too large by the share r / N of it, which is taken off; and r is shrunk by `EQUAL_RUNS` runs
    towards that of equal variances among normal continuations, 2 / (b - 1).

    Parameters
    ----------
    variances : array (n, F)
        NaN where a run has none; two or more in each column, not all zero.
    count : array (n, F)
        Continuations behind each.
    """
    there = np.isfinite(variances)
    runs = there.sum(axis=0)
    relative = np.nanvar(variances, axis=0, ddof=1) / np.nanmean(variances, axis=0) ** 2
    relative /= np.maximum(1.0 - relative / runs, LEAST_LEFT)
    equal = (2.0 / (count - 1.0))[there].mean()
    several = runs.mean()
    return 2.0 * runs / ((several * relative.mean() + EQUAL_RUNS * equal) / (several + EQUAL_RUNS))


def correlation_of_means(variances: Float[np.ndarray, "n F"]) -> Float[np.ndarray, "F F"] | None:
    """Correlation of the mean variances at different depths of the same runs; None from fewer than `FEWEST_RUNS` runs.

    That of the variances over runs, shrunk by `EQUAL_RUNS` runs towards none: continuations of different depths share
    a run and no randomness.
    """
    if len(variances) < FEWEST_RUNS:
        return None
    there = np.isfinite(variances).astype(np.float64)
    pairs = there.T @ there
    found = pd.DataFrame(variances).corr(min_periods=FEWEST_RUNS).to_numpy(copy=True) * pairs / (pairs + EQUAL_RUNS)
    found = np.nan_to_num(found)
    np.fill_diagonal(found, 1.0)
    return found
