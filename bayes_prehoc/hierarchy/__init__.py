"""Risk estimates and a prior to a posterior: the hierarchical model, its sampling, its gate."""

from bayes_prehoc.hierarchy.checks import Check, Gate
from bayes_prehoc.hierarchy.compare import LawComparison, compare_laws
from bayes_prehoc.hierarchy.curves import Drift, RiskCurve
from bayes_prehoc.hierarchy.files import load_posterior
from bayes_prehoc.hierarchy.fit import fit
from bayes_prehoc.hierarchy.posterior import Posterior

__all__ = ["Check", "Drift", "Gate", "LawComparison", "Posterior", "RiskCurve", "compare_laws", "fit", "load_posterior"]
