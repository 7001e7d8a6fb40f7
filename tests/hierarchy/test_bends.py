"""Bends are a change of variables, exact whatever they are, and straighten what is curved."""

import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.hierarchy.bends import FAR, bends_of_draws

CURVED = 3000


def banana(rng, number=CURVED):
    """A wide coordinate that tells the mean of one and the scale of another, and one by itself."""
    wide = 2.0 * rng.normal(size=number)
    bent = 0.2 * (wide**2 - 4.0) + 0.3 * rng.normal(size=number)
    funnel = np.exp(0.5 * wide) * 0.2 * rng.normal(size=number)
    return np.column_stack([0.1 * rng.normal(size=number), bent, 5.0 + wide, funnel])


def made_of(x):
    return bends_of_draws(x, np.full(len(x), 1.0 / len(x)), len(x))


@pytest.fixture(scope="module")
def bends():
    return made_of(banana(np.random.default_rng(0)))


def test_there_and_back(bends):
    """Also far outside of what the draws have shown."""
    x = np.concatenate([banana(np.random.default_rng(1), 200), 50.0 * np.random.default_rng(2).normal(size=(50, 4))])
    z, _ = bends.straight(x)
    np.testing.assert_allclose(bends.bent(z), x, rtol=1e-9, atol=1e-9)


def test_volume_is_that_of_the_map(bends):
    """By differences of the map itself."""
    step = 1e-5
    for x in banana(np.random.default_rng(3), 8):
        ends = np.concatenate([x + step * np.eye(4), x - step * np.eye(4)])
        moved = bends.straight(ends)[0]
        jacobian = (moved[:4] - moved[4:]) / (2.0 * step)
        assert bends.straight(x[None])[1][0] == pytest.approx(np.linalg.slogdet(jacobian)[1], abs=1e-5)


def test_what_is_curved_becomes_straight(bends):
    """Other draws of the same: independent and normal, where they were neither."""
    x = banana(np.random.default_rng(4))
    z, _ = bends.straight(x)
    assert np.abs(np.corrcoef(z.T) - np.eye(4)).max() < 0.1
    sizes = [np.abs(np.corrcoef(np.abs(stats.zscore(values)).T) - np.eye(4)).max() for values in (z, x)]
    assert sizes[0] < 0.1 and sizes[1] > 0.3
    for column in z.T:
        assert stats.kstest(column, "norm").statistic < 0.06
    assert stats.kstest(stats.zscore(x[:, 1]), "norm").statistic > 0.1


def test_what_is_straight_is_left_so():
    """Of independent draws next to nothing is chosen: no term of a hundred by chance more than a few times."""
    made = made_of(np.random.default_rng(5).normal(size=(1000, 10)))
    linear = np.arange(1, 11)
    assert sum(len(bend.terms) - 1 - k for k, bend in enumerate(made.bends)) <= 8
    assert sum(np.count_nonzero(bend.log_scale[1:]) for bend in made.bends) <= 6
    assert all(len(bend.terms) >= k for k, bend in zip(linear, made.bends, strict=True))


def test_far_out_the_bends_stop():
    """A parabola followed for a hundred standard deviations would throw proposals away."""
    made = made_of(banana(np.random.default_rng(6)))
    wide = int(made.order[0])
    z = np.zeros((2, 4))
    z[:, 0] = FAR + 1.0, 100.0
    near, far = made.bent(z)
    np.testing.assert_allclose(np.delete(near, wide), np.delete(far, wide))


def test_draws_of_little_weight_say_little():
    rng = np.random.default_rng(7)
    x = banana(rng)
    weight = np.exp(stats.norm.logpdf(x[:, 2], 5.0, 0.7) - stats.norm.logpdf(x[:, 2], 5.0, 2.0))
    weight /= weight.sum()
    made = bends_of_draws(x, weight, 1.0 / np.sum(weight**2))
    again = bends_of_draws(np.concatenate([x, x + 100.0]), np.append(weight, np.zeros(len(x))), 1.0 / np.sum(weight**2))
    np.testing.assert_allclose(made.bent(np.ones((1, 4))), again.bent(np.ones((1, 4))))
    assert made.spread[2] == pytest.approx(0.7, rel=0.1)
