"""One compiled function that fine-tunes a group of seeds, and the pure function of a key inside it.

A run follows from its key alone: `run_key(seed)` is `fold_in` of a constant key, split once into the order of
the data, what is drawn afresh and dropout. Seeds are a `vmap` over `run`, steps are a loop on the device, and
the evaluations at the recorded depths happen inside it. What differs between tasks of one shape (data, learning
rate, number of steps) is an argument, so such tasks share one compilation.

Texts differ in length. Their batches are made of examples of about one length, as far as an order that is otherwise
random allows (`_order_of_epoch`), and computed at one of a few lengths; evaluation goes by length too.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int

from bayes_prehoc.probes.learners import Learner
from bayes_prehoc.probes.objectives import Judged, judge, metric_of, per_example
from bayes_prehoc.probes.spec import ProbeSpec

__all__ = ["Hyper", "Program", "RunResult", "Sets", "learning_rates", "run", "run_group", "run_key"]

# Every run of every task descends from this key, so that a seed means the same in any company.
_ROOT_SEED = 260617649

ALIKE = 16
"""Batches among whose examples those of like length are put together."""


class Program(NamedTuple):
    """What a compilation depends on, beside the shapes of the arrays.

    Attributes
    ----------
    learner : Learner
    batch_size : int
    lengths : tuple of int
        At which batches are computed, increasing; one for all where examples do not differ.
    classes : int
    optimizer, schedule, metric : str
        As in `ProbeSpec`.
    """

    learner: Learner
    batch_size: int
    lengths: tuple[int, ...]
    classes: int
    optimizer: str
    schedule: str
    metric: str

    @classmethod
    def of(cls, spec: ProbeSpec, learner: Learner, lengths: tuple[int, ...], classes: int) -> "Program":
        """The compilation that a task needs."""
        return cls(learner, spec.batch_size, lengths, classes, spec.optimizer, spec.schedule, spec.metric)


class Hyper(NamedTuple):
    """Numbers that a compilation does not depend on."""

    learning_rate: jax.Array
    weight_decay: jax.Array
    steps: jax.Array


class Sets(NamedTuple):
    """The sets of a task, on a device.

    Attributes
    ----------
    train_x, train_y : arrays (n, ...)
    train_length : int array (n,)
        Positions that each example needs.
    judged_x, judged_y : arrays (batches, batch, ...)
        The probe set, then the outcome set, in batches of about one length; the last batch of each is filled up.
    judged_length : int array (batches,)
        Which of the program's lengths a batch is computed at.
    outcome_begins : int array ()
        The first batch of the outcome set.
    probe, outcome : int arrays (p,), (m,)
        Where each example lies among those of all batches, one after the other.
    """

    train_x: Any
    train_y: Array
    train_length: Int[Array, " n"]
    judged_x: Any
    judged_y: Array
    judged_length: Int[Array, " batches"]
    outcome_begins: Int[Array, ""]
    probe: Int[Array, " p"]
    outcome: Int[Array, " m"]


class RunResult(NamedTuple):
    """What a run leaves: metrics at D depths, the outcome, and what is known of the outcome set's m examples.

    Attributes
    ----------
    loss, score : float32 array (..., D)
        Mean loss and the metric on the probe set.
    train_loss : float32 array (..., D)
        Mean loss of the training batches since the depth before.
    outcome : float32 array (...)
        The metric on the outcome set, at the horizon.
    examples : array (..., m)
        Whether each of its examples is right, or its loss, whichever the metric is the mean of; m is 0 if neither.
    """

    loss: jax.Array
    score: jax.Array
    train_loss: jax.Array
    outcome: jax.Array
    examples: jax.Array


def run_key(seed: jax.Array) -> jax.Array:
    """Key of a run: a function of its seed only."""
    return jax.random.fold_in(jax.random.key(_ROOT_SEED), seed)


@functools.partial(jax.jit, static_argnums=0)
def run_group(
    program: Program, seeds: jax.Array, start, frozen, sets: Sets, hyper: Hyper, depths: jax.Array
) -> RunResult:
    """Runs of a group of seeds, uint32 array (w,); fields of the result have a leading axis w."""

    def run_seed(seed):
        return run(program, run_key(seed), start, frozen, sets, hyper, depths)

    if seeds.shape[0] == 1:
        return jax.tree.map(lambda a: a[None], run_seed(seeds[0]))
    return jax.vmap(run_seed)(seeds)


def run(program: Program, key: jax.Array, start, frozen, sets: Sets, hyper: Hyper, depths: jax.Array) -> RunResult:
    """Fine-tune once.

    Parameters
    ----------
    program : Program
    key : jax key
        Everything random in the run follows from it.
    start, frozen : dicts of arrays
        Where the learner starts from, and what it does not change.
    sets : Sets
        On the device.
    hyper : Hyper
    depths : int32 array (D,)
        Steps after which to evaluate; the last one ends the run.
    """
    order_key, fresh_key, dropout_key = jax.random.split(key, 3)
    learner, batch_size = program.learner, program.batch_size
    trained = learner.start(start, fresh_key)
    optimizer = _optimizer(program, hyper)
    per_epoch = sets.train_y.shape[0] // batch_size

    def batch_loss(trained, x, y, step):
        return judge(learner.logits(trained, frozen, x, jax.random.fold_in(dropout_key, step)), y).loss.mean()

    def loss_and_gradient(trained, rows, step):
        x, y = jax.tree.map(lambda a: a[rows], (sets.train_x, sets.train_y))
        which = jnp.searchsorted(jnp.array(program.lengths), sets.train_length[rows].max())
        return _at_length(
            program,
            which,
            lambda length: jax.value_and_grad(batch_loss)(trained, *learner.cut(x, y, length), step),
        )

    def train_step(step, carry):
        trained, state, order, total = carry
        epoch, place = step // per_epoch, step % per_epoch
        order = jax.lax.cond(
            place == 0, lambda: _order_of_epoch(jax.random.fold_in(order_key, epoch), program, sets), lambda: order
        )
        rows = jax.lax.dynamic_slice(order, (place * batch_size,), (batch_size,))
        loss, gradient = loss_and_gradient(trained, rows, step)
        updates, state = optimizer.update(gradient, state, trained)
        return optax.apply_updates(trained, updates), state, order, total + loss

    def stage(carry, bounds):
        first_step, last_step, first_batch, last_batch = bounds
        carry = jax.lax.fori_loop(first_step, last_step, train_step, (*carry, jnp.float32(0)))
        *carry, total = carry
        judged = _judged(program, carry[0], frozen, sets, first_batch, last_batch)
        on_probe = jax.tree.map(lambda a: a[sets.probe], judged)
        score = metric_of(program.metric, on_probe, program.classes)
        on_outcome = jax.tree.map(lambda a: a[sets.outcome], judged)
        outcome = metric_of(program.metric, on_outcome, program.classes)
        seen = on_probe.loss.mean(), score, total / (last_step - first_step)
        return tuple(carry), (seen, (outcome, per_example(program.metric, on_outcome)))

    # The outcome set is judged in a stage of its own, without steps: so that judging is compiled once.
    ends = jnp.concatenate([depths, depths[-1:]])
    starts = jnp.concatenate([jnp.zeros(1, depths.dtype), depths])
    is_last = jnp.arange(len(ends)) == len(depths)
    begins = sets.outcome_begins
    batches = jnp.where(is_last, begins, 0), jnp.where(is_last, sets.judged_y.shape[0], begins)
    carry = trained, optimizer.init(trained), jnp.arange(per_epoch * batch_size)
    _, (seen, told) = jax.lax.scan(stage, carry, (starts, ends, *batches))
    return RunResult(*(a[:-1] for a in seen), *(a[-1] for a in told))


def _at_length(program: Program, which: Int[Array, ""], compute: Callable):
    """What `compute` gives for one of the program's lengths."""
    branches = [functools.partial(compute, length) for length in program.lengths]
    return branches[0]() if len(branches) == 1 else jax.lax.switch(which, branches)


def _judged(program: Program, trained, frozen, sets: Sets, first, last) -> Judged:
    """Answers to the examples of some batches, arrays (batches x batch,); zero for those of the others."""
    learner, (batches, size) = program.learner, sets.judged_y.shape[:2]

    def answer(x, y, which) -> Judged:
        def at(length):
            short_x, short_y = learner.cut(x, y, length)
            return judge(learner.logits(trained, frozen, short_x), short_y)

        return _at_length(program, which, at)

    def one(batch, judged):
        x, y, which = jax.tree.map(lambda a: a[batch], (sets.judged_x, sets.judged_y, sets.judged_length))
        return jax.tree.map(lambda all_, own: all_.at[batch].set(own), judged, answer(x, y, which))

    like = jax.eval_shape(answer, *jax.tree.map(lambda a: a[0], (sets.judged_x, sets.judged_y, sets.judged_length)))
    nothing = jax.tree.map(lambda a: jnp.zeros((batches, *a.shape), a.dtype), like)
    judged = jax.lax.fori_loop(first, last, one, nothing)
    return jax.tree.map(lambda a: a.reshape(batches * size, *a.shape[2:]), judged)


def _order_of_epoch(key, program: Program, sets: Sets) -> Int[Array, " n"]:
    """Rows in the order in which they are trained on, as many as there are in whole batches.

    Where lengths differ, `ALIKE` batches at a time are sorted by length, and then batches change places.
    """
    examples, size = sets.train_length.shape[0], program.batch_size
    batches = examples // size
    if len(program.lengths) == 1:
        return jax.random.permutation(key, examples)[: batches * size]
    rows_key, batches_key = jax.random.split(key)
    rows = jax.random.permutation(rows_key, examples)[: batches * size]
    together = jnp.arange(batches * size) // (ALIKE * size)
    rows = rows[jnp.lexsort((sets.train_length[rows], together))]
    return jax.random.permutation(batches_key, rows.reshape(batches, size)).reshape(-1)


def learning_rates(spec: ProbeSpec) -> np.ndarray:
    """Learning rate of the step that ends at each recorded depth, float array (D,)."""
    schedule = _SCHEDULES[spec.schedule]
    return np.array([float(schedule(step, spec.learning_rate, spec.steps)) for step in spec.depths - 1])


_SCHEDULES = {
    "constant": lambda step, rate, steps: rate,
    "cosine": lambda step, rate, steps: rate * 0.5 * (1 + jnp.cos(jnp.pi * step / steps)),
    "linear": lambda step, rate, steps: rate * (1 - step / steps),
}


def _optimizer(program: Program, hyper: Hyper) -> optax.GradientTransformation:
    def rate(step):
        return _SCHEDULES[program.schedule](step, hyper.learning_rate, hyper.steps)

    if program.optimizer == "adamw":
        return optax.adamw(rate, weight_decay=hyper.weight_decay)
    return optax.chain(optax.add_decayed_weights(hyper.weight_decay), optax.sgd(rate, momentum=0.9))
