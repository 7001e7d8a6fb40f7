"""What a posterior rests on: p-values that are uniform where the law holds, and the say of the prior."""

import dataclasses

import arviz_stats
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from bayes_prehoc.hierarchy import advice
from bayes_prehoc.hierarchy.advice import fit_of_law, misfit_p_values, sensitivity_to_prior
from bayes_prehoc.hierarchy.data import Sizes
from bayes_prehoc.hierarchy.model import hyperpriors, log_hyperprior, shared_sites, weak_prior


def at_the_truth(truth, tasks):
    """The truth as one draw."""
    shared = {name: np.array([getattr(truth, name)]) for name in shared_sites("run_to_run")}
    return {name: np.asarray(getattr(truth, name), float)[None, :tasks] for name in ("level", "share", "rate")} | shared


@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_p_values_are_uniform_where_the_law_holds(proxy, make, monkeypatch):
    monkeypatch.setattr(advice, "AT_ONCE", 90)
    truth, _, estimates = make.simulated(tasks=300, proxy=proxy, seed=2)
    p_values = misfit_p_values(at_the_truth(truth, 300), estimates)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert fit_of_law(p_values, tuple(t.task for t in estimates)).passed


def test_a_task_off_the_law_is_named(make):
    truth, _, estimates = make.simulated(tasks=20)
    third = estimates.tasks[3]
    odd = dataclasses.replace(third, risk=third.risk * np.tile([3.0, 1.0 / 3.0], 4))
    tasks = (*estimates.tasks[:3], odd, *estimates.tasks[4:])
    p_values = misfit_p_values(at_the_truth(truth, 20), dataclasses.replace(estimates, tasks=tasks))
    check = fit_of_law(p_values, tuple(t.task for t in tasks))
    assert not check.passed and check.worst == "task t3" and check.value < 1e-6


def test_a_posterior_has_advice_that_its_gate_ignores(fitted, not_converged):
    posterior, _ = fitted
    checks = posterior.checks()
    assert set(checks.index[~checks["gate"]]) == {"prior_sensitivity", "fit_of_law", "bits_learned"}
    # Six tasks leave the prior a say.
    assert posterior.converged and not checks.loc["prior_sensitivity", "passed"]
    assert checks.loc["bits_learned", "value"] == pytest.approx(posterior.summary()["bits_share"].min())
    assert not_converged.checks()["gate"].all()


def test_a_prior_that_is_all_but_flat_has_no_say(fitted):
    posterior, _ = fitted
    flat = posterior.draws.copy()
    flat["log_prior"] = flat["log_prior"].map_over_datasets(lambda log_prior: 1e-3 * log_prior)
    check = sensitivity_to_prior(flat, posterior.proxy)
    assert check.passed and check.value < 1e-2 * sensitivity_to_prior(posterior.draws, posterior.proxy).value


# Of six tasks one may matter much.
@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_tasks_are_left_out_by_arviz(fitted):
    """The log likelihood of each task, its latents integrated out, lies with the draws."""
    posterior, _ = fitted
    found = arviz_stats.loo(posterior.draws)
    assert np.isfinite(found.elpd) and found.n_data_points == 6


@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_log_prior_is_that_of_the_distributions(proxy):
    priors = hyperpriors(weak_prior(proxy), proxy, Sizes(kinds=2, families=3, covariates=1))
    keys = jax.random.split(jax.random.key(0), len(priors))
    sites = {name: own.sample(key, (5,)) for key, (name, own) in zip(keys, priors.items(), strict=True)}
    factor = sites.pop("corr_chol")
    corr = jnp.einsum("sij,skj->sik", factor, factor)
    found = log_hyperprior(sites | {"corr": corr}, weak_prior(proxy), proxy)
    expected = dist.LKJ(3, 2.0).log_prob(corr)
    for name, values in sites.items():
        expected += priors[name].log_prob(values).reshape(5, -1).sum(axis=1)
    np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=1e-4, atol=1e-4)
