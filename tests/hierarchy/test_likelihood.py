"""Margins against scipy's gamma and F distributions, their scores, and a task's likelihood by parts, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from bayes_prehoc import theory
from bayes_prehoc.hierarchy import likelihood
from bayes_prehoc.hierarchy.likelihood import Errors, Shared
from bayes_prehoc.hierarchy.model import task_log_likelihood

NO_MISFIT = 1e-20
SHAPES = [(a, b) for a in (0.5, 1.0, 3.3, 7.9, 40.0, 750.0) for b in (0.3, 1.0, 3.0, 9.0, 100.0, 1e5, np.inf)]
LEVELS = np.array([1e-6, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0 - 1e-6])


def margin(a, b, dtype=np.float64):
    """Errors of these shapes, and scipy's distribution of an estimate over its curve."""
    inverse = np.maximum(1.0 / b, NO_MISFIT)
    known = stats.gamma(a, scale=1.0 / a) if b == np.inf else stats.f(2.0 * a, 2.0 * b)
    return Errors(jnp.asarray(a, dtype), jnp.asarray(inverse, dtype), 0.0, 1.0, 0.0, 0.0), known


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_margin_is_the_f_density(a, b):
    errors, known = margin(a, b)
    mean = 0.013
    ratio = known.ppf(LEVELS)
    log_value = jnp.log(mean * ratio)
    got = likelihood.log_density(log_value, likelihood.deviation(log_value, jnp.log(mean), errors), errors)
    # Stirling's series, used from 8 on, is off by less than 1e-9 there; scipy's own sum loses digits with the shapes.
    lost = 1e-14 * (a + min(b, 1e8))
    np.testing.assert_allclose(got, known.logpdf(ratio) - np.log(mean), rtol=1e-8, atol=1e-8 + lost)


@pytest.mark.parametrize("b", [np.inf, 1e4, 25.0, 1.0])
def test_margin_keeps_its_digits_in_float32_with_many_seeds(b):
    errors, known = margin(750.0, b, np.float32)
    ratio = known.ppf(np.linspace(0.01, 0.99, 33))
    off = likelihood.deviation(jnp.float32(np.log(ratio)), jnp.float32(0.0), errors)
    got = np.asarray(likelihood.log_density(jnp.float32(np.log(ratio)), off, errors))
    np.testing.assert_allclose(got, known.logpdf(ratio), atol=2e-4)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("dof", [2.0, 9.0, 1499.0])
@pytest.mark.parametrize(("misfit", "drift"), [(0.0, 0.0), (0.03, 0.01), (0.2, 0.3), (0.5, 2.0), (0.1, 5.0)])
def test_margin_has_the_moments_of_gamma_times_lognormal(dof, misfit, drift):
    """Of the logarithm: the mean exactly, the standard deviation to a tenth, and no more skewness than is there."""
    depth = jnp.array([0.05, 0.5, 1.0])
    errors = likelihood.errors_of(jnp.full(3, dof), depth, Shared(0.01, misfit, 0.8, drift))
    a, b, shift = np.asarray(errors.shape), 1.0 / np.asarray(errors.inverse_shape), np.asarray(errors.shift)
    factor, k = misfit**2 + drift**2 * -np.log(depth), 0.5 * dof
    of_a, of_b = ([np.asarray(special.polygamma(order, x)) for order in range(3)] for x in (a, b))
    mean = of_a[0] - np.log(a) - of_b[0] + np.log(b) + shift
    np.testing.assert_allclose(mean, special.digamma(k) - np.log(k), atol=1e-8)
    variance = special.polygamma(1, k) + factor
    np.testing.assert_allclose(of_a[1] + of_b[1], variance, rtol=0.2)
    skewness = (of_a[2] - of_b[2]) / (of_a[1] + of_b[1]) ** 1.5
    np.testing.assert_allclose(skewness, special.polygamma(2, k) / variance**1.5, atol=0.15)
    if not misfit:
        np.testing.assert_allclose([a[2], errors.inverse_shape[2], shift[2]], [k, 0.0, 0.0], rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_loadings_are_shares_of_the_variance():
    depth = jnp.array([0.05, 0.5, 1.0])
    errors = likelihood.errors_of(jnp.full(3, 4.0), depth, Shared(0.01, 0.3, 0.8, 0.7, 0.8))
    parts = np.array([np.full(3, 0.8 * 0.75), 0.49 * -np.log(depth), np.full(3, 0.09 + 0.2 * 0.75)])
    np.testing.assert_allclose(np.array(errors[3:]) ** 2, parts / parts.sum(axis=0), rtol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("a", "b", "within"),
    [(0.25, np.inf, 0.1), (0.5, np.inf, 0.04), (1.0, np.inf, 0.015), (5.0, np.inf, 0.002), (200.0, np.inf, 0.0002),
     (1.0, 0.3, 0.1), (1.0, 1.0, 0.03), (40.0, 1.0, 0.015), (3.0, 9.0, 0.003)],
)  # fmt: skip
def test_scores_are_normal_far_into_both_tails(a, b, within):
    errors, known = margin(a, b)
    levels = np.r_[1e-12, LEVELS]
    off = likelihood.deviation(jnp.log(known.ppf(levels)), 0.0, errors)
    np.testing.assert_allclose(likelihood.normal_scores(off, errors), stats.norm.ppf(levels), atol=within)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("b", [np.inf, 5.0, 0.4])
def test_deviations_are_smooth_where_the_series_ends(b):
    errors, _ = margin(2.0, b)
    z = likelihood.NEAR * np.array([-1.0, 1.0])[:, None] * (1.0 + 1e-9 * np.array([-1.0, 1.0]))
    for values in likelihood.deviation(jnp.asarray(z), 0.0, errors):
        np.testing.assert_allclose(values[:, 0], values[:, 1], rtol=1e-7)

    def score(z):
        return likelihood.normal_scores(likelihood.deviation(z, 0.0, errors), errors)

    slope = jax.vmap(jax.vmap(jax.grad(score)))(z)
    np.testing.assert_allclose(slope[:, 0], slope[:, 1], rtol=1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_a_tasks_likelihood_is_margins_times_copula(make, proxy):
    truth, data, _ = make.simulated(tasks=3, proxy=proxy, seed=4)
    onset, misfit, dependence, drift, lasting = (
        float(value) for value in (np.exp(truth.log_onset), truth.misfit, truth.dependence, truth.drift, truth.lasting)
    )
    latents = tuple(jnp.asarray(v) for v in (truth.level, truth.share, truth.rate))
    got = task_log_likelihood(latents, Shared(onset, misfit, dependence, drift, lasting), jnp.zeros(3), data, proxy)
    low, high = theory.alpha_bounds(proxy)
    for row in range(3):
        depth, log_risk = (np.asarray(a[:, row], float) for a in (data.depth, data.log_risk))
        u0, share = np.exp(truth.level[row]), 1 / (1 + np.exp(-truth.share[row]))
        alpha = low + (high - low) / (1 + np.exp(-truth.rate[row]))
        horizon = None if proxy == "run_to_run" else 1.0
        curve = np.asarray(theory.envelope(depth, share * u0, (1 - share) * u0, 0.2, alpha, onset, horizon), float)
        walk = drift**2 * -np.log(depth)
        sampling, factor = 1 / 30.0 + 1 / 30.0**2, misfit**2 + walk
        total = sampling + factor
        a, b = (
            0.5 * (1 + np.sqrt(1 + 4 * v)) / v
            for v in ((total + sampling**2 / total) / 2, (total - sampling**2 / total) / 2)
        )
        shift = special.digamma(30.0) - np.log(30.0)
        shift -= special.digamma(a) - np.log(a) - special.digamma(b) + np.log(b)
        ratio = np.exp(log_risk - shift) / curve
        margins = (stats.f.logpdf(ratio, 2 * a, 2 * b) - np.log(curve) - shift).sum()
        z, p, n = np.log(ratio), a / (a + b), a + b
        w = np.sign(z) * np.sqrt(2 * n * (np.log(1 - p + p * ratio) - p * z))
        v = n * p * np.sqrt((1 - p) / (n * p)) * (ratio - 1) / (1 - p + p * ratio)
        scores = w + np.log(v / w) / w
        if proxy == "run_to_run":
            of_sampling = np.exp(-2 * np.abs(np.log(depth[:, None] / depth)) / dependence)
        else:
            steps = np.abs(np.arange(8)[:, None] - np.arange(8))
            of_sampling = np.minimum(curve[:, None] / curve, curve / curve[:, None]) * dependence**steps
        parts = lasting * sampling * of_sampling + np.minimum(walk[:, None], walk)
        parts += (misfit**2 + (1 - lasting) * sampling) * np.eye(8)
        correlation = parts / np.sqrt(np.outer(total, total))
        copula = stats.multivariate_normal.logpdf(scores, cov=correlation) - stats.norm.logpdf(scores).sum()
        np.testing.assert_allclose(got[row], margins + copula, rtol=1e-6)


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
    shared = Shared(0.02, 0.1, *(float(v) for v in (truth.dependence, truth.drift, truth.lasting)))
    others = (shared, jnp.array([0.0, 1e-3, 0.0]), data, proxy)
    together = task_log_likelihood(tuple(points), *others)
    for column in range(4):
        alone = task_log_likelihood(tuple(v[:, column] for v in points), *others)
        np.testing.assert_allclose(together[:, column], alone, rtol=1e-12)


@pytest.mark.parametrize("b", [np.inf, 1.0])
@pytest.mark.parametrize("log_mean", [-500.0, 500.0])
def test_an_impossible_estimate_has_a_finite_gradient(b, log_mean):
    errors, _ = margin(3.0, b, np.float32)

    def density(log_mean):
        off = likelihood.deviation(0.0, log_mean, errors)
        return likelihood.log_density(0.0, off, errors) + likelihood.normal_scores(off, errors)

    assert np.isfinite(jax.value_and_grad(density)(log_mean)).all()


def test_next_to_no_misfit_has_a_finite_gradient(make):
    truth, data, _ = make.simulated(tasks=3)
    latents = tuple(jnp.asarray(v[:, None], jnp.float32) for v in (truth.level, truth.share, truth.rate))

    def total(misfit):
        shared = Shared(jnp.float32(0.02), misfit, jnp.float32(0.8), 0.1 * misfit, jnp.float32(0.9))
        return task_log_likelihood(latents, shared, jnp.zeros(3), data, "run_to_run").sum()

    values, slopes = jax.vmap(jax.value_and_grad(total))(jnp.float32([1e-12, 1e-9, 1e-6, 1e-3]))
    assert np.isfinite(values).all() and np.isfinite(slopes).all()
    np.testing.assert_allclose(values[:3], values[0], rtol=1e-5)
