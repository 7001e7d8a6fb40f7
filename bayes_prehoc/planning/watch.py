r"""When to look at a run in progress again, when to stop it, and when to let it finish: optimal stopping.

A run is worth W if R ends on the right side of a threshold, and nothing if not. At look k, with margin x of the
expected R over the threshold, one may stop, finish without a further look, or pay for the way to a later look l,

.. math:: V_k(x) = \max\{0, \; W P_k(x) - C_k, \; \max_l \; E[V_l(x')] - (C_k - C_l) - e\}, \qquad
    x' \sim x + \sqrt{\tau_k^2 - \tau_l^2} \; e_{kl} ,

C_k what the rest of the run costs, e what a look costs, tau_k^2 = Var(R given the prefix at k), P_k(x) the chance that
R ends right. That the expectation of R moves by tau_k^2 - tau_l^2 until then is the law of total variance: what is
still to come shows by and by. Both expectations are over the posterior draws of tau too; what a single run tells of
them is next to nothing, and left out. e_kl and what P_k is made of have variance one and the shapes of what the runs'
own predictions and errors did there (`planning.shape`). Solved backwards on an even grid of margins, V linear in
between, for which the expectation is a sum.

Source: Chow, Robbins and Siegmund 1971 (optimal stopping by backward induction).
"""

import numpy as np
from jaxtyping import Float

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning.arguments import Arguments
from bayes_prehoc.planning.costs import Cost, positive
from bayes_prehoc.planning.outcome import (
    bounds_of,
    converged_task,
    finite,
    reading,
)
from bayes_prehoc.planning.prefix import trained_predictor
from bayes_prehoc.planning.shape import NORMAL, ErrorShape, mixture_quantile
from bayes_prehoc.planning.variance import variance_before_looking, variance_of_outcome
from bayes_prehoc.runs.trajectories import Trajectories
from bayes_prehoc.watching import DECIDED, STOP, Decision, WatchTable

__all__ = ["best_actions", "watch_decision", "watch_table"]

LOOK_SHARE = 0.001
"""What a look costs by default, as a share of a full run."""
GRID, SPAN = 321, 6.0
"""Margins, and how many standard deviations of R before the first look they reach to either side."""
DRAWS = 100
"""Of the posterior, spread evenly, that expectations are over."""


def watch_decision(
    posterior,
    task: str,
    seen,
    *,
    runs: Trajectories,
    threshold: float,
    worth: float,
    cost: Cost | None = None,
    look_cost: float | None = None,
    outcome_noise: bool = True,
) -> Decision:
    """What to do with a run that has shown these values: stop, decided or watch, and why.

    For a loop written by hand. Where it is asked often, make the table once (`watch_table`) and ask that.

    Parameters
    ----------
    seen : mapping from depth to value, or to a mapping from metric to value
        Evaluations so far, at depths that the task's runs have; empty before the first.
    posterior, task, runs, threshold, worth, cost, look_cost, outcome_noise
        As for `watch_table`.

    Raises
    ------
    InputError
        As `watch_table` and `WatchTable.decide`.
    """
    options = {"cost": cost, "look_cost": look_cost, "outcome_noise": outcome_noise}
    return watch_table(posterior, task, runs=runs, threshold=threshold, worth=worth, **options).decide(seen)


def watch_table(
    posterior,
    task: str,
    *,
    runs: Trajectories,
    threshold: float,
    worth: float,
    cost: Cost | None = None,
    look_cost: float | None = None,
    outcome_noise: bool = True,
) -> WatchTable:
    """The best action at each look and each expected R.

    Parameters
    ----------
    posterior : Posterior
        Of `conditional` or `branching`.
    task : str
    runs : Trajectories
        The runs that the task's risk was estimated from.
    threshold : float
        What R is to reach, in the metric's unit: above it where higher is better, else below.
    worth : float
        What a run is worth that does, in the cost's unit.
    cost : Cost, optional
        Of a run to a depth. Default: a full run costs 1 (unit "full run").
    look_cost : float, optional
        What an evaluation costs. Default: a thousandth of a full run.
    outcome_noise : bool, optional
        Whether R is what an outcome set of the same size will show (default), or an endless one would.

    Returns
    -------
    WatchTable
        Its looks are at depths that were fitted and that the runs share, so that nothing is extrapolated in depth.

    Raises
    ------
    InputError
        A fit that did not converge, a spread between runs, no such task, an unknown direction of the metric, runs that
        allow no regression, impossible numbers.
    """
    estimates = converged_task(posterior, task, "watch")
    if posterior.proxy == "run_to_run":
        raise InputError(
            "a spread between runs says nothing of where one run will end",
            "watch",
            "Fit estimates of the proxy conditional (30 complete runs) or branching.",
        )
    threshold = finite(threshold, "threshold")
    worth = positive(worth, "worth")
    arguments = Arguments(cost=cost)
    arguments.check(posterior.estimates)
    cost = arguments.cost_of(estimates)
    full = cost.at(estimates.horizon)
    look_cost = LOOK_SHARE * full if look_cost is None else finite(look_cost, "look_cost", least=0.0)
    predictor, errors = trained_predictor(runs, task, estimates.metric, estimates.depths)
    depths = predictor.depths[predictor.looks]
    parts = [
        variance_before_looking(posterior, runs, task, outcome_noise=outcome_noise),
        *variance_of_outcome(posterior, runs, task, depths, outcome_noise=outcome_noise),
    ]
    variance = np.stack([part.total for part in parts])
    kept = np.linspace(0, variance.shape[1] - 1, min(DRAWS, variance.shape[1])).astype(int)
    # What is open falls with depth; regressions of few runs may say otherwise.
    variance = np.minimum.accumulate(variance[:, kept], axis=0)
    remaining = full - cost.at(np.append(0.0, depths))
    reach = SPAN * float(np.sqrt(np.quantile(variance[0], 0.9)))
    margins = np.linspace(-reach, reach, GRID)
    higher_is_better = _direction(estimates)
    good = errors if higher_is_better else -errors
    action, p_above, best = best_actions(margins, variance, remaining, worth, look_cost, good)
    shapes = [ErrorShape.of(own) for own in errors]
    return WatchTable(
        task=task,
        metric=estimates.metric,
        depth_unit=estimates.depth_unit,
        proxy=posterior.proxy,
        horizon=float(estimates.horizon),
        higher_is_better=higher_is_better,
        threshold=threshold,
        worth=worth,
        cost_unit=cost.counted_in,
        look_cost=look_cost,
        remaining=remaining,
        predictor=predictor,
        margins=margins,
        action=action,
        p_above=p_above,
        best=best,
        lower=np.array([mixture_quantile(own, 0.05, shape) for own, shape in zip(variance, shapes, strict=True)]),
        upper=np.array([mixture_quantile(own, 0.95, shape) for own, shape in zip(variance, shapes, strict=True)]),
        variance=variance.mean(axis=1),
        bounds=bounds_of(estimates.metric_kind, estimates.outcome_mean),
        flags=reading(estimates, outcome_noise, runs),
    )


def best_actions(
    margins: Float[np.ndarray, " G"],
    variance: Float[np.ndarray, "K S"],
    remaining: Float[np.ndarray, " K"],
    worth: float,
    look_cost: float,
    errors: Float[np.ndarray, "K n"] | None = None,
):
    """Backward induction over K looks, the first of them the present.

    Parameters
    ----------
    margins : evenly spaced
    variance : tau^2 at each look and draw, not increasing along looks
    remaining : what the rest of the run costs at each look
    errors : R less its prediction of n runs at each look, positive where that is good; None: normal

    Returns
    -------
    action : int array (K, G)
        `watching.STOP`, `watching.DECIDED`, or the place, less one, of the look to take next.
    p_above, value : float arrays (K, G)
        Chance that R ends right, and V.
    """
    looks, step = len(variance), margins[1] - margins[0]
    shapes = [NORMAL] * looks if errors is None else [ErrorShape.of(own) for own in errors]
    p_above = np.stack([_chance(margins, own, shape) for own, shape in zip(variance, shapes, strict=True)])
    action = np.full((looks, len(margins)), DECIDED)
    value = np.zeros(action.shape)
    for k in reversed(range(looks)):
        best = worth * p_above[k] - remaining[k]
        for later in range(k + 1, looks):
            sd = np.sqrt(variance[k] - variance[later])
            moves = NORMAL if errors is None else ErrorShape.of(errors[k] - errors[later])
            watched = _expected(value[later], sd / step, moves) - (remaining[k] - remaining[later]) - look_cost
            action[k] = np.where(watched > best, later - 1, action[k])
            best = np.maximum(best, watched)
        action[k] = np.where(best > 0.0, action[k], STOP)
        value[k] = np.maximum(best, 0.0)
    return action, p_above, value


def _chance(margins, variance, shape):
    """Mean over draws of P(R ends right); where nothing is open it is a step."""
    sd = np.maximum(np.sqrt(variance), 1e-12 * margins[-1])
    return 1.0 - shape.cdf(-margins[:, None] / sd[None, :]).mean(axis=1)


def _expected(value, sd, shape):
    """E[V(x + sd e)] over draws of sd (S,), in steps of the grid, V linear between its points and level beyond them."""
    half = len(value) - 1
    at = np.arange(-half - 1, half + 2, dtype=float)[None, :]
    sd = np.maximum(sd, 1e-9)[:, None]
    # E max(at - sd e, 0), whose second difference is the weight of a point in linear interpolation.
    weights = np.diff((sd * shape.ramp(at / sd)).mean(axis=0), 2)
    return np.correlate(np.pad(value, half, mode="edge"), weights, mode="valid")


def _direction(estimates) -> bool:
    known = estimates.higher_is_better
    if known is None:
        known = {"accuracy": True, "loss": False}.get(estimates.metric_kind)
    if known is None:
        raise InputError(
            f"it is not known whether a higher {estimates.metric!r} is better",
            f"task {estimates.task!r}",
            "Say so when the runs are read: read_runs(..., higher_is_better=True).",
        )
    return bool(known)
