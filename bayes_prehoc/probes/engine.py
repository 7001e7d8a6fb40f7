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
from bayes_prehoc.probes.stages import Layout, Stages, stages_of

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
    optimizer, schedule, metric
        As in `ProbeSpec`.
    layout : Layout
    """

    learner: Learner
    batch_size: int
    lengths: tuple[int, ...]
    classes: int
    optimizer: str | Callable
    schedule: str | Callable
    metric: str | Callable
    layout: Layout

    @classmethod
    def of(cls, spec: ProbeSpec, learner: Learner, lengths: tuple[int, ...], classes: int) -> "Program":
        """The compilation that a task needs."""
        asked = spec.optimizer, spec.schedule, spec.metric
        return cls(learner, spec.batch_size, lengths, classes, *asked, stages_of(spec)[0])


class Hyper(NamedTuple):
    """Numbers that a compilation does not depend on."""

    learning_rate: jax.Array
    weight_decay: jax.Array


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

    Of an example it is known whether it is right, or its loss, whichever the metric is the mean of; m is 0 if neither.

    Attributes
    ----------
    loss, score : float32 array (..., D)
        Mean loss and the metric on the probe set.
    train_loss : float32 array (..., D)
        Mean loss of the training batches since the depth before, or since the beginning where depths start anew.
    outcome : float32 array (...)
        The metric on the outcome set, at the horizon.
    examples : array (..., m)
        At the horizon.
    depth_examples : array (..., D, m)
        At each depth; without depths unless they are asked for.
    forked : float32 array (..., F, branches)
        Outcomes of the continuations.
    """

    loss: jax.Array
    score: jax.Array
    train_loss: jax.Array
    outcome: jax.Array
    examples: jax.Array
    depth_examples: jax.Array
    forked: jax.Array


def run_key(seed: jax.Array) -> jax.Array:
    """Key of a run: a function of its seed only."""
    return jax.random.fold_in(jax.random.key(_ROOT_SEED), seed)


@functools.partial(jax.jit, static_argnums=0)
def run_group(program: Program, seeds: jax.Array, start, frozen, sets: Sets, hyper: Hyper, stages: Stages) -> RunResult:
    """Runs of a group of seeds, uint32 array (w,); fields of the result have a leading axis w."""

    def run_seed(seed):
        return run(program, run_key(seed), start, frozen, sets, hyper, stages)

    if seeds.shape[0] == 1:
        return jax.tree.map(lambda a: a[None], run_seed(seeds[0]))
    return jax.vmap(run_seed)(seeds)


class _State(NamedTuple):
    """Of a run between steps."""

    trained: Any
    optimizer: Any
    order: Int[Array, " n"]


def run(program: Program, key: jax.Array, start, frozen, sets: Sets, hyper: Hyper, stages: Stages) -> RunResult:
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
    stages : Stages
        As `program.layout` says.
    """
    order_key, fresh_key, dropout_key = jax.random.split(key, 3)
    learner, batch_size, layout = program.learner, program.batch_size, program.layout
    per_epoch = sets.train_y.shape[0] // batch_size

    def batch_loss(trained, x, y, key):
        return judge(learner.logits(trained, frozen, x, key), y).loss.mean()

    def loss_and_gradient(trained, rows, key):
        x, y = jax.tree.map(lambda a: a[rows], (sets.train_x, sets.train_y))
        which = jnp.searchsorted(jnp.array(program.lengths), sets.train_length[rows].max())
        return _at_length(
            program, which, lambda length: jax.value_and_grad(batch_loss)(trained, *learner.cut(x, y, length), key)
        )

    def steps(state: _State, stage: Stages):
        """The state after a stage's steps, and the sum of their losses."""
        keys = order_key, dropout_key
        own = [jnp.where(stage.branch > 0, jax.random.fold_in(key, stage.branch), key) for key in keys]
        optimizer = _optimizer(program, hyper, stage.horizon)

        def order_at(step):
            return _order_of_epoch(jax.random.fold_in(own[0], step // per_epoch), program, sets)

        def step(number, carry):
            (trained, slow, order), total = carry
            place = number % per_epoch
            order = jax.lax.cond(place == 0, lambda: order_at(number), lambda: order)
            rows = jax.lax.dynamic_slice(order, (place * batch_size,), (batch_size,))
            loss, gradient = loss_and_gradient(trained, rows, jax.random.fold_in(own[1], number))
            updates, slow = optimizer.update(gradient, slow, trained)
            return _State(optax.apply_updates(trained, updates), slow, order), total + loss

        if layout.forks:
            order = jax.lax.cond(stage.branch > 0, lambda: order_at(stage.first), lambda: state.order)
            state = state._replace(order=order)
        return jax.lax.fori_loop(stage.first, stage.last, step, (state, jnp.float32(0)))

    def do(carry, stage: Stages):
        state, slots = carry
        if slots is not None:
            state = jax.lax.cond(
                stage.load >= 0, lambda: jax.tree.map(lambda kept: kept[stage.load], slots), lambda: state
            )
        state, total = steps(state, stage)
        if slots is not None:
            # A place beyond the end is dropped.
            place = jnp.where(stage.save >= 0, stage.save, layout.slots)
            slots = jax.tree.map(lambda kept, now: kept.at[place].set(now, mode="drop"), slots, state)
        first = jnp.where(stage.probe > 0, 0, sets.outcome_begins)
        last = jnp.where(stage.outcome > 0, sets.judged_y.shape[0], sets.outcome_begins)
        judged = _judged(program, state.trained, frozen, sets, first, last)
        on_probe, on_outcome = (jax.tree.map(lambda a, rows=r: a[rows], judged) for r in (sets.probe, sets.outcome))
        score, outcome = (metric_of(program.metric, part, program.classes) for part in (on_probe, on_outcome))
        outcome = jnp.where(jnp.isfinite(total + on_outcome.loss.mean()), outcome, jnp.inf)
        seen = on_probe.loss.mean(), score, total / (stage.last - stage.first)
        return (state, slots), (seen, (outcome, per_example(program.metric, on_outcome)))

    trained = learner.start(start, fresh_key)
    optimizer = _optimizer(program, hyper, stages.horizon[0])
    state = _State(trained, optimizer.init(trained), jnp.arange(per_epoch * batch_size))
    slots = None
    if layout.slots > 1 or not layout.follow:
        slots = jax.tree.map(lambda a: jnp.broadcast_to(a, (layout.slots, *a.shape)), state)
    _, (seen, (outcomes, examples)) = jax.lax.scan(do, (state, slots), stages)

    at_depths, ended = slice(0, layout.depths), layout.depths - 1 + layout.judged_apart
    return RunResult(
        *(a[at_depths] for a in seen),
        outcomes[ended],
        examples[ended],
        examples[at_depths] if not layout.judged_apart else examples[:0],
        outcomes[ended + 1 :].reshape(layout.forks, layout.branches),
    )


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

    Texts are sorted by length, `ALIKE` batches at a time, and then batches change places: whether or not batches are
    computed at lengths of their own, so that a run does not depend on that.
    """
    examples, size = sets.train_length.shape[0], program.batch_size
    batches = examples // size
    if not program.learner.by_length:
        return jax.random.permutation(key, examples)[: batches * size]
    rows_key, batches_key = jax.random.split(key)
    rows = jax.random.permutation(rows_key, examples)[: batches * size]
    together = jnp.arange(batches * size) // (ALIKE * size)
    rows = rows[jnp.lexsort((sets.train_length[rows], together))]
    return jax.random.permutation(batches_key, rows.reshape(batches, size)).reshape(-1)


def learning_rates(spec: ProbeSpec) -> np.ndarray:
    """Learning rate of the step that ends at each recorded depth, float array (D,)."""
    depths = spec.depths
    horizons = depths if spec.depth_meaning == "per_depth" else np.full(len(depths), depths[-1])
    schedule = _schedule(spec.schedule)
    factors = [float(schedule(step - 1, horizon)) for step, horizon in zip(depths, horizons, strict=True)]
    return spec.learning_rate * np.array(factors)


_SCHEDULES = {
    "constant": lambda step, horizon: 1.0,
    "cosine": lambda step, horizon: 0.5 * (1 + jnp.cos(jnp.pi * step / horizon)),
    "linear": lambda step, horizon: 1 - step / horizon,
}


def _schedule(given: str | Callable) -> Callable:
    return _SCHEDULES[given] if isinstance(given, str) else given


def _optimizer(program: Program, hyper: Hyper, horizon) -> optax.GradientTransformation:
    def rate(step):
        return hyper.learning_rate * _schedule(program.schedule)(step, horizon)

    if callable(program.optimizer):
        return program.optimizer(rate)
    if program.optimizer == "adamw":
        return optax.adamw(rate, weight_decay=hyper.weight_decay)
    return optax.chain(optax.add_decayed_weights(hyper.weight_decay), optax.sgd(rate, momentum=0.9))
