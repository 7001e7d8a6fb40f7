"""Integrating a task's latents out, against brute force on a grid and against NUTS on all latents."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.diagnostics import effective_sample_size
from numpyro.infer import MCMC, NUTS
from scipy import stats
from scipy.special import logsumexp

from bayes_prehoc.hierarchy import collapsed
from bayes_prehoc.hierarchy.checks import GATE
from bayes_prehoc.hierarchy.collapsed import log_marginals
from bayes_prehoc.hierarchy.evaluator import Evaluator
from bayes_prehoc.hierarchy.inference import sample
from bayes_prehoc.hierarchy.model import (
    LATENTS,
    MOST_MISFIT,
    hierarchical_model,
    hyperparameters,
    population_of,
    shared_sites,
    task_log_likelihood,
)
from bayes_prehoc.hierarchy.model import weak_prior as prior_of
from bayes_prehoc.hierarchy.placing import Known, place
from bayes_prehoc.hierarchy.start import find_reference
from bayes_prehoc.hierarchy.target import Target, _white_half_normal

CORRELATED = np.linalg.cholesky([[1.0, 0.3, -0.2], [0.3, 1.0, 0.5], [-0.2, 0.5, 1.0]])


def population(truth):
    return population_of({name: jnp.asarray(getattr(truth, name)) for name in hyperparameters("run_to_run")})


def nodes_of(rule):
    return collapsed.joined(collapsed.quadrature(rule))


def latents_of(truth):
    return truth.level, truth.share, truth.rate


def whole(data, start):
    """All tasks as one group, the points of each around these latents."""
    return collapsed.Group(np.arange(len(start)), data, collapsed.plain_frame(jnp.asarray(start)))


def on_a_grid(shared, data, noise, proxy, task, reach=5.5, steps=61):
    """Log marginal likelihood, mean and covariance of a task's latents, by summing over z = mean + L u."""
    axis = np.linspace(-reach, reach, steps)
    u = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    mean, scale = np.stack(shared.mean(data), -1)[task], np.asarray(shared.scale)
    z = mean + u @ scale.T
    one = data._replace(**{name: getattr(data, name)[:, [task]] for name in ("depth", "log_risk", "dof", "mask")})
    points = tuple(jnp.asarray(z[None, :, i]) for i in range(3))
    log_likelihood = np.asarray(task_log_likelihood(points, shared.shared, noise[jnp.array([task])], one, proxy))[0]
    terms = stats.norm.logpdf(u).sum(-1) + log_likelihood + 3 * np.log(axis[1] - axis[0])
    total = logsumexp(terms)
    weight = np.exp(terms - total)
    center = weight @ z
    return total, center, (weight[:, None] * (z - center)).T @ (z - center)


@pytest.mark.usefixtures("float64")
def test_a_rule_integrates_polynomials_against_the_normal():
    nodes = nodes_of((3, 5, 5))
    at, weight = np.asarray(nodes.at, float), np.exp(np.asarray(nodes.log_weight, float))
    assert weight.sum() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose((weight[:, None] * at).sum(0), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.einsum("m,mi,mj->ij", weight, at, at), np.eye(3), atol=1e-5)
    assert weight @ (at[:, 1] ** 4 * at[:, 0] ** 2) == pytest.approx(3.0, rel=1e-4)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_marginal_likelihood_is_the_integral(make, proxy, monkeypatch):
    """In double precision; the grid's own error is far below. Nodes of little weight are kept: the tails count here."""
    monkeypatch.setattr(collapsed, "LEAST_WEIGHT", 40.0)
    truth, data, _ = make.simulated(tasks=4, proxy=proxy, nu=12.0, corr_chol=CORRELATED)
    shared, noise = population(truth), jnp.array([0.0, 2e-4, 0.0, 1e-3])
    start = np.stack(latents_of(truth), -1)
    group = whole(data, start)
    exact = [on_a_grid(shared, data, noise, proxy, task)[0] for task in range(4)]
    for rule, error in (((11, 21, 21), 2e-4), ((7, 11, 11), 5e-3), ((3, 5, 5), 0.1)):
        found = collapsed.log_marginals(shared, group, noise, proxy, nodes_of(rule))
        np.testing.assert_allclose(found, exact, atol=error)
    # Points put in the wrong place give the same integral, only less exactly.
    moved = group.frame._replace(
        start=group.frame.start + 0.3, center=jnp.full((4, 3), 0.4), spread=1.2 * group.frame.spread
    )
    found = collapsed.log_marginals(shared, group._replace(frame=moved), noise, proxy, nodes_of((11, 21, 21)))
    np.testing.assert_allclose(found, exact, atol=2e-2)


@pytest.mark.usefixtures("float64")
def test_latents_are_drawn_from_their_conditional_posterior(make):
    truth, data, _ = make.simulated(tasks=3, nu=12.0, corr_chol=CORRELATED)
    shared, noise = population(truth), jnp.zeros(3)
    group = whole(data, np.stack(latents_of(truth), -1))
    keys = jax.random.split(jax.random.key(5), 4000)
    draw = jax.jit(jax.vmap(lambda key: collapsed.draw_latents(key, shared, group, noise, "run_to_run")))
    _, latents, effective = (np.asarray(a) for a in draw(keys))
    assert np.median(effective, axis=0).min() > 30
    for task in range(3):
        _, center, covariance = on_a_grid(shared, data, noise, "run_to_run", task)
        sd = np.sqrt(np.diag(covariance))
        np.testing.assert_allclose((latents[:, task].mean(0) - center) / sd, 0.0, atol=4.5 / np.sqrt(len(keys)))
        np.testing.assert_allclose(
            np.cov(latents[:, task].T) / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=0.1
        )


def test_a_fitted_frame_has_the_moments_of_the_draws():
    rng = np.random.default_rng(0)
    factor = np.array([[0.8, 0, 0], [0.3, 1.1, 0], [-0.2, 0.4, 0.6]])
    white = np.array([1.0, -2.0, 0.5]) + rng.normal(size=(4000, 2, 3)) @ factor.T
    frame = collapsed.fitted_frame(jnp.zeros((2, 3)), white)
    np.testing.assert_allclose(frame.center, np.tile([1.0, -2.0, 0.5], (2, 1)), atol=0.08)
    np.testing.assert_allclose(frame.spread, np.tile(factor, (2, 1, 1)), atol=0.05)


def test_groups_leave_the_marginals_as_they_are(make, monkeypatch):
    """Tasks with three, five and eight depths, once padded to eight and once in groups."""
    monkeypatch.setattr(collapsed, "GROUP_COST", 10)
    truth, data, _ = make.simulated(tasks=12)
    used = np.array([3, 8, 5] * 4)
    mask = jnp.asarray(np.arange(8)[:, None] < used)
    data = data._replace(mask=mask)
    start = np.stack(latents_of(truth), -1).astype(np.float32)
    shared, nodes = population(truth), nodes_of((3, 5, 5))
    padded = collapsed.log_marginals(shared, whole(data, start), jnp.zeros(12), "run_to_run", nodes)
    groups = collapsed.groups_by_depths(data, collapsed.plain_frame(jnp.asarray(start)))
    assert sorted(np.concatenate([group.rows for group in groups])) == list(range(12)) and len(groups) > 1
    for group in groups:
        assert group.data.depth.shape == (used[group.rows].max(), len(group.rows))
        found = collapsed.log_marginals(shared, group, jnp.zeros(len(group.rows)), "run_to_run", nodes)
        np.testing.assert_allclose(found, padded[group.rows], rtol=1e-4, atol=1e-4)


def test_many_tasks_are_computed_in_parts(make, monkeypatch):
    truth, data, _ = make.simulated(tasks=10)
    start = jnp.asarray(np.stack([truth.level, truth.share, truth.rate], -1), jnp.float32)
    groups = collapsed.groups_by_depths(data, collapsed.plain_frame(start))
    arguments = (population(truth), groups, jnp.zeros(10), "run_to_run", nodes_of(collapsed.RULES[0]))
    together = collapsed.log_marginals_of_all(*arguments)
    monkeypatch.setattr(collapsed, "TOGETHER", 4)
    np.testing.assert_allclose(collapsed.log_marginals_of_all(*arguments), together, rtol=1e-5, atol=1e-5)

    def draws(group, noise, key):
        return jax.random.normal(key, noise.shape)

    keyed = collapsed.in_parts(draws, groups[0], jnp.zeros(10), jax.random.key(0))
    assert keyed.shape == (10,) and len(np.unique(keyed)) == 10


@pytest.mark.slow
@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_hyperparameters_are_those_of_nuts_on_all_latents(make, proxy):
    """Means within four Monte Carlo standard errors, standard deviations within 15%.

    Scales are compared as the normal values of the same quantile of their prior. Of their logarithm, whose tail is only
    exponential, draws of neither engine tell the standard deviation to 15%. NUTS is the weaker of the two where tau is
    small; the marginal likelihood is held against an integral without any points of ours below.
    """
    noise = (np.full(6, 4e-4), np.full(6, 8e-5)) if proxy == "conditional" else None
    _, data, _ = make.simulated(tasks=6, proxy=proxy, noise=noise)
    prior = prior_of(proxy)
    model = functools.partial(hierarchical_model, prior=prior, proxy=proxy, with_noise=noise is not None)
    kernel = NUTS(model, target_accept_prob=0.99, dense_mass=[hyperparameters(proxy)])
    slow = MCMC(kernel, num_warmup=1000, num_samples=2000, num_chains=4, chain_method="vectorized", progress_bar=False)
    slow.run(jax.random.key(1), data, find_reference(data, prior, proxy).latents)
    full = {name: np.asarray(values, float) for name, values in slow.get_samples(group_by_chain=True).items()}
    fast = sample(jax.random.key(2), data, prior, proxy)
    assert all(check.passed for check in fast.checks)
    for name in ("mu_level", "mu_share", "mu_rate", "tau", *shared_sites(proxy), *LATENTS):
        one, other = (_without_long_tails(name, s[name], prior) for s in (full, fast.sites))
        sd = one.std((0, 1))
        error = np.hypot(*(v.std((0, 1)) / np.sqrt(effective_sample_size(v)) for v in (one, other)))
        assert np.all(np.abs(one.mean((0, 1)) - other.mean((0, 1))) <= 4 * error), name
        np.testing.assert_allclose(other.std((0, 1)), sd, rtol=0.15, err_msg=name)


@pytest.mark.slow
def test_marginals_are_right_all_over_the_posterior(make):
    """Against an average of the likelihood over draws from the population, where tau of the rate is small and large.

    By the measure of the gate, which holds the rule against the finest one: how much the error of the log density
    varies over the posterior.
    """
    _, data, _ = make.simulated(tasks=6)
    prior, proxy = prior_of("run_to_run"), "run_to_run"
    found = sample(jax.random.key(2), data, prior, proxy).sites
    draws = {name: values.reshape(-1, *values.shape[2:]) for name, values in found.items()}
    order = np.argsort(draws["tau"][:, 2])
    some = {name: values[order[np.linspace(0, len(order) - 1, 12).astype(int)]] for name, values in draws.items()}
    known = Known(find_reference(data, prior, proxy))
    with Evaluator(Target(prior, proxy, False)) as evaluator:
        arguments, rule, _ = place(jax.random.key(0), known, evaluator, data)
    sites = {name: jnp.asarray(some[name], jnp.float32) for name in hyperparameters(proxy) if name != "corr_chol"}
    sites["corr_chol"] = jnp.asarray(np.linalg.cholesky(some["corr"]), jnp.float32)
    (group,) = arguments.groups

    @jax.jit
    def average(own, white):
        level = jnp.broadcast_to(data.kind @ own["mu_level"], (6,))
        mean = jnp.stack([level, jnp.full(6, own["mu_share"]), jnp.full(6, own["mu_rate"])], axis=1)
        latents = mean[:, :, None] + (own["tau"][:, None] * own["corr_chol"]) @ white.T
        shared = population_of(own).shared
        log_p = task_log_likelihood(tuple(latents.swapaxes(0, 1)), shared, jnp.zeros(6), data, proxy)
        return jax.nn.logsumexp(log_p, axis=1) - jnp.log(white.shape[0])

    sobol = stats.qmc.Sobol(3, seed=1)
    whites = [jnp.asarray(stats.norm.ppf(sobol.random(2**16)), jnp.float32) for _ in range(12)]
    errors = np.zeros((2, 12))
    for i in range(12):
        own = {name: values[i] for name, values in sites.items()}
        exact = np.logaddexp.reduce([np.asarray(average(own, white), float) for white in whites]) - np.log(12)
        for kind, nodes in enumerate((collapsed.FINEST, rule)):
            by_rule = log_marginals(population_of(own), group, jnp.zeros(6), proxy, nodes_of(nodes))
            errors[kind, i] = np.sum(np.asarray(by_rule, float) - exact)
    assert errors.std(axis=1)[0] < 0.1 and errors.std(axis=1)[1] < GATE.quadrature, errors


def _without_long_tails(name, values, prior):
    if name == "tau":
        return _white_half_normal(values, np.array(prior.tau))
    return _white_half_normal(values, prior.misfit, MOST_MISFIT) if name == "misfit" else values
