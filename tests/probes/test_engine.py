"""A run equals training written out as a loop, and follows from its seed alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
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
