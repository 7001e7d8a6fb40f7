r"""The conditional proxy: how well the best prediction of R from the prefix does, that this many seeds can train.

R is regressed on the trajectory up to depth c by ridge regression. Its kernel mixes two parts, each of standardised
columns and mean diagonal one: the last values, and the increments before them,

.. math:: K = (1 - w) K_{last} + w K_{increments}, \qquad \hat R = \bar R + K (K + \lambda)^{-1} (R - \bar R).

If the trajectory is a martingale the last value says it all, and a small w lets few runs find that. (w, lambda) have
the least leave-one-out error inside the training folds; the error is measured on the held-out fold, over several
draws of the folds. Any regression errs by at least the Bayes risk on average, so the proxy lies at or above it, and
the more so the fewer the runs and the deeper the prefix.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

__all__ = ["Prefix", "cross_fitted_errors", "degrees_of_freedom", "errors_of_outcomes", "prefix_features"]

FOLDS = 5
REPEATS = 4
MIXES = (0.0, 0.1, 0.4, 1.0)
"""Share of the increments in the kernel."""
PENALTIES = tuple(10.0**e for e in (-3, -2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5, 3, 8))
"""Relative to the mean diagonal of the kernel; the last one predicts by the mean."""
NORMAL_RUNS = 20.0
"""Weight of the normal distribution in the kurtosis of the errors, in runs."""
CONSTANT = 1e-5
"""Spread among the training runs, relative to that among all runs, below which a column says nothing."""
WIDENED = 1.0
"""How far beyond the training outcomes a prediction may lie, in ranges of theirs."""
PAD_RUNS, PAD_INCREMENTS = 16, 32
"""Runs and increments are filled up to multiples of these, so that tasks of about one size share a compilation."""


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
    key: PRNGKeyArray, prefix: Prefix, outcome: Float[Array, " n"], folds: int = FOLDS, repeats: int = REPEATS
) -> Float[Array, "D repeats n"]:
    """Error of predicting each run's R from its prefix, by a regression that has not seen the run.

    Predictions are held near the range of R in training (`WIDENED`), so that a held-out run with a feature far outside
    what was seen (a loss that spikes) is not predicted absurdly. No run is left out of the errors.

    Parameters
    ----------
    key : draws the folds; they depend on the key and on n only
    prefix : features of n runs at D depths
    outcome : R, not all equal

    Returns
    -------
    array (depths, repeats, runs)
        R minus its prediction, in the unit of the outcome.
    """
    centre, spread = outcome.mean(), outcome.std()
    return spread * errors_of_outcomes(key, prefix, ((outcome - centre) / spread)[None], folds, repeats)[0]


def errors_of_outcomes(
    key: PRNGKeyArray, prefix: Prefix, outcomes: Float[Array, "P n"], folds: int = FOLDS, repeats: int = REPEATS
) -> Float[Array, "P D repeats n"]:
    """`cross_fitted_errors` of several standardised outcomes, with the same folds: decompositions are shared."""
    runs = outcomes.shape[1]
    empty = -runs % PAD_RUNS
    present = jnp.arange(runs + empty) < runs
    increments = jnp.pad(prefix.increments, ((0, empty), (0, -prefix.increments.shape[1] % PAD_INCREMENTS)))
    until = jnp.pad(prefix.until, ((0, 0), (0, increments.shape[1] - prefix.until.shape[1])))
    last = jnp.pad(prefix.last, ((0, 0), (0, empty), (0, 0)))
    outcomes = jnp.pad(outcomes, ((0, 0), (0, empty)))
    held_out = _draw_folds(key, present, folds, repeats)
    # Depth by depth, so that the number of depths is not part of what is compiled.
    errors = [
        _errors_at_depth(features, increments, within, outcomes, present, held_out)
        for features, within in zip(last, until, strict=True)
    ]
    return jnp.stack(errors, axis=1)[..., :runs]


@functools.partial(jax.jit, static_argnames=("folds", "repeats"))
def _draw_folds(key, present, folds, repeats):
    """Folds of equal size (to within one run), drawn anew in every repeat: (repeats, folds, n), True where held out."""
    draws = jax.random.uniform(key, (repeats, present.shape[0]))
    ranks = jnp.argsort(jnp.argsort(jnp.where(present[None, :], draws, 2.0), axis=1), axis=1)
    fold_of = jnp.where(present[None, :], ranks % folds, -1)
    return fold_of[:, None, :] == jnp.arange(folds)[None, :, None]


@jax.jit
def _errors_at_depth(last, increments, within, outcomes, present, held_out):
    """Errors (P, repeats, n) at one depth; rows that are not present are zero and belong to no fold."""
    _, folds, rows = held_out.shape
    increments = jnp.where(within[None, :], increments, 0.0)

    def errors_of(outcome):
        predict = functools.partial(_held_out_prediction, last, increments, outcome, rows - rows // folds)
        predictions = jax.vmap(predict)((present[None, None, :] & ~held_out).reshape(-1, rows)).reshape(held_out.shape)
        return outcome[None, :] - jnp.where(held_out, predictions, 0.0).sum(axis=1)

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


def degrees_of_freedom(errors: Float[np.ndarray, "D repeats n"]) -> Float[np.ndarray, " D"]:
    """nu = 2 mean(e^2)^2 / Var(mean e^2), from what runs and draws of the folds add to the variance.

    Of the runs: the relative variance of e^2 over runs, pooled over depths and shrunk towards the normal
    distribution's 2 by `NORMAL_RUNS` runs, over n. Of the regression: its errors share training sets, whose influence
    no average over the same n runs removes; the variance between draws of the folds counts in full, not divided by
    their number. In simulations (martingale, 30 runs) without it nu was 30 where the estimates scattered as with 12 to
    25 degrees of freedom.
    """
    squared = errors.astype(np.float64) ** 2
    runs = errors.shape[2]
    by_run = squared.mean(axis=1)
    relative = by_run.var(axis=1, ddof=1) / by_run.mean(axis=1) ** 2
    pooled = (runs * relative.mean() + NORMAL_RUNS * 2.0) / (runs + NORMAL_RUNS)
    by_draw = squared.mean(axis=2)
    of_regression = by_draw.var(axis=1, ddof=1) / by_draw.mean(axis=1) ** 2
    return 2.0 / (pooled / runs + of_regression)
