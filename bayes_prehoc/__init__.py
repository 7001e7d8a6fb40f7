"""How uncertain is a fine-tuning run's outcome, how much would a short probe tell, and how deep should it go?

Five nouns, five verbs, one direction::

    import bayes_prehoc as bp

    runs = bp.read_runs("runs.csv")                 # Trajectories; or bp.probe(bp.suite(), seeds=64)
    estimates = bp.estimate_risk(runs)              # RiskEstimates
    posterior = bp.fit(estimates)                   # Posterior
    plan = bp.plan(posterior, tolerance=0.01)       # Plan
    bp.write_report(plan, "report.html")

A name is loaded from its module when it is first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bayes_prehoc.errors import InputError
    from bayes_prehoc.hierarchy import Posterior, fit, load_posterior
    from bayes_prehoc.planning import (
        Allocation,
        ConvexCost,
        LinearCost,
        Plan,
        TableCost,
        ThresholdLoss,
        allocate,
        load_plan,
        next_probe,
        plan,
        predict_new_task,
        predict_outcome,
        seeds_to_tell_apart,
        watch_decision,
        watch_table,
    )
    from bayes_prehoc.priors import PriorCard, load_card
    from bayes_prehoc.probes import Adapter, ProbeSpec, TextData, probe, suite
    from bayes_prehoc.report import write_report
    from bayes_prehoc.risk import RiskEstimates, estimate_risk
    from bayes_prehoc.runs import RunStore, Trajectories, read_runs
    from bayes_prehoc.watching import Decision, WatchTable, load_watch_table

    __version__: str

__all__ = [
    "Adapter",
    "Allocation",
    "ConvexCost",
    "Decision",
    "InputError",
    "LinearCost",
    "Plan",
    "Posterior",
    "PriorCard",
    "ProbeSpec",
    "RiskEstimates",
    "RunStore",
    "TableCost",
    "TextData",
    "ThresholdLoss",
    "Trajectories",
    "WatchTable",
    "__version__",
    "allocate",
    "estimate_risk",
    "fit",
    "load_card",
    "load_plan",
    "load_posterior",
    "load_watch_table",
    "next_probe",
    "plan",
    "predict_new_task",
    "predict_outcome",
    "probe",
    "read_runs",
    "seeds_to_tell_apart",
    "suite",
    "watch_decision",
    "watch_table",
    "write_report",
]

# The imports above once more, for the interpreter; tests/test_package.py holds the two against each other.
_PLACES = {
    "errors": ("InputError",),
    "hierarchy": ("Posterior", "fit", "load_posterior"),
    "planning": (
        "Allocation",
        "ConvexCost",
        "LinearCost",
        "Plan",
        "TableCost",
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
    ),
    "priors": ("PriorCard", "load_card"),
    "probes": ("Adapter", "ProbeSpec", "TextData", "probe", "suite"),
    "report": ("write_report",),
    "risk": ("RiskEstimates", "estimate_risk"),
    "runs": ("RunStore", "Trajectories", "read_runs"),
    "watching": ("Decision", "WatchTable", "load_watch_table"),
}


def __getattr__(name: str):
    if name == "__version__":
        from importlib.metadata import version

        value = version("bayes-prehoc")
    else:
        place = next((place for place, names in _PLACES.items() if name in names), None)
        if place is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{place}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
