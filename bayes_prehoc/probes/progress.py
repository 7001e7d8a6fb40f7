"""How long probes take, and the bar that says so.

The unit of work is about one second of a CPU core: what tasks cost relative to each other matters, since the bar
divides the work that is left by the speed so far. A perceptron's step costs its arithmetic and a fixed overhead, a
decoder's its arithmetic, and every new combination of network, optimizer and shapes is compiled once, on one core.
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

import jax
from tqdm.auto import tqdm

from bayes_prehoc.probes.backbones import Backbone, MLPConfig
from bayes_prehoc.probes.spec import ProbeSpec

__all__ = ["Work", "expected_work", "progress_bar"]

# Measured on one core of a 2-core machine, CPU time of the suite's tasks: within a factor of 1.4.
_MULTIPLICATIONS_PER_SECOND = {"mlp": 25e9, "decoder": 43e9}
_STEP_OVERHEAD = {"mlp": 6e-6, "decoder": 0.0}
_COMPILING = {"mlp": 2.6, "decoder": 5.5}


class Work(NamedTuple):
    """What a task's missing runs cost, in units of work."""

    compiling: float
    run: float
    runs: int

    @property
    def total(self) -> float:
        """Of all of them together."""
        return self.compiling + self.run * self.runs


def expected_work(
    specs: Sequence[ProbeSpec], backbones: Sequence[Backbone], counts: Sequence[int], workers: int
) -> list[Work]:
    """Work of `counts` runs of each task, when as many as `workers` groups run at a time.

    Tasks that share a compilation with one before them do not compile.
    """
    compiled, work = set(), []
    for spec, backbone, count in zip(specs, backbones, counts, strict=True):
        kind = backbone.config.kind
        seconds = multiplications(spec, backbone) / _MULTIPLICATIONS_PER_SECOND[kind]
        shape = (
            *(backbone.config, spec.data, spec.train_size, spec.probe_size, spec.outcome_size, len(spec.depths)),
            *(spec.batch_size, spec.optimizer, spec.schedule, spec.head, spec.dropout),
        )
        compiling = _COMPILING[kind] if count and shape not in compiled else 0.0
        compiled |= {shape} if count else set()
        work.append(Work(compiling, (seconds + _STEP_OVERHEAD[kind] * spec.steps) / workers, count))
    return work


def multiplications(spec: ProbeSpec, backbone: Backbone) -> float:
    """About how many multiplications one run takes: three passes per training example, one per evaluation."""
    weights = sum(leaf.size for leaf in jax.tree.leaves(backbone.params))
    positions = 1 if isinstance(backbone.config, MLPConfig) else backbone.config.context
    examples = 3 * spec.steps * spec.batch_size + len(spec.depths) * spec.probe_size + spec.outcome_size
    return float(weights) * positions * examples


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
