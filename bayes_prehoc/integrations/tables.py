"""The table behind a callback, from whatever was given for it."""

from collections.abc import Mapping
from pathlib import Path

from bayes_prehoc.errors import InputError
from bayes_prehoc.watching import WatchTable, load_watch_table

__all__ = ["table_of"]


def table_of(watch, task: str | None, arguments: Mapping) -> WatchTable:
    """A table, one in a file or as a dictionary; or one made of a posterior, the task and arguments of `watch_table`.

    In a posterior's place may stand a prior card: the runs that are given are fitted under it.

    Raises
    ------
    InputError
        It is none of these, or the table is there and arguments to make one are given too; for a card there are no
        runs.
    """
    made = isinstance(watch, WatchTable | Mapping | str | Path)
    if made and (task is not None or arguments):
        raise InputError(
            f"{', '.join(['task'] * (task is not None) + sorted(arguments))} given beside a table that is made",
            "watch",
            "Give these to watch_table, or give the posterior.",
        )
    if isinstance(watch, WatchTable):
        return watch
    if made:
        return WatchTable.from_dict(watch) if isinstance(watch, Mapping) else load_watch_table(watch)
    # Not at the top: where there is a table, nothing needs JAX.
    from bayes_prehoc.planning.watch import watch_table
    from bayes_prehoc.priors import PriorCard

    if isinstance(watch, PriorCard):
        watch = _fitted(watch, arguments)
    if not hasattr(watch, "predict_risk"):
        raise InputError(
            f"it is a {type(watch).__name__}",
            "watch",
            "Give a WatchTable, its file, or a posterior or a prior card, and the task.",
        )
    if task is None:
        raise InputError("task is missing", "watch", f"Name one of {', '.join(watch.tasks[:8])}.")
    return watch_table(watch, task, **arguments)


def _fitted(card, arguments):
    """The posterior of the runs under the card."""
    from bayes_prehoc.hierarchy.fit import fit
    from bayes_prehoc.risk.estimate import estimate_risk

    if arguments.get("runs") is None:
        raise InputError(
            "there are no runs",
            "runs",
            "Give complete runs of the task: a card knows how risk falls, and not what a run's values tell of its end.",
        )
    return fit(estimate_risk(arguments["runs"], proxy=card.scope.proxy), prior=card)
