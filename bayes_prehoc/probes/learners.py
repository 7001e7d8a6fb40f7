"""Networks as the engine sees them: where a run starts, and the answers to a batch of examples.

A learner is static and hashable, so that a compilation can depend on it; its methods are pure functions of arrays. What
a run trains is its own; what is frozen is shared by all runs.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from bayes_prehoc.probes.backbones import Network, NetworkConfig, Tokens, forward, new_head
from bayes_prehoc.probes.backbones.paths import flat, nested

__all__ = ["Learner", "SmallLearner", "TransformerLearner"]


@dataclasses.dataclass(frozen=True)
class SmallLearner:
    """A network of the built-in suite, all of it trained.

    Attributes
    ----------
    network : NetworkConfig
    outputs : int
    head : str
        "new" or "kept".
    dropout : float
    """

    network: NetworkConfig
    outputs: int
    head: str
    dropout: float

    @property
    def by_length(self) -> bool:
        """Examples differ in length; here they do not."""
        return False

    def start(self, pretrained: dict, key: jax.Array) -> dict:
        """What a run trains, at its beginning."""
        if self.head == "kept":
            return pretrained
        return pretrained | {"head": new_head(self.network, self.outputs, key)}

    def logits(self, trained: dict, frozen: dict, x: Array, key: jax.Array | None = None) -> Float[Array, "n ..."]:
        """Answers to a batch; with dropout where a key is given."""
        rate = self.dropout if key is not None else 0.0
        return forward(self.network, trained, x, rate, key if rate else None)

    def lengths(self, x: Array) -> np.ndarray:
        """What may be cut off is told by; here nothing may."""
        return np.full(x.shape[0], x.shape[1])

    def cut(self, x: Array, y: Array, length: int) -> tuple[Array, Array]:
        """The examples as they are."""
        return x, y


@dataclasses.dataclass(frozen=True)
class TransformerLearner:
    """A pretrained transformer of which some parameters are trained.

    Attributes
    ----------
    network : Network
    stage : str
        What examples hold: "tokens", "layer" (what layer `since` reads, beside the tokens), or "pooled" (what the head
        reads).
    since : int
        The first layer that is trained.
    embeddings : bool
        They are trained too.
    trained : tuple of str
        Paths of the parameters that are.
    fresh : tuple of str
        Those of them that a run draws anew.
    """

    network: Network
    stage: str
    since: int
    embeddings: bool
    trained: tuple[str, ...]
    fresh: tuple[str, ...]

    @property
    def by_length(self) -> bool:
        """Examples differ in length, and batches are made of those alike."""
        return self.stage != "pooled"

    def start(self, pretrained: Mapping[str, Array], key: jax.Array) -> dict[str, Array]:
        """What a run trains, at its beginning, by path."""
        # What is built and not used is removed by the compiler.
        built = flat(self.network.build(key)) if self.fresh else {}
        return {path: built[path] if path in self.fresh else pretrained[path] for path in self.trained}

    def logits(self, trained: dict, frozen: dict, x: Any, key: jax.Array | None = None) -> Float[Array, "n ..."]:
        """Answers to a batch; with dropout in what is trained where a key is given."""
        params = nested({**frozen, **trained})
        if self.stage == "pooled":
            return self.network.from_pooled(params, x, key)
        if self.embeddings:
            return self.network.whole(params, x, key)
        hidden, tokens = x if self.stage == "layer" else (self.network.below(params, x, self.since), x)
        return self.network.above(params, jax.lax.stop_gradient(hidden), tokens, self.since, key)

    def cache(self, frozen: dict, tokens: Tokens) -> Any:
        """Examples of this stage, from tokens."""
        params = nested(frozen)
        if self.stage == "pooled":
            return self.network.pooled(params, tokens)
        return (self.network.below(params, tokens, self.since), tokens) if self.stage == "layer" else tokens

    def lengths(self, x: Any) -> np.ndarray:
        """Positions that an example needs."""
        if self.stage == "pooled":
            return np.ones(x.shape[0], int)
        tokens = x[1] if self.stage == "layer" else x
        return np.asarray(tokens.mask).sum(axis=1)

    def cut(self, x: Any, y: Array, length: int) -> tuple[Any, Array]:
        """The first positions of examples that need no more."""
        if self.stage == "pooled":
            return x, y
        return jax.tree.map(lambda a: a[:, :length], x), y[:, :length] if y.ndim == 2 else y


Learner = SmallLearner | TransformerLearner
