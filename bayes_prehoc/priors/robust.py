r"""How much a prior card is believed in the light of new data.

The prior of a fit is a mixture of the card and the weak prior (Schmidli et al. 2014). With the evidences Z of the same
data under each, the posterior is the mixture of the two posteriors in which the weak prior has the weight

    w = 0.1 Z_weak / (0.1 Z_weak + 0.9 Z_card) .

w is also the alarm for conflict of prior and data. How large it gets where there is none is told by simulation: the
threshold is the 95% quantile of w over data simulated from the card.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit

from bayes_prehoc.errors import InputError

__all__ = ["WEAK_SHARE", "conflict_threshold", "mixed_rows", "weak_weight"]

WEAK_SHARE = 0.1
"""Probability of the weak prior before data."""
QUANTILE = 0.95


def weak_weight(log_evidence_weak, log_evidence_card) -> Float[np.ndarray, "..."]:
    """Posterior probability w of the weak prior, from log evidences (...), broadcast.

    Raises
    ------
    InputError
        A log evidence is not finite.
    """
    weak, card = (np.asarray(part, np.float64) for part in (log_evidence_weak, log_evidence_card))
    if not np.all(np.isfinite(weak)) or not np.all(np.isfinite(card)):
        raise InputError("a log evidence is not finite", "weak_weight", "Fit again with another seed.")
    return np.asarray(expit(logit(WEAK_SHARE) + weak - card))


def conflict_threshold(log_evidence_weak, log_evidence_card) -> float:
    """w above which data conflict with the card: its 95% quantile, from log evidences (N,) of N data sets from the
    card."""
    return float(np.quantile(weak_weight(log_evidence_weak, log_evidence_card), QUANTILE))


def mixed_rows(rng: np.random.Generator, weight: float, weak: int, card: int, number: int) -> Int[np.ndarray, " N"]:
    """Which draws make the mixed posterior: rows of `weak` draws under the weak prior followed by `card` under the
    card.

    The number from each is the expected one, rounded at random; rows are drawn without replacement as long as there are
    enough.
    """
    from_weak = int(np.floor(number * weight + rng.random()))

    def rows(there, wanted):
        times = -(-wanted // there)
        return np.concatenate([rng.permutation(there) for _ in range(times)] or [np.arange(0)])[:wanted]

    return rng.permutation(np.concatenate([rows(weak, from_weak), weak + rows(card, number - from_weak)]))
