r"""Does one law describe several tasks, such as one task under several schedules?

Each task's risk may follow a law of its own, or all of them the same (L_int, s, alpha),

.. math:: U_t(c) = L_{int} + s \int_c^{c_t} u^{-\alpha - 1} du ,

c_t the horizon of the task (the spread has none, and K = s / alpha). The likelihood is that of log-normal estimates
with the variance trigamma(nu / 2) and the correlation that sharing runs gives them, shrunk and widened for what few
runs tell of it. The statistic is twice the log ratio of the largest likelihoods. Its distribution, if there is one
law, comes from data simulated of the best one, since floors of zero and rates at their bounds make it another than
chi-square's. Laws are those of a grid of alpha and of the floor's share, the level is free, so that thousands of data
sets are fitted by products of matrices.

Source: Davison and Hinkley 1997, section 4.4 (tests by simulation of the fitted null hypothesis); Schäfer and Strimmer
2005 (correlations shrunk); Hartlap, Simon and Schneider 2007 (the inverse of an estimated covariance), to first order.
"""

import dataclasses
import numbers

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import digamma, polygamma

from bayes_prehoc import theory
from bayes_prehoc.errors import InputError
from bayes_prehoc.risk.estimates import RiskEstimates, TaskEstimates

__all__ = ["ALL", "OneLaw", "one_law"]

ALL = "all"
"""In `OneLaw.laws`, the name of the law of all tasks."""
RATES, SHARES = 121, 49
"""Points of the grid."""
LOWEST_SHARE = 1e-4
"""Of the floor at the reference depth; beside it there is a share of none."""
REFERENCE = 0.2
"""Reference depth, in the longest horizon."""
FEWEST_SIMULATIONS = 19
DRAWS = 4000
QUANTILES = 0.05, 0.5, 0.95


@dataclasses.dataclass(frozen=True, eq=False)
class OneLaw:
    """Whether several tasks follow one law, and which.

    Attributes
    ----------
    p_value : float
        Chance that laws of their own fit as much better as they do, if there is one law.
    statistic : float
        Twice the log ratio of the largest likelihoods.
    reference : float
        The depth that `reducible` belongs to.
    laws : DataFrame
        A row for all tasks together ("all") and one for each: L_int and reducible (what is open at the reference
        depth above L_int, in the squared unit of the metric) and alpha, each with _lower and _upper, the ends of 90%
        intervals under even weights over the grid. A single task of few depths seldom tells them apart.
    """

    p_value: float
    statistic: float
    reference: float
    laws: pd.DataFrame


def one_law(estimates: RiskEstimates, *, simulations: int = 999, seed: int = 0) -> OneLaw:
    """Test whether all tasks of a set of estimates follow one law.

    For schedules, make a task of each, with the same highest learning rate, and put the runs into the time of the noise
    before (`risk.clock.in_noise_time`): in steps a schedule bends the law.

    Parameters
    ----------
    estimates : RiskEstimates
        Two or more tasks with the same metric and unit of depth.
    simulations : int, optional
        19 or more; the smallest p-value is 1 / (simulations + 1).
    seed : int, optional

    Raises
    ------
    InputError
        If there are fewer than two tasks, they differ in metric or unit of depth, or an argument is impossible.

    Examples
    --------
    >>> import numpy as np
    >>> from bayes_prehoc.risk import estimate_risk
    >>> from bayes_prehoc.risk.laboratory import martingale
    >>> from bayes_prehoc.runs import Trajectories
    >>> chain = martingale(np.geomspace(10, 1000, 8), alpha=0.5, amplitude=1.0, floor=0.02)
    >>> runs = [chain.draw(np.random.default_rng(i), 64, branches=2, name=f"run {i}") for i in range(3)]
    >>> found = one_law(estimate_risk(Trajectories(tuple(runs)), proxy="branching"))
    >>> found.p_value > 0.05
    True
    """
    _check(estimates, simulations)
    tasks = [_Observed(task) for task in estimates]
    longest = max(task.horizon for task in estimates)
    reference = REFERENCE * longest
    rates, shares = _grid(estimates.proxy)
    curves = [_curves(task, longest, rates, shares) for task in estimates]
    alone = [_fits(one, own) for one, own in zip(tasks, curves, strict=True)]
    together = _fits(_joined(tasks), np.concatenate(curves, axis=1))
    statistic = _statistic(together, alone)

    rng = np.random.default_rng(seed)
    # From the best law of all, with the errors that the estimates have.
    best = int(np.argmin(together.squares[0]))
    simulated = [
        task.drawn(rng, own[best] + together.level[0, best], simulations)
        for task, own in zip(tasks, curves, strict=True)
    ]
    again = [_fits(one, own) for one, own in zip(simulated, curves, strict=True)]
    null = _statistic(_fits(_joined(simulated), np.concatenate(curves, axis=1)), again)
    p_value = (1.0 + (null >= statistic).sum()) / (1.0 + simulations)

    named = [(ALL, together), *((task.task, own) for task, own in zip(estimates, alone, strict=True))]
    rows = [{"task": name} | _intervals(own, rates, shares, rng) for name, own in named]
    return OneLaw(float(p_value), float(statistic[0]), reference, pd.DataFrame(rows))


def _check(estimates, simulations):
    if not isinstance(estimates, RiskEstimates):
        raise InputError(
            f"a {type(estimates).__name__} is no set of estimates", "one_law", "Give what `estimate_risk` returns."
        )
    if not isinstance(simulations, numbers.Integral) or simulations < FEWEST_SIMULATIONS:
        raise InputError(f"{simulations!r} simulations", "simulations", f"Give {FEWEST_SIMULATIONS} or more.")
    if len(estimates) < 2:
        aside = "".join(f"; task {s.task!r} was set aside: {s.reason}" for s in estimates.set_aside[:3])
        raise InputError(f"there is one task only{aside}", "one_law", "Make a task of each schedule.")
    for what in ("metric", "depth_unit"):
        values = sorted({getattr(task, what) for task in estimates})
        if len(values) > 1:
            raise InputError(f"tasks differ in {what}: {', '.join(values)}", "one_law", "Compare like with like.")


class _Observed:
    """Log estimates of data sets (S, D), with the precision (D, D) of their errors."""

    def __init__(self, task: TaskEstimates):
        half, count = task.nu / 2.0, len(task.nu)
        self.values = (np.log(task.risk) - digamma(half) + np.log(half))[None]
        sd = np.sqrt(polygamma(1, half))
        self.error = np.diag(sd**2)
        if task.correlation is not None:
            widened = 1.0 + (count + 1.0) / task.n_runs
            self.error = widened * _shrunk(task.correlation, task.n_runs) * np.outer(sd, sd)
        self.precision = np.linalg.inv(self.error)

    def drawn(self, rng: np.random.Generator, curve: Float[np.ndarray, " D"], size: int) -> "_Observed":
        """Data sets of a curve."""
        found = object.__new__(_Observed)
        found.error, found.precision = self.error, self.precision
        found.values = curve + rng.multivariate_normal(np.zeros(len(curve)), self.error, size, method="cholesky")
        return found


def _shrunk(correlation, runs):
    """Towards none by as much as chance is in it: what few runs say of correlations cannot be inverted as it is."""
    apart = ~np.eye(len(correlation), dtype=bool)
    squares = correlation[apart] ** 2
    chance = ((1.0 - squares) ** 2 / runs).sum()
    # By a little in any case: depths that agree exactly are one, and have no inverse.
    share = max(chance / max(squares.sum(), chance, 1e-12), 1.0 / runs)
    shrunk = correlation * (1.0 - share)
    np.fill_diagonal(shrunk, 1.0)
    return shrunk


def _joined(tasks):
    """Several tasks as one, with errors that are independent of each other."""
    found = object.__new__(_Observed)
    found.values = np.concatenate([task.values for task in tasks], axis=1)
    found.precision = np.zeros((found.values.shape[1],) * 2)
    start = 0
    for task in tasks:
        end = start + len(task.precision)
        found.precision[start:end, start:end] = task.precision
        start = end
    return found


@dataclasses.dataclass(frozen=True)
class _Fits:
    """Of data sets (S,) by laws (G,): the least sum of squares, the level at which it is, and the level's precision."""

    squares: np.ndarray
    level: np.ndarray
    precision: float


def _fits(task, curves):
    total = task.precision.sum(axis=1)
    precision = total.sum()
    level = (task.values @ total)[:, None] / precision - (curves @ total)[None, :] / precision
    centred = task.precision - np.outer(total, total) / precision
    of_data = np.einsum("sd,de,se->s", task.values, centred, task.values)
    of_laws = np.einsum("gd,de,ge->g", curves, centred, curves)
    squares = of_data[:, None] + of_laws[None, :] - 2.0 * (task.values @ centred) @ curves.T
    return _Fits(squares, level, float(precision))


def _statistic(together, alone):
    return together.squares.min(axis=1) - sum(own.squares.min(axis=1) for own in alone)


def _grid(proxy):
    """Rates and shares of the floor at the reference depth, (G,) each."""
    rates = np.linspace(*theory.alpha_bounds(proxy), RATES)
    odds = np.linspace(*np.log([LOWEST_SHARE, 1.0 / LOWEST_SHARE]), SHARES - 1)
    shares = np.append(0.0, 1.0 / (1.0 + np.exp(-odds)))
    return (found.ravel() for found in np.meshgrid(rates, shares, indexing="ij"))


def _curves(task, longest, rates, shares):
    """Logarithms of laws (G, D) at a task's depths, whose level is the risk at the reference depth of the longest."""
    rates = rates[:, None]
    depths = task.depths[None, :] / longest
    if task.proxy == "run_to_run":
        left = theory.decay(depths, REFERENCE, rates)
    else:
        # What lies open at a depth up to the task's own horizon, over what does up to the longest.
        own = task.horizon / longest
        before = min(REFERENCE, 0.5 * own)
        left = theory.decay(depths, before, rates, horizon=own)
        left = left * theory.slope(1.0, REFERENCE, rates, horizon=1.0) / theory.slope(1.0, before, rates, horizon=own)
    left = np.asarray(left, np.float64)
    shares = shares[:, None]
    # At the horizon nothing is left of a law without a floor, which no estimate can be of.
    return np.log(np.maximum(shares + (1.0 - shares) * left, np.finfo(np.float64).tiny))


def _intervals(fits, rates, shares, rng):
    """Quantiles of the three numbers of a law, under even weights over the grid and the logarithm of the level."""
    squares = fits.squares[0]
    weight = np.exp(-0.5 * (squares - squares.min()))
    law = rng.choice(len(weight), DRAWS, p=weight / weight.sum())
    level = np.exp(fits.level[0, law] + rng.normal(size=DRAWS) / np.sqrt(fits.precision))
    numbers = {"L_int": shares[law] * level, "reducible": (1.0 - shares[law]) * level, "alpha": rates[law]}
    return {
        f"{name}{end}": value
        for name, drawn in numbers.items()
        for end, value in zip(("_lower", "", "_upper"), np.quantile(drawn, QUANTILES), strict=True)
    }
