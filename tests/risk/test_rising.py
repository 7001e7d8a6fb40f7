"""Rises are found where they are, and not in what merely scatters around a decay."""

import numpy as np

from bayes_prehoc.risk.rising import find_rise

DEPTHS = np.geomspace(1, 100, 8)


def scattered(rng, curve, nu):
    return curve * rng.chisquare(nu, len(curve)) / nu


def test_a_decay_with_sampling_error_is_hardly_ever_called_a_rise():
    rng = np.random.default_rng(0)
    for nu in (2.0, 7.0, 63.0):
        found = [find_rise(scattered(rng, DEPTHS**-0.5, nu), np.full(8, nu)) for _ in range(500)]
        assert sum(rise is not None for rise in found) <= 3


def test_a_floor_with_sampling_error_is_hardly_ever_called_a_rise():
    rng = np.random.default_rng(1)
    found = [find_rise(scattered(rng, np.ones(8), 7.0), np.full(8, 7.0)) for _ in range(500)]
    assert sum(rise is not None for rise in found) <= 3


def test_a_plateau_that_rises_late_is_found_with_its_place():
    rng = np.random.default_rng(2)
    curve = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 60.0, 90.0])
    for _ in range(50):
        rise = find_rise(scattered(rng, curve, 20.0), np.full(8, 20.0))
        assert rise is not None and rise.foot <= 5 and rise.top >= 6 and rise.p_value < 1e-3


def test_one_outlying_depth_is_left_to_the_misfit():
    curve = np.array([1.0, 0.8, 0.6, 30.0, 0.4, 0.3])
    assert find_rise(curve, np.full(6, 50.0)) is None
    assert find_rise(np.array([1.0, 0.8, 0.6, 30.0, 20.0, 0.3]), np.full(6, 50.0)) is not None


def test_a_hump_of_a_few_percent_is_left_to_the_misfit_however_certain_it_is():
    curve = np.array([1.0, 1.1, 1.25, 1.2, 0.8, 0.4, 0.2, 0.1])
    assert find_rise(curve, np.full(8, 5000.0)) is None
