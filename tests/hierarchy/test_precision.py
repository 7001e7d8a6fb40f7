"""Which rule of quadrature is taken, and what it is known to be off by."""

from types import SimpleNamespace

import numpy as np
import pytest

from bayes_prehoc.hierarchy import precision
from bayes_prehoc.hierarchy.collapsed import RULES, groups_by_depths, plain_frame, quadrature
from bayes_prehoc.hierarchy.evaluator import Evaluator
from bayes_prehoc.hierarchy.model import weak_prior
from bayes_prehoc.hierarchy.precision import FINE_ENOUGH, fine_enough, next_rule, quadrature_errors
from bayes_prehoc.hierarchy.start import find_reference
from bayes_prehoc.hierarchy.target import Arguments, Density, Target, flat_values


@pytest.fixture
def around():
    """Evaluator, points around the reference of some data, what they are evaluated on, and their covariance."""
    target = Target(weak_prior("run_to_run"), "run_to_run", False)

    def build(evaluator, data, scale):
        reference = find_reference(data, target.prior, target.proxy)
        arguments = Arguments.by_rule(groups_by_depths(data, plain_frame(reference.latents)), data, RULES[0])
        x = flat_values(reference, target.prior, target.proxy, data)
        points = x + scale * np.random.default_rng(0).normal(size=(60, len(x)))
        return evaluator, points, arguments, scale**2 * np.eye(len(x))

    with Evaluator(target) as evaluator:
        yield lambda data, scale: build(evaluator, data, scale)


def left(evaluator, points, arguments):
    """Standard deviation of the error of all tasks together."""
    return quadrature_errors(evaluator, points, arguments).sum(axis=1).std()


def test_the_rule_is_as_fine_as_the_tasks_need(make, around):
    """Six tasks, then sixty that differ much, of many runs at three depths."""
    _, data, _ = make.simulated(tasks=6)
    evaluator, points, arguments, covariance = around(data, 0.1)
    finer = arguments.with_rule((11, 21, 21))
    assert np.abs(quadrature_errors(evaluator, points[:8], finer)).max() < 1e-2
    found, rule = fine_enough(evaluator, points, arguments, covariance, RULES)
    assert rule == RULES[0] and left(evaluator, points, found) <= FINE_ENOUGH
    _, data, _ = make.simulated(tasks=60, nu=200.0, depths=3, tau=np.array([1.5, 3.5, 1.0]), misfit=np.array(0.03))
    evaluator, points, arguments, covariance = around(data, 0.5)
    found, rule = fine_enough(evaluator, points, arguments, covariance, RULES)
    assert rule not in RULES[:2] and left(evaluator, points, found) <= FINE_ENOUGH


def chosen(off, number=60, log_density=lambda points: -0.5 * np.sum(points**2, axis=1)):
    """What is chosen for one task with a density of four dimensions, of which the coarsest rule alone is off."""

    class Evaluated:
        def densities(self, points, arguments):
            coarsest = len(arguments.blocks[0].at) == 16
            by_task = off(points) if coarsest else np.zeros(len(points))
            return Density(log_density(points), by_task[:, None])

    points = np.clip(np.random.default_rng(0).normal(size=(number, 4)), -2.5, 2.5)
    arguments = Arguments((), SimpleNamespace(kind=np.ones((1, 1))), quadrature(RULES[0]))
    return fine_enough(Evaluated(), points, arguments, np.eye(4), RULES)


def too_low(points):
    """By nats, where there are no draws."""
    return np.where(points[:, 1] < -2.6, -4.0, 0.0)


def test_an_error_that_no_draw_shows_is_found_far_out():
    """Wherever there are draws the coarsest rule is right; farther out along one hyperparameter it is nats too low."""

    def long_tail(points):
        return -0.5 * np.sum(np.where(points < -2.0, 2.0, points) ** 2, axis=1)

    assert chosen(too_low, log_density=long_tail)[1] == RULES[1]


def test_an_error_where_there_is_next_to_no_density_is_none():
    """Unless the rule sees a density there."""

    def narrow(points):
        return -0.75 * np.sum(points**2, axis=1)

    assert chosen(too_low, log_density=narrow)[1] == RULES[0]
    assert chosen(lambda points: -too_low(points), log_density=narrow)[1] == RULES[1]


def test_an_error_of_second_degree_takes_more_draws():
    def off(points):
        return points[:, 0] ** 2 - points[:, 1] * points[:, 2]

    assert chosen(off, 20)[1] == RULES[1]
    found, rule = chosen(off, 60)
    x = np.random.default_rng(1).normal(size=(9, 4))
    assert rule == RULES[0]
    np.testing.assert_allclose(found.correction.off(x)[:, 0], off(x), atol=1e-4)


def test_what_is_linear_of_the_error_is_taken_off(make, around, monkeypatch):
    """Of sixty tasks, by the coarsest rule: judged at other points, and bounded far from them."""
    monkeypatch.setattr(precision, "FAR_ENOUGH", np.inf)
    _, data, _ = make.simulated(tasks=60, nu=7.0)
    evaluator, points, arguments, covariance = around(data, 0.1)
    found, rule = fine_enough(evaluator, points[:45], arguments, covariance, RULES[:1], enough=0.0)
    assert found.correction is None and rule == RULES[0]
    raw = left(evaluator, points[45:], arguments)
    found, rule = fine_enough(evaluator, points[:45], arguments, covariance, RULES[:1], enough=0.5 * raw)
    assert rule == RULES[0] and left(evaluator, points[45:], found) < 0.6 * raw
    errors = quadrature_errors(evaluator, points[45:], found)
    assert np.abs(errors.mean(axis=0)).max() < np.abs(quadrature_errors(evaluator, points[45:], arguments)).max()
    size = len(covariance)
    far = np.stack([found.correction.mean + own * np.eye(size)[0] for own in (0.5, 50.0)])
    np.testing.assert_allclose(*found.correction.off(far), rtol=1e-5)
    values, _ = evaluator.gradients(points[:2], found)
    np.testing.assert_allclose(values, evaluator.densities(points[:2], found).total, rtol=1e-5)


def test_some_of_many_tasks_tell_what_all_are_off_by(make, around, monkeypatch):
    """A third of sixty tasks tells most of the error of all; where tasks differ, what they leave open is error."""
    monkeypatch.setattr(precision, "FAR_ENOUGH", np.inf)
    monkeypatch.setattr(precision, "JUDGED", 20)
    _, data, _ = make.simulated(tasks=60, nu=7.0)
    evaluator, points, arguments, covariance = around(data, 0.1)
    raw = left(evaluator, points[45:], arguments)
    found, rule = fine_enough(evaluator, points[:45], arguments, covariance, RULES[:1], enough=0.9 * raw)
    assert rule == RULES[0] and found.correction.error.shape == (1 + len(covariance), 60)
    assert left(evaluator, points[45:], found) < 0.9 * raw
    judge = precision.Judge(evaluator, points[:45], arguments, covariance)
    monkeypatch.setattr(precision, "JUDGED", 60)
    of_all = precision.Judge(evaluator, points[:45], arguments, covariance)
    assert judge.error(RULES[0], 1)[1] > 1.2 * of_all.error(RULES[0], 1)[1]


def test_the_finest_rule_is_never_left_out():
    assert [next_rule(rule) for rule in RULES] == [1, 2, 3, 4, 4]
    assert all(RULES[next_rule(rule) :] for rule in RULES)
