"""What the user assumed, checked against the tasks at hand, with a default for what was not said.

Defaults: a tolerance of 0.01 for metrics of the accuracy kind whose outcome lies in [0, 1], none for others; the cheap
depth max(0.05 c_T, c_min); a cost such that a full run costs 1; the price of error from these, task by task (`plan`).
"""

import dataclasses
from collections.abc import Mapping

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning.costs import LinearCost, positive
from bayes_prehoc.risk.estimates import RiskEstimates, TaskEstimates

__all__ = ["ACCURACY_TOLERANCE", "CHEAP_SHARE", "Arguments"]

ACCURACY_TOLERANCE = 0.01
CHEAP_SHARE = 0.05


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Arguments of `plan`; None is the documented default.

    Parameters
    ----------
    cost : LinearCost, optional
    gamma : float, optional
        Price of one unit of squared error.
    tolerance : float or mapping from task to float, optional
    c_cheap : float or mapping from task to float, optional
    """

    cost: LinearCost | None = None
    gamma: float | None = None
    tolerance: float | Mapping[str, float] | None = None
    c_cheap: float | Mapping[str, float] | None = None

    def check(self, estimates: RiskEstimates) -> None:
        """Complain about what cannot be used.

        Raises
        ------
        InputError
            A value that is not a finite number above zero, a task that does not exist, a cheap depth beyond the
            horizon, a cost that is not a `LinearCost`.
        """
        if self.cost is not None and not isinstance(self.cost, LinearCost):
            raise InputError(
                f"it is {self.cost!r}", "cost", "Give bayes_prehoc.LinearCost(per_unit, fixed=0.0, unit='GPU hour')."
            )
        if self.gamma is not None:
            positive(self.gamma, "gamma")
        known = [t.task for t in estimates]
        set_aside = {s.task for s in estimates.set_aside}
        for where, given in (("tolerance", self.tolerance), ("c_cheap", self.c_cheap)):
            if given is None:
                continue
            if not isinstance(given, Mapping):
                positive(given, where)
                continue
            for task, value in given.items():
                # A task that was set aside has no answer, but naming it is no mistake.
                if task not in known and task not in set_aside:
                    more = ", ..." if len(known) > 8 else ""
                    raise InputError(
                        f"no task {task!r}", where, f"Name one of the fitted tasks: {', '.join(known[:8])}{more}."
                    )
                positive(value, f"{where}, task {task!r}")
        for task in estimates:
            depth = self._given(self.c_cheap, task.task)
            if depth is not None and depth > task.horizon:
                raise InputError(
                    f"{depth:.10g} lies beyond the horizon ({task.horizon:.10g}, unit {task.depth_unit})",
                    f"c_cheap, task {task.task!r}",
                    f"Give a depth of at most {task.horizon:.10g}, or one depth per task: {{task: depth}}.",
                )

    def tolerance_of(self, task: TaskEstimates) -> float | None:
        """Stated tolerance, else the default for accuracies in [0, 1], else None."""
        stated = self._given(self.tolerance, task.task)
        if stated is None and task.metric_kind == "accuracy" and 0.0 <= task.outcome_mean <= 1.0:
            return ACCURACY_TOLERANCE
        return stated

    def c_cheap_of(self, task: TaskEstimates) -> float:
        """Stated cheap depth, else max(0.05 c_T, c_min)."""
        stated = self._given(self.c_cheap, task.task)
        return stated if stated is not None else max(CHEAP_SHARE * task.horizon, float(task.depths[0]))

    def cost_of(self, task: TaskEstimates) -> LinearCost:
        """Stated cost, else one by which a full run costs 1."""
        return self.cost if self.cost is not None else LinearCost(1.0 / task.horizon)

    def states(self, name: str, task: str) -> bool:
        """Whether the user stated the argument `name` for this task."""
        return self._given(getattr(self, name), task) is not None

    def to_dict(self) -> dict:
        """JSON-ready; `Arguments.from_dict` reads it."""

        def plain(given):
            return {task: float(v) for task, v in given.items()} if isinstance(given, Mapping) else _float(given)

        return {
            "cost": None if self.cost is None else dataclasses.asdict(self.cost),
            "gamma": _float(self.gamma),
            "tolerance": plain(self.tolerance),
            "c_cheap": plain(self.c_cheap),
        }

    @classmethod
    def from_dict(cls, content: dict) -> "Arguments":
        """Arguments from what `to_dict` made."""
        cost = content["cost"]
        return cls(
            None if cost is None else LinearCost(**cost), content["gamma"], content["tolerance"], content["c_cheap"]
        )

    @staticmethod
    def _given(given, task):
        value = given.get(task) if isinstance(given, Mapping) else given
        return _float(value)


def _float(value):
    return None if value is None else float(value)
