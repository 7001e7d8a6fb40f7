"""Mixtures: against SciPy's densities, by hand, and on draws of known origin."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.priors.mixture import (
    Gaussians,
    fit_gaussians,
    log_density,
    marginal,
    marginal_cdf,
    marginal_information,
    moments,
    sample,
)

TWO = Gaussians(
    np.array([0.3, 0.7]),
    np.array([[-2.0, 0.0, 1.0], [1.0, 1.0, -1.0]]),
    np.array(
        [[[1.0, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 2.0]], [[0.5, -0.2, 0.0], [-0.2, 1.0, 0.0], [0.0, 0.0, 0.1]]]
    ),
)


def oracle(of, y):
    parts = [w * stats.multivariate_normal(m, s).pdf(y) for w, m, s in zip(*of, strict=True)]
    return np.log(np.sum(parts, axis=0))


def test_density_in_numpy_and_in_jax(float64, strict_jax):
    y = np.random.default_rng(0).normal(size=(4, 5, 3)) * 2.0
    assert log_density(TWO, y) == pytest.approx(oracle(TWO, y), abs=1e-10)
    assert log_density(TWO, y[0, 0]).shape == ()
    by_jax = jax.jit(lambda at: log_density(TWO, at))(jnp.asarray(y))
    assert np.asarray(by_jax) == pytest.approx(oracle(TWO, y), abs=1e-10)
    slope = jax.grad(lambda at: log_density(TWO, at))(jnp.asarray(y[0, 0]))
    step = 1e-6 * np.eye(3)
    numeric = (oracle(TWO, y[0, 0] + step) - oracle(TWO, y[0, 0] - step)) / 2e-6
    assert np.asarray(slope) == pytest.approx(numeric, abs=1e-6)


def test_density_in_single_precision_stays_in_it():
    y = np.random.default_rng(0).normal(size=(5, 3))
    found = log_density(TWO, jnp.asarray(y, jnp.float32))
    assert found.dtype == jnp.float32
    assert np.asarray(found) == pytest.approx(oracle(TWO, y), rel=1e-4, abs=1e-4)


def test_density_far_out_is_finite():
    assert np.isfinite(log_density(TWO, np.full(3, 1e5)))


def test_moments_and_marginals_are_those_of_draws():
    draws = sample(np.random.default_rng(1), TWO, 200_000)
    mean, covariance = moments(TWO)
    assert draws.mean(axis=0) == pytest.approx(mean, abs=0.02)
    assert np.cov(draws.T) == pytest.approx(covariance, abs=0.04)
    at = np.array([[-1.0, 0.5, 0.0]])
    assert marginal_cdf(TWO, at)[0] == pytest.approx((draws < at).mean(axis=0), abs=0.005)
    other = marginal(TWO, [2, 0])
    assert moments(other)[1] == pytest.approx(covariance[np.ix_([2, 0], [2, 0])])


def test_many_draws_in_many_dimensions_take_no_more_memory_than_they_are():
    wide = Gaussians(np.ones(1), np.zeros((1, 200)), np.eye(200)[None])
    tracemalloc.start()
    draws = sample(np.random.default_rng(0), wide, 2000)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 8 * draws.nbytes


def test_information_is_minus_the_second_derivative():
    y, step = np.linspace(-3.0, 3.0, 13), 1e-4
    one = marginal(TWO, [0])
    at = [log_density(one, (y + move)[:, None]) for move in (-step, 0.0, step)]
    numeric = -(at[0] - 2 * at[1] + at[2]) / step**2
    assert marginal_information(one, y[:, None])[:, 0] == pytest.approx(numeric, abs=1e-5)


@pytest.mark.parametrize("components", [1, 2, 3])
def test_as_many_components_as_the_draws_have(components):
    rng = np.random.default_rng(components)
    means = 6.0 * np.eye(5)[:components]
    draws = means[rng.integers(components, size=900)] + rng.normal(size=(900, 5))
    found = fit_gaussians(draws)
    assert len(found.weight) == components
    # In expected log density it is as near to the truth as so many parameters allow, give or take chance.
    fresh = means[rng.integers(components, size=4000)] + rng.normal(size=(4000, 5))
    truth = Gaussians(np.full(components, 1.0 / components), means, np.tile(np.eye(5), (components, 1, 1)))
    assert np.mean(oracle(truth, fresh) - log_density(found, fresh)) < 2.0 * 21 * components / (2 * 900)


def test_one_component_is_the_draws_own_normal_whatever_their_scales():
    rng = np.random.default_rng(0)
    scales = np.array([1e-3, 1.0, 1e3])
    draws = (
        5.0 * scales
        + rng.normal(size=(500, 3)) @ np.array([[1.0, 0.9, 0.0], [0.0, 0.4, 0.0], [0.0, 0.0, 1.0]]) * scales
    )
    found = fit_gaussians(draws)
    assert len(found.weight) == 1
    assert found.mean[0] == pytest.approx(draws.mean(axis=0))
    assert found.covariance[0] == pytest.approx(np.cov(draws.T), rel=5e-3)


def test_draws_that_hang_together_count_as_fewer():
    rng = np.random.default_rng(3)
    draws = np.concatenate([rng.normal(size=(300, 4)), 0.6 * rng.normal(size=(300, 4)) + 0.6])
    assert len(fit_gaussians(draws).weight) > len(fit_gaussians(draws, effective=60.0).weight)
