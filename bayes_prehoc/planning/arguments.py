"""What the user assumed, checked against the tasks at hand, with a default for what was not said.

Defaults: a tolerance of 0.01 for metrics of the accuracy kind whose outcome lies in [0, 1], none for others; the cheap
depth max(0.05 c_T, c_min); a cost such that a full run costs 1; the price of error from these, task by task (`plan`).
"""

import dataclasses
from collections.abc import Mapping

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning.costs import Cost, LinearCost, cost_from_dict, positive
from bayes_prehoc.planning.losses import ThresholdLoss
from bayes_prehoc.risk.estimates import RiskEstimates, TaskEstimates

__all__ = ["ACCURACY_TOLERANCE", "CHEAP_SHARE", "Arguments", "check_names"]

ACCURACY_TOLERANCE = 0.01
CHEAP_SHARE = 0.05


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Arguments of `plan`; None is the documented default.

    Parameters
    ----------
    cost : Cost or mapping from task to Cost, optional
    gamma : float, ThresholdLoss, or mapping from task to either, optional
        Price of one unit of squared error, or the loss that it follows from.
    tolerance : float or mapping from task to float, optional
    c_cheap : float or mapping from task to float, optional
    """

    cost: Cost | Mapping[str, Cost] | None = None
    gamma: float | ThresholdLoss | Mapping[str, float | ThresholdLoss] | None = None
    tolerance: float | Mapping[str, float] | None = None
    c_cheap: float | Mapping[str, float] | None = None

    def check(self, estimates: RiskEstimates) -> None:
        """Complain about what cannot be used.

        Raises
        ------
        InputError
            A value that is not a finite number above zero, a task that does not exist, a cheap depth beyond the
            horizon, something else than a cost, costs of some tasks only, a cost that is not known at all of a task's
            depths, a threshold for a metric of which nobody said which way is better.
        """
        for where in ("cost", "gamma", "tolerance", "c_cheap"):
            given = getattr(self, where)
            if given is None:
                continue
            if not isinstance(given, Mapping):
                _check_value(given, where, where)
                continue
            check_names(given, where, estimates)
            for task, value in given.items():
                _check_value(value, where, f"{where}, task {task!r}")
        for task in estimates:
            self._check_task(task)

    def _check_task(self, task: TaskEstimates) -> None:
        depth = self._given(self.c_cheap, task.task)
        if depth is not None and depth > task.horizon:
            raise InputError(
                f"{depth:.10g} lies beyond the horizon ({task.horizon:.10g}, unit {task.depth_unit})",
                f"c_cheap, task {task.task!r}",
                f"Give a depth of at most {task.horizon:.10g}, or one depth per task: {{task: depth}}.",
            )
        if isinstance(self.cost, Mapping) and task.task not in self.cost:
            raise InputError(
                f"no cost of task {task.task!r}", "cost", "Give one for each task, or one for all of them."
            )
        try:
            self.cost_of(task).pieces(task.c_min, float(task.horizon))
        except InputError as error:
            raise InputError(error.what, f"cost, task {task.task!r}", error.remedy) from None
        if isinstance(self.gamma_of(task), ThresholdLoss) and task.higher_is_better is None:
            raise InputError(
                f"nobody said whether a higher {task.metric} is better",
                f"gamma, task {task.task!r}",
                "State higher_is_better when the runs are read, or give gamma as a number.",
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
        return stated if stated is not None else max(CHEAP_SHARE * task.horizon, task.c_min)

    def cost_of(self, task: TaskEstimates) -> Cost:
        """Stated cost, else one by which a full run costs 1."""
        stated = self._given(self.cost, task.task)
        return stated if stated is not None else LinearCost(1.0 / task.horizon)

    def gamma_of(self, task: TaskEstimates) -> float | ThresholdLoss | None:
        """Stated price of error, or the loss it follows from, else None."""
        return self._given(self.gamma, task.task)

    def states(self, name: str, task: str) -> bool:
        """Whether the user stated the argument `name` for this task."""
        return self._given(getattr(self, name), task) is not None

    def to_dict(self) -> dict:
        """JSON-ready; `Arguments.from_dict` reads it."""

        def plain(given):
            if isinstance(given, Mapping):
                return {task: plain(value) for task, value in given.items()}
            return given.to_dict() if isinstance(given, Cost | ThresholdLoss) else _float(given)

        return {field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, content: dict) -> "Arguments":
        """Arguments from what `to_dict` made."""

        def read(given):
            if not isinstance(given, dict):
                return given
            form = given.get("form")
            if form == ThresholdLoss.FORM:
                return ThresholdLoss.from_dict(given)
            # Linear costs were the only ones once, and bore no form. A task may be called "form", but is not text.
            if isinstance(form, str) or isinstance(given.get("per_unit"), int | float):
                return cost_from_dict(given)
            return {task: read(value) for task, value in given.items()}

        return cls(**{name: read(given) for name, given in content.items()})

    @staticmethod
    def _given(given, task):
        value = given.get(task) if isinstance(given, Mapping) else given
        return value if isinstance(value, Cost | ThresholdLoss) else _float(value)


def check_names(given: Mapping, where: str, estimates: RiskEstimates) -> None:
    """Complain about tasks that were not fitted; naming one that was set aside is no mistake, though it has no answer.

    Raises
    ------
    InputError
    """
    known = {t.task: None for t in estimates}
    aside = {s.task for s in estimates.set_aside}
    for task in given:
        if task not in known and task not in aside:
            some = ", ".join(list(known)[:8]) + (", ..." if len(known) > 8 else "")
            raise InputError(f"no task {task!r}", where, f"Name one of the fitted tasks: {some}.")


def _check_value(value, argument, where):
    if argument == "cost":
        if not isinstance(value, Cost):
            raise InputError(
                f"it is {value!r}", where, "Give bayes_prehoc.LinearCost(per_unit, fixed=0.0, unit='GPU hour')."
            )
    elif not (argument == "gamma" and isinstance(value, ThresholdLoss)):
        positive(value, where)


def _float(value):
    return None if value is None else float(value)
