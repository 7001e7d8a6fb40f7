"""Shapes of errors: against their definition, samples and the normal."""

import numpy as np
import pytest
from scipy import integrate, special

from bayes_prehoc.planning.shape import AT, NORMAL, ErrorShape, mixture_quantile


def _density_moment(shape, power):
    density, at = np.diff(shape.cumulative), 0.5 * (AT[1:] + AT[:-1])
    return float(np.sum(density * at**power))


@pytest.mark.parametrize("errors", [
    np.random.default_rng(0).normal(size=40) * 3.0 + 7.0,
    np.r_[np.full(30, 0.95), np.full(12, 0.6)] + 0.01 * np.random.default_rng(1).normal(size=42),
    np.array([0.0, 0.0, 0.0, 0.0, 1.0]),
])  # fmt: skip
def test_a_shape_has_mean_zero_and_variance_one_and_its_ramp_is_its_integral(errors):
    shape = ErrorShape.of(errors)
    assert _density_moment(shape, 0) == pytest.approx(1.0, abs=1e-6)
    assert _density_moment(shape, 1) == pytest.approx(0.0, abs=1e-4)
    assert _density_moment(shape, 2) == pytest.approx(1.0, abs=1e-3)
    integral = integrate.cumulative_trapezoid(shape.cumulative, AT, initial=0.0)
    assert np.allclose(shape.integral, integral, atol=1e-3)
    assert np.all(np.diff(shape.cumulative) >= 0.0)
    assert shape.ramp(20.0) == 20.0 and shape.ramp(-20.0) == 0.0


def test_of_two_clusters_the_shape_has_two_and_of_many_normals_it_is_normal():
    random = np.random.default_rng(0)
    failed = np.where(random.random(400) < 0.3, 0.6, 0.95) + 0.02 * random.normal(size=400)
    shape = ErrorShape.of(failed)
    threshold = (0.85 - failed.mean()) / failed.std()
    assert 1.0 - shape.cdf(threshold) == pytest.approx(np.mean(failed > 0.85), abs=0.05)
    assert special.ndtr(-threshold) < np.mean(failed > 0.85) - 0.1, "a normal has it wrong"
    assert np.abs(ErrorShape.of(random.normal(size=5000)).cumulative - NORMAL.cumulative).max() < 0.02
    assert ErrorShape.of(np.zeros(9)) is NORMAL


def test_quantiles_of_a_mixture_are_those_of_its_draws():
    random = np.random.default_rng(0)
    variance = np.exp(random.normal(size=500))
    drawn = np.sqrt(random.choice(variance, 400_000)) * random.normal(size=400_000)
    for p in (0.01, 0.3, 0.5, 0.95):
        assert mixture_quantile(variance, p, NORMAL) == pytest.approx(np.quantile(drawn, p), abs=0.03)
    assert mixture_quantile(np.zeros(3), 0.9, NORMAL) == 0.0
    assert mixture_quantile(np.full(3, 4.0), 0.9, NORMAL) == pytest.approx(2 * special.ndtri(0.9), abs=1e-4)
