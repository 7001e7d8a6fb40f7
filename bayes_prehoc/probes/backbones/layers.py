"""Parts of pretrained transformers: linear maps that can carry an update of low rank, dropout, attention, perceptrons.

In shapes B is examples, L positions, W the model's width, H attention heads of D numbers each, and K heads of keys and
values, each of which serves H / K heads of queries.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from bayes_prehoc.probes.backbones.masks import bernoulli
from bayes_prehoc.probes.backbones.products import product

__all__ = ["ACTIVATIONS", "INITIAL_SCALE", "Attention", "Context", "Linear", "LowRank", "Noise", "Perceptron", "Rotary"]

INITIAL_SCALE = 0.02
"""Standard deviation of fresh weights in all families."""

ACTIVATIONS = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_new": jax.nn.gelu,
    "gelu_pytorch_tanh": jax.nn.gelu,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}
"""By the name that a checkpoint's config.json gives them."""


@dataclasses.dataclass(frozen=True)
class LowRank:
    """Shape of an update of low rank: alpha / rank * dropout(x) A B."""

    rank: int
    alpha: float
    dropout: float


UpdateOf = Callable[[str], LowRank | None]
"""The update of a linear map of one layer, by its name."""


class Noise:
    """Dropout of one pass, which takes another key at every call; none without a key."""

    def __init__(self, key: jax.Array | None = None):
        self.key = key
        self.calls = 0

    def __call__(self, x: Float[Array, "..."], rate: float) -> Float[Array, "..."]:
        """x with a share `rate` of its values zero, and the others scaled so that the mean stays."""
        if self.key is None or rate == 0.0:
            return x
        self.calls += 1
        kept = bernoulli(jax.random.fold_in(self.key, self.calls), 1.0 - rate, x.shape)
        return jnp.where(kept, x / (1.0 - rate), 0.0)


class Linear(nnx.Module):
    """x @ kernel + bias, with an update of low rank where its shape is given."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool, rngs: nnx.Rngs, update: LowRank | None = None):
        self.kernel = nnx.Param(INITIAL_SCALE * jax.random.normal(rngs.params(), (inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None
        self.update = update
        if update is not None:
            # B is zero, so that training starts at the pretrained map; A as linear layers are drawn in PyTorch.
            bound = 1.0 / math.sqrt(inputs)
            self.lora_a = nnx.Param(
                jax.random.uniform(rngs.params(), (inputs, update.rank), minval=-bound, maxval=bound)
            )
            self.lora_b = nnx.Param(jnp.zeros((update.rank, outputs)))

    def __call__(self, x: Float[Array, "*N I"], noise: Noise) -> Float[Array, "*N O"]:
        y = product(x, self.kernel[...])
        if self.bias is not None:
            y = y + self.bias[...]
        if self.update is not None:
            low = product(noise(x, self.update.dropout), self.lora_a[...])
            y = y + (self.update.alpha / self.update.rank) * product(low, self.lora_b[...])
        return y


@dataclasses.dataclass(frozen=True)
class Rotary:
    """Rotary positions (Su et al. 2021, arXiv 2104.09864).

    Attributes
    ----------
    theta : float
        Base of the wavelengths.
    factor : float
        By which wavelengths are stretched; 1 as pretrained from the start.
    low, high, original : float
        If `original`, the context length before stretching, is given, then only wavelengths longer than original / low
        are stretched, those shorter than original / high are not, and those between them in part (Llama 3.1).
    """

    theta: float = 10_000.0
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    original: int = 0

    def angles(self, length: int, size: int) -> Float[Array, "L D/2"]:
        """Of each position and pair of numbers of a head of this size."""
        frequency = self.theta ** (-jnp.arange(0, size, 2, dtype=jnp.float32) / size)
        stretched = frequency / self.factor
        if self.original:
            turns = self.original * frequency / (2.0 * math.pi)
            kept = jnp.clip((turns - self.low) / (self.high - self.low), 0.0, 1.0)
            stretched = kept * frequency + (1.0 - kept) * stretched
        return jnp.arange(length, dtype=jnp.float32)[:, None] * stretched[None, :]


class Context(NamedTuple):
    """What all layers of one pass share.

    Attributes
    ----------
    seen : bool array (B, 1 or L, L)
        Positions (last axis) that a position looks at.
    angles : float array (L, D/2), or None
        Of rotary positions.
    """

    seen: Bool[Array, "B Q L"]
    angles: Float[Array, "L R"] | None


class Attention(nnx.Module):
    """Scaled dot-product attention with its four linear maps."""

    def __init__(
        self,
        width: int,
        heads: int,
        key_heads: int,
        size: int,
        *,
        bias: bool,
        output_bias: bool,
        norm_epsilon: float | None,
        dropout: float,
        update_of: UpdateOf,
        rngs: nnx.Rngs,
    ):
        def linear(name, inputs, outputs, bias):
            return Linear(inputs, outputs, bias=bias, rngs=rngs, update=update_of(name))

        self.heads, self.key_heads, self.size, self.dropout = heads, key_heads, size, dropout
        self.query = linear("query", width, heads * size, bias)
        self.key = linear("key", width, key_heads * size, bias)
        self.value = linear("value", width, key_heads * size, bias)
        self.output = linear("output", heads * size, width, output_bias)
        normed = norm_epsilon is not None
        self.query_norm = nnx.RMSNorm(size, epsilon=norm_epsilon, rngs=rngs) if normed else None
        self.key_norm = nnx.RMSNorm(size, epsilon=norm_epsilon, rngs=rngs) if normed else None

    def __call__(self, x: Float[Array, "B L W"], context: Context, noise: Noise) -> Float[Array, "B L W"]:
        batch, length, _ = x.shape
        query = self.query(x, noise).reshape(batch, length, self.heads, self.size)
        key = self.key(x, noise).reshape(batch, length, self.key_heads, self.size)
        value = self.value(x, noise).reshape(batch, length, self.key_heads, self.size)
        if self.query_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        if context.angles is not None:
            query, key = _rotated(query, context.angles), _rotated(key, context.angles)
        query = query.reshape(batch, length, self.key_heads, self.heads // self.key_heads, self.size)
        scores = jnp.einsum("bqkgd,bskd->bkgqs", query, key) * self.size**-0.5
        scores = jnp.where(context.seen[:, None, None], scores, jnp.finfo(scores.dtype).min)
        weights = noise(jax.nn.softmax(scores, axis=-1), self.dropout)
        mixed = jnp.einsum("bkgqs,bskd->bqkgd", weights, value)
        return self.output(mixed.reshape(batch, length, self.heads * self.size), noise)


def _rotated(x: Float[Array, "B L H D"], angles: Float[Array, "L D/2"]) -> Float[Array, "B L H D"]:
    """Pairs are (i, i + D/2), as in the checkpoints of Hugging Face."""
    cos, sin = jnp.cos(angles)[None, :, None, :], jnp.sin(angles)[None, :, None, :]
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


class Perceptron(nnx.Module):
    """down(activation(up(x))), or down(activation(gate(x)) * up(x)) where it is gated."""

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        activation: str,
        gated: bool,
        bias: bool,
        update_of: UpdateOf,
        rngs: nnx.Rngs,
    ):
        def linear(name, inputs, outputs):
            return Linear(inputs, outputs, bias=bias, rngs=rngs, update=update_of(name))

        self.activation = activation
        self.gate = linear("gate", width, hidden) if gated else None
        self.up = linear("up", width, hidden)
        self.down = linear("down", hidden, width)

    def __call__(self, x: Float[Array, "B L W"], noise: Noise) -> Float[Array, "B L W"]:
        up = self.up(x, noise)
        bend = ACTIVATIONS[self.activation]
        return self.down(bend(up) if self.gate is None else bend(self.gate(x, noise)) * up, noise)
