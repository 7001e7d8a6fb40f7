"""From a posterior to what to do with the budget: regimes, optimal depth, whether probing pays.

`plan` turns each task's draws of the risk curve into probabilities of the three regimes, the posterior of the optimal
depth and the depth that minimises posterior expected risk plus cost, under assumptions that it lists in words.
`allocate` spreads one budget over all tasks.
"""

from bayes_prehoc.planning.costs import ConvexCost, LinearCost, TableCost
from bayes_prehoc.planning.design import NextProbe, next_probe
from bayes_prehoc.planning.losses import ThresholdLoss
from bayes_prehoc.planning.outcome import OutcomePrediction, predict_new_task, predict_outcome
from bayes_prehoc.planning.planner import plan
from bayes_prehoc.planning.portfolio import Allocation, allocate
from bayes_prehoc.planning.power import seeds_to_tell_apart
from bayes_prehoc.planning.regimes import REGIMES, Boundaries, Flip
from bayes_prehoc.planning.results import Frontier, Interval, Plan, RiskBand, TaskPlan
from bayes_prehoc.planning.saved import load_plan
from bayes_prehoc.planning.stopping import Action, Regret
from bayes_prehoc.planning.watch import watch_decision, watch_table

__all__ = [
    "REGIMES",
    "Action",
    "Allocation",
    "Boundaries",
    "ConvexCost",
    "Flip",
    "Frontier",
    "Interval",
    "LinearCost",
    "NextProbe",
    "OutcomePrediction",
    "Plan",
    "Regret",
    "RiskBand",
    "TableCost",
    "TaskPlan",
    "ThresholdLoss",
    "allocate",
    "load_plan",
    "next_probe",
    "plan",
    "predict_new_task",
    "predict_outcome",
    "seeds_to_tell_apart",
    "watch_decision",
    "watch_table",
]
