"""From runs to the risk at each depth: proxies with their sampling error, and the outcome set's noise."""

from bayes_prehoc.risk.estimate import estimate_information, estimate_risk
from bayes_prehoc.risk.estimates import LeftOut, RiskEstimates, TaskEstimates

__all__ = ["LeftOut", "RiskEstimates", "TaskEstimates", "estimate_information", "estimate_risk"]
