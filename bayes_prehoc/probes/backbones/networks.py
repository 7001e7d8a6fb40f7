"""The networks that the built-in suite fine-tunes, in Flax NNX: a multilayer perceptron and a small decoder.

A network is described by a frozen config, built with `build`, and used through `split` and `merge`: its
parameters are a pure pytree of arrays, so that a run is a function of arrays and seeds can be vmapped. Its
output layer is always called `head`; fine-tuning may replace it.
"""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from bayes_prehoc.errors import InputError
from bayes_prehoc.probes.backbones.products import product

__all__ = [
    "DecoderConfig",
    "MLPConfig",
    "NetworkConfig",
    "build",
    "config_from_dict",
    "forward",
    "new_head",
    "skeleton",
]


@dataclasses.dataclass(frozen=True)
class MLPConfig:
    """A perceptron with GELU layers.

    Attributes
    ----------
    inputs : int
        Features of one example.
    widths : tuple of int
        Width of each hidden layer.
    outputs : int
        Classes, or whatever the head predicts.
    """

    inputs: int
    widths: tuple[int, ...]
    outputs: int
    kind: str = dataclasses.field(default="mlp", init=False)

    @property
    def features(self) -> int:
        """Width of what the head reads."""
        return self.widths[-1]


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """A decoder-only transformer (pre-norm, learned positions) that predicts the last `answer` tokens.

    Attributes
    ----------
    outputs : int
        Vocabulary.
    context : int
        Tokens of one input.
    answer : int
        The last block computes the last `answer` positions only; logits are (..., answer, outputs).
    width, blocks, heads, hidden : int
        Model width, number of blocks, attention heads, hidden units of a block's perceptron.
    """

    outputs: int
    context: int
    answer: int
    width: int
    blocks: int
    heads: int
    hidden: int
    kind: str = dataclasses.field(default="decoder", init=False)

    @property
    def features(self) -> int:
        """Width of what the head reads."""
        return self.width


NetworkConfig = MLPConfig | DecoderConfig


class _Linear(nnx.Linear):
    """The same map, whose kernel's gradient is fast on CPUs."""

    def __call__(self, x):
        y = product(x, self.kernel[...])
        return y if self.bias is None else y + self.bias[...]


class _MLP(nnx.Module):
    def __init__(self, config: MLPConfig, rngs: nnx.Rngs):
        sizes = (config.inputs, *config.widths)
        self.layers = nnx.List(
            [_Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)],
        )
        self.head = _Linear(config.features, config.outputs, rngs=rngs)

    def __call__(self, x, dropout):
        for layer in self.layers:
            x = dropout(jax.nn.gelu(layer(x)))
        return self.head(x)


class _Block(nnx.Module):
    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        width, self.heads = config.width, config.heads
        self.attention_norm = nnx.LayerNorm(width, rngs=rngs)
        self.query = _Linear(width, width, use_bias=False, rngs=rngs)
        self.key_value = _Linear(width, 2 * width, use_bias=False, rngs=rngs)
        self.project = _Linear(width, width, use_bias=False, rngs=rngs)
        self.mlp_norm = nnx.LayerNorm(width, rngs=rngs)
        self.up = _Linear(width, config.hidden, rngs=rngs)
        self.down = _Linear(config.hidden, width, rngs=rngs)

    def __call__(self, x, last, dropout):
        """Read all positions of x (batch, length, width) and return the last `last` of them."""
        batch, length, width = x.shape
        seen = self.attention_norm(x)
        query = self.query(seen[:, -last:]).reshape(batch, last, self.heads, -1)
        key, value = jnp.split(self.key_value(seen).reshape(batch, length, 2 * self.heads, -1), 2, axis=2)
        mask = jnp.tril(jnp.ones((length, length), bool))[-last:]
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * (width // self.heads) ** -0.5
        weights = jax.nn.softmax(jnp.where(mask, scores, -1e9), axis=-1)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(batch, last, width)
        x = x[:, -last:] + dropout(self.project(mixed))
        return x + dropout(self.down(jax.nn.gelu(self.up(self.mlp_norm(x)))))


class _Decoder(nnx.Module):
    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        self.config = config
        self.token = nnx.Embed(config.outputs, config.width, rngs=rngs)
        self.position = nnx.Embed(config.context, config.width, rngs=rngs)
        self.blocks = nnx.List([_Block(config, rngs) for _ in range(config.blocks)])
        self.norm = nnx.LayerNorm(config.width, rngs=rngs)
        self.head = _Linear(config.width, config.outputs, rngs=rngs)

    def __call__(self, tokens, dropout):
        x = self.token(tokens) + self.position.embedding[...]
        for i, block in enumerate(self.blocks):
            last = self.config.answer if i == len(self.blocks) - 1 else self.config.context
            x = block(x, last, dropout)
        return self.head(self.norm(x))


_KINDS = {"mlp": (MLPConfig, _MLP), "decoder": (DecoderConfig, _Decoder)}


def config_from_dict(values: dict, where: str) -> NetworkConfig:
    """Make the config that `dataclasses.asdict` wrote; `where` names its place in an error."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    kind = values.pop("kind", None)
    if kind not in _KINDS:
        raise InputError(f"unknown kind of network {kind!r}", where, f"Use one of {', '.join(_KINDS)}.")
    try:
        return _KINDS[kind][0](**values)
    except TypeError as error:
        raise InputError(f"cannot be read as a {kind} ({error})", where, "Make the backbone again.") from None


def build(config: NetworkConfig, key: jax.Array) -> Any:
    """Fresh parameters of a network: a nested dict of arrays."""
    return nnx.to_pure_dict(nnx.split(_KINDS[config.kind][1](config, nnx.Rngs(key)))[1])


def skeleton(config: NetworkConfig) -> tuple[Any, Any]:
    """What `forward` needs beside the arrays, as (graph definition, abstract state); allocates nothing."""
    return nnx.split(nnx.eval_shape(lambda: _KINDS[config.kind][1](config, nnx.Rngs(0))))


def new_head(config: NetworkConfig, outputs: int, key: jax.Array) -> dict:
    """A fresh output layer: {"kernel": (features, outputs), "bias": (outputs,)}."""
    return nnx.to_pure_dict(nnx.split(_Linear(config.features, outputs, rngs=nnx.Rngs(key)))[1])


def forward(config: NetworkConfig, params: dict, x: jax.Array, rate: float = 0.0, key: jax.Array | None = None):
    """Logits of a batch.

    Parameters
    ----------
    config : NetworkConfig
    params : nested dict of arrays, as `build` makes it
    x : float array (batch, inputs), or int array (batch, context) of tokens
    rate : float
        Share of activations dropped; 0 evaluates.
    key : jax key, needed if rate > 0

    Returns
    -------
    array (batch, outputs), or (batch, answer, outputs) for a decoder
    """
    definition, state = skeleton(config)
    nnx.replace_by_pure_dict(state, params)
    network = nnx.merge(definition, state)
    if rate == 0:
        return network(x, lambda y: y)
    layer = nnx.Dropout(rate, deterministic=False)
    keys = iter(jax.random.split(key, 2 * 16))
    return network(x, lambda y: layer(y, rngs=next(keys)))
