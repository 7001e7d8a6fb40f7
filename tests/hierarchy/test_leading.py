"""A coarser rule learns what it is off by where the posterior is."""

from types import SimpleNamespace

import numpy as np
import pytest

from bayes_prehoc.hierarchy.collapsed import RULES, quadrature
from bayes_prehoc.hierarchy.explore import population, wide_mixture
from bayes_prehoc.hierarchy.leading import Leading
from bayes_prehoc.hierarchy.proposal import Proposal
from bayes_prehoc.hierarchy.target import Arguments, Correction, Density

TASKS = 3


def off_by(x):
    """Of the coarser rule: it moves the posterior by a standard deviation, and makes it wider."""
    return 0.7 * x[:, 0] - x[:, 2] + 0.25 * x[:, 1] ** 2 + 0.2 * x[:, 0] * x[:, 3]


@pytest.fixture
def leading():
    """Of a standard normal density in four dimensions; a finer rule is off by nothing."""

    def densities(points, arguments):
        by_task = np.zeros((len(points), TASKS))
        if len(arguments.blocks[0].at) == 16:
            by_task += off_by(points)[:, None] / TASKS
        return Density(-0.5 * np.sum(points**2, axis=1), arguments.corrected(by_task, points))

    evaluator = SimpleNamespace(densities=densities, target=SimpleNamespace(points=lambda x, data: x))
    rough = Arguments((), SimpleNamespace(kind=np.ones((TASKS, 1))), quadrature(RULES[0]))
    return Leading(np.random.default_rng(0), evaluator, rough, rough.with_rule(RULES[1]))


def explored(leading, learn):
    start = Proposal(wide_mixture(np.full(4, 1.0), 1.5))
    return population(np.random.default_rng(1), start, leading.densities, 8, 1000, 3000, learn=learn)


def test_exploring_finds_the_posterior_of_the_finer_rule(leading):
    found = explored(leading, leading.learn)
    assert found.effective > 2000
    assert np.abs(found.weight @ found.x).max() < 0.1
    x = np.clip(np.random.default_rng(2).normal(size=(50, 4)), -2.0, 2.0)
    np.testing.assert_allclose(leading.rough.correction.off(x).sum(axis=1), off_by(x), atol=0.05)
    # By the coarser rule alone it would be another.
    alone = explored(leading, None)
    assert np.abs(alone.weight @ alone.x).max() > 0.5


def test_another_rule_can_be_followed(leading):
    """One that is off by what the coarser rule is, and so leaves nothing."""
    found = explored(leading, leading.learn)
    covariance = found.proposal.covariance()
    rough = leading.follow(leading.rough._replace(correction=None), covariance)
    np.testing.assert_allclose(rough.correction.error, 0.0, atol=1e-6)


def test_what_the_finer_rule_is_off_by_is_followed(leading):
    found = explored(leading, leading.learn)
    x = np.clip(np.random.default_rng(3).normal(size=(20, 4)), -2.0, 2.0)
    off = Correction(np.zeros(4), np.eye(4), np.repeat([[0.0], [0.3], [0.0], [0.0], [0.0]], TASKS, axis=1))
    finer = leading.rough.with_rule(RULES[1])._replace(correction=off)
    rough = leading.follow(finer, found.proposal.covariance())
    # The finer one is less by a constant 0.9 of the first coordinate, all tasks together.
    np.testing.assert_allclose(rough.correction.off(x).sum(axis=1), off_by(x) + 0.9 * x[:, 0], atol=0.05)
