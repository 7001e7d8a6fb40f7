"""Two posteriors as one: shares, order and chains of the mixed draws, and what is told of the weight."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.hierarchy.checks import Check
from bayes_prehoc.hierarchy.conflict import UNKNOWN, Threshold, sufficient, threshold_of
from bayes_prehoc.hierarchy.evidence import Evidence
from bayes_prehoc.hierarchy.inference import DEFAULT, Samples
from bayes_prehoc.hierarchy.mixing import CardWeight, mixed, weighed
from bayes_prehoc.priors import weak_weight


def samples(draws, start=0.0, error=0.05, passed=True):
    """Four chains whose draws tell their place: start, the chain and the number of the draw."""
    x = start + np.arange(4)[:, None, None] * 1000.0 + np.arange(draws)[None, :, None]
    return Samples(
        {"mu_share": x[..., 0]},
        {"leapt": x[..., 0], f"only {start}": x[..., 0]},
        x,
        (Check("r_hat", passed, 1.0, 1.01, "mu_share", "longer"),),
        DEFAULT,
        "collapsed",
        x,
        Evidence(0.0, error),
    )


@pytest.mark.parametrize(("weight", "number"), [(0.1, 333), (0.5, 600), (0.0, 300), (1.0, 750)])
def test_each_chain_is_mixed_of_its_two(weight, number):
    """As many draws as there are for the weight, none twice, each posterior's in their order."""
    made, under_card = mixed(np.random.default_rng(0), weight, samples(750), samples(300, 1e6))
    assert made.x.shape == (4, number, 1) and under_card.shape == (4, number)
    np.testing.assert_allclose(under_card.mean(), 1.0 - weight, atol=1.0 / number)
    for chain in range(4):
        own, from_card = made.x[chain, :, 0], under_card[chain] == 1.0
        assert len(np.unique(own)) == number
        for part, start in ((own[~from_card], 1000.0 * chain), (own[from_card], 1e6 + 1000.0 * chain)):
            assert np.all(np.diff(part) > 0.0) and np.all((part >= start) & (part < start + 1000.0))
    np.testing.assert_array_equal(made.sites["mu_share"], made.x[..., 0])
    np.testing.assert_array_equal(made.log_marginals, made.x)
    # Chains differ in whether a trajectory followed: what only one fit has is left out.
    assert list(made.statistics) == ["leapt"]
    if 0.0 < weight < 1.0:
        # The two lie anywhere among each other.
        assert stats.ks_2samp(np.flatnonzero(under_card[0] == 0), np.flatnonzero(under_card[0] == 1)).pvalue > 1e-3


def test_the_checks_of_both_fits_and_of_the_weight():
    made, _ = mixed(np.random.default_rng(0), 0.5, samples(50, passed=False), samples(50, error=0.1))
    by_name = {check.name: check for check in made.checks}
    assert list(by_name) == ["card_r_hat", "weak_r_hat", "weight_error"]
    assert by_name["card_r_hat"].passed and not by_name["weak_r_hat"].passed
    assert by_name["weight_error"].value == pytest.approx(0.25 * np.hypot(0.05, 0.1)) and by_name["weight_error"].passed
    made, _ = mixed(np.random.default_rng(0), 0.5, samples(50, error=0.3), samples(50))
    assert not made.checks[-1].passed
    unknown, under_card = mixed(np.random.default_rng(0), np.nan, samples(50, error=np.inf), samples(50))
    assert not unknown.checks[-1].passed and under_card.sum() == 0


def test_the_weight_has_an_interval():
    weight, lower, upper = weighed(Evidence(-3.0, 0.3), Evidence(-1.0, 0.4))
    assert weight == pytest.approx(float(weak_weight(-3.0, -1.0))) and lower < weight < upper
    rng = np.random.default_rng(0)
    found = weak_weight(-3.0 + 0.3 * rng.normal(size=40_000), -1.0 + 0.4 * rng.normal(size=40_000))
    np.testing.assert_allclose([lower, upper], np.quantile(found, (0.05, 0.95)), rtol=0.03)
    assert np.isnan(weighed(Evidence(np.nan, np.inf), Evidence(0.0, 0.1))[0])


def test_the_threshold_has_an_interval_that_holds_it():
    """In nine of ten samples of log odds the interval holds the true quantile."""
    truth = weak_weight(stats.norm.ppf(0.95), 0.0)
    held = 0
    for seed in range(300):
        odds = np.random.default_rng(seed).normal(size=100)
        found = threshold_of(odds, np.zeros(100))
        assert found.lower <= found.value <= found.upper and found.simulated == 100
        held += found.lower <= truth <= found.upper
    assert 0.84 < held / 300 < 0.98
    assert (sufficient(1), sufficient(10_000)) == (100, 40)


@pytest.fixture
def weight():
    evidences = Evidence(-2.0, 0.1), Evidence(1.0, 0.1)
    return CardWeight("six", 0.3, 0.2, 0.4, *evidences, Threshold(0.2, 0.1, 0.25, 40), np.zeros((2, 16), np.uint8))


def test_conflict_is_a_check_and_stands_in_the_words(weight):
    assert not weight.check.passed and weight.check.name == "prior_data_conflict"
    assert (weight.check.value, weight.check.threshold, weight.check.worst) == (0.3, 0.2, "card six")
    assert "card six, which conflicts with the estimates" in weight.words
    assert "w = 0.3 [0.2, 0.4]" in weight.words and "conflict from 0.2 [0.1, 0.25]" in weight.words
    agreeing = dataclasses.replace(weight, weight=0.1)
    assert agreeing.check.passed and "conflicts with" not in agreeing.words
    assert weight.briefly == "card six and the weak prior, w = 0.3"


@pytest.mark.parametrize("changes", [{"threshold": UNKNOWN}, {"weight": np.nan}])
def test_where_the_threshold_is_unknown_so_is_the_conflict(weight, changes):
    unknown = dataclasses.replace(weight, **changes)
    assert unknown.conflict is None and not unknown.check.passed
    assert "not known whether it conflicts" in unknown.words and "which conflicts" not in unknown.words
    assert "not known" in unknown.check.advice and "another seed" in unknown.check.advice
    assert weight.conflict and "unlike what the card was made from" in weight.check.advice


@pytest.mark.parametrize("known", [True, False])
def test_it_can_be_written(weight, known):
    """What is not known too, as strict JSON has it."""
    if not known:
        weight = dataclasses.replace(weight, weight=np.nan, weak=Evidence(np.nan, np.inf), threshold=UNKNOWN)
    read = CardWeight.from_dict(json.loads(json.dumps(weight.to_dict(), allow_nan=False)), weight.fingerprints)
    assert read.words == weight.words
    for field in ("weak", "card", "threshold"):
        np.testing.assert_equal(tuple(getattr(read, field)), tuple(getattr(weight, field)))
