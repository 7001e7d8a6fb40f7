"""An Optuna pruner that ends a trial where its expected value is below the cost that remains.

The task of the posterior is the search space: its runs are earlier trials, each with hyperparameters of its own, and
what is random in a run includes them. Every trial's intermediate values, at the depths of the table, are what was seen.
"""

import logging

from bayes_prehoc.errors import InputError
from bayes_prehoc.integrations.tables import table_of
from bayes_prehoc.watching import Decision

try:
    import optuna
except ImportError:
    raise InputError("optuna is not installed", "WatchPruner", "pip install 'bayes-prehoc[optuna]'") from None

__all__ = ["WatchPruner"]

logger = logging.getLogger(__name__)


class WatchPruner(optuna.pruners.BasePruner):
    """Prune trials that are not worth finishing.

    Parameters
    ----------
    watch : WatchTable, str, Path, Posterior, or PriorCard
        A table or the file it was saved in, for which NumPy is enough; or a posterior, or a prior card under which
        `runs` are fitted, with the task and the other arguments of `bayes_prehoc.watch_table`. Its threshold is what a
        trial is to reach until one has finished.
    task : str, optional
    beat_best : bool, optional
        A trial is to end better than the best that has finished (default); else the table's threshold stays.
    **arguments
        As for `bayes_prehoc.watch_table`.

    Attributes
    ----------
    table : WatchTable
    decisions : dict from trial number to Decision
        The last one of each trial that this process has judged.

    Raises
    ------
    InputError
        As `watch_table`.
    """

    def __init__(self, watch, task: str | None = None, *, beat_best: bool = True, **arguments):
        self.table = table_of(watch, task, arguments)
        self.beat_best = beat_best
        self.decisions: dict[int, Decision] = {}

    def prune(self, study: "optuna.study.Study", trial: "optuna.trial.FrozenTrial") -> bool:
        """Whether to end the trial, given all it has reported.

        Raises
        ------
        InputError
            The study goes the other way than the metric of the table.
        """
        wanted, better = ("maximize", "higher") if self.table.higher_is_better else ("minimize", "lower")
        if study.direction.name.lower() != wanted:
            raise InputError(
                f"it is to {study.direction.name.lower()}, while a {better} {self.table.metric} is better",
                f"study {study.study_name!r}",
                f"Create it with direction={wanted!r}.",
            )
        decision = self.table.decide(trial.intermediate_values, self._threshold(study))
        logger.info("trial %d: %s", trial.number, decision.reason)
        self.decisions[trial.number] = decision
        return decision.action == "stop"

    def _threshold(self, study) -> float | None:
        if not self.beat_best:
            return None
        finished = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        best = max if self.table.higher_is_better else min
        return best((trial.value for trial in finished), default=None)
