"""Meta-analysis: against quadrature, against importance sampling of everything, and on simulated projects."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.errors import InputError
from bayes_prehoc.priors import Transform, Units, combine, mixture
from bayes_prehoc.priors import heterogeneity as meta
from bayes_prehoc.priors.heterogeneity import HETEROGENEITY, Evidence, evidence_of, of_new_project, predictive
from bayes_prehoc.priors.mixture import Gaussians


def test_in_one_dimension_it_is_what_quadrature_gives():
    precision, estimates = np.array([8.0, 30.0, 4.0]), np.array([0.9, -0.2, 0.4])
    found = predictive(np.random.default_rng(0), Evidence(precision[:, None, None], (precision * estimates)[:, None]))
    h = np.geomspace(1e-4, 1e4, 8001)[:, None]
    # What projects have in common has a share of the variance, 1.
    common, apart = 1.0 / (1.0 + h**2), h**2 / (1.0 + h**2)
    variance = 1.0 / precision + apart
    # The common part is N(0, common), and estimates are N(of it, variance), given h.
    of_mean = 1.0 / common[:, 0] + (1.0 / variance).sum(axis=1)
    mean = (estimates / variance).sum(axis=1) / of_mean
    log_p = stats.halfcauchy.logpdf(h[:, 0], scale=HETEROGENEITY)
    log_p += -0.5 * np.log(variance).sum(axis=1) - 0.5 * np.log(of_mean * common[:, 0])
    log_p += -0.5 * (estimates**2 / variance).sum(axis=1) + 0.5 * mean**2 * of_mean
    # Of a grid in log h.
    weight = h[:, 0] * np.exp(log_p - log_p.max())
    weight /= weight.sum()
    assert found.heterogeneity.mean() == pytest.approx(weight @ np.sqrt(apart[:, 0]), rel=0.05)
    spread = np.sqrt(1.0 / of_mean + apart[:, 0])
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        at = np.quantile(found.theta[:, 0], quantile)
        assert weight @ stats.norm.cdf((at - mean) / spread) == pytest.approx(quantile, abs=0.02)


def test_with_correlation_it_is_what_weighing_everything_gives():
    rng, size = np.random.default_rng(1), 2
    posterior = np.array([[[0.3, 0.2], [0.2, 0.4]], [[0.1, -0.05], [-0.05, 0.9]]])
    means = np.array([[0.8, 0.4], [-0.3, 0.2]])
    evidence = evidence_of(list(means), list(posterior), [np.arange(2)] * 2, 2)
    found = predictive(np.random.default_rng(0), evidence)
    # Projects from the prior, weighed by what their data say; nothing integrated out.
    number = 400_000
    h = np.abs(rng.standard_cauchy((number, size))) * HETEROGENEITY
    unit = 1.0 / np.sqrt(1.0 + h**2)
    mu = rng.normal(size=(number, size))
    log_w = np.zeros(number)
    for precision, linear in zip(*evidence, strict=True):
        theta = unit * (mu + h * rng.normal(size=(number, size)))
        log_w += theta @ linear - 0.5 * np.einsum("ni,ij,nj->n", theta, precision, theta)
    weight = np.exp(log_w - log_w.max())
    weight /= weight.sum()
    new = unit * (mu + h * rng.normal(size=(number, size)))
    mean = weight @ new
    covariance = (weight[:, None] * (new - mean)).T @ (new - mean)
    assert found.theta.mean(axis=0) == pytest.approx(mean, abs=0.04)
    assert np.cov(found.theta.T) == pytest.approx(covariance, abs=0.05)
    assert found.heterogeneity.mean(axis=0) == pytest.approx(weight @ (unit * h), rel=0.08)


def test_the_weak_prior_is_taken_out_of_each_posterior_once():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 3))
    precision, linear = root @ root.T + np.eye(3), rng.normal(size=3)
    covariance = np.linalg.inv(np.eye(3) + precision)
    found = evidence_of([covariance @ linear], [covariance], [np.arange(3)], 3)
    assert found.precision[0] == pytest.approx(precision)
    assert found.linear[0] == pytest.approx(linear)


def test_a_direction_that_was_not_learned_says_nothing():
    found = evidence_of([np.array([3.0, 0.5])], [np.diag([1.1, 0.5])], [np.array([2, 0])], 3)
    assert found.precision[0] == pytest.approx(np.diag([1.0, 0.0, 0.0]))
    assert found.linear[0] == pytest.approx([1.0, 0.0, 0.0])


def test_without_evidence_it_is_the_prior():
    found = predictive(np.random.default_rng(0), Evidence(np.zeros((2, 3, 3)), np.zeros((2, 3))))
    h = stats.halfcauchy.ppf((np.arange(10_000) + 0.5) / 10_000, scale=HETEROGENEITY)
    assert found.heterogeneity.mean() == pytest.approx(np.mean(h / np.sqrt(1.0 + h**2)), rel=0.05)
    assert found.theta.var() == pytest.approx(1.0, rel=0.06)


def test_one_project_tells_what_several_do_of_one():
    """The closed form against the sampler, of one normal: means, spreads and tails."""
    root = np.array([[0.5, 0.0], [0.2, 0.3]])
    mean, covariance = np.array([1.5, -0.4]), root @ root.T
    made = of_new_project(Gaussians(np.ones(1), mean[None], covariance[None]))
    found = predictive(np.random.default_rng(0), evidence_of([mean], [covariance], [np.arange(2)], 2))
    expected, spread = mixture.moments(made)
    assert found.theta.mean(axis=0) == pytest.approx(expected, abs=0.04)
    assert np.cov(found.theta.T) == pytest.approx(spread, abs=0.04)
    at = np.quantile(found.theta, (0.01, 0.05, 0.25, 0.75, 0.95, 0.99), axis=0)
    below = mixture.marginal_cdf(made, at)
    assert below == pytest.approx(np.tile([[0.01], [0.05], [0.25], [0.75], [0.95], [0.99]], 2), abs=0.02)


def test_a_new_project_of_a_mixture_is_the_mixture_of_new_projects():
    """Against draws of the equation itself: h and the new project for each draw of the old one."""
    rng = np.random.default_rng(3)
    project = Gaussians(
        np.array([0.3, 0.7]), np.array([[2.0, 0.0], [-0.5, 0.5]]), np.array([np.diag([0.04, 0.2]), 0.1 * np.eye(2)])
    )
    made = of_new_project(project)
    assert made.weight.sum() == pytest.approx(1.0) and len(made.weight) == 2 * meta.VALUES
    old = mixture.sample(rng, project, 200_000)
    h = stats.halfcauchy.rvs(scale=HETEROGENEITY, size=old.shape, random_state=rng)
    # Both are normal around mu; given the old one mu has this mean and variance.
    alike = 1.0 / (1.0 + h**2)
    mu = np.sqrt(alike) * old + np.sqrt(1.0 - alike) * rng.normal(size=old.shape)
    new = np.sqrt(alike) * (mu + h * rng.normal(size=old.shape))
    at = np.array([[-1.0, -1.0], [0.0, 0.0], [1.5, 0.5], [2.2, 1.5]])
    np.testing.assert_allclose(
        mixture.marginal_cdf(made, at), np.stack([(new < own).mean(axis=0) for own in at]), atol=0.01
    )


def test_a_project_that_learned_nothing_leaves_the_weak_prior():
    made = of_new_project(Gaussians(np.ones(1), np.zeros((1, 3)), np.eye(3)[None]))
    np.testing.assert_allclose(made.mean, 0.0)
    np.testing.assert_allclose(made.covariance, np.broadcast_to(np.eye(3), made.covariance.shape), atol=1e-12)


def test_data_that_contradict_one_coordinate_leave_the_card_its_say_in_others():
    """The posterior under data of one coordinate that are twenty of the card's standard deviations off."""
    project = Gaussians(np.ones(1), np.array([[2.0, 1.0]]), 0.01 * np.eye(2)[None])
    prior = of_new_project(project)

    def moments_given(value, error):
        variance = prior.covariance[:, 0, 0] + error**2
        log_weight = np.log(prior.weight) - 0.5 * np.log(variance) - 0.5 * (value - prior.mean[:, 0]) ** 2 / variance
        weight = np.exp(log_weight - np.logaddexp.reduce(log_weight))
        gain = prior.covariance[:, :, 0] / variance[:, None]
        mean = prior.mean + gain * (value - prior.mean[:, [0]])
        covariance = prior.covariance - gain[:, :, None] * prior.covariance[:, None, 0]
        return mixture.moments(Gaussians(weight, mean, covariance))

    (before, spread), (near, _), (mean, covariance) = (
        mixture.moments(prior),
        moments_given(2.0, 0.2),
        moments_given(0.0, 0.2),
    )
    assert mean[0] == pytest.approx(0.0, abs=0.1) and near[0] == pytest.approx(2.0, abs=0.1)
    assert mean[1] == pytest.approx(before[1], abs=0.15)
    assert np.sqrt(covariance[1, 1]) == pytest.approx(np.sqrt(spread[1, 1]), rel=0.25)


def test_projects_that_do_not_differ_share_everything(monkeypatch):
    monkeypatch.setattr(meta, "HETEROGENEITY", 1e-6)
    project = Gaussians(np.ones(1), np.array([[2.0, -1.0]]), np.array([[[0.2, 0.1], [0.1, 0.3]]]))
    for part, own in zip(mixture.moments(of_new_project(project)), mixture.moments(project), strict=True):
        np.testing.assert_allclose(part, own, atol=1e-9)


@pytest.mark.slow
def test_new_projects_lie_where_it_says():
    """Quantiles at which new projects lie, of simulated sets of projects, are uniform."""
    rng, size, projects = np.random.default_rng(5), 3, 4
    at = []
    for _ in range(60):
        h = np.abs(rng.standard_cauchy(size)) * HETEROGENEITY
        theta = (rng.normal(size=size) + h * rng.normal(size=(projects + 1, size))) / np.sqrt(1.0 + h**2)
        root = rng.normal(size=(projects, size, size))
        precision = 3.0 * root @ np.swapaxes(root, 1, 2) + 2.0 * np.eye(size)
        linear = np.einsum("kij,kj->ki", precision, theta[:-1])
        linear += np.einsum("kij,kj->ki", np.linalg.cholesky(precision), rng.normal(size=(projects, size)))
        covariance = np.linalg.inv(np.eye(size) + precision)
        means = np.einsum("kij,kj->ki", covariance, linear)
        found = predictive(rng, evidence_of(list(means), list(covariance), [np.arange(size)] * projects, size))
        at.append((found.theta < theta[-1]).mean(axis=0))
    assert stats.kstest(np.ravel(at), "uniform").pvalue > 0.01
    assert np.mean((np.ravel(at) > 0.05) & (np.ravel(at) < 0.95)) == pytest.approx(0.9, abs=0.07)


def test_chains_that_do_not_agree_give_no_answer(monkeypatch):
    monkeypatch.setattr(meta, "ESS", 1e9)
    monkeypatch.setattr(meta, "LONGEST", 1)
    with pytest.raises(InputError, match="do not agree"):
        predictive(np.random.default_rng(0), Evidence(np.zeros((2, 1, 1)), np.zeros((2, 1))))


@pytest.fixture(scope="module")
def combined(make):
    """Of two projects, one with another kind of metric."""
    cards = [
        make.card(at=0.8, name="a"),
        make.card(at=-0.4, name="b", seed=1, first=1000, kinds=("loss",), licence="MIT"),
    ]
    return cards, combine(cards, "all", description="of two")


def test_a_combined_card_is_wider_than_each_and_lies_between(combined):
    cards, found = combined
    summary = found.card.summary()
    for label in ("mu_share", "tau[rate]", "log_onset"):
        each = [card.summary().loc[label] for card in cards]
        assert summary.loc[label, "narrowing"] < min(one["narrowing"] for one in each)
        assert min(one["median"] for one in each) < summary.loc[label, "median"] < max(one["median"] for one in each)
        assert 0.0 < found.heterogeneity.loc[label, "lower"] < found.heterogeneity.loc[label, "upper"]


def test_a_combined_card_says_what_it_is_made_of(combined):
    cards, found = combined
    about = found.card.provenance
    assert (about.name, about.projects, about.tasks, about.runs) == ("all", 2, 24, 192)
    assert (about.licence, about.description) == ("unknown", "of two")
    assert found.card.scope.metric_kinds == ("accuracy", "loss")
    assert found.card.labels[:2] == ("mu_level[accuracy]", "mu_level[loss]")
    assert found.card.population["mu_level[loss]"] == "tau[level]"
    assert len(found.card.fingerprints) == 192
    with pytest.raises(InputError, match="a combination itself"):
        combine([found.card, cards[0]], "more")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"first": 0}, "has seen a run that made-up has seen too"),
        ({"scope": {"proxy": "conditional"}}, "its proxy is conditional"),
        ({"scope": {"reference_depth": 0.1}}, "its reference_depth is 0.1"),
        ({"shift": 0.1}, "its weak prior of 'mu_level.accuracy.' is another"),
        ({"kind": "exponential"}, "its site 'misfit' is another"),
    ],
)
def test_cards_that_do_not_go_together(card, make, changes, words):
    first = changes.get("first", 1000)
    other = make.card(name="b", first=first)
    if "scope" in changes:
        other = dataclasses.replace(other, scope=dataclasses.replace(other.scope, **changes["scope"]))
    if "shift" in changes:
        other = dataclasses.replace(other, weak=dataclasses.replace(other.weak, mean=other.weak.mean + 0.1))
    if "kind" in changes:
        sites = list(other.sites)
        sites[6] = dataclasses.replace(sites[6], transform=Transform("exponential", {"mean": (0.2,)}))
        other = dataclasses.replace(other, sites=tuple(sites))
    with pytest.raises(InputError, match=words):
        combine([card, other], "both")


def test_one_card_is_no_combination(card):
    with pytest.raises(InputError, match="two or more"):
        combine([card], "one")


def test_cards_in_other_units_are_converted_first(combined, monkeypatch):
    cards, _ = combined
    handed = []

    def looked_at(rng, evidence):
        handed.append(evidence)
        raise InterruptedError

    monkeypatch.setattr("bayes_prehoc.priors.meta.predictive", looked_at)
    for second in (cards[1], cards[1].converted(Units(depth=0.2, risk=0.01))):
        with pytest.raises(InterruptedError):
            combine([cards[0], second], "all")
    for mine, other in zip(*handed, strict=True):
        assert mine == pytest.approx(other, rel=1e-9, abs=1e-9)
