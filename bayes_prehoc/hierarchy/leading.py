"""What a coarser rule of quadrature is off by from a finer one, all tasks together, learned where the posterior is.

Exploring by the coarser rule brings draws to the posterior, the finer rule at some of them tells what the coarser is
off by there, and so the next draws are led nearer to where the finer rule's posterior lies. Of ten thousand tasks the
error is nats, and most of it is of second degree.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from bayes_prehoc.hierarchy.evaluator import Evaluator
from bayes_prehoc.hierarchy.regression import chosen_columns, regressed
from bayes_prehoc.hierarchy.target import FARTHEST_OFF, Arguments, Correction, products

__all__ = ["Leading"]

EACH = 50
"""Draws of a round at which the finer rule is asked."""
LAST = 400
"""The last of them that count: earlier ones lay farther out."""
PER_TERM = 4
"""Draws for each term, at least."""


class Leading:
    """A coarser rule that learns.

    Parameters
    ----------
    rng : Generator
    evaluator : Evaluator
    rough, finer : Arguments
        The same tasks with two rules.
    """

    def __init__(self, rng: np.random.Generator, evaluator: Evaluator, rough: Arguments, finer: Arguments):
        self._rng, self._evaluator, self._finer = rng, evaluator, finer
        self._plain = rough._replace(correction=None)
        self._x, self._by_rough, self._by_finer = None, np.empty(0), np.empty(0)
        self.rough = self._plain

    def densities(self, x: Float[np.ndarray, "N P"]) -> Float[np.ndarray, " N"]:
        """Log densities by the coarser rule as it is."""
        return self._densities(x, self._plain)

    def learn(
        self, x: Float[np.ndarray, "N P"], log_p: Float[np.ndarray, " N"], weight: Float[np.ndarray, " N"]
    ) -> Callable:
        """Ask the finer rule at some draws, which have log densities by the coarser one and weights that sum to one.

        Returns
        -------
        callable
            What the coarser rule is off by, array (N,), at draws (N, P).
        """
        rows = self._rng.choice(len(x), size=min(EACH, np.count_nonzero(weight)), replace=False, p=weight)
        self._x = x[rows] if self._x is None else np.concatenate([self._x, x[rows]])
        self._by_rough = np.append(self._by_rough, log_p[rows])
        self._by_finer = np.append(self._by_finer, self._densities(x[rows], self._finer))
        mean = weight @ x
        self._fit(mean, (x - mean).T @ (weight[:, None] * (x - mean)))
        return lambda x: self.rough.correction.off(x).sum(axis=1)

    def follow(self, finer: Arguments, covariance: Float[np.ndarray, "P P"]) -> Arguments:
        """The coarser rule, less what it is off by from another finer one where draws were last."""
        self._x, self._by_rough = self._x[-LAST:], self._by_rough[-LAST:]
        if _rule(finer) == _rule(self._finer):
            # What is new of it is what it is off by itself.
            known = finer.correction.off(self._x).sum(axis=1) if finer.correction else 0.0
            self._by_finer = self._by_finer[-LAST:] - known
        else:
            self._by_finer = self._densities(self._x, finer)
        self._fit(self._x.mean(axis=0), covariance)
        return self.rough

    def _densities(self, x, arguments):
        return self._evaluator.densities(self._evaluator.target.points(x, arguments.data), arguments).total

    def _fit(self, mean, covariance) -> None:
        """By least squares, with as many terms of second degree as draws ask for."""
        into = np.linalg.inv(np.linalg.cholesky(covariance))
        off, white = (self._by_rough - self._by_finer)[-LAST:], (self._x[-LAST:] - mean) @ into.T
        # Farther out polynomials are not followed; where there are next to none within, the nearest must do.
        farthest = np.where(np.isfinite(off), np.abs(white).max(axis=1), np.inf)
        known = farthest <= max(FARTHEST_OFF, np.sort(farthest)[min(EACH, len(off)) - 1])
        known &= np.isfinite(off)
        off, white = off[known], np.clip(white[known], -FARTHEST_OFF, FARTHEST_OFF)
        terms = np.column_stack([np.ones(len(white)), white, products(white)])
        weight = np.full(len(white), 1.0 / len(white))
        chosen = chosen_columns(terms, off, weight, len(white), always=1, most=len(white) // PER_TERM)
        coefficients = np.zeros((terms.shape[1], 1))
        coefficients[chosen, 0] = regressed(terms[:, chosen], off, weight, len(white)) / self._plain.tasks
        # Chains look at the sum of all tasks, and each takes its part.
        parts = (np.asarray(part, np.float32) for part in (mean, into, coefficients))
        self.rough = self._plain._replace(correction=Correction(*parts).of_all(self._plain.tasks))


def _rule(arguments: Arguments) -> list[int]:
    return [len(block.at) for block in arguments.blocks]
