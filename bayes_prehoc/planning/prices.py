"""The price of squared error of a task: as stated, as a stated loss has it, or such that a full run would just pay.

With no statement gamma is the price at which removing the whole expected risk at the cheap depth is worth one full run.
"""

import numpy as np

from bayes_prehoc.planning import draws
from bayes_prehoc.planning.arguments import Arguments
from bayes_prehoc.planning.losses import ThresholdLoss, price_of_error

__all__ = ["price_of"]


def price_of(curve, estimates, arguments: Arguments) -> tuple[float | None, str | None]:
    """gamma of a task, and what must be said of it; None where there is none.

    Parameters
    ----------
    curve : RiskCurve
    estimates : TaskEstimates
    arguments : Arguments
    """
    stated = arguments.gamma_of(estimates)
    if isinstance(stated, float):
        return stated, None
    depths = [estimates.c_min, estimates.horizon, arguments.c_cheap_of(estimates)]
    now, at_end, cheap = draws.risk(curve, depths).mean(axis=0)
    if isinstance(stated, ThresholdLoss):
        if not np.isfinite(now):
            return None, "the expected risk at the shallowest depth is not finite: state gamma as a number"
        margin = (estimates.outcome_mean - stated.threshold) * (1.0 if estimates.higher_is_better else -1.0)
        gamma = price_of_error(stated, margin, float(now), float(at_end))
        return gamma, None if gamma > 0 else "watching changes no decision about the threshold, so none is worth a cost"
    if not np.isfinite(cheap):
        return None, "the expected risk at c_cheap is not finite: state gamma to have an optimal depth"
    if cheap > 0:
        return float(arguments.cost_of(estimates).of_full_run(float(estimates.horizon)) / cheap), None
    return 0.0, "no risk is left at c_cheap, so no probing is worth a cost"
