"""Chains sample what was explored, on whatever device."""

import numpy as np
import pytest

from bayes_prehoc.hierarchy.chains import Chains
from bayes_prehoc.hierarchy.evaluator import Evaluator


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


def test_trajectories_come_in_where_few_leaps_land(placed):
    evaluator, _, known = placed
    proposal = known.found.proposal
    wide = proposal.mixture._replace(factor=8.0 * proposal.mixture.factor)
    known = known._replace(found=known.found._replace(proposal=proposal._replace(mixture=wide)))
    chains = Chains(np.random.default_rng(3), evaluator, known, 4, 0.95)
    chains.warm_up(6)
    assert chains.with_trajectories and "accept_prob" in chains.draw(2).statistics
