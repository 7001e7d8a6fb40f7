"""The density that samplers see, against NumPyro's and where nothing should be."""

import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpyro.infer.util import potential_energy, unconstrain_fn
from scipy import stats

from bayes_prehoc.hierarchy.collapsed import RULES, collapsed_model, groups_by_depths, plain_frame, quadrature
from bayes_prehoc.hierarchy.mixture import draw, mixture
from bayes_prehoc.hierarchy.model import HYPERPARAMETERS, LATENTS, MOST_MISFIT, weak_prior
from bayes_prehoc.hierarchy.start import find_reference
from bayes_prehoc.hierarchy.target import Arguments, Target, flat_values, gradient, log_densities, posterior_sites


def problem(make, proxy="run_to_run", **settings):
    """A target, what it is evaluated on, the truth, and x at the reference."""
    noise = (np.full(6, 4e-4), np.full(6, 8e-5)) if proxy == "conditional" else None
    truth, data, _ = make.simulated(proxy=proxy, noise=noise, **settings)
    target = Target(weak_prior(proxy), proxy, noise is not None)
    reference = find_reference(data, target.prior, proxy)
    arguments = Arguments.by_rule(groups_by_depths(data, plain_frame(reference.latents)), data, RULES[0])
    return target, arguments, truth, flat_values(reference, target.prior, proxy, data)


@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_energy_is_that_of_the_model(make, proxy):
    target, arguments, truth, _ = problem(make, proxy)
    model_arguments = (arguments.groups, arguments.data, quadrature(RULES[0]), target.prior, proxy, target.with_noise)
    sites = {name: jnp.asarray(getattr(truth, name), jnp.float32) for name in HYPERPARAMETERS}
    if target.with_noise:
        sites["noise_white"] = jnp.zeros(6)
    free = unconstrain_fn(collapsed_model, model_arguments, {}, sites)
    scales = np.array([*target.prior.tau, target.prior.misfit])
    value = np.array([*truth.tau, truth.misfit], float)
    held = stats.halfnorm.cdf(MOST_MISFIT, scale=target.prior.misfit)
    quantile = stats.halfnorm.cdf(value, scale=scales) / np.array([1, 1, 1, held])
    white = stats.norm.ppf(quantile)
    whitened = free | {"tau": jnp.asarray(white[:3], jnp.float32), "misfit": jnp.float32(white[3])}
    x = ravel_pytree({name: whitened[name] for name in HYPERPARAMETERS})[0]
    z = target.at(x, arguments.data)
    # Densities by volume of the values themselves: NumPyro's are by that of log tau and logit misfit.
    slope = stats.norm.pdf(white) / (stats.halfnorm.pdf(value, scale=scales) / np.array([1, 1, 1, held]))
    volume = np.sum(np.log(slope / value)) - np.log1p(-value[3] / MOST_MISFIT)
    expected = float(potential_energy(collapsed_model, model_arguments, {}, free)) - volume
    assert float(target.energy(z, arguments)) == pytest.approx(expected, abs=1e-3)
    assert float(log_densities(target, x[None], arguments)[0]) == pytest.approx(-expected, abs=1e-3)
    together = log_densities(target, jnp.stack([x, x + 0.1, x]), arguments, at_once=3)
    np.testing.assert_allclose(together[jnp.array([0, 2])], -expected, atol=1e-3)
    found = posterior_sites(target, jax.random.key(0), jnp.stack([x, x]), arguments)
    for name in HYPERPARAMETERS:
        np.testing.assert_allclose(found[name][1], sites[name], rtol=1e-4, atol=1e-5)
    assert all(found[name].shape == (2, 6) for name in (*LATENTS, "effective")) and found["white"].shape == (2, 6, 3)
    assert ("noise" in found) == target.with_noise


def test_gradient_is_the_slope(make):
    target, arguments, _, x = problem(make)
    value, slope = gradient(target, jnp.asarray(x), arguments)
    direction = np.random.default_rng(0).normal(size=len(x)).astype(np.float32)
    step = 1e-2 * direction
    ends = log_densities(target, jnp.stack([x - step, x, x + step]), arguments)
    assert float(value) == pytest.approx(float(ends[1]), abs=1e-3)
    assert float(slope @ step) == pytest.approx(float(ends[2] - ends[0]) / 2, rel=0.02, abs=2e-3)


def test_models_are_traced_in_several_threads(make):
    """Fits at the same time: NumPyro's handlers are one stack for all threads."""
    target, arguments, _, x = problem(make)
    start = threading.Barrier(4)

    def trace(_):
        start.wait()
        # A function of its own, so that JAX traces it in every thread.
        return jax.eval_shape(lambda x: target.energy(target.at(x, arguments.data), arguments), x)

    with ThreadPoolExecutor(4) as pool:
        assert [traced.shape for traced in pool.map(trace, range(4))] == [()] * 4


@pytest.mark.parametrize("nu", [2.0, 60.0, 1500.0])
def test_no_density_lies_far_from_the_data(make, nu):
    """With a misfit without bound the likelihood grew for ever, and a chain that got there stayed."""
    target, arguments, _, x = problem(make, nu=nu, tasks=20)
    here = float(gradient(target, jnp.asarray(x), arguments)[0])
    for scale in (2.0, 6.0):
        far = draw(jax.random.key(2), mixture(x[None], scale * np.eye(len(x))[None], np.ones(1)), 3000)
        found = np.asarray(log_densities(target, far, arguments))
        assert np.isfinite(found).any() and np.nanmax(found) < here
