"""What a run is judged by: the loss that is minimised, and the metrics of a set of examples.

Three kinds of target: a class (int), a number (float), or tokens, of which those that are `IGNORED` are not asked
about; an answer of several tokens is right if each of them is the likeliest.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from bayes_prehoc.errors import InputError

__all__ = ["IGNORED", "METRICS", "Judged", "judge", "metric_of", "per_example"]

IGNORED = -1
"""Target of a position that nothing is asked about."""


class Judged(NamedTuple):
    """Answers to n examples.

    Attributes
    ----------
    loss : float array (n,)
        Cross-entropy in nats, of several tokens their mean; squared error of a number.
    right : bool array (n,)
    told : array (n,)
        The likeliest class, or the number; zero for tokens.
    target : array (n,)
        The class or number; zero for tokens.
    """

    loss: Float[Array, " n"]
    right: Bool[Array, " n"]
    told: Array
    target: Array


def judge(logits: Float[Array, "n ..."], target: Array) -> Judged:
    """Answers, by the type and shape of their targets.

    Parameters
    ----------
    logits : float array (n, classes), (n, 1) or (n, L, vocabulary)
    target : int array (n,), float array (n,), or int array (n, L) with `IGNORED`
    """
    if jnp.issubdtype(target.dtype, jnp.floating):
        told = logits[..., 0]
        loss = (told - target) ** 2
        return Judged(loss, jnp.zeros(loss.shape, bool), told, target)
    asked = target != IGNORED
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(target, 0))
    nats = jnp.where(asked, nats, 0.0)
    told = jnp.argmax(logits, axis=-1)
    right = (told == target) | ~asked
    if target.ndim == 1:
        return Judged(nats, right, told, target)
    asked, nats, right = (part.reshape(target.shape[0], -1) for part in (asked, nats, right))
    loss = nats.sum(axis=1) / jnp.maximum(asked.astype(nats.dtype).sum(axis=1), 1.0)
    nothing = jnp.zeros(loss.shape, jnp.int32)
    return Judged(loss, right.all(axis=1), nothing, nothing)


def _f1(judged: Judged, classes: int) -> Float[Array, ""]:
    """Of class 1 where there are two; else the mean of all classes'."""
    table = _confusion(judged, classes)
    both = table.sum(axis=0) + table.sum(axis=1)
    each = jnp.where(both > 0, 2.0 * jnp.diag(table) / jnp.maximum(both, 1.0), 0.0)
    return each[1] if classes == 2 else each.mean()


def _matthews(judged: Judged, classes: int) -> Float[Array, ""]:
    """Of any number of classes (Gorodkin 2004); zero where all examples, or all answers, are of one class."""
    table = _confusion(judged, classes)
    n, true, told = table.sum(), table.sum(axis=1), table.sum(axis=0)
    over = jnp.trace(table) * n - true @ told
    under = (n**2 - told @ told) * (n**2 - true @ true)
    return jnp.where(under > 0, over / jnp.sqrt(jnp.maximum(under, 1.0)), 0.0)


def _confusion(judged: Judged, classes: int) -> Float[Array, "C C"]:
    """Counts, true class by answer."""
    true, told = (jax.nn.one_hot(part, classes) for part in (judged.target, judged.told))
    return true.T @ told


METRICS = {
    "accuracy": lambda judged, classes: judged.right.mean(),
    "exact_match": lambda judged, classes: judged.right.mean(),
    "f1": _f1,
    "matthews": _matthews,
    "loss": lambda judged, classes: judged.loss.mean(),
}
"""Functions of `Judged` and the number of classes."""

PER_EXAMPLE = {"accuracy": "right", "exact_match": "right", "loss": "loss"}
"""Metrics that are the mean of something about each example, and what that is."""


def metric_of(metric: str | Callable, judged: Judged, classes: int) -> Float[Array, ""]:
    """A metric of a set of examples."""
    if not callable(metric):
        return METRICS[metric](judged, classes)
    value = jnp.asarray(metric(judged, classes), jnp.float32)
    if value.shape:
        raise InputError(
            f"the metric gives an array of shape {value.shape}", "metric", "Give one number for all examples together."
        )
    return value


def per_example(metric: str | Callable, judged: Judged) -> Array:
    """What the metric is known to be the mean of, (n,); an empty array where it is not."""
    return getattr(judged, PER_EXAMPLE[metric]) if metric in PER_EXAMPLE else jnp.zeros(0)
