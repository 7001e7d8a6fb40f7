"""Chains sample what was explored, on whatever device."""

import numpy as np
import pytest

from bayes_prehoc.hierarchy.chains import Chains
from bayes_prehoc.hierarchy.evaluator import Evaluator


@pytest.mark.parametrize(("together", "with_trajectories"), [(False, False), (True, False), (False, True)])
def test_chains_sample_what_was_explored(placed, together, with_trajectories):
    """One by one in threads, and as one batch; the explored draws, weighted, are an independent account."""
    evaluator, _, (arguments, _, found) = placed
    with Evaluator(evaluator.target, together) as own:
        chains = Chains(np.random.default_rng(3), own, arguments, found, 4, 0.95, with_trajectories)
        chains.warm_up(40)
        drawn = chains.draw(150)
    assert drawn.points.shape == (4, 150, found.x.shape[1])
    assert all(values.shape[:2] == (4, 150) for values in drawn.statistics.values())
    assert drawn.statistics["leapt"].mean() > 0.1 and chains.with_trajectories == with_trajectories
    if with_trajectories:
        assert drawn.statistics["accept_prob"].mean() > 0.8
    mean, sd = found.weight @ found.x, np.sqrt(np.diag(found.covariance()))
    x = drawn.points.reshape(-1, len(mean))
    assert np.abs((x.mean(axis=0) - mean) / sd).max() < 0.5
    np.testing.assert_allclose(x.std(axis=0), sd, rtol=0.4)


def test_trajectories_come_in_where_few_leaps_land(placed):
    evaluator, _, (arguments, _, found) = placed
    wide = found.proposal._replace(factor=8.0 * found.proposal.factor)
    chains = Chains(np.random.default_rng(3), evaluator, arguments, found._replace(proposal=wide), 4, 0.95)
    chains.warm_up(6)
    assert chains.with_trajectories and "accept_prob" in chains.draw(2).statistics
