"""Written-out 3 x 3 algebra against jnp.linalg."""

import jax.numpy as jnp
import numpy as np
import pytest

from bayes_prehoc.hierarchy import linear3

pytestmark = pytest.mark.usefixtures("float64", "strict_jax")


def positive(rng, n):
    a = rng.normal(size=(n, 3, 3))
    return a @ np.swapaxes(a, -1, -2) + 0.1 * np.eye(3)


def test_factor_and_solves():
    rng = np.random.default_rng(0)
    a, b = positive(rng, 7), rng.normal(size=(7, 3))
    factor = linear3.cholesky(jnp.asarray(a))
    dense = np.linalg.cholesky(a)
    np.testing.assert_allclose(np.stack(factor, -1), dense[:, *np.tril_indices(3)], rtol=1e-12)
    np.testing.assert_allclose(
        linear3.solve_lower(factor, jnp.asarray(b)), np.linalg.solve(dense, b[..., None])[..., 0]
    )
    upper = np.swapaxes(dense, -1, -2)
    np.testing.assert_allclose(
        linear3.solve_upper(factor, jnp.asarray(b)), np.linalg.solve(upper, b[..., None])[..., 0]
    )


def test_precision_draw_has_the_documented_mean_and_covariance():
    rng = np.random.default_rng(1)
    information, mean, linear = positive(rng, 5), rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    scale = np.linalg.cholesky(positive(rng, 1)[0])
    precision = np.eye(3) + scale.T @ information @ scale
    center = np.linalg.solve(precision, (scale.T @ (linear[..., None] - information @ mean[..., None])))[..., 0]
    arrays = [jnp.asarray(a) for a in (mean, scale, information, linear)]
    at_zero, half_log_det = linear3.precision_draw(jnp.zeros((5, 3)), *arrays)
    np.testing.assert_allclose(at_zero, center, rtol=1e-9)
    np.testing.assert_allclose(half_log_det, 0.5 * np.linalg.slogdet(precision)[1], rtol=1e-9)
    columns = [
        np.asarray(linear3.precision_draw(jnp.tile(jnp.eye(3)[i], (5, 1)), *arrays)[0]) - center for i in range(3)
    ]
    root = np.stack(columns, axis=-1)
    np.testing.assert_allclose(root @ np.swapaxes(root, -1, -2), np.linalg.inv(precision), rtol=1e-8)
