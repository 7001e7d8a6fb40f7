"""Exploration finds the modes of densities whose masses are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayes_prehoc.hierarchy.explore import LEAST_COUNTING, find_modes, flattened, modes_near, population, wide_mixture
from bayes_prehoc.hierarchy.mixture import WIDENING
from bayes_prehoc.hierarchy.proposal import Proposal

SIZE, SHARE, APART = 6, 0.3, 8.0


def log_p(x):
    """Two normals of scales 1 and 0.4 along a line, (..., SIZE); the first has mass `SHARE`."""
    one = jnp.log(SHARE) - 0.5 * jnp.sum(x**2, axis=-1)
    other = jnp.log(1 - SHARE) - 0.5 * jnp.sum(((x - APART) / 0.4) ** 2, axis=-1) - SIZE * jnp.log(0.4)
    return jnp.logaddexp(one, other)


def starts(rng, number=12):
    return 4.0 + 4.0 * rng.normal(size=(number, SIZE))


def test_climbs_find_each_mode_once_with_its_curvature():
    found = find_modes(starts(np.random.default_rng(0)), jax.jit(log_p))
    assert len(found.weight) == 2
    order = np.argsort(found.mean[:, 0])
    np.testing.assert_allclose(found.mean[order].mean(axis=1), [0.0, APART], atol=0.05)
    scale = np.sqrt(np.diagonal(found.factor @ np.swapaxes(found.factor, 1, 2), axis1=1, axis2=2))
    np.testing.assert_allclose(scale[order].mean(axis=1) / np.sqrt(WIDENING), [1.0, 0.4], rtol=0.05)
    np.testing.assert_allclose(found.weight[order], [SHARE, 1 - SHARE], atol=0.02)


def test_a_narrow_mode_of_a_large_energy_is_found_to_a_fraction_of_its_width():
    """As of ten thousand tasks, whose log density is so large that relative gains say nothing."""
    width = np.array([0.3, 0.02, 0.01])
    turn = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.8], [0.0, 0.0, 1.0]])

    def narrow(x):
        return 1e5 - 0.5 * np.sum((((x - 0.7) / width) @ turn) ** 2, axis=-1)

    covariance = np.linalg.inv(turn @ turn.T) * width[:, None] * width
    far = np.random.default_rng(0).normal(size=(3, 3))
    # From five widths away, in units that are half as large as they should be.
    factor = np.linalg.cholesky(covariance)
    near = modes_near(0.7 + 5.0 * far @ factor.T, 0.5 * factor, narrow)
    for found in (find_modes(far, narrow), near):
        white = np.linalg.solve(factor, found.mean[0] - 0.7)
        assert len(found.weight) == 1 and np.abs(white).max() < 0.2
        np.testing.assert_allclose(found.factor[0] @ found.factor[0].T / WIDENING, covariance, rtol=0.05, atol=1e-6)


def test_a_flat_direction_gets_a_bounded_scale():
    found = find_modes(np.zeros((1, 2)), lambda x: -0.5 * x[:, 0] ** 2)
    np.testing.assert_allclose(np.diag(found.factor[0]), np.sqrt(WIDENING) * np.array([1.0, 2.0]), rtol=1e-3)


def test_climbs_that_end_nowhere_give_no_mode():
    nowhere = np.zeros((3, 2)), lambda x: np.full(len(x), np.nan)
    assert find_modes(*nowhere) is None and modes_near(nowhere[0], np.eye(2), nowhere[1]) is None


def test_a_population_finds_masses_and_moments():
    """From modes whose masses are known badly."""
    first = find_modes(starts(np.random.default_rng(0)), jax.jit(log_p))
    first = first._replace(weight=np.full(2, 0.5))
    found = population(np.random.default_rng(0), Proposal(first), log_p, rounds=6, number=1500, enough=750)
    assert found.weight.sum() == pytest.approx(1.0) and found.effective > 500
    in_first = found.x[:, 0] < APART / 2
    assert found.weight[in_first].sum() == pytest.approx(SHARE, abs=0.06)
    mean = found.weight @ found.x
    np.testing.assert_allclose(mean, APART * (1 - SHARE), atol=0.5)
    within = SHARE + (1 - SHARE) * 0.16
    between = SHARE * (1 - SHARE) * APART**2
    np.testing.assert_allclose(found.proposal.covariance(), within * np.eye(SIZE) + between, atol=2.5)
    drawn = found.resampled(np.random.default_rng(0), 2000)
    assert np.mean(drawn[:, 0] < APART / 2) == pytest.approx(SHARE, abs=0.08)


def test_a_population_moves_to_a_posterior_that_it_starts_far_from():
    """Ten standard deviations off in every coordinate, where one draw would hold all the weight."""

    def narrow(x):
        return -0.5 * jnp.sum(((x - 1.0) / 0.1) ** 2, axis=-1)

    found = population(
        np.random.default_rng(0),
        Proposal(wide_mixture(np.zeros(SIZE), 0.5)),
        narrow,
        rounds=10,
        number=1000,
        enough=500,
    )
    assert found.effective > 300
    np.testing.assert_allclose(found.weight @ found.x, 1.0, atol=0.03)
    np.testing.assert_allclose(np.sqrt(np.diag(found.proposal.covariance())), 0.1, rtol=0.3)


def test_densities_that_are_not_finite_are_none():
    def half(x):
        return jnp.where(x[:, 0] > 0.0, -0.5 * jnp.sum(x**2, axis=1), jnp.nan)

    found = population(
        np.random.default_rng(1), Proposal(wide_mixture(np.zeros(2), 1.0)), half, rounds=2, number=1000, enough=500
    )
    assert np.all(found.weight[found.x[:, 0] <= 0.0] == 0.0)
    assert found.weight @ found.x[:, 0] == pytest.approx(np.sqrt(2 / np.pi), abs=0.1)
    nowhere = population(
        np.random.default_rng(1),
        Proposal(wide_mixture(np.zeros(2), 1.0)),
        lambda x: jnp.full(len(x), jnp.nan),
        2,
        100,
        50,
    )
    assert nowhere.weight == pytest.approx(0.01)


def testflattened_weights_let_enough_draws_count():
    log_weight = 20.0 * np.random.default_rng(0).normal(size=500)
    log_weight[:50] = -np.inf
    least = LEAST_COUNTING * 500
    weight = flattened(log_weight, least)
    assert 1 / np.sum(weight**2) == pytest.approx(least, rel=1e-3) and np.all(weight[:50] == 0.0)
    finite = weight > 0
    slope = np.polyfit(log_weight[finite], np.log(weight[finite]), 1)[0]
    beside = np.log(weight[finite]) - slope * log_weight[finite]
    np.testing.assert_allclose(beside, beside[0])
    even = 0.1 * log_weight[50:] / 20.0
    np.testing.assert_allclose(flattened(even, least), np.exp(even) / np.exp(even).sum())
