r"""The price of squared error that a stated loss implies.

Somebody decides whether a full run is started (or finished). It costs `false_start` (a) if the run then ends below a
threshold t, and `missed` (b) to forgo one that would have ended above it. Whoever has watched to depth c expects
R ~ Normal(m, L(c)), starts where a P(R < t) <= b P(R > t), that is where m >= t - z sqrt(L) with Phi(z) = b / (a + b),
and over runs m ~ Normal(mu, V - L(c)), V the variance of R before. Let ell(L) be the expected loss of these decisions.
The decision is the best one, so only the correlation of m with R moves ell, and by Plackett's identity

.. math:: \frac{d \ell}{d L} = \frac{(a + b) \, \varphi(z) \, \varphi(k)}{2 \sqrt{L (V - L)}} , \qquad
          k = \frac{t - \mu - z \sqrt{L}}{\sqrt{V - L}} .

That is the price of squared error at L. It is not constant (ell grows with the root of a small L), while depth is
chosen under one gamma; so gamma is its mean over the risk that probing can remove,

.. math:: \gamma = \frac{\ell(L_1) - \ell(L_2)}{L_1 - L_2} ,

with which watching a whole run saves exactly what the stated loss says it saves. In between ell lies above the straight
line: that much of the saving comes later in the run than gamma says.

Source: the derivation is this package's; Plackett 1954 (derivative of the bivariate normal distribution function).
"""

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
from scipy import integrate
from scipy.special import ndtr, ndtri

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning.costs import positive

__all__ = ["ThresholdLoss", "expected_loss", "price_of_error"]


@dataclasses.dataclass(frozen=True)
class ThresholdLoss:
    """What a wrong decision about a full run costs.

    Parameters
    ----------
    threshold : float
        Of the outcome, in the metric's unit.
    false_start : float
        What it costs to start a full run that ends on the wrong side of the threshold; > 0, in what costs are counted
        in. The wrong side is below where a higher outcome is better, else above.
    missed : float
        What it costs to forgo a run that would have ended on the right side; > 0.

    Raises
    ------
    InputError
        A threshold that is not a finite number, or costs that are not finite numbers above zero.
    """

    threshold: float
    false_start: float
    missed: float

    FORM: ClassVar[str] = "threshold"

    def __post_init__(self):
        threshold = self.threshold
        if isinstance(threshold, bool | str) or not np.isscalar(threshold) or not math.isfinite(threshold):
            raise InputError(f"threshold is {threshold!r}", "gamma", "Give a finite number in the metric's unit.")
        object.__setattr__(self, "threshold", float(threshold))
        for name in ("false_start", "missed"):
            object.__setattr__(self, name, positive(getattr(self, name), "gamma", name=name))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it."""
        return {"form": self.FORM} | dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "ThresholdLoss":
        """A loss from what `to_dict` made."""
        return cls(**{name: value for name, value in content.items() if name != "form"})


def expected_loss(loss: ThresholdLoss, margin: float, before: float, left: float) -> float:
    """ell(L): what the decisions of whoever knows the outcome up to a variance L cost on average.

    Parameters
    ----------
    loss : ThresholdLoss
        Only its two costs count here.
    margin : float
        mu - t, how far the mean outcome lies on the right side of the threshold.
    before : float
        V > 0, the variance of the outcome before anything is watched.
    left : float
        L, from 0 to V.

    Returns
    -------
    float, in what the costs are counted in; at L = V the smaller of a Phi(-margin / sqrt V) and b Phi(margin / sqrt V).
    """
    a, b = loss.false_start, loss.missed
    z, h = ndtri(b / (a + b)), -margin / math.sqrt(before)
    # By the angle theta, sin theta the correlation of m and R, the integrand has no singularity.
    angle = math.asin(math.sqrt(max(1.0 - left / before, 0.0)))

    def saved(theta):
        k = (h - z * math.cos(theta)) / math.sin(theta) if theta > 0.0 else math.inf * np.sign(h - z)
        # exp(-k^2 / 2): nothing where both sides of the ratio vanish but h = z, and there k -> 0.
        return 1.0 if h == z and theta == 0.0 else math.exp(-0.5 * k * k)

    without = min(a * ndtr(h), b * ndtr(-h))
    gained = integrate.quad(saved, 0.0, angle, epsabs=0.0, epsrel=1e-10, limit=200)[0] if angle > 0.0 else 0.0
    return without - (a + b) / (2.0 * math.pi) * math.exp(-0.5 * z * z) * gained


def price_of_error(loss: ThresholdLoss, margin: float, now: float, at_end: float) -> float:
    """gamma: what decisions save by a whole run's watching, per unit of squared error that it removes.

    Parameters
    ----------
    loss : ThresholdLoss
    margin : float
        mu - t, with its sign turned where a lower outcome is better.
    now, at_end : float
        L_1 > L_2, expected risk before watching and at the end of a run. L_1 stands for V too: what is known then is
        known of all runs alike.

    Returns
    -------
    float, the cost's unit per squared unit of the metric; 0 where nothing can be removed.
    """
    if not now > at_end:
        return 0.0
    return max(expected_loss(loss, margin, now, now) - expected_loss(loss, margin, now, at_end), 0.0) / (now - at_end)
