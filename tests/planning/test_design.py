"""The value of more seeds: against nested Monte Carlo where Bayes' rule has a closed form."""

import dataclasses

import numpy as np
import pytest
from scipy import special, stats

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning import design, draws
from bayes_prehoc.planning.costs import LinearCost, TableCost
from bayes_prehoc.planning.design import GRID, next_probe
from bayes_prehoc.risk.estimates import RiskEstimates

COST = LinearCost(1e-3)
ALPHA = 0.5


def _estimates(make, proxy="conditional", depths=(50.0, 200.0, 800.0), runs=20, **changes):
    depths = np.array(depths)
    risk, nu = 4e-4 * (depths / 200.0) ** -0.5, np.full(len(depths), runs - 1.0)
    fields = {"depths": depths, "risk": risk, "nu": nu, "n_runs": runs, "scale": 1.0}
    return RiskEstimates(proxy, (make.estimates("a", proxy, **fields | changes),))


def _latents(alpha=ALPHA, low=-1.0):
    return {"share": -6.0, "rate": special.logit((alpha - low) / (4.0 - low))}


def _losses(posterior, gamma):
    options = np.geomspace(posterior.estimates["a"].depths[0], 1000.0, GRID)
    return gamma * draws.risk(posterior.curve("a"), options) + COST.at(options)


def test_with_a_conjugate_prior_the_value_is_that_of_nested_monte_carlo(make, posterior_of):
    # U(c_0) is inverse gamma given the estimates there are, and new ones at three depths are independent gammas.
    a, b, runs, gamma = 4.0, 12e-4, 20, 2e3
    estimates = _estimates(make, runs=runs)
    u0 = stats.invgamma.ppf((np.arange(2000) + 0.5) / 2000, a, scale=b)
    posterior = posterior_of(
        estimates,
        level=np.random.default_rng(0).permutation(np.log(u0))[:, None],
        draws=2000,
        dependence=1e-6,
        **_latents(),
    )
    found = next_probe(posterior, cost=COST, gamma=gamma, future_runs=10**6, seeds=(4, 30)).table.set_index("seeds")

    one = posterior_of(estimates, level=0.0, **_latents())
    options = np.geomspace(50.0, 1000.0, GRID)
    per_unit, spent = draws.risk(one.curve("a"), options)[0], COST.at(options)
    random = np.random.default_rng(1)
    truth = stats.invgamma.rvs(a, scale=b, size=40_000, random_state=random)
    for seeds in (4, 30):
        half = 0.5 * 19.0 * seeds / runs
        # Each estimate over its curve at U(c_0) = 1.
        shown = truth * random.gamma(half, 1.0 / half, (3, 40_000))
        mean = (b + half * shown.sum(axis=0)) / (a + 3.0 * half - 1.0)
        before = (gamma * b / (a - 1.0) * per_unit + spent).min()
        after = (gamma * mean[:, None] * per_unit + spent).min(axis=1)
        expected, error = 1e6 * (before - after.mean()), 1e6 * after.std() / np.sqrt(40_000)
        got, se = found.loc[seeds, "gain"], found.loc[seeds, "gain_se"]
        assert got == pytest.approx(expected, abs=3.5 * np.hypot(se, error)), seeds
        assert 0.0 < se < 0.25 * got
    assert found.loc[4, "gain"] < found.loc[30, "gain"] < found.loc[30, "perfect"]


def test_with_two_hypotheses_the_value_is_that_of_bayes_rule_written_out(make, posterior_of):
    # Independent depths, no misfit: the weights of estimates at three depths are products of gamma densities.
    estimates = _estimates(make, runs=12)
    alpha = np.repeat([0.1, 1.5], 300)[np.random.default_rng(0).permutation(600)]
    low = special.logit((alpha + 1.0) / 5.0)[:, None]
    posterior = posterior_of(estimates, level=np.log(4e-4), share=-6.0, rate=low, dependence=1e-6, draws=600)
    gamma, seeds = 5e3, 3
    found = next_probe(posterior, cost=COST, gamma=gamma, future_runs=10**6, seeds=(seeds,)).table.iloc[0]

    first = [int(np.flatnonzero(alpha == own)[0]) for own in (0.1, 1.5)]
    losses = _losses(posterior, gamma)[first]
    curves = draws.risk(posterior.curve("a"), estimates["a"].depths)[first]
    random, gains = np.random.default_rng(1), []
    half = 0.5 * 11.0 * seeds / 12
    for truth in np.repeat([0, 1], 4000):
        shown = curves[truth] * random.gamma(half, 1.0 / half, 3)
        log_weight = stats.gamma.logpdf(shown, half, scale=curves / half).sum(axis=1)
        weight = special.softmax(log_weight)
        expected = weight @ losses
        gains.append(expected[losses.mean(axis=0).argmin()] - expected.min())
    expected, error = 1e6 * np.mean(gains), 1e6 * np.std(gains) / np.sqrt(8000)
    assert found["gain"] == pytest.approx(expected, abs=3.5 * np.hypot(found["gain_se"], error))
    assert expected > 10 * error


def test_what_lies_off_the_law_does_not_average_out(make, posterior_of):
    level = np.log(4e-4) + 0.6 * np.random.default_rng(0).normal(size=(600, 1))
    few, many = (_estimates(make, runs=runs) for runs in (10, 4000))

    def gain(estimates, misfit, seeds):
        posterior = posterior_of(estimates, level=level, misfit=misfit, draws=600, **_latents())
        return next_probe(posterior, cost=COST, gamma=2e3, future_runs=10**7, seeds=(seeds,)).table.iloc[0]["gain"]

    # With few runs, twice as many tell much. With thousands all is known but how far the task lies off the law, which
    # as many again do not tell.
    assert gain(few, 0.0, 10) > 0.5 * gain(few, 0.3, 10) > 0.0
    assert gain(many, 0.5, 4000) < 0.15 * gain(many, 0.0, 4000)


@pytest.mark.parametrize("proxy", ["conditional", "run_to_run"])
def test_a_campaign_probes_what_is_unknown_and_stops_when_it_is_known(make, posterior_of, proxy):
    low = -1.0 if proxy == "conditional" else 0.0
    known, unknown = (dataclasses.replace(_estimates(make, proxy)["a"], task=name) for name in ("known", "unknown"))
    estimates = RiskEstimates(proxy, (known, unknown))
    wide = np.random.default_rng(0).normal(size=600)
    level = np.log(4e-4) + np.stack([0.01 * wide, 1.0 * wide[::-1]], axis=1)
    shared = {} if proxy == "conditional" else {"drift": 1e-3}
    posterior = posterior_of(estimates, level=level, draws=600, **shared, **_latents(low=low))
    found = next_probe(posterior, cost=COST, gamma=1e4, future_runs=2000)
    assert found.task == "unknown" and found.value > 1.645 * found.value_se > 0.0 and found.proxy == proxy
    assert found.seeds in (1, 2, 4, 8, 16, 32) and found.depth_unit == "step"
    assert found.cost == pytest.approx(found.seeds * found.depth * 1e-3)
    # Runs of a spread end together, where the old ones do or further on.
    assert found.table["depth"].unique().tolist() == ([1000.0] if proxy == "conditional" else [800.0, 1000.0])
    for part in (f"{found.seeds} more seeds of unknown", "2000 future runs", "Monte Carlo se", "full run", proxy):
        assert part in found.reason
    # Of what is known nothing is worth its cost, and of the rest nothing is for few runs to come.
    assert not (found.table.query("task == 'known'")["value"] > 0.0).any()
    done = next_probe(posterior, cost=COST, gamma=1e4, future_runs=1)
    sure = next_probe(
        posterior_of(estimates, level=np.log(4e-4), **shared, **_latents(low=low)),
        cost=COST,
        gamma=1e4,
        future_runs=10**6,
    )
    for nothing in (done, sure):
        assert nothing.task is nothing.depth is nothing.seeds is None and "stop probing" in nothing.reason
    assert np.isnan(sure.table["gain"]).all(), "what even perfect knowledge does not repay is not simulated"


def test_by_default_a_full_run_costs_one_and_its_risk_is_worth_one(make, posterior_of):
    level = np.log(4e-4) + np.random.default_rng(0).normal(size=(600, 1))
    posterior = posterior_of(_estimates(make), level=level, draws=600, **_latents())
    found = next_probe(posterior, future_runs=2000, seeds=(2, 8))
    assert found.task == "a" and found.depth == 1000.0 and found.cost == pytest.approx(found.seeds)
    gamma = 1.0 / draws.risk(posterior.curve("a"), [50.0]).mean()
    assert next_probe(posterior, cost=COST, gamma=gamma, future_runs=2000, seeds=(2, 8)).table.equals(found.table)


def test_impossible_arguments_say_what_to_do(make, posterior_of, laboratory):
    posterior = laboratory.posterior()
    with pytest.raises(InputError, match="future_runs: it is 0"):
        next_probe(posterior, future_runs=0)
    with pytest.raises(InputError, match="seeds: it is 2.5"):
        next_probe(posterior, seeds=(2.5,))
    with pytest.raises(InputError, match="seeds: there are none"):
        next_probe(posterior, seeds=())
    with pytest.raises(InputError, match="cannot be a seed"):
        next_probe(posterior, seed=-1)
    with pytest.raises(InputError, match="gamma"):
        next_probe(posterior, gamma=0.0)
    with pytest.raises(InputError, match="batch: it is 0"):
        next_probe(posterior, batch=0)
    branching = _estimates(make, "branching")
    with pytest.raises(InputError, match="task 'a' do not say how many continuations .* fit again"):
        next_probe(posterior_of(branching, level=-8.0, **_latents()))


def test_seeds_of_branching_pay_for_their_continuations_and_tell_of_the_depths_they_are_forked_at(make, posterior_of):
    estimates = _estimates(make, "branching", branches=3)
    level = np.log(4e-4) + np.random.default_rng(0).normal(size=(600, 1))
    posterior = posterior_of(estimates, level=level, draws=600, **_latents())
    options = {"cost": LinearCost(1e-3, fixed=0.5), "gamma": 2e3, "future_runs": 10**6}
    table = next_probe(posterior, **options, seeds=(4,)).table.set_index("depth")
    # A whole run, and three continuations from each depth on; what it takes to set up a run is paid once.
    assert table.index.tolist() == [50.0, 200.0, 800.0]
    paid = 4 * (1.5 + 3 * np.cumsum([0.95, 0.8, 0.2]))
    np.testing.assert_allclose(table["cost"], paid)
    # As many seeds of complete runs would tell the same of every depth, for less.
    complete = dataclasses.replace(estimates["a"], proxy="conditional", branches=None)
    beside = posterior_of(RiskEstimates("conditional", (complete,)), level=level, draws=600, **_latents())
    (same,) = next_probe(beside, **options, seeds=(4,)).table.itertuples()
    assert table.loc[800.0, "gain"] == pytest.approx(same.gain) and same.cost == pytest.approx(4 * 1.5)
    # Forks at fewer depths tell less.
    slack = 3.0 * table["gain_se"]
    assert table.loc[50.0, "gain"] < table.loc[200.0, "gain"] + slack[50.0]
    assert table.loc[50.0, "gain"] < table.loc[800.0, "gain"] - slack[50.0]


def test_runs_of_a_spread_go_on_together(make, posterior_of):
    estimates = _estimates(make, "run_to_run", depths=(25.0, 50.0, 100.0))
    level = np.log(4e-4) + np.random.default_rng(0).normal(size=(600, 1))
    rate = special.logit(np.random.default_rng(1).uniform(0.1, 0.5, (600, 1)))
    posterior = posterior_of(estimates, level=level, share=-2.0, rate=rate, draws=600, drift=1e-3)
    table = next_probe(posterior, cost=COST, gamma=2e3, future_runs=10**6, seeds=(1, 5)).table
    ends = 100.0 * 10.0 ** (np.arange(4) / 3)
    np.testing.assert_allclose(table["depth"].unique(), ends)
    # The twenty that there are go on, and one or five more.
    paid = [n * c + 20 * (c - 100.0) for c in ends for n in (1, 5)]
    np.testing.assert_allclose(table["cost"], 1e-3 * np.array(paid))
    # Depths that nobody has seen tell how the spread goes on, more than as many seeds at the old ones.
    told = table.query("seeds == 5").set_index("depth")
    first, last = told.iloc[0], told.iloc[-1]
    assert last["gain"] - 2.0 * last["gain_se"] > first["gain"] > 4.0 * first["gain_se"]


def test_a_task_that_nobody_has_probed_has_no_probe_that_could_be_valued(make, posterior_of):
    known, nothing = _estimates(make)["a"], np.zeros(0)
    unseen = dataclasses.replace(known, task="b", depths=nothing, risk=nothing, nu=nothing, n_runs=0)
    level = np.log(4e-4) + np.random.default_rng(0).normal(size=(600, 1))
    posterior = posterior_of(RiskEstimates("conditional", (unseen, known)), level=level, draws=600, **_latents())
    found = next_probe(posterior, cost=COST, gamma=5e3, future_runs=10**5, seeds=(4,))
    assert found.task == "a" and found.table["task"].tolist() == ["a"]


def test_a_probe_that_costs_nothing_comes_first(make, posterior_of):
    estimates = _estimates(make, "run_to_run", depths=(25.0, 50.0, 100.0))
    level = np.log(4e-4) + np.random.default_rng(0).normal(size=(600, 1))
    posterior = posterior_of(estimates, level=level, share=-2.0, rate=0.0, draws=600, drift=1e-3)
    free = TableCost((0.0, 100.0, 1000.0), (0.0, 0.0, 1.0))
    found = next_probe(posterior, cost=free, gamma=2e3, future_runs=10**6, seeds=(5,))
    assert (found.depth, found.cost) == (100.0, 0.0) and found.batch["value_per_cost"].tolist() == [np.inf]


def _many(make, posterior_of, tasks):
    """Tasks that differ in how uncertain they are."""
    one = _estimates(make)["a"]
    estimates = RiskEstimates("conditional", tuple(dataclasses.replace(one, task=f"t{i}") for i in range(tasks)))
    width = np.linspace(0.05, 1.0, tasks)[np.random.default_rng(2).permutation(tasks)]
    level = np.log(4e-4) + width * np.random.default_rng(0).normal(size=(300, tasks))
    return posterior_of(estimates, level=level, draws=300, **_latents())


def test_tasks_that_cannot_hold_the_best_probe_are_not_simulated(make, posterior_of):
    posterior = _many(make, posterior_of, 12)
    options = {"cost": COST, "gamma": 5e3, "future_runs": 10**5, "seeds": (4,)}
    one, all_of_them = (next_probe(posterior, **options, batch=batch) for batch in (1, 12))
    valued = one.table["gain"].notna()
    assert 1 <= valued.sum() < 12 and all_of_them.table["gain"].notna().all()
    assert one.table.loc[valued, "gain"].equals(all_of_them.table.loc[valued, "gain"])
    best = all_of_them.batch.iloc[0]
    assert (one.task, one.value) == (best["task"], best["value"]) and len(one.batch) == 1
    # One probe a task, the best first, and no other.
    assert all_of_them.batch["task"].is_unique and all_of_them.batch["value_per_cost"].is_monotonic_decreasing
    three = next_probe(posterior, **options, batch=3).batch
    assert three["task"].tolist() == all_of_them.batch["task"].head(3).tolist()
    worth = all_of_them.table.query("value > 1.645 * gain_se")
    assert set(all_of_them.batch["task"]) == set(worth["task"])


def test_of_very_many_tasks_the_most_promising_are_valued_and_it_says_so(make, posterior_of, monkeypatch):
    monkeypatch.setattr(design, "MOST_VALUED", 1)
    posterior = _many(make, posterior_of, 12)
    options = {"cost": COST, "gamma": 5e3, "future_runs": 10**5, "seeds": (4,)}
    found = next_probe(posterior, **options, batch=2)
    assert found.table["gain"].notna().sum() == 3 and "of 12 tasks the 3 that promise most were valued" in found.reason
    told = found.table.set_index("task")
    assert told.loc[told["gain"].notna(), "perfect"].min() >= told.loc[told["gain"].isna(), "perfect"].max()
