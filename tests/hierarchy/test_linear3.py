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
    np.testing.assert_allclose(np.stack(linear3.triangle(jnp.asarray(dense)), -1), np.stack(factor, -1))
    np.testing.assert_allclose(linear3.log_det(factor), 0.5 * np.linalg.slogdet(a)[1])
    vector, upper = tuple(jnp.asarray(b.T)), np.swapaxes(dense, -1, -2)
    for got, expected in (
        (linear3.product(factor, vector), dense @ b[..., None]),
        (linear3.solve_lower(factor, vector), np.linalg.solve(dense, b[..., None])),
        (linear3.solve_upper(factor, vector), np.linalg.solve(upper, b[..., None])),
    ):
        np.testing.assert_allclose(np.stack(got, -1), expected[..., 0])


def test_precision_normal_has_the_documented_mean_and_precision():
    rng = np.random.default_rng(1)
    information, mean, linear = positive(rng, 5), rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    scale = np.linalg.cholesky(positive(rng, 1)[0])
    precision = np.eye(3) + scale.T @ information @ scale
    center = np.linalg.solve(precision, (scale.T @ (linear[..., None] - information @ mean[..., None])))[..., 0]
    found, factor = linear3.precision_normal(
        tuple(jnp.asarray(mean.T)), *(jnp.asarray(a) for a in (scale, information, linear))
    )
    np.testing.assert_allclose(np.stack(found, -1), center, rtol=1e-9)
    np.testing.assert_allclose(np.stack(factor, -1), np.linalg.cholesky(precision)[:, *np.tril_indices(3)], rtol=1e-9)
