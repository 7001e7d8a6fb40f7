r"""The part of the outcome's variance that is only the outcome set's finite size.

Y is n runs by m examples, s_A^2 the variance over runs of the row means, s_i^2 that of column i. Then

.. math:: V_{train} = \frac{m}{m-1} \Big( s_A^2 - m^{-2} \sum_i s_i^2 \Big), \qquad
    V_{eval} = s_A^2 - V_{train} = \frac{1}{m-1} \Big( \frac{1}{m} \sum_i s_i^2 - s_A^2 \Big),

for any per-example result on an outcome set that the runs share. V_train is unbiased only if never clipped: with few
runs a good part of its estimates is negative, and stays so. V_eval is never negative, and small against its parts, so
it is computed by the second form.

Source: Jordan 2023 (arXiv 2304.01910); the standard error is the jackknife over runs, for the examples that there are.
V_eval of other examples differs by more (seen: 3 to 5 times the standard error at 64 runs).
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs.trajectories import TaskRuns

__all__ = ["NoiseSplit", "evaluation_variance_of_separate_sets", "split_by_depth", "split_outcome_variance"]

FEWEST_RUNS = 3
"""That a standard error needs."""


class NoiseSplit(NamedTuple):
    """Variance of training and of evaluation with their standard errors, in the squared unit of the outcome."""

    training: float
    training_se: float
    evaluation: float
    evaluation_se: float


def split_outcome_variance(examples: Bool[np.ndarray, "n m"] | Float[np.ndarray, "n m"]) -> NoiseSplit:
    """Split the variance over runs of the mean result into training and evaluation.

    Parameters
    ----------
    examples : array (n, m)
        Result of every run on every example of one shared outcome set; n >= 3, m >= 2.
    """
    examples = np.asarray(examples, np.float64)
    n = len(examples)
    centred = examples - examples.mean(axis=0)
    sums = centred.sum(axis=0), (centred**2).sum(axis=0)
    means = centred.mean(axis=1)
    of_means, evaluation = _variances(n, *sums, means.sum(), (means**2).sum())
    of_means_without, without = _variances(
        n - 1, sums[0] - centred, sums[1] - centred**2, means.sum() - means, (means**2).sum() - means**2
    )
    return NoiseSplit(
        float(of_means - evaluation),
        _jackknife(of_means_without - without),
        float(evaluation),
        _jackknife(without),
    )


def split_by_depth(runs: TaskRuns) -> pd.DataFrame:
    """The split at every depth, from what each run made of each example there.

    Returns
    -------
    DataFrame
        Columns depth, runs (that have all results there), and those of `NoiseSplit`; a depth that fewer than three runs
        reached is left out.

    Raises
    ------
    InputError
        If results by example were not kept, or the examples are fewer than two.
    """
    examples, where = runs.depth_examples, f"task {runs.task!r}"
    if examples is None:
        raise InputError("no results by example at each depth", where, "Probe with keep_examples=True.")
    if examples.shape[2] < 2:
        raise InputError("one example only", where, "A split needs an outcome set of two or more.")
    rows = []
    for depth, results in zip(runs.depths, np.moveaxis(examples, 1, 0), strict=True):
        results = np.asarray(results, np.float64)
        results = results[np.isfinite(results).all(axis=1)]
        if len(results) >= FEWEST_RUNS:
            rows.append((depth, len(results), *split_outcome_variance(results)))
    return pd.DataFrame(rows, columns=["depth", "runs", *NoiseSplit._fields])


def evaluation_variance_of_separate_sets(
    accuracy: Float[np.ndarray, " n"], examples: int | np.ndarray
) -> tuple[float, float]:
    """V_eval of accuracies that runs have on sets of their own, mean of a (1 - a) / (m - 1), and its standard error.

    Where all runs share one set this is wrong, and too large: what is easy or hard for all of them varies between sets,
    but not between runs.

    Parameters
    ----------
    accuracy : array (n,)
        Between 0 and 1; two or more.
    examples : int or int array (n,)
        m, size of each run's set; two or more.

    Raises
    ------
    InputError
        If an accuracy or a size is impossible, or there are fewer than two runs.
    """
    accuracy, examples = np.asarray(accuracy, np.float64), np.asarray(examples)
    where = "evaluation_variance_of_separate_sets"
    if accuracy.ndim != 1 or len(accuracy) < 2:
        raise InputError("fewer than two accuracies", where, "Give one of each run.")
    if not ((accuracy >= 0.0) & (accuracy <= 1.0)).all():
        raise InputError("an accuracy is not between 0 and 1", where, "Give shares, not percentages.")
    if not (examples >= 2).all():
        raise InputError("a set has fewer than two examples", where, "Give the size of each run's outcome set.")
    own = accuracy * (1.0 - accuracy) / (examples - 1)
    return float(own.mean()), float(own.std(ddof=1) / np.sqrt(len(own)))


def _jackknife(without: Float[np.ndarray, " n"]) -> float:
    """Standard error from the values without each run."""
    return float(np.sqrt((len(without) - 1) / len(without) * np.sum((without - without.mean()) ** 2)))


def _variances(count, total, squares, mean_total, mean_squares):
    """Variance of the runs' means and V_eval, from sums over runs: of each example's results (..., m) and of means."""
    m = total.shape[-1]
    of_examples = ((squares - total**2 / count) / (count - 1)).mean(axis=-1)
    of_means = (mean_squares - mean_total**2 / count) / (count - 1)
    return of_means, (of_examples - of_means) / (m - 1)
