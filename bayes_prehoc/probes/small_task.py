"""A task of the built-in suite, ready for the engine."""

import jax
import numpy as np

from bayes_prehoc.errors import InputError
from bayes_prehoc.probes.backbones import MLPConfig, load_backbone
from bayes_prehoc.probes.engine import Sets
from bayes_prehoc.probes.footprint import layer_floats, perceptron_floats, state_floats, while_judged
from bayes_prehoc.probes.learners import SmallLearner
from bayes_prehoc.probes.sets import judged_sets
from bayes_prehoc.probes.spec import ProbeSpec
from bayes_prehoc.probes.stages import stages_of, work_of
from bayes_prehoc.probes.suite.data import SOURCES, load_data

__all__ = ["SmallTask"]

AT_ONCE = 256
"""Examples of a batch that is judged."""


class SmallTask:
    """All of the network is trained.

    Raises
    ------
    InputError
        If weights or data are missing or do not go together.
    """

    notes = ()

    def __init__(self, spec: ProbeSpec):
        self.backbone, self.data = load_backbone(spec.backbone), load_data(spec)
        self.identity = (self.backbone.digest,)
        config, self.classes = self.backbone.config, SOURCES[spec.data].outputs
        self.kind = config.kind
        wanted = config.inputs if isinstance(config, MLPConfig) else config.context
        if self.data.train_x.shape[1] != wanted or (spec.head == "kept" and config.outputs != self.classes):
            raise InputError(
                f"the data have {self.data.train_x.shape[1]} inputs and {self.classes} outputs, "
                f"backbone {spec.backbone!r} {wanted} and {config.outputs}",
                f"task {spec.name!r}",
                "Use a backbone that was pretrained on such inputs, and a new head if the outputs differ.",
            )
        self.learner = SmallLearner(config, self.classes, spec.head, spec.dropout or 0.0)

    def arrays(self, device: jax.Device, width: int, show: bool) -> tuple:
        """Lengths of batches, where runs start, what is frozen, and the sets."""
        data = self.data
        needed = self.learner.lengths(data.train_x).astype(np.int32)
        lengths = (int(needed.max()),)
        pairs = [(data.probe_x, data.probe_y), (data.outcome_x, data.outcome_y)]
        judged = judged_sets(self.learner, pairs, lengths, AT_ONCE)
        return lengths, self.backbone.params, {}, Sets(data.train_x, data.train_y, needed, *judged)

    def features(self, sets: Sets) -> None:
        """None: there is no common layer to look at."""
        return

    def floats(self, spec: ProbeSpec) -> int:
        """Numbers that a run holds."""
        config, judged = self.backbone.config, min(AT_ONCE, len(self.data.outcome_y))
        state = state_floats(self._weights, stages_of(spec)[0].slots)
        if isinstance(config, MLPConfig):
            widths = config.inputs, *config.widths
            return state + max(
                perceptron_floats(spec.batch_size, widths), while_judged(perceptron_floats(judged, widths))
            )
        shape = config.context, config.width, config.hidden, config.heads
        trained = config.blocks * layer_floats(spec.batch_size * config.context, *shape)
        return state + max(trained, while_judged(layer_floats(judged * config.context, *shape)))

    @property
    def _weights(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self.backbone.params))

    def multiplications(self, spec: ProbeSpec) -> float:
        """Of one run."""
        config, work = self.backbone.config, work_of(spec)
        positions = 1 if isinstance(config, MLPConfig) else config.context
        judged = work.probed * len(self.data.probe_y) + work.judged * len(self.data.outcome_y)
        return float(self._weights) * positions * (3 * work.steps * spec.batch_size + judged)
