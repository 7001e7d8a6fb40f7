"""Priors that travel between projects: cards, as arrays and as folders, their combination and their sharing."""

from bayes_prehoc.priors.about import Calibration, Provenance, Scope, Units
from bayes_prehoc.priors.card import PriorCard, Weak, make_card
from bayes_prehoc.priors.files import find_card, load_card
from bayes_prehoc.priors.meta import Combination, combine
from bayes_prehoc.priors.robust import conflict_threshold, weak_weight
from bayes_prehoc.priors.transforms import Site, Transform
from bayes_prehoc.priors.verify import Diagnostic

__all__ = [
    "Calibration",
    "Combination",
    "Diagnostic",
    "PriorCard",
    "Provenance",
    "Scope",
    "Site",
    "Transform",
    "Units",
    "Weak",
    "combine",
    "conflict_threshold",
    "find_card",
    "load_card",
    "make_card",
    "weak_weight",
]
