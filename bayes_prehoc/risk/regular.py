r"""Where a task's estimates follow a law of decay: after a transient, and before any growth.

A spread can rise at first, when runs leave a common start, and at late depths, when training overfits; no law of
decay describes either. So each pair of a depth c_k and a later one c_l is a hypothesis: the risk rises as a power up to
c_k, follows the law from there to c_l,

.. math:: U(c) \propto f + (1 - f) B(c) / B(c_0) ,

B flat before an onset, and rises as a power from c_l on. One more hypothesis is a rise from the first depth to the
last. Estimates are log-normal with the variance trigamma(nu / 2), the correlation that sharing runs gives them, and the
misfit `MISFIT`, which every law has. Each hypothesis is weighed by its evidence, the likelihood averaged over what it
leaves open, at points spread evenly over the priors; the level has an all but flat one. A hypothesis with a transient
leaves one number more open, and so needs data that ask for it.

Source: Carlin, Gelfand and Smith 1992 (change points by their posterior).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import digamma, logsumexp, polygamma
from scipy.stats import qmc

from bayes_prehoc import theory

__all__ = ["RegularPhase", "regular_phase"]

MISFIT = 0.2
"""Standard deviation of log risk around any law beyond the estimates' sampling error."""
LAWS = 32
"""Points that stand for the prior of a law, uniform in f, alpha and the logarithm of the onset; a power of two."""
EARLIEST_ONSET, LATEST_ONSET = 1e-3, 0.5
"""In horizons."""
SLOPES = np.geomspace(0.2, 16.0, 10)
"""Exponents that stand for the prior of a rise, uniform in their logarithm."""
LEVEL_VARIANCE = 100.0
PLAIN = 0.9
"""Prior probability that there is no transient, and that there is no late growth."""
NEVER = 0.05
"""Prior probability of a rise throughout."""
REFERENCE = 0.2
"""c_0 in horizons, at which B is one."""


class RegularPhase(NamedTuple):
    """Posterior of where a law of decay holds.

    Attributes
    ----------
    before, after : arrays (D,)
        Probability that a depth lies before the law begins, or after it has ended, if there is one.
    never : float
        Probability that there is none.
    """

    before: Float[np.ndarray, " D"]
    after: Float[np.ndarray, " D"]
    never: float


def regular_phase(
    depths: Float[np.ndarray, " D"],
    risk: Float[np.ndarray, " D"],
    nu: Float[np.ndarray, " D"],
    horizon: float,
    proxy: str,
    correlation: Float[np.ndarray, "D D"] | None = None,
) -> RegularPhase:
    """Posterior of the change points.

    Parameters
    ----------
    depths : positive array (D,), increasing, two or more
    risk, nu : positive arrays (D,)
        Estimates and their degrees of freedom.
    horizon : float
    proxy : str
        Says which law: what it allows alpha to be, and whether what is reducible is nothing at the horizon.
    correlation : array (D, D), optional
        Of the estimates' sampling errors. Default: none.
    """
    log_depth, last = np.log(depths), len(depths) - 1
    log_risk = np.log(risk) - digamma(nu / 2.0) + np.log(nu / 2.0)
    log_risk = log_risk - log_risk.mean()
    sd = np.sqrt(polygamma(1, nu / 2.0))
    error = np.diag(sd**2) if correlation is None else correlation * np.outer(sd, sd)
    precision = np.linalg.inv(error + MISFIT**2 * np.eye(last + 1))
    # What is left of the precision when the level is integrated out.
    total = precision.sum(axis=1)
    precision = precision - np.outer(total, total) / (total.sum() + 1.0 / LEVEL_VARIANCE)

    laws = _laws(depths / horizon, proxy)
    log_p = np.full((last + 1, last + 1), -np.inf)
    for begin in range(last):
        rise = np.minimum(log_depth - log_depth[begin], 0.0)
        for end in range(begin + 1, last + 1):
            growth = np.maximum(log_depth - log_depth[end], 0.0)
            off = log_risk - laws[:, np.clip(np.arange(last + 1), begin, end)]
            log_p[begin, end] = _log_prior(begin, end, last) + _log_evidence(off, rise, growth, precision)
    never = np.log(NEVER) + _log_evidence(log_risk[None], log_depth - log_depth[-1], 0.0 * log_depth, precision)
    within = np.exp(log_p - logsumexp(log_p))
    return RegularPhase(
        1.0 - np.cumsum(within.sum(axis=1)),
        1.0 - np.cumsum(within.sum(axis=0)[::-1])[::-1],
        float(np.exp(never - np.logaddexp(never, logsumexp(log_p) + np.log1p(-NEVER)))),
    )


def _log_prior(begin, end, last):
    """Of a pair: places of a transient are as likely as each other, and so are places of late growth."""
    transient = PLAIN if begin == 0 else (1.0 - PLAIN) / (last - 1)
    growing = PLAIN if end == last else (1.0 - PLAIN) / (last - 1)
    return np.log(transient * growing)


def _laws(shares, proxy):
    """Logarithms of curves (LAWS, D), each of some level."""
    floor, alpha, onset = (qmc.Sobol(3, scramble=False).random(LAWS) + 0.5 / LAWS).T[:, :, None]
    low, high = theory.alpha_bounds(proxy)
    onset = EARLIEST_ONSET * (LATEST_ONSET / EARLIEST_ONSET) ** onset
    horizon = None if proxy == "run_to_run" else 1.0
    left = theory.decay(shares[None, :], REFERENCE, low + (high - low) * alpha, onset, horizon)
    return np.log(floor + (1.0 - floor) * np.asarray(left, np.float64))


def _log_evidence(off, rise, growth, precision):
    """Log mean likelihood over laws (N, D) that estimates lie off by `off`, and over slopes of the rise and the growth.

    A direction (D,) that is zero has no slope.
    """
    ups = SLOPES[:, None] if rise.any() else np.zeros((1, 1))
    downs = SLOPES[None, :] if growth.any() else np.zeros((1, 1))
    weighted = off @ precision
    squares = (
        np.sum(weighted * off, axis=1)[:, None, None]
        - 2.0 * ((weighted @ rise)[:, None, None] * ups + (weighted @ growth)[:, None, None] * downs)
        + (rise @ precision @ rise) * ups**2
        + 2.0 * (rise @ precision @ growth) * ups * downs
        + (growth @ precision @ growth) * downs**2
    )
    return logsumexp(-0.5 * squares) - np.log(squares.size)
