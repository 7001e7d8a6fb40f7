"""A callback that watches the evaluations of transformers' Trainer (and of trl's) and ends runs not worth finishing.

At each evaluation it says `stop`, `decided` or `watch`, and why, to the logger of this module (a stop as a warning);
while it watches, it asks the trainer to evaluate at the depths that are worth a look, whatever the trainer's own
schedule. What the run has shown is read from the trainer's log history, so that a run that goes on from a checkpoint is
decided as if it had never stopped; the table and the decisions so far are saved with the trainer's state.
"""

import logging
from typing import Any

from bayes_prehoc.errors import InputError
from bayes_prehoc.integrations.tables import table_of
from bayes_prehoc.watching import SAME_DEPTH, Decision

try:
    from transformers.trainer_callback import ExportableState, TrainerCallback
except ImportError:
    raise InputError("transformers is not installed", "WatchCallback", "pip install 'bayes-prehoc[models]'") from None

__all__ = ["WatchCallback"]

COUNTED = {"step": ("global_step", "step"), "epoch": ("epoch", "epoch")}
"""Depth units that a trainer counts, with their names in its state and in its log history."""
EVALUATED = "eval_"
"""Begins the names of what a trainer evaluated."""

logger = logging.getLogger(__name__)


class WatchCallback(TrainerCallback, ExportableState):
    """Watch a run and end it where its expected value is below the cost that remains.

    Parameters
    ----------
    watch : WatchTable, str, Path, Posterior, or PriorCard
        A table or the file it was saved in, for which NumPy is enough; or a posterior, or a prior card under which
        `runs` are fitted, with the task and the other arguments of `bayes_prehoc.watch_table`.
    task : str, optional
    **arguments
        As for `bayes_prehoc.watch_table`.

    Attributes
    ----------
    table : WatchTable
        A metric "accuracy" of its is looked for as "accuracy" and "eval_accuracy" among the trainer's.
    decisions : list of dict
        All so far, with their depth and reason; `Decision.to_dict`.

    Raises
    ------
    InputError
        As `watch_table`, or the table counts depth in a unit that a trainer does not count.
    """

    def __init__(self, watch, task: str | None = None, **arguments):
        self.table = table_of(watch, task, arguments)
        if self.table.depth_unit not in COUNTED:
            raise InputError(
                f"it counts depth in {self.table.depth_unit}s", "watch", f"A trainer counts {' and '.join(COUNTED)}s."
            )
        self.decisions: list[dict[str, Any]] = []

    def state(self) -> dict:
        """What a checkpoint keeps; JSON-ready."""
        return {"args": {"watch": self.table.to_dict()}, "attributes": {"decisions": self.decisions}}

    def on_train_begin(self, args, state, control, **kwargs):
        """Decide before the first look, or by what was seen before the checkpoint."""
        return self._follow(self.table.decide(self._seen(state)), state, control)

    def on_step_end(self, args, state, control, **kwargs):
        """Ask for an evaluation where the next look is due."""
        due = self.decisions[-1]["next_depth"] if self.decisions else None
        if due is not None and abs(self._depth(state) - due) <= SAME_DEPTH * due:
            control.should_evaluate = True
        return control

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        """Decide anew."""
        seen = self._seen(state)
        values = self._values(metrics or {})
        if not values:
            logger.warning(
                "an evaluation has none of the metrics %s, and is not used (it has %s)",
                ", ".join(self.table.predictor.metrics),
                ", ".join(sorted(metrics or {})) or "none",
            )
            return control
        seen[self._depth(state)] = values
        return self._follow(self.table.decide(seen), state, control)

    def _follow(self, decision: Decision, state, control):
        if state.is_world_process_zero:
            logger.log(logging.WARNING if decision.action == "stop" else logging.INFO, "%s", decision.reason)
        self.decisions.append(decision.to_dict())
        if decision.action == "stop":
            control.should_training_stop = True
        return control

    def _depth(self, state) -> float:
        return float(getattr(state, COUNTED[self.table.depth_unit][0]) or 0.0)

    def _seen(self, state) -> dict[float, dict[str, float]]:
        """Evaluations in the trainer's log history, by depth; the loss that it trains on is there too, as "loss"."""
        at = COUNTED[self.table.depth_unit][1]
        evaluations = [entry for entry in state.log_history if any(key.startswith(EVALUATED) for key in entry)]
        seen = {float(entry[at]): self._values(entry) for entry in evaluations if at in entry}
        return {depth: values for depth, values in seen.items() if values}

    def _values(self, metrics) -> dict[str, float]:
        """Those of the table's metrics that are there, by the table's names."""
        found = {}
        for metric in self.table.predictor.metrics:
            key = next((name for name in (EVALUATED + metric, metric) if name in metrics), None)
            if key is not None:
                found[metric] = float(metrics[key])
        return found
