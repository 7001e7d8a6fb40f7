"""From a posterior to what to do with the budget: regimes, optimal depth, whether probing pays.

`plan` turns each task's draws of the risk curve into probabilities of the three regimes, the posterior of the optimal
depth and the depth that minimises posterior expected risk plus cost, under assumptions that it lists in words.
"""

from bayes_prehoc.planning.costs import LinearCost
from bayes_prehoc.planning.design import NextProbe, next_probe
from bayes_prehoc.planning.outcome import OutcomePrediction, predict_new_task, predict_outcome
from bayes_prehoc.planning.planner import plan
from bayes_prehoc.planning.power import seeds_to_tell_apart
from bayes_prehoc.planning.regimes import REGIMES, Flip
from bayes_prehoc.planning.results import Interval, Plan, RiskBand, TaskPlan
from bayes_prehoc.planning.saved import load_plan
from bayes_prehoc.planning.stopping import Regret
from bayes_prehoc.planning.watch import watch_decision, watch_table

__all__ = [
    "REGIMES",
    "Flip",
    "Interval",
    "LinearCost",
    "NextProbe",
    "OutcomePrediction",
    "Plan",
    "Regret",
    "RiskBand",
    "TaskPlan",
    "load_plan",
    "next_probe",
    "plan",
    "predict_new_task",
    "predict_outcome",
    "seeds_to_tell_apart",
    "watch_decision",
    "watch_table",
]
