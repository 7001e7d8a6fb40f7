"""What the laboratory says of its runs, against runs drawn in large numbers and against slow formulas."""

import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.errors import InputError
from bayes_prehoc.risk.branching import within_run_variances
from bayes_prehoc.risk.laboratory import (
    LEVEL,
    martingale,
    power_rates,
    results_of_examples,
    sgd,
    stopped,
    with_failures,
)
from bayes_prehoc.risk.noise import split_outcome_variance

DEPTHS = np.geomspace(5, 500, 6).round()
CHAINS = {
    "martingale": martingale(DEPTHS, 0.6, 1e-3, 2e-5),
    "constant rate": martingale(DEPTHS, -1.0, -1e-6, 2e-5),
    "flat": sgd(DEPTHS, power_rates(500, 0.8), 0.0, 0.02, 1e-5),
    "curved": sgd(DEPTHS, power_rates(500, 0.8), 0.9, 0.02, 1e-5),
    "heavy tails": martingale(DEPTHS, 0.6, 1e-3, 2e-5, tail=5.0),
    "failures": with_failures(martingale(DEPTHS, 0.6, 1e-3, 2e-5), 0.2, 0.08, 100.0),
}
MANY = 40_000


@pytest.fixture(scope="module", params=CHAINS)
def drawn(request):
    chain = CHAINS[request.param]
    return request.param, chain, chain.draw(np.random.default_rng(0), MANY)


def test_spread_is_the_variance_over_runs(drawn):
    _, chain, runs = drawn
    np.testing.assert_allclose(runs.values["score"].var(axis=0), chain.spread, rtol=0.06)


def test_risk_is_what_the_best_prediction_leaves(drawn):
    """Linear in the last value where runs are chains; by Bayes' rule over the whole prefix where some fail."""
    name, chain, runs = drawn
    outcome = runs.outcome - LEVEL
    for i, risk in enumerate(chain.risk):
        state = runs.values["score"][:, i] - LEVEL
        kept = np.prod(chain.carried[i:])
        if name == "failures":
            steps = np.diff(runs.values["score"][:, : i + 1] - LEVEL, axis=1, prepend=0.0)
            taken, sd = np.diff(chain.lost[: i + 1], prepend=0.0), np.sqrt(chain.fresh[: i + 1])
            fails = 0.2 * stats.norm.pdf(steps, -taken, sd).prod(axis=1)
            q = fails / (fails + 0.8 * stats.norm.pdf(steps, 0.0, sd).prod(axis=1))
            predicted = state - q * (chain.lost[-1] - chain.lost[i])
        else:
            predicted = kept * state
        error = (outcome - predicted) ** 2
        assert error.mean() == pytest.approx(risk, abs=4.0 * error.std() / np.sqrt(MANY)), (name, i)


@pytest.mark.parametrize("name", CHAINS)
def test_continuations_vary_by_what_the_state_leaves(name):
    chain = CHAINS[name]
    runs = chain.draw(np.random.default_rng(1), 4000, branches=3)
    assert runs.fork_depths.tolist() == DEPTHS[:-1].tolist()
    variances, _ = within_run_variances(runs.forked)
    error = 4.0 * variances.std(axis=0) / np.sqrt(len(variances))
    assert (np.abs(variances.mean(axis=0) - chain.given_state[:-1]) < error).all()
    # Continuations go on from the run's own state, and keep of it what the chain carries; failing shows in both.
    state, end = runs.values["score"][:, -2], runs.forked[:, -1].mean(axis=1)
    line = stats.linregress(state, end)
    if name == "failures":
        assert line.rvalue > 0.5
    else:
        assert line.slope == pytest.approx(chain.carried[-1], abs=4.0 * line.stderr)


def test_failing_is_open_to_prefixes_only():
    chain = CHAINS["failures"]
    extra = chain.risk - chain.given_state
    assert (extra[:-1] > 0.0).all() and extra[-1] == 0.0 and (np.diff(extra) < 0.0).all()
    # With nothing told yet, the variance of failing in full.
    silent = with_failures(martingale(DEPTHS, 0.6, 1e3, 0.0), 0.2, 0.3, 1e6)
    unsure = (silent.risk - silent.given_state)[0]
    assert unsure == pytest.approx(0.2 * 0.8 * (silent.lost[-1] - silent.lost[0]) ** 2, rel=1e-3)


@pytest.mark.parametrize("curvature", [0.0, 0.3])
def test_sgd_is_step_by_step_descent(curvature):
    depths, rho, sigma, runs = np.array([3.0, 10.0, 40.0]), 0.75, 0.5, 60_000
    rng, theta, seen = np.random.default_rng(2), np.zeros(60_000), []
    for k in range(1, 41):
        theta = theta - k**-rho * (curvature * theta + sigma * rng.normal(size=runs))
        if k in depths:
            seen.append(theta)
    chain = sgd(depths, power_rates(40, rho), curvature, sigma, 0.0)
    np.testing.assert_allclose(np.var(seen, axis=1), chain.spread, rtol=0.03)
    for i, state in enumerate(seen[:-1]):
        slope = np.mean(state * theta) / np.mean(state**2)
        assert slope == pytest.approx(np.prod(chain.carried[i:]), rel=0.05)
        assert np.var(theta - slope * state) == pytest.approx(chain.risk[i], rel=0.03)


def test_spread_and_risk_part_as_the_theory_says():
    """Proposition 5.1: the risk falls as c^-(2 rho - 1) on a flat direction, the spread as c^-rho on a curved one."""
    depths = np.array([1e3, 1e4, 1e5])
    flat = sgd(depths, power_rates(100_000, 0.6), 0.0, 1.0, 0.0)
    law = depths**-0.2 - depths[-1] ** -0.2
    assert flat.risk[0] / flat.risk[1] == pytest.approx(law[0] / law[1], rel=0.01)
    assert (np.diff(flat.spread) > 0.0).all()
    curved = sgd(depths, power_rates(100_000, 0.6), 0.5, 1.0, 0.0)
    assert np.log10(curved.spread[0] / curved.spread[1]) == pytest.approx(0.6, abs=0.02)
    assert curved.risk[0] / curved.risk[1] == pytest.approx(1.0, abs=1e-6)


def test_survivors_of_a_target_differ_from_the_runs():
    chain = martingale(DEPTHS, 0.6, 1e-3, 0.0)
    runs = chain.draw(np.random.default_rng(3), 4000)
    cut = stopped(runs, LEVEL + 0.02)
    value, whole = cut.values["score"], runs.values["score"]
    reached = whole >= LEVEL + 0.02
    for run in range(50):
        first = np.flatnonzero(reached[run])
        end = first[0] if len(first) else len(DEPTHS) - 1
        assert np.isfinite(value[run, : end + 1]).all() and np.isnan(value[run, end + 1 :]).all()
        assert np.isnan(cut.outcome[run]) == (end < len(DEPTHS) - 1)
    assert np.nanvar(value, axis=0)[-1] < 0.7 * chain.spread[-1]


def test_noise_of_examples_is_what_the_split_finds():
    rng, splits = np.random.default_rng(4), []
    for _ in range(1000):
        accuracy = 0.8 + 0.03 * rng.normal(size=30)
        results, noise = results_of_examples(rng, accuracy, 100)
        split = split_outcome_variance(results)
        splits.append([split.evaluation - noise, split.training - accuracy.var(ddof=1)])
    error = np.std(splits, axis=0, ddof=1) / np.sqrt(len(splits))
    assert (np.abs(np.mean(splits, axis=0)) < 3.0 * error).all()
    assert len(np.unique(results.mean(axis=0).round(1))) > 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: martingale(np.array([2.0, 1.0]), 0.5, 1.0, 0.0), "not positive and increasing"),
        (lambda: martingale(np.array([0.0, 1.0]), 0.5, 1.0, 0.0), "not positive and increasing"),
        (lambda: martingale(np.array([1.0]), 0.5, 1.0, 0.0), "Give two or more"),
        (lambda: martingale(np.array([1.0, 2.0]), -0.5, 1.0, 0.0), "Give both the same sign"),
        (lambda: sgd(DEPTHS, power_rates(400, 0.8), 0.0, 1.0, 0.0), "400 rates for 500 steps"),
        (lambda: with_failures(CHAINS["curved"], 0.1, 0.1, 1.0), "Give a martingale"),
    ],
)
def test_impossible_laboratories(make, words):
    with pytest.raises(InputError, match=words):
        make()
