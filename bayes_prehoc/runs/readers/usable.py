"""Which tasks can be used at all."""

import numpy as np

from bayes_prehoc.runs.depths import agreeing, shared_depths, summarise_left_out
from bayes_prehoc.runs.trajectories import TaskRuns

__all__ = ["why_unusable"]


def why_unusable(runs: TaskRuns, outcome: str | None = None) -> str | None:
    """Reason why no risk can be estimated from these runs, None if it can.

    Usable are two or more runs that share two or more depths at which some metric varies (see
    `shared_depths`); an outcome that the user named must be there and vary.
    """
    if runs.n_runs < 2:
        seeds = f" (seed {runs.seeds[0]})" if runs.seeds else ""
        return f"one run only{seeds}; a spread needs two" if runs.n_runs else "no runs"
    if not len(runs.depths):
        return "no depth at or before the horizon"
    if not any(np.isfinite(value).any() for value in runs.values.values()):
        infinite = any(np.isinf(value).any() for value in runs.values.values())
        return "no finite values: every run diverged" if infinite else "no values: every cell is blank or NaN"
    if outcome is not None and (outcome not in runs.values or np.isnan(runs.values[outcome]).all()):
        return f"the outcome {outcome!r} was not recorded"
    if outcome is not None and runs.outcome is None and _constant(runs.values[outcome]):
        return f"the outcome {outcome!r} has zero variance at every depth"
    shared = {metric: shared_depths(runs, metric) for metric in runs.metrics}
    if any(usable.sum() >= 2 for usable, _ in shared.values()):
        return None
    if all(_constant(value) for value in runs.values.values()):
        return f"zero variance at every depth: all runs agree ({_names(runs.metrics)})"
    metric, (usable, left_out) = max(shared.items(), key=lambda item: item[1][0].sum())
    return (
        f"fewer than two usable depths ({_names([metric])}: {usable.sum()} of {len(usable)}; "
        f"left out: {summarise_left_out(left_out) or 'none'})"
    )


def _constant(value):
    """Whether runs can be compared at some depth of this metric (n, D) and agree wherever they can."""
    several = np.isfinite(value).sum(axis=0) >= 2
    return bool(several.any() and agreeing(value)[several].all())


def _names(metrics):
    return ", ".join(repr(metric) for metric in metrics)
