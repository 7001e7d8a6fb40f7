r"""What to measure next: the probe that saves the runs to come most, for what it costs, before it is run.

A plan is used by H future runs of each task. n more seeds of a task, probed to depth c, are worth

.. math:: H \, \{ \min_a E[J(a)] - E_y \min_a E[J(a) \mid y] \} - \mathrm{cost} ,

what the estimates y from them are expected to save over these runs (`planning.sample_information`), less what the probe
costs (`planning.candidates`). Each task is valued by itself: what its seeds tell of other tasks comes on top.

No probe is worth more than knowing the curve, which takes no simulation. So tasks are valued in the order of what that
would save per cost, until no other can hold a better probe; of very many the most promising are, and that is said.

Source: Raiffa and Schlaifer 1961 (preposterior analysis).
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.likelihood import Shared
from bayes_prehoc.planning import draws
from bayes_prehoc.planning.arguments import Arguments
from bayes_prehoc.planning.candidates import Measured, Probe, added_by, measured, probes_of
from bayes_prehoc.planning.outcome import check_converged, checked_seed
from bayes_prehoc.planning.prices import price_of
from bayes_prehoc.planning.sample_information import TaskDraws, gains
from bayes_prehoc.risk.estimates import TaskEstimates

__all__ = ["NextProbe", "next_probe"]

FUTURE_RUNS = 20
"""H: runs that will use a plan, unless it is stated."""
SEEDS = (1, 2, 4, 8, 16, 32)
COLUMNS = ["task", "depth", "seeds", "gain", "gain_se", "cost", "value", "value_per_cost", "perfect", "effective"]
GRID = 64
"""Depths that a plan may take, log-spaced."""
DRAWS = 600
"""Of the posterior."""
MOST_VALUED = 40
"""Tasks whose probes are simulated, beyond as many as are asked for."""
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
        None: no probe's value is credibly positive. Stop probing, and plan. Of `branching` the seeds run to the end,
        and depth is the deepest of the fitted ones at which they are forked; of `run_to_run` the runs that there are go
        on to this depth too, where they did not reach it.
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
    batch : DataFrame
        The best probes of different tasks, best first, as many as were asked for and are credibly worth their cost;
        rows of `table`.
    table : DataFrame
        Every probe that was considered: task, depth, seeds, gain (what it saves, before its cost) with gain_se, cost,
        value, value_per_cost, perfect (what knowing the risk exactly would save) and effective (draws behind the gain).
        The gain is NaN where a task was not valued: even `perfect` does not repay its cheapest probe, or leaves it
        behind those that were chosen.
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
    batch: pd.DataFrame
    table: pd.DataFrame


def next_probe(
    posterior,
    *,
    cost=None,
    gamma=None,
    c_cheap=None,
    future_runs: int = FUTURE_RUNS,
    seeds: Sequence[int] = SEEDS,
    batch: int = 1,
    seed: int = 0,
) -> NextProbe:
    """Which task to probe next, how deep, and with how many seeds.

    Parameters
    ----------
    posterior : Posterior
        For `conditional` a probe is a complete run, since it needs the outcome; for `branching` a complete run with its
        forks; for `run_to_run` as deep as all runs of the task are to go, where the plan is the law's, without drift.
    cost, gamma, c_cheap
        As for `plan`.
    future_runs : int, optional
        H: runs of each task that will use the plan.
    seeds : sequence of int, optional
        Numbers of seeds to consider.
    batch : int, optional
        Tasks to probe before the next fit or update, for whoever probes several at a time.
    seed : int, optional
        Of the simulation.

    Returns
    -------
    NextProbe
        Of a task that is not identified too: that is when more seeds are worth most.

    Raises
    ------
    InputError
        A fit that did not converge, estimates of `branching` that do not say how many continuations there were,
        impossible arguments.
    """
    check_converged(posterior, "next_probe")
    for task in posterior.estimates:
        if task.proxy == "branching" and task.branches is None and len(task.depths):
            what = f"the estimates of task {task.task!r} do not say how many continuations there were"
            raise InputError(what, "next_probe", "Estimate the risk of the same runs and fit again.")
    arguments = Arguments(cost, gamma, None, c_cheap)
    arguments.check(posterior.estimates)
    future_runs, batch = _whole(future_runs, "future_runs"), _whole(batch, "batch")
    seeds = tuple(_whole(own, "seeds") for own in seeds)
    if not seeds:
        raise InputError("there are none", "seeds", "Give one number of seeds or more.")
    key = jax.random.key(checked_seed(seed))
    screened = [_screened(posterior, task, arguments, future_runs, seeds) for task in posterior.estimates]
    # Of a task without estimates or without a price of error no probe can be valued.
    screened = [own for own in screened if own is not None]
    valued, capped = _valued(key, screened, posterior, future_runs, batch)
    rows = [row for i, own in enumerate(screened) for row in valued.get(i) or _rows(own, None, future_runs)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    worth = table[_credible(table)].sort_values("value_per_cost", ascending=False, kind="stable")
    about = {"future_runs": future_runs, "proxy": posterior.proxy, "table": table}
    about["batch"] = worth.drop_duplicates("task").head(batch).reset_index(drop=True)
    about["cost_unit"] = arguments.cost_of(posterior.estimates.tasks[0]).counted_in
    note = f"; of {len(screened)} tasks the {len(valued)} that promise most were valued" if capped else ""
    if worth.empty:
        reason = f"no probe saves {future_runs} future runs more than it costs: stop probing, and plan{note}"
        nothing = dict.fromkeys(("task", "depth", "seeds", "depth_unit", "value", "value_se", "cost"))
        return NextProbe(**nothing, **about, reason=reason)
    best = worth.iloc[0]
    unit = posterior.estimates[best["task"]].depth_unit
    reason = (
        f"{best['seeds']} more seeds of {best['task']} to {unit} {best['depth']:g} save {future_runs} "
        f"future runs {best['gain']:.3g} (Monte Carlo se {best['gain_se']:.1g}) and cost {best['cost']:.3g}, unit "
        f"{about['cost_unit']} (proxy {posterior.proxy}){note}"
    )
    if best["effective"] < FEW:
        reason += f"; rough, since {best['effective']:.0f} draws of the posterior stand behind it"
    return NextProbe(
        task=best["task"],
        depth=float(best["depth"]),
        seeds=int(best["seeds"]),
        depth_unit=unit,
        value=float(best["value"]),
        value_se=float(best["gain_se"]),
        cost=float(best["cost"]),
        reason=reason,
        **about,
    )


class _Screened(NamedTuple):
    """A task with its price of error, its probes, and what perfect knowledge would save the future runs."""

    estimates: TaskEstimates
    gamma: float
    at: Measured
    options: np.ndarray
    spent: np.ndarray
    probes: list[Probe]
    perfect: float

    @property
    def bound(self) -> float:
        """No probe is worth more per cost."""
        least = min(probe.cost for probe in self.probes)
        return _per_cost(self.perfect - least, least)


def _screened(posterior, estimates, arguments, future_runs, seeds) -> _Screened | None:
    """None of a task without estimates or without a price of error."""
    if not len(estimates.depths):
        return None
    curve = posterior.curve(estimates.task)
    gamma, _ = price_of(curve, estimates, arguments)
    if gamma is None:
        return None
    cost = arguments.cost_of(estimates)
    options = np.geomspace(estimates.c_min, estimates.horizon, GRID)
    at = measured(estimates)
    found = _Screened(estimates, gamma, at, options, cost.at(options), probes_of(estimates, at, cost, seeds), 0.0)
    losses = _losses(found, curve)
    saved = max(losses.mean(axis=0).min() - losses.min(axis=1).mean(), 0.0)
    return found._replace(perfect=future_runs * saved)


def _valued(key, screened, posterior, future_runs, batch):
    """Rows of the tasks that were valued, by place, and whether there were too many to value all that might be best."""
    valued, best = {}, []
    for place in sorted(range(len(screened)), key=lambda i: -screened[i].bound):
        own = screened[place]
        least = sorted(best)[-batch] if len(best) >= batch else 0.0
        if own.bound <= least:
            return valued, False
        if len(valued) >= MOST_VALUED + batch:
            return valued, True
        curve, its_key = posterior.curve(own.estimates.task), jax.random.fold_in(key, place)
        task, losses = _task_draws(posterior, own, curve), _losses(own, curve)
        found = [gains(its_key, task, losses, added_by(probe, own.estimates, own.at)) for probe in own.probes]
        rows = valued[place] = _rows(own, found, future_runs)
        frame = pd.DataFrame(rows, columns=COLUMNS)
        best += frame.loc[_credible(frame), "value_per_cost"].nlargest(1).tolist()
    return valued, False


def _credible(table):
    return table["value"] > CREDIBLE * table["gain_se"]


def _rows(own, found, future_runs):
    """A row for each probe of a task, in the order of `COLUMNS`."""
    rows = []
    for i, probe in enumerate(own.probes):
        gain = gain_se = effective = np.nan
        if found is not None:
            gained, effective = found[i]
            gain = future_runs * gained.mean()
            gain_se = future_runs * gained.std(ddof=1) / np.sqrt(len(gained))
        value = gain - probe.cost
        figures = (gain, gain_se, probe.cost, value, _per_cost(value, probe.cost), own.perfect, effective)
        rows.append((own.estimates.task, probe.depth, probe.seeds, *figures))
    return rows


def _per_cost(value, cost):
    """A measured cost may be nothing at first."""
    return value / cost if cost > 0.0 else np.inf if value > 0.0 else 0.0


def _losses(own, curve):
    """J of some draws at the depths that a plan may take, (S, A)."""
    return own.gamma * draws.risk(_thinned(curve), own.options) + own.spent


def _task_draws(posterior, own, curve) -> TaskDraws:
    kept, thin = _kept(curve), _thinned(curve)
    mean = draws.risk(thin, own.at.depths)
    if thin.noise is not None:
        mean = mean + np.asarray(thin.noise)[:, None]
    named = posterior.shared(own.estimates.task)
    shared = Shared(onset=0.0, **{name: values[kept] for name, values in named.items() if name != "log_onset"})
    depths = own.at.depths / own.estimates.horizon
    return TaskDraws(depths, own.at.log_value, own.at.dof, np.log(mean).T, shared, own.estimates.proxy)


def _thinned(curve):
    """The curve at some of its draws, spread evenly over all."""
    kept = _kept(curve)
    parts = {name: getattr(curve, name)[kept] for name in ("l_int", "reducible", "alpha", "onset")}
    noise = None if curve.noise is None else np.asarray(curve.noise)[kept]
    return curve._replace(**parts, noise=noise)


def _kept(curve):
    count = len(curve.l_int)
    return np.linspace(0, count - 1, min(DRAWS, count)).astype(int)


def _whole(value, where):
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"it is {value!r}", where, "Give a whole number, 1 or more.")
    return int(value)
