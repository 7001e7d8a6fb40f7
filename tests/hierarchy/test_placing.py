"""What is known before chains start: where the posterior lies, and where points of quadrature belong."""

import jax
import numpy as np
import pytest

from bayes_prehoc.hierarchy import placing
from bayes_prehoc.hierarchy.collapsed import RULES, groups_by_depths, plain_frame, quadrature
from bayes_prehoc.hierarchy.evaluator import Evaluator
from bayes_prehoc.hierarchy.mixture import draw
from bayes_prehoc.hierarchy.model import weak_prior
from bayes_prehoc.hierarchy.placing import FINE_ENOUGH, fine_enough, next_rule, quadrature_errors
from bayes_prehoc.hierarchy.start import find_reference
from bayes_prehoc.hierarchy.target import Arguments, Density, Target, flat_values


def test_points_are_put_where_the_latents_are(placed):
    """What was found is close to the posterior: many draws count, and latents are close to standard in the frame."""
    evaluator, _, (arguments, rule, found) = placed
    assert rule in RULES and found.effective > 300
    x = draw(np.random.default_rng(1), found.proposal, 100)
    sites = evaluator.sites(jax.random.key(2), x, arguments)
    group = arguments.groups[0]
    off = np.asarray(sites["white"]) - np.asarray(group.frame.center)
    standard = np.linalg.solve(np.asarray(group.frame.spread), off[..., None])[..., 0]
    assert np.abs(standard.mean(axis=0)).max() < 0.6 and 0.6 < standard.std(axis=0).mean() < 1.5


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


def test_an_error_that_no_draw_shows_is_found_far_out():
    """Wherever there are draws the coarsest rule is right; farther out along one hyperparameter it is nats too low."""

    class Evaluated:
        def densities(self, points, arguments):
            coarsest = len(arguments.blocks[0].at) == 16
            off = np.where(points[:, 1] < -2.6, -4.0, 0.0) if coarsest else np.zeros(len(points))
            return Density(np.zeros(len(points)), off[:, None])

    points = np.clip(np.random.default_rng(0).normal(size=(60, 4)), -2.5, 2.5)
    arguments = Arguments((), None, quadrature(RULES[0]))
    assert fine_enough(Evaluated(), points, arguments, np.eye(4), RULES)[1] == RULES[1]


def test_what_is_linear_of_the_error_is_taken_off(make, around, monkeypatch):
    """Of sixty tasks, by the coarsest rule: judged at other points, and bounded far from them."""
    monkeypatch.setattr(placing, "FAR_ENOUGH", np.inf)
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


def test_many_tasks_are_found_by_way_of_some(placed, monkeypatch):
    """With less effort, the same posterior: means within half a standard deviation."""
    evaluator, data, (_, _, found) = placed
    monkeypatch.setattr(placing, "MANY", 4)
    known = placing.Known(find_reference(data, evaluator.target.prior, evaluator.target.proxy))
    other = placing.place(jax.random.key(3), known, evaluator, data).found
    assert len(other.x) < len(found.x) and other.effective > 100
    means = [own.weight @ own.x for own in (found, other)]
    assert np.all(np.abs(means[0] - means[1]) < 0.5 * np.sqrt(np.diag(found.covariance())))


def test_the_finest_rule_is_never_left_out():
    assert [next_rule(rule) for rule in RULES] == [1, 2, 3, 4, 4]
    assert all(RULES[next_rule(rule) :] for rule in RULES)
