"""What a spread drifts from its law, the task's own estimates tell at other depths too."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayes_prehoc import theory
from bayes_prehoc.hierarchy.data import model_data
from bayes_prehoc.hierarchy.likelihood import Shared, errors_of
from bayes_prehoc.hierarchy.predict import drawn_estimates, drawn_risk

DRAWS = 4000
LATENTS = tuple(jnp.full((1, DRAWS), value) for value in (-6.0, -1.0, -1.0))
LAW = theory.envelope


def shared(**changes):
    values = {"onset": 0.02, "misfit": 1e-3, "dependence": 0.8, "drift": 1.0, "lasting": 0.9} | changes
    return Shared(**{name: jnp.full((1, DRAWS), value) for name, value in values.items()})


def law_at(depth):
    floor = 1.0 / (1.0 + np.e)
    return np.log(np.asarray(LAW(np.asarray(depth), floor, 1.0 - floor, 0.2, 4.0 * floor, 0.02))) - 6.0


def seen(make, off, nu=4000.0):
    """Estimates of one task, so far off the law at depths (D,), a mapping from depth to difference."""
    _, data, _ = make.simulated(tasks=1, depths=len(off))
    depth = jnp.asarray(list(off))[:, None]
    log_risk = jnp.asarray(law_at(depth[:, 0]) + np.array(list(off.values())))[:, None]
    return data._replace(depth=depth, log_risk=log_risk, dof=jnp.full(depth.shape, nu))


def drawn(data, depth, **changes):
    depth = jnp.asarray(depth)[:, None]
    found = drawn_risk(jax.random.key(0), LATENTS, shared(**changes), data, depth, "run_to_run")
    return found - law_at(depth[:, 0])[:, None]


@pytest.mark.usefixtures("float64")
def test_drift_is_where_many_runs_saw_it(make):
    """A walk between what was seen: there with hardly an error, in between on the line in log depth, 0 at the end."""
    data = seen(make, {0.05: 1.5, 0.2: -0.8})
    off = drawn(data, [0.05, 0.1, 0.2, 1.0])
    np.testing.assert_allclose(off.mean(axis=1), [1.5, 0.35, -0.8, 0.0], atol=0.05)
    # A Brownian bridge, in between with the variance log(2) / 2; standard deviations are right to a tenth.
    np.testing.assert_allclose(off.std(axis=1), [0.0, np.sqrt(np.log(2.0) / 2.0), 0.0, 0.0], atol=0.1)


@pytest.mark.usefixtures("float64")
def test_drift_beyond_the_horizon_is_not_known(make):
    off = drawn(seen(make, {0.05: 1.5, 0.2: -0.8}), [1.0, 2.0, 8.0])
    np.testing.assert_allclose(off.mean(axis=1), 0.0, atol=0.08)
    np.testing.assert_allclose(off.std(axis=1), np.sqrt(np.log([1.0, 2.0, 8.0])), rtol=0.1, atol=1e-6)


@pytest.mark.usefixtures("float64")
def test_few_runs_tell_little_of_the_drift(make):
    """Half of the score's variance is drift: given the score s, it is normal with mean s / sqrt(2) and variance 1/2."""
    depth = np.exp(-1.0)
    walk = np.sqrt(2.0 / 2.0 + 4.0 / 2.0**2)
    off = drawn(seen(make, {depth: 1.0}, nu=2.0), [depth], drift=walk)[0]
    one = (jnp.full((1, 1), 2.0), jnp.full((1, 1), depth), Shared(0.02, 1e-3, 0.8, walk, 0.9))
    a, inverse, shift = (float(part[0, 0]) for part in errors_of(*one)[:3])
    score = stats.norm.ppf(stats.f(2 * a, 2 / inverse).cdf(np.exp(1.0 - shift)))
    given = score / np.sqrt(2.0) + np.sqrt(0.5) * stats.norm.ppf((np.arange(DRAWS) + 0.5) / DRAWS)
    # The drift alone: the symmetric F distribution of the logarithm's variance.
    shape = 0.5 * (1.0 + np.sqrt(1.0 + 2.0 * walk**2)) / (0.5 * walk**2)
    expected = np.log(stats.f(2 * shape, 2 * shape).ppf(stats.norm.cdf(given)))
    np.testing.assert_allclose([off.mean(), off.std()], [expected.mean(), expected.std()], atol=0.05)


@pytest.mark.usefixtures("float64")
def test_drift_is_the_conditional_of_the_joint_normal(make):
    """So small that logarithms are linear in scores: moments at many depths against one dense matrix."""
    off, nu, delta = {0.02: 0.1, 0.05: -0.05, 0.3: 0.12, 0.6: 0.02}, 800.0, 0.06
    depth = np.array([0.01, 0.02, 0.03, 0.1, 0.25, 0.3, 0.5, 0.9])
    found = drawn(seen(make, off, nu), depth, drift=delta, misfit=0.03)

    at, there = np.log(list(off)), np.log(depth)
    walk = lambda one, other: delta**2 * np.minimum(-one[:, None], -other[None, :])  # noqa: E731
    sampling = (2.0 / nu) * (0.9 * np.exp(-2.0 * np.abs(at[:, None] - at[None, :]) / 0.8) + 0.1 * np.eye(len(at)))
    of_values = walk(at, at) + sampling + 0.03**2 * np.eye(len(at))
    gain = np.linalg.solve(of_values, walk(at, there)).T
    mean = gain @ np.array(list(off.values()))
    covariance = walk(there, there) - gain @ walk(at, there)
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(found.mean(axis=1), mean, atol=4.0 * sd.max() / np.sqrt(DRAWS) + 0.003)
    np.testing.assert_allclose(found.std(axis=1), sd, rtol=0.06)
    np.testing.assert_allclose(np.corrcoef(found), covariance / np.outer(sd, sd), atol=0.06)


@pytest.mark.usefixtures("float64")
def test_new_runs_scatter_around_the_risk(make):
    off, depth = {0.05: 1.5, 0.2: -0.8}, np.array([[0.1], [1.0]])
    data, noise = seen(make, off), jnp.zeros((1, DRAWS))
    made = drawn_estimates(jax.random.key(1), LATENTS, shared(), noise, data, depth, 20.0, "run_to_run")

    def margin(nu, at):
        """An F distribution, moved; with the drift's loading."""
        parts = errors_of(nu, np.asarray(at), Shared(0.02, 1e-3, 0.8, 1.0, 0.9))
        a, inverse, shift, _, loading, _ = (np.asarray(part)[..., None] for part in parts)
        return stats.f(2 * a, 2 / inverse), shift, loading

    # Many runs saw the walk at two depths; half way between it is a bridge. Scores are it, loaded, and the rest.
    law, shift, _ = margin(4000.0, list(off))
    known = stats.norm.ppf(law.cdf(np.exp(np.array(list(off.values()))[:, None] - shift)))[:, 0]
    mean = np.array([(known * np.sqrt(-np.log(list(off)))).mean() / np.sqrt(np.log(10.0)), 0.0])[:, None]
    left = np.array([0.5 * np.log(2.0) / np.log(10.0), 0.0])[:, None]
    law, shift, loading = margin(20.0, depth[:, 0])
    normal = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    score = loading * mean + np.sqrt(1.0 - loading**2 * (1.0 - left)) * normal
    expected = np.log(law.ppf(stats.norm.cdf(score))) + shift + law_at(depth[:, 0])[:, None]
    np.testing.assert_allclose(made.mean(axis=1), expected.mean(axis=1), atol=0.05)
    np.testing.assert_allclose(made.std(axis=1), expected.std(axis=1), rtol=0.05)


def test_forecasts_go_on_from_what_was_seen(fitted):
    """Of a task that lies three times above its curve at the last depths, and not at the horizon."""
    posterior, _ = fitted
    task = posterior.estimates.tasks[0]
    before = np.median(posterior.predict_risk("t0", [200.0, 400.0]), axis=0)
    late = np.where(task.depths > 100.0, 3.0, 1.0)
    raised = dataclasses.replace(task, risk=task.risk * late)
    tasks = (raised, *posterior.estimates.tasks[1:])
    moved = dataclasses.replace(posterior, estimates=dataclasses.replace(posterior.estimates, tasks=tasks))
    after = np.median(moved.predict_risk("t0", [200.0, 400.0]), axis=0)
    assert after[0] > 1.02 * before[0] and after[1] == pytest.approx(before[1])
    assert model_data(moved.estimates).log_risk.shape == (8, 6)


def test_a_curve_with_its_drift_is_what_is_predicted(fitted):
    posterior, _ = fitted
    curve, law = posterior.drifted_curve("t1"), posterior.curve("t1")
    drift = curve.drift
    assert law.drift is None
    np.testing.assert_array_equal(curve.reducible, law.reducible)
    assert drift.log_ratio.shape == (len(law.l_int), len(drift.depths)) and np.all(np.diff(drift.depths) > 0.0)
    task = posterior.estimates["t1"]
    assert np.isin(task.depths, drift.depths).all() and drift.depths[-1] == task.horizon
    np.testing.assert_array_equal(drift.log_ratio[:, -1], 0.0)
    # The same walk, from another seed: logarithms agree in mean and deviation.
    predicted = np.log(posterior.predict_risk("t1", drift.depths, seed=5))
    plain = [law.l_int[:, None], law.reducible[:, None], law.reference, law.alpha[:, None], law.onset[:, None]]
    off = predicted - np.log(theory.envelope(drift.depths, *plain))
    np.testing.assert_allclose(drift.log_ratio.mean(axis=0), off.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(drift.log_ratio.std(axis=0), off.std(axis=0), atol=0.02)
    np.testing.assert_array_equal(posterior.drifted_curve("t1").drift.log_ratio, drift.log_ratio)
    assert not np.array_equal(posterior.drifted_curve("t2").drift.log_ratio, drift.log_ratio)
