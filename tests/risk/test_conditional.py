"""The conditional proxy against a plain ridge regression with explicit leave-one-out, and against known Bayes risks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from threadpoolctl import threadpool_limits

from bayes_prehoc.risk import conditional
from bayes_prehoc.risk.conditional import HALVES, MOST, Splits, cross_fitted_errors, extrapolated, prefix_features

KEY = jax.random.key(3)


@pytest.fixture(autouse=True)
def _one_thread():
    """As `estimate_risk` does: small decompositions crawl where BLAS threads share busy cores."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield


def _both(values, outcome, key=KEY, every=(MOST, HALVES)):
    found = cross_fitted_errors(key, prefix_features(values), jnp.asarray(outcome), *every)
    return [np.asarray(errors) for errors in found]


def _errors(values, outcome, key=KEY, splits=MOST):
    return _both(values, outcome, key, (splits,))[0]


def _folds(key, runs, folds, repeats):
    """As the only splits that are asked for."""
    padded = runs + -runs % conditional.PAD_RUNS
    (own,) = jax.random.split(key, 1)
    return np.asarray(conditional._draw_folds(own, jnp.arange(padded) < runs, folds, repeats))[:, :, :runs]


def _ridge(x, y, penalty):
    """Coefficients of ridge regression with an intercept that is not penalised: augmented least squares."""
    design = np.vstack([np.c_[np.ones(len(x)), x], np.c_[np.zeros(x.shape[1]), np.sqrt(penalty) * np.eye(x.shape[1])]])
    return np.linalg.lstsq(design, np.r_[y, np.zeros(x.shape[1])], rcond=None)[0]


def _scaled(features, training):
    """Columns standardised by the training rows, all divided so that the training rows have mean square length 1."""
    centred = features - features[training].mean(axis=0)
    sd = centred[training].std(axis=0)
    varies = sd > 1e-5 * features.std(axis=0)
    z = centred[:, varies] / sd[varies]
    return z / np.sqrt((z[training] ** 2).sum(axis=1).mean()) if z.shape[1] else z


def _oracle(key, values, outcome, folds, repeats):
    """Errors (D, repeats, n): one regression at a time, each left-out run by refitting without it."""
    n = len(outcome)
    errors = np.zeros((values.shape[2], repeats, n))
    for depth in range(values.shape[2]):
        last = values[:, :, depth].T
        increments = np.concatenate([np.diff(metric[:, : depth + 1], axis=1) for metric in values], axis=1)
        for repeat, assignment in enumerate(_folds(key, n, folds, repeats)):
            for held_out in assignment:
                training = np.flatnonzero(~held_out)
                parts, best = (_scaled(last, training), _scaled(increments, training)), (np.inf,)
                for mix in conditional.MIXES:
                    x = np.concatenate([np.sqrt(1.0 - mix) * parts[0], np.sqrt(mix) * parts[1]], axis=1)
                    for penalty in conditional.PENALTIES:
                        score = 0.0
                        for i in training:
                            others = training[training != i]
                            b = _ridge(x[others], outcome[others], penalty)
                            score += (outcome[i] - b[0] - x[i] @ b[1:]) ** 2
                        if score < best[0] * (1.0 - 1e-9):
                            best = score, x, _ridge(x[training], outcome[training], penalty)
                _, x, b = best
                low, high = outcome[training].min(), outcome[training].max()
                slack = conditional.WIDENED * (high - low)
                prediction = np.clip(b[0] + x @ b[1:], low - slack, high + slack)
                errors[depth, repeat, held_out] = (outcome - prediction)[held_out]
    return errors


@pytest.mark.parametrize("case", ["two metrics", "ties and a constant column", "a spike"])
def test_matches_a_plain_ridge_with_explicit_leave_one_out(float64, strict_jax, martingale, case):
    rng = np.random.default_rng(5)
    values, outcome, _ = martingale(rng, 13, np.array([1.0, 3.0, 9.0]), metrics=2)
    if case == "ties and a constant column":
        values, outcome = np.round(values, 0), np.round(outcome, 0)
        values[1, :, 1] = 0.3
        values[1, :, 2] = np.where(np.arange(13) == 4, 0.7, 0.3)  # constant in training where run 4 is held out
    if case == "a spike":
        values[1, 4, 1] = 1e4
    expected = _oracle(KEY, values, outcome, folds=3, repeats=2)
    np.testing.assert_allclose(_errors(values, outcome, splits=Splits(3, 2)), expected, rtol=1e-6, atol=1e-8)


def test_single_precision_agrees_with_double(strict_jax, martingale):
    values, outcome, _ = martingale(np.random.default_rng(0), 33, np.geomspace(1, 50, 5), metrics=3)
    single = _errors(values, outcome)
    folds = _folds(KEY, 33, *MOST)
    assert single.dtype == np.float32
    with jax.enable_x64(True):
        # Other precisions draw other folds: the same ones are put in.
        prefix = prefix_features(values)
        held_out = jnp.asarray(np.pad(folds.reshape(-1, 33), ((0, 0), (0, 15))))
        present = jnp.arange(48) < 33
        z = jnp.pad(jnp.asarray((outcome - outcome.mean()) / outcome.std()), (0, 15))
        last, increments = (
            jnp.pad(prefix.last, ((0, 0), (0, 15), (0, 0))),
            jnp.pad(prefix.increments, ((0, 15), (0, 0))),
        )
        double = [
            conditional._errors_at_depth(a, increments, b, z[None], present, held_out, 39)[0, :, :33]
            for a, b in zip(last, prefix.until, strict=True)
        ]
    double = outcome.std() * np.array(double).reshape(5, *MOST[::-1], 33).sum(axis=2)
    apart = np.abs((single**2).mean(axis=2) / (double**2).mean(axis=2) - 1.0)
    # Of two penalties that are as good as each other, rounding chooses: that is rare, and moves the estimate by far
    # less than its error.
    assert np.mean(apart < 1e-3) > 0.9
    error = np.sqrt(2.0 / extrapolated(double, double).nu)
    assert (np.abs((single**2).mean(axis=(1, 2)) / (double**2).mean(axis=(1, 2)) - 1.0) < 0.1 * error).all()


@pytest.mark.parametrize("runs", [20, 31, 64])
def test_folds_hold_every_run_out_once_per_repeat(runs):
    folds = _folds(KEY, runs, 5, 4)
    np.testing.assert_array_equal(folds.sum(axis=1), 1)
    assert np.ptp(folds.sum(axis=2)) <= 1
    assert not np.array_equal(folds[0], folds[1])


@pytest.mark.parametrize(
    ("change", "relative"),
    [
        ("metrics and outcome in other units", 1e-3),
        ("small variation around a large value", 1e-3),
        ("a constant metric more", 1e-3),
        ("the order of the metrics", 1e-3),
    ],
)
def test_what_must_not_matter(strict_jax, martingale, change, relative):
    values, outcome, _ = martingale(np.random.default_rng(1), 24, np.geomspace(1, 20, 4), metrics=2)
    unit = 1.0
    changed = values, outcome
    if change == "metrics and outcome in other units":
        unit, changed = 1e3, (values * np.array([1e-9, 1e6])[:, None, None], outcome * 1e3)
    if change == "small variation around a large value":
        changed = values + 1e5, outcome
    if change == "a constant metric more":
        changed = np.concatenate([values, np.full_like(values[:1], 0.1)]), outcome
    if change == "the order of the metrics":
        changed = values[::-1], outcome
    before, after = _errors(values, outcome), _errors(*changed)
    np.testing.assert_allclose((after**2).mean((1, 2)), unit**2 * (before**2).mean((1, 2)), rtol=relative)


@pytest.mark.parametrize("case", ["all metrics constant", "R differs in one run", "two values"])
def test_ties_give_numbers(strict_jax, martingale, case):
    values, outcome, _ = martingale(np.random.default_rng(1), 25, np.geomspace(1, 20, 4))
    if case == "all metrics constant":
        values = np.full_like(values, 0.3)
    if case == "R differs in one run":
        outcome = np.r_[np.full(24, 0.5), 0.6]
    if case == "two values":
        outcome = np.where(outcome > 0.0, 1.0, 0.0)
    errors = _errors(values, outcome)
    assert np.isfinite(errors).all()
    if case == "all metrics constant":
        # Nothing to predict from: the mean of the training runs, which are four fifths.
        np.testing.assert_allclose((errors**2).mean((1, 2)), outcome.var(ddof=1) * (1.0 + 1.0 / 20.0), rtol=0.05)


def test_a_spike_in_one_run_costs_no_more_than_that_run(strict_jax, martingale):
    values, outcome, _ = martingale(np.random.default_rng(2), 40, np.geomspace(1, 50, 4), metrics=2)
    calm = (_errors(values, outcome) ** 2).mean(axis=(1, 2))
    values[1, 7, 2] = 1e6
    errors = _errors(values, outcome) ** 2
    rest = np.delete(errors, 7, axis=2).mean(axis=(1, 2))
    assert (rest < 1.5 * calm).all()
    assert errors[:, :, 7].max() <= (2.01 * np.ptp(outcome)) ** 2


def test_splits_do_not_depend_on_what_else_is_asked_for(martingale):
    values, outcome, _ = martingale(np.random.default_rng(0), 26, np.geomspace(1, 50, 3))
    one, other = _both(values, outcome, every=(HALVES, MOST))
    assert one.shape == (3, 10, 26) and other.shape == (3, 4, 26)
    keys = jax.random.split(KEY, 2)
    for found, splits, key in ((one, HALVES, keys[0]), (other, MOST, keys[1])):
        held_out = np.asarray(conditional._draw_folds(key, jnp.arange(32) < 26, *splits))[:, :, :26]
        # Where nothing can be predicted a run's error tells which runs it was predicted from.
        nothing = np.zeros_like(values)
        alone = _both(nothing, outcome, every=(HALVES, MOST))[0 if splits is HALVES else 1]
        by_mean = [[outcome[i] - outcome[~own[own[:, i]][0]].mean() for i in range(26)] for own in held_out]
        np.testing.assert_allclose(alone, np.broadcast_to(by_mean, alone.shape), rtol=1e-4, atol=1e-5)
        assert np.isfinite(found).all()


def _simulated(martingale, replicates, runs, depths, metrics):
    """Extrapolated estimates and those of four fifths (replicates, D), and the truth."""
    rng, found, plain = np.random.default_rng(3), [], []
    for replicate in range(replicates):
        values, outcome, truth = martingale(rng, runs, depths, metrics=metrics)
        most, half = _both(values, outcome, jax.random.key(replicate))
        found.append(extrapolated(most, half))
        plain.append((most**2).mean(axis=(1, 2)))
    return [np.array(part) for part in zip(*found, strict=True)], np.array(plain), truth


def test_the_bias_of_few_runs_is_removed(strict_jax, martingale):
    """Before, estimates lie above the Bayes risk, after, about it, with intervals that hold it."""
    (risk, nu, bias, _), plain, truth = _simulated(martingale, 120, 40, np.geomspace(1, 100, 5), 1)
    np.testing.assert_allclose(risk * (1.0 + bias), plain, rtol=1e-6)
    # Depths share the runs, and replicates are independent.
    over, left = ((estimates / truth).mean(axis=1) for estimates in (plain, risk))
    assert over.mean() - 1.0 > max(0.08, 3.0 * over.std() / np.sqrt(120))
    assert abs(left.mean() - 1.0) < 3.0 * left.std() / np.sqrt(120)
    lower, upper = risk * nu / stats.chi2.ppf(0.95, nu), risk * nu / stats.chi2.ppf(0.05, nu)
    held = ((lower <= truth) & (truth <= upper)).mean(axis=1)
    assert abs(held.mean() - 0.9) < 3.0 * held.std() / np.sqrt(120)


def test_degrees_of_freedom_and_correlation_tell_how_the_estimates_scatter(strict_jax, martingale):
    (risk, nu, _, correlation), _, _ = _simulated(martingale, 120, 40, np.geomspace(1, 100, 5), 1)
    # By quartiles, because of rare replicates in which one run is predicted badly; each has an error of about 25%.
    quartiles = np.quantile(np.log(risk), [0.25, 0.75], axis=0)
    seen = ((quartiles[1] - quartiles[0]) / 1.349) ** 2
    told = (2.0 / nu).mean(axis=0)
    assert told.mean() == pytest.approx(seen.mean(), rel=0.25)
    assert (told / seen > 0.5).all() and (told / seen < 2.0).all()
    pairs = np.triu_indices(5, 1)
    seen, told = np.corrcoef(np.log(risk).T)[pairs], correlation.mean(axis=0)[pairs]
    # Draws of the folds, which `correlation` leaves out, make it lower.
    np.testing.assert_allclose(told, seen, atol=0.3)
    assert told.mean() == pytest.approx(seen.mean(), abs=0.12) and np.corrcoef(seen, told)[0, 1] > 0.8


def test_degrees_of_freedom_of_normal_errors_are_the_runs():
    errors = np.random.default_rng(0).normal(size=(6, 1, 400)) * np.ones((1, 4, 1))
    found = extrapolated(errors, errors)
    # The fourth moment of 400 normal errors has a standard error of a sixth.
    assert found.nu.mean() == pytest.approx(400.0, rel=0.1) and (abs(found.nu / 400.0 - 1.0) < 0.5).all()
    np.testing.assert_array_equal(found.bias, 0.0)
    one_run_fails = errors.copy()
    one_run_fails[:, :, 0] = 40.0
    assert (extrapolated(one_run_fails, one_run_fails).nu < 20.0).all()


def test_no_more_is_removed_than_training_on_half_of_the_runs_can_cost():
    errors = np.random.default_rng(0).normal(size=(2, 4, 60))
    found = extrapolated(errors, 10.0 * errors)
    np.testing.assert_allclose(found.bias, conditional.MOST_OF_HALF ** (5.0 / 3.0) - 1.0)
    np.testing.assert_allclose(found.risk * (1.0 + found.bias), (errors**2).mean(axis=(1, 2)))
