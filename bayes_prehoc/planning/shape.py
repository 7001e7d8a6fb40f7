r"""The shape of what is left open: prediction errors of the runs over their standard deviation.

How wide R may lie around its prediction is the posterior's to say; of what shape, the runs' own leave-one-out errors
say. Where a part of the seeds fails it is far from normal, and a normal would take the chance of a good end for much
smaller than it is. With standardised errors e_i of n runs, smoothed so that the variance stays one,

.. math:: F(u) = (1 - w) \frac{1}{n} \sum_i \Phi\!\left(\frac{u - \sqrt{1 - b^2} \, e_i}{b}\right) + w \, \Phi(u) ,
    \qquad w = \frac{10}{n + 10} .

Source: Silverman 1986 (smoothed bootstrap with shrinkage). The width b is half of his rule of thumb, which smooths
clusters away.
"""

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

__all__ = ["NORMAL", "ErrorShape", "mixture_quantile"]

NORMAL_RUNS = 10.0
"""Weight of the normal distribution, in runs."""
NARROWEST = 0.05
"""Width of the smoothing, in standard deviations, that none goes below."""
MOST_POINTS = 200
"""Errors that a shape is made of; of more, as many quantiles stand for all."""
AT = np.linspace(-9.0, 9.0, 1801)
"""Where a shape is tabulated; linear between."""


@dataclasses.dataclass(frozen=True, eq=False)
class ErrorShape:
    """A distribution with mean 0 and variance 1.

    Attributes
    ----------
    cumulative : float array, F at `AT`
    integral : float array, its integral from below, E max(u - e, 0)
    """

    cumulative: np.ndarray
    integral: np.ndarray

    @classmethod
    def of(cls, errors: Float[np.ndarray, " n"]) -> "ErrorShape":
        """Of the errors of n runs, in any unit; normal where they do not vary."""
        count, sd = len(errors), errors.std()
        if not sd > 0.0:
            return NORMAL
        standard = (errors - errors.mean()) / sd
        quartiles = np.quantile(standard, (0.25, 0.75))
        b = max(0.45 * min(1.0, float(np.diff(quartiles)[0]) / 1.34) * count**-0.2, NARROWEST)
        if count > MOST_POINTS:
            standard = np.quantile(standard, (np.arange(MOST_POINTS) + 0.5) / MOST_POINTS)
            standard = (standard - standard.mean()) / standard.std()
        off = (AT[:, None] - np.sqrt(1.0 - b**2) * standard[None, :]) / b
        weight = NORMAL_RUNS / (count + NORMAL_RUNS)
        cumulative, integral = special.ndtr(off).mean(axis=1), b * _ramp(off).mean(axis=1)
        return cls(
            (1.0 - weight) * cumulative + weight * NORMAL.cumulative,
            (1.0 - weight) * integral + weight * NORMAL.integral,
        )

    def cdf(self, u):
        """F(u), of u's shape."""
        return np.interp(u, AT, self.cumulative, left=0.0, right=1.0)

    def ramp(self, u):
        """E max(u - e, 0), of u's shape."""
        return np.where(u > AT[-1], u, np.interp(u, AT, self.integral, left=0.0))


def mixture_quantile(variance: Float[np.ndarray, " S"], p: float, shape: ErrorShape) -> float:
    """Quantile of the equal mixture of this shape, with mean 0 and these variances."""
    sd = np.sqrt(variance)
    if not sd.max() > 0.0:
        return 0.0
    reach = float(sd.max()) * AT[-1]
    sd = np.maximum(sd, 1e-12 * sd.max())
    return float(optimize.brentq(lambda x: shape.cdf(x / sd).mean() - p, -reach, reach, xtol=1e-12 * reach))


def _ramp(u):
    """E max(u - z, 0) of a standard normal z."""
    return u * special.ndtr(u) + np.exp(-0.5 * u**2) / np.sqrt(2.0 * np.pi)


NORMAL = ErrorShape(special.ndtr(AT), _ramp(AT))
"""The standard normal."""
