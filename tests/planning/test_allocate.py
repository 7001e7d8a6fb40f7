"""One budget over many tasks, against every possibility there is."""

import itertools
import json
import math

import numpy as np
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning import ConvexCost, LinearCost, TableCost, allocate, draws, expected
from bayes_prehoc.planning.expected import expected_risk

TASKS = ("a", "b", "c", "d")


def portfolio(make, tasks=TASKS, horizon=1000.0, seed=0, **options):
    """Tasks of which some have more to tell than others, with uncertain curves."""
    random = np.random.default_rng(seed)
    curves = {
        task: make.curve(
            60, 0.5, horizon, seed=i, reducible=1.5e-4 * np.exp(random.normal()), alpha=0.4 + 0.8 * random.random()
        )
        for i, task in enumerate(tasks)
    }
    return make.posterior(curves, **options)


def mean_risk(posterior, task, depth):
    return draws.risk(posterior.curve(task), [depth]).mean()


def every_choice(posterior, budget, levels, cost_of, weights=None, groups=()):
    """Least weighted expected risk, over every level of every task and every set of groups."""
    weights = weights or {}
    grouped = {task: i for i, group in enumerate(groups) for task in group}
    best = math.inf
    risks = {t: [mean_risk(posterior, t, c) * weights.get(t, 1.0) for c in levels] for t in posterior.tasks}
    off = {t: mean_risk(posterior, t, 30.0) * weights.get(t, 1.0) for t in posterior.tasks}
    costs = {t: [cost_of(t).at(c) for c in levels] for t in posterior.tasks}
    for state in itertools.product((False, True), repeat=len(groups)):
        on = [t for t in posterior.tasks if t not in grouped or state[grouped[t]]]
        base = sum(off[t] for t in posterior.tasks if t not in on)
        for picked in itertools.product(range(len(levels)), repeat=len(on)):
            if sum(costs[t][k] for t, k in zip(on, picked, strict=True)) <= budget * (1 + 1e-12):
                best = min(best, base + sum(risks[t][k] for t, k in zip(on, picked, strict=True)))
    return best


@pytest.mark.parametrize("horizon", [1000.0, None])
@pytest.mark.parametrize("budget", [0.5, 1.3, 2.9])
def test_depths_without_steps_have_one_marginal_return(make, horizon, budget):
    posterior = portfolio(make, horizon=horizon)
    found = allocate(posterior, budget, weights={"b": 3.0})
    assert found.spent == pytest.approx(budget, rel=1e-9)
    assert found.gap <= 1e-9 * found.expected_risk
    for task, row in found.table.iterrows():
        price = 1e-3 * found.marginal_value / row["weight"]
        gain = draws.expected_marginal_gain(posterior.curve(task), row["depth"])
        if row["at_min"]:
            assert gain <= price * (1 + 1e-4)
        elif row["at_max"]:
            assert gain >= price * (1 - 1e-4)
        else:
            assert gain == pytest.approx(price, rel=1e-4)
        assert row["risk"] == pytest.approx(mean_risk(posterior, task, row["depth"]))


@pytest.mark.parametrize(
    "cost",
    [None, ConvexCost(2e-3, 400.0, 2.5, 0.05), TableCost((0.0, 300.0, 1000.0), (0.0, 0.3, 3.0))],
    ids=["linear", "convex", "table"],
)
def test_what_one_more_unit_of_budget_is_worth(make, cost):
    """Also where some tasks stand at the kink of a measured cost."""
    posterior = portfolio(make)
    least, value, most = (allocate(posterior, budget, cost=cost) for budget in (1.499, 1.5, 1.501))
    slope = (least.expected_risk - most.expected_risk) / 0.002
    assert value.marginal_value == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("budget", [0.4, 0.9, 2.2, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_steps_of_one_cost_agree_with_every_choice(make, budget, seed):
    posterior = portfolio(make, seed=seed)
    levels = np.arange(100.0, 1000.1, 100.0)
    found = allocate(posterior, budget, step=100.0, min_depth=100.0)
    best = every_choice(posterior, budget, levels, lambda _: LinearCost(1e-3))
    assert found.expected_risk == pytest.approx(best, rel=1e-6)
    assert np.all(found.table["depth"] % 100.0 == 0.0) and found.spent <= budget * (1 + 1e-9)


COSTS = {
    "a": LinearCost(1e-3, 0.1),
    "b": LinearCost(2.7e-3),
    "c": ConvexCost(1e-3, 300.0),
    "d": TableCost((0.0, 150.0, 200.0, 700.0, 1000.0), (0.0, 0.1, 0.7, 0.8, 1.9)),
}


@pytest.mark.parametrize("budget", [0.9, 1.7, 3.1])
@pytest.mark.parametrize("groups", [(), (("a", "c"),), (("a",), ("b", "d")), (("a",), ("b",), ("c",), ("d",))])
def test_unlike_costs_weights_and_groups_agree_with_every_choice(make, budget, groups):
    posterior = portfolio(make, seed=4)
    levels, weights = np.arange(100.0, 1000.1, 100.0), {"a": 2.0, "b": 5.0}
    named = {str(i): list(group) for i, group in enumerate(groups)}
    found = allocate(
        posterior, budget, cost=COSTS, weights=weights, step=100.0, min_depth=100.0, max_depth=1000.0, groups=named
    )
    best = every_choice(posterior, budget, levels, COSTS.get, weights, groups)
    assert found.expected_risk == pytest.approx(best, rel=1e-6)
    assert found.spent <= budget * (1 + 1e-9)
    for i, group in enumerate(groups):
        assert set(found.table.loc[list(group), "probed"]) == {found.groups[str(i)]}


@pytest.mark.parametrize("budget", [0.35, 0.8, 2.0])
@pytest.mark.parametrize("fixed", [0.0, 0.2])
def test_groups_without_steps_agree_with_every_set_of_them(make, budget, fixed):
    posterior = portfolio(make, seed=2)
    groups = {"first": ["a"], "second": ["b", "c"], "third": ["d"]}
    cost = LinearCost(1e-3, fixed)
    found = allocate(posterior, budget, cost=cost, groups=groups)
    best = math.inf
    for state in itertools.product((False, True), repeat=3):
        on = [t for chosen, own in zip(state, groups.values(), strict=True) if chosen for t in own]
        if sum(cost.at(30.0) for _ in on) > budget:
            continue
        off = sum(mean_risk(posterior, t, 30.0) for t in posterior.tasks if t not in on)
        if not on:
            best = min(best, off)
            continue
        alone = make.posterior({t: posterior.curve(t) for t in on})
        best = min(best, off + allocate(alone, budget, cost=cost).expected_risk)
    assert found.expected_risk == pytest.approx(best, rel=1e-6)
    assert found.gap <= 1e-6 * found.expected_risk
    assert not found.table.loc[~found.table["probed"], ["depth", "cost"]].any(axis=None)


def test_the_bound_holds_where_steps_are_too_many_to_try(make, monkeypatch):
    posterior = portfolio(make, seed=5)
    options = {"cost": COSTS, "step": 100.0, "min_depth": 100.0}
    exact = allocate(posterior, 1.9, **options)
    monkeypatch.setattr("bayes_prehoc.planning.allocation.MOST_LEVELS", 0)
    found = allocate(posterior, 1.9, **options)
    assert exact.gap == 0.0 and found.gap > 0.0
    assert found.expected_risk - found.gap <= exact.expected_risk * (1 + 1e-9)
    assert exact.expected_risk <= found.expected_risk * (1 + 1e-9)


def test_many_tasks_at_once(make):
    tasks = [f"t{i}" for i in range(400)]
    posterior = portfolio(make, tasks)
    found = allocate(posterior, 60.0, step=1.0)
    assert found.spent == pytest.approx(60.0) and found.gap <= 1e-6 * found.expected_risk
    inside = found.table[~found.table["at_min"] & ~found.table["at_max"]]
    assert len(inside) > 200
    gains = [draws.expected_marginal_gain(posterior.curve(t), c) for t, c in inside["depth"].items()]
    # Of whole steps: a step's return lies between those at its ends.
    np.testing.assert_allclose(gains, 1e-3 * found.marginal_value, rtol=0.05)


def test_money_for_everything_and_money_for_nothing_more(make):
    posterior = portfolio(make)
    rich = allocate(posterior, 100.0)
    assert (rich.table["depth"] == 1000.0).all() and rich.marginal_value == 0.0 and rich.spent == pytest.approx(4.0)
    least = allocate(posterior, 0.12)
    assert (least.table["depth"] == 30.0).all() and least.table["at_min"].all()
    more = allocate(posterior, 0.12 + 1e-5)
    slope = (least.expected_risk - more.expected_risk) / 1e-5
    assert least.marginal_value == pytest.approx(slope, rel=1e-2)
    assert least.expected_risk == pytest.approx(least.expected_before)
    with pytest.raises(InputError, match="which cost 0.12") as error:
        allocate(posterior, 0.11)
    assert error.value.where == "budget"


def test_totals_are_posteriors_of_the_sum(make):
    posterior = portfolio(make)
    found = allocate(posterior, 1.0, weights={"c": 2.0})
    total = sum(
        row["weight"] * draws.risk(posterior.curve(task), [row["depth"]])[:, 0] for task, row in found.table.iterrows()
    )
    assert found.expected_risk == pytest.approx(total.mean())
    assert (found.risk.lower, found.risk.upper) == pytest.approx(tuple(np.quantile(total, (0.05, 0.95))))
    assert found.before.median > found.risk.median
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [task["task"] for task in document["tasks"]] == list(TASKS) and document["unit"] == "full run"


def test_limits_of_single_tasks(make):
    posterior = portfolio(make)
    found = allocate(posterior, 1.5, min_depth={"a": 400.0}, max_depth={"b": 50.0}, step={"c": 70.0})
    depth = found.table["depth"]
    assert depth["a"] >= 400.0 and depth["b"] == 50.0 and depth["c"] % 70.0 == 0.0
    assert found.table["at_max"]["b"] and not found.table["extrapolated"].any()
    # 900 is the deepest fitted depth.
    assert allocate(posterior, 100.0).table["extrapolated"].all()


def test_tasks_without_an_answer_get_nothing(make):
    posterior = portfolio(make, statuses={"b": "not_identified"}, set_aside=[("z", "one seed only")])
    found = allocate(posterior, 1.0, groups={"one": ["b", "z"], "two": ["a"]})
    assert found.groups["one"] is False
    assert list(found.table.index) == ["a", "c", "d"]
    assert [one.task for one in found.left_out] == ["b", "z"] and "alpha" in found.left_out[0].reason
    with pytest.raises(InputError, match="the fit did not converge"):
        allocate(portfolio(make, converged=False), 1.0)


def test_a_spread_is_labelled(make):
    assert allocate(portfolio(make, horizon=None), 1.0).reading == "spread reading"
    assert allocate(portfolio(make), 1.0).reading == "verdict"


@pytest.mark.parametrize(
    ("arguments", "where", "said"),
    [
        ({"budget": 0.0}, "budget", "greater than 0"),
        ({"budget": math.nan}, "budget", "greater than 0"),
        ({"budget": "1"}, "budget", "greater than 0"),
        ({"weights": 2.0}, "weights", "{task: weight}"),
        ({"weights": {"a": 0.0}}, "weights, task 'a'", "greater than 0"),
        ({"weights": {"z": 1.0}}, "weights", "no task 'z'"),
        ({"step": -1.0}, "step", "greater than 0"),
        ({"step": {"a": 2000.0}}, "step, task 'a'", "no multiple of 2000"),
        ({"min_depth": 2000.0}, "min_depth, task 'a'", "beyond the horizon"),
        ({"max_depth": {"b": 2000.0}}, "max_depth, task 'b'", "beyond the horizon"),
        ({"min_depth": 500.0, "max_depth": {"b": 400.0}}, "min_depth, task 'b'", "beyond the greatest"),
        ({"groups": [["a"]]}, "groups", "name: .tasks."),
        ({"groups": {"one": "a"}}, "groups, 'one'", "a list of tasks"),
        ({"groups": {"one": ["a", "z"]}}, "groups, 'one'", "no task 'z'"),
        ({"groups": {"one": ["a"], "two": ["b", "a"]}}, "groups, 'two'", "Name each task once"),
        ({"cost": {t: LinearCost(1.0, unit=t) for t in TASKS}}, "cost", "in one unit"),
        ({"cost": TableCost((30.0, 900.0), (1.0, 2.0))}, "cost, task 'a'", "to its horizon"),
    ],
)
def test_bad_input(make, arguments, where, said):
    with pytest.raises(InputError, match=said) as error:
        allocate(portfolio(make), **({"budget": 1.0} | arguments))
    assert error.value.where == where


def test_squared_errors_of_unlike_metrics_need_weights(make):
    estimates = tuple(make.estimates(t, metric="loss" if t == "d" else "accuracy") for t in TASKS)
    posterior = portfolio(make, estimates=estimates)
    with pytest.raises(InputError, match="accuracy, loss, whose squared errors do not add up"):
        allocate(posterior, 1.0, weights={"a": 1.0, "b": 1.0, "d": 0.1})
    assert allocate(posterior, 1.0, weights=dict.fromkeys(TASKS, 1.0)).spent == pytest.approx(1.0)


@pytest.mark.parametrize(("low", "high", "alpha"), [(30.0, 1000.0, 0.6), (30.0, 1000.0, -0.5), (1.0, 1e5, 1.5)])
def test_cubics_are_the_expected_risk(make, low, high, alpha):
    curve = make.curve(300, 0.4, horizon=1e5 if high == 1e5 else 1000.0, alpha=alpha)
    curve = curve._replace(alpha=np.clip(curve.alpha, -0.95, 3.9))
    cubics = expected_risk([curve, curve], np.array([low, low]), np.array([high, low]))
    depths = np.geomspace(low, high, 101)
    exact = draws.risk(curve, depths).mean(axis=0)
    np.testing.assert_allclose(cubics.risk(np.zeros(101, int), depths), exact, rtol=5e-4 if high == 1e5 else 1e-6)
    assert cubics.risk(np.array([1]), np.array([low]))[0] == pytest.approx(exact[0], rel=1e-9)


def test_thinned_draws_place_and_all_draws_tell(make, monkeypatch):
    posterior = portfolio(make)
    monkeypatch.setattr(expected, "DRAWS", 20)
    found = allocate(posterior, 1.0)
    for task, row in found.table.iterrows():
        assert row["risk"] == pytest.approx(mean_risk(posterior, task, row["depth"]))
