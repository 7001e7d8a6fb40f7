r"""Closed forms of the decomposition of risk, its envelope and the optimal probing depth.

The Bayes risk after watching c steps splits into what no trajectory tells and what is still open,

.. math:: L(c) = L_{int} + V_{opt}(c).

One family of curves describes both kinds of proxies. With reference depth c_0 and risk U_0 = U(c_0),

.. math:: U(c) = L_{int} + (U_0 - L_{int}) \, B(c) / B(c_0), \qquad
          B(c) = (c + c_1)^{-\alpha} \quad\text{or}\quad
          B(c) = \int_c^{c_T} (u + c_1)^{-\alpha-1} du .

The first form (no horizon) is the spread between runs, the second (finite horizon c_T, where nothing is left
to learn) the remaining risk. In both the marginal gain is -dV/dc = s (c + c_1)^{-(\alpha+1)} with the same
exponent, so that the optimal depth has one closed form. With c_1 = 0 and no horizon this is the power law
V = K c^{-alpha} with s = alpha K.

Source: arXiv 2606.17649 (decomposition, Theorem 6.1); onset c_1 and finite horizon are additions of this package.

All functions are pure, broadcast over their arguments and work in any unit of depth and of risk, as long as
it is the same throughout. `horizon=None` selects the first form. Where there is a horizon, the reference depth lies
before it.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = [
    "alpha_bounds",
    "decay",
    "decay_by_clock",
    "envelope",
    "frontier",
    "marginal_gain",
    "optimal_depth",
    "optimization_variance",
    "slope",
]

Number = int | float | Float[Array | np.ndarray, "..."]
Result = Float[Array, "..."]


def alpha_bounds(proxy: str) -> tuple[float, float]:
    """Bounds of alpha: (0, 4) for the spread, (-1, 4) for the remaining risk."""
    return (0.0, 4.0) if proxy == "run_to_run" else (-1.0, 4.0)


def decay(
    depth: Number, reference: Number, alpha: Number, onset: Number = 0.0, horizon: Number | None = None
) -> Result:
    """B(depth) / B(reference): how much of the reducible risk at `reference` is open at `depth`.

    Parameters
    ----------
    depth, reference : array or float
        Depths in the same unit; positive, or non-negative where onset > 0.
    alpha : array or float
        Information revelation rate; in (0, 4) without, in (-1, 4) with a horizon.
    onset : array or float
        c_1 >= 0, in the unit of depth.
    horizon : array, float or None
        c_T; the ratio is 0 there and beyond. None: the pure power law.

    Returns
    -------
    array, broadcast shape; 1 at `reference`.
    """
    at_horizon = None if horizon is None else jnp.log(horizon + onset)
    return decay_by_clock(jnp.log(depth + onset), jnp.log(reference + onset), alpha, at_horizon)


def decay_by_clock(at: Number, at_reference: Number, alpha: Number, at_horizon: Number | None = None) -> Result:
    """The same where the depth is told by a clock f in which the decay is exponential; of `decay` it is log(c + c_1).

    Parameters
    ----------
    at, at_reference, at_horizon : array or float
        f at the depths; increasing in depth.
    alpha : array or float

    Returns
    -------
    array, broadcast shape
        exp(-alpha f) there over what it is at the reference depth; with a horizon, each less what it is there.
    """
    if at_horizon is None:
        return jnp.exp(-alpha * (at - at_reference))
    left, left_reference = jnp.maximum(at_horizon - at, 0.0), at_horizon - at_reference
    return left * _expm1_over(alpha * left) / (left_reference * _expm1_over(alpha * left_reference))


def optimization_variance(
    depth: Number,
    reducible: Number,
    reference: Number,
    alpha: Number,
    onset: Number = 0.0,
    horizon: Number | None = None,
) -> Result:
    """V_opt(depth), given `reducible` = U(reference) - L_int; same unit as `reducible`."""
    return reducible * decay(depth, reference, alpha, onset, horizon)


def envelope(
    depth: Number,
    l_int: Number,
    reducible: Number,
    reference: Number,
    alpha: Number,
    onset: Number = 0.0,
    horizon: Number | None = None,
) -> Result:
    """U(depth) = L_int + V_opt(depth), in the unit of `l_int` and `reducible`."""
    return l_int + optimization_variance(depth, reducible, reference, alpha, onset, horizon)


def slope(
    reducible: Number, reference: Number, alpha: Number, onset: Number = 0.0, horizon: Number | None = None
) -> Result:
    r"""s in -dV/dc = s (c + c_1)^{-(alpha+1)}; for the pure power law s = alpha K.

    Unit: risk times depth to the power alpha.
    """
    at_reference = _gain_at_reference(reducible, reference, alpha, onset, horizon)
    return at_reference * jnp.exp((alpha + 1.0) * jnp.log(reference + onset))


def marginal_gain(
    depth: Number,
    reducible: Number,
    reference: Number,
    alpha: Number,
    onset: Number = 0.0,
    horizon: Number | None = None,
) -> Result:
    """-dV/dc at `depth`: risk saved per further unit of depth.

    Evaluated relative to the reference depth: s itself overflows float32 where depths are counted in tokens.
    """
    ratio = jnp.log(depth + onset) - jnp.log(reference + onset)
    return _gain_at_reference(reducible, reference, alpha, onset, horizon) * jnp.exp(-(alpha + 1.0) * ratio)


def optimal_depth(
    price: Number,
    reducible: Number,
    reference: Number,
    alpha: Number,
    onset: Number = 0.0,
    horizon: Number | None = None,
) -> Result:
    r"""c* = (s / price)^{1/(alpha+1)} - c_1, where one more unit of probing costs what it saves.

    Parameters
    ----------
    price : array or float
        Risk that one unit of depth must save to be worth its cost (risk per depth). With lambda the cost of one unit of
        depth and gamma the price of one unit of squared error, as this package defines them, it is lambda / gamma. In
        the paper gamma turns cost into risk, and the same number reads gamma lambda. Infinite: no risk is worth a cost.
    reducible, reference, alpha, onset, horizon
        As in `envelope`.

    Returns
    -------
    array, unit of depth. Not clipped: it may lie below zero or beyond the horizon.

    Notes
    -----
    Theorem 6.1 of arXiv 2606.17649, shifted by the onset. V is convex for alpha > -1, so the point is the minimum of
    V(c) + price c. Evaluated in logarithms, relative to the reference depth, so that float32 neither over- nor
    underflows.
    """
    at_reference = _gain_at_reference(reducible, reference, alpha, onset, horizon)
    return (reference + onset) * jnp.exp(jnp.log(at_reference / price) / (alpha + 1.0)) - onset


def frontier(
    depth: Number,
    per_unit: Number,
    fixed: Number,
    l_int: Number,
    reducible: Number,
    reference: Number,
    alpha: Number,
    onset: Number = 0.0,
    horizon: Number | None = None,
) -> tuple[Result, Result]:
    """Risk and cost at each depth: the pair (U(depth), fixed + per_unit * depth) that a plan trades off."""
    risk = envelope(depth, l_int, reducible, reference, alpha, onset, horizon)
    return risk, fixed + per_unit * jnp.asarray(depth)


def _gain_at_reference(reducible, reference, alpha, onset, horizon):
    """-dV/dc at the reference depth."""
    if horizon is None:
        return reducible * alpha / (reference + onset)
    left = jnp.log(horizon + onset) - jnp.log(reference + onset)
    return reducible * jnp.exp(alpha * left) / ((reference + onset) * left * _expm1_over(alpha * left))


def _expm1_over(x: Number) -> Result:
    """(exp(x) - 1) / x, smooth through zero in value and gradient."""
    near = jnp.abs(x) < 1e-2
    safe = jnp.where(near, 1.0, x)
    series = 1.0 + x / 2.0 * (1.0 + x / 3.0 * (1.0 + x / 4.0 * (1.0 + x / 5.0)))
    return jnp.where(near, series, jnp.expm1(safe) / safe)
