r"""How many seeds tell two configurations apart, from probes to a depth.

A two-sided t test of the metric at that depth, n runs of each, finds a difference D of the means with the chance

.. math:: P\!\left( |T| > t_{1 - a/2} \right), \qquad T \sim t_{2 (n - 1)}\!\left( D / \sqrt{(U_1 + U_2) / n} \right),

U the spread between runs there. It is not known: the power is its mean over the draws of the posterior.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning.arguments import Arguments
from bayes_prehoc.planning.costs import positive
from bayes_prehoc.planning.outcome import check_converged

__all__ = ["seeds_to_tell_apart"]

DRAWS = 100
"""Of the posterior, spread evenly, that the power is a mean over."""
LARGEST = 100_000
"""Seeds that are looked for at most."""
SURE = 30.0
"""Noncentrality beyond which the power is one, and its distribution hard to compute."""


def seeds_to_tell_apart(
    posterior,
    task: str,
    difference: float,
    *,
    other: str | None = None,
    depths: Sequence[float] | None = None,
    power: float = 0.8,
    level: float = 0.05,
    cost=None,
    seed: int = 0,
) -> pd.DataFrame:
    """Seeds of each of two configurations that tell their means apart, from probes to a depth.

    What differs at the end of training and not yet at that depth, no number of seeds shows.

    Parameters
    ----------
    posterior : Posterior
        Of `run_to_run`.
    task : str
        One configuration; `other` the other, by default one whose runs are spread alike.
    difference : float
        Between the means at the depth, in the metric's unit.
    depths : sequence of float, optional
        Default: those that were fitted.
    power, level : float
        Chance to find such a difference, over the posterior too; chance to find one where there is none.
    cost : LinearCost, optional
        As for `plan`.
    seed : int
        Of the spread's drift.

    Returns
    -------
    DataFrame by depth
        seeds, that have the power on average over the posterior; seeds_lower and seeds_upper, what 90% of the draws
        call for; sd, the spread between runs (posterior mean of the variance, its root); cost of all seeds of both.

    Raises
    ------
    InputError
        A fit that did not converge, another proxy, no such task, impossible numbers, or more than 100,000 seeds.
    """
    check_converged(posterior, "seeds_to_tell_apart")
    if posterior.proxy != "run_to_run":
        raise InputError(
            f"{posterior.proxy} measures how unpredictable one run is, not how means differ",
            "seeds_to_tell_apart",
            "Fit estimates of the proxy run_to_run.",
        )
    difference = positive(difference, "difference")
    for name, value in (("power", power), ("level", level)):
        if not 0.0 < value < 1.0:
            raise InputError(f"it is {value!r}", name, "Give a number between 0 and 1.")
    estimates = posterior.estimates[task]
    arguments = Arguments(cost=cost)
    arguments.check(posterior.estimates)
    cost = arguments.cost_of(estimates)
    depths = estimates.depths if depths is None else depths
    variance = posterior.predict_risk(task, depths, seed=seed)
    both = 2.0 * variance if other is None else variance + posterior.predict_risk(other, depths, seed=seed + 1)
    rows = []
    for depth, own in zip(np.atleast_1d(depths), both.T, strict=True):
        kept = own[np.linspace(0, len(own) - 1, min(DRAWS, len(own))).astype(int)]
        low, high = np.quantile(own, (0.05, 0.95))
        count, lower, upper = (_fewest(np.atleast_1d(v), difference, power, level, depth) for v in (kept, low, high))
        paid = 2.0 * count * float(cost.at(depth))
        rows.append((float(depth), count, lower, upper, float(np.sqrt(0.5 * own.mean())), paid))
    return pd.DataFrame(rows, columns=["depth", "seeds", "seeds_lower", "seeds_upper", "sd", "cost"]).set_index("depth")


def _fewest(variance, difference, power, level, depth):
    """Seeds at which the mean power over draws of the two variances' sum (S,) is enough."""

    def enough(count):
        free = 2.0 * (count - 1.0)
        critical = stats.t.ppf(1.0 - 0.5 * level, free)
        off = difference / np.sqrt(np.maximum(variance, 1e-300) / count)
        # The other tail adds nothing where the power is worth having.
        shown = np.where(off > SURE, 1.0, stats.nct.sf(critical, free, np.minimum(off, SURE)))
        return shown.mean() >= power

    high = 2
    while not enough(high):
        high *= 2
        if high > LARGEST:
            raise InputError(
                f"at depth {depth:g} more than {LARGEST:,} seeds are needed",
                "difference",
                "Give a larger difference, or another depth.",
            )
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
