"""The density that samplers see, against NumPyro's and where nothing should be."""

import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from jax.flatten_util import ravel_pytree
from numpyro.infer.util import potential_energy, unconstrain_fn
from scipy import special, stats

from bayes_prehoc.hierarchy.collapsed import (
    RULES,
    groups_by_depths,
    joined,
    log_marginals,
    plain_frame,
    sampled_priors,
)
from bayes_prehoc.hierarchy.evaluator import Evaluator
from bayes_prehoc.hierarchy.explore import wide_mixture
from bayes_prehoc.hierarchy.mixture import draw
from bayes_prehoc.hierarchy.model import LATENTS, MOST_MISFIT, hyperparameters, weak_prior
from bayes_prehoc.hierarchy.start import find_reference
from bayes_prehoc.hierarchy.target import (
    Arguments,
    Target,
    _by_site,
    flat_values,
    gradients,
    posterior_sites,
    values_at,
)


def problem(make, proxy="run_to_run", **settings):
    """A target, what it is evaluated on, the truth, and x at the reference."""
    noise = (np.full(6, 4e-4), np.full(6, 8e-5)) if proxy == "conditional" else None
    truth, data, _ = make.simulated(proxy=proxy, noise=noise, **settings)
    target = Target(weak_prior(proxy), proxy, noise is not None)
    reference = find_reference(data, target.prior, proxy)
    arguments = Arguments.by_rule(groups_by_depths(data, plain_frame(reference.latents)), data, RULES[0])
    return target, arguments, truth, flat_values(reference, target.prior, proxy, data)


def collapsed_model(groups, data, nodes, prior, proxy, with_noise):
    """The whole as one NumPyro model."""
    population, noise = sampled_priors(data, prior, proxy, with_noise)
    for group in groups:
        numpyro.factor("estimates", log_marginals(population, group, noise[group.rows], proxy, nodes).sum())


def totals(target, points, arguments, together=False):
    with Evaluator(target, batched=together) as evaluator:
        return evaluator.densities(points, arguments).total


@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_density_is_that_of_the_model(make, proxy):
    correlated = np.linalg.cholesky(np.array([[1, 0.5, -0.3], [0.5, 1, 0.2], [-0.3, 0.2, 1]]))
    target, arguments, truth, _ = problem(make, proxy, corr_chol=correlated)
    model_arguments = (
        arguments.groups,
        arguments.data,
        joined(arguments.blocks),
        target.prior,
        proxy,
        target.with_noise,
    )
    sites = {name: jnp.asarray(getattr(truth, name), jnp.float32) for name in hyperparameters(proxy)}
    if target.with_noise:
        sites["noise_white"] = jnp.zeros(6)
    free = unconstrain_fn(collapsed_model, model_arguments, {}, sites)
    x, volume = whitened(target, truth, free)
    point = target.points(x[None], arguments.data)[0]
    expected = float(potential_energy(collapsed_model, model_arguments, {}, free)) - volume
    assert float(target.density(point, arguments).total) == pytest.approx(-expected, abs=1e-3)
    points = np.stack([point, point + 0.1, point])
    for together in (False, True):
        found = totals(target, points, arguments, together)
        np.testing.assert_allclose(found[[0, 2]], -expected, atol=1e-3)
    keys = jax.random.split(jax.random.key(0), 3)
    values = values_at(target, points, arguments.data)
    found = posterior_sites(target, keys, values, len(points), arguments.groups, together=1)
    for name in hyperparameters(proxy):
        np.testing.assert_allclose(found[name][2], sites[name], rtol=1e-4, atol=1e-5)
    assert all(found[name].shape == (3, 6) for name in (*LATENTS, "effective")) and found["white"].shape == (3, 6, 3)
    assert ("noise" in found) == target.with_noise


def whitened(target, truth, free):
    """x at the truth, and the log volume of NumPyro's unconstrained values over it, by SciPy and by differences."""
    scales = np.array([*target.prior.tau, target.prior.misfit])
    value = np.array([*truth.tau, truth.misfit], float)
    held = np.array([1, 1, 1, stats.halfnorm.cdf(MOST_MISFIT, scale=target.prior.misfit)])
    white = stats.norm.ppf(stats.halfnorm.cdf(value, scale=scales) / held)
    # NumPyro's are log tau and logit misfit.
    slope = stats.norm.pdf(white) / (stats.halfnorm.pdf(value, scale=scales) / held)
    volume = np.sum(np.log(slope / value)) - np.log1p(-value[3] / MOST_MISFIT)
    parts = dict(free) | {"tau": white[:3], "misfit": white[3]}

    def slope_of(function, y, step=1e-5):
        return (function(y + step) - function(y - step)) / (2 * step)

    width = np.sqrt(2 * np.array([2.5, 2.5, 2.0]))
    parts["corr_chol"] = width * special.erfinv(np.tanh(np.asarray(free["corr_chol"], float)))
    volume += np.log(slope_of(lambda y: np.arctanh(special.erf(y / width)), parts["corr_chol"])).sum()
    if target.proxy == "run_to_run":
        prior = stats.expon(scale=target.prior.drift)
        parts["drift"] = stats.norm.ppf(prior.cdf(float(truth.drift)))
        volume += np.log(slope_of(lambda y: np.log(prior.isf(stats.norm.sf(y))), parts["drift"]))
        prior = stats.beta(target.prior.lasting, 1.0)
        parts["lasting"] = stats.norm.ppf(prior.cdf(float(truth.lasting)))
        volume += np.log(slope_of(lambda y: special.logit(prior.ppf(stats.norm.cdf(y))), parts["lasting"]))
    else:
        prior = stats.beta(*target.prior.kappa)
        parts["dependence"] = stats.norm.ppf(prior.cdf(float(truth.dependence)))
        volume += np.log(slope_of(lambda y: special.logit(prior.ppf(stats.norm.cdf(y))), parts["dependence"]))
    whole = {name: jnp.asarray(parts[name], jnp.float32) for name in hyperparameters(target.proxy)}
    return np.asarray(ravel_pytree(whole)[0]), volume


@pytest.mark.parametrize("proxy", ["run_to_run", "conditional", "branching"])
def test_volume_is_that_of_the_change_of_variables(make, proxy):
    """Each value follows from one coordinate, out to where single precision ends: a misfit is its bound from 8 on."""
    target, arguments, _, x = problem(make, proxy)

    def sites(own):
        values, volume = _by_site(own, arguments.data, target.prior, proxy)
        return ravel_pytree(values)[0], volume

    slope_and_volume = jax.jit(jax.jacfwd(sites, has_aux=True))
    for scale in (0.1, 1.0, 3.0):
        for own in np.clip(scale * np.random.default_rng(1).normal(size=(20, len(x))), -7.0, 7.0):
            slope, volume = slope_and_volume(own.astype(np.float32))
            sign, expected = np.linalg.slogdet(np.asarray(slope, float))
            assert abs(sign) == 1.0 and float(volume) == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_gradient_is_the_slope(make, proxy):
    target, arguments, _, x = problem(make, proxy)
    point = target.points(x[None], arguments.data)[0]
    value, slope = (part[0] for part in gradients(target, point[None], arguments))
    direction = np.random.default_rng(0).normal(size=len(point)).astype(np.float32)
    step = 1e-2 * direction
    ends = totals(target, np.stack([point - step, point, point + step]), arguments)
    assert float(value) == pytest.approx(float(ends[1]), abs=1e-3)
    assert float(slope @ step) == pytest.approx(float(ends[2] - ends[0]) / 2, rel=0.02, abs=2e-3)


def test_models_are_traced_in_several_threads(make):
    """Fits at the same time: NumPyro's handlers are one stack for all threads."""
    target, arguments, _, x = problem(make)
    start = threading.Barrier(4)

    def trace(_):
        start.wait()
        # A function of its own, so that JAX traces it in every thread.
        return jax.eval_shape(lambda x: target.density(x, arguments).total, x)

    with ThreadPoolExecutor(4) as pool:
        assert [traced.shape for traced in pool.map(trace, range(4))] == [()] * 4


@pytest.mark.parametrize("nu", [2.0, 60.0, 1500.0])
def test_no_density_lies_far_from_the_data(make, nu):
    """With a misfit without bound the likelihood grew for ever, and a chain that got there stayed."""
    target, arguments, _, x = problem(make, nu=nu, tasks=20)
    here = float(totals(target, x[None], arguments)[0])
    for scale in (2.0, 6.0):
        far = draw(np.random.default_rng(2), wide_mixture(x, scale), 3000)
        found = totals(target, far, arguments)
        assert np.isfinite(found).any() and np.nanmax(found) < here
