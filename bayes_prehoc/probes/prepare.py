"""A task made ready for the engine: its program, where runs start, and its sets, on a device."""

import dataclasses
import hashlib

import jax
import numpy as np

from bayes_prehoc.probes.descriptors import describe
from bayes_prehoc.probes.engine import Hyper, Program
from bayes_prehoc.probes.small_task import SmallTask
from bayes_prehoc.probes.spec import ProbeSpec
from bayes_prehoc.probes.stages import stages_of
from bayes_prehoc.probes.text_task import TextTask
from bayes_prehoc.probes.texts import TextData

__all__ = ["Prepared", "prepare"]


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """A task, ready to run.

    Attributes
    ----------
    spec : ProbeSpec
    task : SmallTask or TextTask
        Its weights and its data.
    """

    spec: ProbeSpec
    task: SmallTask | TextTask

    @property
    def digest(self) -> str:
        """sha256 of the specification, the weights and the data: what identifies the task's runs."""
        return hashlib.sha256("/".join((self.spec.hash, *self.task.identity)).encode()).hexdigest()

    @property
    def kind(self) -> str:
        """Of network: "mlp", "decoder", "transformer" or "head"."""
        return self.task.kind

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, in words."""
        return self.task.notes

    @property
    def multiplications(self) -> float:
        """Of one run."""
        return self.task.multiplications(self.spec)

    @property
    def bytes_of_run(self) -> float:
        """Memory that a run takes while it trains, beside what all runs share; a model (`probes.footprint`)."""
        return 4.0 * self.task.floats(self.spec)

    def place(self, device: jax.Device, width: int, show: bool = False) -> tuple[Program, tuple]:
        """The program for groups of so many seeds, and its arguments on the device.

        They are start, frozen, sets, hyper and stages, as `engine.run` takes them. With `show`, how far the computation
        of what is kept has come is shown on stderr.
        """
        spec, task = self.spec, self.task
        lengths, start, frozen, sets = task.arrays(device, width, show)
        hyper = Hyper(np.float32(spec.learning_rate), np.float32(spec.weight_decay))
        arguments = jax.device_put((start, frozen, sets, hyper, stages_of(spec)[1]), device)
        return Program.of(spec, task.learner, lengths, task.classes), arguments

    def describe(self, program: Program, arguments: tuple) -> dict[str, float]:
        """Static descriptors, from what `place` gave."""
        start, frozen, sets, *_ = arguments
        # For the suite's tasks compiling a gradient takes as long as a few of their runs.
        worth_it = isinstance(self.task, TextTask)
        return describe(program, start, frozen, sets, self.task.features(sets), worth_it)


def prepare(spec: ProbeSpec) -> Prepared:
    """Load a task's weights and data.

    Raises
    ------
    InputError
        If one of them is missing or they do not go together.
    """
    return Prepared(spec, TextTask(spec) if isinstance(spec.data, TextData) else SmallTask(spec))
