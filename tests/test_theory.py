"""Closed forms against quadrature, numerical minimisation and finite differences, in float64 to 1e-6."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize

from bayes_prehoc import theory

pytestmark = pytest.mark.usefixtures("float64", "strict_jax")

# (alpha, onset, horizon): both forms, either sign of alpha, logarithmic and nearly logarithmic, with and without onset.
SHAPES = [
    (0.3, 0.0, None),
    (1.0, 7.0, None),
    (3.5, 20.0, None),
    (-0.7, 0.0, 1000.0),
    (-0.2, 5.0, 1000.0),
    (-1e-5, 5.0, 1000.0),
    (0.0, 5.0, 1000.0),
    (1e-3, 5.0, 1000.0),
    (0.5, 0.0, 1000.0),
    (1.0, 7.0, 1000.0),
    (3.5, 20.0, 1000.0),
]
REFERENCE, REDUCIBLE, L_INT = 200.0, 0.04, 0.003
DEPTHS = (3.0, 40.0, 200.0, 700.0, 999.0)


def shape_of(depth, alpha, onset, horizon):
    """B(depth), by its definition."""
    if horizon is None:
        return (depth + onset) ** -alpha
    return integrate.quad(lambda u: (u + onset) ** (-alpha - 1), depth, horizon, epsabs=0, epsrel=1e-12, limit=500)[0]


@pytest.mark.parametrize(("alpha", "onset", "horizon"), SHAPES)
def test_decay_is_the_ratio_of_integrals(alpha, onset, horizon):
    expected = [shape_of(d, alpha, onset, horizon) / shape_of(REFERENCE, alpha, onset, horizon) for d in DEPTHS]
    found = theory.decay(jnp.array(DEPTHS), REFERENCE, alpha, onset, horizon)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(("alpha", "onset", "horizon"), SHAPES)
def test_marginal_gain_is_the_slope_of_the_envelope(alpha, onset, horizon):
    curve = (L_INT, REDUCIBLE, REFERENCE, alpha, onset, horizon)
    for depth in DEPTHS[:-1]:
        step = 1e-4 * depth
        rise = theory.envelope(depth + step, *curve) - theory.envelope(depth - step, *curve)
        found = theory.marginal_gain(depth, *curve[1:])
        assert found == pytest.approx(-float(rise) / (2 * step), rel=1e-6)
        assert found == pytest.approx(float(theory.slope(*curve[1:])) * (depth + onset) ** -(alpha + 1), rel=1e-9)


@pytest.mark.parametrize(("alpha", "onset", "horizon"), SHAPES)
@pytest.mark.parametrize("target", [30.0, 200.0, 600.0])
def test_optimal_depth_minimises_risk_plus_cost(alpha, onset, horizon, target):
    # The price at which the gain of one more unit at `target` is just worth it; found without the closed form.
    step = 1e-3 * target
    shape = [shape_of(d, alpha, onset, horizon) for d in (target - step, target + step, REFERENCE)]
    price = REDUCIBLE * (shape[0] - shape[1]) / (2 * step) / shape[2]

    def total(depth):
        return REDUCIBLE * shape_of(depth, alpha, onset, horizon) / shape[2] + price * depth

    minimum = optimize.minimize_scalar(total, bounds=(1.0, 990.0), method="bounded", options={"xatol": 1e-9})
    found = theory.optimal_depth(price, REDUCIBLE, REFERENCE, alpha, onset, horizon)
    # A minimiser knows a minimum's place to the square root of its precision, its value to its precision.
    assert found == pytest.approx(minimum.x, rel=1e-5)
    assert total(float(found)) <= minimum.fun * (1 + 1e-9)
    gain = theory.marginal_gain(found, REDUCIBLE, REFERENCE, alpha, onset, horizon)
    assert gain == pytest.approx(price, rel=1e-9)


def test_pure_power_law():
    amplitude, alpha, price = 0.7, 0.8, 1e-5
    reducible = amplitude * REFERENCE**-alpha
    depths = jnp.array(DEPTHS)
    np.testing.assert_allclose(
        theory.envelope(depths, L_INT, reducible, REFERENCE, alpha), L_INT + amplitude * depths**-alpha, rtol=1e-12
    )
    assert theory.slope(reducible, REFERENCE, alpha) == pytest.approx(alpha * amplitude, rel=1e-12)
    theorem = (alpha * amplitude / price) ** (1 / (alpha + 1))
    assert theory.optimal_depth(price, reducible, REFERENCE, alpha) == pytest.approx(theorem, rel=1e-12)


@pytest.mark.parametrize("horizon", [None, 1000.0])
def test_a_vanishing_onset_is_none(horizon):
    depths = jnp.array(DEPTHS)
    for function, first in ((theory.decay, depths), (theory.marginal_gain, depths), (theory.optimal_depth, 1e-6)):
        given = (first, REFERENCE, 0.5) if function is theory.decay else (first, REDUCIBLE, REFERENCE, 0.5)
        without = function(*given, 0.0, horizon)
        np.testing.assert_allclose(function(*given, 1e-9, horizon), without, rtol=1e-8)


@pytest.mark.parametrize("depth", [10.0, 700.0])
def test_alpha_passes_through_zero_smoothly(depth):
    def log_decay(alpha):
        return jnp.log(theory.decay(depth, REFERENCE, alpha, 5.0, 1000.0))

    # Spans the switch between series and expm1 on both sides.
    grid = jnp.linspace(-0.02, 0.02, 401)
    value = jax.vmap(log_decay)(grid)
    slope = jax.vmap(jax.grad(log_decay))(grid)
    curvature = np.diff(value, 2) / (grid[1] - grid[0]) ** 2
    assert np.ptp(curvature) < 0.01 * abs(curvature).max()
    np.testing.assert_allclose(slope[1:-1], (value[2:] - value[:-2]) / (grid[2] - grid[0]), rtol=1e-6)


def test_nothing_is_left_at_the_horizon_and_beyond():
    depths = jnp.array([1000.0, 1500.0])
    np.testing.assert_allclose(theory.envelope(depths, L_INT, REDUCIBLE, REFERENCE, 0.5, 2.0, 1000.0), L_INT)


def test_no_risk_or_an_infinite_price_is_worth_no_depth():
    assert theory.optimal_depth(1e-5, 0.0, REFERENCE, 0.5, 3.0, 1000.0) == -3.0
    assert theory.optimal_depth(jnp.inf, REDUCIBLE, REFERENCE, 0.5, 3.0, None) == -3.0


def test_changing_the_unit_of_depth_changes_nothing_else():
    shape = (REDUCIBLE, REFERENCE, 0.6, 4.0, 1000.0)
    tokens = (REDUCIBLE, 512 * REFERENCE, 0.6, 512 * 4.0, 512 * 1000.0)
    assert theory.optimal_depth(1e-5 / 512, *tokens) == pytest.approx(512 * float(theory.optimal_depth(1e-5, *shape)))
    assert theory.marginal_gain(512 * 70.0, *tokens) == pytest.approx(float(theory.marginal_gain(70.0, *shape)) / 512)


def test_depths_in_tokens_survive_float32():
    with jax.enable_x64(False):
        depth = jnp.array([1e10, 1e12])
        assert depth.dtype == jnp.float32
        gain = theory.marginal_gain(depth, REDUCIBLE, 1e11, 3.9)
    expected = REDUCIBLE * 3.9 / 1e11 * (np.array([0.1, 10.0])) ** -4.9
    np.testing.assert_allclose(gain, expected, rtol=1e-4)


def test_frontier_pairs_risk_with_cost():
    depths = jnp.array(DEPTHS)
    risk, cost = theory.frontier(depths, 0.2, 5.0, L_INT, REDUCIBLE, REFERENCE, 0.5, 2.0, 1000.0)
    np.testing.assert_allclose(risk, theory.envelope(depths, L_INT, REDUCIBLE, REFERENCE, 0.5, 2.0, 1000.0))
    np.testing.assert_allclose(cost, [5.6, 13.0, 45.0, 145.0, 204.8])
    assert np.all(np.diff(risk) < 0) and np.all(np.diff(cost) > 0)


def test_draws_broadcast_against_depths():
    alpha = jnp.array([[0.2], [0.9]])
    found = theory.envelope(jnp.array([DEPTHS]), L_INT, REDUCIBLE, REFERENCE, alpha, 2.0, 1000.0)
    assert found.shape == (2, len(DEPTHS))
    alone = theory.envelope(DEPTHS[3], L_INT, REDUCIBLE, REFERENCE, 0.9, 2.0, 1000.0)
    assert found[1, 3] == pytest.approx(float(alone), rel=1e-12)
