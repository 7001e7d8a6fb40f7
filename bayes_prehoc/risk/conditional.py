r"""The conditional proxy: how well the best linear prediction of R from the prefix does.

R is regressed on the trajectory up to depth c by ridge regression. Its kernel mixes two parts, each of standardised
columns and mean diagonal one: the last values, and the increments before them,

.. math:: K = (1 - w) K_{last} + w K_{increments}, \qquad \hat R = \bar R + K (K + \lambda)^{-1} (R - \bar R).

If the trajectory is a martingale the last value says it all, and a small w lets few runs find that. (w, lambda) have
the least leave-one-out error inside the training folds; the error is measured on the held-out fold, over several
draws of the folds.

Such a regression errs by more than the Bayes risk, and the more so the fewer the runs and the deeper the prefix: with
m runs to train on by about L (1 + b / m). So it is trained on four fifths of the runs and on half of them, and what it
would do with endlessly many follows by extrapolation in 1 / m, on the scale of logarithms (`extrapolated`). What is
left is the risk of the best linear prediction, at or above the Bayes risk.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

__all__ = [
    "HALVES",
    "MOST",
    "Extrapolated",
    "Prefix",
    "Splits",
    "cross_fitted_errors",
    "errors_of_outcomes",
    "extrapolated",
    "prefix_features",
]

MIXES = (0.0, 0.1, 0.4, 1.0)
"""Share of the increments in the kernel."""
PENALTIES = tuple(10.0**e for e in (-3, -2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5, 3, 8))
"""Relative to the mean diagonal of the kernel; the last one predicts by the mean."""
NORMAL_RUNS = 20.0
"""Weight of the normal distribution in the kurtosis of the errors, in runs."""
MOST_OF_HALF = 1.6
"""Risk after training on half of the runs, over that on four fifths, which no L (1 + b / m) exceeds."""
CONSTANT = 1e-5
"""Spread among the training runs, relative to that among all runs, below which a column says nothing."""
WIDENED = 1.0
"""How far beyond the training outcomes a prediction may lie, in ranges of theirs."""
PAD_RUNS, PAD_INCREMENTS = 16, 32
"""Runs and increments are filled up to multiples of these, so that tasks of about one size share a compilation."""


class Splits(NamedTuple):
    """How often the runs are dealt into how many folds, each predicted from the others."""

    folds: int
    repeats: int

    @property
    def training(self) -> float:
        """Share of the runs that a regression is trained on."""
        return 1.0 - 1.0 / self.folds


MOST, HALVES = Splits(folds=5, repeats=4), Splits(folds=2, repeats=10)


class Prefix(NamedTuple):
    """Features of n runs at D depths with M metrics, all standardised over the runs.

    Attributes
    ----------
    last : the metrics at each depth (D, n, M)
    increments : between neighbouring depths, (n, P)
    until : which increments lie within each prefix (D, P)
    """

    last: Float[Array, "D n M"]
    increments: Float[Array, "n P"]
    until: Bool[Array, "D P"]


def prefix_features(values: Float[np.ndarray, "M n D"]) -> Prefix:
    """Last values and increments of all metrics, from tables without gaps.

    Standardised in float64, before they become float32: a metric may vary by little around a large value. Columns
    that are constant, to within rounding of the values, become zero.
    """
    metrics, runs, depths = values.shape
    rounding = 1e-12 * np.abs(values).max(axis=(1, 2), initial=0.0)
    with np.errstate(over="ignore"):  # values whose square is infinite become zero
        last = _standardised_columns(values, rounding)
        increments = _standardised_columns(np.diff(values, axis=2), rounding)
    increments = increments.transpose(1, 2, 0).reshape(runs, (depths - 1) * metrics)
    ends_at = np.repeat(np.arange(1, depths), metrics)
    until = ends_at[None, :] <= np.arange(depths)[:, None]
    return Prefix(jnp.asarray(last.transpose(2, 1, 0)), jnp.asarray(increments), jnp.asarray(until))


def _standardised_columns(values, rounding):
    centred = values - values.mean(axis=1, keepdims=True)
    scale = centred.std(axis=1, keepdims=True)
    return np.where(scale > rounding[:, None, None], centred / np.where(scale > 0.0, scale, 1.0), 0.0)


def cross_fitted_errors(
    key: PRNGKeyArray, prefix: Prefix, outcome: Float[Array, " n"], *every: Splits
) -> tuple[Float[Array, "D repeats n"], ...]:
    """Errors of predicting each run's R from its prefix, by regressions that have not seen the run.

    Predictions are held near the range of R in training (`WIDENED`), so that a held-out run with a feature far outside
    what was seen (a loss that spikes) is not predicted absurdly. No run is left out of the errors.

    Parameters
    ----------
    key : draws the folds; they depend on the key and on n only
    prefix : features of n runs at D depths
    outcome : R, not all equal
    every : Splits

    Returns
    -------
    tuple of arrays (depths, repeats, runs)
        R minus its prediction, in the unit of the outcome; for each of the splits.
    """
    centre, spread = outcome.mean(), outcome.std()
    found = errors_of_outcomes(key, prefix, ((outcome - centre) / spread)[None], *every)
    return tuple(spread * errors[0] for errors in found)


def errors_of_outcomes(
    key: PRNGKeyArray, prefix: Prefix, outcomes: Float[Array, "P n"], *every: Splits
) -> tuple[Float[Array, "P D repeats n"], ...]:
    """`cross_fitted_errors` of several standardised outcomes, with the same folds: decompositions are shared."""
    runs = outcomes.shape[1]
    empty = -runs % PAD_RUNS
    present = jnp.arange(runs + empty) < runs
    increments = jnp.pad(prefix.increments, ((0, empty), (0, -prefix.increments.shape[1] % PAD_INCREMENTS)))
    until = jnp.pad(prefix.until, ((0, 0), (0, increments.shape[1] - prefix.until.shape[1])))
    last = jnp.pad(prefix.last, ((0, 0), (0, empty), (0, 0)))
    outcomes = jnp.pad(outcomes, ((0, 0), (0, empty)))
    keys = jax.random.split(key, len(every))
    held_out = [_draw_folds(own, present, *splits) for own, splits in zip(keys, every, strict=True)]
    # One program for all splits, with room for the largest training set.
    together = jnp.concatenate([one.reshape(-1, runs + empty) for one in held_out])
    room = max(runs + empty - (runs + empty) // splits.folds for splits in every)
    # Depth by depth, so that the number of depths is not part of what is compiled.
    by_depth = [
        _errors_at_depth(features, increments, within, outcomes, present, together, room)
        for features, within in zip(last, until, strict=True)
    ]
    errors = jnp.stack(by_depth, axis=1)[..., :runs]
    ends = np.cumsum([splits.folds * splits.repeats for splits in every])[:-1]
    return tuple(
        part.reshape(*part.shape[:2], splits.repeats, splits.folds, runs).sum(axis=3)
        for part, splits in zip(jnp.split(errors, ends, axis=2), every, strict=True)
    )


@functools.partial(jax.jit, static_argnames=("folds", "repeats"))
def _draw_folds(key, present, folds, repeats):
    """Folds of equal size (to within one run), drawn anew in every repeat: (repeats, folds, n), True where held out."""
    draws = jax.random.uniform(key, (repeats, present.shape[0]))
    ranks = jnp.argsort(jnp.argsort(jnp.where(present[None, :], draws, 2.0), axis=1), axis=1)
    fold_of = jnp.where(present[None, :], ranks % folds, -1)
    return fold_of[:, None, :] == jnp.arange(folds)[None, :, None]


@functools.partial(jax.jit, static_argnames="room")
def _errors_at_depth(last, increments, within, outcomes, present, held_out, room):
    """Errors (P, S, n) at one depth in each of S splits, of the runs that are held out there; the rest is zero.

    Rows that are not present are zero; at most `room` rows are trained on.
    """
    increments = jnp.where(within[None, :], increments, 0.0)

    def errors_of(outcome):
        predict = functools.partial(_held_out_prediction, last, increments, outcome, room)
        predictions = jax.vmap(predict)(present[None, :] & ~held_out)
        return jnp.where(held_out, outcome[None, :] - predictions, 0.0)

    return jax.vmap(errors_of)(outcomes)


def _held_out_prediction(last, increments, outcome, size, training):
    """Ridge predictions for all rows from the training rows (at most `size` of them), tuned by leave-one-out."""
    dtype = outcome.dtype
    weight = training.astype(dtype)
    count = weight.sum()
    mean = (weight * outcome).sum() / count
    kernels = [_unit_kernel(_standardised(f, weight, count), weight, count) for f in (last, increments)]
    # The decomposition costs most: it sees the training rows only.
    rows = jnp.argsort(~training, stable=True)[:size]
    here = weight[rows]
    target = here * (outcome - mean)[rows]
    penalties = jnp.asarray(PENALTIES, dtype)

    def with_mix(mix):
        kernel = ((1.0 - mix) * kernels[0] + mix * kernels[1])[rows, :]
        values, vectors = jnp.linalg.eigh(here[:, None] * kernel[:, rows] * here[None, :])
        shrunk = 1.0 / (jnp.maximum(values, 0.0)[None, :] + penalties[:, None])
        dual = here[None, :] * ((shrunk * (vectors.T @ target)[None, :]) @ vectors.T)
        # Exact for an intercept without penalty: it takes 1 / count of the leverage, here in the dual's unit.
        diagonal = shrunk @ (vectors**2).T - (1.0 / (count * penalties))[:, None]
        left_out = here[None, :] * dual / jnp.maximum(diagonal, jnp.finfo(dtype).tiny)
        return (left_out**2).sum(axis=1), mean + dual @ kernel

    scores, predictions = jax.vmap(with_mix)(jnp.asarray(MIXES, dtype))
    best = predictions.reshape(-1, outcome.shape[0])[jnp.argmin(scores)]
    low = jnp.where(training, outcome, jnp.inf).min()
    high = jnp.where(training, outcome, -jnp.inf).max()
    slack = WIDENED * (high - low)
    return jnp.clip(best, low - slack, high + slack)


def _standardised(features, weight, count):
    """Columns centred and scaled by the training rows; zero where those hardly vary."""
    centred = features - (weight @ features)[None, :] / count
    scale = jnp.sqrt((weight @ centred**2) / count)
    return centred / jnp.where(scale > CONSTANT, scale, jnp.inf)[None, :]


def _unit_kernel(features, weight, count):
    """Linear kernel with mean diagonal 1 over the training rows; zero where there are no features."""
    kernel = features @ features.T
    size = weight @ jnp.diag(kernel) / count
    return kernel / jnp.where(size > 0.0, size, 1.0)


class Extrapolated(NamedTuple):
    """What regressions with endlessly many runs to train on would leave open, at D depths.

    Attributes
    ----------
    risk, nu : arrays (D,)
        In the squared unit of the errors; effective degrees of freedom.
    bias : array (D,)
        By how much more four fifths of the runs leave open, relative to `risk`.
    correlation : array (D, D)
        Of the estimates at different depths, which share runs.
    """

    risk: Float[np.ndarray, " D"]
    nu: Float[np.ndarray, " D"]
    bias: Float[np.ndarray, " D"]
    correlation: Float[np.ndarray, "D D"]


def extrapolated(most: Float[np.ndarray, "D R n"], half: Float[np.ndarray, "D Q n"]) -> Extrapolated:
    r"""Risk without the bias of training on few runs.

    With L_m = L (1 + b / m) the logarithm of L is that of L_m less b / m, as long as b / m is small, hence

    .. math:: \log L = \log L_{4n/5} - w \log \frac{L_{n/2}}{L_{4n/5}}, \qquad w = \frac{1/2}{4/5 - 1/2} .

    whose second term is made a line over the depths. nu is 2 over the relative variance of this. Of the runs: that of
    what each contributes, with the kurtosis of the squared errors, pooled over depths, shrunk towards the normal
    distribution's by `NORMAL_RUNS` runs. Of the draws of the folds: that of their means.

    Parameters
    ----------
    most, half : arrays (D, repeats, n)
        Errors with the splits `MOST` and `HALVES`.
    """
    weight = HALVES.training / (MOST.training - HALVES.training)
    runs = most.shape[2]
    squared, of_halves = (errors.astype(np.float64) ** 2 for errors in (most, half))
    by_run, halves_by_run = squared.mean(axis=1), of_halves.mean(axis=1)
    level, level_of_halves = by_run.mean(axis=1), halves_by_run.mean(axis=1)
    # Over depths the bias is a line: it changes slowly, and estimates of neighbouring depths stay as alike as they are.
    line = np.vander(np.arange(len(most)), 2)
    smooth = weight * line @ np.linalg.pinv(line)
    log_bias = smooth @ np.log(np.minimum(level_of_halves / level, MOST_OF_HALF))

    shares, shares_of_halves = by_run / level[:, None], halves_by_run / level_of_halves[:, None]
    influence = shares - smooth @ (shares_of_halves - shares)
    kurtosis = shares.var(axis=1, ddof=1).mean()
    shrunk = (runs * kurtosis + NORMAL_RUNS * 2.0) / (runs + NORMAL_RUNS)
    of_runs = influence.var(axis=1, ddof=1) * shrunk / kurtosis / runs
    of_draws = (1.0 + weight) ** 2 * _error_of_draws(squared) + weight**2 * _error_of_draws(of_halves)
    return Extrapolated(
        level * np.exp(-log_bias), 2.0 / (of_runs + of_draws), np.expm1(log_bias), np.corrcoef(influence)
    )


def _error_of_draws(squared):
    """Relative variance of a mean over draws of the folds, from squared errors (D, repeats, n)."""
    return np.log(squared.mean(axis=2)).var(axis=1, ddof=1) / squared.shape[1]
