"""Real fits: the truth is recovered, the same seed gives the same answer, and bad input is refused."""

import dataclasses

import arviz_stats
import numpy as np
import pandas as pd
import pytest

from bayes_prehoc import InputError, load_posterior
from bayes_prehoc.hierarchy import Posterior, fit
from bayes_prehoc.hierarchy.basis import metric_kinds
from bayes_prehoc.hierarchy.data import model_data
from bayes_prehoc.risk.estimates import RiskEstimates


def test_the_truth_lies_in_the_intervals(fitted, make):
    """18 intervals of 90%: fewer than 13 that hold the truth have a chance below 1%."""
    posterior, truth = fitted
    assert posterior.converged and set(posterior.checks().index) >= {"r_hat", "ess_bulk", "k_hat"}
    summary = posterior.summary()
    held = 0
    for name, values in make.true_figures(truth, "run_to_run").items():
        curves = [posterior.curve(task) for task in posterior.tasks]
        draws = {
            "L_int": [c.l_int for c in curves],
            "alpha": [c.alpha for c in curves],
            "U_c0": [c.l_int + c.reducible for c in curves],
        }[name]
        low, high = np.quantile(draws, (0.05, 0.95), axis=1)
        held += int(((low <= values) & (values <= high)).sum())
    assert held >= 13
    assert list(summary.index) == [f"t{i}" for i in range(6)]


def test_one_seed_gives_one_answer(fitted, make):
    posterior, _ = fitted
    _, _, estimates = make.simulated()
    again = fit(estimates, seed=1)
    np.testing.assert_array_equal(
        again.draws["posterior"]["share"].values, posterior.draws["posterior"]["share"].values
    )


def test_noise_of_the_outcome_set_is_separated(with_noise, make):
    """U(c) is without it, what new runs would show is with it, and L_int is recovered below it."""
    posterior, truth = with_noise
    assert posterior.converged
    true = make.true_figures(truth, "conditional")
    held = 0
    for row, task in enumerate(posterior.tasks):
        curve = posterior.curve(task)
        assert np.all(curve.noise > 0) and curve.horizon == posterior.estimates[task].horizon
        # The measured V_eval lies one standard error (5e-5) around the true one, and the estimates hardly tell more.
        assert np.median(curve.noise) == pytest.approx(4e-4 * make.scale**2, abs=3.5 * 5e-5 * make.scale**2)
        assert np.std(curve.noise) == pytest.approx(5e-5 * make.scale**2, rel=0.25)
        held += int(np.quantile(curve.l_int, 0.05) <= true["L_int"][row] <= np.quantile(curve.l_int, 0.95))
        risk = posterior.predict_risk(task, [40.0, 400.0])
        seen = posterior.predict_risk(task, [40.0, 400.0], n_seeds=500)
        np.testing.assert_allclose(np.median(risk[:, 1] / curve.l_int), 1.0, rtol=1e-4)
        assert np.median(seen[:, 1]) == pytest.approx(np.median(curve.l_int + curve.noise), rel=0.1)
    assert held >= 5


@pytest.mark.slow
def test_families_and_descriptors_are_told(with_families, fitted, tmp_path):
    """A descriptor that moves the level by two is found, and the families' order; the engine is named."""
    posterior, _ = with_families
    assert posterior.engine == "joint" and fitted[0].engine == "collapsed"
    effects = posterior.effects()
    size = effects.loc[("descriptor", "size", "level")]
    # One standard deviation of twelve draws from a standard normal, which it was simulated with.
    assert size.lower > 0.5 and size.upper < 4.0
    assert effects.loc[("family", "a", "level"), "median"] < effects.loc[("family", "c", "level"), "median"]
    assert len(effects) == 12 and len(fitted[0].effects()) == 0
    summary = arviz_stats.summary(posterior.draws["posterior"], var_names=["tau_family", "slope_white"])
    assert list(summary.index)[:1] == ["tau_family[level]"] and len(summary) == 6
    assert posterior.checks().loc["prior_sensitivity", "value"] > 0.0
    posterior.save(tmp_path / "post.nc")
    read = load_posterior(tmp_path / "post.nc")
    assert read.engine == "joint" and read.estimates["t1"].family == "b"
    assert read.estimates["t1"].descriptors == posterior.estimates["t1"].descriptors
    pd.testing.assert_frame_equal(read.effects(), effects)


@pytest.mark.slow
def test_a_fit_with_families_converges(make):
    posterior = fit(make.of_families())
    assert posterior.converged, posterior.checks()
    assert set(posterior.checks().index) >= {"divergences", "e_bfmi"}
    assert posterior.effects().loc[("descriptor", "size", "level"), "lower"] > 0.5


def test_arrays_of_the_model_are_unitless(make):
    _, data, estimates = make.simulated(tasks=3, depths=5)
    shorter = dataclasses.replace(
        estimates.tasks[1], depths=estimates.tasks[1].depths[:3], risk=estimates.tasks[1].risk[:3],
        nu=estimates.tasks[1].nu[:3], metric_kind="loss", noise=1e-4, noise_se=2e-5,
    )  # fmt: skip
    mixed = RiskEstimates("run_to_run", (estimates.tasks[0], shorter, estimates.tasks[2]))
    made = model_data(mixed)
    np.testing.assert_allclose(made.depth[:, 0], data.depth[:, 0], rtol=1e-6)
    np.testing.assert_allclose(made.log_risk[:, 2], data.log_risk[:, 2], rtol=1e-5)
    assert made.mask.sum(axis=0).tolist() == [5, 3, 5]
    assert metric_kinds(mixed) == ("accuracy", "loss") and made.kind.tolist() == [[1, 0], [0, 1], [1, 0]]
    np.testing.assert_allclose(made.noise, [0.0, 1e-4 / make.scale**2, 0.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"estimates": "runs.csv"}, "Give what estimate_risk returns"),
        ({"estimates": RiskEstimates("run_to_run", ())}, "there are no tasks"),
        ({"seed": -1}, "whole number from 0"),
        ({"seed": 1.5}, "whole number from 0"),
        ({"seed": True}, "whole number from 0"),
        ({"prior": "nowhere"}, "there is no prior card 'nowhere'"),
    ],
)
def test_bad_input_is_refused(make, arguments, words):
    _, _, estimates = make.simulated(tasks=2)
    given = {"estimates": estimates} | arguments
    with pytest.raises(InputError, match=words):
        fit(given.pop("estimates"), **given)


@pytest.mark.parametrize(("name", "value"), [("risk", np.nan), ("risk", 0.0), ("nu", np.inf), ("depths", -1.0)])
def test_estimates_that_are_no_positive_numbers_are_refused(make, name, value):
    _, _, estimates = make.simulated(tasks=2)
    wrong = getattr(estimates.tasks[1], name).copy()
    wrong[2] = value
    tasks = (estimates.tasks[0], dataclasses.replace(estimates.tasks[1], **{name: wrong}))
    with pytest.raises(InputError, match=f"{name} of task 't1'"):
        fit(RiskEstimates("run_to_run", tasks))


def test_repr_says_what_it_is(fitted):
    assert repr(fitted[0]) == "Posterior of 6 tasks, proxy run_to_run, converged" and isinstance(fitted[0], Posterior)
