"""Estimates of tasks whose truth is known, and one posterior of them that several tests share."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayes_prehoc.hierarchy.basis import Basis
from bayes_prehoc.hierarchy.cards import sites_of
from bayes_prehoc.hierarchy.data import model_data
from bayes_prehoc.hierarchy.evaluator import Evaluator
from bayes_prehoc.hierarchy.fit import fit, posterior_of
from bayes_prehoc.hierarchy.inference import Sampler, sample
from bayes_prehoc.hierarchy.model import weak_prior
from bayes_prehoc.hierarchy.placing import Known, place
from bayes_prehoc.hierarchy.simulate import draw_estimates, draw_truth
from bayes_prehoc.hierarchy.start import find_reference
from bayes_prehoc.hierarchy.target import Target
from bayes_prehoc.priors import Provenance, Scope, make_card
from bayes_prehoc.priors.transforms import constrained
from bayes_prehoc.risk.estimates import RiskEstimates, TaskEstimates
from bayes_prehoc.theory import alpha_bounds

HORIZON, SCALE = 400.0, 0.9


def simulated(tasks=6, proxy="run_to_run", nu=60.0, depths=8, seed=0, noise=None, law="power", **changes):
    """Truth of the tasks (`changes` overrides the drawn hyperparameters) and their estimates."""
    truth_key, data_key = jax.random.split(jax.random.key(seed))
    kind = np.ones((tasks, 1))
    truth = draw_truth(truth_key, weak_prior(proxy), proxy, kind)
    settled = {
        "mu_level": np.array([-6.0]), "mu_share": np.array(-1.0), "mu_rate": np.array(-1.0),
        "tau": np.array([0.8, 0.8, 0.4]), "corr_chol": np.eye(3), "log_onset": np.array(-4.0),
        "misfit": np.array(0.1), "dependence": np.array(0.8 if proxy == "run_to_run" else 0.9),
        "drift": np.array(0.1 if proxy == "run_to_run" else 0.0),
        "lasting": np.array(0.9 if proxy == "run_to_run" else 1.0),
    } | changes  # fmt: skip
    white = np.random.default_rng(seed).normal(size=(tasks, 3))
    mean = [settled["mu_level"][0], settled["mu_share"], settled["mu_rate"]]
    latents = mean + white @ (settled["tau"][:, None] * settled["corr_chol"]).T
    truth = truth._replace(**settled, level=latents[:, 0], share=latents[:, 1], rate=latents[:, 2])
    depth = np.tile(np.geomspace(0.02, 1.0, depths), (tasks, 1))
    data = draw_estimates(data_key, truth, depth, np.full(depth.shape, nu), kind, proxy, noise, law)
    return truth, data, labelled(data, proxy)


def labelled(data, proxy):
    """Estimates in the units of a task: depth in steps, risk in squared accuracy."""
    tasks = []
    for row in range(len(data.noise)):
        there = np.asarray(data.mask[:, row])
        known = float(data.noise_se[row]) > 0.0
        tasks.append(
            TaskEstimates(
                task=f"t{row}",
                proxy=proxy,
                metric="accuracy",
                metric_kind="accuracy",
                depths=np.asarray(data.depth[:, row], float)[there] * HORIZON,
                risk=np.exp(np.asarray(data.log_risk[:, row], float)[there]) * SCALE**2,
                nu=np.asarray(data.dof[:, row], float)[there],
                scale=SCALE,
                outcome_mean=SCALE,
                n_runs=64,
                horizon=HORIZON,
                noise=float(data.noise[row]) * SCALE**2 if known else float("nan"),
                noise_se=float(data.noise_se[row]) * SCALE**2 if known else float("nan"),
                hashes=(f"{row:04d}",),
            )
        )
    return RiskEstimates(proxy, tuple(tasks))


def true_figures(truth, proxy):
    """L_int, alpha and U(c_0) of each task, in its units."""
    low, high = alpha_bounds(proxy)
    u0 = np.exp(truth.level) * SCALE**2
    return {
        "L_int": u0 / (1 + np.exp(-truth.share)),
        "alpha": low + (high - low) / (1 + np.exp(-truth.rate)),
        "U_c0": u0,
    }


def card(basis, *, at=0.4, width=0.5, name="made-up", first=0, **values):
    """A card of a model with these columns, so many weak standard deviations off and wide; `values` are set."""
    sites, weak = sites_of(weak_prior("run_to_run"), "run_to_run", basis)
    rng = np.random.default_rng(0)
    y = weak.mean + weak.scale * (at + width * rng.normal(size=(600, len(weak.mean))))
    found, done = {}, 0
    for site in sites:
        found[site.name] = constrained(site, y[:, done : done + len(site.labels)])
        done += len(site.labels)
    for site, value in values.items():
        jitter = 1.0 + 0.02 * rng.normal(size=found[site].shape)
        found[site] = np.broadcast_to(value, found[site].shape) * jitter + 0.01 * rng.normal(size=found[site].shape)
    about = Provenance(name=name, tasks=9, runs=90)
    return make_card(found, sites, weak, Scope("run_to_run", 0.2, basis.kinds), about, hashes=[str(first)])


@pytest.fixture(scope="session")
def make():
    """Builders of simulated estimates and their truth, and of cards."""
    return types.SimpleNamespace(
        simulated=simulated,
        of_families=of_families,
        true_figures=true_figures,
        labelled=labelled,
        card=card,
        scale=SCALE,
    )


@pytest.fixture(scope="session")
def fitted():
    """Posterior of six tasks of a spread, and the truth."""
    truth, _, estimates = simulated()
    return fit(estimates, seed=1), truth


@pytest.fixture(scope="session")
def made_up_card():
    """Of the hyperparameters of a fit of one kind of metric, without a fit."""
    return card(Basis(("accuracy",)))


@pytest.fixture(scope="session")
def with_noise():
    """Posterior of eight tasks of remaining risk, whose outcome sets have noise, and the truth."""
    noise = (np.full(8, 4e-4), np.full(8, 5e-5))
    truth, _, estimates = simulated(tasks=8, proxy="conditional", noise=noise, seed=3)
    return fit(estimates), truth


def of_families():
    """Estimates of twelve tasks of three families, whose level a descriptor tells, too."""
    _, _, estimates = simulated(tasks=12, seed=8)
    size = np.random.default_rng(8).normal(size=12)
    tasks = []
    for row, task in enumerate(estimates):
        moved = task.risk * np.exp(2.0 * size[row] + (row % 3 - 1))
        told = {"family": "abc"[row % 3], "descriptors": {"size": float(np.exp(size[row]))}}
        tasks.append(dataclasses.replace(task, risk=moved, **told))
    return RiskEstimates(estimates.proxy, tuple(tasks))


@pytest.fixture(scope="session")
def with_families():
    """Posterior of them from few draws, which may not pass the gate and is not asked to."""
    estimates, prior = of_families(), weak_prior("run_to_run")
    few = Sampler(warmup=50, draws=100, extensions=0, attempts=1)
    samples = sample(jax.random.key(0), model_data(estimates), prior, "run_to_run", few)
    return dataclasses.replace(posterior_of(samples, estimates, prior, 0), gate=()), None


@pytest.fixture(scope="session")
def not_converged(fitted):
    """The same posterior with a gate that failed."""
    posterior, _ = fitted
    first, *rest = posterior.gate
    return dataclasses.replace(posterior, gate=(first._replace(passed=False, value=1.2), *rest))


@pytest.fixture(scope="session")
def placed():
    """An evaluator of a target, its data, and points placed there."""
    _, data, _ = simulated()
    target = Target(weak_prior("run_to_run"), "run_to_run", False)
    known = Known(find_reference(data, target.prior, target.proxy))
    with Evaluator(target) as evaluator:
        yield evaluator, data, place(jax.random.key(0), known, evaluator, data)


@pytest.fixture(scope="session")
def two_modes():
    """`share` of the first of two normals in three dimensions, nine standard deviations apart, `draws` and `log_p`."""
    share, at, factor = 0.3, 4.5, np.array([[1.0, 0.0, 0.0], [0.7, 0.7, 0.0], [0.0, 0.0, 0.5]])

    def draws(rng, number):
        first = rng.random(number) < share
        white = rng.normal(size=(number, 3))
        return np.where(first[:, None], white @ factor.T - at, 0.5 * white + at)

    def log_p(x):
        solved = jax.scipy.linalg.solve_triangular(jnp.asarray(factor, jnp.float32), x + at, lower=True)
        one = jnp.log(share) - 0.5 * jnp.sum(solved**2) - np.log(np.diag(factor)).sum()
        other = jnp.log(1 - share) - 0.5 * jnp.sum(((x - at) / 0.5) ** 2) - 3 * jnp.log(0.5)
        return jnp.logaddexp(one, other)

    return types.SimpleNamespace(share=share, draws=draws, log_p=log_p)
