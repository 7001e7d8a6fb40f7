"""One transformer for all families of pretrained checkpoints, in Flax NNX, and the heads that fine-tuning puts on it.

BERT and its kin, GPT-2, and Llama and its kin differ in where they normalise and by what, in how they tell positions
apart, in the shape of attention and perceptron, and in whether they look ahead: `TransformerConfig` says so for each,
and `families` reads it from a checkpoint's config.json.

A pass is cut in two where adaptation begins: layers below it are the same for every seed and every epoch, in evaluation
mode, so what they compute (`Network.below`) can be kept; `Network.above` goes on from there to the logits.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from bayes_prehoc.probes.backbones.layers import (
    ACTIVATIONS,
    Attention,
    Context,
    Linear,
    LowRank,
    Noise,
    Perceptron,
    Rotary,
)

__all__ = ["Classifier", "LoRA", "Network", "Tokens", "TransformerConfig", "tokens_of"]

MODULES = ("query", "key", "value", "output", "gate", "up", "down")
"""Linear maps of a layer, as `LoRA` names them."""


@functools.partial(jax.tree_util.register_dataclass, data_fields=("ids", "mask", "types"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Tokens:
    """Token sequences, padded on the right.

    Attributes
    ----------
    ids : int array (B, L)
    mask : bool array (B, L)
        False where there is padding.
    types : int array (B, L)
        Which of two sentences a token belongs to; families without types do not look at it.
    """

    ids: Int[Array, "B L"]
    mask: Bool[Array, "B L"]
    types: Int[Array, "B L"]


def tokens_of(ids, mask=None, types=None) -> Tokens:
    """Tokens of one sentence without padding, where nothing else is said."""
    ids = jnp.asarray(ids, jnp.int32)
    mask = jnp.ones(ids.shape, bool) if mask is None else jnp.asarray(mask, bool)
    return Tokens(ids, mask, jnp.zeros_like(ids) if types is None else jnp.asarray(types, jnp.int32))


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """What a pretrained transformer looks like.

    Attributes
    ----------
    family : str
        That it was read as, for people.
    vocabulary : int
    width, blocks, heads, key_heads, head_size, hidden : int
        Model width, layers, attention heads, heads of keys and values, numbers of a head, hidden units of a perceptron.
    longest : int
        Tokens that it takes.
    causal : bool
        A position does not look at later ones.
    norm_first : bool
        Layers normalise what they read, and the network what it returns; else layers normalise after residual sums, and
        the network its embeddings.
    rms : bool
        Normalisation by the root mean square, without shift.
    epsilon : float
        Of normalisations.
    activation : str
    gated : bool
        Perceptrons have a gate.
    attention_bias, output_bias, hidden_bias : bool
        Linear maps that have one: query, key and value; attention's output; the perceptron.
    query_key_norm : bool
        Queries and keys are normalised head by head.
    rotary : Rotary or None
        None: positions are learned.
    first_position : int
        Row of the position embeddings that the first token takes.
    types : int
        Rows of the embeddings of token types, 0 for none.
    tied : bool
        The language head is the token embedding.
    dropout, attention_dropout, embedding_dropout : float
        That the checkpoint was trained with.
    """

    family: str
    vocabulary: int
    width: int
    blocks: int
    heads: int
    key_heads: int
    head_size: int
    hidden: int
    longest: int
    causal: bool
    norm_first: bool
    rms: bool
    epsilon: float
    activation: str
    gated: bool
    attention_bias: bool
    output_bias: bool
    hidden_bias: bool
    query_key_norm: bool = False
    rotary: Rotary | None = None
    first_position: int = 0
    types: int = 0
    tied: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    embedding_dropout: float = 0.0


@dataclasses.dataclass(frozen=True)
class LoRA:
    """Updates of low rank (Hu et al. 2022, arXiv 2106.09685).

    Attributes
    ----------
    update : LowRank
    modules : tuple of str
        Linear maps of a layer that carry one, of `MODULES`.
    first : int
        The first layer that carries some.
    """

    update: LowRank
    modules: tuple[str, ...]
    first: int = 0

    def at(self, layer: int, module: str) -> LowRank | None:
        """The update there, if there is one."""
        return self.update if layer >= self.first and module in self.modules else None


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A head that answers about a whole sequence; its outputs are classes, or one number.

    Attributes
    ----------
    outputs : int
    pooling : str
        What stands for a sequence: its "first" position, its "last", or the "mean" of all.
    dense : str or None
        Activation of a layer between, as wide as the model; None for none.
    bias : bool
        Of the output layer.
    dropout : float
        Before the output layer.
    """

    outputs: int
    pooling: str
    dense: str | None = None
    bias: bool = True
    dropout: float = 0.0


class _Layer(nnx.Module):
    def __init__(self, config: TransformerConfig, update_of, rngs: nnx.Rngs):
        self.norm_first, self.dropout = config.norm_first, config.dropout
        self.attention = Attention(
            config.width,
            config.heads,
            config.key_heads,
            config.head_size,
            bias=config.attention_bias,
            output_bias=config.output_bias,
            norm_epsilon=config.epsilon if config.query_key_norm else None,
            dropout=config.attention_dropout,
            update_of=update_of,
            rngs=rngs,
        )
        self.attention_norm = _norm(config, rngs)
        self.perceptron = Perceptron(
            config.width,
            config.hidden,
            activation=config.activation,
            gated=config.gated,
            bias=config.hidden_bias,
            update_of=update_of,
            rngs=rngs,
        )
        self.perceptron_norm = _norm(config, rngs)

    def __call__(self, x, context: Context, noise: Noise):
        if self.norm_first:
            x = x + noise(self.attention(self.attention_norm(x), context, noise), self.dropout)
            return x + noise(self.perceptron(self.perceptron_norm(x), noise), self.dropout)
        x = self.attention_norm(x + noise(self.attention(x, context, noise), self.dropout))
        return self.perceptron_norm(x + noise(self.perceptron(x, noise), self.dropout))


class _ClassifierHead(nnx.Module):
    def __init__(self, width: int, classifier: Classifier, rngs: nnx.Rngs):
        self.classifier = classifier
        self.dense = Linear(width, width, bias=True, rngs=rngs) if classifier.dense else None
        self.out = Linear(width, classifier.outputs, bias=classifier.bias, rngs=rngs)

    def __call__(self, pooled, noise: Noise):
        if self.dense is not None:
            pooled = ACTIVATIONS[self.classifier.dense](self.dense(pooled, noise))
        return self.out(noise(pooled, self.classifier.dropout), noise)


def _head(config: TransformerConfig, classifier: Classifier | None, rngs: nnx.Rngs):
    if classifier is not None:
        return _ClassifierHead(config.width, classifier, rngs)
    return None if config.tied else Linear(config.width, config.vocabulary, bias=False, rngs=rngs)


class Transformer(nnx.Module):
    """Embeddings, layers and head; without a `classifier` the head predicts the next token."""

    def __init__(self, config: TransformerConfig, classifier: Classifier | None, lora: LoRA | None, rngs: nnx.Rngs):
        self.config = config
        self.token = nnx.Embed(config.vocabulary, config.width, rngs=rngs)
        rows = 0 if config.rotary else config.longest + config.first_position
        self.position = nnx.Embed(rows, config.width, rngs=rngs) if rows else None
        self.type = nnx.Embed(config.types, config.width, rngs=rngs) if config.types else None
        self.norm = _norm(config, rngs)
        self.layers = nnx.List(
            [
                _Layer(config, functools.partial(lora.at, i) if lora else lambda _: None, rngs)
                for i in range(config.blocks)
            ]
        )
        self.head = _head(config, classifier, rngs)

    def embed(self, tokens: Tokens, noise: Noise) -> Float[Array, "B L W"]:
        """What the first layer reads."""
        length, config = tokens.ids.shape[1], self.config
        x = self.token(tokens.ids)
        if self.position is not None:
            x = x + self.position.embedding[...][config.first_position : config.first_position + length]
        if self.type is not None:
            x = x + self.type(tokens.types)
        return noise(x if config.norm_first else self.norm(x), config.embedding_dropout)

    def context(self, tokens: Tokens) -> Context:
        """What all layers share."""
        length, rotary = tokens.ids.shape[1], self.config.rotary
        seen = tokens.mask[:, None, :]
        if self.config.causal:
            seen = seen & jnp.tril(jnp.ones((length, length), bool))
        return Context(seen, rotary.angles(length, self.config.head_size) if rotary else None)

    def pooled(self, x: Float[Array, "B L W"], mask: Bool[Array, "B L"]) -> Float[Array, "B W"]:
        """What a classifier's head reads."""
        return _pooled(self.norm(x) if self.config.norm_first else x, mask, self.head.classifier.pooling)

    def answer(self, x: Float[Array, "B L W"], tokens: Tokens, noise: Noise) -> Float[Array, "..."]:
        """Logits (B, outputs) of a classifier, or (B, L, vocabulary)."""
        if isinstance(self.head, _ClassifierHead):
            return self.head(self.pooled(x, tokens.mask), noise)
        if self.config.norm_first:
            x = self.norm(x)
        return x @ self.token.embedding[...].T if self.head is None else self.head(x, noise)


def _norm(config: TransformerConfig, rngs: nnx.Rngs):
    if config.rms:
        return nnx.RMSNorm(config.width, epsilon=config.epsilon, rngs=rngs)
    return nnx.LayerNorm(config.width, epsilon=config.epsilon, use_fast_variance=False, rngs=rngs)


def _pooled(x: Float[Array, "B L W"], mask: Bool[Array, "B L"], pooling: str) -> Float[Array, "B W"]:
    if pooling == "first":
        return x[:, 0]
    if pooling == "last":
        last = jnp.maximum(mask.sum(axis=1) - 1, 0)
        return jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]
    weight = mask.astype(x.dtype)[:, :, None]
    return jnp.sum(x * weight, axis=1) / jnp.maximum(weight.sum(axis=1), 1.0)


@dataclasses.dataclass(frozen=True)
class Network:
    """A transformer with its head and its updates, as pure functions of nested dicts of parameters.

    Attributes
    ----------
    config : TransformerConfig
    classifier : Classifier or None
        None: the head predicts the next token.
    lora : LoRA or None
    """

    config: TransformerConfig
    classifier: Classifier | None = None
    lora: LoRA | None = None

    def build(self, key: jax.Array) -> dict:
        """Fresh parameters."""
        return nnx.to_pure_dict(nnx.split(self._made(nnx.Rngs(key)))[1])

    def shapes(self) -> dict:
        """Shapes and types of the parameters; allocates nothing."""
        return nnx.to_pure_dict(self._skeleton()[1])

    def below(self, params: dict, tokens: Tokens, upto: int) -> Float[Array, "B L W"]:
        """What layer `upto` reads, in evaluation mode."""
        network, noise = self._with(params), Noise()
        return _through(network.layers[:upto], network.embed(tokens, noise), network.context(tokens), noise)

    def above(self, params: dict, x, tokens: Tokens, since: int, key: jax.Array | None = None) -> Float[Array, "..."]:
        """Logits from what layer `since` reads; with dropout where a key is given."""
        network, noise = self._with(params), Noise(key)
        x = _through(network.layers[since:], x, network.context(tokens), noise)
        return network.answer(x, tokens, noise)

    def whole(self, params: dict, tokens: Tokens, key: jax.Array | None = None) -> Float[Array, "..."]:
        """Logits (B, outputs) of a classifier, or (B, L, vocabulary); with dropout where a key is given."""
        network, noise = self._with(params), Noise(key)
        x = _through(network.layers, network.embed(tokens, noise), network.context(tokens), noise)
        return network.answer(x, tokens, noise)

    def pooled(self, params: dict, tokens: Tokens) -> Float[Array, "B W"]:
        """What a classifier's head reads, in evaluation mode."""
        network = self._with(params)
        x = self.below(params, tokens, self.config.blocks)
        return network.pooled(x, tokens.mask)

    def from_pooled(self, params: dict, pooled: Float[Array, "B W"], key: jax.Array | None = None):
        """Logits (B, outputs) of a classifier; with dropout where a key is given."""
        return self._with(params).head(pooled, Noise(key))

    def _made(self, rngs: nnx.Rngs) -> Transformer:
        return Transformer(self.config, self.classifier, self.lora, rngs)

    def _skeleton(self):
        return nnx.split(nnx.eval_shape(lambda: self._made(nnx.Rngs(0))))

    def _with(self, params: dict) -> Transformer:
        definition, state = self._skeleton()
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(definition, state)


def _through(layers, x, context: Context, noise: Noise):
    for layer in layers:
        x = layer(x, context, noise)
    return x
