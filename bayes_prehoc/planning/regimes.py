r"""Regimes: decisions about a predictive error, classified draw by draw.

With a tolerance delta on the predictive RMSE, in the metric's own unit,

    Noise-Dominant       sqrt L(c_T) > delta        even the full trajectory leaves more open than is tolerated
    Static-Sufficient    sqrt L(c_cheap) <= delta   (and not Noise-Dominant) a cheap look leaves less
    Dynamic-Critical     else                       watching is what makes the difference

and the share of posterior draws in a regime is its probability. The thresholds are this package's: the paper (arXiv
2606.17649) gives none. All three probabilities are step functions of delta that change at the draws themselves, so
where the most probable regime flips is found exactly, by sorting.

In the plane of L_int against alpha, the rest of the curve given, the regimes meet in two curves,

    Noise-Dominant meets the others at       L_int = delta^2
    Static-Sufficient meets Dynamic at       L_int = delta^2 - [U(c_0) - L_int] B(c_cheap) / B(c_0)

(with a horizon nothing but L_int is left at c_T, and the reading of a spread has L_int for L(c_T)): the faster the
decay, the more the reducible part weighs at a cheap depth before c_0, and the less of L_int goes with a cheap look.
"""

from typing import NamedTuple

import numpy as np

from bayes_prehoc.planning import draws

__all__ = ["REGIMES", "Boundaries", "Flip", "boundaries", "flips", "regime_probabilities"]

BOUNDARY_POINTS = 25
BOUNDARY_DRAWS = 400

REGIMES = ("static-sufficient", "dynamic-critical", "noise-dominant")
_STATIC, _DYNAMIC, _NOISE = range(3)


class Flip(NamedTuple):
    """Where the most probable regime changes: `below` for smaller tolerances, `above` from `tolerance` on."""

    tolerance: float
    below: str
    above: str


class Boundaries(NamedTuple):
    """Where regimes meet in the plane of L_int against alpha, in the metric's unit squared.

    Attributes
    ----------
    alpha : float64 array (A,)
        From the 0.5% to the 99.5% quantile of the posterior.
    static, static_lower, static_upper : float64 arrays (A,)
        L_int at which Static-Sufficient meets Dynamic-Critical: median and central 90% over what else is unknown of the
        curve. Negative where no L_int is static-sufficient.
    noise : float
        L_int at which Noise-Dominant meets the others, at any alpha.
    """

    alpha: np.ndarray
    static: np.ndarray
    static_lower: np.ndarray
    static_upper: np.ndarray
    noise: float


def boundaries(curve, tolerance: float, c_cheap: float) -> Boundaries:
    """The curves in which the regimes of a task meet, at a tolerance; under the law, without a drift off it.

    Parameters
    ----------
    curve : RiskCurve
    tolerance : float
        delta, in the metric's unit.
    c_cheap : float
    """
    alpha = np.linspace(*np.quantile(curve.alpha, (0.005, 0.995)), BOUNDARY_POINTS)
    count = len(curve.alpha)
    kept = np.linspace(0, count - 1, min(count, BOUNDARY_DRAWS)).round().astype(int)
    reducible, onset = (np.repeat(part[kept], len(alpha)) for part in (curve.reducible, curve.onset))
    bare = curve._replace(
        l_int=np.zeros_like(reducible), reducible=reducible, alpha=np.tile(alpha, len(kept)), onset=onset, drift=None
    )
    open_yet = draws.risk(bare, [c_cheap]).reshape(len(kept), len(alpha))
    most, middle, least = np.quantile(open_yet, (0.95, 0.5, 0.05), axis=0)
    square = float(tolerance**2)
    return Boundaries(alpha, square - middle, square - most, square - least, square)


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
