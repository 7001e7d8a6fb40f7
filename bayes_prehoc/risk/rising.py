"""Estimates that rise with depth, which no decay can describe.

The closest curve that never rises is the isotonic regression of log U-hat, weighted by the sampling variance
Var(log U-hat) = trigamma(nu / 2). What the estimates scatter around it beyond their sampling error is misfit that every
decaying curve has. A task is judged to rise where that misfit is large and is no chance, whichever one depth is left
out: a single outlying depth, and wobbling, are left to the model's misfit dispersion.

Source: Barlow et al. 1972 (isotonic regression).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.optimize import isotonic_regression
from scipy.special import polygamma

__all__ = ["Rise", "find_rise"]

LARGE = 0.5
"""Misfit, in log risk, from which a rise is set aside: every decaying curve is off by a factor of 1.6 or so."""
RARE = 1e-3
"""Chance of so much scatter around the isotonic curve if nothing rose. Conservative: the regression takes up some of
it, and depths that share seeds scatter together."""


class Rise(NamedTuple):
    """Where estimates rise: indices of the foot and the top of the largest rise, the misfit and its p-value."""

    foot: int
    top: int
    misfit: float
    p_value: float


def find_rise(risk: Float[np.ndarray, " D"], nu: Float[np.ndarray, " D"]) -> Rise | None:
    """The rise that keeps estimates at increasing depths from being a decay, or None.

    Parameters
    ----------
    risk : positive array (D,)
    nu : array (D,)
        Degrees of freedom.
    """
    log_risk, variance = np.log(risk), polygamma(1, np.asarray(nu) / 2.0)
    without_one = [_scatter(np.delete(log_risk, i), np.delete(variance, i)) for i in range(len(log_risk))]
    misfit, p_value = min(misfit for misfit, _ in without_one), max(p for _, p in without_one)
    if misfit <= LARGE or p_value >= RARE:
        return None
    lowest = np.minimum.accumulate(log_risk)
    top = int(np.argmax(log_risk - lowest))
    return Rise(int(np.argmin(log_risk[: top + 1])), top, misfit, p_value)


def _scatter(log_risk, variance):
    """Misfit around the closest curve that never rises, and the chance of so much without any."""
    closest = isotonic_regression(log_risk, weights=1.0 / variance, increasing=False).x
    squares = (log_risk - closest) ** 2
    misfit = np.sqrt(max(squares.mean() - variance.mean(), 0.0))
    return float(misfit), float(stats.chi2.sf((squares / variance).sum(), len(squares)))
