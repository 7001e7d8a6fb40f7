"""A pretrained transformer on texts, ready for the engine.

What lies below the first layer that is trained is the same for every seed and step. It is computed once for every
example and kept, if it fits into the memory that may be spent on it; for the head alone the pooled features are kept,
which always fit.
"""

import dataclasses
import functools
import sys
from typing import Any

import jax
import numpy as np
from tqdm.auto import tqdm

from bayes_prehoc.errors import InputError
from bayes_prehoc.probes.adapters import Adapter
from bayes_prehoc.probes.backbones import Network, Tokens, load_pretrained
from bayes_prehoc.probes.backbones.paths import flat
from bayes_prehoc.probes.engine import Sets
from bayes_prehoc.probes.footprint import layer_floats, perceptron_floats, state_floats, while_judged
from bayes_prehoc.probes.learners import TransformerLearner
from bayes_prehoc.probes.sets import by_length, judged_sets, rows_of
from bayes_prehoc.probes.spec import ProbeSpec
from bayes_prehoc.probes.stages import stages_of, work_of
from bayes_prehoc.probes.texts import Encoded, Texts, encode

__all__ = ["TextTask"]

AT_ONCE = 64
"""Texts of a batch that is judged, or of which something is kept."""
LENGTH_STEP = 8
"""Lengths at which texts are computed are multiples of it."""
LENGTHS, KEPT_LENGTHS = 4, 10
"""How many there are at most, in training and judging, and in computing what is kept."""
DESCRIBED = 1024
"""Training examples whose features are looked at beforehand."""
CACHE_BYTES = 4 << 30
"""What may be kept of hidden states."""
BAR = {"unit": "text", "file": sys.stderr, "leave": False}


class TextTask:
    """What is trained is as the specification's adapter says.

    Raises
    ------
    InputError
        If weights or data are missing or do not go together.
    """

    def __init__(self, spec: ProbeSpec):
        pretrained, adapter = load_pretrained(spec.backbone), spec.adapter or Adapter()
        config = pretrained.config
        if spec.dropout is not None:
            config = dataclasses.replace(
                config, dropout=spec.dropout, attention_dropout=spec.dropout, embedding_dropout=spec.dropout
            )
        texts = encode(spec.data, pretrained.tokenizer, config.longest)
        outputs = {"class": len(texts.classes), "number": 1, "answer": config.vocabulary}[spec.data.kind]
        self.classes = max(outputs, 2)
        self.identity = (pretrained.digest, texts.digest)
        self.notes = (f"{texts.cut} texts were cut to {spec.data.longest} tokens",) if texts.cut else ()
        self.sets = _split(spec, texts)

        classifier = None
        if spec.data.kind != "answer":
            classifier = pretrained.classifier(outputs, spec.pooling, config.dropout)
        network = Network(config, classifier, adapter.lora(config))
        params, fresh = pretrained.params(network, spec.head)
        self.params, since = flat(params), adapter.first_layer(config)
        trained = tuple(sorted(path for path in self.params if _is_trained(path, adapter, since)))
        if not trained:
            raise InputError(
                "nothing is trained: the head is the token embedding",
                f"task {spec.name!r}",
                "Use kind='full' or 'lora'.",
            )
        embeddings = adapter.kind == "full" and adapter.layers is None
        stage = _stage(adapter, config, classifier is not None, since, sum(part.mask.size for part in self.sets))
        self.learner = TransformerLearner(network, stage, since, embeddings, trained, fresh)
        self.kind = "head" if stage == "pooled" else "transformer"

    def arrays(self, device: jax.Device, width: int, show: bool) -> tuple:
        """Lengths of batches, where runs start, what is frozen, and the sets."""
        learner, (train, probe, outcome) = self.learner, self.sets
        start = {path: self.params[path] for path in learner.trained}
        frozen = jax.device_put({path: a for path, a in self.params.items() if path not in start}, device)
        needed = [part.mask.sum(axis=1).astype(np.int32) for part in self.sets]
        # Seeds that are computed together would compute every length.
        lengths = _lengths(needed, LENGTHS if width == 1 and learner.by_length else 1)
        total = sum(len(part.ids) for part in self.sets)
        with tqdm(total=total, desc="features", disable=not show or learner.stage == "tokens", **BAR) as bar:
            held = [_cached(learner, frozen, part, bar.update) for part in self.sets]
        judged = judged_sets(learner, [(held[1], probe.target), (held[2], outcome.target)], lengths, AT_ONCE)
        read = {path: a for path, a in frozen.items() if _is_read(path, learner.stage, learner.since)}
        return lengths, start, read, Sets(held[0], train.target, needed[0], *judged)

    def features(self, sets: Sets) -> tuple[np.ndarray, np.ndarray] | None:
        """What a new head would read, of some training examples, and their targets."""
        train = self.sets[0]
        if self.learner.stage == "pooled":
            return np.asarray(sets.train_x), train.target
        if self.learner.network.classifier is None:
            return None
        reader, some = dataclasses.replace(self.learner, stage="pooled"), train.take(slice(DESCRIBED))
        return _cached(reader, self.params, some), some.target

    def floats(self, spec: ProbeSpec) -> int:
        """Numbers that a run holds."""
        learner, config = self.learner, self.learner.network.config
        state = state_floats(sum(self.params[path].size for path in learner.trained), stages_of(spec)[0].slots)
        if learner.stage == "pooled":
            return state + perceptron_floats(spec.batch_size, (config.width, config.width))
        length = self.sets[0].mask.shape[1]
        shape = length, config.width, config.hidden, config.heads
        logits = length * config.vocabulary if learner.network.classifier is None else 0
        trained = (config.blocks - learner.since) * layer_floats(spec.batch_size * length, *shape)
        trained += 3 * spec.batch_size * logits
        return state + max(trained, while_judged(layer_floats(AT_ONCE * length, *shape)) + AT_ONCE * logits)

    def multiplications(self, spec: ProbeSpec) -> float:
        """Of one run: forward through what is not kept, and twice as much backward through what is trained."""
        learner, work, config = self.learner, work_of(spec), self.learner.network.config
        attention = 2 * config.width * (config.heads + config.key_heads) * config.head_size
        layer = attention + (3 if config.gated else 2) * config.width * config.hidden
        head = config.width * (config.vocabulary if learner.network.classifier is None else config.width)
        if learner.stage == "pooled":
            forward, backward, each = head, 2 * head, [1.0, 1.0, 1.0]
        else:
            above = (config.blocks - learner.since) * layer + head
            forward = above + (learner.since * layer if learner.stage == "tokens" else 0)
            backward, each = 2 * above, [part.mask.sum(axis=1).mean() for part in self.sets]
        judged = work.probed * len(self.sets[1].ids) * each[1] + work.judged * len(self.sets[2].ids) * each[2]
        return float((forward + backward) * work.steps * spec.batch_size * each[0] + forward * judged)


def _split(spec: ProbeSpec, texts: Texts) -> tuple[Encoded, Encoded, Encoded]:
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


def _is_read(path: str, stage: str, since: int) -> bool:
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
    for i, rows in by_length(needed, lengths):
        length = lengths[i]
        for first in range(0, len(rows), AT_ONCE):
            some = np.resize(rows[first : first + AT_ONCE], AT_ONCE)
            part = _kept(learner, frozen, jax.tree.map(_first_positions(length), rows_of(_tokens(encoded), some)))
            value = np.asarray(part if learner.stage == "pooled" else part[0])
            if made is None:
                shape = value.shape[1:] if learner.stage == "pooled" else (encoded.ids.shape[1], value.shape[2])
                made = np.zeros((len(encoded.ids), *shape), np.float32)
            if learner.stage == "pooled":
                made[some] = value
            else:
                made[some, :length] = value
            update(min(AT_ONCE, len(rows) - first))
    return made if learner.stage == "pooled" else (made, _tokens(encoded))


def _first_positions(length: int):
    return lambda a: a[:, :length]
