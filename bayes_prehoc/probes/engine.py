"""One compiled function that fine-tunes a group of seeds, and the pure function of a key inside it.

A run follows from its key alone: `run_key(seed)` is `fold_in` of a constant key, split once into the order of
the data, the fresh output layer and dropout. Seeds are a `vmap` over `run`, steps are a loop on the device, and
the evaluations at the recorded depths happen inside it. What differs between tasks of one shape (data, learning
rate, number of steps) is an argument, so such tasks share one compilation.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from bayes_prehoc.probes.backbones.networks import NetworkConfig, forward, new_head
from bayes_prehoc.probes.spec import ProbeSpec

__all__ = ["Hyper", "Program", "RunResult", "cross_entropy", "program_of", "run", "run_group", "run_key"]

# Every run of every task descends from this key, so that a seed means the same in any company.
_ROOT_SEED = 260617649


class Program(NamedTuple):
    """What a compilation depends on, beside the shapes of the arrays."""

    network: NetworkConfig
    outputs: int
    batch_size: int
    optimizer: str
    schedule: str
    head: str
    dropout: float


class Hyper(NamedTuple):
    """Numbers that a compilation does not depend on."""

    learning_rate: jax.Array
    weight_decay: jax.Array
    steps: jax.Array


class RunResult(NamedTuple):
    """What a run leaves: metrics at D depths, and which of the outcome set's m examples it got right.

    Attributes
    ----------
    loss, score : float32 array (..., D)
        Mean cross-entropy (nats) and share of right answers on the probe set.
    train_loss : float32 array (..., D)
        Mean loss of the training batches since the depth before.
    right : bool array (..., m)
        On the outcome set, at the horizon.
    """

    loss: jax.Array
    score: jax.Array
    train_loss: jax.Array
    right: jax.Array


def program_of(spec: ProbeSpec, network: NetworkConfig, outputs: int) -> Program:
    """The compilation that a task needs."""
    return Program(network, outputs, spec.batch_size, spec.optimizer, spec.schedule, spec.head, spec.dropout)


def run_key(seed: jax.Array) -> jax.Array:
    """Key of a run: a function of its seed only."""
    return jax.random.fold_in(jax.random.key(_ROOT_SEED), seed)


@functools.partial(jax.jit, static_argnums=0)
def run_group(program: Program, seeds: jax.Array, pretrained: dict, data, hyper: Hyper, depths: jax.Array) -> RunResult:
    """Runs of a group of seeds, uint32 array (w,); fields of the result have a leading axis w."""
    return jax.vmap(lambda seed: run(program, run_key(seed), pretrained, data, hyper, depths))(seeds)


def run(program: Program, key: jax.Array, pretrained: dict, data, hyper: Hyper, depths: jax.Array) -> RunResult:
    """Fine-tune once.

    Parameters
    ----------
    program : Program
    key : jax key
        Everything random in the run follows from it.
    pretrained : nested dict of arrays
    data : TaskArrays
        The three sets, on the device.
    hyper : Hyper
    depths : int32 array (D,)
        Steps after which to evaluate; the last one ends the run.
    """
    order_key, head_key, dropout_key = jax.random.split(key, 3)
    params = pretrained
    if program.head == "new":
        params = pretrained | {"head": new_head(program.network, program.outputs, head_key)}
    optimizer = _optimizer(program, hyper)
    examples = data.train_x.shape[0]
    per_epoch = examples // program.batch_size

    def batch_loss(params, x, y, step):
        key = jax.random.fold_in(dropout_key, step) if program.dropout else None
        loss, _ = cross_entropy(forward(program.network, params, x, program.dropout, key), y)
        return loss.mean()

    def train_step(step, carry):
        params, state, order, total = carry
        epoch, place = step // per_epoch, step % per_epoch
        order = jax.lax.cond(
            place == 0, lambda: jax.random.permutation(jax.random.fold_in(order_key, epoch), examples), lambda: order
        )
        rows = jax.lax.dynamic_slice(order, (place * program.batch_size,), (program.batch_size,))
        loss, gradient = jax.value_and_grad(batch_loss)(params, data.train_x[rows], data.train_y[rows], step)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, order, total + loss

    def to_next_depth(carry, bounds):
        start, end = bounds
        params, state, order, total = jax.lax.fori_loop(start, end, train_step, (*carry, jnp.float32(0)))
        loss, right = cross_entropy(forward(program.network, params, data.probe_x), data.probe_y)
        return (params, state, order), (loss.mean(), right.mean(), total / (end - start))

    carry = params, optimizer.init(params), jnp.arange(examples)
    starts = jnp.concatenate([jnp.zeros(1, depths.dtype), depths[:-1]])
    (params, *_), (loss, score, train_loss) = jax.lax.scan(to_next_depth, carry, (starts, depths))
    _, right = cross_entropy(forward(program.network, params, data.outcome_x), data.outcome_y)
    return RunResult(loss, score, train_loss, right)


def cross_entropy(logits: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Loss of each example in nats, and whether it is right (each token of its answer is the likeliest).

    Parameters
    ----------
    logits : float array (n, classes) or (n, answer, classes)
    target : int array (n,) or (n, answer)

    Returns
    -------
    float array (n,), mean over the answer's tokens; bool array (n,)
    """
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, target)
    right = jnp.argmax(logits, axis=-1) == target
    return nats.reshape(target.shape[0], -1).mean(axis=1), right.reshape(target.shape[0], -1).all(axis=1)


def _optimizer(program: Program, hyper: Hyper) -> optax.GradientTransformation:
    rate = {
        "constant": lambda step: hyper.learning_rate,
        "cosine": lambda step: hyper.learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * step / hyper.steps)),
        "linear": lambda step: hyper.learning_rate * (1 - step / hyper.steps),
    }[program.schedule]
    if program.optimizer == "adamw":
        return optax.adamw(rate, weight_decay=hyper.weight_decay)
    return optax.chain(optax.add_decayed_weights(hyper.weight_decay), optax.sgd(rate, momentum=0.9))
