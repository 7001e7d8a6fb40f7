"""The posterior's figures come in a task's own units, and none are given where they cannot be believed."""

import dataclasses

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from bayes_prehoc import InputError, theory

FIGURES = ("L_int", "alpha", "U_c0", "share", "K")


def test_draws_are_labelled(fitted):
    posterior, _ = fitted
    draws = posterior.draws
    assert isinstance(draws, xr.DataTree) and {"posterior", "sample_stats", "observed_data"} <= set(draws.children)
    assert draws["posterior"]["share"].dims == ("chain", "draw", "task")
    assert draws["posterior"]["tau"].dims == ("chain", "draw", "latent")
    assert list(draws["posterior"]["task"].values) == list(posterior.tasks)
    np.testing.assert_allclose(draws["observed_data"]["depth"][0], posterior.estimates.tasks[0].depths, rtol=1e-6)


def test_summary_is_indexed_by_task_with_intervals(fitted):
    posterior, _ = fitted
    summary = posterior.summary()
    assert summary.index.name == "task" and list(summary.index) == list(posterior.tasks)
    told = summary[summary["status"] == "ok"]
    assert len(told) >= 1
    for name in FIGURES:
        assert (told[f"{name}_lower"] < told[name]).all() and (told[name] < told[f"{name}_upper"]).all()
    assert summary.loc[summary["status"] != "ok", list(FIGURES)].isna().all(axis=None)


def steady(posterior):
    """The same posterior of a spread that does not drift, and whose sampling errors depths have in common."""
    draws = posterior.draws.copy()
    sites = draws["posterior"].to_dataset()
    draws["posterior"] = xr.DataTree(
        sites.assign(drift=0.0 * sites["drift"] + 1e-6, lasting=0.0 * sites["lasting"] + 1.0)
    )
    return dataclasses.replace(posterior, draws=draws)


def test_the_curve_is_that_of_the_theory(fitted):
    posterior = steady(fitted[0])
    curve = posterior.curve("t2")
    depths = np.array([10.0, 80.0, 400.0])
    expected = theory.envelope(
        depths, curve.l_int[:, None], curve.reducible[:, None], curve.reference, curve.alpha[:, None],
        curve.onset[:, None], curve.horizon,
    )  # fmt: skip
    got = posterior.predict_risk("t2", depths)
    assert got.shape == (len(curve.l_int), 3) and got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    np.testing.assert_allclose(posterior.predict_risk("t2", [80.0])[:, 0], curve.l_int + curve.reducible, rtol=1e-4)


def test_what_new_runs_would_show_has_their_sampling_error(fitted):
    """The ratio to U(c) is a gamma variable, up to the misfit, and neighbours in depth go together."""
    posterior = steady(fitted[0])
    depths = [100.0, 110.0, 400.0]
    risk = posterior.predict_risk("t0", depths)
    for n_seeds in (3, 30):
        ratio = posterior.predict_risk("t0", depths, n_seeds=n_seeds, seed=4) / risk
        k = 1 / (2 / (n_seeds - 1) + np.mean(posterior.misfit**2))
        assert stats.kstest(ratio[:, 0], stats.gamma(k, scale=1 / k).cdf).pvalue > 1e-3
        near, far = np.corrcoef(ratio[:, 0], ratio[:, 1])[0, 1], np.corrcoef(ratio[:, 0], ratio[:, 2])[0, 1]
        assert near > 0.6 > far
    again = posterior.predict_risk("t0", depths, n_seeds=3, seed=4)
    np.testing.assert_array_equal(again, posterior.predict_risk("t0", depths, n_seeds=3, seed=4))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody", [10.0]), "no task 'nobody'"),
        (("t0", []), "positive numbers"),
        (("t0", [0.0, 10.0]), "positive numbers"),
        (("t0", [10.0, np.inf]), "positive numbers"),
        (("t0", [10.0, 10.0]), "do not increase"),
        (("t0", ["deep"]), "Give numbers"),
        (("t0", [10.0], 1), "n_seeds is 1"),
        (("t0", [10.0], 2.5), "n_seeds is 2.5"),
    ],
)
def test_impossible_predictions_are_refused(fitted, arguments, words):
    with pytest.raises(InputError, match=words):
        fitted[0].predict_risk(*arguments)


def test_a_fit_that_failed_its_gate_gives_no_figures(not_converged):
    assert not not_converged.converged and "NOT converged" in repr(not_converged)
    assert {not_converged.status(task) for task in not_converged.tasks} == {"not_converged"}
    summary = not_converged.summary()
    figures = [c for c in summary if c.startswith((*FIGURES, "bits"))]
    assert summary[figures].isna().all(axis=None)
    checks = not_converged.checks()
    assert not checks.loc["r_hat", "passed"] and checks.loc["r_hat", "advice"]


def with_share(posterior, share):
    """The posterior with draws of the first task's share replaced."""
    draws = posterior.draws.copy(deep=True)
    values = draws["posterior"]["share"].values
    values[..., 0] = np.asarray(share).reshape(values.shape[:2])
    return dataclasses.replace(posterior, draws=draws)


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [
        (0.01, 0.97, "not_identified"),  # as wide as the prior
        (0.001, 0.30, "ok"),  # most of it can be removed
        (0.30, 0.999, "ok"),  # a good part cannot
        (0.30, 0.60, "ok"),
    ],
)
def test_identified_is_what_tells_one_part_of_the_risk(fitted, low, high, status):
    posterior, _ = fitted
    size = posterior.draws["posterior"]["share"].values[..., 0].size
    ends = np.log([low / (1 - low), high / (1 - high)])
    share = np.linspace(*ends, size)
    assert with_share(posterior, share).status("t0") == status


def test_the_prior_itself_is_not_identified(fitted):
    from bayes_prehoc.hierarchy.model import prior_draws

    posterior, _ = fitted
    size = posterior.draws["posterior"]["share"].values[..., 0].size
    share, _ = prior_draws(posterior.hyperprior)
    made = with_share(posterior, share[:size])
    assert made.status("t0") == "not_identified" and abs(made._bits["share"][0]) < 0.2
