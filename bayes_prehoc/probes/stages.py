"""What a run does, stage by stage: steps, and what is judged after them.

A run is one loop over stages, so that a step is compiled once whatever a probe asks for. Depths follow each other
("prefix"), or each starts anew with a schedule of its own ("per_depth"). Where a run is forked its state is kept, and
continuations with fresh randomness start from it when the run has ended.
"""

from typing import NamedTuple

import jax
import numpy as np

from bayes_prehoc.probes.spec import ProbeSpec

__all__ = ["Layout", "Stages", "Work", "stages_of", "work_of"]

GO_ON, NOWHERE = -1, -1


class Layout(NamedTuple):
    """How many stages of each kind there are, in this order.

    Attributes
    ----------
    depths : int
        Stages after which the probe set is judged.
    judged_apart : int
        1 if the outcome set is judged in a stage of its own, at the horizon; 0 if it is judged at every depth.
    forks, branches : int
        Depths at which a run is forked, and continuations of each.
    slots : int
        States that are kept, the first of them that of the beginning.
    follow : bool
        A depth goes on from the one before.
    """

    depths: int
    judged_apart: int
    forks: int
    branches: int
    slots: int
    follow: bool


class Stages(NamedTuple):
    """Integer arrays (S,), one entry a stage.

    Attributes
    ----------
    first, last : int
        Steps, from the first up to and without the last.
    horizon : int
        Step at which the learning rate's schedule ends.
    load : int
        The slot whose state it starts from, or `GO_ON`.
    save : int
        The slot that keeps its last state, or `NOWHERE`.
    branch : int
        What its randomness is told by; 0 is the run's own.
    probe, outcome : int
        Whether that set is judged, 0 or 1.
    """

    first: jax.Array
    last: jax.Array
    horizon: jax.Array
    load: jax.Array
    save: jax.Array
    branch: jax.Array
    probe: jax.Array
    outcome: jax.Array


def stages_of(spec: ProbeSpec) -> tuple[Layout, Stages]:
    """The stages that a task asks for."""
    depths, end = spec.depths.tolist(), int(spec.depths[-1])
    forked = [depths.index(depth) for depth in spec.fork_depths]
    anew = spec.depth_meaning == "per_depth"
    apart = int(not spec.keep_examples)
    rows = []
    for i, depth in enumerate(depths):
        first = 0 if anew or i == 0 else depths[i - 1]
        save = 1 + forked.index(i) if i in forked else NOWHERE
        rows.append((first, depth, depth if anew else end, 0 if anew else GO_ON, save, 0, 1, 1 - apart))
    if apart:
        rows.append((end, end, end, GO_ON, NOWHERE, 0, 0, 1))
    for fork, i in enumerate(forked):
        for branch in range(spec.branches):
            number = 1 + i * spec.branches + branch
            rows.append((depths[i], end, end, 1 + fork, NOWHERE, number, 0, 1))
    layout = Layout(len(depths), apart, len(forked), spec.branches if forked else 0, 1 + len(forked), not anew)
    return layout, Stages(*np.array(rows, np.int32).T)


class Work(NamedTuple):
    """Steps of a run with its continuations, and how often its probe and its outcome set are judged."""

    steps: int
    probed: int
    judged: int


def work_of(spec: ProbeSpec) -> Work:
    """What a run of a task costs."""
    _, stages = stages_of(spec)
    return Work(int(np.sum(stages.last - stages.first)), int(np.sum(stages.probe)), int(np.sum(stages.outcome)))
