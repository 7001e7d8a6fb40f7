"""The density of all latents is the model's and integrates to the collapsed one; both engines draw alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.diagnostics import effective_sample_size
from numpyro.infer.util import log_density

from bayes_prehoc.hierarchy.basis import Basis, Covariates
from bayes_prehoc.hierarchy.collapsed import FINEST, groups_by_depths, plain_frame
from bayes_prehoc.hierarchy.inference import sample
from bayes_prehoc.hierarchy.informed import informed_by
from bayes_prehoc.hierarchy.joint import Place, joint_log_density, joint_sites
from bayes_prehoc.hierarchy.model import (
    LATENTS,
    hierarchical_model,
    hyperparameters,
    population_of,
    shared_sites,
    task_log_likelihood,
    weak_prior,
)
from bayes_prehoc.hierarchy.simulate import draw_estimates, draw_truth
from bayes_prehoc.hierarchy.target import Arguments, Target

PROXY = "run_to_run"
OF_HYPERPARAMETERS = 38
"""Fourteen that every fit has, three scales of families and five for each of three, six for a covariate."""


@pytest.fixture(scope="module")
def families():
    """Truth and estimates of nine tasks of three families with a covariate, and latents to expand around."""
    kind, depth = np.ones((9, 1)), np.tile(np.geomspace(0.02, 1.0, 6), (9, 1))
    columns = {"family": np.tile(np.eye(3), (3, 1)), "covariates": np.random.default_rng(0).normal(size=(9, 1))}
    truth = draw_truth(jax.random.key(4), weak_prior(PROXY), PROXY, kind, **columns)
    data = draw_estimates(jax.random.key(5), truth, depth, np.full(depth.shape, 40.0), kind, PROXY, **columns)
    return truth, data, np.stack([truth.level, truth.share, truth.rate], axis=1)


@pytest.fixture
def in_double(families, float64):
    """The same in double precision, grouped, with a target."""
    _, data, start = families

    def double(tree):
        return jax.tree.map(lambda own: jnp.asarray(own, float if own.dtype.kind == "f" else own.dtype), tree)

    data = double(jax.tree.map(np.asarray, data))
    groups = double(groups_by_depths(data, plain_frame(jnp.asarray(start, float))))
    return Target(weak_prior(PROXY), PROXY, False), data, groups, jnp.asarray(start, float)


def test_density_is_that_of_the_numpyro_model(in_double):
    """They differ by the volume of the hyperparameters' coordinates, which does not depend on the latents."""
    target, data, groups, start = in_double
    rng = np.random.default_rng(1)
    x = jnp.asarray(0.3 * rng.normal(size=OF_HYPERPARAMETERS))
    sites = target.values(x, data).sites
    assert set(sites) == set(hyperparameters(PROXY, data.sizes))
    off = []
    for _ in range(3):
        place = Place(x, jnp.zeros(0), jnp.asarray(1.5 * rng.normal(size=(9, 3))))
        ours = joint_log_density(target, place, groups, data)
        arguments = (data, start, target.prior, PROXY, False)
        theirs, trace = log_density(hierarchical_model, arguments, {}, sites | {"white": place.white})
        off.append(float(ours - theirs))
        latents = joint_sites(target, place, groups, data)
        for name in LATENTS:
            np.testing.assert_allclose(latents[name], trace[name]["value"], rtol=1e-6)
    np.testing.assert_allclose(off, off[0], atol=1e-6)


def test_density_is_prior_of_the_latents_times_likelihood(in_double):
    """By hand, from the mean that family and covariate give, up to the volume of the latents' coordinates."""
    target, data, groups, _ = in_double
    rng = np.random.default_rng(2)
    place = Place(
        jnp.asarray(0.3 * rng.normal(size=OF_HYPERPARAMETERS)), jnp.zeros(0), jnp.asarray(rng.normal(size=(9, 3)))
    )
    values = target.values(place.x, data)
    own = {name: np.asarray(value) for name, value in values.sites.items()}
    sites = joint_sites(target, place, groups, data)
    latents = np.stack([np.asarray(sites[name]) for name in LATENTS], axis=1)
    mean = np.array([own["mu_level"][0], own["mu_share"], own["mu_rate"]])
    mean = mean + np.asarray(data.family) @ (own["tau_family"] * own["family_white"])
    mean = mean + np.asarray(data.covariates) @ (own["sway"] * own["slope_white"])
    sigma = own["tau"][:, None] * own["corr_chol"]
    white = np.linalg.solve(sigma, (latents - mean).T)
    expected = -0.5 * np.sum(white**2) - 9 * np.log(np.diag(sigma)).sum() - 13.5 * np.log(2 * np.pi)
    onset = own["log_onset"] + 0.5 * np.asarray(data.family) @ own["family_onset"]
    misfit = own["misfit"] * np.exp(0.5 * np.asarray(data.family) @ own["family_misfit"])
    shared = population_of(values.sites).shared._replace(onset=jnp.exp(onset), misfit=jnp.asarray(misfit))
    likelihood = task_log_likelihood(tuple(jnp.asarray(latents).T), shared, jnp.zeros(9), data, PROXY)

    def moved(flat):
        found = joint_sites(target, place._replace(white=flat.reshape(9, 3)), groups, data)
        return jnp.stack([found[name] for name in LATENTS], axis=1).ravel()

    volume = np.linalg.slogdet(np.asarray(jax.jacfwd(moved)(place.white.ravel())))[1]
    got = joint_log_density(target, place, groups, data) - values.log_prior
    assert float(got) == pytest.approx(expected + float(likelihood.sum()) + volume, rel=1e-6)


def test_integral_over_the_latents_is_the_collapsed_density(in_double):
    """Of one task, over the finest rule's points."""
    target, data, groups, _ = in_double
    x = jnp.asarray(0.3 * np.random.default_rng(3).normal(size=OF_HYPERPARAMETERS))
    arguments = Arguments.by_rule(groups, data, FINEST)
    collapsed = target.density(x, arguments)
    nodes = jax.tree.map(lambda *parts: np.concatenate(parts), *arguments.blocks)

    alone = data.taken(np.array([2]))
    group = (groups_by_depths(jax.tree.map(np.asarray, alone), jax.tree.map(lambda own: own[2:3], groups[0].frame))[0],)

    def of_one(white):
        place = Place(x, jnp.zeros(0), white[None])
        return joint_log_density(target, place, group, alone) + 0.5 * jnp.sum(white**2) + 1.5 * jnp.log(2 * jnp.pi)

    found = jax.nn.logsumexp(jax.vmap(of_one)(jnp.asarray(nodes.at, float)) + nodes.log_weight)
    assert float(found - collapsed.log_prior) == pytest.approx(float(collapsed.by_task[2]), abs=1e-5)


def test_a_card_tilts_it(in_double, make):
    """By as much as it tilts the collapsed density; slopes of covariates are none of a card's."""
    target, data, groups, _ = in_double
    basis = Basis(("accuracy",), ("a", "b", "c"))
    covariates = Covariates(("size",), np.ones(1, bool), np.zeros(1), np.ones(1), np.ones((1, 1)))
    tilt = informed_by(make.card(basis), target.prior, PROXY, basis._replace(covariates=covariates)).tilt
    assert len(tilt.places) == OF_HYPERPARAMETERS - 6
    rng = np.random.default_rng(3)
    x = jnp.asarray(0.3 * rng.normal(size=OF_HYPERPARAMETERS))
    place = Place(x, jnp.zeros(0), jnp.asarray(rng.normal(size=(9, 3))))
    tilted, plain = (joint_log_density(target, place, groups, data, own) for own in (tilt, None))
    assert float(tilted - plain) == pytest.approx(float(tilt.log_ratio(np.asarray(x))), rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("with_families", [False, True])
def test_both_engines_draw_from_one_posterior(families, make, with_families):
    """Means within four Monte Carlo standard errors; standard deviations within 15%, where shares hardly told too.

    Coarse rules of quadrature once took the tail of low shares away, where no draw came to show it.
    """
    data = families[1] if with_families else make.simulated(tasks=6, seed=1)[1]
    prior = weak_prior(PROXY)
    both = [sample(jax.random.key(1), data, prior, PROXY, engine=engine) for engine in ("collapsed", "joint")]
    for name in ("mu_level", "mu_share", "mu_rate", *shared_sites(PROXY), *LATENTS):
        one, other = (np.asarray(made.sites[name], float) for made in both)
        error = np.hypot(*(v.std((0, 1)) / np.sqrt(effective_sample_size(v)) for v in (one, other)))
        assert np.all(np.abs(one.mean((0, 1)) - other.mean((0, 1))) <= 4 * error), name
        np.testing.assert_allclose(other.std((0, 1)), one.std((0, 1)), rtol=0.15, err_msg=name)
