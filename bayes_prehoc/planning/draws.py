r"""The risk curve of each posterior draw, in float64 whatever jax's default is.

The closed forms are those of `bayes_prehoc.theory`; the draws come as arrays (S,) in a task's own units. Where the cost
is not straight there is no closed form, and the marginal gain, which falls with depth, is met with the marginal cost
by bisection. The drift of a spread off its law is a factor on the risk, and closed forms are of curves without.
"""

import jax
import jax.numpy as jnp
import numpy as np

from bayes_prehoc import theory

__all__ = ["expected_decay", "expected_marginal_gain", "minima", "optimum", "risk"]

BISECTIONS = 60
"""Each halves the logarithm of the depth: what is left is less than float64 tells apart."""

_envelope = jax.jit(theory.envelope)
_optimal_depth = jax.jit(theory.optimal_depth)


@jax.jit
def _bisected(gamma, slope, doubling, power, low, high, *curve):
    def halved(_, bracket):
        shallow, deep = bracket
        depth = jnp.sqrt(shallow * deep)
        cost = slope * (1.0 + power * (depth / doubling) ** (power - 1.0))
        pays = gamma * theory.marginal_gain(depth, *curve) > cost
        return jnp.where(pays, depth, shallow), jnp.where(pays, deep, depth)

    ends = (jnp.full_like(curve[0], low), jnp.full_like(curve[0], high))
    shallow, deep = jax.lax.fori_loop(0, BISECTIONS, halved, ends)
    # What never pays, or pays to the end, is there exactly.
    return jnp.where(shallow == low, low, jnp.where(deep == high, high, jnp.sqrt(shallow * deep)))


@jax.jit
def _expected_marginal_gain(depth, *curve):
    return jnp.mean(theory.marginal_gain(depth, *curve))


@jax.jit
def _expected_decay(depths, l_int, *curve):
    gains = theory.marginal_gain(depths[:, None], *curve)
    risks = theory.envelope(depths[:, None], l_int, *curve)
    return jnp.mean(risks, axis=1), jnp.mean(gains, axis=1)


def risk(curve, depths) -> np.ndarray:
    """L at each depth without the outcome set's noise.

    Parameters
    ----------
    curve : RiskCurve
        S draws, as `bayes_prehoc.hierarchy` gives them.
    depths : float array (D,) or (S, D)
        In the unit of the curve.

    Returns
    -------
    float64 array (S, D)
    """
    with jax.enable_x64(True):
        depths = np.atleast_2d(np.asarray(depths, np.float64))
        l_int, reducible, alpha, onset = (np.asarray(a, np.float64)[:, None] for a in _shapes(curve))
        found = np.asarray(_envelope(depths, l_int, reducible, curve.reference, alpha, onset, curve.horizon))
    return found if curve.drift is None else found * np.exp(_between(curve.drift, depths))


def _between(drift, depths):
    """log of the drift at depths (1, D) or (S, D), on straight lines in log depth."""
    nodes = np.log(drift.depths)
    at = np.clip(np.log(depths), nodes[0], nodes[-1])
    left = np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, len(nodes) - 2)
    share = (at - nodes[left]) / (nodes[left + 1] - nodes[left])
    rows = np.arange(len(drift.log_ratio))[:, None]
    return (1.0 - share) * drift.log_ratio[rows, left] + share * drift.log_ratio[rows, left + 1]


def optimum(curve, price: float) -> np.ndarray:
    """c* of each draw, not clipped; float64 array (S,). `price` as in `theory.optimal_depth`."""
    with jax.enable_x64(True):
        _, reducible, alpha, onset = _shapes(curve)
        return np.asarray(_optimal_depth(price, reducible, curve.reference, alpha, onset, curve.horizon))


def minima(curve, piece, gamma: float) -> np.ndarray:
    """Depth of least risk plus cost of each draw on one piece of a cost, by bisection; float64 array (S,).

    Parameters
    ----------
    curve : RiskCurve
    piece : costs.Piece
        The depth is chosen from `piece.low` to `piece.high`.
    gamma : float
        Price of one unit of squared error, >= 0.
    """
    with jax.enable_x64(True):
        _, reducible, alpha, onset = _shapes(curve)
        form = (piece.slope, piece.doubling, piece.power, piece.low, piece.high)
        return np.asarray(_bisected(gamma, *form, reducible, curve.reference, alpha, onset, curve.horizon))


def expected_marginal_gain(curve, depth: float) -> float:
    """Posterior mean of -dL/dc at `depth`: risk saved per further unit of depth."""
    with jax.enable_x64(True):
        _, reducible, alpha, onset = _shapes(curve)
        return float(_expected_marginal_gain(depth, reducible, curve.reference, alpha, onset, curve.horizon))


def expected_decay(curve, depths) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means of L and of -dL/dc at several depths; float64 arrays (D,)."""
    with jax.enable_x64(True):
        l_int, reducible, alpha, onset = _shapes(curve)
        depths = np.asarray(depths, np.float64)
        risks, gains = _expected_decay(depths, l_int, reducible, curve.reference, alpha, onset, curve.horizon)
        return np.asarray(risks), np.asarray(gains)


def _shapes(curve):
    parts = (curve.l_int, curve.reducible, curve.alpha, curve.onset)
    return tuple(np.asarray(part, np.float64) for part in parts)
