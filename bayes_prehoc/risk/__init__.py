"""From runs to the risk at each depth: proxies with their sampling error, and the outcome set's noise."""

from bayes_prehoc.risk.compare import Comparison, compare_proxies
from bayes_prehoc.risk.estimate import estimate_information, estimate_risk
from bayes_prehoc.risk.estimates import InformationEstimates, LeftOut, RiskEstimates, TaskEstimates

__all__ = [
    "Comparison",
    "InformationEstimates",
    "LeftOut",
    "RiskEstimates",
    "TaskEstimates",
    "compare_proxies",
    "estimate_information",
    "estimate_risk",
]
