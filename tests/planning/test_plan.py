"""The verb: defaults, what is told of each task, what is withheld, and the forms in which it is handed on."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from bayes_prehoc import theory
from bayes_prehoc.hierarchy import Drift
from bayes_prehoc.planning import (
    REGIMES,
    ConvexCost,
    Interval,
    LinearCost,
    TableCost,
    TaskPlan,
    draws,
    plan,
)

FIGURES = [field.name for field in dataclasses.fields(TaskPlan) if field.default is None]


def scalars(curve):
    return float(curve.reducible[0]), curve.reference, float(curve.alpha[0]), float(curve.onset[0])


@pytest.mark.parametrize("horizon", [1000.0, None])
def test_without_uncertainty_every_figure_is_the_closed_form(make, float64, horizon):
    curve = make.curve(horizon=horizon)
    task = plan(make.posterior({"a": curve}))["a"]
    shape = (*scalars(curve), horizon)
    l_int = float(curve.l_int[0])
    cheap = float(theory.envelope(50.0, l_int, *shape))

    assert task.c_cheap == 50.0  # 5% of 1000, deeper than the shallowest estimate
    assert task.gamma == pytest.approx(1.0 / cheap, rel=1e-9)  # a full run costs 1
    c_star = float(theory.optimal_depth(1e-3 * cheap, *shape))
    assert 30.0 < c_star < 1000.0
    for depth in (
        task.c_star.median,
        task.c_star.lower,
        task.c_star.upper,
        task.best_depth,
        task.actions["plug_in"].depth,
    ):
        assert depth == pytest.approx(c_star, rel=1e-8)
    assert task.rmse_cheap.median == pytest.approx(np.sqrt(cheap), rel=1e-9)
    assert task.rmse_final.median == pytest.approx(np.sqrt(l_int), rel=1e-9)  # L(c_T), or what stands in for it
    assert (task.L_int.median, task.alpha.median) == pytest.approx((l_int, 0.6), rel=1e-12)
    saved = float(theory.envelope(30.0, l_int, *shape)) - float(theory.envelope(c_star, l_int, *shape))
    assert task.gain.median == pytest.approx(task.gamma * saved - 1e-3 * (c_star - 30.0), rel=1e-7)
    assert task.p_gain == 1.0
    assert [f.tolerance for f in task.flips] == pytest.approx([np.sqrt(l_int), np.sqrt(cheap)], rel=1e-9)
    if horizon is None:
        assert task.K.median == pytest.approx(1.5e-4 * 208.0**0.6, rel=1e-12)
    else:
        assert task.K is None


@pytest.mark.parametrize(
    ("tolerance", "regime"), [(0.003, "noise-dominant"), (0.01, "dynamic-critical"), (0.03, "static-sufficient")]
)
def test_the_regime_follows_the_tolerance(make, tolerance, regime):
    task = plan(make.posterior(), tolerance=tolerance)["a"]
    assert task.regime == regime
    assert task.regimes == {name: float(name == regime) for name in REGIMES}


def test_the_noise_of_the_outcome_set_stands_beside_the_verdict(make):
    curve = make.curve(draws=400, spread=0.2, noise=2e-4)
    task = plan(make.posterior({"a": curve}))["a"]
    assert task.regime == "dynamic-critical"
    assert task.regimes_with_noise["noise-dominant"] > 0.9 and task.regimes["noise-dominant"] == 0.0
    np.testing.assert_allclose(task.curve_without_noise.depths, task.curve.depths)
    assert np.all(task.curve.median > task.curve_without_noise.median + 1.5e-4)
    assert task.L_int_with_noise.median == pytest.approx(np.median(curve.l_int + curve.noise))
    assert task.L_int_with_noise.lower > task.L_int.upper
    unknown = plan(make.posterior())["a"]
    assert unknown.regimes_with_noise is None and unknown.curve_without_noise is None
    assert unknown.L_int is not None and unknown.L_int_with_noise is None


def test_a_spread_is_read_as_a_spread(make):
    made = plan(make.posterior({"a": make.curve(200, 0.3, horizon=None)}))
    task = made["a"]
    assert task.reading == "spread reading" and "spread reading" in made.assumptions["reading"]
    assert task.rmse_final.median == pytest.approx(np.sqrt(task.L_int.median))
    assert "L_int" in task.extrapolated
    verdict = plan(make.posterior())
    assert verdict["a"].reading == "verdict" and "reading" not in verdict.assumptions


def test_default_tolerance_is_for_accuracies_in_the_unit_interval(make):
    estimates = (
        make.estimates("acc"),
        make.estimates("percent", outcome_mean=90.0),
        make.estimates("loss", metric="eval_loss", metric_kind="loss"),
    )
    posterior = make.posterior({e.task: make.curve(50, 0.2) for e in estimates}, estimates=estimates)
    made = plan(posterior)
    assert [t.tolerance for t in made] == [0.01, None, None]
    for name in ("percent", "loss"):
        task = made[name]
        assert task.regimes is None and task.regime is None and task.status == "ok"
        assert any("state a tolerance" in flag for flag in task.flags)
        assert task.c_star is not None and task.best_depth is not None and len(task.flips) == 2
    assert "none, so no regimes" in made.assumptions["tolerance"]
    stated = plan(posterior, tolerance={"loss": 0.02})
    assert [t.tolerance for t in stated] == [0.01, None, 0.02]
    assert stated["loss"].regimes is not None and "0.02 eval_loss, stated (loss)" in stated.assumptions["tolerance"]
    assert [t.tolerance for t in plan(posterior, tolerance=0.5)] == [0.5] * 3


def test_the_cheap_depth_is_never_shallower_than_what_was_fitted_unless_stated(make):
    deep = make.estimates("a", depths=np.array([120.0, 300.0, 600.0, 900.0]))
    posterior = make.posterior({"a": make.curve()}, estimates=(deep,))
    assert plan(posterior)["a"].c_cheap == 120.0
    assert "c_cheap" not in plan(posterior)["a"].extrapolated
    stated = plan(posterior, c_cheap=20.0)
    assert stated["a"].c_cheap == 20.0 and "c_cheap" in stated["a"].extrapolated
    assert stated.assumptions["c_cheap"] == "20 steps, stated"


def test_what_lies_outside_the_observed_depths_is_marked(make):
    shallow = make.estimates("a", depths=np.array([30.0, 60.0, 90.0, 120.0]))
    marked = plan(make.posterior({"a": make.curve()}, estimates=(shallow,)))["a"]
    assert marked.c_star.median > 120.0
    assert set(marked.extrapolated) == {"c_star", "best_depth", "L(c_T)"}
    full = make.estimates("a", depths=np.array([30.0, 100.0, 500.0, 1000.0]))
    assert plan(make.posterior({"a": make.curve()}, estimates=(full,)))["a"].extrapolated == ()


def test_gamma_is_one_number_per_task_held_fixed_over_draws(make):
    curve = make.curve(draws=500, spread=0.6, noise=1e-4)
    task = plan(make.posterior({"a": curve}))["a"]
    price = 1e-3 / task.gamma
    mean_risk = np.mean(curve.l_int + curve.reducible * np.asarray(theory.decay(
        np.float64(50.0), 200.0, curve.alpha, curve.onset, 1000.0)))  # fmt: skip
    assert task.gamma == pytest.approx(1.0 / mean_risk, rel=1e-5)  # without the outcome set's noise
    per_draw = np.asarray(theory.optimal_depth(price, curve.reducible, 200.0, curve.alpha, curve.onset, 1000.0))
    expected = np.quantile(np.clip(per_draw, 30.0, 1000.0), [0.5, 0.05, 0.95])
    assert (task.c_star.median, task.c_star.lower, task.c_star.upper) == pytest.approx(tuple(expected), rel=1e-4)


def test_a_stated_gamma_is_the_same_for_all_tasks(make):
    posterior = make.posterior({"a": make.curve(), "b": make.curve(reducible=3e-4)})
    made = plan(posterior, gamma=5000.0, cost=LinearCost(0.4, 2.0, "GPU hour"))
    assert [t.gamma for t in made] == [5000.0, 5000.0]
    assert "5000 (GPU hour per unit of squared error)" in made.assumptions["gamma"]
    assert "0.4 GPU hour per step, plus 2 GPU hour" in made.assumptions["cost"]
    default = plan(posterior)
    assert default["a"].gamma > 1.2 * default["b"].gamma
    assert "(full run per squared accuracy)" in default.assumptions["gamma"]


def test_the_unit_of_the_cost_changes_no_depth(make):
    posterior = make.posterior({"a": make.curve(100, 0.4)})
    default, hours = plan(posterior)["a"], plan(posterior, cost=LinearCost(0.03, 7.0, "GPU hour"))["a"]
    assert hours.best_depth == pytest.approx(default.best_depth, rel=1e-9)
    assert hours.value_of_information == pytest.approx(30 * default.value_of_information, rel=1e-6)


def test_each_task_has_a_cost_of_its_own_where_that_is_stated(make):
    posterior = make.posterior({"a": make.curve(100, 0.4), "b": make.curve(100, 0.4)})
    table = TableCost((0.0, 100.0, 1000.0), (1.0, 2.0, 5.0), "GPU hour", 2.5, "EUR")
    made = plan(posterior, cost={"a": table, "b": ConvexCost(1e-3, 500.0, fixed=0.1)}, gamma={"b": 4000.0})
    a, b = made["a"], made["b"]
    # Removing the whole risk at the cheap depth is worth what a run costs beyond being set up.
    assert a.gamma * np.mean(draws.risk(posterior.curve("a"), [50.0])) == pytest.approx(2.5 * 4.0)
    assert b.gamma == 4000.0
    np.testing.assert_allclose(a.frontier.cost, 2.5 * np.interp(a.frontier.depths, table.depths, table.costs))
    assert "measured at 3 depths" in made.assumptions["cost"] and "at 2.5 EUR (a)" in made.assumptions["cost"]
    assert "growing with depth to the power 2" in made.assumptions["cost"]
    assert "(EUR per squared accuracy) (a)" in made.assumptions["gamma"]
    assert "4000 (full run per unit of squared error), stated (b)" in made.assumptions["gamma"]
    json.dumps(made.to_dict(), allow_nan=False)


def test_the_frontier_pairs_risk_with_cost(make):
    curve = make.curve(300, 0.3, noise=1e-4)
    found = plan(make.posterior({"a": curve}), cost=LinearCost(0.4, 2.0, "GPU hour"))["a"].frontier
    assert found.depths[0] == 30.0 and found.depths[-1] == 1000.0
    np.testing.assert_allclose(found.cost, 2.0 + 0.4 * found.depths)
    risks = draws.risk(curve, found.depths)
    np.testing.assert_allclose(found.expected, risks.mean(axis=0))
    np.testing.assert_allclose(found.median, np.median(risks, axis=0))
    np.testing.assert_allclose([found.lower, found.upper], np.quantile(risks, (0.05, 0.95), axis=0))
    assert np.all(np.diff(found.expected) < 0) and np.all(np.diff(found.cost) > 0)


def test_a_rule_of_a_hundred_steps_needs_steps(make):
    estimates = (make.estimates("a"), make.estimates("b", depth_unit="epoch"))
    made = plan(make.posterior({"a": make.curve(), "b": make.curve()}, estimates=estimates))
    assert made["a"].actions["hundred_steps"].depth == 100.0 and "hundred_steps" not in made["b"].actions
    assert made["a"].value_of_information == made["a"].actions["best_depth"].regret.expected


def test_no_risk_is_worth_no_probing(make):
    made = plan(make.posterior({"a": make.curve(20, l_int=0.0, reducible=0.0)}))
    task = made["a"]
    assert task.gamma == 0.0 and task.best_depth == task.c_min and task.c_star_at_min == 1.0 and task.p_gain == 0.0
    assert task.regime == "static-sufficient"
    assert any("no risk" in flag for flag in task.flags)
    json.dumps(made.to_dict(), allow_nan=False)


def test_a_risk_without_expectation_has_no_price(make):
    curve = make.curve(20)
    curve.reducible[3] = np.inf
    made = plan(make.posterior({"a": curve}))
    task = made["a"]
    assert task.gamma is None and task.c_star is None and task.best_depth is None
    assert task.regimes["dynamic-critical"] == 1.0
    assert any("state gamma" in flag for flag in task.flags)
    json.dumps(made.to_dict(), allow_nan=False)


def test_not_converged_withholds_every_figure_of_every_task(make):
    made = plan(make.posterior({"a": make.curve(), "b": make.curve()}, converged=False))
    for task in made:
        assert task.status == "not_converged"
        assert [name for name in FIGURES if getattr(task, name) is not None] == []
        assert task.flips == () and task.extrapolated == ()
        assert len(task.points) == 4
    document = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert document["converged"] is False and document["tasks"][0]["L_int"] is None
    assert made.table[["L_int", "c_star", *REGIMES]].isna().all(axis=None)
    assert "withheld" in made.assumptions["gamma"]


def test_not_identified_withholds_the_figures_of_one_task(make):
    made = plan(make.posterior({"a": make.curve(), "b": make.curve()}, statuses={"b": "not_identified"}))
    assert [name for name in FIGURES if getattr(made["b"], name) is not None] == []
    assert made["a"].regime == "dynamic-critical"
    assert made.table.loc["b", "status"] == "not_identified" and made.table.loc["a", "status"] == "ok"


def test_a_verdict_between_observed_depths_stands_without_alpha(make):
    """It needs the risk at the cheap depth and at the end, not how the risk between them is divided."""
    seen = np.array([30.0, 100.0, 300.0, 1000.0])
    estimates = tuple(make.estimates(name, depths=seen) for name in ("a", "b"))
    curves = {"a": make.curve(200, 0.3), "b": make.curve(200, 0.3)}
    made = plan(make.posterior(curves, estimates=estimates, statuses={"b": "not_identified"}))
    told, other = made["b"], made["a"]
    assert told.status == "not_identified" and told.answered and told.extrapolated == ()
    assert told.regimes == other.regimes and told.rmse_final == other.rmse_final and told.flips == other.flips
    withheld = (
        "L_int",
        "alpha",
        "K",
        "c_star",
        "gamma",
        "best_depth",
        "gain",
        "p_gain",
        "actions",
        "frontier",
        "value_of_information",
        "boundaries",
    )
    assert [name for name in withheld if getattr(told, name) is not None] == []
    assert set(told.cloud) == {"rmse_cheap", "rmse_final"} and told.curve is not None


def test_a_spread_reading_is_withheld_where_its_limit_is_not_identified(make):
    curves = {"a": make.curve(200, 0.3, horizon=None)}
    estimates = (make.estimates("a", "run_to_run", depths=np.array([30.0, 100.0, 300.0, 1000.0])),)
    made = plan(make.posterior(curves, estimates=estimates, statuses={"a": "not_identified"}))
    assert not made["a"].answered and made["a"].regimes is None


def test_the_misfit_is_reported_with_its_interval(make):
    assert "0.20 [0.11, 0.29] in log risk" in plan(make.posterior()).assumptions["misfit"]
    assert "misfit" not in plan(make.posterior(converged=False)).assumptions


def test_the_drift_of_a_spread_is_reported_with_its_interval(make):
    estimates = (make.estimates("a", "run_to_run", depths=np.array([30.0, 100.0, 300.0, 1000.0])),)
    spread = plan(make.posterior({"a": make.curve(horizon=None)}, estimates=estimates), tolerance=0.01)
    assert "0.30 [0.21, 0.39] in log risk" in spread.assumptions["drift"]
    assert "drift" not in plan(make.posterior()).assumptions


def test_points_carry_their_sampling_interval(make):
    estimates = make.estimates()
    point = plan(make.posterior())["a"].points[1]
    nu = estimates.nu[1]
    assert (point["depth"], point["risk"]) == (100.0, estimates.risk[1])
    # The interval holds the U for which U-hat is neither in the lowest nor in the highest 5%.
    assert stats.chi2.cdf(nu * point["risk"] / point["lower"], nu) == pytest.approx(0.95)
    assert stats.chi2.cdf(nu * point["risk"] / point["upper"], nu) == pytest.approx(0.05)


def test_the_curve_reaches_from_before_the_estimates_to_the_horizon(make):
    band = plan(make.posterior({"a": make.curve(300, 0.3)}))["a"].curve
    assert band.depths[0] <= 15.0 and band.depths[-1] == pytest.approx(1000.0) and len(band.depths) == 60
    assert np.all(band.lower <= band.median) and np.all(band.median <= band.upper)
    assert np.all(np.diff(band.median) < 0)


def test_the_cloud_is_thinned_and_in_units_of_the_tolerance(make):
    task = plan(make.posterior({"a": make.curve(4000, 0.3)}), tolerance=0.02)["a"]
    assert {name: len(draws) for name, draws in task.cloud.items()} == dict.fromkeys(
        ("rmse_cheap", "rmse_final", "c_star"), 400
    )
    assert np.median(task.cloud["rmse_cheap"]) * 0.02 == pytest.approx(task.rmse_cheap.median, rel=0.05)
    assert task.cloud["c_star"].min() >= task.c_min and task.cloud["c_star"].max() <= task.horizon
    assert np.mean(task.cloud["rmse_final"] > 1) == pytest.approx(task.regimes["noise-dominant"], abs=0.05)


def test_table(make):
    made = plan(make.posterior({"a": make.curve(100, 0.3), "b": make.curve(100, 0.3, reducible=3e-6)}))
    table = made.table
    assert list(table.index) == ["a", "b"]
    np.testing.assert_allclose(table[list(REGIMES)].sum(axis=1), 1.0)
    for name in ("L_int", "alpha", "c_star"):
        assert (table[f"{name}_lower"] < table[name]).all() and (table[name] < table[f"{name}_upper"]).all()
        assert table.loc["b", name] == getattr(made["b"], name).median
    assert list(table["regime"]) == ["dynamic-critical", "static-sufficient"]
    assert list(table["extrapolated"]) == ["L(c_T)"] * 2 and list(table["tolerance"]) == [0.01] * 2


def test_document_is_strict_and_complete(make):
    made = plan(make.posterior({"a": make.curve(50, 0.3)}, set_aside=[("z", "one seed only")]))
    document = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert document["proxy"] == "conditional" and document["converged"] is True and document["version"]
    assert document["set_aside"] == [{"task": "z", "reason": "one seed only"}]
    assert document["checks"][1] == {
        "check": "e_bfmi", "gate": True, "passed": True, "value": None, "threshold": 0.3, "advice": ""
    }  # fmt: skip
    (task,) = document["tasks"]
    assert task["task"] == "a" and set(task["regimes"]) == set(REGIMES)
    for name in ("L_int", "alpha", "c_star", "rmse_cheap", "gain"):
        assert set(task[name]) == {"median", "lower", "upper"}
    assert set(task["actions"]["best_depth"]["regret"]) == {"expected", "cvar"}
    assert len(task["points"]) == 4 and len(task["curve"]["depths"]) == 60 and "cloud" not in task
    assert task["cost"] == {
        "form": "linear",
        "per_unit": 0.001,
        "fixed": 0.0,
        "unit": "full run",
        "price": None,
        "currency": None,
    }


def test_every_assumption_is_told_with_its_numbers(make):
    estimates = (
        make.estimates("a", noise=1e-5, noise_se=1e-6),
        make.estimates("b", horizon_assumed=True, outcome_stands_in=True),
    )
    posterior = make.posterior(
        {"a": make.curve(noise=1e-5), "b": make.curve()}, estimates=estimates, prior="the weak prior"
    )
    words = plan(posterior).assumptions
    assert words["proxy"].startswith("conditional")
    assert "0.01 accuracy, the default" in words["tolerance"]
    assert words["c_cheap"].startswith("50 steps: 5% of the horizon")
    assert words["cost"].startswith("a full run costs 1")
    assert "1000 steps" in words["horizon"] and "assumed for b" in words["horizon"]
    assert words["outcome"].endswith("for b")
    assert "unknown and included for b" in words["noise"]
    assert words["prior"] == "the weak prior"
    assert all(isinstance(text, str) and text for text in words.values())


def test_what_the_caller_does_later_changes_nothing(make):
    tolerance = {"a": 0.02}
    made = plan(make.posterior(), tolerance=tolerance)
    tolerance["a"] = 0.5
    assert made.arguments.tolerance == {"a": 0.02}


def test_interval_is_the_central_ninety_percent():
    assert Interval.of(np.arange(101.0)) == Interval(50.0, 5.0, 95.0)


def test_a_spread_that_drifts_is_planned_as_it_is(make):
    """By the law it falls to the end; the estimates show that it rises there."""
    law = make.curve(draws=300, spread=0.02, horizon=None, l_int=1e-6, reducible=4e-4, alpha=0.5)
    drift = Drift(np.array([15.0, 100.0, 400.0, 800.0, 1000.0]), np.tile([0.0, 0.0, 3.0, 3.0, 0.0], (300, 1)))
    curve = law._replace(drift=drift)
    by_law, task = (plan(make.posterior({"a": own}), gamma=2e3, tolerance=0.01)["a"] for own in (law, curve))
    assert by_law.best_depth > 250.0 and 30.0 < task.best_depth <= 110.0
    assert task.c_star.upper <= 110.0
    # Bands, the price of error and the cheap look are of the same curve; L_int and alpha are the law's.
    at = np.searchsorted(task.curve.depths, 400.0)
    assert task.curve.median[at] > 10.0 * by_law.curve.median[at]
    assert (task.L_int, task.alpha, task.K) == (by_law.L_int, by_law.alpha, by_law.K)
    np.testing.assert_allclose(task.boundaries.static, by_law.boundaries.static)
    assert task.actions["full_run"].regret.expected > task.actions["best_depth"].regret.expected
    # A frontier holds no depth beyond which risk is higher.
    assert np.all(np.diff(task.frontier.expected) < 0.0) and np.all(np.diff(task.frontier.cost) > 0.0)
    assert not np.any((task.frontier.depths > 110.0) & (task.frontier.depths < 900.0))
    json.dumps(task.to_dict(), allow_nan=False)


def test_a_spread_below_what_it_tends_to_has_the_flips_of_its_classes(make):
    law = make.curve(draws=200, spread=0.3, horizon=None)
    curve = law._replace(drift=Drift(np.array([30.0, 1000.0]), np.tile([-4.0, 0.0], (200, 1))))
    posterior = make.posterior({"a": curve})
    task = plan(posterior, tolerance=1.0)["a"]
    assert task.rmse_cheap.median < task.rmse_final.median and task.flips
    for flip in task.flips:
        below, above = (plan(posterior, tolerance=flip.tolerance * k)["a"].regime for k in (1 - 1e-6, 1 + 1e-6))
        assert (below, above) == (flip.below, flip.above)
