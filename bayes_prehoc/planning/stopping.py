r"""How deep to look: the optimal depth of each draw, the best depth of the posterior, and what either is worth.

With gamma the price of one unit of squared error and C(c) the cost, watching to depth c costs, all told,

.. math:: J(c) = \gamma L(c) + C(c) ,

and each draw has its own minimum c*; where C(c) = C_s + lambda c it is Theorem 6.1 of arXiv 2606.17649
(`theory.optimal_depth` at price lambda / gamma). Nobody can act on a draw: the best action is the depth that minimises
the posterior mean of J. The law's L is convex in every draw, so its mean is too, and the minimum is where the expected
marginal gain falls to C' / gamma, on each piece of a cost on which C is convex. A spread that drifts off its law is not
convex: there both minima are looked for among many depths (`NODES`). Regret is what an action costs beyond the draw's
own minimum, J(c) - J(c*), in the cost's unit. The expected regret of the best depth is the expected value of perfect
information: what it would save, on average, to know the curve.

Whether watching pays at all, against stopping at the shallowest depth that was fitted:

.. math:: G = \max_c \; \gamma [L(c_{min}) - L(c)] - [C(c) - C(c_{min})] \ge 0 .
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize

from bayes_prehoc.planning import draws

__all__ = ["FIXED_FRACTION", "FIXED_STEPS", "Action", "Regret", "Stopping", "optimal_stopping"]

TAIL = 0.9
FIXED_FRACTION = 0.1
"""Share of the horizon that a fixed rule watches."""
FIXED_STEPS = 100.0
NODES = 400
"""Depths, log-spaced, among which the best is looked for where the risk drifts off the law."""


class Regret(NamedTuple):
    """What an action costs beyond the best one, in the cost's unit: its posterior mean and mean of the worst 10%."""

    expected: float
    cvar: float


class Action(NamedTuple):
    """A depth that one might watch to (0: not probing at all) and its regret."""

    depth: float
    regret: Regret


class Stopping(NamedTuple):
    """Decisions about one task.

    c_star : float64 array (S,), clipped to [c_min, c_T]
    at_min, at_max : posterior mass of c* that was clipped to either end
    actions : Action by name
        "best_depth" minimises posterior expected risk plus cost; "plug_in" is c* of the curve at the posterior medians;
        "no_probe", "fixed_fraction", "hundred_steps" (where depth is counted in steps) and "full_run" are the rules
        that need no posterior, clipped to [c_min, c_T]. Not probing leaves L(c_min) open, or more, and costs
        nothing, so that its regret is at least this; negative where no probe is worth its cost.
    gain : float64 array (S,), G in the cost's unit
    """

    c_star: np.ndarray
    at_min: float
    at_max: float
    actions: dict[str, Action]
    gain: np.ndarray

    @property
    def best_depth(self) -> float:
        """Minimises posterior expected risk plus cost."""
        return self.actions["best_depth"].depth


def optimal_stopping(curve, gamma: float, cost, c_min: float, horizon: float, in_steps: bool = False) -> Stopping:
    """Optimal depth of one task, over [c_min, c_T].

    Parameters
    ----------
    curve : RiskCurve
        S draws.
    gamma : float
        Price of one unit of squared error, >= 0; 0 where there is nothing to price.
    cost : costs.Cost
    c_min, horizon : float
        The shallowest and the deepest depth that one may choose, c_min and c_T.
    in_steps : bool
        Depth is counted in optimizer steps, so that a rule of 100 of them makes sense.
    """
    pieces = cost.pieces(c_min, horizon)
    if curve.drift is None:
        c_star, best_depth = _optimal_depths(curve, pieces, gamma), _best_depth(curve, pieces, gamma)
        plug_in = _optimal_depths(_at_medians(curve), pieces, gamma)
    else:
        depths = _searched(curve, c_min, horizon)
        c_star, best_depth = _least(curve, cost, gamma, depths)
        plug_in, _ = _least(_at_medians(curve), cost, gamma, depths)
    rules = {
        "best_depth": best_depth,
        "plug_in": float(plug_in[0]),
        "fixed_fraction": float(np.clip(FIXED_FRACTION * horizon, c_min, horizon)),
    }
    if in_steps:
        rules["hundred_steps"] = float(np.clip(FIXED_STEPS, c_min, horizon))
    rules["full_run"] = float(horizon)

    depths = np.stack(np.broadcast_arrays(c_star, c_min, *rules.values()), axis=1)
    at_star, at_min, *at_rules = (gamma * draws.risk(curve, depths) + cost.at(depths)).T
    actions = {
        name: Action(depth, _regret(np.maximum(at - at_star, 0.0)))
        for (name, depth), at in zip(rules.items(), at_rules, strict=True)
    }
    actions["no_probe"] = Action(0.0, _regret(at_min - cost.at(c_min) - at_star))
    return Stopping(
        c_star,
        float(np.mean(c_star <= c_min)),
        float(np.mean(c_star >= horizon)),
        actions,
        np.maximum(at_min - at_star, 0.0),
    )


def _optimal_depths(curve, pieces, gamma):
    """c* of each draw, (S,): on each piece the least of risk plus cost, then the best of the pieces."""
    found = np.stack([_on_piece(curve, piece, gamma) for piece in pieces], axis=1)
    if len(pieces) == 1:
        return found[:, 0]
    costs = np.stack([piece.at(found[:, i]) for i, piece in enumerate(pieces)], axis=1)
    least = np.argmin(gamma * draws.risk(curve, found) + costs, axis=1)
    return found[np.arange(len(found)), least]


def _searched(curve, c_min, horizon):
    """Depths from one to the other, with those at which the drift was drawn."""
    depths = np.append(np.geomspace(c_min, horizon, NODES)[1:-1], curve.drift.depths)
    return np.concatenate([[c_min], np.unique(depths[(depths > c_min) & (depths < horizon)]), [horizon]])


def _least(curve, cost, gamma, depths):
    """The depths of least risk plus cost of each draw, (S,), and of its mean over them."""
    losses = gamma * draws.risk(curve, depths) + cost.at(depths)
    return depths[losses.argmin(axis=1)], float(depths[losses.mean(axis=0).argmin()])


def _on_piece(curve, piece, gamma):
    if not piece.straight:
        return draws.minima(curve, piece, gamma)
    if piece.slope == 0.0:
        # One more unit is free, and of use unless error has no price.
        return np.full(len(curve.alpha), piece.high if gamma > 0 else piece.low)
    price = piece.slope / gamma if gamma > 0 else np.inf
    return np.clip(draws.optimum(curve, price), piece.low, piece.high)


def _best_depth(curve, pieces, gamma):
    found = [_best_on_piece(curve, piece, gamma) for piece in pieces]
    if len(found) == 1:
        return found[0]
    costs = np.array([piece.at(depth) for piece, depth in zip(pieces, found, strict=True)])
    return found[int(np.argmin(gamma * draws.risk(curve, found).mean(axis=0) + costs))]


def _best_on_piece(curve, piece, gamma):
    def surplus(log_depth):
        depth = float(np.exp(log_depth))
        return gamma * draws.expected_marginal_gain(curve, depth) - piece.marginal(depth)

    if not gamma > 0 or not surplus(np.log(piece.low)) > 0:
        return float(piece.low)
    if surplus(np.log(piece.high)) >= 0:
        return float(piece.high)
    root = optimize.brentq(surplus, np.log(piece.low), np.log(piece.high), xtol=1e-12)
    return float(np.clip(np.exp(root), piece.low, piece.high))


def _at_medians(curve):
    """The curve of one made-up draw with the posterior median of each parameter."""
    middle = {name: np.median(getattr(curve, name), keepdims=True) for name in ("l_int", "reducible", "alpha", "onset")}
    if curve.drift is not None:
        middle["drift"] = curve.drift._replace(log_ratio=np.median(curve.drift.log_ratio, axis=0, keepdims=True))
    return curve._replace(**middle)


def _regret(losses):
    losses = np.sort(losses)
    worst = losses[int(TAIL * len(losses) + 1e-9) :]
    return Regret(float(losses.mean()), float(worst.mean()))
