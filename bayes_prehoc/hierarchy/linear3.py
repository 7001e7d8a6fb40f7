"""Three-by-three linear algebra written out, for very many small matrices at once.

A task has three latents. LAPACK calls on thousands of 3 x 3 matrices cost far more than the arithmetic in them, and
their derivatives more still; written out, XLA fuses everything into one loop. Held against `jnp.linalg` in the tests.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["cholesky", "precision_draw", "solve_lower", "solve_upper"]

Lower = tuple


def cholesky(a: Float[Array, "... 3 3"]) -> Lower:
    """Lower Cholesky factor of a positive definite matrix as (l11, l21, l22, l31, l32, l33)."""
    l11 = jnp.sqrt(a[..., 0, 0])
    l21, l31 = a[..., 1, 0] / l11, a[..., 2, 0] / l11
    l22 = jnp.sqrt(a[..., 1, 1] - l21**2)
    l32 = (a[..., 2, 1] - l31 * l21) / l22
    l33 = jnp.sqrt(a[..., 2, 2] - l31**2 - l32**2)
    return l11, l21, l22, l31, l32, l33


def solve_lower(factor: Lower, b: Float[Array, "... 3"]) -> Float[Array, "... 3"]:
    """x with L x = b."""
    l11, l21, l22, l31, l32, l33 = factor
    x0 = b[..., 0] / l11
    x1 = (b[..., 1] - l21 * x0) / l22
    x2 = (b[..., 2] - l31 * x0 - l32 * x1) / l33
    return jnp.stack([x0, x1, x2], axis=-1)


def solve_upper(factor: Lower, b: Float[Array, "... 3"]) -> Float[Array, "... 3"]:
    """x with L' x = b."""
    l11, l21, l22, l31, l32, l33 = factor
    x2 = b[..., 2] / l33
    x1 = (b[..., 1] - l32 * x2) / l22
    x0 = (b[..., 0] - l21 * x1 - l31 * x2) / l11
    return jnp.stack([x0, x1, x2], axis=-1)


def precision_draw(white, mean, scale, information, linear):
    """u = P^-1 L'(b - H mean) + C'^-1 white, with P = I + L'HL = C C', and log |C|.

    Parameters
    ----------
    white, mean, linear : arrays (T, 3)
    scale : array (3, 3), L
    information : array (T, 3, 3), H

    Returns
    -------
    u : array (T, 3)
    half_log_det : array (T,)
    """
    right = jnp.sum(information[..., :, :, None] * scale[None, None, :, :], axis=-2)  # H L
    precision = jnp.sum(scale[None, :, :, None] * right[..., :, None, :], axis=-3) + jnp.eye(3, dtype=scale.dtype)[None]
    residual = linear - jnp.sum(information * mean[:, None, :], axis=-1)
    target = jnp.sum(scale[None, :, :] * residual[:, :, None], axis=-2)
    factor = cholesky(precision)
    u = solve_upper(factor, solve_lower(factor, target) + white)
    return u, jnp.log(factor[0]) + jnp.log(factor[2]) + jnp.log(factor[5])
