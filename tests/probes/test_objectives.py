"""Losses and metrics against scikit-learn and against sums written out."""

import jax.numpy as jnp
import numpy as np
import pytest

from bayes_prehoc.probes.objectives import IGNORED, METRICS, Judged, judge, metric_of, per_example


def test_classes_are_judged_by_cross_entropy(strict_jax):
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(20, 3)).astype(np.float32), rng.integers(0, 3, 20).astype(np.int32)
    judged = judge(jnp.asarray(logits), jnp.asarray(target))
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(judged.loss, -np.log(probability[np.arange(20), target]), rtol=1e-5)
    np.testing.assert_array_equal(judged.right, logits.argmax(axis=1) == target)


def test_answers_are_judged_where_something_is_asked(strict_jax):
    """An answer is right if all its tokens are; what is not asked about changes nothing."""
    logits = np.zeros((3, 4, 5), np.float32)
    target = np.array([[IGNORED, 1, 2, IGNORED], [IGNORED, 1, 2, IGNORED], [IGNORED] * 4], np.int32)
    logits[0, 1, 1], logits[0, 2, 2], logits[1, 1, 1], logits[1, 2, 3] = 9.0, 9.0, 9.0, 9.0
    judged = judge(jnp.asarray(logits), jnp.asarray(target))
    assert judged.right.tolist() == [True, False, True]
    sure, wrong = np.log(1 + 4 * np.exp(-9.0)), 9.0 + np.log(1 + 4 * np.exp(-9.0))
    np.testing.assert_allclose(judged.loss, [sure, (sure + wrong) / 2, 0.0], rtol=1e-4, atol=1e-6)
    logits[:, 0] = 3.0
    np.testing.assert_array_equal(judge(jnp.asarray(logits), jnp.asarray(target)).loss, judged.loss)


def test_numbers_are_judged_by_squared_error(strict_jax):
    judged = judge(jnp.array([[1.0], [2.0]]), jnp.array([1.5, 0.0]))
    np.testing.assert_allclose(judged.loss, [0.25, 4.0])
    assert float(metric_of("loss", judged, 2)) == pytest.approx(2.125)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("metric", sorted(METRICS))
def test_metrics_are_those_of_scikit_learn(metric, classes):
    known = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(classes)
    target, told = rng.integers(0, classes, (2, 60)).astype(np.int32)
    told = np.where(rng.random(60) < 0.5, target, told)
    loss = rng.random(60).astype(np.float32)
    judged = Judged(*map(jnp.asarray, (loss, target == told, told, target)))
    expected = {
        "accuracy": known.accuracy_score(target, told),
        "exact_match": known.accuracy_score(target, told),
        "f1": known.f1_score(target, told, average="binary" if classes == 2 else "macro"),
        "matthews": known.matthews_corrcoef(target, told),
        "loss": loss.mean(),
    }[metric]
    assert float(metric_of(metric, judged, classes)) == pytest.approx(expected, abs=1e-6)
    examples = np.asarray(per_example(metric, judged))
    assert examples.size == 0 if metric in ("f1", "matthews") else examples.mean() == pytest.approx(expected, abs=1e-6)


def test_one_class_only_has_no_correlation():
    same = jnp.zeros(5, jnp.int32)
    judged = Judged(jnp.zeros(5), jnp.ones(5, bool), same, same)
    assert float(metric_of("matthews", judged, 2)) == 0.0 and float(metric_of("f1", judged, 2)) == 0.0
