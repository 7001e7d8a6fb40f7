"""A task made ready for the engine: its learner, where runs start, and its sets, on a device.

What lies below the first layer that is trained is the same for every seed and step. It is computed once for every
example and kept, if it fits into the memory that may be spent on it; for the head alone the pooled features are kept,
which always fit.
"""

import dataclasses
import functools
import hashlib
import sys
from typing import Any

import jax
import numpy as np
from tqdm.auto import tqdm

from bayes_prehoc.errors import InputError
from bayes_prehoc.probes.adapters import Adapter
from bayes_prehoc.probes.backbones import MLPConfig, Network, Tokens, load_backbone, load_pretrained
from bayes_prehoc.probes.descriptors import describe
from bayes_prehoc.probes.engine import Hyper, Program, Sets
from bayes_prehoc.probes.learners import Learner, SmallLearner, TransformerLearner, flat
from bayes_prehoc.probes.spec import ProbeSpec
from bayes_prehoc.probes.stages import stages_of
from bayes_prehoc.probes.suite.data import SOURCES, load_data
from bayes_prehoc.probes.texts import Encoded, TextData, encode

__all__ = ["Prepared", "prepare"]

EVALUATED_AT_ONCE, SMALL_AT_ONCE = 64, 256
"""Texts of a batch of evaluation, and examples of the suite's."""
LENGTH_STEP = 8
"""Lengths at which texts are computed are multiples of it."""
LENGTHS, KEPT_LENGTHS = 4, 10
"""How many there are at most, in training and judging, and in computing what is kept."""
BAR = {"unit": "text", "file": sys.stderr, "leave": False}
DESCRIBED = 1024
"""Training examples whose features are looked at beforehand."""
CACHE_BYTES = 4 << 30
"""What may be kept of hidden states."""


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """A task, ready to run.

    Attributes
    ----------
    spec : ProbeSpec
    digest : str
        sha256 of the specification, the weights and the data: what identifies its runs.
    kind : str
        Of network: "mlp", "decoder", "transformer" or "head".
    multiplications : float
        Of one run.
    classes : int
    notes : tuple of str
        What was left out, in words.
    """

    spec: ProbeSpec
    digest: str
    kind: str
    multiplications: float
    classes: int
    notes: tuple[str, ...]
    _make: Any
    _features: Any = None

    def place(self, device: jax.Device, width: int, show: bool = False) -> tuple[Program, tuple]:
        """The program for groups of so many seeds, and its arguments on the device.

        They are start, frozen, sets, hyper and stages, as `engine.run` takes them. With `show`, how far the computation
        of what is kept has come is shown on stderr.
        """
        spec = self.spec
        learner, lengths, start, frozen, sets = self._make(device, width, show)
        hyper = Hyper(np.float32(spec.learning_rate), np.float32(spec.weight_decay))
        arguments = (start, frozen, sets, hyper, stages_of(spec)[1])
        return Program.of(spec, learner, lengths, self.classes), jax.device_put(arguments, device)

    def describe(self, program: Program, arguments: tuple) -> dict[str, float]:
        """Static descriptors, from what `place` gave."""
        start, frozen, sets, *_ = arguments
        return describe(program, start, frozen, sets, self._features(arguments) if self._features else None)


def prepare(spec: ProbeSpec) -> Prepared:
    """Load a task's weights and data.

    Raises
    ------
    InputError
        If one of them is missing or they do not go together.
    """
    return _prepare_texts(spec) if isinstance(spec.data, TextData) else _prepare_small(spec)


def _prepare_small(spec: ProbeSpec) -> Prepared:
    backbone, data = load_backbone(spec.backbone), load_data(spec)
    config, outputs = backbone.config, SOURCES[spec.data].outputs
    wanted = config.inputs if isinstance(config, MLPConfig) else config.context
    if data.train_x.shape[1] != wanted or (spec.head == "kept" and config.outputs != outputs):
        raise InputError(
            f"the data have {data.train_x.shape[1]} inputs and {outputs} outputs, "
            f"backbone {spec.backbone!r} {wanted} and {config.outputs}",
            f"task {spec.name!r}",
            "Use a backbone that was pretrained on such inputs, and a new head if the outputs differ.",
        )
    learner = SmallLearner(config, outputs, spec.head, spec.dropout or 0.0)

    def make(device, width, show):
        needed = learner.lengths(data.train_x).astype(np.int32)
        lengths = (int(needed.max()),)
        pairs = [(data.probe_x, data.probe_y), (data.outcome_x, data.outcome_y)]
        sets = Sets(data.train_x, data.train_y, needed, *_judged_sets(learner, pairs, lengths, SMALL_AT_ONCE))
        return learner, lengths, backbone.params, {}, sets

    weights = sum(leaf.size for leaf in jax.tree.leaves(backbone.params))
    positions = 1 if isinstance(config, MLPConfig) else config.context
    steps, probed, judged = _stage_counts(spec)
    examples = 3 * steps * spec.batch_size + probed * len(data.probe_y) + judged * len(data.outcome_y)
    digest = _digest(spec.hash, backbone.digest)
    return Prepared(spec, digest, config.kind, float(weights) * positions * examples, outputs, (), make)


def _prepare_texts(spec: ProbeSpec) -> Prepared:
    pretrained, adapter = load_pretrained(spec.backbone), spec.adapter or Adapter()
    config = pretrained.config
    if spec.dropout is not None:
        config = dataclasses.replace(
            config, dropout=spec.dropout, attention_dropout=spec.dropout, embedding_dropout=spec.dropout
        )
    texts = encode(spec.data, pretrained.tokenizer, config.longest)
    outputs = {"class": len(texts.classes), "number": 1, "answer": config.vocabulary}[spec.data.kind]
    train, probe, outcome = _split(spec, texts)

    classifier = None
    if spec.data.kind != "answer":
        classifier = pretrained.classifier(outputs, spec.pooling, config.dropout)
    network = Network(config, classifier, adapter.lora(config))
    params, fresh = pretrained.params(network, spec.head)
    params, since = flat(params), adapter.first_layer(config)
    trained = tuple(sorted(path for path in params if _is_trained(path, adapter, since)))
    if not trained:
        raise InputError(
            "nothing is trained: the head is the token embedding", f"task {spec.name!r}", "Use kind='full' or 'lora'."
        )
    embeddings = adapter.kind == "full" and adapter.layers is None
    stage = _stage(adapter, config, classifier is not None, since, sum(e.mask.size for e in (train, probe, outcome)))
    learner = TransformerLearner(network, stage, since, embeddings, trained, fresh)
    frozen = {path: value for path, value in params.items() if path not in trained}

    def make(device, width, show):
        on_device = jax.device_put(frozen, device)
        needed = [part.mask.sum(axis=1).astype(np.int32) for part in (train, probe, outcome)]
        # Seeds that are computed together would compute every length.
        lengths = _lengths(needed, LENGTHS) if width == 1 and stage != "pooled" else (int(max(map(np.max, needed))),)
        total = sum(len(part.ids) for part in (train, probe, outcome))
        with tqdm(total=total, desc="features", disable=not show or stage == "tokens", **BAR) as bar:
            held = [_cached(learner, on_device, part, bar.update) for part in (train, probe, outcome)]
        judged = _judged_sets(learner, [(held[1], probe.target), (held[2], outcome.target)], lengths, EVALUATED_AT_ONCE)
        sets = Sets(held[0], train.target, needed[0], *judged)
        start = {path: params[path] for path in trained}
        read = {path: value for path, value in on_device.items() if _is_needed(path, stage, since)}
        return learner, lengths, start, read, sets

    def features(arguments):
        """Of some training examples, with their targets."""
        if stage == "pooled":
            return np.asarray(arguments[2].train_x), train.target
        if classifier is None:
            return None
        reader, some = dataclasses.replace(learner, stage="pooled"), train.take(slice(DESCRIBED))
        return _cached(reader, params, some), some.target

    notes = (f"{texts.cut} texts were cut to {spec.data.longest} tokens",) if texts.cut else ()
    digest = _digest(spec.hash, pretrained.digest, texts.digest)
    work = _multiplications(spec, learner, train, probe, outcome)
    return Prepared(
        spec, digest, "head" if stage == "pooled" else "transformer", work, max(outputs, 2), notes, make, features
    )


def _split(spec: ProbeSpec, texts) -> tuple[Encoded, Encoded, Encoded]:
    """The three sets, of the sizes that are asked for, the same whatever the sizes of the others."""
    rng = np.random.default_rng([spec.data_seed, 0])
    train = rng.permutation(len(texts.train.ids))
    evaluation = rng.permutation(len(texts.evaluation.ids))
    if texts.outcome is None:
        half = len(evaluation) // 2
        probe, outcome, source = evaluation[:half], evaluation[half:], texts.evaluation
    else:
        probe, outcome, source = evaluation, rng.permutation(len(texts.outcome.ids)), texts.outcome
    sets = []
    for name, encoded, rows in (
        ("train", texts.train, train),
        ("probe", texts.evaluation, probe),
        ("outcome", source, outcome),
    ):
        wanted = getattr(spec, f"{name}_size")
        if not len(rows) or (wanted is not None and wanted > len(rows)):
            raise InputError(
                f"{name}_size is {wanted or 1}, there are {len(rows)} examples for it",
                f"task {spec.name!r}",
                "Ask for fewer, or give more data.",
            )
        sets.append(encoded.take(rows if wanted is None else rows[:wanted]))
    longest = max(part.ids.shape[1] for part in sets)
    sets = [part.padded(longest) for part in sets]
    if spec.batch_size > len(sets[0].ids):
        raise InputError(
            f"batch_size {spec.batch_size} exceeds the {len(sets[0].ids)} examples of training",
            f"task {spec.name!r}",
            "Use a smaller batch.",
        )
    return tuple(sets)


def _is_trained(path: str, adapter: Adapter, since: int) -> bool:
    if path.startswith("head."):
        return True
    if adapter.kind == "lora":
        return path.endswith(("lora_a", "lora_b"))
    if adapter.kind == "head":
        return False
    part, _, rest = path.partition(".")
    if part == "layers":
        return int(rest.partition(".")[0]) >= since
    return adapter.layers is None


def _is_needed(path: str, stage: str, since: int) -> bool:
    """Frozen parameters that steps of this stage read."""
    part, _, rest = path.partition(".")
    if stage == "tokens" or part == "head":
        return True
    if stage == "pooled":
        return False
    return part in ("norm", "token") if part != "layers" else int(rest.partition(".")[0]) >= since


def _stage(adapter: Adapter, config, classifies: bool, since: int, positions: int) -> str:
    if adapter.kind == "head" and classifies:
        return "pooled"
    return "layer" if since > 0 and 4 * positions * config.width <= CACHE_BYTES else "tokens"


def _tokens(encoded: Encoded) -> Tokens:
    return Tokens(encoded.ids, encoded.mask, encoded.types)


def _lengths(needed, count: int) -> tuple[int, ...]:
    """At which texts are computed: quantiles of what they need, rounded up, and the longest."""
    every = np.concatenate(needed)
    quantiles = np.quantile(every, np.linspace(0.0, 1.0, count + 1)[1:-1])
    rounded = {int(np.ceil(q / LENGTH_STEP)) * LENGTH_STEP for q in quantiles}
    longest = int(every.max())
    return (*sorted(length for length in rounded if length < longest), longest)


def _by_length(needed: np.ndarray, lengths: tuple[int, ...]) -> list[tuple[int, np.ndarray]]:
    """The place of each length that occurs, and its rows."""
    which = np.searchsorted(lengths, np.minimum(needed, lengths[-1]))
    return [(i, rows) for i in range(len(lengths)) if len(rows := np.flatnonzero(which == i))]


@functools.partial(jax.jit, static_argnums=0)
def _kept(learner: TransformerLearner, frozen: dict, tokens: Tokens):
    return learner.cache(frozen, tokens)


def _cached(learner: TransformerLearner, frozen: dict, encoded: Encoded, update=lambda count: None):
    """What examples hold at the learner's stage, in their order; hidden states are zero where texts have ended."""
    if learner.stage == "tokens":
        return _tokens(encoded)
    made: Any = None
    needed = encoded.mask.sum(axis=1)
    lengths = _lengths([needed], KEPT_LENGTHS)
    for i, rows in _by_length(needed, lengths):
        length = lengths[i]
        for first in range(0, len(rows), EVALUATED_AT_ONCE):
            some = np.resize(rows[first : first + EVALUATED_AT_ONCE], EVALUATED_AT_ONCE)
            part = _kept(learner, frozen, jax.tree.map(_first_positions(length), _rows(_tokens(encoded), some)))
            value = np.asarray(part if learner.stage == "pooled" else part[0])
            if made is None:
                shape = value.shape[1:] if learner.stage == "pooled" else (encoded.ids.shape[1], value.shape[2])
                made = np.zeros((len(encoded.ids), *shape), np.float32)
            if learner.stage == "pooled":
                made[some] = value
            else:
                made[some, :length] = value
            update(min(EVALUATED_AT_ONCE, len(rows) - first))
    return made if learner.stage == "pooled" else (made, _tokens(encoded))


def _judged_sets(learner: Learner, sets, lengths: tuple[int, ...], at_once: int) -> tuple:
    """The last fields of `engine.Sets`, from the probe and the outcome set as pairs (x, y)."""
    at_once = min(at_once, max(len(y) for _, y in sets))
    batches, which, places, begins = [], [], [], []
    for x, y in sets:
        begins.append(len(which))
        place = np.zeros(len(y), np.int32)
        for i, rows in _by_length(learner.lengths(x), lengths):
            place[rows] = len(which) * at_once + np.arange(len(rows))
            count = -(-len(rows) // at_once)
            filled = np.resize(rows, count * at_once)
            batches.append(_in_batches(_rows((x, y), filled), at_once))
            which += [i] * count
        places.append(place)
    judged_x, judged_y = jax.tree.map(lambda *parts: np.concatenate(parts), *batches)
    return judged_x, judged_y, np.array(which, np.int32), np.int32(begins[1]), *places


def _rows(tree, rows):
    return jax.tree.map(lambda a: a[rows], tree)


def _first_positions(length: int):
    return lambda a: a[:, :length]


def _in_batches(tree, size: int):
    return jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), tree)


def _multiplications(spec: ProbeSpec, learner: TransformerLearner, train: Encoded, probe: Encoded, outcome: Encoded):
    """Of one run: forward through what is not kept, and twice as much backward through what is trained."""
    config = learner.network.config
    attention = 2 * config.width * (config.heads + config.key_heads) * config.head_size
    layer = attention + (3 if config.gated else 2) * config.width * config.hidden
    head = config.width * (config.vocabulary if learner.network.classifier is None else config.width)
    if learner.stage == "pooled":
        forward, backward, per = head, 2 * head, [1.0, 1.0, 1.0]
    else:
        above = (config.blocks - learner.since) * layer + head
        forward = above + (learner.since * layer if learner.stage == "tokens" else 0)
        backward, per = 2 * above, [part.mask.sum(axis=1).mean() for part in (train, probe, outcome)]
    steps, probed, judged = _stage_counts(spec)
    trained = (forward + backward) * steps * spec.batch_size * per[0]
    return float(trained + forward * (probed * len(probe.ids) * per[1] + judged * len(outcome.ids) * per[2]))


def _stage_counts(spec: ProbeSpec) -> tuple[int, int, int]:
    """Steps of a run with its continuations, and how often its probe and its outcome set are judged."""
    _, stages = stages_of(spec)
    return int(np.sum(stages.last - stages.first)), int(np.sum(stages.probe)), int(np.sum(stages.outcome))


def _digest(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()
