"""What a prior is worth: exact where everything is normal, and predictively consistent where it is not."""

import numpy as np
import pytest

from bayes_prehoc.priors.mixture import Gaussians, fit_gaussians
from bayes_prehoc.priors.worth import equivalent_tasks


@pytest.mark.parametrize("tasks", [1, 5, 40])
def test_the_mean_of_so_many_known_tasks_is_worth_that_many(tasks):
    scale = 0.7
    prior = Gaussians(np.ones(1), np.array([[0.3]]), np.array([[[scale**2 / tasks]]]))
    draws = np.random.default_rng(0).normal(0.3, scale / np.sqrt(tasks), 500)
    assert equivalent_tasks(prior, 0, draws, np.full(500, scale)) == pytest.approx(tasks)


def test_more_tasks_add_their_number():
    """A prior with two modes: posteriors after N more tasks are worth, on average over its predictions, N more."""
    rng, scale, more = np.random.default_rng(1), 1.0, 6
    prior = Gaussians(np.array([0.4, 0.6]), np.array([[-0.7], [0.8]]), np.array([[[0.5]], [[0.3]]]))

    def worth(of):
        which = rng.choice(2, 20_000, p=of.weight)
        draws = of.mean[which, 0] + np.sqrt(of.covariance[which, 0, 0]) * rng.normal(size=20_000)
        return equivalent_tasks(of, 0, draws, np.full(20_000, scale))

    after = []
    for _ in range(300):
        which = rng.choice(2, p=prior.weight)
        truth = rng.normal(prior.mean[which, 0], np.sqrt(prior.covariance[which, 0, 0]))
        seen = rng.normal(truth, scale, more).mean()
        variance = 1.0 / (1.0 / prior.covariance[:, 0, 0] + more / scale**2)
        mean = variance * (prior.mean[:, 0] / prior.covariance[:, 0, 0] + more * seen / scale**2)
        spread = prior.covariance[:, 0, 0] + scale**2 / more
        weight = prior.weight * np.exp(-0.5 * (seen - prior.mean[:, 0]) ** 2 / spread) / np.sqrt(spread)
        after.append(worth(Gaussians(weight / weight.sum(), mean[:, None], variance[:, None, None])))
    assert np.mean(after) - worth(prior) == pytest.approx(more, abs=0.3)


def test_of_a_fit_of_known_tasks_it_is_about_their_number(make):
    rng, tasks = np.random.default_rng(2), 12
    latents = rng.normal(0.5, 0.6, tasks)
    # The exact posterior of mean and scale under a flat prior of the mean and of log scale.
    scales = np.sqrt((tasks - 1) * latents.var(ddof=1) / rng.chisquare(tasks - 1, 4000))
    means = latents.mean() + scales / np.sqrt(tasks) * rng.normal(size=4000)
    found = equivalent_tasks(fit_gaussians(means[:, None]), 0, means, scales)
    assert 0.6 * tasks < found < 1.4 * tasks


def test_a_cards_worth_is_by_its_own_draws(card):
    assert set(card.equivalent_tasks) == {"mu_level[accuracy]", "mu_share", "mu_rate"}
    tau = card.values(card.draws)["tau"]
    by_variance = (tau[:, 1] ** 2).mean() / card.draws[:, card.labels.index("mu_share")].var()
    assert card.equivalent_tasks["mu_share"] == pytest.approx(by_variance, rel=0.15)
