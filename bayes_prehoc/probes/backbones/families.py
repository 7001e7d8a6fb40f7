"""The families of pretrained checkpoints: what their config.json says, and what their tensors are called.

A `Family` reads a configuration of Hugging Face's transformers into a `TransformerConfig`, and its table says for each
tensor of a checkpoint which parameter of our network it fills. PyTorch's linear layers keep their weights as
(outputs, inputs), our kernels are (inputs, outputs); GPT-2 keeps (inputs, outputs) and query, key and value in one.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bayes_prehoc.errors import InputError
from bayes_prehoc.probes.backbones.layers import ACTIVATIONS, Rotary
from bayes_prehoc.probes.backbones.transformer import TransformerConfig

__all__ = ["FAMILIES", "Family", "Rename", "family_of"]


class Rename(NamedTuple):
    """Where tensors whose name matches go.

    Attributes
    ----------
    pattern : str
        Regular expression that the whole name matches.
    paths : tuple of str
        Parameters, with the groups of the match; if there are several the tensor is cut into as many parts along its
        last axis.
    transposed : bool
    """

    pattern: str
    paths: tuple[str, ...]
    transposed: bool = False

    def parameters(self, name: str, tensor: np.ndarray) -> dict[str, np.ndarray] | None:
        """By path; None where the name does not match."""
        match = re.fullmatch(self.pattern, name)
        if match is None:
            return None
        parts = np.split(tensor.T if self.transposed else tensor, len(self.paths), axis=-1)
        return {match.expand(path): part for path, part in zip(self.paths, parts, strict=True)}


@dataclasses.dataclass(frozen=True)
class Family:
    """How one kind of checkpoint is read.

    Attributes
    ----------
    config : callable
        From a configuration of transformers.
    prefix : str
        Regular expression of what may stand before a name.
    table : tuple of Rename
    unused : tuple of str
        Regular expressions of tensors that no network of ours reads.
    pooling, dense, head_bias : str, str or None, bool
        Of the classifier that the family is usually given.
    """

    config: Callable[[Any], TransformerConfig]
    prefix: str
    table: tuple[Rename, ...]
    unused: tuple[str, ...]
    pooling: str
    dense: str | None = None
    head_bias: bool = True

    def parameters(self, name: str, tensor: np.ndarray) -> dict[str, np.ndarray] | None:
        """What a tensor of a checkpoint fills, by path: nothing for one that is not used, None for an unknown one."""
        for rename in self.table:
            found = rename.parameters(re.sub(f"^(?:{self.prefix})", "", name), tensor)
            if found is not None:
                return found
        return {} if any(re.fullmatch(pattern, name) for pattern in self.unused) else None


def family_of(model_type: str, where: str = "config.json") -> Family:
    """The family of a `model_type`.

    Raises
    ------
    InputError
        If it is none of ours.
    """
    if model_type not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise InputError(f"model type {model_type!r} is not supported", where, f"Use one of {known}.")
    return FAMILIES[model_type]


def _linear(name: str, path: str) -> tuple[Rename, ...]:
    return (
        Rename(rf"{name}\.weight", (f"{path}.kernel",), transposed=True),
        Rename(rf"{name}\.bias", (f"{path}.bias",)),
    )


def _norm(name: str, path: str) -> tuple[Rename, ...]:
    # Checkpoints from before 2020 say gamma and beta.
    return (
        Rename(rf"{name}\.(?:weight|gamma)", (f"{path}.scale",)),
        Rename(rf"{name}\.(?:bias|beta)", (f"{path}.bias",)),
    )


def _embedding(name: str, path: str) -> tuple[Rename, ...]:
    return (Rename(rf"{name}\.weight", (f"{path}.embedding",)),)


def _conv1d(name: str, *paths: str) -> tuple[Rename, ...]:
    return (
        Rename(rf"{name}\.weight", tuple(f"{path}.kernel" for path in paths)),
        Rename(rf"{name}\.bias", tuple(f"{path}.bias" for path in paths)),
    )


_LAYER = r"layers.\1"
_BERT_LAYER = r"encoder\.layer\.(\d+)"
_BERT = (
    *_embedding(r"embeddings\.word_embeddings", "token"),
    *_embedding(r"embeddings\.position_embeddings", "position"),
    *_embedding(r"embeddings\.token_type_embeddings", "type"),
    *_norm(r"embeddings\.LayerNorm", "norm"),
    *_linear(rf"{_BERT_LAYER}\.attention\.self\.(query|key|value)", rf"{_LAYER}.attention.\2"),
    *_linear(rf"{_BERT_LAYER}\.attention\.output\.dense", f"{_LAYER}.attention.output"),
    *_norm(rf"{_BERT_LAYER}\.attention\.output\.LayerNorm", f"{_LAYER}.attention_norm"),
    *_linear(rf"{_BERT_LAYER}\.intermediate\.dense", f"{_LAYER}.perceptron.up"),
    *_linear(rf"{_BERT_LAYER}\.output\.dense", f"{_LAYER}.perceptron.down"),
    *_norm(rf"{_BERT_LAYER}\.output\.LayerNorm", f"{_LAYER}.perceptron_norm"),
)
_CLASSIFIER = _linear("classifier", "head.out")
_DISTILBERT_LAYER = r"transformer\.layer\.(\d+)"
_DISTILBERT = (
    *_embedding(r"embeddings\.word_embeddings", "token"),
    *_embedding(r"embeddings\.position_embeddings", "position"),
    *_norm(r"embeddings\.LayerNorm", "norm"),
    *_linear(rf"{_DISTILBERT_LAYER}\.attention\.q_lin", f"{_LAYER}.attention.query"),
    *_linear(rf"{_DISTILBERT_LAYER}\.attention\.k_lin", f"{_LAYER}.attention.key"),
    *_linear(rf"{_DISTILBERT_LAYER}\.attention\.v_lin", f"{_LAYER}.attention.value"),
    *_linear(rf"{_DISTILBERT_LAYER}\.attention\.out_lin", f"{_LAYER}.attention.output"),
    *_norm(rf"{_DISTILBERT_LAYER}\.sa_layer_norm", f"{_LAYER}.attention_norm"),
    *_linear(rf"{_DISTILBERT_LAYER}\.ffn\.lin1", f"{_LAYER}.perceptron.up"),
    *_linear(rf"{_DISTILBERT_LAYER}\.ffn\.lin2", f"{_LAYER}.perceptron.down"),
    *_norm(rf"{_DISTILBERT_LAYER}\.output_layer_norm", f"{_LAYER}.perceptron_norm"),
)
_GPT2_LAYER = r"h\.(\d+)"
_GPT2 = (
    *_embedding("wte", "token"),
    *_embedding("wpe", "position"),
    *_norm(rf"{_GPT2_LAYER}\.ln_1", f"{_LAYER}.attention_norm"),
    *_conv1d(rf"{_GPT2_LAYER}\.attn\.c_attn", *(f"{_LAYER}.attention.{name}" for name in ("query", "key", "value"))),
    *_conv1d(rf"{_GPT2_LAYER}\.attn\.c_proj", f"{_LAYER}.attention.output"),
    *_norm(rf"{_GPT2_LAYER}\.ln_2", f"{_LAYER}.perceptron_norm"),
    *_conv1d(rf"{_GPT2_LAYER}\.mlp\.c_fc", f"{_LAYER}.perceptron.up"),
    *_conv1d(rf"{_GPT2_LAYER}\.mlp\.c_proj", f"{_LAYER}.perceptron.down"),
    *_norm("ln_f", "norm"),
    *_linear("lm_head", "head"),
)
_LLAMA_LAYER = r"layers\.(\d+)"
_SHORT = {"q": "query", "k": "key", "v": "value", "o": "output"}
_LLAMA = (
    *_embedding("embed_tokens", "token"),
    *_norm(rf"{_LLAMA_LAYER}\.input_layernorm", f"{_LAYER}.attention_norm"),
    *(
        rename
        for short, name in _SHORT.items()
        for rename in _linear(rf"{_LLAMA_LAYER}\.self_attn\.{short}_proj", f"{_LAYER}.attention.{name}")
    ),
    *_norm(rf"{_LLAMA_LAYER}\.self_attn\.q_norm", f"{_LAYER}.attention.query_norm"),
    *_norm(rf"{_LLAMA_LAYER}\.self_attn\.k_norm", f"{_LAYER}.attention.key_norm"),
    *_norm(rf"{_LLAMA_LAYER}\.post_attention_layernorm", f"{_LAYER}.perceptron_norm"),
    *_linear(rf"{_LLAMA_LAYER}\.mlp\.(gate|up|down)_proj", rf"{_LAYER}.perceptron.\2"),
    *_norm("norm", "norm"),
    *_linear("lm_head", "head"),
)


def _encoder(config, **own) -> TransformerConfig:
    width, heads = config.hidden_size, config.num_attention_heads
    return TransformerConfig(
        family=config.model_type,
        vocabulary=config.vocab_size,
        width=width,
        blocks=config.num_hidden_layers,
        heads=heads,
        key_heads=heads,
        head_size=width // heads,
        causal=False,
        norm_first=False,
        rms=False,
        gated=False,
        attention_bias=True,
        output_bias=True,
        hidden_bias=True,
        attention_dropout=config.attention_probs_dropout_prob
        if hasattr(config, "attention_probs_dropout_prob")
        else config.attention_dropout,
        **own,
    )


def _bert(config) -> TransformerConfig:
    _needs(config, "position_embedding_type", "absolute")
    _needs(config, "is_decoder", False)
    first = config.pad_token_id + 1 if config.model_type == "roberta" else 0
    return _encoder(
        config,
        hidden=config.intermediate_size,
        longest=config.max_position_embeddings - first,
        first_position=first,
        types=config.type_vocab_size,
        epsilon=config.layer_norm_eps,
        activation=_activation(config.hidden_act),
        dropout=config.hidden_dropout_prob,
        embedding_dropout=config.hidden_dropout_prob,
    )


def _distilbert(config) -> TransformerConfig:
    return _encoder(
        config,
        hidden=config.hidden_dim,
        longest=config.max_position_embeddings,
        epsilon=1e-12,
        activation=_activation(config.activation),
        dropout=config.dropout,
        embedding_dropout=config.dropout,
    )


def _gpt2(config) -> TransformerConfig:
    _needs(config, "scale_attn_weights", True)
    _needs(config, "scale_attn_by_inverse_layer_idx", False)
    _needs(config, "add_cross_attention", False)
    width = config.n_embd
    return TransformerConfig(
        family=config.model_type,
        vocabulary=config.vocab_size,
        width=width,
        blocks=config.n_layer,
        heads=config.n_head,
        key_heads=config.n_head,
        head_size=width // config.n_head,
        hidden=config.n_inner or 4 * width,
        longest=config.n_positions,
        causal=True,
        norm_first=True,
        rms=False,
        epsilon=config.layer_norm_epsilon,
        activation=_activation(config.activation_function),
        gated=False,
        attention_bias=True,
        output_bias=True,
        hidden_bias=True,
        tied=config.tie_word_embeddings,
        dropout=config.resid_pdrop,
        attention_dropout=config.attn_pdrop,
        embedding_dropout=config.embd_pdrop,
    )


def _llama(config) -> TransformerConfig:
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise InputError(
            "attention in a sliding window is not supported", "config.json", "Set use_sliding_window false."
        )
    kind, width, heads = config.model_type, config.hidden_size, config.num_attention_heads
    bias = kind == "qwen2" or bool(getattr(config, "attention_bias", False))
    return TransformerConfig(
        family=kind,
        vocabulary=config.vocab_size,
        width=width,
        blocks=config.num_hidden_layers,
        heads=heads,
        key_heads=config.num_key_value_heads,
        head_size=getattr(config, "head_dim", None) or width // heads,
        hidden=config.intermediate_size,
        longest=config.max_position_embeddings,
        causal=True,
        norm_first=True,
        rms=True,
        epsilon=config.rms_norm_eps,
        activation=_activation(config.hidden_act),
        gated=True,
        attention_bias=bias,
        output_bias=bias and kind != "qwen2",
        hidden_bias=bool(getattr(config, "mlp_bias", False)),
        query_key_norm=kind == "qwen3",
        rotary=_rotary(config),
        tied=config.tie_word_embeddings,
        attention_dropout=config.attention_dropout,
    )


def _rotary(config) -> Rotary:
    given = dict(config.rope_parameters or {})
    kind, theta = given.get("rope_type", "default"), float(given.get("rope_theta", 10_000.0))
    if given.get("partial_rotary_factor", 1.0) != 1.0:
        raise InputError(
            "rotary positions of a part of each head are not supported", "config.json", "Use another model."
        )
    if kind == "default":
        return Rotary(theta)
    if kind == "linear":
        return Rotary(theta, float(given["factor"]))
    if kind == "llama3":
        return Rotary(
            theta,
            float(given["factor"]),
            float(given["low_freq_factor"]),
            float(given["high_freq_factor"]),
            int(given["original_max_position_embeddings"]),
        )
    raise InputError(
        f"rotary positions of type {kind!r} are not supported",
        "config.json, rope_parameters",
        "Use a model with default, linear or llama3.",
    )


def _activation(name: str) -> str:
    if name not in ACTIVATIONS:
        raise InputError(
            f"activation {name!r} is not supported", "config.json", f"Use a model with one of {', '.join(ACTIVATIONS)}."
        )
    return name


def _needs(config, name: str, value) -> None:
    if getattr(config, name, value) != value:
        raise InputError(
            f"{name} is {getattr(config, name)!r}", "config.json", f"Use a model whose {name} is {value!r}."
        )


_PREDICTION = (r"cls\..*", r"lm_head\..*", r"vocab_(?:transform|layer_norm|projector)\..*")
_BUFFERS = (r".*position_ids", r".*\.attn\.(?:masked_)?bias", r".*rotary_emb\.inv_freq")

FAMILIES = {
    "bert": Family(
        _bert,
        r"bert\.",
        (*_BERT, *_linear(r"pooler\.dense", "head.dense"), *_CLASSIFIER),
        (*_PREDICTION, *_BUFFERS),
        pooling="first",
        dense="tanh",
    ),
    "roberta": Family(
        _bert,
        r"roberta\.",
        (*_BERT, *_linear(r"classifier\.dense", "head.dense"), *_linear(r"classifier\.out_proj", "head.out")),
        (*_PREDICTION, *_BUFFERS, r"(?:roberta\.)?pooler\..*"),
        pooling="first",
        dense="tanh",
    ),
    "distilbert": Family(
        _distilbert,
        r"distilbert\.",
        (*_DISTILBERT, *_linear("pre_classifier", "head.dense"), *_CLASSIFIER),
        (*_PREDICTION, *_BUFFERS),
        pooling="first",
        dense="relu",
    ),
    "gpt2": Family(
        _gpt2,
        r"transformer\.",
        (*_GPT2, *_linear("score", "head.out")),
        _BUFFERS,
        pooling="last",
        head_bias=False,
    ),
} | {
    kind: Family(
        _llama,
        r"model\.",
        (*_LLAMA, *_linear("score", "head.out")),
        _BUFFERS,
        pooling="last",
        head_bias=False,
    )
    for kind in ("llama", "qwen2", "qwen3")
}
"""By the `model_type` of config.json."""
