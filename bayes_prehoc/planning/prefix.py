r"""The regression of R on prefixes, as weights that can be applied to a run in progress anywhere.

It is the one whose error the conditional proxy measures (`bayes_prehoc.risk.conditional`), trained on all runs and not
in folds: ridge regression with a kernel that mixes the last values and the increments before them,

.. math:: K = (1 - w) K_{last} + w K_{increments}, \qquad \hat R = \bar R + K (K + \lambda)^{-1} (R - \bar R),

(w, lambda) by the least leave-one-out error. A linear kernel's prediction is linear in the values, so the weights are
all that is kept.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from bayes_prehoc.errors import InputError
from bayes_prehoc.risk.by_task import prefixes_of, small_regressions
from bayes_prehoc.risk.conditional import MIXES, PENALTIES, WIDENED
from bayes_prehoc.risk.observed import PrefixTable
from bayes_prehoc.runs.trajectories import Trajectories
from bayes_prehoc.watching import PrefixPredictor

__all__ = ["Trained", "complete_runs_of", "trained_predictor"]

FITTED = "Give the complete runs that the task's risk was estimated from."


class Trained(NamedTuple):
    """A predictor, and the errors it makes of runs that it was not trained on.

    Attributes
    ----------
    predictor : PrefixPredictor
    errors : array (K + 1, n)
        R less its prediction from the other runs: from their mean, then at each look.
    """

    predictor: PrefixPredictor
    errors: Float[np.ndarray, "K n"]


def trained_predictor(runs: Trajectories, task: str, metric: str, depths: Float[np.ndarray, " D"]) -> Trained:
    """Train on a task's complete runs.

    Parameters
    ----------
    runs : Trajectories
    task, metric : str
        R is of this metric.
    depths : float array (D,)
        Depths at which a prefix may end; those that the runs share are used.

    Raises
    ------
    InputError
        No such task or metric, or its runs allow no regression.
    """
    table = complete_runs_of(runs, task, metric)
    looks = np.flatnonzero(np.isclose(table.depths[:, None], np.asarray(depths)[None], rtol=1e-9).any(axis=1))
    if not len(looks):
        raise InputError("its runs share none of the depths that were fitted", f"runs, task {task!r}", FITTED)
    # The outcome's metric first, so that a plain number means it.
    recorded = runs[task].metrics
    metrics = sorted(recorded, key=lambda own: own != metric)
    values = table.values[[recorded.index(own) for own in metrics]]
    with small_regressions():
        fits = [_weights(values[:, :, : look + 1], table.outcome) for look in looks]
    weights = np.zeros((len(looks), len(metrics), len(table.depths)))
    for row, (_, found, _) in enumerate(fits):
        weights[row, :, : found.shape[1]] = found
    n = len(table.outcome)
    alone = (table.outcome - table.outcome.mean()) * n / (n - 1.0)
    low, high = table.outcome.min(), table.outcome.max()
    slack = WIDENED * (high - low)
    flat = values.transpose(1, 0, 2).reshape(n, -1)
    predictor = PrefixPredictor(
        metrics=tuple(metrics),
        depths=table.depths,
        looks=looks,
        intercept=np.array([intercept for intercept, *_ in fits]),
        weights=weights,
        average=values.mean(axis=1),
        covariance=np.atleast_2d(np.cov(flat.T)),
        lowest=float(low - slack),
        highest=float(high + slack),
        outcome_mean=float(table.outcome.mean()),
    )
    return Trained(predictor, np.stack([alone, *(errors for *_, errors in fits)]))


def complete_runs_of(runs: Trajectories, task: str, metric: str) -> PrefixTable:
    """The prefixes and outcomes of a task's complete runs, R of the metric.

    Raises
    ------
    InputError
        No such task or metric, or its runs allow no regression.
    """
    where = f"runs, task {task!r}"
    if not isinstance(runs, Trajectories):
        raise InputError(f"it is a {type(runs).__name__}", "runs", "Give what `read_runs` or `probe` return.")
    own = runs[task]
    if own.outcome_metric != metric:
        if metric not in own.metrics:
            raise InputError(f"metric {metric!r} was not recorded ({', '.join(own.metrics)} were)", where, FITTED)
        # A recorded outcome belongs to the metric that it was recorded for.
        there = {} if own.outcome_metric is None else {"outcome": None, "outcome_examples": None}
        own = dataclasses.replace(own, outcome_metric=metric, **there)
    table = prefixes_of(own)
    if isinstance(table, str):
        raise InputError(table, where, FITTED)
    return table


def _weights(values: Float[np.ndarray, "M n J"], outcome: Float[np.ndarray, " n"]):
    """For prefixes that end at the last depth: intercept, weights of the values (M, J), leave-one-out errors (n,)."""
    metrics, n, depths = values.shape
    rounding = 1e-12 * np.abs(values).max(axis=(1, 2), initial=0.0)[:, None]
    parts = [values[:, :, -1:], np.diff(values, axis=2)]
    centres = [part.mean(axis=1) for part in parts]
    scales = [part.std(axis=1) for part in parts]
    # What varies by its rounding only says nothing.
    scales = [np.where(scale > rounding, scale, np.inf) for scale in scales]
    features = [
        ((part - centre[:, None]) / scale[:, None]).transpose(1, 0, 2).reshape(n, -1)
        for part, centre, scale in zip(parts, centres, scales, strict=True)
    ]
    sizes = [np.sum(own**2) / n for own in features]
    features = [own / np.sqrt(size) if size > 0.0 else own for own, size in zip(features, sizes, strict=True)]
    dual, mix, errors = _best_dual([own @ own.T for own in features], outcome - outcome.mean())
    found = []
    for share, own, scale, size in zip((1.0 - mix, mix), features, scales, sizes, strict=True):
        unit = np.sqrt(size) if size > 0.0 else 1.0
        found.append(share * (own.T @ dual).reshape(metrics, -1) / (unit * scale))
    last, increments = found
    intercept = outcome.mean() - sum(
        float(np.sum(weight * centre)) for weight, centre in zip(found, centres, strict=True)
    )
    weights = np.zeros((metrics, depths))
    weights[:, -1:] += last
    weights[:, 1:] += increments
    weights[:, :-1] -= increments
    return intercept, weights, errors


def _best_dual(kernels, target):
    """Coefficients of the runs, the mix, and the errors (n,), where these are least; the target's mean is 0."""
    n = len(target)
    penalties = np.array(PENALTIES)[:, None]
    best, least = None, np.inf
    for mix in MIXES:
        values, vectors = np.linalg.eigh((1.0 - mix) * kernels[0] + mix * kernels[1])
        shrunk = 1.0 / (np.maximum(values, 0.0)[None, :] + penalties)
        dual = (shrunk * (vectors.T @ target)) @ vectors.T
        # Exact for an intercept without penalty, which takes 1 / n of the leverage.
        diagonal = shrunk @ (vectors**2).T - 1.0 / (n * penalties)
        left_out = dual / np.maximum(diagonal, np.finfo(float).tiny)
        score = (left_out**2).sum(axis=1)
        row = int(np.argmin(score))
        if score[row] < least:
            best, least = (dual[row], mix, left_out[row]), score[row]
    return best
