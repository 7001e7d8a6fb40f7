"""Chains sample what was explored, on whatever device."""

import numpy as np
import pytest

from bayes_prehoc.hierarchy.chains import Chains
from bayes_prehoc.hierarchy.evaluator import Evaluator


@pytest.mark.parametrize("together", [False, True])
def test_chains_sample_what_was_explored(placed, together):
    """One by one in threads, and as one batch; the explored draws, weighted, are an independent account."""
    evaluator, _, (arguments, _, found) = placed
    with Evaluator(evaluator.target, together) as own:
        chains = Chains(np.random.default_rng(3), own, arguments, found, 4, 0.95)
        chains.warm_up(40)
        drawn = chains.draw(150)
    assert drawn.points.shape == (4, 150, found.x.shape[1])
    assert all(values.shape == (4, 150) for values in drawn.statistics.values())
    assert drawn.statistics["leapt"].mean() > 0.1 and drawn.statistics["accept_prob"].mean() > 0.8
    mean, sd = found.weight @ found.x, np.sqrt(np.diag(found.covariance()))
    x = drawn.points.reshape(-1, len(mean))
    assert np.abs((x.mean(axis=0) - mean) / sd).max() < 0.5
    np.testing.assert_allclose(x.std(axis=0), sd, rtol=0.4)
