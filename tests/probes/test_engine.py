"""A run equals training written out as a loop, and follows from its seed alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayes_prehoc.probes import probe, suite_task
from bayes_prehoc.probes.backbones import load_backbone, new_head
from bayes_prehoc.probes.engine import run_key
from bayes_prehoc.probes.suite import load_data

pytest.importorskip("sklearn")


def plain_loss(params, x, y):
    """Mean cross-entropy of a two-layer perceptron, and which rows are right."""
    for layer in (params["layers"][0], params["layers"][1], params["head"]):
        x = x @ layer["kernel"] + layer["bias"]
        if layer is not params["head"]:
            x = 0.5 * x * (1 + jnp.tanh(jnp.sqrt(2 / jnp.pi) * (x + 0.044715 * x**3)))
    log_probability = x - jnp.log(jnp.exp(x).sum(axis=1, keepdims=True))
    return -log_probability[jnp.arange(len(y)), y].mean(), x.argmax(axis=1) == y


def train_in_a_loop(spec, seed):
    """AdamW with a cosine decay, step by step; losses and scores at the depths, and the outcome's right answers."""
    data, backbone = load_data(spec), load_backbone(spec.backbone)
    order_key, head_key, _ = jax.random.split(run_key(seed), 3)
    params = backbone.params | {"head": new_head(backbone.config, 3, head_key)}
    gradient_of = jax.jit(jax.value_and_grad(lambda p, x, y: plain_loss(p, x, y)[0]))
    first = second = jax.tree.map(lambda p: np.zeros(p.shape), params)
    seen, losses, scores, train_losses = [], [], [], []
    for step in range(spec.steps):
        epoch, place = divmod(step, spec.train_size // spec.batch_size)
        order = np.asarray(jax.random.permutation(jax.random.fold_in(order_key, epoch), spec.train_size))
        rows = order[place * spec.batch_size : (place + 1) * spec.batch_size]
        loss, gradient = gradient_of(params, data.train_x[rows], data.train_y[rows])
        seen.append(float(loss))
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * np.asarray(g), first, gradient)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * np.asarray(g) ** 2, second, gradient)
        rate, t = spec.learning_rate * 0.5 * (1 + np.cos(np.pi * step / spec.steps)), step + 1

        def updated(p, m, v, rate=rate, t=t):
            direction = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            return np.asarray(p - rate * (direction + spec.weight_decay * p), np.float32)

        params = jax.tree.map(updated, params, first, second)
        if t in spec.depths:
            loss, right = plain_loss(params, data.probe_x, data.probe_y)
            losses.append(float(loss))
            scores.append(float(right.mean()))
            train_losses.append(np.mean(seen))
            seen = []
    return losses, scores, train_losses, np.asarray(plain_loss(params, data.outcome_x, data.outcome_y)[1])


def test_run_equals_a_plain_training_loop(variant):
    spec = variant(schedule="cosine", label_noise=0.2)
    runs = probe(spec, [4], progress=False)["small"]
    losses, scores, train_losses, right = train_in_a_loop(spec, 4)
    np.testing.assert_allclose(runs.values["loss"][0], losses, rtol=1e-4)
    np.testing.assert_allclose(runs.values["train_loss"][0], train_losses, rtol=1e-4)
    np.testing.assert_allclose(runs.values["accuracy"][0], scores, rtol=1e-6)
    np.testing.assert_array_equal(runs.outcome_examples[0], right)
    assert runs.outcome[0] == right.mean()


def assert_same_run(one, other, seed):
    a, b = one.seeds.index(seed), other.seeds.index(seed)
    for metric in one.metrics:
        np.testing.assert_array_equal(one.values[metric][a], other.values[metric][b])
    np.testing.assert_array_equal(one.outcome_examples[a], other.outcome_examples[b])
    assert one.outcome[a] == other.outcome[b]


def test_run_is_the_same_alone_in_company_and_in_any_order(small):
    group = probe(small, 20, progress=False)["small"]
    backwards = probe(small, list(range(19, -1, -1)), progress=False)["small"]
    assert backwards.seeds == tuple(range(19, -1, -1))
    for seed in (0, 7, 19):
        alone = probe(small, [seed], progress=False)["small"]
        assert_same_run(alone, group, seed)
        assert_same_run(backwards, group, seed)
    assert len({row.tobytes() for row in group.values["loss"]}) == 20


def test_run_does_not_change_with_double_precision_allowed(small):
    narrow = probe(small, [3], progress=False)["small"]
    with jax.enable_x64(True):
        wide = probe(small, [3], progress=False)["small"]
    assert_same_run(narrow, wide, 3)


def test_decoder_run_is_the_same_alone_and_in_company():
    spec = dataclasses.replace(suite_task("addition"), steps=4, probe_size=60, outcome_size=80, n_depths=2, dropout=0.1)
    group = probe(spec, [2, 0, 5], progress=False)["addition"]
    alone = probe(spec, [5], progress=False)["addition"]
    assert_same_run(alone, group, 5)
    assert np.ptp(group.values["loss"][:, -1]) > 0
    assert group.outcome_metric == "exact_match" and group.outcome_examples.shape == (3, 80)


def test_a_longer_run_passes_through_the_shorter_one(variant):
    short, long = variant(steps=10, n_depths=4), variant(steps=20, n_depths=4)
    one, other = probe(short, [1], progress=False)["small"], probe(long, [1], progress=False)["small"]
    shared = sorted(set(short.depths) & set(long.depths))
    assert shared
    for depth in shared:
        a, b = short.depths.tolist().index(depth), long.depths.tolist().index(depth)
        assert one.values["loss"][0, a] == pytest.approx(other.values["loss"][0, b], rel=1e-6)


def test_examples_at_every_depth_are_those_of_shorter_runs(variant):
    """With a constant rate a run that ends at a depth is the beginning of one that goes on."""
    long = probe(variant(keep_examples=True), 2, progress=False)["small"]
    for place, depth in enumerate(long.depths[1:], 1):
        short = probe(variant(steps=int(depth)), 2, progress=False)["small"]
        np.testing.assert_array_equal(long.depth_examples[:, place], short.outcome_examples)
    np.testing.assert_array_equal(long.depth_examples[:, -1], long.outcome_examples)
    plain = probe(variant(), 2, progress=False)["small"]
    np.testing.assert_array_equal(plain.outcome, long.outcome)
    assert plain.depth_examples is None


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_depths_that_start_anew_are_runs_of_their_own(variant, schedule):
    runs = probe(variant(depth_meaning="per_depth", schedule=schedule), 2, progress=False)["small"]
    for place, depth in enumerate(runs.depths):
        alone = probe(variant(steps=int(depth), schedule=schedule), 2, progress=False)["small"]
        for metric in ("loss", "accuracy", "learning_rate"):
            np.testing.assert_allclose(
                runs.values[metric][:, place], alone.values[metric][:, -1], rtol=2e-5, atol=1e-12
            )
    np.testing.assert_array_equal(runs.outcome, alone.outcome)


def test_forks_go_on_from_the_run_with_other_randomness(variant):
    """They differ from each other, leave the run as it is, and are a function of seed, depth and branch."""
    plain = probe(variant(dropout=0.2), 20, progress=False)["small"]
    spec = variant(dropout=0.2, branches=3)
    runs = probe(spec, 20, progress=False)["small"]
    assert runs.fork_depths.tolist() == spec.depths[:-1].tolist() and runs.forked.shape == (20, 3, 3)
    np.testing.assert_allclose(runs.values["loss"], plain.values["loss"], rtol=1e-5)
    assert np.mean([len(set(own)) > 1 for own in runs.forked[:, 0]]) > 0.7, "outcomes are in steps of 1 / 90"
    some = probe(spec, [4, 2], progress=False)["small"]
    np.testing.assert_array_equal(some.forked, runs.forked[[4, 2]])
    last = probe(variant(dropout=0.2, branches=3, fork_depths=spec.fork_depths[2:]), [4, 2], progress=False)["small"]
    # Another program: an example on the edge may fall to the other side.
    np.testing.assert_allclose(last.forked[:, 0], runs.forked[[4, 2], 2], atol=1.5 / 90)


def test_forks_spread_less_the_later_they_begin(variant):
    """And those of the first step about as far as the runs do: head and first step tell little here."""
    spec = variant(steps=40, learning_rate=1e-2, branches=8, n_depths=5, weight_decay=0.0)
    runs = probe(spec, 48, progress=False)["small"]
    within = runs.forked.var(axis=2, ddof=1).mean(axis=0)
    assert within[-1] < 0.5 * within[0] and within[0] < 2.0 * runs.outcome.var(ddof=1)


def test_forks_of_a_run_that_diverges_diverge(variant):
    runs = probe(variant(learning_rate=1e30, branches=2), 2, progress=False)["small"]
    assert np.isposinf(runs.forked).all()


def half(step, horizon):
    """A schedule: half the rate after half the steps."""
    return jnp.where(step < horizon / 2, 1.0, 0.5)


def test_any_optax_transformation_and_schedule_will_do(variant):
    adamw = functools.partial(optax.adamw, weight_decay=0.1)
    ours, given = (
        probe(variant(**kw), 2, progress=False)["small"] for kw in ({}, {"optimizer": adamw, "weight_decay": 0.0})
    )
    np.testing.assert_allclose(given.values["loss"], ours.values["loss"], rtol=1e-5)
    assert given.attributes["optimizer"] == "optax._src.alias.adamw(weight_decay=0.1)"
    lion = probe(variant(optimizer=optax.lion, weight_decay=0.0, schedule=half), 2, progress=False)["small"]
    assert lion.values["learning_rate"][0, [0, -1]] == pytest.approx([3e-3, 1.5e-3])
    assert np.abs(lion.values["loss"] - ours.values["loss"]).max() > 1e-3
