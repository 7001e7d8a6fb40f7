"""The price of error from a stated loss, against explicit expectations over decisions."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning import ThresholdLoss, plan
from bayes_prehoc.planning.losses import expected_loss, price_of_error

# false_start, missed, margin, V, L: both sides of the threshold, either mistake the dearer one, much and little known.
CASES = [
    (3.0, 1.0, 0.2, 1.0, 0.3),
    (1.0, 5.0, -0.5, 2.0, 0.01),
    (2.0, 2.0, 0.0, 1.0, 0.2),
    (9.0, 1.0, 1.2815515655446004, 1.0, 0.5),
    (1.0, 4.0, 2.0, 1.0, 0.999),
]


def by_decisions(a, b, margin, before, left):
    """The smaller expected loss of the two decisions, over what is known when they are made."""
    known = stats.norm(margin, math.sqrt(before - left))

    def least(m):
        fails = stats.norm.cdf(-m / math.sqrt(left))
        return min(a * fails, b * (1.0 - fails)) * known.pdf(m)

    turn = -stats.norm.ppf(b / (a + b)) * math.sqrt(left)
    low, high = margin - 12 * known.std(), margin + 12 * known.std()
    ends = sorted({low, high, min(max(turn, low), high)})
    return sum(integrate.quad(least, *pair, limit=500, epsabs=1e-13)[0] for pair in itertools.pairwise(ends))


@pytest.mark.parametrize(("a", "b", "margin", "before", "left"), CASES)
def test_expected_loss_is_that_of_the_best_decisions(a, b, margin, before, left):
    found = expected_loss(ThresholdLoss(0.7, a, b), margin, before, left)
    assert found == pytest.approx(by_decisions(a, b, margin, before, left), rel=1e-7)


@pytest.mark.parametrize(("a", "b", "margin", "before", "left"), CASES)
def test_its_slope_is_the_documented_one(a, b, margin, before, left):
    loss, step = ThresholdLoss(0.7, a, b), 1e-4 * min(left, before - left)
    slope = expected_loss(loss, margin, before, left + step) - expected_loss(loss, margin, before, left - step)
    z = stats.norm.ppf(b / (a + b))
    k = (-margin - z * math.sqrt(left)) / math.sqrt(before - left)
    formula = (a + b) * stats.norm.pdf(z) * stats.norm.pdf(k) / (2.0 * math.sqrt(left * (before - left)))
    assert slope / (2 * step) == pytest.approx(formula, rel=1e-5)


def test_the_ends():
    loss = ThresholdLoss(0.0, 3.0, 1.0)
    assert expected_loss(loss, 0.4, 1.0, 0.0) == pytest.approx(0.0, abs=1e-12)
    assert expected_loss(loss, 0.4, 1.0, 1.0) == pytest.approx(min(3 * stats.norm.cdf(-0.4), stats.norm.cdf(0.4)))


def test_simulated_decisions_cost_what_is_expected():
    rng = np.random.default_rng(0)
    a, b, margin, before, left = 2.0, 5.0, 0.3, 1.5, 0.4
    known = margin + math.sqrt(before - left) * rng.standard_normal(1_000_000)
    outcome = known + math.sqrt(left) * rng.standard_normal(len(known))
    start = a * stats.norm.cdf(-known / math.sqrt(left)) < b * stats.norm.cdf(known / math.sqrt(left))
    paid = np.where(start, a * (outcome < 0.0), b * (outcome >= 0.0))
    found = expected_loss(ThresholdLoss(0.0, a, b), margin, before, left)
    assert found == pytest.approx(paid.mean(), abs=4 * paid.std() / 1e3)


def test_the_price_is_what_a_whole_run_saves_per_unit_of_risk():
    loss = ThresholdLoss(0.7, 3.0, 1.0)
    saved = expected_loss(loss, 0.2, 1.0, 1.0) - expected_loss(loss, 0.2, 1.0, 0.1)
    assert price_of_error(loss, 0.2, 1.0, 0.1) == pytest.approx(saved / 0.9)
    assert price_of_error(loss, 0.2, 0.5, 0.5) == 0.0
    # Nobody doubts on which side the outcome lies.
    assert price_of_error(loss, 60.0, 1.0, 0.1) == 0.0
    # Twice the loss is twice the price; another unit of the metric changes it as a squared unit changes.
    assert price_of_error(ThresholdLoss(0.7, 6.0, 2.0), 0.2, 1.0, 0.1) == pytest.approx(2 * saved / 0.9)
    assert price_of_error(loss, 20.0, 1e4, 1e3) == pytest.approx(saved / 0.9 / 1e4)


@pytest.mark.parametrize(("higher", "threshold"), [(True, 0.89), (False, 0.91)])
def test_a_plan_takes_its_price_from_the_loss(make, higher, threshold):
    estimates = (make.estimates("a", higher_is_better=higher),)
    made = plan(
        make.posterior({"a": make.curve(200, 0.4)}, estimates=estimates), gamma=ThresholdLoss(threshold, 2.0, 1.0)
    )
    task = made["a"]
    now, at_end = task.frontier.expected[0], task.frontier.expected[-1]
    # Either way the mean outcome, 0.9, lies 0.01 on the right side.
    assert task.gamma == pytest.approx(price_of_error(ThresholdLoss(0.0, 2.0, 1.0), 0.01, now, at_end), rel=1e-6)
    assert "2 full run for a full run that ends on the wrong side" in made.assumptions["gamma"]
    stated = plan(make.posterior({"a": make.curve(200, 0.4)}), gamma=task.gamma)["a"]
    assert stated.best_depth == pytest.approx(task.best_depth)


def test_a_threshold_out_of_reach_is_worth_no_watching(make):
    estimates = (make.estimates("a", higher_is_better=True),)
    task = plan(make.posterior({"a": make.curve(50, 0.2)}, estimates=estimates), gamma=ThresholdLoss(-50.0, 1.0, 1.0))[
        "a"
    ]
    assert task.gamma == 0.0 and task.best_depth == task.c_min
    assert any("changes no decision" in flag for flag in task.flags)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((math.nan, 1.0, 1.0), "threshold is nan"),
        ((True, 1.0, 1.0), "threshold is True"),
        (("0.9", 1.0, 1.0), "threshold is '0.9'"),
        ((0.9, 0.0, 1.0), "false_start is 0.0"),
        ((0.9, 1.0, math.inf), "missed is inf"),
    ],
)
def test_impossible_losses(arguments, said):
    with pytest.raises(InputError, match=said) as error:
        ThresholdLoss(*arguments)
    assert error.value.where == "gamma" and error.value.remedy
