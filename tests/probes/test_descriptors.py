"""Descriptors against their definitions: evidence by brute force, gradients and their noise one example at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from bayes_prehoc.probes.descriptors import DRAWS, FIRST_DRAW, describe, log_evidence_of_features
from bayes_prehoc.probes.engine import run_key
from bayes_prehoc.probes.objectives import judge
from bayes_prehoc.probes.prepare import prepare

pytest.importorskip("sklearn")


@pytest.mark.parametrize(("n", "size"), [(40, 5), (12, 20)])
def test_evidence_is_the_largest_density_of_the_labels(n, size):
    rng = np.random.default_rng(n)
    features = rng.normal(size=(n, size))
    y = features @ rng.normal(size=size) + 0.5 * rng.normal(size=n)

    def minus_log_density(logs):
        covariance = np.eye(n) * np.exp(logs[1]) + features @ features.T * np.exp(logs[0])
        return -stats.multivariate_normal(np.zeros(n), covariance, allow_singular=True).logpdf(y)

    best = min(optimize.minimize(minus_log_density, [0.0, log], method="Nelder-Mead").fun for log in (-2.0, 1.0))
    assert log_evidence_of_features(features, y) == pytest.approx(-best / n, abs=1e-3)


def test_features_that_tell_have_more_evidence():
    rng = np.random.default_rng(0)
    features, other = rng.normal(size=(2, 100, 6))
    y = (features[:, 0] > 0).astype(float)
    assert log_evidence_of_features(features, y) > log_evidence_of_features(other, y) + 0.1


def test_descriptors_follow_their_definitions(small):
    program, (start, frozen, sets, *_) = prepare(small).place(jax.devices()[0], 1)
    found = describe(program, start, frozen, sets)
    labels = np.asarray(sets.train_y)
    share = np.bincount(labels) / len(labels)
    assert found["train_size"] == 48 and found["classes"] == 3
    assert found["label_entropy"] == pytest.approx(stats.entropy(share))

    def loss(trained, x, y):
        return judge(program.learner.logits(trained, frozen, x[None]), y[None]).loss[0]

    losses, norms, noises = [], [], []
    for seed in np.uint32(FIRST_DRAW) + np.arange(DRAWS, dtype=np.uint32):
        order_key, fresh_key, _ = jax.random.split(run_key(seed), 3)
        trained = program.learner.start(start, fresh_key)
        rows = np.asarray(jax.random.permutation(order_key, 48))[:40]
        values, each = jax.vmap(jax.value_and_grad(loss), (None, 0, 0))(trained, sets.train_x[rows], sets.train_y[rows])
        flat = np.concatenate([np.asarray(leaf, float).reshape(40, -1) for leaf in jax.tree.leaves(each)], axis=1)
        batches = flat.reshape(4, 10, -1).mean(axis=1)
        losses.append(values.mean())
        norms.append(np.sum(flat.mean(axis=0) ** 2))
        noises.append(np.mean(np.sum(batches**2, axis=1)))
    assert found["initial_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert found["gradient_norm"] == pytest.approx(np.sqrt(np.mean(norms)), rel=1e-4)
    noise = (np.mean(noises) - np.mean(norms)) / (1 / 10 - 1 / 40)
    norm = (40 * np.mean(norms) - 10 * np.mean(noises)) / 30
    assert found["gradient_noise_scale"] == pytest.approx(noise / norm, rel=1e-3)
    assert jnp.isfinite(found["gradient_noise_scale"])


def test_the_noise_scale_is_unbiased_in_its_parts():
    """Of gradients that are drawn: tr(Sigma) and |G|^2 from norms at two batch sizes."""
    rng = np.random.default_rng(1)
    mean, scale = np.full(5, 0.3), 2.0
    draws = mean + scale * rng.normal(size=(4000, 4, 10, 5))
    small = np.mean(np.sum(draws.mean(axis=2) ** 2, axis=-1))
    large = np.mean(np.sum(draws.mean(axis=(1, 2)) ** 2, axis=-1))
    assert (small - large) / (1 / 10 - 1 / 40) == pytest.approx(5 * scale**2, rel=0.02)
    assert (40 * large - 10 * small) / 30 == pytest.approx(5 * 0.09, rel=0.1)
