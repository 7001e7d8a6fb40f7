"""Optimal depth, best depth, regret and gain against numerical optimisation on explicit sums over draws."""

import numpy as np
import pytest
from scipy import integrate, optimize

from bayes_prehoc.planning import draws
from bayes_prehoc.planning.stopping import optimal_stopping

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
    found = optimal_stopping(curve, GAMMA, PER_UNIT, C_MIN, HORIZON)
    slow = minimiser(lambda c: all_told(curve, c)[0])
    assert C_MIN < found.best_depth < HORIZON
    assert found.best_depth == pytest.approx(slow, rel=1e-5)
    np.testing.assert_allclose(found.c_star, found.best_depth, rtol=1e-9)
    assert found.plug_in == pytest.approx(found.best_depth, rel=1e-9)
    gain = all_told(curve, C_MIN)[0] - all_told(curve, slow)[0]
    np.testing.assert_allclose(found.gain, gain, rtol=1e-7)
    for regret in (found.best_depth_regret, found.plug_in_regret):
        assert regret == pytest.approx((0.0, 0.0), abs=1e-9)
    assert (found.at_min, found.at_max) == (0.0, 0.0)


@pytest.mark.parametrize(("horizon", "alpha"), CURVES)
def test_decisions_under_uncertainty(make, horizon, alpha):
    curve = make.curve(draws=30, spread=0.7, horizon=horizon, alpha=alpha)
    curve = curve._replace(alpha=np.clip(curve.alpha, -0.95, 3.9))
    found = optimal_stopping(curve, GAMMA, PER_UNIT, C_MIN, HORIZON)

    def alone(i):
        return curve._replace(
            **{name: getattr(curve, name)[i : i + 1] for name in ("l_int", "reducible", "alpha", "onset")}
        )

    optima = np.array([minimiser(lambda c, one=alone(i): all_told(one, c)[0]) for i in range(30)])
    np.testing.assert_allclose(found.c_star, optima, rtol=2e-5)
    least = np.array([all_told(alone(i), c)[0] for i, c in enumerate(optima)])

    best = minimiser(lambda c: all_told(curve, c).mean())
    assert found.best_depth == pytest.approx(best, rel=1e-5)
    for depth, regret in ((found.best_depth, found.best_depth_regret), (found.plug_in, found.plug_in_regret)):
        losses = np.sort(all_told(curve, depth) - least)
        assert regret.expected == pytest.approx(losses.mean(), rel=1e-6)
        assert regret.cvar == pytest.approx(losses[-3:].mean(), rel=1e-6)
    assert found.best_depth_regret.expected < found.plug_in_regret.expected
    np.testing.assert_allclose(found.gain, all_told(curve, C_MIN) - least, rtol=1e-6, atol=1e-9)


def test_the_plug_in_is_the_optimum_at_the_medians(make):
    curve = make.curve(draws=101, spread=0.5)
    medians = {
        name: np.median(getattr(curve, name), keepdims=True) for name in ("l_int", "reducible", "alpha", "onset")
    }
    expected = draws.optimum(curve._replace(**medians), PER_UNIT / GAMMA)[0]
    assert optimal_stopping(curve, GAMMA, PER_UNIT, C_MIN, HORIZON).plug_in == pytest.approx(expected)


@pytest.mark.parametrize(("gamma", "end", "at"), [(1e-6, C_MIN, "at_min"), (1e9, HORIZON, "at_max")])
@pytest.mark.parametrize("horizon", [None, 1000.0])
def test_mass_at_the_ends(make, gamma, end, at, horizon):
    found = optimal_stopping(make.curve(50, 0.3, horizon), gamma, PER_UNIT, C_MIN, HORIZON)
    assert getattr(found, at) == 1.0
    assert found.best_depth == found.plug_in == end
    np.testing.assert_array_equal(found.c_star, end)
    assert found.best_depth_regret == (0.0, 0.0)


def test_mass_is_split_between_the_ends(make):
    curve = make.curve(2, reducible=np.array([1e-9, 10.0]))
    found = optimal_stopping(curve, GAMMA, PER_UNIT, C_MIN, HORIZON)
    assert (found.at_min, found.at_max) == (0.5, 0.5)
    np.testing.assert_array_equal(found.c_star, [C_MIN, HORIZON])
    assert found.gain[0] == 0.0 and found.gain[1] > 0.0


def test_an_error_without_a_price_is_worth_no_depth(make):
    found = optimal_stopping(make.curve(4, 0.3), 0.0, PER_UNIT, C_MIN, HORIZON)
    assert found.best_depth == C_MIN and found.at_min == 1.0 and not found.gain.any()


def test_price_and_cost_count_by_their_ratio(make):
    curve = make.curve(200, 0.5)
    one = optimal_stopping(curve, GAMMA, PER_UNIT, C_MIN, HORIZON)
    cents = optimal_stopping(curve, 100 * GAMMA, 100 * PER_UNIT, C_MIN, HORIZON)
    np.testing.assert_allclose(cents.c_star, one.c_star)
    assert cents.best_depth == pytest.approx(one.best_depth)
    assert cents.best_depth_regret == pytest.approx(tuple(100 * r for r in one.best_depth_regret))
    np.testing.assert_allclose(cents.gain, 100 * one.gain)
