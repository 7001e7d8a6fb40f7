"""Optimal depth, best depth, regret and gain against numerical optimisation on explicit sums over draws."""

import numpy as np
import pytest
from scipy import integrate, optimize

from bayes_prehoc.hierarchy import Drift
from bayes_prehoc.planning import ConvexCost, LinearCost, TableCost, draws
from bayes_prehoc.planning.costs import Piece
from bayes_prehoc.planning.stopping import FIXED_FRACTION, optimal_stopping

GAMMA, PER_UNIT, C_MIN, HORIZON = 3000.0, 1e-3, 30.0, 1000.0

# horizon of the curve, alpha: remaining risk with alpha of either sign, spread between runs.
CURVES = [(1000.0, 0.6), (1000.0, -0.5), (1000.0, 1e-9), (None, 0.8), (None, 2.5)]


def slow_risk(curve, depth):
    """L(depth) of every draw, by its definition and quadrature."""

    def shape(at, alpha, onset):
        if curve.horizon is None:
            return (at + onset) ** -alpha
        return integrate.quad(lambda u: (u + onset) ** (-alpha - 1), at, curve.horizon, epsabs=0, epsrel=1e-11)[0]

    left = [shape(depth, a, o) / shape(curve.reference, a, o) for a, o in zip(curve.alpha, curve.onset, strict=True)]
    return curve.l_int + curve.reducible * np.array(left)


def all_told(curve, depth, gamma=GAMMA):
    """J(depth) of every draw."""
    return gamma * slow_risk(curve, depth) + PER_UNIT * depth


def stopping(curve, gamma=GAMMA, cost=None, **options):
    return optimal_stopping(curve, gamma, cost or LinearCost(PER_UNIT), C_MIN, HORIZON, **options)


def regret(found, action):
    return found.actions[action].regret


def minimiser(function):
    found = optimize.minimize_scalar(function, bounds=(C_MIN, HORIZON), method="bounded", options={"xatol": 1e-8})
    return min((found.x, C_MIN, HORIZON), key=function)


@pytest.mark.parametrize(("horizon", "alpha"), CURVES)
def test_risk_is_the_envelope_in_float64(make, horizon, alpha):
    curve = make.curve(draws=5, spread=0.4, horizon=horizon, alpha=alpha)
    depths = [10.0, 200.0, 950.0]
    found = draws.risk(curve, depths)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.T, [slow_risk(curve, d) for d in depths], rtol=1e-9)


@pytest.mark.parametrize(("horizon", "alpha"), CURVES)
def test_without_uncertainty_every_decision_is_the_closed_form(make, horizon, alpha):
    curve = make.curve(draws=3, horizon=horizon, alpha=alpha)
    found = stopping(curve)
    slow = minimiser(lambda c: all_told(curve, c)[0])
    assert C_MIN < found.best_depth < HORIZON
    assert found.best_depth == pytest.approx(slow, rel=1e-5)
    np.testing.assert_allclose(found.c_star, found.best_depth, rtol=1e-9)
    assert found.actions["plug_in"].depth == pytest.approx(found.best_depth, rel=1e-9)
    gain = all_told(curve, C_MIN)[0] - all_told(curve, slow)[0]
    np.testing.assert_allclose(found.gain, gain, rtol=1e-7)
    for action in ("best_depth", "plug_in"):
        assert regret(found, action) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert (found.at_min, found.at_max) == (0.0, 0.0)


@pytest.mark.parametrize(("horizon", "alpha"), CURVES)
def test_decisions_under_uncertainty(make, horizon, alpha):
    curve = make.curve(draws=30, spread=0.7, horizon=horizon, alpha=alpha)
    curve = curve._replace(alpha=np.clip(curve.alpha, -0.95, 3.9))
    found = stopping(curve, in_steps=True)

    def alone(i):
        return curve._replace(
            **{name: getattr(curve, name)[i : i + 1] for name in ("l_int", "reducible", "alpha", "onset")}
        )

    optima = np.array([minimiser(lambda c, one=alone(i): all_told(one, c)[0]) for i in range(30)])
    np.testing.assert_allclose(found.c_star, optima, rtol=2e-5)
    least = np.array([all_told(alone(i), c)[0] for i, c in enumerate(optima)])

    best = minimiser(lambda c: all_told(curve, c).mean())
    assert found.best_depth == pytest.approx(best, rel=1e-5)
    fixed = {"fixed_fraction": FIXED_FRACTION * HORIZON, "hundred_steps": 100.0, "full_run": HORIZON}
    for action, depth in fixed.items():
        assert found.actions[action].depth == depth
    for action in ("best_depth", "plug_in", *fixed):
        depth, (expected, cvar) = found.actions[action]
        losses = np.sort(all_told(curve, depth) - least)
        assert expected == pytest.approx(losses.mean(), rel=1e-6)
        assert cvar == pytest.approx(losses[-3:].mean(), rel=1e-6)
        assert regret(found, "best_depth").expected <= expected
    assert regret(found, "best_depth").expected < regret(found, "plug_in").expected
    # Not probing pays for no depth and knows no more than the shallowest one tells.
    none = np.sort(all_told(curve, C_MIN) - PER_UNIT * C_MIN - least)
    assert found.actions["no_probe"].depth == 0.0
    assert regret(found, "no_probe") == pytest.approx((none.mean(), none[-3:].mean()), rel=1e-6)
    np.testing.assert_allclose(found.gain, all_told(curve, C_MIN) - least, rtol=1e-6, atol=1e-9)


def test_the_plug_in_is_the_optimum_at_the_medians(make):
    curve = make.curve(draws=101, spread=0.5)
    medians = {
        name: np.median(getattr(curve, name), keepdims=True) for name in ("l_int", "reducible", "alpha", "onset")
    }
    expected = draws.optimum(curve._replace(**medians), PER_UNIT / GAMMA)[0]
    assert stopping(curve).actions["plug_in"].depth == pytest.approx(expected)


@pytest.mark.parametrize(("gamma", "end", "at"), [(1e-6, C_MIN, "at_min"), (1e9, HORIZON, "at_max")])
@pytest.mark.parametrize("horizon", [None, 1000.0])
def test_mass_at_the_ends(make, gamma, end, at, horizon):
    found = stopping(make.curve(50, 0.3, horizon), gamma)
    assert getattr(found, at) == 1.0
    assert found.best_depth == found.actions["plug_in"].depth == end
    np.testing.assert_array_equal(found.c_star, end)
    assert regret(found, "best_depth") == (0.0, 0.0)


def test_mass_is_split_between_the_ends(make):
    curve = make.curve(2, reducible=np.array([1e-9, 10.0]))
    found = stopping(curve)
    assert (found.at_min, found.at_max) == (0.5, 0.5)
    np.testing.assert_array_equal(found.c_star, [C_MIN, HORIZON])
    assert found.gain[0] == 0.0 and found.gain[1] > 0.0


def test_an_error_without_a_price_is_worth_no_depth(make):
    found = stopping(make.curve(4, 0.3), 0.0)
    assert found.best_depth == C_MIN and found.at_min == 1.0 and not found.gain.any()


def test_price_and_cost_count_by_their_ratio(make):
    curve = make.curve(200, 0.5)
    one = stopping(curve)
    cents = stopping(curve, 100 * GAMMA, LinearCost(100 * PER_UNIT))
    np.testing.assert_allclose(cents.c_star, one.c_star)
    assert cents.best_depth == pytest.approx(one.best_depth)
    assert regret(cents, "best_depth") == pytest.approx(tuple(100 * r for r in regret(one, "best_depth")))
    np.testing.assert_allclose(cents.gain, 100 * one.gain)


@pytest.mark.parametrize(("horizon", "alpha"), CURVES)
def test_bisection_agrees_with_the_closed_form(make, horizon, alpha):
    curve = make.curve(draws=50, spread=0.5, horizon=horizon, alpha=alpha)
    curve = curve._replace(alpha=np.clip(curve.alpha, -0.95, 3.9))
    closed = stopping(curve).c_star
    assert np.mean((closed > C_MIN) & (closed < HORIZON)) > 0.5
    np.testing.assert_allclose(draws.minima(curve, Piece(C_MIN, HORIZON, 0.0, PER_UNIT), GAMMA), closed, rtol=1e-9)


COSTS = {
    "convex": ConvexCost(3e-4, 250.0, 2.5, fixed=0.2),
    "table": TableCost((0.0, 60.0, 150.0, 400.0, 1000.0), (0.1, 0.12, 0.35, 0.4, 1.6)),
    "flat and steep": TableCost((20.0, 200.0, 200.1, 1000.0), (0.1, 0.1, 0.3, 0.3)),
}


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("horizon", [1000.0, None])
def test_costs_that_are_not_linear_against_every_depth(make, name, horizon):
    cost, curve = COSTS[name], make.curve(draws=40, spread=0.6, horizon=horizon)
    found = stopping(curve, cost=cost)
    ends = np.array([piece.high for piece in cost.pieces(C_MIN, HORIZON)])
    grid = np.unique(np.concatenate([np.geomspace(C_MIN, HORIZON, 40_001), ends]))
    totals = GAMMA * draws.risk(curve, grid) + np.interp(grid, grid, cost.at(grid))
    at_star = GAMMA * draws.risk(curve, found.c_star[:, None])[:, 0] + cost.at(found.c_star)
    # The grid is a little coarser than the answer, never better.
    np.testing.assert_allclose(at_star, totals.min(axis=1), rtol=1e-7)
    assert np.all(at_star <= totals.min(axis=1) * (1 + 1e-12))
    at_best = GAMMA * draws.risk(curve, [found.best_depth]).mean() + cost.at(found.best_depth)
    assert at_best == pytest.approx(totals.mean(axis=0).min(), rel=1e-7)
    assert at_best <= totals.mean(axis=0).min() * (1 + 1e-12)


def test_a_table_of_a_straight_line_is_the_line(make):
    curve = make.curve(draws=60, spread=0.5)
    line = stopping(curve, cost=LinearCost(PER_UNIT, 0.5))
    table = stopping(curve, cost=TableCost((0.0, 90.0, 333.0, 1000.0), (0.5, 0.59, 0.833, 1.5)))
    np.testing.assert_allclose(table.c_star, line.c_star, rtol=1e-9)
    assert table.best_depth == pytest.approx(line.best_depth, rel=1e-9)
    assert regret(table, "no_probe") == pytest.approx(regret(line, "no_probe"), rel=1e-9)


def test_a_probe_that_costs_more_to_set_up_than_it_saves_is_worse_than_none(make):
    curve = make.curve(draws=60, spread=0.5)
    cheap, dear = (stopping(curve, cost=LinearCost(PER_UNIT, fixed)) for fixed in (0.0, 5.0))
    assert regret(cheap, "no_probe").expected > 0.0 > regret(dear, "no_probe").expected
    assert regret(dear, "best_depth") == pytest.approx(regret(cheap, "best_depth"))
    assert dear.best_depth == cheap.best_depth


def test_the_value_of_perfect_information_is_what_knowing_the_curve_saves(make):
    curve = make.curve(draws=200, spread=0.6)
    cost = ConvexCost(5e-4, 400.0)
    found = stopping(curve, cost=cost)
    grid = np.geomspace(C_MIN, HORIZON, 4001)
    totals = GAMMA * draws.risk(curve, grid) + cost.at(grid)
    worth = totals.mean(axis=0).min() - totals.min(axis=1).mean()
    assert regret(found, "best_depth").expected == pytest.approx(worth, rel=1e-4)
    assert worth > 0.0


def with_drift(curve, size=0.6):
    """The curve and a walk off it, log-spaced from before the shallowest depth to the horizon, where it is nothing."""
    depths = np.geomspace(0.5 * C_MIN, HORIZON, 25)
    steps = size * np.random.default_rng(3).normal(size=(len(curve.alpha), 25)) * np.sqrt(np.log(depths[1] / depths[0]))
    walk = np.cumsum(steps[:, ::-1], axis=1)[:, ::-1]
    return curve._replace(drift=Drift(depths, walk - walk[:, -1:]))


def test_risk_with_drift_is_the_law_times_it(make):
    law = make.curve(draws=4, spread=0.3, horizon=None)
    curve = with_drift(law)
    depths = [5.0, C_MIN, 77.0, 640.0, HORIZON]
    off = [np.interp(np.log(depths), np.log(curve.drift.depths), one) for one in curve.drift.log_ratio]
    np.testing.assert_allclose(draws.risk(curve, depths), draws.risk(law, depths) * np.exp(off), rtol=1e-12)
    np.testing.assert_allclose(draws.risk(curve, [HORIZON]), draws.risk(law, [HORIZON]))
    # Each draw at a depth of its own.
    own = draws.risk(curve, np.array([[40.0], [80.0], [160.0], [320.0]]))[:, 0]
    np.testing.assert_allclose(own, draws.risk(curve, [40.0, 80.0, 160.0, 320.0]).diagonal())


def test_where_a_spread_drifts_the_best_of_all_depths_is_found(make):
    curve = with_drift(make.curve(draws=40, spread=0.4, horizon=None))
    found = stopping(curve, in_steps=True)
    depths = np.geomspace(C_MIN, HORIZON, 4000)
    off = np.array([np.interp(np.log(depths), np.log(curve.drift.depths), one) for one in curve.drift.log_ratio])
    law = np.stack([slow_risk(curve, depth) for depth in depths], axis=1)
    losses = GAMMA * law * np.exp(off) + PER_UNIT * depths

    def at(depth):
        return losses[np.arange(40), np.abs(depths - np.reshape(depth, (-1, 1))).argmin(axis=1)]

    least = losses.min(axis=1)
    assert at(found.best_depth).mean() == pytest.approx(losses.mean(axis=0).min(), rel=1e-4)
    np.testing.assert_allclose(at(found.c_star), least, rtol=5e-3)
    for action in ("best_depth", "plug_in", "fixed_fraction", "full_run"):
        depth, (expected, _) = found.actions[action]
        assert expected == pytest.approx((at(depth) - least).mean(), rel=0.01, abs=1e-3), action
    np.testing.assert_allclose(found.gain, at(C_MIN) - least, rtol=0.01, atol=1e-3)
    # Many valleys, of which a marginal gain would have shown one.
    assert np.mean([(np.diff(np.sign(np.diff(row))) > 0).sum() > 1 for row in losses]) > 0.5
    assert abs(np.log(found.best_depth / stopping(curve._replace(drift=None)).best_depth)) > 0.05


def test_without_drift_the_search_finds_the_closed_form(make):
    law = make.curve(draws=30, spread=0.5, horizon=None)
    still = law._replace(drift=Drift(np.array([C_MIN, HORIZON]), np.zeros((30, 2))))
    exact, searched = stopping(law), stopping(still)
    np.testing.assert_allclose(searched.c_star, exact.c_star, rtol=0.01)
    assert searched.best_depth == pytest.approx(exact.best_depth, rel=0.01)
    assert regret(searched, "best_depth") == pytest.approx(regret(exact, "best_depth"), rel=0.01, abs=1e-4)
    assert (searched.at_min, searched.at_max) == (exact.at_min, exact.at_max)
