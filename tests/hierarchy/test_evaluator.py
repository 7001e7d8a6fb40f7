"""Points in parts and in one batch have the same densities, gradients and sites."""

import jax
import numpy as np

from bayes_prehoc.hierarchy.evaluator import POINTS, SITES, Evaluator


def test_parts_and_batches_agree(placed):
    evaluator, data, (arguments, _, found, _) = placed
    points = evaluator.target.points(found.resampled(np.random.default_rng(0), SITES + 3), data)
    with Evaluator(evaluator.target, batched=True) as batch:
        few = points[: POINTS + 3]
        one, other = evaluator.densities(few, arguments), batch.densities(few, arguments)
        np.testing.assert_allclose(one.log_prior, other.log_prior, rtol=1e-5)
        np.testing.assert_allclose(one.by_task, other.by_task, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(evaluator.densities(few, arguments, each=map).total, one.total)
        (values, slopes), other = evaluator.gradients(points[:4], arguments), batch.gradients(points[:4], arguments)
        np.testing.assert_allclose(values, other[0], rtol=1e-5)
        np.testing.assert_allclose(slopes, other[1], atol=2e-2 * np.abs(slopes).max())
    np.testing.assert_allclose(values, one.total[:4], rtol=1e-5)
    sites = evaluator.sites(jax.random.key(0), points, arguments)
    assert all(len(values) == len(points) for values in sites.values())
    np.testing.assert_allclose(np.diagonal(sites["corr"], axis1=1, axis2=2), 1.0, atol=1e-5)
    again = evaluator.sites(jax.random.key(0), points, arguments)
    for name, values in sites.items():
        np.testing.assert_array_equal(values, again[name])


def test_few_points_are_shared_and_many_tasks_computed_one_by_one(placed, monkeypatch):
    """However points are divided among threads and calls, and however many are computed together."""
    evaluator, data, (arguments, _, found, _) = placed
    points = evaluator.target.points(found.resampled(np.random.default_rng(1), POINTS + 5), data)
    whole = evaluator.densities(points, arguments).by_task
    np.testing.assert_allclose(evaluator.densities(points[:3], arguments).by_task, whole[:3], rtol=1e-5, atol=1e-5)
    sites = evaluator.sites(jax.random.key(1), points, arguments)
    monkeypatch.setattr("bayes_prehoc.hierarchy.evaluator.TASKS", 1)
    np.testing.assert_allclose(evaluator.densities(points, arguments).by_task, whole, rtol=1e-5, atol=1e-5)
    for name, values in evaluator.sites(jax.random.key(1), points, arguments).items():
        assert values.shape == sites[name].shape and np.isfinite(values).all()
