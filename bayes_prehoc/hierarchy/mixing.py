"""Two posteriors of the same estimates, under a prior card and under the weak prior, as one (`priors.robust`)."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, UInt8

from bayes_prehoc.hierarchy.checks import Check
from bayes_prehoc.hierarchy.conflict import Threshold
from bayes_prehoc.hierarchy.evidence import Evidence
from bayes_prehoc.hierarchy.inference import Samples
from bayes_prehoc.priors.robust import WEAK_SHARE, mixed_rows, weak_weight

__all__ = ["OF_CARD", "OF_WEAK", "CardWeight", "mixed", "weighed"]

OF_WEAK, OF_CARD = "weak_", "card_"
"""What the names of the checks of the two fits begin with."""
WELL_ENOUGH = 0.05
"""Standard error of w, beyond which the evidences do not tell what to mix."""
Z90 = 1.645
CONFLICT_ADVICE = (
    "The estimates are unlike what the card was made from, so the weak prior has taken its place as far as w says. "
    "Look whether the tasks are of the card's kind, and at their scale and horizon; else fit without it."
)
UNKNOWN_ADVICE = (
    "Whether card and estimates conflict is not known: the fit missed its gate, or too few sets of estimates could be "
    "simulated from the card. Mend what the gate names, or fit again with another seed."
)
SAID = {None: ", of which it is not known whether it conflicts with the estimates", False: "",
        True: ", which conflicts with the estimates"}  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class CardWeight:
    """What the estimates say of a prior card.

    Attributes
    ----------
    name : str
        Of the card.
    weight : float
        Posterior probability w of the weak prior, which is 0.1 before data.
    lower, upper : float
        Its central 90% interval, by the errors of the evidences.
    weak, card : Evidence
        Of the estimates under each.
    threshold : Threshold
        w above which estimates and card conflict: its 95% quantile over estimates simulated from the card.
    fingerprints : uint8 array (N, 16)
        Of the runs that the card has seen.
    """

    name: str
    weight: float
    lower: float
    upper: float
    weak: Evidence
    card: Evidence
    threshold: Threshold
    fingerprints: UInt8[np.ndarray, "N 16"]

    @property
    def conflict(self) -> bool | None:
        """Whether card and estimates conflict; None where the weight or its threshold is not known."""
        if not (math.isfinite(self.weight) and math.isfinite(self.threshold.value)):
            return None
        return self.weight > self.threshold.value

    @property
    def check(self) -> Check:
        """Whether it is known that card and estimates do not conflict; the answer stands in any case."""
        advice = UNKNOWN_ADVICE if self.conflict is None else CONFLICT_ADVICE
        passed = self.conflict is False
        return Check("prior_data_conflict", passed, self.weight, self.threshold.value, f"card {self.name}", advice)

    def to_dict(self) -> dict:
        """What can be written as JSON, null for what is not known: all but the fingerprints."""
        parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del parts["fingerprints"]
        return _known(parts | {name: parts[name]._asdict() for name in ("weak", "card", "threshold")})

    @classmethod
    def from_dict(cls, parts: dict, fingerprints: UInt8[np.ndarray, "N 16"]) -> "CardWeight":
        """The inverse."""
        unknown = {"weight": math.nan, "log_z": math.nan, "error": math.inf, "value": math.nan}

        def own(these):
            return {name: unknown[name] if value is None else value for name, value in these.items()}

        kinds = {"weak": Evidence, "card": Evidence, "threshold": Threshold}
        inner = {name: kind(**own(parts[name])) for name, kind in kinds.items()}
        return cls(**own(parts) | inner, fingerprints=fingerprints)

    @property
    def briefly(self) -> str:
        """The prior in a few words."""
        return f"card {self.name} and the weak prior, w = {self.weight:.2g}"

    @property
    def words(self) -> str:
        """The prior in words with its figures."""
        threshold = self.threshold
        found = (
            f"card {self.name}{SAID[self.conflict]}, and the weak prior with the posterior weight "
            f"w = {self.weight:.2g} [{self.lower:.2g}, {self.upper:.2g}], {WEAK_SHARE:g} before data"
        )
        if not threshold.simulated:
            return found
        return f"{found}; conflict from {threshold.value:.2g} [{threshold.lower:.2g}, {threshold.upper:.2g}]"


def weighed(weak: Evidence, card: Evidence) -> tuple[float, float, float]:
    """Posterior probability of the weak prior, and the ends of its 90% interval; NaN where an evidence is not known."""
    off, error = weak.log_z - card.log_z, math.hypot(weak.error, card.error)
    if not math.isfinite(off) or not math.isfinite(error):
        return math.nan, 0.0, 1.0
    ends = np.array([off, off - Z90 * error, off + Z90 * error])
    return tuple(float(value) for value in weak_weight(ends, 0.0))


def mixed(
    rng: np.random.Generator, weight: float, weak: Samples, card: Samples
) -> tuple[Samples, Float[np.ndarray, "C S"]]:
    """Samples of the mixture, with the checks of both fits and of the weight, and which draws are under the card.

    Each chain is mixed of the two chains of its number, in their order, so that what tells chains apart still does.
    As many draws are taken as the weight allows without taking one twice.
    """
    error = weight * (1.0 - weight) * math.hypot(weak.evidence.error, card.evidence.error)
    known = math.isfinite(error)
    advice = "The evidences of the two priors are not told well enough to mix them. Fit again with another seed."
    of_weight = Check("weight_error", known and error <= WELL_ENOUGH, error, WELL_ENOUGH, "w", advice)
    checks = tuple(check._replace(name=prefix + check.name)
                   for prefix, own in ((OF_CARD, card), (OF_WEAK, weak)) for check in own.checks)  # fmt: skip
    share = weight if known else 1.0
    counts = weak.x.shape[1], card.x.shape[1]
    number = int(min(counts[0] / max(share, 1e-9), counts[1] / max(1.0 - share, 1e-9), sum(counts)))
    rows = np.stack([_in_order(mixed_rows(rng, share, *counts, number), counts[0]) for _ in range(len(weak.x))])

    def taken(one, other):
        both = np.concatenate([one, other], axis=1)
        return np.stack([chain[own] for chain, own in zip(both, rows, strict=True)])

    def by_name(one, other):
        return {name: taken(one[name], other[name]) for name in one if name in other}

    made = Samples(
        by_name(weak.sites, card.sites),
        by_name(weak.statistics, card.statistics),
        taken(weak.log_marginals, card.log_marginals),
        (*checks, of_weight),
        card.sampler,
        card.engine,
        taken(weak.x, card.x),
    )
    return made, (rows >= counts[0]).astype(float)


def _known(parts):
    """With None for numbers that are not finite."""
    if isinstance(parts, dict):
        return {name: _known(value) for name, value in parts.items()}
    return None if isinstance(parts, float) and not math.isfinite(parts) else parts


def _in_order(rows, weak):
    """The same rows of the two chains, each chain's in its order."""
    found = rows.copy()
    for own in (rows < weak, rows >= weak):
        found[own] = np.sort(rows[own])
    return found
