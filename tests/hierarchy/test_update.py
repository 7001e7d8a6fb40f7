"""Updates without a fit: what must not change, what a fit gives, and what is refused."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from bayes_prehoc import InputError, load_posterior, plan
from bayes_prehoc.hierarchy import fit
from bayes_prehoc.risk.estimates import RiskEstimates

FIGURES = ("log L_int", "log reducible", "rate of alpha")


def figures(posterior, task):
    """What a task's curve consists of, on scales on which it is nearly normal; arrays (S,) by figure."""
    curve = posterior.curve(task)
    return np.log(curve.l_int), np.log(curve.reducible), np.log(curve.alpha + 1.0)


def assert_alike(one, other, task, draws=400):
    """Draws of a task's curve by two posteriors have one distribution, as far as that many of each can tell.

    Kolmogorov's and Smirnov's distance at a level of 0.001. Both have correlated draws: the gate asks for 400 effective
    ones of a fit, and an update thins them to 500 and weighs them.
    """
    for name, a, b in zip(FIGURES, figures(one, task), figures(other, task), strict=True):
        assert stats.ks_2samp(a, b).statistic < 1.95 * np.sqrt(2.0 / draws), name


@pytest.mark.parametrize("which", ["fitted", "with_noise", pytest.param("with_families", marks=pytest.mark.slow)])
def test_estimates_that_were_fitted_change_nothing(which, request):
    """The ratio of a task's marginal likelihoods is one, and its latents are drawn as the fit draws them."""
    posterior, _ = request.getfixturevalue(which)
    updated = posterior.update(dataclasses.replace(posterior.estimates, tasks=posterior.estimates.tasks[:3]))
    assert updated.converged and updated.tasks == posterior.tasks[:3]
    # Noise of an outcome set is drawn anew, which weights allow for.
    assert updated.checks().loc["update_k_hat", "value"] <= (0.7 if which == "with_noise" else 0.0)
    for task in updated.tasks:
        assert_alike(posterior, updated, task)
        assert updated.status(task) == posterior.status(task)


@pytest.mark.slow
@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_an_update_is_what_a_fit_gives(proxy, make):
    """Of a task that was not fitted, and of one with twice the runs and one depth more."""
    _, _, all_of_them = make.simulated(tasks=16, proxy=proxy, seed=5)
    some = RiskEstimates(proxy, all_of_them.tasks[:15])
    first = some.tasks[0]
    few = dataclasses.replace(first, depths=first.depths[:-1], risk=first.risk[:-1], nu=first.nu[:-1] / 2.0)
    posterior = fit(RiskEstimates(proxy, (few, *some.tasks[1:])))
    updated = posterior.update(RiskEstimates(proxy, (first, all_of_them.tasks[15])))
    assert_alike(fit(some), updated, "t0")
    new = fit(RiskEstimates(proxy, (few, *all_of_them.tasks[1:])))
    assert_alike(new, updated, "t15")


def test_a_new_task_is_planned_for_and_saved(fitted, make, tmp_path):
    posterior, _ = fitted
    _, _, others = make.simulated(tasks=9, seed=4)
    renamed = [dataclasses.replace(t, task=f"new {t.task}", hashes=(f"new {t.task}",)) for t in others.tasks[6:]]
    updated = posterior.update(RiskEstimates("run_to_run", tuple(renamed)))
    made = plan(updated, tolerance=0.02)
    assert [task.task for task in made.tasks] == ["new t6", "new t7", "new t8"]
    assert all(task.regimes is not None for task in made.tasks)
    updated.save(tmp_path / "updated.nc")
    read = load_posterior(tmp_path / "updated.nc")
    for task in read.tasks:
        np.testing.assert_array_equal(read.curve(task).onset, updated.curve(task).onset)
    assert "a posterior of 6 tasks" in read.prior
    with pytest.raises(InputError, match="is an update itself"):
        read.update(posterior.estimates)


@pytest.mark.slow
def test_a_task_that_nobody_has_probed_is_expected_from_what_is_known(with_families):
    """Its family and its descriptor place it; of a family that nobody has seen less is known."""
    posterior, _ = with_families
    given = {"scale": 0.9, "horizon": 400.0}

    def level(**known):
        expected = posterior.expect("new", **given, **known)
        assert expected.converged and expected.tasks == ("new",)
        curve = expected.curve("new")
        return np.log(curve.l_int + curve.reducible)

    typical, large = level(family="b"), level(family="b", descriptors={"size": np.exp(1.0)})
    assert np.median(large) - np.median(typical) > 1.0
    assert np.std(level(family="nobody's")) > 1.1 * np.std(level(family="b", descriptors={"size": 1.0}))
    expected = posterior.expect("new", **given, family="b")
    low, high = np.quantile(expected.predict_risk("new", [8.0, 400.0]), (0.05, 0.95), axis=0)
    assert np.all(low > 0.0) and np.all(high > 3.0 * low)
    assert "no run of it was seen" in expected.estimates["new"].flags[0]
    (planned,) = plan(expected, tolerance=0.02).tasks
    assert planned.c_min == 8.0 and (planned.status != "ok" or planned.extrapolated)

    for words, wrong in (
        ("was fitted", {"task": "t0"}),
        ("scale is 0", {"scale": 0}),
        ("horizon is True", {"horizon": True}),
        ("no task of the kind 'loss' was fitted", {"metric": "loss"}),
    ):
        with pytest.raises(InputError, match=words):
            posterior.expect(**({"task": "new"} | given | wrong))


def test_what_the_posterior_cannot_tell_is_set_aside(fitted):
    """A task a million times as uncertain as all others says that the population is another."""
    posterior, _ = fitted
    first, second, *_ = posterior.estimates
    odd = dataclasses.replace(second, task="odd", risk=1e6 * second.risk, hashes=("odd",))
    updated = posterior.update(RiskEstimates("run_to_run", (first, odd)))
    assert updated.tasks == ("t0",)
    (aside,) = updated.estimates.set_aside
    assert aside.task == "odd" and "fit it with the others" in aside.reason
    with pytest.raises(InputError, match="no task can be updated .*'odd'"):
        posterior.update(RiskEstimates("run_to_run", (odd,)))


def test_impossible_updates(fitted, not_converged):
    posterior, _ = fitted
    first, second, *_ = posterior.estimates

    def refused(words, tasks=(first,), proxy="run_to_run", of=posterior, **options):
        with pytest.raises(InputError, match=words):
            of.update(RiskEstimates(proxy, tasks), **options)

    refused("did not pass its gate", of=not_converged)
    refused("the posterior is of run_to_run", proxy="branching")
    refused("there are no tasks", tasks=())
    refused("holds a value that is not a positive number", tasks=(dataclasses.replace(first, nu=-first.nu),))
    refused("no task with a metric of the kind 'loss'", tasks=(dataclasses.replace(first, metric_kind="loss"),))
    refused("runs of task 'other' were fitted as task 't1'", tasks=(dataclasses.replace(second, task="other"),))
    refused("cannot be a seed", seed=-1)
