"""The sizes of what `probe_throughput.py` measures, for both sides; imports nothing that one of them lacks."""

import itertools
from typing import NamedTuple

BATCH = {"head": 32, "mlp": 32, "decoder": 16, "lora_last_two": 16, "lora_all": 16}
LENGTH = 32
"""Tokens of a text."""
LORA_RANK = 8
RATE = 1e-3


class Dense(NamedTuple):
    """A perceptron or a head."""

    inputs: int
    widths: tuple[int, ...]
    outputs: int
    dropout: float


class Transformer(NamedTuple):
    """A decoder or an encoder; `context` and `outputs` are the decoder's, `vocabulary` the encoder's."""

    width: int
    blocks: int
    heads: int
    hidden: int
    dropout: float
    context: int = 0
    outputs: int = 0
    vocabulary: int = 0


MLP = Dense(64, (64, 64), 5, 0.0)
HEAD = Dense(384, (), 2, 0.1)
DECODER = Transformer(128, 4, 4, 512, 0.0, context=64, outputs=512)
MINILM = Transformer(384, 6, 12, 1536, 0.1, vocabulary=30522)


def flops(workload: str) -> float:
    """Of one step of one seed, in matrix products: forward, backward, and gradients of what is trained."""
    if workload in ("mlp", "head"):
        shape = MLP if workload == "mlp" else HEAD
        sizes = (shape.inputs, *shape.widths, shape.outputs)
        weights = sum(a * b for a, b in itertools.pairwise(sizes))
        # No gradient is taken of what the first layer reads.
        return 2.0 * BATCH[workload] * (3 * weights - sizes[0] * sizes[1])
    if workload == "decoder":
        tokens = BATCH[workload] * DECODER.context
        weights = DECODER.blocks * _layer(DECODER, DECODER.context) + DECODER.width * DECODER.outputs
        return 6.0 * tokens * weights
    updated = 2 if workload == "lora_last_two" else MINILM.blocks
    return 4.0 * BATCH[workload] * LENGTH * updated * _layer(MINILM, LENGTH)


def _layer(shape: Transformer, length: int) -> float:
    """Multiplications of one token in one layer; those of attention with all positions."""
    return 4 * shape.width**2 + 2 * shape.width * shape.hidden + 2 * length * shape.width
