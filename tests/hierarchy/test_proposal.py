"""A proposal is a normalised density that draws what it says, bent or not."""

import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.hierarchy.mixture import mixture_of_draws
from bayes_prehoc.hierarchy.proposal import FITTED, Proposal, proposal_of_draws
from tests.hierarchy.test_bends import banana


def log_banana(x):
    """Log density of `banana`."""
    wide = x[:, 2] - 5.0
    return (
        stats.norm.logpdf(x[:, 0], 0.0, 0.1)
        + stats.norm.logpdf(x[:, 1], 0.2 * (wide**2 - 4.0), 0.3)
        + stats.norm.logpdf(wide, 0.0, 2.0)
        + stats.norm.logpdf(x[:, 3], 0.0, 0.2 * np.exp(0.5 * wide))
    )


def effective(proposal, number=20_000):
    """Share of draws that count, and the mean of the target over it, which is 1 of normalised densities."""
    x = proposal.draw(np.random.default_rng(1), number)
    ratio = np.exp(log_banana(x) - proposal.log_density(x))
    return ratio.sum() ** 2 / np.sum(ratio**2) / number, ratio.mean(), 4.0 * ratio.std() / np.sqrt(number)


def test_bends_make_draws_count_that_a_mixture_wastes():
    x = banana(np.random.default_rng(0))
    share, mean, error = effective(proposal_of_draws(x))
    plain, plain_mean, plain_error = effective(Proposal(mixture_of_draws(x)))
    assert mean == pytest.approx(1.0, abs=error) and plain_mean == pytest.approx(1.0, abs=plain_error)
    assert share > 0.6 and share > 1.5 * plain


def test_covariance_is_that_of_the_draws():
    """But of the one whose squares have hardly a mean."""
    x = banana(np.random.default_rng(2), 2 * FITTED)
    of_draws = np.cov(x.T)[:3, :3]
    scale = np.sqrt(np.diag(of_draws))
    for made in (proposal_of_draws(x), Proposal(mixture_of_draws(x))):
        off = made.covariance()[:3, :3] - of_draws
        assert np.abs(off / scale / scale[:, None]).max() < 0.2


def test_density_has_the_shape_of_the_points():
    made = proposal_of_draws(banana(np.random.default_rng(3)))
    x = made.draw(np.random.default_rng(4), 6)
    np.testing.assert_allclose(made.log_density(x.reshape(2, 3, 4)), made.log_density(x).reshape(2, 3))


def test_of_many_draws_some_stand_for_all():
    """Weighted draws, more than are used."""
    x = banana(np.random.default_rng(5), 3 * FITTED)
    weight = stats.norm.pdf(x[:, 2], 6.0, 1.0) / stats.norm.pdf(x[:, 2], 5.0, 2.0)
    made = proposal_of_draws(x, weight / weight.sum())
    drawn = made.draw(np.random.default_rng(6), 4000)
    assert np.median(drawn[:, 2]) == pytest.approx(6.0, abs=0.1)
