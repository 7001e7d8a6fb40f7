"""Draws of a task's risk curve, as a posterior hands them to whoever plans."""

from typing import NamedTuple

import numpy as np

__all__ = ["Drift", "RiskCurve"]


class Drift(NamedTuple):
    """How far a spread between runs lies off its law along depth, float64; straight in log depth between the depths.

    Attributes
    ----------
    depths : array (J,)
        Increasing; beyond the shallowest it stays what it is there, at the horizon it is nothing.
    log_ratio : array (S, J)
        log of the spread over what the law says.
    """

    depths: np.ndarray
    log_ratio: np.ndarray


class RiskCurve(NamedTuple):
    """S draws of a task's risk curve, float64, in the task's units; arguments of `bayes_prehoc.theory`.

    Attributes
    ----------
    l_int : array (S,)
        L_int, without the outcome set's noise.
    reducible : array (S,)
        U(c_0) - L_int.
    reference : float
        c_0, a fifth of the horizon.
    alpha, onset : arrays (S,)
    horizon : float or None
        c_T where nothing is left to learn there (conditional, branching); None for run_to_run.
    noise : array (S,) or None
        V_eval of the outcome set; None where unknown.
    drift : Drift or None
        Of a spread, as its estimates show it; None: the law alone.
    """

    l_int: np.ndarray
    reducible: np.ndarray
    reference: float
    alpha: np.ndarray
    onset: np.ndarray
    horizon: float | None
    noise: np.ndarray | None
    drift: Drift | None = None
