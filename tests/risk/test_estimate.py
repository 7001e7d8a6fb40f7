"""`estimate_risk`: choice of the proxy and the metric, what is set aside, what is copied, what is said."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.risk import RiskEstimates, estimate_risk
from bayes_prehoc.risk.conditional import HALVES, MOST, cross_fitted_errors, extrapolated, prefix_features
from bayes_prehoc.risk.noise import split_outcome_variance
from bayes_prehoc.runs import SetAside, TaskRuns, Trajectories, read_runs

NAN, INF = np.nan, np.inf


def _set(*tasks):
    return Trajectories(tasks)


def _says(task, words):
    return any(words in flag for flag in task.flags)


def spread_like(curve, runs, seed=0):
    """Values (runs, D) of accuracy whose standard deviations are a curve's, about as each depth by itself."""
    return 0.7 + 0.05 * np.asarray(curve) * np.random.default_rng(seed).normal(size=(runs, len(curve)))


def test_run_to_run_is_the_variance_at_shared_depths(make_task):
    task = make_task(n=12, examples=False, values={"accuracy": spread_like([2.0, 1.4, 1.0, 0.7, 0.5], 12)})
    estimates = estimate_risk(_set(task))
    assert isinstance(estimates, RiskEstimates) and estimates.proxy == "run_to_run" and len(estimates) == 1
    got = estimates["a"]
    assert got.depths.tolist() == [1, 2, 4, 8]
    np.testing.assert_allclose(got.risk, task.values["accuracy"][:, 1:].var(axis=0, ddof=1), rtol=1e-12)
    assert (got.nu > 2.0).all() and (got.nu <= 11.0).all()
    assert [(left.depth, left.reason) for left in got.left_out] == [(0.0, "depth 0 is not fitted")]
    assert got.scale == got.outcome_mean == pytest.approx(task.values["accuracy"][:, -1].mean())
    assert got.hashes == task.run_hashes() and got.n_runs == 12 and got.outcome_stands_in and not got.has_noise
    assert (got.metric, got.metric_kind, got.depth_unit, got.higher_is_better) == (
        "accuracy",
        "accuracy",
        "epoch",
        True,
    )
    assert (got.horizon, got.horizon_assumed, got.flags) == (8.0, False, ())


def test_depths_outside_the_law_are_left_out_and_said(make_task):
    depths = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
    curve = np.array([0.02, 1.0, 0.8, 0.6, 0.5, 0.4, 0.6, 0.9])
    task = make_task(n=200, depths=depths, examples=False, values={"accuracy": spread_like(curve, 200)})
    got = estimate_risk(_set(task), proxy="run_to_run")["a"]
    assert got.depths.tolist() == [2, 4, 8, 16, 32] and len(got.risk) == len(got.nu) == 5
    assert got.correlation.shape == (5, 5)
    early, *late = got.left_out
    assert early.depth == 1 and early.reason.startswith("its spread rises here, before the law of decay")
    assert [left.depth for left in late] == [64, 128]
    assert all(left.reason.startswith("its spread grows here, outside the law") for left in late)
    assert _says(got, "its spread grows after 32")


def test_a_spread_that_ends_higher_than_all_of_its_decay_is_set_aside(make_task):
    """As on a task that groks: the decay before says nothing of what is open at the end."""
    curve = np.array([1.0, 0.8, 0.6, 0.5, 0.4, 8.0, 9.0])
    values = {"accuracy": spread_like(curve, 200)}
    task = make_task(n=200, depths=2.0 ** np.arange(7), examples=False, values=values)
    with pytest.raises(InputError, match="its spread rises with depth .from 0.018.* at 16 to 0.4.* at 64"):
        estimate_risk(_set(task), proxy="run_to_run")


def test_conditional_is_the_cross_fitted_error_of_the_recorded_outcome(make_task):
    task = make_task(n=32)
    got = estimate_risk(_set(task), seed=7)["a"]
    values = np.stack([task.values["accuracy"], task.values["loss"]])[:, :, 1:]
    errors = cross_fitted_errors(jax.random.key(7), prefix_features(values), jnp.asarray(task.outcome), MOST, HALVES)
    expected = extrapolated(*map(np.asarray, errors))
    for name in ("risk", "nu", "bias", "correlation"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-2, atol=1e-3, err_msg=name)
    assert got.proxy == "conditional" and got.depths.tolist() == [1, 2, 4, 8] and not got.outcome_stands_in
    split = split_outcome_variance(task.outcome_examples)
    assert (got.noise, got.noise_se) == split[2:]
    assert got.scale == pytest.approx(task.outcome.mean())
    assert got.flags == ("the conditional proxy lies at or above the Bayes risk",)
    assert (got.risk > 0.8 * got.noise).all()


def test_branching_is_the_variance_among_continuations(make_task):
    task = make_task(n=12, branches=3)
    got = estimate_risk(_set(task), proxy="branching")["a"]
    assert got.proxy == "branching" and got.depths.tolist() == [1, 2, 4] and got.n_runs == 12
    np.testing.assert_allclose(got.risk, task.forked.var(axis=2, ddof=1).mean(axis=0), rtol=1e-12)
    assert got.outcome_mean == pytest.approx(task.outcome.mean()) and not got.outcome_stands_in
    assert not got.has_noise and _says(got, "what the noise of the outcome set adds is in these estimates")
    assert not _says(got, "forked runs") and got.hashes == task.run_hashes() and got.branches == 3
    assert estimate_risk(_set(task), proxy="run_to_run")["a"].branches is None
    assert _says(estimate_risk(_set(task.taken(range(9))), proxy="branching")["a"], "9 forked runs")


def test_continuations_that_diverge_are_counted(make_task):
    task = make_task(n=12, branches=3)
    task.forked[0, 1:], task.forked[1, 2, 0] = INF, INF
    got = estimate_risk(_set(task), proxy="branching")["a"]
    assert got.n_runs == 11
    assert _says(got, "up to 1 of 12 runs have fewer than two finite continuations")
    assert _says(got, "1 continuations diverged or have no outcome")
    of_others = [task.forked[1:, 1].var(axis=1, ddof=1), task.forked[2:, 2].var(axis=1, ddof=1)]
    assert got.risk[1] == pytest.approx(of_others[0].mean())
    assert got.risk[2] == pytest.approx(np.r_[of_others[1], task.forked[1, 2, 1:].var(ddof=1)].mean())


@pytest.mark.parametrize(
    ("cells", "value", "reason"),
    [
        (np.s_[:, 1], 0.5, "zero variance: all continuations of a run agree"),
        (np.s_[1:, 1], NAN, "fewer than two runs have two finite continuations"),
        (np.s_[:, 1, :2], NAN, "fewer than two runs have two finite continuations"),
        (np.s_[0, 1, 0], 1e120, "values too large or too small for a variance"),
    ],
)
def test_depths_that_cannot_be_branched_from(make_task, cells, value, reason):
    task = make_task(n=12, branches=3)
    task.forked[cells] = value
    got = estimate_risk(_set(task), proxy="branching")["a"]
    assert got.depths.tolist() == [1, 4]
    assert [(left.depth, left.reason) for left in got.left_out] == [(2.0, reason)]


def test_a_single_forked_run_is_set_aside(make_task):
    estimates = estimate_risk(_set(make_task("a", branches=2), make_task("b", n=1, branches=2)), proxy="branching")
    assert estimates.set_aside == (SetAside("b", "one run only; branching needs two"),)


def test_another_metric_has_no_continuations(make_task):
    with pytest.raises(InputError, match="no continuations"):
        estimate_risk(_set(make_task(branches=2)), proxy="branching", metric="loss")


def test_auto_takes_branching_where_runs_are_few(make_task):
    few = make_task("a", n=8, branches=3)
    assert estimate_risk(_set(few)).proxy == "branching"
    assert estimate_risk(_set(make_task("a", branches=3))).proxy == "conditional"
    assert estimate_risk(_set(few, make_task("b", n=8))).proxy == "run_to_run"


def test_noise_of_the_outcome_set_is_not_the_spread_s(make_task):
    got = estimate_risk(_set(make_task()), proxy="run_to_run")["a"]
    assert np.isnan(got.noise) and np.isnan(got.noise_se)


def test_the_seed_draws_the_folds_and_nothing_else_matters(make_task):
    a, b = make_task("a"), make_task("b", seed=1)
    alone, again = estimate_risk(_set(a))["a"], estimate_risk(_set(b, a), seed=0)["a"]
    np.testing.assert_array_equal(alone.risk, again.risk)
    np.testing.assert_array_equal(alone.nu, again.nu)
    other = estimate_risk(_set(a), seed=1)["a"]
    assert not np.array_equal(alone.risk, other.risk)
    np.testing.assert_allclose(alone.risk, other.risk, rtol=0.3)


@pytest.mark.parametrize(
    ("runs", "proxy", "chosen"),
    [
        ([32], "auto", "conditional"),
        ([32, 29], "auto", "run_to_run"),
        ([29, 29], "auto", "run_to_run"),
        ([32, 1], "auto", "conditional"),  # one run allows nothing, so it has no say
        ([32, 29], "conditional", "conditional"),
        ([32, 32], "run_to_run", "run_to_run"),
    ],
)
def test_choice_of_the_proxy(make_task, runs, proxy, chosen):
    tasks = [make_task(f"t{i}", n=n, seed=i) for i, n in enumerate(runs)]
    assert estimate_risk(_set(*tasks), proxy=proxy).proxy == chosen


def test_auto_says_whose_runs_were_too_few(make_task):
    estimates = estimate_risk(_set(make_task("many"), make_task("few", n=12)))
    assert not estimates["many"].flags
    assert _says(
        estimates["few"], "12 complete runs, where the conditional proxy needs 30: run_to_run was taken for all"
    )


@pytest.mark.parametrize(("n", "flagged"), [(30, False), (29, True), (20, True)])
def test_twenty_to_twenty_nine_runs_get_a_flag(make_task, n, flagged):
    got = estimate_risk(_set(make_task(n=n)), proxy="conditional")["a"]
    assert got.n_runs == n and _says(got, f"{n} complete runs: fewer than 30") == flagged


def test_fewer_than_twenty_are_set_aside(make_task):
    before = SetAside("c", "unreadable")
    runs = Trajectories((make_task("a"), make_task("b", n=19)), (before,))
    estimates = estimate_risk(runs, proxy="conditional")
    assert [t.task for t in estimates] == ["a"]
    assert estimates.set_aside == (before, SetAside("b", "19 of 19 runs are complete; the conditional proxy needs 20"))


def test_outcomes_of_those_that_went_on_are_a_selection(make_task):
    """With more than a tenth of the runs stopped, R is not known of the good ones, say."""
    task = make_task(n=40)
    outcome = task.outcome.copy()
    for runs, refused in ((4, False), (5, True)):
        outcome[:runs] = NAN
        for value in task.values.values():
            value[:runs, 3:] = NAN
        changed = dataclasses.replace(task, outcome=outcome)
        estimates = estimate_risk(_set(changed))
        assert estimates.proxy == ("run_to_run" if refused else "conditional")
        assert _says(estimates["a"], "are a selection") == refused
    with pytest.raises(InputError, match="5 of 40 runs stopped before the horizon: the outcomes of the others are"):
        estimate_risk(_set(changed), proxy="conditional")


def test_diverged_and_censored_runs_are_counted(make_task):
    task = make_task(n=36)
    for value in task.values.values():
        value[0, 2:] = INF
        value[1, 3:] = INF
        value[2, 3:] = NAN
    outcome = task.outcome.copy()
    outcome[:3] = [INF, 0.5, NAN]
    got = estimate_risk(_set(dataclasses.replace(task, outcome=outcome)))["a"]
    assert got.n_runs == 33 and len(got.hashes) == 36
    assert _says(got, "2 of 36 runs diverged at depths 2 to 4; left out")
    assert _says(got, "1 of 36 runs have no outcome at the horizon and are left out")
    assert got.outcome_mean == pytest.approx(outcome[3:].mean())
    spread = estimate_risk(_set(task), proxy="run_to_run")["a"]
    assert spread.n_runs == 33 and spread.depths.tolist() == [1, 2, 4, 8]
    np.testing.assert_allclose(spread.risk[1], np.var(task.values["accuracy"][1:, 2], ddof=1))


@pytest.mark.parametrize(
    ("metric", "proxy", "judged", "stands_in", "better"),
    [
        (None, "conditional", "accuracy", False, True),
        ("accuracy", "conditional", "accuracy", False, True),
        ("loss", "conditional", "loss", True, False),
        ("loss", "run_to_run", "loss", True, False),
    ],
)
def test_choice_of_the_metric(make_task, metric, proxy, judged, stands_in, better):
    task = make_task()
    got = estimate_risk(_set(task), proxy=proxy, metric=metric)["a"]
    assert (got.metric, got.outcome_stands_in, got.higher_is_better) == (judged, stands_in, better)
    assert got.has_noise == (judged == "accuracy")
    mean = task.outcome.mean() if judged == "accuracy" else task.values["loss"][:, -1].mean()
    assert got.outcome_mean == pytest.approx(mean)
    if stands_in and proxy == "conditional":
        assert got.depths.tolist() == [1, 2, 4]
        assert got.left_out[-1].depth == 8.0 and "R is the value of 'loss'" in got.left_out[-1].reason


def test_a_task_without_the_metric_is_set_aside(make_task):
    other = make_task("b", n=12, outcome=None, outcome_metric="loss", values={"loss": VARIED[:12, [0, 1, 0, 1, 0]]})
    estimates = estimate_risk(_set(make_task("a", n=12), other), metric="accuracy")
    assert [s.task for s in estimates.set_aside] == ["b"]
    assert estimates.set_aside[0].reason == "'accuracy' was not recorded (loss were)"


def _constant_r(make_task):
    right = np.ones((32, 200), bool)
    return make_task("b", outcome=right.mean(axis=1), outcome_examples=right)


def test_a_constant_outcome_is_set_aside(make_task):
    for proxy in ("auto", "conditional"):
        estimates = estimate_risk(_set(make_task("a"), _constant_r(make_task)), proxy=proxy)
        assert estimates.proxy == "conditional"
        assert estimates.set_aside == (SetAside("b", "R is constant over 32 complete runs (1)"),)
    # Alone, it allows the spread.
    assert estimate_risk(_set(_constant_r(make_task))).proxy == "run_to_run"


def test_a_prefix_that_gives_the_outcome_away_is_left_out(make_task):
    task = make_task(examples=False)
    told = dataclasses.replace(task, outcome=task.values["accuracy"][:, -1].copy())
    got = estimate_risk(_set(told), proxy="conditional")["a"]
    assert got.depths.tolist() == [1, 2, 4] and (got.risk > 0.0).all()
    assert got.left_out[-1].reason == "the prefix gives R away, to rounding error"


@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_a_mean_near_zero_is_no_scale(make_task, proxy):
    task = make_task(examples=False)
    centred = {"accuracy": task.values["accuracy"] - task.values["accuracy"].mean(axis=0), "loss": task.values["loss"]}
    got = estimate_risk(_set(dataclasses.replace(task, values=centred)), proxy=proxy)["a"]
    assert got.scale == pytest.approx(centred["accuracy"][:, -1].std(), rel=0.05)
    assert abs(got.outcome_mean) < 1e-12 and _says(got, "mean is near 0")
    negative = {"accuracy": centred["accuracy"] - 3.0, "loss": task.values["loss"]}
    got = estimate_risk(_set(dataclasses.replace(task, values=negative)), proxy=proxy)["a"]
    assert got.scale == pytest.approx(3.0) and got.outcome_mean == pytest.approx(-3.0)


def test_where_no_run_is_complete_the_deepest_depth_gives_the_scale(make_task):
    task = make_task(n=10, examples=False, horizon=100.0)
    got = estimate_risk(_set(task))["a"]
    assert got.outcome_mean == pytest.approx(task.values["accuracy"][:, -1].mean())
    assert _says(got, "no run is complete: the mean of 'accuracy' at 8 stands in") and got.horizon == 100.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outcome": np.linspace(0.1, 0.9, 32)}, "R is not the mean of the outcome set's results"),
        ({"outcome_examples": np.full((32, 200), NAN)}, "results are incomplete"),
        ({"outcome_examples": np.ones((32, 1), bool)}, "results are incomplete"),
    ],
)
def test_noise_is_not_made_up(make_task, changes, words):
    got = estimate_risk(_set(make_task(**changes)))["a"]
    assert not got.has_noise and _says(got, words)


@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_values_in_any_unit(make_task, proxy):
    task = make_task(examples=False)
    before = estimate_risk(_set(task), proxy=proxy)["a"]
    for unit in (1e-60, 1e60):
        scaled = dataclasses.replace(task, values={m: v * unit for m, v in task.values.items()})
        got = estimate_risk(_set(scaled), proxy=proxy)["a"]
        np.testing.assert_allclose(got.risk / got.scale**2, before.risk / before.scale**2, rtol=1e-3)


def _one_metric(value):
    value = np.asarray(value, float)
    return TaskRuns("a", tuple(range(len(value))), np.arange(1.0, value.shape[1] + 1), {"m": value}, "m", 2.0)


VARIED = np.random.default_rng(0).normal(size=(25, 2))


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        (_one_metric([[1.0, 2.0]]), {}, "one run only; a spread needs two"),
        (_one_metric([[1.0, 1.0], [2.0, 1.0]]), {}, "fewer than two usable depths (1; left out: 1 depth with zero var"),
        (
            _one_metric([[1.0, NAN], [2.0, INF]]),
            {},
            "fewer than two usable depths (1; left out: 1 depth seen in 0 of 1",
        ),
        (_one_metric(np.full((4, 2), INF)), {}, "fewer than two usable depths (0"),
        (_one_metric(VARIED), {"proxy": "conditional"}, "fewer than two usable depths (1; left out: R is the value"),
        (_one_metric(VARIED * 1e200), {"proxy": "conditional"}, "R is too large or too small for a variance"),
        (_one_metric(VARIED * 1e200), {}, "values too large or too small"),
        (dataclasses.replace(_one_metric(VARIED), outcome_metric="x"), {}, "no trajectory of 'x' (recorded: m)"),
        (_one_metric(VARIED[:5]), {"proxy": "conditional"}, "5 of 5 runs are complete; the conditional proxy needs 20"),
        (_one_metric(VARIED[:5]), {"proxy": "branching"}, "its runs have no continuations forked at a depth"),
        (TaskRuns("a", (0, 1), np.array([1.0]), {}, "m", 1.0), {}, "no metric was recorded"),
    ],
)
def test_none_left_is_an_error_with_reason_and_remedy(task, options, words):
    with pytest.raises(InputError) as caught:
        estimate_risk(_set(task), **options)
    assert words in str(caught.value) and "the only task cannot be used (task 'a'" in str(caught.value)
    assert "needs" in caught.value.remedy


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"proxy": "ridge"}, "'ridge' is no proxy"),
        ({"proxy": "ridge"}, "conditional (1 of 2 tasks have 20 or more complete runs), branching (0 have"),
        ({"metric": "bleu"}, "no metric 'bleu'. The metrics are: accuracy, loss"),
        ({"seed": -1}, "-1 cannot be a seed"),
        ({"seed": 2**32}, "cannot be a seed"),
        ({"seed": True}, "True cannot be a seed"),
    ],
)
def test_impossible_arguments(make_task, options, words):
    with pytest.raises(InputError) as caught:
        estimate_risk(_set(make_task("a"), make_task("b", n=5)), **options)
    assert words in str(caught.value)


def test_several_metrics_and_none_named(make_task):
    with pytest.raises(InputError, match="task 'a': several metrics and none named: accuracy, loss. Name one"):
        estimate_risk(_set(make_task(outcome_metric=None, outcome=None, outcome_examples=None)))


def test_no_tasks_at_all():
    with pytest.raises(InputError, match="there are no tasks; task 'c': unreadable"):
        estimate_risk(Trajectories((), (SetAside("c", "unreadable"),)))


def test_none_of_many_names_a_few(make_task):
    with pytest.raises(InputError, match="none of 5 tasks can be used .*and 2 more"):
        estimate_risk(_set(*(make_task(f"t{i}", n=3) for i in range(5))), proxy="conditional")


def test_recorded_lora_runs_give_spreads(data_folder):
    runs = read_runs(data_folder / "runs" / "mlperf_llama2_70b_lora.csv", depth_unit="sample")
    estimates = estimate_risk(runs)
    assert estimates.proxy == "run_to_run" and len(estimates) == 97
    assert [task.task.rsplit(":")[-1] for task in estimates.set_aside] == ["009", "020"]
    assert all("rises with depth" in task.reason for task in estimates.set_aside)
    for got in estimates:
        value = runs[got.task].values["eval_loss"][:, np.isin(runs[got.task].depths, got.depths)]
        whole = np.isfinite(value).all(axis=0)
        np.testing.assert_allclose(got.risk[whole], np.var(value[:, whole], axis=0, ddof=1), rtol=1e-9)
        # Who stops reached the target first, so that those that go on are more alike.
        stopped = np.isnan(value).sum(axis=0)
        assert stopped.max() <= 1
        assert not stopped.any() or _says(got, "allows for them by what their values before tell")
        assert len(got.depths) >= 2 and (got.nu >= 1.0).all() and (got.nu < 10.0).all()
        assert 0.5 < got.scale < 1.5 and got.depths[-1] <= got.horizon
    frame = estimates.frame
    assert ((frame["lower"] < frame["risk"]) & (frame["risk"] < frame["upper"])).all()


@pytest.mark.parametrize("name", ["cifar10_3c3d", "fmnist_2c2d", "fmnist_vae", "mnist_vae", "quadratic_deep"])
def test_recorded_deepobs_runs_need_a_metric(data_folder, name):
    runs = read_runs(data_folder / "runs" / f"deepobs_{name}.csv", depth_unit="epoch")
    with pytest.raises(InputError, match="several metrics and none named: train_loss, test_loss"):
        estimate_risk(runs)
    for metric in runs.tasks[0].metrics:
        estimates = estimate_risk(runs, metric=metric)
        assert estimates.proxy == "run_to_run" and len(estimates) + len(estimates.set_aside) == 3
        assert all("rises with depth" in task.reason for task in estimates.set_aside)
        for got in estimates:
            assert got.depths[0] >= 1.0 and (got.risk > 0.0).all()
            assert len(got.depths) + len(got.left_out) == len(runs[got.task].depths)
    with pytest.raises(InputError, match="10 of 10 runs are complete; the conditional proxy needs 20"):
        estimate_risk(runs, metric="test_loss", proxy="conditional")
