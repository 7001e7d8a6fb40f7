"""What a probe is asked to do: one fine-tuning task, described completely and checked when it is made."""

import dataclasses
import hashlib
import json
import math

import numpy as np

from bayes_prehoc.errors import InputError

__all__ = ["ProbeSpec"]

# Raised when the engine or a data source changes what a run computes: runs stored before are then other runs.
REVISION = 1

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("constant", "cosine", "linear")
HEADS = ("new", "kept")
METRICS = ("accuracy", "exact_match")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeSpec:
    """A fine-tuning task T = (model, data, optimizer), ready to be run under many seeds.

    Attributes
    ----------
    name : str
        Name of the task.
    data : str
        A data source (`bayes_prehoc.probes.suite.SOURCES`).
    backbone : str
        Name of the pretrained network to start from.
    metric : str
        "accuracy" or "exact_match" (all of an answer's tokens right), in [0, 1]; the outcome R is its value on
        the outcome set at the horizon.
    train_size, probe_size, outcome_size : int
        Examples in three disjoint sets: what is trained on, what the trajectory is measured on, what R is
        measured on.
    label_noise, probe_label_noise : float
        Share of the labels of the training and of the probe set replaced by a wrong one. The noise belongs to
        the task: it is the same in every run. The outcome set is always clean.
    data_seed : int
        Fixes which examples are in which set, and the label noise.
    steps : int
        The horizon c_T, in optimizer steps.
    batch_size : int
    learning_rate, weight_decay, dropout : float
    optimizer : str
        "adamw", or "sgd" (momentum 0.9).
    schedule : str
        "constant", or "cosine" or "linear" decay to zero at the horizon.
    head : str
        "new" draws a fresh output layer in every run, "kept" goes on with the pretrained one.
    n_depths : int
        Number of log-spaced depths at which a run is evaluated, the last one the horizon.
    description : str
        For people; not part of the task's identity.

    Raises
    ------
    InputError
        If a value is impossible.
    """

    name: str
    data: str
    backbone: str
    train_size: int
    probe_size: int
    outcome_size: int
    steps: int
    batch_size: int
    learning_rate: float
    metric: str = "accuracy"
    label_noise: float = 0.0
    probe_label_noise: float = 0.0
    data_seed: int = 0
    weight_decay: float = 0.0
    dropout: float = 0.0
    optimizer: str = "adamw"
    schedule: str = "constant"
    head: str = "new"
    n_depths: int = 12
    description: str = dataclasses.field(default="", compare=False)

    def __post_init__(self):
        where = f"ProbeSpec {self.name!r}"
        if not isinstance(self.name, str) or not self.name.strip():
            raise InputError(f"the name is {self.name!r}", "ProbeSpec", "Give the task a name.")
        for field, choices in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("head", HEADS),
            ("metric", METRICS),
        ):
            if getattr(self, field) not in choices:
                raise InputError(
                    f"{field} is {getattr(self, field)!r}", f"{where}, {field}", f"Use one of {', '.join(choices)}."
                )
        for field in ("train_size", "probe_size", "outcome_size", "steps", "batch_size", "n_depths"):
            _check(
                self, field, lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 1, "a whole number >= 1"
            )
        _check(self, "data_seed", lambda v: isinstance(v, int) and v >= 0, "a whole number >= 0")
        _check(self, "learning_rate", lambda v: _finite(v) and v > 0, "a positive number")
        _check(self, "weight_decay", lambda v: _finite(v) and v >= 0, "a number >= 0")
        for field in ("label_noise", "probe_label_noise", "dropout"):
            _check(self, field, lambda v: _finite(v) and 0 <= v < 1, "a share, at least 0 and below 1")
        if self.batch_size > self.train_size:
            raise InputError(
                f"batch_size {self.batch_size} exceeds train_size {self.train_size}", where, "Use a smaller batch."
            )

    @property
    def depths(self) -> np.ndarray:
        """Depths at which a run is evaluated, in steps: int array (D,), from 2% of the horizon to the horizon."""
        first = max(1.0, 0.02 * self.steps)
        spaced = np.geomspace(first, self.steps, self.n_depths) if self.n_depths > 1 else np.array([self.steps])
        return np.unique(np.rint(spaced).astype(int))

    @property
    def hash(self) -> str:
        """sha256 of the canonical JSON of the fields: what identifies the task in a run store."""
        fields = dataclasses.asdict(self)
        del fields["description"]
        floats = {f.name for f in dataclasses.fields(self) if f.type is float}
        canonical = {k: float(v) if k in floats else v for k, v in fields.items()} | {"revision": REVISION}
        return hashlib.sha256(json.dumps(canonical, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _finite(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check(spec: ProbeSpec, field: str, good, expected: str) -> None:
    value = getattr(spec, field)
    if not good(value):
        raise InputError(f"{field} is {value!r}", f"ProbeSpec {spec.name!r}, {field}", f"It must be {expected}.")
