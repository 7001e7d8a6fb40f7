r"""How deep to look: the optimal depth of each draw, the best depth of the posterior, and what either is worth.

With gamma the price of one unit of squared error and C(c) = C_s + lambda c, watching to depth c costs, all told,

.. math:: J(c) = \gamma L(c) + C(c) ,

and each draw has its own minimum c* (Theorem 6.1 of arXiv 2606.17649, `theory.optimal_depth` at price lambda / gamma).
Nobody can act on a draw: the best action is the depth that minimises the posterior mean of J. L is convex in every
draw, so its mean is too, and the minimum is where the expected marginal gain falls to lambda / gamma. Regret is what
an action costs beyond the draw's own minimum, J(c) - J(c*), in the cost's unit.

Whether watching pays at all, against stopping at the shallowest depth that was fitted:

.. math:: G = \max_c \; \gamma [L(c_{min}) - L(c)] - [C(c) - C(c_{min})] \ge 0 .
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize

from bayes_prehoc.planning import draws

__all__ = ["Regret", "Stopping", "optimal_stopping"]

TAIL = 0.9


class Regret(NamedTuple):
    """What an action costs beyond the best one, in the cost's unit: its posterior mean and mean of the worst 10%."""

    expected: float
    cvar: float


class Stopping(NamedTuple):
    """Decisions about one task.

    c_star : float64 array (S,), clipped to [c_min, c_T]
    at_min, at_max : posterior mass of c* that was clipped to either end
    best_depth : minimises posterior expected risk plus cost
    best_depth_regret : of `best_depth`
    plug_in, plug_in_regret : c* of the curve at the posterior medians, clipped
    gain : float64 array (S,), G in the cost's unit
    """

    c_star: np.ndarray
    at_min: float
    at_max: float
    best_depth: float
    best_depth_regret: Regret
    plug_in: float
    plug_in_regret: Regret
    gain: np.ndarray


def optimal_stopping(curve, gamma: float, per_unit: float, c_min: float, horizon: float) -> Stopping:
    """Optimal depth of one task, over [c_min, c_T].

    Parameters
    ----------
    curve : RiskCurve
        S draws.
    gamma : float
        Price of one unit of squared error, >= 0; 0 where there is nothing to price.
    per_unit : float
        lambda > 0, in the cost's unit per unit of depth.
    c_min, horizon : float
        The shallowest and the deepest depth that one may choose, c_min and c_T.
    """
    price = per_unit / gamma if gamma > 0 else np.inf
    free = draws.optimum(curve, price)
    c_star = np.clip(free, c_min, horizon)
    best = _best_depth(curve, price, c_min, horizon)
    plug_in = float(np.clip(draws.optimum(_at_medians(curve), price)[0], c_min, horizon))

    depths = np.stack(np.broadcast_arrays(c_min, c_star, best, plug_in), axis=1)
    # The fixed cost is the same in each and drops out of every difference.
    at_min, at_star, at_best, at_plug_in = (gamma * draws.risk(curve, depths) + per_unit * depths).T
    return Stopping(
        c_star,
        float(np.mean(free <= c_min)),
        float(np.mean(free >= horizon)),
        best,
        _regret(at_best - at_star),
        plug_in,
        _regret(at_plug_in - at_star),
        np.maximum(at_min - at_star, 0.0),
    )


def _best_depth(curve, price, c_min, horizon):
    def surplus(log_depth):
        return draws.expected_marginal_gain(curve, float(np.exp(log_depth))) - price

    if not surplus(np.log(c_min)) > 0:
        return float(c_min)
    if surplus(np.log(horizon)) >= 0:
        return float(horizon)
    root = optimize.brentq(surplus, np.log(c_min), np.log(horizon), xtol=1e-12)
    return float(np.clip(np.exp(root), c_min, horizon))


def _at_medians(curve):
    """The curve of one made-up draw with the posterior median of each parameter."""
    middle = {name: np.median(getattr(curve, name), keepdims=True) for name in ("l_int", "reducible", "alpha", "onset")}
    return curve._replace(**middle)


def _regret(losses):
    losses = np.sort(np.maximum(losses, 0.0))
    worst = losses[int(TAIL * len(losses) + 1e-9) :]
    return Regret(float(losses.mean()), float(worst.mean()))
