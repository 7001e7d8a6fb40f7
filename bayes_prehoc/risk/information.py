r"""Does watching a run tell anything of its outcome?

The mutual information I(R; X_d^(c) | X_s) of a task, whose static information X_s is the same for all its runs, is
estimated by the log ratio of variances

.. math:: \hat I(c) = \frac12 \log \frac{\overline{e_0^2}}{\overline{e(c)^2}} \quad \text{nats},

e(c) the cross-fitted errors of predicting R from the prefix (`conditional`) and e_0 those of predicting it by the mean
of the same training runs. It is the information if R and its prediction are jointly normal, and else at most about
what a linear prediction uses. It can be negative: a regression on what says nothing does worse than the mean.

Whether it is more than none is told by permutations: with outcomes dealt to other runs a prefix says nothing.

Source: Phipson and Smyth 2010 (p-values of permutations are never 0); Westfall and Young 1993 (the largest of several).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from bayes_prehoc.risk.conditional import MOST, Prefix, errors_of_outcomes

__all__ = ["Information", "information"]

MOST_AT_ONCE = 60_000
"""Permutations times runs that are computed together: some 300 MB."""


class Information(NamedTuple):
    """What prefixes up to each depth tell of R, arrays (D,).

    Attributes
    ----------
    nats : estimate of I(R; X_d^(c) | X_s)
    se : its standard error, from runs and from draws of the folds
    p_value : chance of as much if prefixes told nothing
    p_any : float
        Chance of as much, at whatever depth is best, if no prefix told anything.
    """

    nats: Float[np.ndarray, " D"]
    se: Float[np.ndarray, " D"]
    p_value: Float[np.ndarray, " D"]
    p_any: float


def information(
    key: PRNGKeyArray, prefix: Prefix, outcome: Float[np.ndarray, " n"], permutations: int = 199
) -> Information:
    """Information about R in prefixes of n runs, with its standard error and permutation tests.

    Parameters
    ----------
    key : draws the folds and the permutations
    prefix : features of n runs at D depths
    outcome : R, not all equal
    permutations : int, optional
    """
    fold_key, deal_key = jax.random.split(key)
    outcome = np.asarray(outcome, np.float64)
    runs = len(outcome)
    standard = jnp.asarray((outcome - outcome.mean()) / outcome.std(), jnp.float32)
    nothing = Prefix(jnp.zeros((1, runs, 1)), jnp.zeros((runs, 0)), jnp.zeros((1, 0), bool))

    def errors_of(outcomes):
        """Errors of predicting by the mean (P, repeats, n), and from prefixes (P, D, repeats, n)."""
        before, after = (
            np.asarray(errors_of_outcomes(fold_key, p, outcomes, MOST)[0], np.float64) for p in (nothing, prefix)
        )
        return before[:, 0], after

    before, after = (errors[0] for errors in errors_of(standard[None]))
    nats = _nats(before, after)
    dealt = jax.vmap(lambda k: jax.random.permutation(k, standard))(jax.random.split(deal_key, permutations))
    at_once = max(1, MOST_AT_ONCE // runs)
    null = []
    for first in range(0, permutations, at_once):
        before_dealt, after_dealt = errors_of(dealt[first : first + at_once])
        null.append(_nats(before_dealt[:, None], after_dealt))
    null = np.concatenate(null)
    p_value = (1.0 + (null >= nats).sum(axis=0)) / (1.0 + permutations)
    p_any = (1.0 + (null.max(axis=1) >= nats.max()).sum()) / (1.0 + permutations)
    return Information(nats, _standard_error(before, after), p_value, float(p_any))


def _nats(by_mean, errors):
    """Half the log ratio of mean squares over the last two axes."""
    return 0.5 * np.log((by_mean**2).mean(axis=(-2, -1)) / (errors**2).mean(axis=(-2, -1)))


def _standard_error(by_mean, errors):
    """Of half the log ratio of two parts that share runs and folds, from errors (repeats, n) and (D, repeats, n)."""
    before, after = by_mean[None] ** 2, errors**2
    influence = 0.5 * (before / before.mean() - after / after.mean(axis=(1, 2), keepdims=True))
    runs, repeats = influence.mean(axis=1), influence.mean(axis=2)
    return np.sqrt(runs.var(axis=1, ddof=1) / runs.shape[1] + repeats.var(axis=1, ddof=1))
