"""Predictions of R: against chains whose risk is known, the regression of the risk module, and samples."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from bayes_prehoc import theory
from bayes_prehoc.errors import InputError
from bayes_prehoc.planning.outcome import (
    predict_new_task,
    predict_outcome,
)
from bayes_prehoc.planning.prefix import _weights, trained_predictor
from bayes_prehoc.planning.shape import ErrorShape, mixture_quantile
from bayes_prehoc.planning.variance import variance_before_looking, variance_of_outcome
from bayes_prehoc.risk.by_task import features_of, prefixes_of
from bayes_prehoc.risk.conditional import Splits, cross_fitted_errors
from bayes_prehoc.risk.estimates import RiskEstimates
from bayes_prehoc.runs.trajectories import Trajectories


def _shown(runs, row, upto):
    return dict(zip(runs.depths[:upto], runs.values["score"][row, :upto], strict=True))


def _with_a_loss(runs):
    """A second metric, recorded before the outcome's, that tells something of it."""
    score = runs.values["score"]
    loss = 1.0 - score + 0.05 * np.random.default_rng(6).normal(size=score.shape)
    return dataclasses.replace(runs, values={"loss": loss, "score": score})


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("metrics", [1, 2])
def test_the_regression_is_the_one_whose_error_the_proxy_measures(laboratory, metrics):
    runs = laboratory.runs["a"].taken(range(24))
    table = prefixes_of(runs if metrics == 1 else _with_a_loss(runs))
    centre, sd = table.outcome.mean(), table.outcome.std()
    standard = jnp.asarray((table.outcome - centre) / sd)
    (errors,) = cross_fitted_errors(jax.random.key(0), features_of(table), standard, Splits(24, 1))
    for depth in (0, 3, 6):
        for row in (0, 7):
            others = np.arange(24) != row
            intercept, weights, _ = _weights(table.values[:, others, : depth + 1], table.outcome[others])
            predicted = intercept + np.sum(weights * table.values[:, row, : depth + 1])
            error = (table.outcome[row] - predicted) / sd
            assert error == pytest.approx(float(errors[depth, 0, row]), abs=1e-4)
            # Of all runs, it leaves out each by itself to the same effect.
            *_, alone = _weights(table.values[:, :, : depth + 1], table.outcome)
            assert alone[row] / sd == pytest.approx(error, abs=0.15)


def test_intervals_cover_and_are_as_wide_as_the_errors_are(laboratory):
    fresh = laboratory.chain.draw(np.random.default_rng(9), 1500)
    posterior = laboratory.posterior()
    predictor, held_out = trained_predictor(laboratory.runs, "a", "score", posterior.estimates["a"].depths)
    depths = predictor.depths[predictor.looks]
    parts = variance_of_outcome(posterior, laboratory.runs, "a", depths)
    covered, ratios = [], []
    for look, part in enumerate(parts):
        upto = predictor.looks[look] + 1
        means = [predictor.read(_shown(fresh, row, upto)).mean for row in range(1500)]
        errors = fresh.outcome - means
        ratios.append(part.total.mean() / np.mean(errors**2))
        width = [mixture_quantile(part.total, p, ErrorShape.of(held_out[look + 1])) for p in (0.05, 0.95)]
        covered.append(np.mean((errors > width[0]) & (errors < width[1])))
        # Shape and excess are those of 64 runs.
        assert covered[-1] == pytest.approx(0.9, abs=0.045), depths[look]
        assert ratios[-1] == pytest.approx(1.0, abs=0.2), depths[look]
        assert np.allclose(part.intrinsic + part.to_come, laboratory.chain.risk[predictor.looks[look]], rtol=1e-3)
    assert np.mean(covered) == pytest.approx(0.9, abs=0.025)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.1)
    # What is to come falls to nothing; the regression's own error is a part, and a small one.
    assert parts[-1].to_come.max() < 1e-9
    assert all(0.0 < part.predictor.mean() < 0.4 * part.total.mean() for part in parts)


def test_a_prediction_says_what_it_is_made_of(laboratory):
    runs = laboratory.runs["a"]
    sure = predict_outcome(laboratory.posterior(), "a", _shown(runs, 0, 4), runs=laboratory.runs)
    unsure = predict_outcome(laboratory.posterior(1.0), "a", _shown(runs, 0, 4), runs=laboratory.runs)
    assert sure.depth == runs.depths[3] and sure.mean == unsure.mean
    low, high = sure.interval()
    assert special.ndtr((high - sure.mean) / sure.sd) == pytest.approx(0.95, abs=0.02)
    assert np.diff(unsure.interval(0.99)) > 1.3 * np.diff(sure.interval(0.99))
    assert sure.probability_above(high) == pytest.approx(0.05, abs=1e-6)
    assert sure.probability_above(low) == pytest.approx(0.95, abs=1e-6)
    bounded = dataclasses.replace(sure, bounds=(sure.mean - 1e-3, 1.0))
    assert bounded.interval() == (sure.mean - 1e-3, high)
    told = sure.to_dict()
    assert told["lower"] == low and set(told["variance"]) == {"intrinsic", "to_come", "predictor", "noise"}
    assert told["proxy"] == "conditional" and any("Bayes risk" in flag for flag in told["flags"])
    assert not any("others than" in flag for flag in sure.flags)
    others = Trajectories((laboratory.chain.draw(np.random.default_rng(8), 30, name="a"),))
    assert any("others than" in flag for flag in predict_outcome(laboratory.posterior(), "a", runs=others).flags)


def _with_noise(runs, seed):
    """Each value measured with an error of its own, so that earlier ones tell of R too."""
    off = 0.02 * np.random.default_rng(seed).normal(size=runs.values["score"].shape)
    return dataclasses.replace(runs, values={"score": runs.values["score"] + off})


def test_missing_values_are_filled_and_widen_the_interval(laboratory):
    runs = Trajectories((_with_noise(laboratory.chain.draw(np.random.default_rng(1), 200, name="a"), 2),))
    fresh = _with_noise(laboratory.chain.draw(np.random.default_rng(3), 200), 4)
    predictor, _ = trained_predictor(runs, "a", "score", fresh.depths)
    whole = [predictor.read(_shown(fresh, row, 5)) for row in range(200)]
    last = [predictor.read({fresh.depths[4]: fresh.values["score"][row, 4]}) for row in range(200)]
    assert {read.excess for read in whole} == {0.0} and whole[0].look == last[0].look == 4
    # What filling adds is the variance between the two predictions.
    apart = np.mean([(a.mean - b.mean) ** 2 for a, b in zip(whole, last, strict=True)])
    assert last[0].excess == pytest.approx(apart, rel=0.3) and apart > 1e-5
    errors = [np.mean((fresh.outcome - [read.mean for read in reads]) ** 2) for reads in (whole, last)]
    assert errors[1] - errors[0] == pytest.approx(apart, rel=0.4)
    assert any("missing" in note for note in last[0].notes)
    posterior, shown = laboratory.posterior(), {fresh.depths[4]: 0.8, 17.0: 0.5}
    some = predict_outcome(posterior, "a", shown, runs=runs)
    assert some.variance.predictor.min() > last[0].excess
    assert any("17" in flag for flag in some.flags)
    assert any("standard deviations" in note for note in predictor.read({fresh.depths[4]: 3.0}).notes)


def test_all_metrics_of_the_runs_are_used_and_the_outcomes_own_comes_first(laboratory):
    runs = _with_a_loss(_with_noise(laboratory.runs["a"], 7))
    predictor, errors = trained_predictor(Trajectories((runs,)), "a", "score", runs.depths)
    assert predictor.metrics == ("score", "loss")
    row, upto = 3, 5
    seen = {c: {"score": runs.values["score"][row, i], "loss": runs.values["loss"][row, i]}
            for i, c in enumerate(runs.depths[:upto])}  # fmt: skip
    values = np.stack([runs.values["score"][row], runs.values["loss"][row]])
    expected = predictor.intercept[4] + np.sum(predictor.weights[4, :, :upto] * values[:, :upto])
    found = predictor.read(seen)
    assert found.mean == pytest.approx(expected) and found.excess == 0.0
    assert np.abs(predictor.weights[4, 1, :upto]).max() > 0.0 == np.abs(predictor.weights[4, :, upto:]).max()
    assert errors.shape == (len(predictor.looks) + 1, 64)
    # The score alone leaves more open.
    assert predictor.read({c: own["score"] for c, own in seen.items()}).excess > 0.0


def test_before_anything_was_seen_the_runs_say_how_outcomes_differ(laboratory):
    posterior, outcome = laboratory.posterior(), laboratory.runs["a"].outcome
    found = predict_outcome(posterior, "a", runs=laboratory.runs)
    low, high = found.interval()
    fresh = laboratory.chain.draw(np.random.default_rng(5), 4000).outcome
    assert np.mean((fresh > low) & (fresh < high)) == pytest.approx(0.9, abs=0.06)
    # s^2 (n - 1) / chi^2 has the mean s^2 (n - 1) / (n - 3).
    total = variance_before_looking(posterior, laboratory.runs, "a").total
    expected = outcome.var(ddof=1) * 63 / 61 * (1 + 1 / 64)
    assert total.mean() == pytest.approx(expected, rel=0.01)
    unseen = predict_outcome(posterior, "a")
    assert any("extrapolated" in flag for flag in unseen.flags)


def test_noise_of_the_outcome_set_is_added_where_it_is_asked_for(posterior_of, laboratory):
    noisy = dataclasses.replace(laboratory.posterior().estimates["a"], noise=4e-5, noise_se=1e-6)
    posterior = posterior_of(
        RiskEstimates("conditional", (noisy,)), level=-8.0, share=-1.0, rate=-0.8, noise=4e-5 / noisy.scale**2
    )
    shown = _shown(laboratory.runs["a"], 0, 4)
    shows, endless = (
        predict_outcome(posterior, "a", shown, runs=laboratory.runs, outcome_noise=asked) for asked in (True, False)
    )
    assert shows.sd**2 - endless.sd**2 == pytest.approx(4e-5, rel=1e-6)


def test_from_branching_the_interval_is_at_least_that_of_prefixes(posterior_of, laboratory):
    prefixes = laboratory.posterior().estimates["a"]
    branching = dataclasses.replace(prefixes, proxy="branching", risk=prefixes.risk / 4, bias=None)
    posterior = posterior_of(RiskEstimates("branching", (branching,)), level=-14.0, share=-1.0, rate=-0.8)
    found = predict_outcome(posterior, "a", _shown(laboratory.runs["a"], 0, 4), runs=laboratory.runs)
    expected = prefixes.risk[3] * (1.0 + 0.8 * max(prefixes.bias[3], 0.0))
    assert found.sd**2 == pytest.approx(expected, rel=0.1)


def test_a_spread_is_no_risk(posterior_of, laboratory):
    spread = dataclasses.replace(laboratory.posterior().estimates["a"], proxy="run_to_run")
    estimates = RiskEstimates("run_to_run", (spread,))
    posterior = posterior_of(estimates, level=-6.0, share=-1.0, rate=-1.4)
    seen, unseen = (predict_outcome(posterior, "a", shown) for shown in ({10.0: 0.1}, None))
    spread = posterior.predict_risk("a", [1000.0]).mean()
    assert seen.mean == unseen.mean == estimates["a"].outcome_mean
    assert seen.sd**2 == pytest.approx(spread * (1 + 1 / estimates["a"].n_runs), rel=1e-6)
    assert "no risk" in seen.flags[0]


def test_a_task_that_nobody_probed_is_predicted_from_the_population(posterior_of, laboratory):
    estimates = laboratory.posterior().estimates
    population = {"mu_level": -7.0, "mu_share": -1.0, "mu_rate": -0.8, "corr": np.eye(3)}
    latents = {"level": -8.0, "share": 0.0, "rate": 0.0}
    alike = posterior_of(estimates, **latents, tau=1e-4, **population)
    found = predict_new_task(alike, metric="score", mean=-2.0, horizon=50.0)
    alpha = -1.0 + 5.0 * special.expit(-0.8)
    u0, onset = np.exp(-7.0) * 4.0, np.exp(-4.0) * 50.0
    floor = u0 * special.expit(-1.0)
    expected = theory.envelope(0.0, floor, u0 - floor, 10.0, alpha, onset, 50.0)
    assert found.mean == -2.0
    assert found.sd**2 == pytest.approx(float(expected), rel=1e-3)
    apart = posterior_of(estimates, **latents, tau=0.7, draws=4000, **population)
    wider = predict_new_task(apart, metric="score", mean=-2.0, horizon=50.0, mean_sd=0.1)
    assert np.std(np.log(wider.variance.intrinsic + wider.variance.to_come)) > 0.6
    assert wider.variance.predictor.mean() == pytest.approx(0.01)
    with pytest.raises(InputError, match="no task of the kind 'accuracy'"):
        predict_new_task(apart, metric="accuracy", mean=0.9, horizon=50.0)
    with pytest.raises(InputError, match="update has no draws"):
        predict_new_task(laboratory.posterior(), metric="score", mean=0.9, horizon=50.0)
    for wrong, complaint in (
        ({"mean": 0.0}, "scale: it is 0.0"),
        ({"horizon": -1.0}, "horizon: it is -1.0"),
        ({"mean_sd": -0.1}, "mean_sd: it is -0.1. Give a finite number, 0 or greater"),
        ({"mean": "high"}, "mean: it is 'high'"),
        ({"seed": 0.5}, "0.5 cannot be a seed"),
    ):
        with pytest.raises(InputError, match=complaint):
            predict_new_task(apart, **{"metric": "score", "mean": 1.0, "horizon": 50.0} | wrong)


def test_what_cannot_be_predicted_says_why(laboratory, posterior_of):
    posterior, runs = laboratory.posterior(), laboratory.runs
    with pytest.raises(InputError, match="runs is missing"):
        predict_outcome(posterior, "a", {10.0: 0.8})
    with pytest.raises(InputError, match="infinite"):
        predict_outcome(posterior, "a", {10.0: np.inf}, runs=runs)
    with pytest.raises(InputError, match="no task 'b'"):
        predict_outcome(posterior, "b")
    with pytest.raises(InputError, match="no metric 'loss'"):
        predict_outcome(posterior, "a", {10.0: {"loss": 0.8}}, runs=runs)
    with pytest.raises(InputError, match="score at 10 is 'high'"):
        predict_outcome(posterior, "a", {10.0: "high"}, runs=runs)
    with pytest.raises(InputError, match="it is a list"):
        predict_outcome(posterior, "a", [0.8], runs=runs)
    with pytest.raises(InputError, match="needs 20"):
        predict_outcome(posterior, "a", {10.0: 0.8}, runs=Trajectories((runs["a"].taken(range(9)),)))
    moved = dataclasses.replace(runs["a"], depths=runs["a"].depths - 1.0, horizon=999.0)
    with pytest.raises(InputError, match="none of the depths"):
        predict_outcome(posterior, "a", {9.0: 0.8}, runs=Trajectories((moved,)))
    with pytest.raises(InputError, match="level: it is 2"):
        predict_outcome(posterior, "a", {10.0: 0.8}, runs=runs).interval(2)
    # Latents that nobody knows: what is open before the first step is not known either.
    vague = posterior_of(posterior.estimates, level=-8.0, share=np.linspace(-6, 6, 400)[:, None], rate=0.0)
    with pytest.raises(InputError, match="not identified"):
        predict_outcome(vague, "a")
    assert predict_outcome(vague, "a", runs=runs).sd > 0.0
