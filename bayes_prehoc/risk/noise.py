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
from jaxtyping import Bool, Float

__all__ = ["NoiseSplit", "split_outcome_variance"]


class NoiseSplit(NamedTuple):
    """Variance of training and of evaluation, in the squared unit of the outcome, and the latter's standard error."""

    training: float
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
    evaluation = _evaluation_variance(n, *sums, means.sum(), (means**2).sum())
    without = _evaluation_variance(
        n - 1, sums[0] - centred, sums[1] - centred**2, means.sum() - means, (means**2).sum() - means**2
    )
    se = np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))
    return NoiseSplit(float(means.var(ddof=1) - evaluation), float(evaluation), float(se))


def _evaluation_variance(count, total, squares, mean_total, mean_squares):
    """V_eval from sums over runs: of each example's results (..., m) and of the runs' means (...)."""
    m = total.shape[-1]
    of_examples = ((squares - total**2 / count) / (count - 1)).mean(axis=-1)
    of_means = (mean_squares - mean_total**2 / count) / (count - 1)
    return (of_examples - of_means) / (m - 1)
