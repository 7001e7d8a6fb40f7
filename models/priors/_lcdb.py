"""Learning curves of LCDB 0.1, the Learning Curve Database of Mohr et al. (2022), as runs.

A task is one learner of scikit-learn on one data set of OpenML, a run one of the repeats, which differ in how data are
split and in the learner's own randomness; depth is the number of examples trained on, and each depth is a training of
its own. The metric is accuracy on the test split. Some repeats share a test split and others do not, so the spread
between them has a part that is due to finite test sets.
"""

import tarfile
from pathlib import Path

import numpy as np
import pandas as pd

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs.trajectories import TaskRuns, Trajectories

__all__ = ["ARCHIVE", "FEWEST_DEPTHS", "FEWEST_REPEATS", "lcdb_runs"]

ARCHIVE = "lcdb-0.1.0.tar.gz"
"""What `pip download lcdb==0.1.0 --no-deps --no-binary :all:` gives."""
TABLE = "/lcdb/database-accuracy.csv"
FEWEST_DEPTHS, FEWEST_REPEATS = 12, 20
"""A curve counts with so many depths that so many of its repeats reached."""
_COLUMNS = {
    "openmlid": int, "learner": str, "size_train": int, "outer_seed": int, "inner_seed": int, "score_test": float,
}  # fmt: skip


def lcdb_runs(archive: Path, per_learner: int, seed: int = 0) -> Trajectories:
    """Runs of as many curves of each learner, chosen at random among those that count.

    Parameters
    ----------
    archive : path
        The source distribution of the package `lcdb`.
    per_learner : int
        Curves of each learner, each on another data set; all of them where there are no more.
    seed : int
        Of the choice.

    Returns
    -------
    Trajectories
        Tasks are called "learner on number of the data set". The horizon is the largest size of a curve.

    Raises
    ------
    InputError
        There is no such archive, or it does not hold the table.
    """
    table = _table(archive)
    reached = table.groupby(["learner", "openmlid", "size_train"]).size()
    depths = (reached >= FEWEST_REPEATS).groupby(level=["learner", "openmlid"]).sum()
    counted = depths.index[depths >= FEWEST_DEPTHS]
    rng, chosen = np.random.default_rng(seed), []
    for learner in sorted(counted.unique("learner")):
        sets = np.sort(counted[counted.get_level_values("learner") == learner].get_level_values("openmlid"))
        some = rng.choice(sets, size=min(per_learner, len(sets)), replace=False)
        chosen += [(learner, int(number)) for number in np.sort(some)]
    of_task = dict(iter(table.groupby(["learner", "openmlid"])))
    return Trajectories(tuple(_task(*key, of_task[key]) for key in chosen))


def _table(archive):
    archive = Path(archive)
    remedy = "Fetch it: pip download lcdb==0.1.0 --no-deps --no-binary :all:"
    try:
        with tarfile.open(archive) as opened:
            name = next((name for name in opened.getnames() if name.endswith(TABLE)), None)
            if name is None:
                raise InputError(f"it holds no {TABLE[1:]}", str(archive), remedy)
            return pd.read_csv(opened.extractfile(name), usecols=list(_COLUMNS), dtype=_COLUMNS)
    except FileNotFoundError:
        raise InputError("there is no such file", str(archive), remedy) from None
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        raise InputError(f"it cannot be read ({error})", str(archive), remedy) from None


def _task(learner, number, rows):
    """The repeats of one curve; a depth that a repeat has not is missing."""
    values = rows.pivot(index=["outer_seed", "inner_seed"], columns="size_train", values="score_test")
    return TaskRuns(
        task=f"{learner.rpartition('.')[2]} on {number}",
        seeds=tuple(f"{outer}-{inner}" for outer, inner in values.index),
        depths=values.columns.to_numpy(np.float64),
        values={"accuracy": values.to_numpy(np.float64)},
        outcome_metric="accuracy",
        horizon=float(values.columns[-1]),
        depth_unit="sample",
        higher_is_better=True,
        attributes={"family": "lcdb"},
    )
