"""Chains sample what was explored, on whatever device."""

import numpy as np
import pytest

from bayes_prehoc.hierarchy.chains import Chains
from bayes_prehoc.hierarchy.evaluator import Evaluator
from bayes_prehoc.hierarchy.target import Correction


@pytest.mark.parametrize(("batched", "with_trajectories"), [(False, False), (True, False), (False, True)])
def test_chains_sample_what_was_explored(placed, batched, with_trajectories):
    """One by one in threads, and as one batch; the explored draws, weighted, are an independent account."""
    evaluator, _, known = placed
    found = known.found
    with Evaluator(evaluator.target, batched=batched) as own:
        chains = Chains(np.random.default_rng(3), own, known, 4, 0.95, with_trajectories)
        chains.warm_up(40)
        drawn = chains.draw(150)
    assert drawn.points.shape == (4, 150, found.x.shape[1])
    assert all(values.shape[:2] == (4, 150) for values in drawn.statistics.values())
    again = evaluator.densities(drawn.points[:, -1], known.arguments).by_task
    np.testing.assert_allclose(drawn.statistics["by_task"][:, -1], again, rtol=1e-5, atol=1e-4)
    assert drawn.statistics["leapt"].mean() > 0.1 and chains.with_trajectories == with_trajectories
    if with_trajectories:
        assert drawn.statistics["accept_prob"].mean() > 0.8
    mean, sd = found.weight @ found.x, np.sqrt(np.diag(found.proposal.covariance()))
    x = drawn.points.reshape(-1, len(mean))
    assert np.abs((x.mean(axis=0) - mean) / sd).max() < 0.5
    np.testing.assert_allclose(x.std(axis=0), sd, rtol=0.4)


def test_a_density_that_is_off_leads_to_the_right_posterior(placed):
    """It is off by a nat for each standard deviation along one hyperparameter, which alone would move it as far."""
    evaluator, _, known = placed
    found = known.found
    mean, covariance = found.weight @ found.x, found.proposal.covariance()
    error = np.zeros((1 + len(mean), known.arguments.tasks), np.float32)
    error[1] = 1.0 / known.arguments.tasks
    off = Correction(np.float32(mean), np.linalg.inv(np.linalg.cholesky(covariance)).astype(np.float32), error)
    rough = known.arguments._replace(correction=off)
    chains = Chains(np.random.default_rng(3), evaluator, known._replace(rough=rough), 8, 0.95)
    chains.warm_up(20)
    drawn = chains.draw(150)
    again = evaluator.densities(drawn.points[:, -1], known.arguments).by_task
    np.testing.assert_allclose(drawn.statistics["by_task"][:, -1], again, rtol=1e-5, atol=1e-4)
    assert 0.3 < drawn.statistics["followed"].mean() < 0.8
    x, sd = drawn.points.reshape(-1, len(mean)), np.sqrt(np.diag(covariance))
    assert np.abs((x.mean(axis=0) - mean) / sd).max() < 0.4
    np.testing.assert_allclose(x.std(axis=0), sd, rtol=0.4)


def test_trajectories_come_in_where_few_leaps_land(placed):
    evaluator, _, known = placed
    proposal = known.found.proposal
    wide = proposal.mixture._replace(factor=8.0 * proposal.mixture.factor)
    known = known._replace(found=known.found._replace(proposal=proposal._replace(mixture=wide)))
    chains = Chains(np.random.default_rng(3), evaluator, known, 4, 0.95)
    chains.warm_up(6)
    assert chains.with_trajectories and "accept_prob" in chains.draw(2).statistics
