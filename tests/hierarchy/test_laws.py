"""Tests of the laws of decay, against what each says by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayes_prehoc import theory
from bayes_prehoc.hierarchy.laws import LAWS, decay
from bayes_prehoc.hierarchy.likelihood import log_risk_curve

DEPTHS = np.geomspace(0.01, 1.0, 30)
REFERENCE, ONSET = 0.2, 0.05
BEND = stats.norm.cdf(np.log(ONSET) + 4.0)

BY_HAND = {
    "power": lambda c, a: (c + ONSET) ** -a,
    "no floor": lambda c, a: (c + ONSET) ** -a,
    "exponential": lambda c, a: np.exp(-a * c / REFERENCE),
    "stretched": lambda c, a: np.exp(-a / BEND * (c / REFERENCE) ** BEND),
    "change point": lambda c, a: np.maximum(c, ONSET) ** -a,
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("alpha", [0.3, 1.7])
@pytest.mark.parametrize("horizon", [None, 1.0])
def test_each_law_is_what_it_says(law, alpha, horizon):
    b = BY_HAND[law]
    left = 0.0 if horizon is None else b(horizon, alpha)
    with jax.enable_x64(True):
        found = decay(law, DEPTHS, REFERENCE, alpha, ONSET, horizon)
    np.testing.assert_allclose(found, (b(DEPTHS, alpha) - left) / (b(REFERENCE, alpha) - left), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("law", LAWS)
def test_alpha_is_the_steepness_at_the_reference_depth(law):
    """Up to the onset, by which the power law is a little flatter there."""
    with jax.enable_x64(True):
        slope = jax.grad(lambda log_c: jnp.log(decay(law, jnp.exp(log_c), REFERENCE, 0.8, 1e-3)))(np.log(REFERENCE))
    assert slope == pytest.approx(-0.8, rel=0.01)


@pytest.mark.parametrize("horizon", [None, 1.0])
def test_the_power_law_is_that_of_the_theory(horizon):
    ours = decay("power", DEPTHS, REFERENCE, 0.9, ONSET, horizon)
    np.testing.assert_array_equal(ours, theory.decay(DEPTHS, REFERENCE, 0.9, ONSET, horizon))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("alpha", [-0.9, 0.0, 4.0])
def test_what_is_open_falls_to_nothing_at_the_horizon(law, alpha):
    found = np.asarray(decay(law, DEPTHS, REFERENCE, alpha, ONSET, 1.0))
    assert np.isfinite(found).all() and (np.diff(found) <= 1e-6).all() and found[-1] == pytest.approx(0.0, abs=1e-6)


def test_without_a_floor_the_share_says_nothing():
    by_share = jax.grad(lambda share: log_risk_curve(0.0, share, 0.1, ONSET, 0.7, "run_to_run", "no floor"))
    assert by_share(0.5) == 0.0
    alpha = 4.0 / (1.0 + np.exp(-3.0))
    curve = log_risk_curve(0.0, 5.0, 3.0, 0.0, np.array([0.2, 1.0]), "run_to_run", "no floor")
    np.testing.assert_allclose(curve, [0.0, -alpha * np.log(5.0)], rtol=1e-5, atol=1e-6)
