"""A card: what it says, what it refuses to be, what it may be used for."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import bayes_prehoc.priors.card as module
from bayes_prehoc.errors import InputError
from bayes_prehoc.priors import Calibration, Diagnostic, Units, combine, make_card
from bayes_prehoc.risk.estimates import RiskEstimates, TaskEstimates


def estimates(hashes=("x",), proxy="run_to_run", task="a"):
    depths = np.array([1.0, 2.0])
    own = TaskEstimates(task, proxy, "accuracy", "accuracy", depths, depths, depths, 1.0, 1.0, 8, 10.0, hashes=hashes)
    return RiskEstimates(proxy, (own,))


def test_density_samples_and_values_are_of_the_same_hyperparameters(card):
    y = card.sample(4000, seed=1)
    assert card.log_density(y[:3]) == pytest.approx(
        stats.multivariate_normal(card.mixture.mean[0], card.mixture.covariance[0]).logpdf(y[:3])
    )
    assert np.asarray(card.log_density(jnp.asarray(y[:3]))) == pytest.approx(card.log_density(y[:3]), rel=1e-3)
    assert y == pytest.approx(card.sample(4000, seed=1))
    values = card.values(y)
    assert (
        values["tau"].shape == (4000, 3) and values["corr"].shape == (4000, 3, 3) and values["misfit"].shape == (4000,)
    )
    assert np.all(values["tau"] > 0.0) and np.all((values["misfit"] > 0.0) & (values["misfit"] < 1.0))
    assert card.coordinates(values) == pytest.approx(y, abs=1e-5)


def test_summary_is_of_values_and_of_every_element(card):
    summary = card.summary()
    assert tuple(summary.index) == card.labels
    draws = card.values(card.draws)
    for label, found in (("tau[share]", draws["tau"][:, 1]), ("corr[rate, level]", draws["corr"][:, 2, 0])):
        assert summary.loc[label, ["median", "lower", "upper"]].to_list() == pytest.approx(
            np.quantile(found, (0.5, 0.05, 0.95)), abs=0.08
        )
    # The card was made 0.4 weak standard deviations wide.
    assert summary["narrowing"].to_numpy() == pytest.approx(2.5, rel=0.12)


def test_some_coordinates_alone(card):
    some = card.marginal(["mu_rate", "tau[level]"])
    assert some.mean[0] == pytest.approx(card.mixture.mean[0][[2, 3]])
    with pytest.raises(InputError, match="no coordinate 'nonsense'"):
        card.marginal(["nonsense"])


def test_a_skewed_posterior_takes_more_than_one_normal(card, make):
    rng = np.random.default_rng(0)
    sites = make.sites()[1:3]
    share = np.where(rng.random(800) < 0.3, rng.normal(-4.0, 0.3, 800), rng.normal(0.0, 0.5, 800))
    found = make_card(
        {"mu_share": share, "mu_rate": rng.normal(size=800)},
        sites,
        dataclasses.replace(make.weak(), mean=np.zeros(2), scale=np.ones(2)),
        card.scope,
        card.provenance,
        hashes=["a"],
    )
    assert len(found.mixture.weight) == 2
    assert {check.name for check in found.diagnostics} == {"marginal_distance", "joint_distance"}


def test_a_posterior_that_no_four_normals_describe_is_refused(card, make):
    rng = np.random.default_rng(0)
    # Eight narrow modes on a circle.
    angle = 2 * np.pi * rng.integers(8, size=1000) / 8
    values = {"mu_share": 5 * np.cos(angle), "mu_rate": 5 * np.sin(angle)}
    values = {name: value + 0.05 * rng.normal(size=1000) for name, value in values.items()}
    weak = dataclasses.replace(make.weak(), mean=np.zeros(2), scale=np.ones(2))
    with pytest.raises(InputError, match="mixture is not that of its draws"):
        make_card(values, make.sites()[1:3], weak, card.scope, card.provenance, hashes=["a"])


def test_units_move_the_logarithms_that_have_any(card):
    other = card.converted(Units(depth=0.2, risk=1e-4))
    moved = other.mixture.mean[0] - card.mixture.mean[0]
    expected = np.zeros(len(card.labels))
    expected[card.labels.index("log_onset")] = math.log(1 / 0.2)
    expected[card.labels.index("mu_level[accuracy]")] = math.log(1e4)
    assert moved == pytest.approx(expected)
    assert other.weak.mean - card.weak.mean == pytest.approx(expected)
    y = card.sample(5)
    assert other.log_density(y + expected) == pytest.approx(card.log_density(y))
    back = other.converted(Units())
    assert back.mixture.mean == pytest.approx(card.mixture.mean)
    assert back.equivalent_tasks == pytest.approx(card.equivalent_tasks)


def test_it_is_handed_over_in_the_units_of_the_model(card):
    given = card.converted(Units(depth=0.2)).for_estimates(estimates(), 0.2)
    assert given.scope.units == Units()
    assert given.mixture.mean == pytest.approx(card.mixture.mean)


def test_what_it_was_made_from_it_refuses(card, make):
    assert card.seen(["run 3", "other", "run 95", "run 96"]) == ["run 3", "run 95"]
    first, second = estimates(("other",), task="fine"), estimates(("new", "run 7"), task="seen before")
    both = RiskEstimates("run_to_run", first.tasks + second.tasks)
    with pytest.raises(InputError, match="fitted on runs of 'seen before'"):
        card.for_estimates(both, 0.2)
    assert card.for_estimates(first, 0.2)


def test_what_its_ancestors_have_seen_it_has_seen(card, make):
    child = make_card(
        card.values(card.draws),
        make.sites(),
        make.weak(),
        card.scope,
        card.provenance,
        hashes=["own"],
        ancestors=[make.card(first=500)],
    )
    assert child.seen(["own", "run 3", "run 501"]) == ["own", "run 501"]
    with pytest.raises(InputError, match="run that made-up has seen"):
        combine([make.card(first=500), child], "both")


def test_what_it_is_not_of_it_refuses(card):
    with pytest.raises(InputError, match=r"proxy run_to_run, the estimates are of conditional"):
        card.for_estimates(estimates(proxy="conditional"), 0.2)
    with pytest.raises(InputError, match="cannot be converted"):
        card.for_estimates(estimates(), 0.25)


def test_names_of_tasks_only_where_asked_for(card, make):
    assert card.provenance.task_names is None
    with pytest.raises(InputError, match="1 names of 12 tasks"):
        make.card(task_names=("a",))


NARROW = np.diag([1.0] + [1e-15] * 13)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: {"mixture": c.mixture._replace(covariance=-c.mixture.covariance)}, "positive definite"),
        (lambda c: {"mixture": c.mixture._replace(covariance=NARROW[None])}, "positive definite"),
        (
            lambda c: {"mixture": c.mixture._replace(covariance=c.mixture.covariance + np.triu(np.ones(14)))},
            "symmetric",
        ),
        (lambda c: {"mixture": c.mixture._replace(mean=c.mixture.mean * np.nan)}, "not finite"),
        (lambda c: {"mixture": c.mixture._replace(mean=c.mixture.mean + 1e7)}, "beyond a million"),
        (lambda c: {"mixture": c.mixture._replace(mean=c.mixture.mean.astype(np.float32))}, "float32"),
        (lambda c: {"mixture": c.mixture._replace(mean=c.mixture.mean[:, 1:])}, "shape"),
        (lambda c: {"mixture": c.mixture._replace(weight=np.array([0.9]))}, "add up"),
        (lambda c: {"mixture": c.mixture._replace(weight=np.full(5, 0.2))}, "5 components"),
        (lambda c: {"mixture": None}, "NoneType"),
        (lambda c: {"weak": dataclasses.replace(c.weak, scale=-c.weak.scale)}, "not positive"),
        (lambda c: {"draws": c.draws + 1.0}, "not that of its draws"),
        (lambda c: {"draws": c.draws[:0]}, "0 draws"),
        (lambda c: {"draws": np.tile(c.draws, (3, 1))}, "1500 draws"),
        (lambda c: {"fingerprints": c.fingerprints[:0]}, "0 runs"),
        (lambda c: {"fingerprints": c.fingerprints[:, :8]}, "not bytes"),
        (lambda c: {"population": {"mu_share": "mu_rate"}}, "no coordinate"),
        (lambda c: {"population": {"<b>": "misfit"}}, "no coordinate"),
        (lambda c: {"sites": c.sites[1:] + c.sites[1:2]}, "twice"),
        (lambda c: {"diagnostics": (Diagnostic("r_hat", False, 1.2, 1.01, "tau"),)}, "was not passed"),
        (lambda c: {"diagnostics": (Diagnostic("r_hat", True, math.nan, 1.01, "tau"),)}, "nan"),
    ],
)
def test_what_no_card_can_be(card, change, words):
    with pytest.raises(InputError, match=words):
        dataclasses.replace(card, **change(card))


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"name": "../up"}, "cannot be a name"),
        ({"name": ""}, "cannot be a name"),
        ({"tasks": 0}, "out of range"),
        ({"tasks": True}, "bool"),
        ({"runs": 10**13}, "out of range"),
        ({"licence": ""}, "empty"),
        ({"licence": "MIT\x1b[31m"}, "U\\+001B"),
        ({"description": "a\u202eb"}, "U\\+202E"),
        ({"description": "x" * 30_000}, "30000 characters"),
        ({"citation": 3}, "int"),
        ({"created": "today"}, "no day"),
    ],
)
def test_what_provenance_cannot_be(make, about, words):
    with pytest.raises(InputError, match=words):
        make.card(**about)


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        ({"proxy": "magic"}, "Proxies are"),
        ({"proxy": ["run_to_run"]}, "Proxies are"),
        ({"reference_depth": 0.0}, "share of the horizon"),
        ({"reference_depth": math.nan}, "nan"),
        ({"metric_kinds": "accuracy"}, "not a list"),
        ({"families": ("a", "a")}, "twice"),
        ({"units": {"depth": 1.0}}, "Give Units"),
    ],
)
def test_what_a_scope_cannot_be(card, scope, words):
    with pytest.raises(InputError, match=words):
        dataclasses.replace(card.scope, **scope)


def test_units_and_calibration_that_cannot_be():
    with pytest.raises(InputError, match="positive"):
        Units(depth=0.0)
    with pytest.raises(InputError, match="neither true nor false"):
        Calibration("coverage", 0.9, met="yes")


def test_draws_that_do_not_vary(card, make):
    values = card.values(card.draws) | {"mu_rate": card.values(card.draws)["mu_share"]}
    with pytest.raises(InputError, match="do not vary"):
        make_card(values, make.sites(), make.weak(), card.scope, card.provenance, hashes=["a"])


def test_too_few_draws_or_none_of_a_site(card, make):
    values = card.values(card.draws)
    arguments = (make.sites(), make.weak(), card.scope, card.provenance)
    with pytest.raises(InputError, match="Fit with more draws"):
        make_card({name: own[:20] for name, own in values.items()}, *arguments, hashes=["a"])
    with pytest.raises(InputError, match="Fit with more draws"):
        make_card(values, *arguments, hashes=["a"], effective=20.0)
    with pytest.raises(InputError, match="no values of 'mu_rate'"):
        make_card({name: own for name, own in values.items() if name != "mu_rate"}, *arguments, hashes=["a"])


def test_a_card_of_what_was_not_learned_is_the_weak_prior(card, make):
    """Draws from the weak prior of the hyperparameters, by SciPy, give the card Normal(weak mean, weak scale)."""
    rng, number = np.random.default_rng(0), 2000
    values = {
        "tau": np.abs(rng.normal(size=(number, 3))) * np.array([1.5, 1.0, 0.5]),
        "misfit": stats.truncnorm.rvs(0.0, 5.0, scale=0.2, size=number, random_state=rng),
        "drift": rng.exponential(0.33, number),
        "lasting": rng.beta(2.0, 1.0, number),
        "length": np.exp(0.7 * rng.normal(size=number)),
    }
    sites = [site for site in make.sites() if site.name in values]
    assert [site.name for site in sites] == list(values)
    weak = dataclasses.replace(make.weak(), mean=np.zeros(7), scale=np.array([1.0] * 6 + [0.7]))
    found = make_card(values, sites, weak, card.scope, card.provenance, hashes=["a"])
    assert len(found.mixture.weight) == 1
    assert found.mixture.mean[0] == pytest.approx(weak.mean, abs=0.08)
    assert found.mixture.covariance[0] == pytest.approx(np.diag(weak.scale**2), abs=0.1)


def test_thinned_draws_are_spread_over_all(make, monkeypatch):
    whole = make.card(draws=800)
    monkeypatch.setattr(module, "MOST_DRAWS", 400)
    card = make.card(draws=800)
    assert card.draws.shape == (400, 14)
    assert card.draws[[0, -1]] == pytest.approx(whole.draws[[0, -1]])
    assert card.mixture.mean == pytest.approx(whole.mixture.mean)
