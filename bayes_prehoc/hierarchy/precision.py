"""Which rule of quadrature is fine enough, and what it is off by.

What matters is how the error of a rule varies over the posterior: a constant cancels, and what is smooth in the
hyperparameters is told by some draws and taken off (`target.Correction`), to first degree by few of them, to second by
more. Draws alone do not tell all: where a rule is off by nats it takes the posterior away, and no draw comes there to
show it. So the density must be about right far out along each hyperparameter too.

Of many tasks a sample tells what all are off by: errors of tasks resemble each other, and what the sample leaves open
counts as error.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from bayes_prehoc.hierarchy.collapsed import FINEST, RULES
from bayes_prehoc.hierarchy.evaluator import Evaluator
from bayes_prehoc.hierarchy.target import Arguments, Correction, Density, products

__all__ = ["FINE_ENOUGH", "Judge", "fine_enough", "next_rule", "quadrature_errors"]

FINE_ENOUGH = 0.25
"""Standard deviation over draws of the error of the log marginal likelihood, all tasks together, that is left alone."""
FAR, FAR_ENOUGH = 3.0, 1.0
"""At so many standard deviations from the mean an error matters if it is more than so many nats, and if the density is
wrong by more than a normal one is there: beyond it lies a thousandth of that, and an eightieth of its variance."""
JUDGED = 1000
"""Tasks of the sample."""
FIRST = 80
"""Draws that tell what is linear of the error."""
PER_TERM = 1.5
"""Draws for each term, at least."""


def next_rule(rule: tuple[int, int, int]) -> int:
    """How many of `collapsed.RULES` to leave out after this one failed; the finest stays."""
    return min(RULES.index(rule) + 1, len(RULES) - 1)


def quadrature_errors(
    evaluator: Evaluator, points: Float[np.ndarray, "S Q"], arguments: Arguments
) -> Float[np.ndarray, "S T"]:
    """Log marginal likelihood of each task less that by `FINEST`."""
    by_rule, finest = (evaluator.densities(points, own).by_task for own in (arguments, arguments.with_rule(FINEST)))
    return by_rule - finest


def fine_enough(
    evaluator: Evaluator,
    points: Float[np.ndarray, "S Q"],
    arguments: Arguments,
    covariance: Float[np.ndarray, "P P"],
    rules: Sequence[tuple[int, int, int]],
    enough: float = FINE_ENOUGH,
) -> tuple[Arguments, tuple[int, int, int]]:
    """With the first of the rules whose error hardly varies over these points and is bounded beyond them, or the last,
    and that rule.

    Parameters
    ----------
    points : array (S, Q)
        Draws of the posterior, different from each other. Where they are fewer than `PER_TERM` times the terms of a
        degree, the error is not taken off to that degree.
    covariance : array (P, P)
        Of the hyperparameters.
    """
    return Judge(evaluator, points, arguments, covariance).first_within(rules, enough)


class Judge:
    """Densities of a sample of the tasks by several rules, at the mean, far out, and at draws.

    Parameters are those of `fine_enough`.
    """

    def __init__(self, evaluator: Evaluator, points, arguments: Arguments, covariance):
        self._evaluator, self._covariance, self._tasks = evaluator, covariance, arguments.tasks
        self._arguments = arguments
        rows = np.linspace(0, self._tasks - 1, min(self._tasks, JUDGED)).astype(int)
        self._times = self._tasks / len(rows)
        self._sample = arguments if self._times == 1.0 else arguments.taken(rows)
        far, size = _far(points, covariance), len(covariance)
        self._first, self._points = len(far), np.concatenate([far, points])
        self._known = {}
        terms = 1, 1 + size, 1 + size + size * (size + 1) // 2
        self.degrees = [degree for degree, number in enumerate(terms) if len(points) >= PER_TERM * number]
        """To which the error can be told."""

    def first_within(
        self, rules: Sequence[tuple[int, int, int]], enough: float
    ) -> tuple[Arguments, tuple[int, int, int]]:
        """As `fine_enough`; what was computed for one bound serves the next."""
        for rule in rules:
            for degree in self.degrees:
                correction, left, beyond = self.error(rule, degree)
                if left <= enough and beyond <= enough / FINE_ENOUGH:
                    return self._arguments.with_rule(rule)._replace(correction=correction), rule
        return self._arguments.with_rule(rule), rule

    def error(self, rule, degree: int) -> tuple[Correction | None, float, float]:
        """What is taken off, the standard deviation over draws of what is left, and the most that is left far out, over
        what does not matter."""
        number, first = len(self._points) if degree > 1 else min(len(self._points), self._first + FIRST), self._first
        points, (fine, by_rule) = self._points[:number], (self._densities(own, number) for own in (FINEST, rule))
        errors = by_rule.by_task - fine.by_task
        if degree:
            correction = _correction(points[first:], self._covariance, errors[first:], degree)
            rest, terms = (errors - correction.off(points)).sum(axis=1), len(correction.error)
            correction = correction.of_all(self._tasks) if self._times > 1.0 else correction
        else:
            correction, terms, rest = None, 1, (errors - errors[first:].mean(axis=0)).sum(axis=1)
        rest = self._times * rest
        varies = (errors[first:] - errors[first:].mean(axis=0)).var(axis=1).mean()
        unseen = (self._times - 1.0) * self._tasks * varies
        left = np.sqrt(np.sum(rest[first:] ** 2) / max(number - first - terms, 1) + unseen)
        log_density = fine.log_prior + self._times * fine.by_task.sum(axis=1)
        log_density -= np.nanmax(log_density)
        off = np.abs(np.exp(log_density + rest) - np.exp(log_density)) / np.exp(-0.5 * FAR**2)
        matters = np.minimum(np.abs(rest) / FAR_ENOUGH, off)[:first]
        # Where there is no density there is no error.
        return correction, float(left), float(np.max(matters, where=np.isfinite(matters), initial=0.0))

    def _densities(self, rule, number: int) -> Density:
        """At the first points; what was computed before is kept."""
        known = self._known.get(rule)
        if known is None or len(known.log_prior) < number:
            points = self._points[0 if known is None else len(known.log_prior) : number]
            found = self._evaluator.densities(points, self._sample.with_rule(rule))
            if known is not None:
                found = Density(*map(np.concatenate, zip(known, found, strict=True)))
            self._known[rule] = known = found
        return Density(*(part[:number] for part in known))


def _far(points, covariance):
    """The mean, and points `FAR` standard deviations to either side of it along each hyperparameter, the others where
    they are likeliest then; array (1 + 2 P, Q)."""
    along = FAR * covariance / np.sqrt(np.diag(covariance))[:, None]
    away = np.concatenate([np.zeros((1, len(along))), along, -along])
    return points.mean(axis=0) + np.pad(away, ((0, 0), (0, points.shape[1] - len(covariance))))


def _correction(points, covariance, errors, degree: int) -> Correction:
    """By least squares."""
    x = points[:, : len(covariance)]
    mean, into = x.mean(axis=0), np.linalg.inv(np.linalg.cholesky(covariance))
    white = (x - mean) @ into.T
    terms = np.column_stack([np.ones(len(x)), white, *([products(white)] if degree > 1 else [])])
    return Correction(*(np.asarray(part, np.float32) for part in (mean, into, np.linalg.lstsq(terms, errors)[0])))
