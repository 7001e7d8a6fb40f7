r"""Regimes: decisions about a predictive error, classified draw by draw.

With a tolerance delta on the predictive RMSE, in the metric's own unit,

    Noise-Dominant       sqrt L(c_T) > delta        even the full trajectory leaves more open than is tolerated
    Static-Sufficient    sqrt L(c_cheap) <= delta   (and not Noise-Dominant) a cheap look leaves less
    Dynamic-Critical     else                       watching is what makes the difference

and the share of posterior draws in a regime is its probability. The thresholds are this package's: the paper (arXiv
2606.17649) gives none. All three probabilities are step functions of delta that change at the draws themselves, so
where the most probable regime flips is found exactly, by sorting.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["REGIMES", "Flip", "flips", "regime_probabilities"]

REGIMES = ("static-sufficient", "dynamic-critical", "noise-dominant")
_STATIC, _DYNAMIC, _NOISE = range(3)


class Flip(NamedTuple):
    """Where the most probable regime changes: `below` for smaller tolerances, `above` from `tolerance` on."""

    tolerance: float
    below: str
    above: str


def regime_probabilities(rmse_cheap: np.ndarray, rmse_final: np.ndarray, tolerance: float) -> np.ndarray:
    """Share of draws in each regime, in the order of `REGIMES`.

    Parameters
    ----------
    rmse_cheap, rmse_final : float arrays (S,)
        Predictive RMSE at the cheap depth and at the horizon, in the unit of `tolerance`.
    tolerance : float
        delta.

    Returns
    -------
    float array (3,), sums to 1.
    """
    noise = rmse_final > tolerance
    static = ~noise & (rmse_cheap <= tolerance)
    counts = np.array([static.sum(), 0, noise.sum()])
    counts[_DYNAMIC] = len(noise) - counts.sum()
    return counts / len(noise)


def flips(rmse_cheap: np.ndarray, rmse_final: np.ndarray) -> tuple[Flip, ...]:
    """Tolerances at which the most probable regime changes, in increasing order.

    A change back and forth in which no regime ever leads by more than a Monte Carlo standard error, 1 / sqrt(S), is
    left out.

    Parameters
    ----------
    rmse_cheap, rmse_final : float arrays (S,)
        As in `regime_probabilities`; rmse_cheap >= rmse_final, since risk falls with depth.
    """
    draws = len(rmse_cheap)
    # On [at[i], at[i + 1]) nothing changes; below at[0] all draws are Noise-Dominant.
    at = np.unique(np.concatenate([rmse_cheap, rmse_final]))
    static = np.searchsorted(np.sort(rmse_cheap), at, side="right")
    noise = draws - np.searchsorted(np.sort(rmse_final), at, side="right")
    counts = np.stack([static, draws - static - noise, noise])
    leader = counts.argmax(axis=0)
    ordered = np.sort(counts, axis=0)
    lead = (ordered[-1] - ordered[-2]) / draws

    starts = np.flatnonzero(np.diff(leader, prepend=_NOISE))
    widest = np.maximum.reduceat(lead, starts) if len(starts) else lead[:0]
    found, current = [], _NOISE
    for start, most in zip(starts, widest, strict=True):
        if most >= 1.0 / np.sqrt(draws) and leader[start] != current:
            found.append(Flip(float(at[start]), REGIMES[current], REGIMES[leader[start]]))
            current = leader[start]
    return tuple(found)
