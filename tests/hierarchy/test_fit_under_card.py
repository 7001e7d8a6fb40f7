"""Fits under a prior card: what is mixed, that all that follows works with it, and that it agrees with what it must."""

import dataclasses
import functools
import importlib

import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy import special, stats

from bayes_prehoc import load_posterior, plan
from bayes_prehoc.hierarchy import fit
from bayes_prehoc.hierarchy.basis import Basis
from bayes_prehoc.hierarchy.cards import card_of, sites_of
from bayes_prehoc.hierarchy.checks import Gate
from bayes_prehoc.hierarchy.inference import Sampler, sample
from bayes_prehoc.hierarchy.informed import informed_by
from bayes_prehoc.hierarchy.model import weak_prior
from bayes_prehoc.priors import Provenance, Scope, heterogeneity, make_card, mixture
from bayes_prehoc.priors.transforms import constrained
from bayes_prehoc.risk.estimates import RiskEstimates

# The package's name `fit` is the verb.
MODULE = importlib.import_module("bayes_prehoc.hierarchy.fit")
ALWAYS = Gate(r_hat=np.inf, ess=0.0, k_hat=np.inf, quadrature=np.inf, points=0.0)


def named(estimates, prefix):
    """The same tasks with names and runs of their own."""
    tasks = (dataclasses.replace(t, task=f"{prefix}{t.task}", hashes=(f"{prefix}{t.task}",)) for t in estimates)
    return dataclasses.replace(estimates, tasks=tuple(tasks))


def moments(posterior, names=("mu_level", "mu_share", "mu_rate", "log_onset", "misfit", "drift", "level", "rate")):
    """Mean, standard deviation and Monte Carlo standard error of figures, arrays over all of them."""
    columns = []
    for name in names:
        values = posterior.draws["posterior"][name].values
        columns.append(values.reshape(*values.shape[:2], -1))
    draws = np.concatenate(columns, axis=2).astype(float)
    ess = array_stats.ess(draws, method="bulk", chain_axis=0, draw_axis=1)
    return draws.mean(axis=(0, 1)), draws.std(axis=(0, 1)), draws.std(axis=(0, 1)) / np.sqrt(ess)


@pytest.fixture(scope="module")
def quick(make, fitted):
    """Six tasks under the card of six others, by few draws that no gate looks at."""
    _, _, estimates = make.simulated(seed=2)
    few = Sampler(warmup=20, draws=60, extensions=0, attempts=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "sample", functools.partial(sample, sampler=few, gate=ALWAYS))
        patch.setattr(MODULE, "sufficient", lambda tasks: 20)
        card = card_of(fitted[0], "six")
        return fit(named(estimates, "new "), prior=card, seed=3), card


def test_what_a_fit_under_a_card_says_of_it(quick):
    posterior, _ = quick
    weight = posterior.card
    assert weight.name == "six" and 0.0 < weight.lower < weight.weight < weight.upper < 1.0
    assert weight.threshold.simulated == 20 and weight.threshold.lower <= weight.threshold.value
    assert posterior.prior == weight.words
    under_card = posterior.draws["sample_stats"]["under_card"].values
    assert under_card.mean() == pytest.approx(1.0 - weight.weight, abs=1.0 / under_card.shape[1])
    checks = posterior.checks()
    assert {"card_r_hat", "weak_r_hat", "weight_error"} <= set(checks[checks["gate"]].index)
    assert not checks.loc["prior_data_conflict", "gate"]
    assert checks.loc["prior_data_conflict", "value"] == weight.weight
    assert "prior_sensitivity" in checks.index and checks.index.is_unique


def test_the_log_prior_is_that_of_the_mixture(quick):
    """Its excess over the weak prior's, at draws under the card and under the weak prior, from the draws alone."""
    posterior, card = quick
    group = posterior.draws["posterior"]
    sites, weak = sites_of(posterior.hyperprior, "run_to_run", Basis(("accuracy",)))
    y = card.coordinates({site.name: group[site.name].values.reshape(-1, *site.shape) for site in sites})
    log_weak = stats.norm(weak.mean, weak.scale).logpdf(y)
    at = [place for place, label in enumerate(card.labels) if label.startswith("corr[")]
    b = np.array([2.5, 2.5, 2.0])
    r = special.erf(y[:, at] / np.sqrt(2.0 * b))
    log_weak[:, at] = stats.beta(b, b, -1.0, 2.0).logpdf(r) + np.log(2.0) + stats.norm(0.0, np.sqrt(b)).logpdf(y[:, at])
    log_weak = log_weak.sum(axis=1)
    order = sorted(sites, key=lambda site: "corr_chol" if site.name == "corr" else site.name)
    at = [card.labels.index(label) for site in order for label in site.labels]
    density = informed_by(card, posterior.hyperprior, "run_to_run", Basis(("accuracy",))).density
    log_card = mixture.log_density(density, y[:, at])
    excess = np.logaddexp(np.log(0.1), np.log(0.9) + log_card - log_weak)
    found = posterior.draws["log_prior"]["hyperparameters"].values.ravel()
    by_weak = MODULE.log_hyperprior(
        {name: group[name].values for name in group.data_vars}, posterior.hyperprior, "run_to_run"
    ).ravel()
    np.testing.assert_allclose(found - by_weak, excess, rtol=1e-3, atol=0.02)


def test_all_that_follows_from_a_posterior(quick, make, tmp_path):
    """Files, updates and plans."""
    posterior, card = quick
    posterior.save(tmp_path / "post.nc")
    read = load_posterior(tmp_path / "post.nc")
    assert read.card.words == posterior.card.words and read.card.weak == posterior.card.weak
    np.testing.assert_array_equal(read.card.fingerprints, card.fingerprints)
    made = plan(read, tolerance=0.05)
    assert made.assumptions["prior"] == posterior.prior and len(made.tasks) == 6
    _, _, more = make.simulated(tasks=1, seed=5)
    updated = posterior.update(named(more, "more "))
    assert updated.tasks == ("more t0",) and "card six" in updated.prior


def weak_as_a_card():
    """Ten thousand draws of the weak prior itself."""
    sites, weak = sites_of(weak_prior("run_to_run"), "run_to_run", Basis(("accuracy",)))
    rng = np.random.default_rng(0)
    y = weak.mean + weak.scale * rng.normal(size=(10_000, len(weak.mean)))
    ends = np.cumsum([0, *(len(site.labels) for site in sites)])
    values = {site.name: constrained(site, y[:, a:b]) for site, a, b in zip(sites, ends[:-1], ends[1:], strict=True)}
    about = Provenance(name="weak", tasks=1, runs=1)
    return make_card(values, sites, weak, Scope("run_to_run", 0.2, ("accuracy",)), about, hashes=["none"])


@pytest.mark.slow
def test_the_weak_prior_as_a_card_changes_nothing(fitted, make):
    """w is 0.1, but for the errors of evidences and mixture, and the posterior is that under the weak prior."""
    posterior, _ = fitted
    under = fit(posterior.estimates, prior=weak_as_a_card(), seed=2)
    assert under.converged
    off = under.card.card.log_z - under.card.weak.log_z
    assert abs(off) < 0.1 + 3.0 * np.hypot(under.card.card.error, under.card.weak.error)
    assert under.card.weight == pytest.approx(0.1, abs=0.02)
    (mean, width, error), (other, other_width, other_error) = moments(posterior), moments(under)
    assert np.all(np.abs(mean - other) < 4.5 * np.hypot(error, other_error))
    np.testing.assert_allclose(other_width, width, rtol=0.2)


@pytest.mark.slow
def test_a_card_of_some_tasks_and_the_others_under_it(fitted, make, monkeypatch):
    """Six tasks under the card of six others agree with all twelve, if projects do not differ: within Monte Carlo error
    and a fifth of a width, which the card's mixture of normals and the tenth of the weak prior may cost."""
    monkeypatch.setattr(heterogeneity, "HETEROGENEITY", 1e-6)
    posterior, _ = fitted
    _, _, others = make.simulated(seed=2)
    others = named(others, "new ")
    under = fit(others, prior=card_of(posterior, "six"), seed=4)
    together = fit(RiskEstimates("run_to_run", (*posterior.estimates.tasks, *others.tasks)), seed=4)
    assert under.converged and together.converged
    assert under.card.weight < 0.1 and under.card.check.passed
    of_all = ("mu_level", "mu_share", "mu_rate", "log_onset", "misfit", "drift")
    (mean, width, error), (other, other_width, other_error) = moments(together, of_all), moments(under, of_all)
    assert np.all(np.abs(mean - other) < 0.2 * width + 4.0 * np.hypot(error, other_error))
    np.testing.assert_allclose(other_width, width, rtol=0.25)


@pytest.mark.slow
def test_a_wrong_card_gives_way(fitted, make):
    """Four weak standard deviations off in all that tasks' curves tell: w is nearly one, the conflict is told, and the
    posterior is the weak prior's."""
    posterior, _ = fitted
    card = card_of(posterior, "six")
    at = [card.places[site].start for site in ("mu_level", "mu_share", "mu_rate", "log_onset")]
    off = 4.0 * card.weak.scale * np.isin(np.arange(len(card.labels)), at)
    wrong = dataclasses.replace(
        card, mixture=card.mixture._replace(mean=card.mixture.mean + off), draws=card.draws + off
    )
    _, _, others = make.simulated(seed=2)
    others = named(others, "new ")
    under, weak = fit(others, prior=wrong, seed=5), fit(others, seed=6)
    assert under.converged
    assert under.card.weight > 0.9 and not under.card.check.passed and "conflicts" in under.prior
    (mean, width, error), (other, _, other_error) = moments(weak), moments(under)
    assert np.all(np.abs(mean - other) < 0.1 * width + 4.5 * np.hypot(error, other_error))


@pytest.mark.slow
def test_the_joint_engine_under_a_card(make, with_families):
    """Twelve tasks in three families under a card of twelve like them, by few draws: both evidences are told."""
    posterior, _ = with_families
    estimates = named(make.of_families(), "new ")
    few = Sampler(warmup=50, draws=100, extensions=0, attempts=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "sample", functools.partial(sample, sampler=few, gate=dataclasses.replace(
            ALWAYS, divergences=10**6, e_bfmi=0.0)))  # fmt: skip
        patch.setattr(MODULE, "sufficient", lambda tasks: 20)
        under = fit(estimates, prior=card_of(posterior, "families"), seed=1)
    assert under.engine == "joint" and np.isfinite(under.card.weight)
    assert under.card.weight < 0.5
