"""Mixtures are densities, draw from what they say, and are made from draws, weighted or not."""

import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.hierarchy.mixture import BULK, TAIL, WIDENING, Mixture, draw, log_density, mixture_of_draws


def test_density_is_that_of_the_mixture(two_modes):
    rng = np.random.default_rng(0)
    proposal = mixture_of_draws(two_modes.draws(rng, 600))
    assert len(proposal.weight) == 2 and proposal.weight.sum() == pytest.approx(1.0)
    for x in two_modes.draws(rng, 5):
        parts = [
            w * share * stats.multivariate_t(m, times * f @ f.T, df=freedom).pdf(x)
            for m, f, w in zip(*proposal, strict=True)
            for share, freedom, times in (BULK, TAIL)
        ]
        assert log_density(proposal, x) == pytest.approx(np.log(sum(parts)), abs=1e-9)


def test_draws_follow_the_density():
    """The mean of (density of another mixture) / (its own) over its draws is 1."""
    one = Mixture(np.array([[0.0, 0.0], [4.0, 1.0]]), np.array([np.eye(2), 0.5 * np.eye(2)]), np.array([0.7, 0.3]))
    other = Mixture(np.array([[2.0, 0.5]]), np.array([[[1.5, 0.0], [0.4, 0.8]]]), np.ones(1))
    x = draw(np.random.default_rng(0), one, 40_000)
    ratio = np.exp(log_density(other, x) - log_density(one, x))
    assert ratio.mean() == pytest.approx(1.0, abs=4 * ratio.std() / 200)
    assert np.mean(x[:, 0] > 2.5) == pytest.approx(0.3, abs=0.03)


def test_tails_are_wide_enough_to_be_safe():
    """A posterior half as wide again as its draws had shown, in 14 dimensions: no draw holds much of the weight."""
    one = Mixture(np.zeros((1, 14)), np.eye(14)[None], np.ones(1))
    x = draw(np.random.default_rng(8), one, 20_000)
    ratio = np.exp(stats.norm.logpdf(x, scale=1.5).sum(axis=1) - log_density(one, x))
    assert ratio.max() / ratio.sum() < 0.02


def test_one_mode_takes_one_component():
    rng = np.random.default_rng(1)
    scales = np.array([1.0, 20.0, 0.01])
    proposal = mixture_of_draws(3.0 + scales * rng.normal(size=(800, 3)))
    assert len(proposal.weight) == 1
    np.testing.assert_allclose(proposal.mean[0], 3.0, atol=3 * 20 / np.sqrt(800))
    np.testing.assert_allclose(np.diag(proposal.factor[0]), np.sqrt(WIDENING) * scales, rtol=0.15)


def test_weights_stand_for_draws():
    """Draws of a wide normal weighted to a narrow one; those of no weight change nothing."""
    rng = np.random.default_rng(3)
    x = 3.0 * rng.normal(size=(4000, 2))
    weight = np.exp(np.sum(-0.5 * (x - 1.0) ** 2 + 0.5 * (x / 3.0) ** 2, axis=1))
    made = mixture_of_draws(x, weight / weight.sum())
    assert len(made.weight) == 1
    np.testing.assert_allclose(made.mean[0], 1.0, atol=0.15)
    np.testing.assert_allclose(made.factor[0] @ made.factor[0].T, WIDENING * np.eye(2), atol=0.25)
    far = np.concatenate([x, np.full((50, 2), 1e3)]), np.concatenate([weight, np.zeros(50)]) / weight.sum()
    for one, other in zip(made, mixture_of_draws(*far), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
