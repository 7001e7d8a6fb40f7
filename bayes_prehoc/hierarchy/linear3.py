"""Three-by-three linear algebra written out, for very many small matrices at once.

A task has three latents. LAPACK calls on thousands of 3 x 3 matrices cost far more than the arithmetic in them, and
their derivatives more still; written out, XLA fuses everything into one loop. A vector is a triple of arrays, a
lower triangle six. Held against `jnp.linalg` in the tests.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["cholesky", "log_det", "precision_normal", "product", "solve_lower", "solve_upper", "triangle"]

Vector = tuple
Lower = tuple


def triangle(a: Float[Array, "... 3 3"]) -> Lower:
    """The lower triangle (l11, l21, l22, l31, l32, l33) of a matrix."""
    return a[..., 0, 0], a[..., 1, 0], a[..., 1, 1], a[..., 2, 0], a[..., 2, 1], a[..., 2, 2]


def cholesky(a: Float[Array, "... 3 3"]) -> Lower:
    """Lower Cholesky factor of a positive definite matrix."""
    l11 = jnp.sqrt(a[..., 0, 0])
    l21, l31 = a[..., 1, 0] / l11, a[..., 2, 0] / l11
    l22 = jnp.sqrt(a[..., 1, 1] - l21**2)
    l32 = (a[..., 2, 1] - l31 * l21) / l22
    l33 = jnp.sqrt(a[..., 2, 2] - l31**2 - l32**2)
    return l11, l21, l22, l31, l32, l33


def product(factor: Lower, x: Vector) -> Vector:
    """L x."""
    l11, l21, l22, l31, l32, l33 = factor
    return l11 * x[0], l21 * x[0] + l22 * x[1], l31 * x[0] + l32 * x[1] + l33 * x[2]


def solve_lower(factor: Lower, b: Vector) -> Vector:
    """x with L x = b."""
    l11, l21, l22, l31, l32, l33 = factor
    x0 = b[0] / l11
    x1 = (b[1] - l21 * x0) / l22
    return x0, x1, (b[2] - l31 * x0 - l32 * x1) / l33


def solve_upper(factor: Lower, b: Vector) -> Vector:
    """x with L' x = b."""
    l11, l21, l22, l31, l32, l33 = factor
    x2 = b[2] / l33
    x1 = (b[1] - l32 * x2) / l22
    return (b[0] - l21 * x1 - l31 * x2) / l11, x1, x2


def log_det(factor: Lower):
    """log |L|."""
    return jnp.log(factor[0]) + jnp.log(factor[2]) + jnp.log(factor[5])


def precision_normal(mean: Vector, scale, information, linear):
    """Mean P^-1 L'(b - H mean) and Cholesky factor C of the precision P = I + L'HL of a normal.

    Parameters
    ----------
    mean : triple of arrays (T,)
    scale : array (3, 3), L
    information : array (T, 3, 3), H
    linear : array (T, 3), b

    Returns
    -------
    center : triple of arrays (T,)
    factor : lower triangle of arrays (T,)
    """
    right = jnp.sum(information[..., :, :, None] * scale[None, None, :, :], axis=-2)  # H L
    precision = jnp.sum(scale[None, :, :, None] * right[..., :, None, :], axis=-3) + jnp.eye(3, dtype=scale.dtype)[None]
    residual = linear - jnp.sum(information * jnp.stack(mean, axis=-1)[:, None, :], axis=-1)
    target = jnp.sum(scale[None, :, :] * residual[:, :, None], axis=-2)
    factor = cholesky(precision)
    return solve_upper(factor, solve_lower(factor, (target[:, 0], target[:, 1], target[:, 2]))), factor
