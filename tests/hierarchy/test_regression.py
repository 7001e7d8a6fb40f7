"""Columns that draws ask for are taken, and others are not."""

import numpy as np
import pytest

from bayes_prehoc.hierarchy.regression import chosen_columns, regressed


@pytest.fixture
def columns():
    """Ones and nineteen standard normal columns at 400 draws, with their weights."""
    x = np.random.default_rng(0).normal(size=(400, 20))
    x[:, 0] = 1.0
    return x, np.full(400, 1.0 / 400)


def test_what_tells_is_taken(columns):
    x, weight = columns
    y = 2.0 * x[:, 7] - 0.5 * x[:, 3] + 0.1 * np.random.default_rng(1).normal(size=400)
    taken = chosen_columns(x, y, weight, 400, always=1, most=20)
    assert taken[:3] == [0, 7, 3] and len(taken) <= 4
    assert chosen_columns(x, y, weight, 400, always=1, most=2) == [0, 7]
    assert chosen_columns(x, y, weight, 400, always=3, most=20)[:3] == [0, 1, 2]
    found = regressed(x[:, [0, 3, 7]], y, weight, 400)
    np.testing.assert_allclose(found, [0.0, -0.5, 2.0], atol=0.02)


def test_of_noise_next_to_nothing_is_taken(columns):
    x, weight = columns
    y = np.random.default_rng(2).normal(size=400)
    assert len(chosen_columns(x, y, weight, 400, always=1, most=20)) <= 2
