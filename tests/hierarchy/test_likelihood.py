"""The likelihood against scipy's gamma, and its copula against a dense multivariate normal, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayes_prehoc import theory
from bayes_prehoc.hierarchy import likelihood
from bayes_prehoc.hierarchy.model import task_log_likelihood

SHAPES = (0.5, 1.0, 3.3, 7.9, 8.1, 40.0, 1e3, 1e6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("k", SHAPES)
def test_margin_is_the_gamma_density(k):
    mean = 0.013
    values = mean * stats.gamma.ppf([1e-6, 0.01, 0.3, 0.5, 0.9, 0.999], k) / k
    expected = stats.gamma.logpdf(values, k, scale=mean / k)
    off = likelihood.deviation(jnp.log(values), jnp.log(mean))
    got = likelihood.gamma_log_density(jnp.log(values), off, k)
    # Stirling's series, used from k = 8 on, is off by less than 1e-9 there; scipy's own sum loses digits with k.
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-8 + 1e-14 * k)


def test_margin_keeps_its_digits_in_float32_with_many_seeds():
    k = 750.0
    values = stats.gamma.ppf(np.linspace(0.01, 0.99, 33), k) / k
    off = likelihood.deviation(jnp.float32(np.log(values)), jnp.float32(0.0))
    got = np.asarray(likelihood.gamma_log_density(jnp.float32(np.log(values)), off, jnp.float32(k)))
    np.testing.assert_allclose(got, stats.gamma.logpdf(values, k, scale=1 / k), atol=2e-4)


@pytest.mark.usefixtures("float64")
def test_misfit_adds_to_the_variance():
    shape = likelihood.effective_shape(jnp.array([4.0, 100.0]), 0.3)
    np.testing.assert_allclose(1.0 / np.asarray(shape), [2 / 4 + 0.09, 2 / 100 + 0.09])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("k", "within"), [(0.25, 0.1), (0.5, 0.04), (1.0, 0.015), (5.0, 0.002), (200.0, 0.0002)])
def test_scores_are_normal_far_into_both_tails(k, within):
    levels = np.array([1e-12, 1e-6, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0 - 1e-6])
    off = likelihood.deviation(jnp.log(stats.gamma.ppf(levels, k) / k), 0.0)
    np.testing.assert_allclose(likelihood.normal_scores(off, k), stats.norm.ppf(levels), atol=within)


@pytest.mark.usefixtures("float64")
def test_deviations_are_smooth_where_the_series_ends():
    z = likelihood.NEAR * np.array([-1.0, 1.0])[:, None] * (1.0 + 1e-9 * np.array([-1.0, 1.0]))
    for values in likelihood.deviation(jnp.asarray(z), 0.0):
        np.testing.assert_allclose(values[:, 0], values[:, 1], rtol=1e-7)
    slope = jax.vmap(jax.vmap(jax.grad(lambda z: likelihood.normal_scores(likelihood.deviation(z, 0.0), 2.0))))(z)
    np.testing.assert_allclose(slope[:, 0], slope[:, 1], rtol=1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("k", [0.4, 1.0, 4.0])
def test_the_density_of_two_depths_integrates_to_one(k):
    """As a copula must; for scores that are bounded below it does not."""
    levels = stats.norm.cdf(np.linspace(-8.0, 8.0, 401))
    log_value = np.log(stats.gamma.ppf(levels, k) / k)
    scores = likelihood.normal_scores(likelihood.deviation(jnp.asarray(log_value), 0.0), k)
    pairs = jnp.stack(jnp.meshgrid(scores, scores))
    density = np.exp(likelihood.copula_log_density(pairs, jnp.full((1, 1, 1), 0.99), jnp.ones(pairs.shape, bool)))
    weight = stats.norm.pdf(np.linspace(-8.0, 8.0, 401)) * 16.0 / 400.0
    assert weight @ density @ weight == pytest.approx(1.0, abs=0.02)


def dense_copula(scores, correlation):
    return stats.multivariate_normal.logpdf(scores, cov=correlation) - stats.norm.logpdf(scores).sum()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_copula_is_a_dense_normal_with_the_documented_correlation(proxy):
    rng = np.random.default_rng(0)
    depth = np.geomspace(0.02, 1.0, 6)
    risk = np.array([1.0, 0.9, 0.7, 0.45, 0.4, 0.2])
    if proxy == "run_to_run":
        dependence = 0.7
        correlation = np.exp(-2 * np.abs(np.log(depth[:, None] / depth)) / dependence)
    else:
        dependence = 0.93
        steps = np.abs(np.arange(6)[:, None] - np.arange(6))
        ratio = np.minimum(risk[:, None] / risk, risk / risk[:, None])
        correlation = ratio * dependence**steps
    scores = rng.normal(size=6)
    neighbour = likelihood.neighbour_correlation(jnp.asarray(depth), jnp.log(risk), dependence, jnp.ones(6), proxy)
    got = likelihood.copula_log_density(jnp.asarray(scores), neighbour, jnp.ones(6, bool))
    np.testing.assert_allclose(got, dense_copula(scores, correlation), rtol=1e-9)


@pytest.mark.usefixtures("float64")
def test_masked_depths_do_not_count():
    rng = np.random.default_rng(1)
    scores, neighbour = jnp.asarray(rng.normal(size=5)), jnp.asarray(rng.uniform(0.1, 0.9, 4))
    short = likelihood.copula_log_density(scores[:3], neighbour[:2], jnp.ones(3, bool))
    padded = likelihood.copula_log_density(scores, neighbour, jnp.array([True, True, True, False, False]))
    np.testing.assert_allclose(padded, short, rtol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_a_tasks_likelihood_is_margins_times_copula(make, proxy):
    truth, data, _ = make.simulated(tasks=3, proxy=proxy, seed=4)
    onset, misfit = np.exp(truth.log_onset), float(truth.misfit)
    latents = tuple(jnp.asarray(v) for v in (truth.level, truth.share, truth.rate))
    got = task_log_likelihood(latents, onset, misfit, truth.dependence, jnp.zeros(3), data, proxy)
    low, high = theory.alpha_bounds(proxy)
    for row in range(3):
        depth, log_risk = (np.asarray(a[:, row], float) for a in (data.depth, data.log_risk))
        u0, share = np.exp(truth.level[row]), 1 / (1 + np.exp(-truth.share[row]))
        alpha = low + (high - low) / (1 + np.exp(-truth.rate[row]))
        horizon = None if proxy == "run_to_run" else 1.0
        curve = np.asarray(theory.envelope(depth, share * u0, (1 - share) * u0, 0.2, alpha, onset, horizon), float)
        k = 1 / (2 / 60.0 + misfit**2)
        values = np.exp(log_risk)
        margins = stats.gamma.logpdf(values, k, scale=curve / k).sum()
        z = np.log(values / curve)
        w, v = np.sign(z) * np.sqrt(2 * k * (np.exp(z) - 1 - z)), np.sqrt(k) * (np.exp(z) - 1)
        scores = w + np.log(v / w) / w
        of_sampling = likelihood.neighbour_correlation(
            depth, np.log(curve), truth.dependence, np.ones(len(depth)), proxy
        )
        r = np.asarray(of_sampling) * (2 / 60.0) / (2 / 60.0 + misfit**2)
        powers = np.r_[0.0, np.cumsum(np.log(r))]
        correlation = np.exp(-np.abs(powers[:, None] - powers))
        np.testing.assert_allclose(got[row], margins + dense_copula(scores, correlation), rtol=1e-6)


@pytest.mark.usefixtures("float64")
def test_noise_of_the_outcome_set_adds_to_the_mean():
    arguments = (jnp.full(2, -6.0), jnp.full(2, -1.0), jnp.full(2, 0.3), 0.02)
    depth = jnp.array([[0.1] * 2, [0.5] * 2, [0.9] * 2])
    log_mean = likelihood.log_mean_curve(*arguments, jnp.array([0.0, 0.004]), depth, "conditional")
    np.testing.assert_allclose(np.exp(log_mean[:, 1]), np.exp(log_mean[:, 0]) + 0.004, rtol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_several_points_of_a_task_are_each_its_likelihood(make, proxy):
    truth, data, _ = make.simulated(tasks=3, proxy=proxy)
    rng = np.random.default_rng(0)
    points = [jnp.asarray(v[:, None] + rng.normal(size=(3, 4))) for v in (truth.level, truth.share, truth.rate)]
    shared = (0.02, 0.1, float(truth.dependence), jnp.array([0.0, 1e-3, 0.0]), data, proxy)
    together = task_log_likelihood(tuple(points), *shared)
    for column in range(4):
        alone = task_log_likelihood(tuple(v[:, column] for v in points), *shared)
        np.testing.assert_allclose(together[:, column], alone, rtol=1e-12)


def test_an_impossible_estimate_has_a_finite_gradient():
    def density(log_mean):
        return likelihood.gamma_log_density(0.0, likelihood.deviation(0.0, log_mean), 3.0)

    assert np.isfinite(jax.value_and_grad(density)(-500.0)).all()
