"""How long probes take, and the bar that says so.

The unit of work is about one second of a CPU core: what tasks cost relative to each other matters, since the bar
divides the work that is left by the speed so far. A perceptron's step costs its arithmetic and a fixed overhead, a
decoder's its arithmetic, and every new combination of network, optimizer and shapes is compiled once, on one core.
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

from tqdm.auto import tqdm

from bayes_prehoc.probes.prepare import Prepared

__all__ = ["Work", "expected_work", "progress_bar"]

# Measured on one core of a 2-core machine, CPU time of the suite's tasks: within a factor of 1.4.
_MULTIPLICATIONS_PER_SECOND = {"mlp": 25e9, "decoder": 43e9, "transformer": 30e9, "head": 25e9}
_STEP_OVERHEAD = {"mlp": 6e-6, "decoder": 0.0, "transformer": 0.0, "head": 6e-6}
_COMPILING = {"mlp": 2.6, "decoder": 5.5, "transformer": 20.0, "head": 2.0}


class Work(NamedTuple):
    """What a task's missing runs cost, in units of work."""

    compiling: float
    run: float
    runs: int

    @property
    def total(self) -> float:
        """Of all of them together."""
        return self.compiling + self.run * self.runs


def expected_work(tasks: Sequence[Prepared], counts: Sequence[int], workers: int) -> list[Work]:
    """Work of `counts` runs of each task, when as many as `workers` groups run at a time.

    Tasks that share a compilation with one before them do not compile.
    """
    compiled, work = set(), []
    for task, count in zip(tasks, counts, strict=True):
        spec, kind = task.spec, task.kind
        seconds = task.multiplications / _MULTIPLICATIONS_PER_SECOND[kind]
        shape = (
            *(spec.backbone, spec.data, spec.train_size, spec.probe_size, spec.outcome_size, len(spec.depths)),
            *(spec.batch_size, spec.optimizer, spec.schedule, spec.head, spec.dropout, spec.adapter, spec.metric),
        )
        compiling = _COMPILING[kind] if count and shape not in compiled else 0.0
        compiled |= {shape} if count else set()
        work.append(Work(compiling, (seconds + _STEP_OVERHEAD[kind] * spec.steps) / workers, count))
    return work


def progress_bar(work: Sequence[Work], show: bool) -> tqdm:
    """A bar on stderr over this work; none if nothing is to be done."""
    total = sum(w.total for w in work)
    return tqdm(
        total=total,
        disable=not show or total == 0,
        file=sys.stderr,
        smoothing=0,
        mininterval=0.2 if sys.stderr.isatty() else 10,
        bar_format="{desc:<18} {percentage:3.0f}%|{bar}| {elapsed} gone, about {remaining} to go",
    )
