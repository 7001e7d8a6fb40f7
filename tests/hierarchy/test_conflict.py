"""Evidences of simulated estimates, by importance sampling, against plain averages over both priors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from bayes_prehoc.hierarchy import conflict
from bayes_prehoc.hierarchy.basis import Basis
from bayes_prehoc.hierarchy.conflict import Prior, simulated_evidences
from bayes_prehoc.hierarchy.evaluator import Evaluator
from bayes_prehoc.hierarchy.inference import sampled_target
from bayes_prehoc.hierarchy.informed import informed_by
from bayes_prehoc.hierarchy.model import weak_prior
from bayes_prehoc.hierarchy.simulate import truth_at

PROXY = "run_to_run"


@pytest.fixture(scope="module")
def simulated(made_up_card, make):
    """A target, estimates of two tasks, a card, and the priors with posteriors that know nothing yet."""
    _, data, _ = make.simulated(tasks=2, nu=3.0, depths=3)
    target = sampled_target(data, weak_prior(PROXY), PROXY)
    informed = informed_by(made_up_card, weak_prior(PROXY), PROXY, Basis(("accuracy",)))
    both = (informed.weak.mean, np.diag(informed.weak.scale**2)), informed.moments()
    return target, data, informed, tuple(Prior(*own, *own) for own in both)


def test_evidences_are_mean_likelihoods_under_the_priors(simulated, monkeypatch):
    """Within 0.4, as two thousand points in fourteen dimensions tell it from proposals as wide as the priors."""
    target, data, informed, priors = simulated
    drawn = []

    def kept(*arguments):
        drawn.append(original(*arguments))
        return drawn[-1]

    original = conflict._drawn
    monkeypatch.setattr(conflict, "_drawn", kept)
    monkeypatch.setattr(conflict, "ROUND", 500)
    rng = np.random.default_rng(0)
    truths = informed.draw(rng, 4)
    weak, card = simulated_evidences(jax.random.key(0), target, data, informed.tilt, truths, priors)
    x = informed.weak.mean + informed.weak.scale * rng.normal(size=(4000, len(informed.weak.mean)))
    y = informed.draw(rng, 2000)
    with Evaluator(target) as evaluator:
        for own, by_weak, by_card in zip(drawn, weak, card, strict=True):
            under = [evaluator.densities(points, own).by_task.sum(axis=1) for points in (x, y)]
            # Correlations are not quite normal under the weak prior: a hundredth of a nat here.
            expected = [logsumexp(part) - np.log(len(part)) for part in under]
            assert by_card - by_weak == pytest.approx(expected[1] - expected[0], abs=0.4)
            assert by_card == pytest.approx(expected[1], abs=0.4)


def test_proposals_move_as_far_as_data_tell():
    prior = Prior(np.zeros(2), np.eye(2), np.array([5.0, 5.0]), np.diag([1.0, 0.01]))
    proposal = prior.proposal(np.array([2.0, 2.0]))
    # Of the first coordinate data tell nothing; of the second nearly all.
    np.testing.assert_allclose(proposal.mean[0], [0.0, 1.98])


def test_the_truth_has_the_population_of_its_hyperparameters(make):
    """Latents drawn at given hyperparameters, of very many tasks."""
    _, data, _ = make.simulated(tasks=2)
    many = jax.tree.map(lambda own: jnp.repeat(own, 20_000, axis=-1 if own.ndim == 2 and len(own) == 8 else 0), data)
    sites = {"mu_level": np.array([-6.0]), "mu_share": -1.0, "mu_rate": 0.5, "tau": np.array([0.8, 0.5, 0.3]),
             "corr_chol": np.linalg.cholesky([[1, 0.6, 0], [0.6, 1, 0], [0, 0, 1]]), "log_onset": -4.0, "misfit": 0.1,
             "dependence": 1.0}  # fmt: skip
    truth = truth_at(jax.random.key(0), sites, many)
    latents = np.stack([truth.level, truth.share, truth.rate])
    np.testing.assert_allclose(latents.mean(axis=1), [-6.0, -1.0, 0.5], atol=0.02)
    np.testing.assert_allclose(latents.std(axis=1), [0.8, 0.5, 0.3], rtol=0.02)
    assert np.corrcoef(latents)[0, 1] == pytest.approx(0.6, abs=0.02)
    assert (float(truth.drift), float(truth.lasting)) == (0.0, 1.0)
