"""The conditional proxy against a plain ridge regression with explicit leave-one-out, and against known Bayes risks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from bayes_prehoc.risk import conditional
from bayes_prehoc.risk.conditional import cross_fitted_errors, degrees_of_freedom, prefix_features

KEY = jax.random.key(3)


@pytest.fixture(autouse=True)
def _one_thread():
    """As `estimate_risk` does: small decompositions crawl where BLAS threads share busy cores."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield


def _errors(values, outcome, key=KEY, **options):
    return np.asarray(cross_fitted_errors(key, prefix_features(values), jnp.asarray(outcome), **options))


def _folds(key, runs, folds, repeats):
    padded = runs + -runs % conditional.PAD_RUNS
    return np.asarray(conditional._draw_folds(key, jnp.arange(padded) < runs, folds, repeats))[:, :, :runs]


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
    np.testing.assert_allclose(_errors(values, outcome, folds=3, repeats=2), expected, rtol=1e-6, atol=1e-8)


def test_single_precision_agrees_with_double(strict_jax, martingale):
    values, outcome, _ = martingale(np.random.default_rng(0), 33, np.geomspace(1, 50, 5), metrics=3)
    single = _errors(values, outcome)
    folds = _folds(KEY, 33, conditional.FOLDS, conditional.REPEATS)
    assert single.dtype == np.float32
    with jax.enable_x64(True):
        # Other precisions draw other folds: the same ones are put in.
        prefix = prefix_features(values)
        held_out = jnp.asarray(np.pad(folds, ((0, 0), (0, 0), (0, 15))))
        present = jnp.arange(48) < 33
        z = jnp.pad(jnp.asarray((outcome - outcome.mean()) / outcome.std()), (0, 15))
        last, increments = (
            jnp.pad(prefix.last, ((0, 0), (0, 15), (0, 0))),
            jnp.pad(prefix.increments, ((0, 15), (0, 0))),
        )
        double = [
            conditional._errors_at_depth(a, increments, b, z[None], present, held_out)[0, :, :33]
            for a, b in zip(last, prefix.until, strict=True)
        ]
    double = outcome.std() * np.array(double)
    np.testing.assert_allclose((single**2).mean(axis=(1, 2)), (double**2).mean(axis=(1, 2)), rtol=1e-3)


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


def test_above_the_bayes_risk_and_down_to_the_noise(strict_jax, martingale):
    rng, depths = np.random.default_rng(3), np.geomspace(1, 100, 5)
    estimates, outcomes = [], []
    for replicate in range(30):
        values, outcome, truth = martingale(rng, 48, depths, metrics=2)
        estimates.append((_errors(values, outcome, jax.random.key(replicate)) ** 2).mean(axis=(1, 2)))
        outcomes.append(outcome.var())
    estimates = np.array(estimates)
    ratio, se = estimates.mean(axis=0) / truth, estimates.std(axis=0) / np.sqrt(len(estimates)) / truth
    assert (ratio > 1.0 - 2.0 * se).all() and (ratio < 1.4).all()
    assert 0.01 < estimates[:, -1].mean() < 0.014  # the noise of R is 0.01; its variance about 1
    assert np.mean(outcomes) > 0.9


def test_degrees_of_freedom_tell_how_the_estimates_scatter(strict_jax, martingale):
    rng, depths = np.random.default_rng(4), np.geomspace(1, 100, 5)
    risks, nus = [], []
    for replicate in range(120):
        values, outcome, _ = martingale(rng, 30, depths, metrics=3)
        errors = _errors(values, outcome, jax.random.key(replicate))
        risks.append((errors**2).mean(axis=(1, 2)))
        nus.append(degrees_of_freedom(errors))
    # By quartiles, because of rare replicates in which one run is predicted badly; each has an error of about 25%.
    quartiles = np.quantile(np.log(risks), [0.25, 0.75], axis=0)
    seen = ((quartiles[1] - quartiles[0]) / 1.349) ** 2
    told = (2.0 / np.array(nus)).mean(axis=0)
    assert told.mean() == pytest.approx(seen.mean(), rel=0.25)
    # The regression's own variance counts at depth, where the runs alone would say 0.07.
    assert told[-2:].mean() == pytest.approx(seen[-2:].mean(), rel=0.2)
    assert (told / seen > 0.5).all() and (told / seen < 2.0).all()


def test_degrees_of_freedom_of_normal_errors_are_the_runs():
    errors = np.random.default_rng(0).normal(size=(6, 1, 400)) * np.ones((1, 4, 1))
    np.testing.assert_allclose(degrees_of_freedom(errors), 400.0, rtol=0.1)
    one_run_fails = errors.copy()
    one_run_fails[:, :, 0] *= 40.0
    assert (degrees_of_freedom(one_run_fails) < 20.0).all()
