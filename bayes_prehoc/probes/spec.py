"""What a probe is asked to do: one fine-tuning task, described completely and checked when it is made."""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable

import numpy as np

from bayes_prehoc.errors import InputError
from bayes_prehoc.probes.adapters import Adapter
from bayes_prehoc.probes.texts import TextData
from bayes_prehoc.risk.estimates import SHALLOWEST

__all__ = ["ProbeSpec", "name_of"]

# Raised when the engine or a data source changes what a run computes: runs stored before are then other runs.
REVISION = 2

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("constant", "cosine", "linear")
FUNCTIONS = ("optimizer", "schedule", "metric")
"""Fields that may be functions."""
RECORDED = ("loss", "train_loss", "learning_rate")
"""What is recorded at each depth, beside the metric."""
HEADS = ("new", "kept")
DEPTH_MEANINGS = ("prefix", "per_depth")
METRICS = ("accuracy", "exact_match", "f1", "matthews", "loss")
METRICS_OF = {
    "class": ("accuracy", "f1", "matthews", "loss"),
    "number": ("loss",),
    "answer": ("exact_match", "loss"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeSpec:
    """A fine-tuning task T = (model, data, optimizer), ready to be run under many seeds.

    Attributes
    ----------
    name : str
        Name of the task.
    data : str or TextData
        A data source of the built-in suite (`bayes_prehoc.probes.suite.SOURCES`), or texts.
    backbone : str
        The pretrained network to start from: the name of one of the suite's, or for texts the folder of a transformer,
        or a repository of the Hugging Face hub.
    metric : str or callable
        The outcome R is its value on the outcome set at the horizon: "accuracy", "exact_match" (all of an answer's
        tokens right), "f1" (of class 1 where there are two, else the mean of all classes), "matthews" (correlation of
        classes), "loss", or a function (judged, classes) of a name of its own, in JAX, that gives a number for
        answers to a set of examples (`probes.Judged`) and the number of classes.
    higher_is_better : bool, optional
        Of a metric that is a function, and only of it: whether a higher value is a better one.
    train_size, probe_size, outcome_size : int, optional
        Examples in three disjoint sets: what is trained on, what the trajectory is measured on, what R is
        measured on. The suite's tasks need them; of texts all are taken by default.
    label_noise, probe_label_noise : float
        Share of the labels of the training and of the probe set replaced by a wrong one. The noise belongs to
        the task: it is the same in every run. The outcome set is always clean.
    data_seed : int
        Fixes which examples are in which set, and the label noise.
    steps : int
        The horizon c_T, in optimizer steps.
    batch_size : int
    learning_rate, weight_decay : float
    dropout : float, optional
        Default: that of the pretrained transformer, for the suite's networks none.
    optimizer : str or callable
        "adamw", "sgd" (momentum 0.9), or a function that makes an optax transformation from a learning rate schedule,
        such as `optax.lion`; it must have a name, and weight decay is its own matter.
    schedule : str or callable
        "constant", "cosine" or "linear" decay to zero at the horizon, or a function (step, horizon) of a name of its
        own that gives the factor of `learning_rate`.
    head : str
        "new" draws a fresh output layer in every run, "kept" goes on with the pretrained one.
    adapter : Adapter, optional
        What of a transformer is trained; default: all of it.
    pooling : str, optional
        What stands for a text: its "first" token, its "last", or the "mean" of all. Default: as the transformer is
        usually used.
    n_depths : int
        Number of log-spaced depths at which a run is evaluated, the last one the horizon.
    depth_meaning : str
        "prefix": a run is observed at its depths. "per_depth": each depth is a run of its own, from the beginning and
        with a schedule that ends there.
    keep_examples : bool
        Judge the outcome set at every depth and keep what each example contributes.
    branches : int
        Continuations with fresh randomness, at least 2, of a run from each of `fork_depths` to the horizon; 0 for none.
    fork_depths : tuple of int
        Of the depths; default, where there are branches, all but the last.
    family : str, optional
        Tasks that resemble each other, such as those of one backbone, are told to be one family by its name. Neither it
        nor the description is part of the task's identity.
    description : str
        For people.

    Raises
    ------
    InputError
        If a value is impossible.
    """

    name: str
    data: str | TextData
    backbone: str
    steps: int
    batch_size: int
    learning_rate: float
    train_size: int | None = None
    probe_size: int | None = None
    outcome_size: int | None = None
    metric: str | Callable = "accuracy"
    higher_is_better: bool | None = None
    label_noise: float = 0.0
    probe_label_noise: float = 0.0
    data_seed: int = 0
    weight_decay: float = 0.0
    dropout: float | None = None
    optimizer: str | Callable = "adamw"
    schedule: str | Callable = "constant"
    head: str = "new"
    adapter: Adapter | None = None
    pooling: str | None = None
    n_depths: int = 12
    depth_meaning: str = "prefix"
    keep_examples: bool = False
    branches: int = 0
    fork_depths: tuple[int, ...] = ()
    family: str | None = dataclasses.field(default=None, compare=False)
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
            ("depth_meaning", DEPTH_MEANINGS),
        ):
            value = getattr(self, field)
            if callable(value) and field in FUNCTIONS:
                name_of(value, f"{where}, {field}")
            elif value not in choices:
                raise InputError(f"{field} is {value!r}", f"{where}, {field}", f"Use one of {', '.join(choices)}.")
        self._check_metric_function(where)
        if self.family is not None and (not isinstance(self.family, str) or not self.family.strip()):
            raise InputError(f"family is {self.family!r}", f"{where}, family", "Give it a name, or leave it out.")
        if self.pooling not in (None, "first", "last", "mean"):
            raise InputError(f"pooling is {self.pooling!r}", f"{where}, pooling", "Use one of first, last, mean.")
        sizes = [name for name in ("train_size", "probe_size", "outcome_size") if not self._is_left_to_data(name)]
        for field in (*sizes, "steps", "batch_size", "n_depths"):
            _check(self, field, lambda v: _is_whole(v) and v >= 1, "a whole number >= 1")
        _check(self, "data_seed", lambda v: isinstance(v, int) and v >= 0, "a whole number >= 0")
        _check(self, "learning_rate", lambda v: _finite(v) and v > 0, "a positive number")
        _check(self, "weight_decay", lambda v: _finite(v) and v >= 0, "a number >= 0")
        for field in ("label_noise", "probe_label_noise", *(("dropout",) if self.dropout is not None else ())):
            _check(self, field, lambda v: _finite(v) and 0 <= v < 1, "a share, at least 0 and below 1")
        if self.train_size is not None and self.batch_size > self.train_size:
            raise InputError(
                f"batch_size {self.batch_size} exceeds train_size {self.train_size}", where, "Use a smaller batch."
            )
        if callable(self.optimizer) and self.weight_decay:
            raise InputError(
                f"weight_decay is {self.weight_decay}", f"{where}, weight_decay", "Build it into the optimizer."
            )
        self._check_kind_of_data(where)
        self._check_forks(where)

    def _check_metric_function(self, where: str) -> None:
        if callable(self.metric) != isinstance(self.higher_is_better, bool):
            raise InputError(
                f"higher_is_better is {self.higher_is_better!r}",
                f"{where}, metric",
                "Say True or False of a metric that is a function, and nothing of those known by name.",
            )
        if callable(self.metric) and self.metric_name in RECORDED:
            raise InputError(
                f"a function is called {self.metric_name!r}, as something that is recorded besides",
                f"{where}, metric",
                "Give it another name.",
            )

    def _check_forks(self, where: str) -> None:
        _check(self, "branches", lambda v: _is_whole(v) and (v == 0 or v >= 2), "0 or a whole number >= 2")
        if self.branches and not self.fork_depths:
            object.__setattr__(self, "fork_depths", tuple(self.depths[:-1].tolist()))
        if self.fork_depths and not self.branches:
            raise InputError("fork_depths without branches", where, "Say branches=N, at least 2.")
        if self.branches and self.depth_meaning == "per_depth":
            raise InputError("each depth is a run of its own", f"{where}, branches", "Fork runs of meaning 'prefix'.")
        inner = self.depths[:-1].tolist()
        wrong = [depth for depth in self.fork_depths if depth not in inner]
        if wrong or list(self.fork_depths) != sorted(set(self.fork_depths)):
            what = f"{wrong[0]!r} is no depth before the last" if wrong else "depths are not increasing"
            listed = ", ".join(map(str, inner))
            raise InputError(what, f"{where}, fork_depths", f"Give some of {listed}, in order.")

    def _is_left_to_data(self, size: str) -> bool:
        return isinstance(self.data, TextData) and getattr(self, size) is None

    def _check_kind_of_data(self, where: str) -> None:
        """Whether the data are texts decides which fields mean something."""
        if not isinstance(self.data, TextData):
            for field in ("adapter", "pooling"):
                if getattr(self, field) is not None:
                    raise InputError(f"{field} is for texts", f"{where}, {field}", "Leave it out, or give TextData.")
            if not callable(self.metric) and self.metric not in ("accuracy", "exact_match"):
                raise InputError(
                    f"{self.metric!r} is for texts",
                    f"{where}, metric",
                    "Use accuracy or exact_match, or give TextData.",
                )
            return
        if self.label_noise or self.probe_label_noise:
            raise InputError("label noise is for the suite's data", where, "Put the noise into the table of texts.")
        allowed = METRICS_OF[self.data.kind]
        if not callable(self.metric) and self.metric not in allowed:
            raise InputError(
                f"metric is {self.metric!r}, which is not for data of kind {self.data.kind!r}",
                f"{where}, metric",
                f"Use one of {', '.join(allowed)}.",
            )

    @property
    def depths(self) -> np.ndarray:
        """Depths at which a run is evaluated, in steps: int array (D,), from 2% of the horizon to the horizon."""
        first = max(1.0, SHALLOWEST * self.steps)
        spaced = np.geomspace(first, self.steps, self.n_depths) if self.n_depths > 1 else np.array([self.steps])
        return np.unique(np.rint(spaced).astype(int))

    @property
    def metric_name(self) -> str:
        """What the metric is called among what is recorded: of a function its own name."""
        if not callable(self.metric):
            return self.metric
        return name_of(self.metric, f"ProbeSpec {self.name!r}, metric").partition("(")[0].rpartition(".")[2]

    @property
    def hash(self) -> str:
        """sha256 of the canonical JSON of the fields: what identifies the task in a run store."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.compare}
        if isinstance(self.data, TextData):
            fields["data"] = self.data.described
        if self.adapter is not None:
            fields["adapter"] = dataclasses.asdict(self.adapter)
        for field in FUNCTIONS:
            if callable(fields[field]):
                fields[field] = name_of(fields[field], field)
        if self.higher_is_better is None:
            del fields["higher_is_better"]
        floats = {f.name for f in dataclasses.fields(self) if f.type in (float, float | None)}
        canonical = {k: float(v) if k in floats and v is not None else v for k, v in fields.items()}
        canonical["revision"] = REVISION
        return hashlib.sha256(json.dumps(canonical, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def name_of(function: Callable, where: str) -> str:
    """What identifies a function in a run store: its module and name, with the arguments of a partial.

    Raises
    ------
    InputError
        If it has no name that another process would find it by.
    """
    if isinstance(function, functools.partial):
        arguments = ", ".join(
            [*map(repr, function.args), *(f"{k}={v!r}" for k, v in sorted(function.keywords.items()))]
        )
        return f"{name_of(function.func, where)}({arguments})"
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
    if "<" in name or name.endswith("."):
        raise InputError(f"{function!r} has no name of its own", where, "Define it as a function of a module.")
    return name


def _is_whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _finite(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check(spec: ProbeSpec, field: str, good, expected: str) -> None:
    value = getattr(spec, field)
    if not good(value):
        raise InputError(f"{field} is {value!r}", f"ProbeSpec {spec.name!r}, {field}", f"It must be {expected}.")
