r"""What to measure next: the value of n more seeds of a task, run to depth c, before they are run.

A plan is used by H future runs. It takes the depth a that minimises the posterior mean of J(a) = gamma L(a) + C(a); new
estimates y would move it. What they are worth is what that saves, less what they cost (expected value of sample
information),

.. math:: H \, \{ \min_a E[J(a)] - E_y \min_a E[J(a) \mid y] \} - n \, C(c) .

y is simulated at draws of the posterior, and E[J | y] is the mean over the others weighted by p(y | draw): no fit. Runs
that are added to those there are make one estimate of all of them at each depth up to c, so the weight is the ratio of
the likelihoods of that and of the old estimate, and y is drawn given the old: how far a task lies off the law (misfit,
drift) is the same for old and new runs, and does not average out. Each task is valued by itself: what its seeds tell of
other tasks comes on top.

Sources: Raiffa and Schlaifer 1961 (sample information), Heath et al. 2020 (its computation by reweighting).
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import special

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.copula import (
    Chains,
    chains_of,
    copula_log_density,
    correlation_of_drift,
)
from bayes_prehoc.hierarchy.data import spread_depths
from bayes_prehoc.hierarchy.evaluator import generator
from bayes_prehoc.hierarchy.likelihood import Shared, deviation, errors_of, log_density, normal_scores
from bayes_prehoc.planning import draws
from bayes_prehoc.planning.arguments import Arguments
from bayes_prehoc.planning.outcome import check_converged, checked_seed
from bayes_prehoc.planning.prices import price_of

__all__ = ["NextProbe", "next_probe"]

FUTURE_RUNS = 20
"""H: runs that will use a plan, unless it is stated."""
SEEDS = (1, 2, 4, 8, 16, 32)
DEPTHS = 4
"""Of a spread, among the fitted ones, that a probe may end at; the horizon in addition."""
COLUMNS = ["task", "depth", "seeds", "gain", "gain_se", "cost", "value", "value_per_cost", "perfect", "effective"]
GRID = 64
"""Depths that a plan may take, log-spaced."""
DRAWS, SIMULATED = 600, 200
"""Of the posterior, and of them those at which new estimates are simulated."""
CREDIBLE = 1.645
"""Monte Carlo standard errors that a value must lie above 0."""
FEW = 25.0
"""Effective draws below which a value is rough."""


@dataclasses.dataclass(frozen=True, eq=False)
class NextProbe:
    """The probe that is worth most per unit of its cost, or none.

    Attributes
    ----------
    task, depth, seeds : str, float, int; or None
        None: no probe's value is credibly positive. Stop probing, and plan.
    depth_unit : str or None
    value, value_se : float or None
        What it saves over the future runs less its cost, in the cost's unit, and its Monte Carlo standard error.
    cost : float or None
    cost_unit : str
    future_runs : int
        H, that will use the plan.
    proxy : str
    reason : str
        In words.
    table : DataFrame
        Every probe that was considered: task, depth, seeds, gain (what it saves, before its cost) with gain_se, cost,
        value, value_per_cost, perfect (what knowing the risk exactly would save) and effective (draws behind the gain).
        Where even `perfect` is below the cost, the gain was not computed, and is NaN.
    """

    task: str | None
    depth: float | None
    seeds: int | None
    depth_unit: str | None
    value: float | None
    value_se: float | None
    cost: float | None
    cost_unit: str
    future_runs: int
    proxy: str
    reason: str
    table: pd.DataFrame


def next_probe(
    posterior,
    *,
    cost=None,
    gamma=None,
    c_cheap=None,
    future_runs: int = FUTURE_RUNS,
    seeds: Sequence[int] = SEEDS,
    seed: int = 0,
) -> NextProbe:
    """Which task to probe next, how deep, and with how many seeds.

    Parameters
    ----------
    posterior : Posterior
        Of `run_to_run` or `conditional`. For the latter a probe is a complete run, since it needs the outcome.
    cost, gamma, c_cheap
        As for `plan`.
    future_runs : int, optional
        H: runs of each task that will use the plan.
    seeds : sequence of int, optional
        Numbers of seeds to consider.
    seed : int, optional
        Of the simulation.

    Returns
    -------
    NextProbe
        Of a task that is not identified too: that is when more seeds are worth most.

    Raises
    ------
    InputError
        A fit that did not converge, `branching` (what its continuations cost is not known), impossible arguments.
    """
    check_converged(posterior, "next_probe")
    if posterior.proxy == "branching":
        raise InputError("what continuations cost is not known", "next_probe", "Give a posterior of another proxy.")
    arguments = Arguments(cost, gamma, None, c_cheap)
    arguments.check(posterior.estimates)
    future_runs = _whole(future_runs, "future_runs")
    seeds = tuple(_whole(own, "seeds") for own in seeds)
    if not seeds:
        raise InputError("there are none", "seeds", "Give one number of seeds or more.")
    keys = jax.random.split(jax.random.key(checked_seed(seed)), len(posterior.estimates))
    rows = [
        row
        for key, estimates in zip(keys, posterior.estimates, strict=True)
        for row in _probes_of(key, posterior, estimates, arguments, future_runs, seeds)
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    units = {task.task: task.depth_unit for task in posterior.estimates}
    about = {"future_runs": future_runs, "proxy": posterior.proxy, "table": table}
    about["cost_unit"] = arguments.cost_of(posterior.estimates.tasks[0]).counted_in
    worth = table[table["value"] > CREDIBLE * table["gain_se"]]
    if worth.empty:
        reason = f"no probe saves {future_runs} future runs more than it costs: stop probing, and plan"
        nothing = dict.fromkeys(("task", "depth", "seeds", "depth_unit", "value", "value_se", "cost"))
        return NextProbe(**nothing, **about, reason=reason)
    best = worth.loc[worth["value_per_cost"].idxmax()]
    reason = (
        f"{best['seeds']} more seeds of {best['task']} to {units[best['task']]} {best['depth']:g} save {future_runs} "
        f"future runs {best['gain']:.3g} (Monte Carlo se {best['gain_se']:.1g}) and cost {best['cost']:.3g}, unit "
        f"{about['cost_unit']} (proxy {posterior.proxy})"
    )
    if best["effective"] < FEW:
        reason += f"; rough, since {best['effective']:.0f} draws of the posterior stand behind it"
    return NextProbe(
        task=best["task"],
        depth=float(best["depth"]),
        seeds=int(best["seeds"]),
        depth_unit=units[best["task"]],
        value=float(best["value"]),
        value_se=float(best["gain_se"]),
        cost=float(best["cost"]),
        reason=reason,
        **about,
    )


def _probes_of(key, posterior, estimates, arguments, future_runs, seeds):
    """A row for each probe of a task, in the order of `COLUMNS`; none of one without estimates or a price of error."""
    if not len(estimates.depths):
        return []
    curve = posterior.curve(estimates.task)
    kept = np.linspace(0, len(curve.l_int) - 1, min(DRAWS, len(curve.l_int))).astype(int)
    cost = arguments.cost_of(estimates)
    gamma, _ = price_of(curve, estimates, arguments)
    if gamma is None:
        return []
    options = np.geomspace(estimates.c_min, estimates.horizon, GRID)
    losses = gamma * draws.risk(curve, options)[kept] + cost.at(options)
    perfect = future_runs * max(losses.mean(axis=0).min() - losses.min(axis=1).mean(), 0.0)
    task = _task_draws(posterior, estimates, curve, kept)
    rows = []
    for depth in _ends(estimates, task.depths):
        for count in seeds:
            paid = count * float(cost.at(depth))
            gain = gain_se = effective = np.nan
            if perfect > paid:
                gains, effective = _gains(key, task, losses, _added(estimates, task, depth, count))
                gain = future_runs * gains.mean()
                gain_se = future_runs * gains.std(ddof=1) / np.sqrt(len(gains))
            value = gain - paid
            figures = (gain, gain_se, paid, value, value / paid, perfect, effective)
            rows.append((estimates.task, float(depth), count, *figures))
    return rows


class _Task(NamedTuple):
    """A task at S draws and D depths, shares of the horizon in `depth`.

    depths, dof (D,): of the estimates there are; 0 where there is none. log_value (D,) of them, any number where there
    is none. log_mean (D, S) of the draws' curves, with the outcome set's noise.
    """

    depths: np.ndarray
    depth: np.ndarray
    log_value: np.ndarray
    dof: np.ndarray
    log_mean: np.ndarray
    shared: Shared
    proxy: str


def _task_draws(posterior, estimates, curve, kept) -> _Task:
    places = spread_depths(estimates.depths)
    depths, dof = estimates.depths[places], estimates.nu[places]
    log_value = np.log(estimates.risk[places])
    if estimates.proxy == "run_to_run" and depths[-1] < estimates.horizon:
        depths, dof, log_value = (
            np.append(own, end) for own, end in ((depths, estimates.horizon), (dof, 0.0), (log_value, 0.0))
        )
    mean = draws.risk(curve, depths)[kept]
    if curve.noise is not None:
        mean = mean + np.asarray(curve.noise)[kept, None]
    there = {name: values[kept] for name, values in posterior.shared(estimates.task).items() if name != "log_onset"}
    shared = Shared(onset=0.0, **there)
    return _Task(depths, depths / estimates.horizon, log_value, dof, np.log(mean).T, shared, estimates.proxy)


def _ends(estimates, depths):
    """Depths that a probe may end at."""
    if estimates.proxy != "run_to_run":
        return [estimates.horizon]
    within = depths[depths < estimates.horizon]
    some = within[np.unique(np.linspace(0, len(within) - 1, min(DEPTHS, len(within))).round().astype(int))]
    return [*some, estimates.horizon]


def _added(estimates, task: _Task, depth: float, count: int) -> Float[np.ndarray, " D"]:
    """Degrees of freedom that so many more seeds add at each depth."""
    runs = estimates.n_runs
    if task.proxy == "run_to_run":
        # Of a variance: 2 / nu = g / n + 2 / (n - 1), with the excess kurtosis g that the runs have.
        known = np.where(task.dof > 0.0, task.dof, np.median(estimates.nu))
        excess = runs * (2.0 / known - 2.0 / (runs - 1.0))
        every = 2.0 / (excess / (runs + count) + 2.0 / (runs + count - 1.0))
        alone = 2.0 / (excess / count + 2.0 / (count - 1.0)) if count > 1 else np.zeros_like(known)
        added = np.maximum(np.where(task.dof > 0.0, every - task.dof, alone), 0.0)
    else:
        added = task.dof * count / runs
    return np.where(task.depths <= depth * (1.0 + 1e-9), added, 0.0)


def _gains(key, task: _Task, losses: Float[np.ndarray, "S A"], added: Float[np.ndarray, " D"]):
    """What the plan is better by, given new estimates, at each of M simulations (M,); the median effective draws."""
    count = losses.shape[0]
    truths = np.linspace(0, count - 1, min(SIMULATED, count)).round().astype(int)
    log_value, dof = _simulated(key, task, added, truths)
    known = task.dof > 0.0
    before = _log_likelihood(task, task.log_value[:, None], task.dof, known)
    after = _log_likelihood(task, log_value, dof, dof > 0.0)
    log_weight = after - before
    # A draw that made the estimates does not stand among those that are weighed by them.
    log_weight[np.arange(len(truths)), truths] = -np.inf
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    expected = weight @ losses
    best_before = int(losses.mean(axis=0).argmin())
    return expected[:, best_before] - expected.min(axis=1), float(np.median(1.0 / np.sum(weight**2, axis=1)))


def _log_likelihood(task: _Task, log_value: Float[np.ndarray, "D M"], dof, mask) -> Float[np.ndarray, "M S"]:
    """Of M sets of estimates at S draws, up to what does not depend on the draw."""
    there = {name: jnp.asarray(value, jnp.float32) for name, value in task.shared._asdict().items()}
    arrays = (task.depth, log_value, np.where(mask, dof, 2.0), mask, task.log_mean)
    found = _density(*map(jnp.asarray, arrays), Shared(**there), task.proxy)
    return np.array(found, np.float64)


@functools.partial(jax.jit, static_argnames="proxy")
def _density(depth, log_value, dof, mask, log_mean, shared: Shared, proxy: str):
    # The scale of the values is nothing to the density; float32 keeps digits near 1.
    unit = jnp.mean(log_mean, axis=1, keepdims=True)
    log_value, log_mean = (log_value - unit)[:, :, None], (log_mean - unit)[:, None, :]
    depth, dof, mask = (own[:, None, None] for own in (depth, dof, mask))
    errors = errors_of(dof, depth, shared)
    off = deviation(log_value, log_mean, errors)
    margins = jnp.sum(jnp.where(mask, log_density(log_value, off, errors), 0.0), axis=0)
    chains = chains_of(depth, log_mean + unit[:, :, None], shared, proxy)
    return margins + copula_log_density(normal_scores(off, errors), chains, errors, mask)


def _simulated(key, task: _Task, added, truths):
    """Estimates (D, M) of old and new runs together, at some of the draws, and their degrees of freedom (D,)."""
    rng = generator(key)
    log_mean = task.log_mean[:, truths].T
    shared = Shared(*(np.broadcast_to(own, task.log_mean.shape[1:])[truths, None, None] for own in task.shared))
    lasting, same = shared.lasting, np.eye(len(task.depth))
    across = lasting * _correlation_of_sampling(task, truths) + (1.0 - lasting) * same
    away = np.sqrt(np.abs(np.log(task.depth)))
    at = np.log(task.depth)
    drift = np.outer(away, away) * np.asarray(correlation_of_drift(at[:, None], at[None, :]))
    off_law = shared.misfit**2 * same + shared.drift**2 * drift
    # How far the task lies off the law, given its old estimates; in logarithms all is close to normal.
    known = task.dof > 0.0
    dof = np.where(known, task.dof, 1.0)
    sd = np.where(known, np.sqrt(2.0 / dof + 4.0 / dof**2), 1e3)
    shift = np.where(known, special.digamma(0.5 * dof) - np.log(0.5 * dof), 0.0)
    residual = np.where(known, task.log_value - log_mean - shift, 0.0)
    both = off_law + np.outer(sd, sd) * np.where(np.outer(known, known), across, same)
    gain = np.linalg.solve(both, off_law).swapaxes(1, 2)
    mean = np.einsum("mij,mj->mi", gain, residual)
    left = off_law - gain @ off_law
    off = mean + _normals(rng, left)
    # Errors of the new runs.
    scores = _normals(rng, across)
    shape = np.where(added > 0.0, 0.5 * added, 1.0)
    below = special.ndtr(-np.abs(scores))
    ratio = np.where(scores < 0.0, special.gammaincinv(shape, below), special.gammainccinv(shape, below)) / shape
    with np.errstate(divide="ignore"):
        new = np.maximum(np.log(ratio), -700.0) + log_mean + off
    total = np.maximum(task.dof + added, 1e-12)
    old = np.where(known, np.log(np.maximum(task.dof, 1e-300) / total) + task.log_value, -np.inf)
    fresh = np.where(added > 0.0, np.log(np.maximum(added, 1e-300) / total) + new, -np.inf)
    return np.maximum(np.logaddexp(old, fresh), -700.0).T, task.dof + added


def _correlation_of_sampling(task: _Task, truths):
    """Of the errors at any two depths, the product of those between, (M, D, D)."""
    shared = Shared(*(np.broadcast_to(own, task.log_mean.shape[1:])[truths] for own in task.shared))
    chains: Chains = chains_of(task.depth[:, None], task.log_mean[:, truths], shared, task.proxy)
    steps = np.maximum(np.asarray(chains.sampling, np.float64), 1e-12)
    sums = np.concatenate([np.zeros((1, len(truths))), np.cumsum(np.log(steps), axis=0)])
    return np.exp(-np.abs(sums[:, None] - sums[None, :])).transpose(2, 0, 1)


def _normals(rng, covariance: Float[np.ndarray, "M D D"]):
    """One draw from each normal with mean 0, (M, D)."""
    values, vectors = np.linalg.eigh(covariance)
    white = np.sqrt(np.maximum(values, 0.0)) * rng.normal(size=values.shape)
    return np.einsum("mij,mj->mi", vectors, white)


def _whole(value, where):
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"it is {value!r}", where, "Give a whole number, 1 or more.")
    return int(value)
