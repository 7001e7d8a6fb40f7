r"""Depth in the time of the noise.

Under a schedule of the learning rate the step is not the natural depth. Along a flat direction what is still open at
step c is the noise still to come, proportional to the sum of the squared rates left, sum over k > c of eta_k^2.
Measured by the sum of those so far,

.. math:: u(c) = \int_0^c (\eta / \eta_{max})^2,

in steps at the highest rate, runs under different schedules share one law there, V_opt = K (u_T - u), where in steps a
cooldown bends it (`one_law` tests that). Between recorded depths the rate is taken to be linear, before the first one
constant.

Source: Proposition 5.1 of arXiv 2606.17649, for steps that fall as a power.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs.trajectories import TaskRuns, Trajectories

__all__ = ["RATE", "in_noise_time", "noise_time"]

RATE = "learning_rate"
"""Metric that holds the learning rate at each depth, as probes record it."""
UNIT = "step at the highest rate"
ASKED = 2000
"""Depths at which a rate that is given as a function is asked for, beside those of the runs."""


def noise_time(
    depths: Float[np.ndarray, " N"], at: Float[np.ndarray, " D"], rate: Float[np.ndarray, " D"]
) -> Float[np.ndarray, " N"]:
    """u at each depth, from the rates at some of them.

    Parameters
    ----------
    depths : array (N,)
        From 0 to the last of `at`.
    at, rate : arrays (D,)
        Increasing depths, and the learning rates there; not all 0.
    """
    at, rate = np.append(0.0, at), np.append(rate[:1], rate) / np.max(rate)
    # The integral of a squared line over its length.
    lengths = np.diff(at)
    whole = np.append(0.0, np.cumsum(lengths * (rate[:-1] ** 2 + rate[:-1] * rate[1:] + rate[1:] ** 2) / 3.0))
    segment = np.clip(np.searchsorted(at, depths, side="right") - 1, 0, len(lengths) - 1)
    begun = depths - at[segment]
    start = rate[segment]
    # Of a depth that was recorded twice, once at 0, nothing lies between.
    share = np.divide(begun, lengths[segment], out=np.zeros_like(begun), where=lengths[segment] > 0.0)
    end = start + share * (rate[segment + 1] - start)
    return whole[segment] + begun * (start**2 + start * end + end**2) / 3.0


def in_noise_time(runs: Trajectories, rates: Callable[[np.ndarray], np.ndarray] | None = None) -> Trajectories:
    """The same runs, with depths, forks and horizon in the time of the noise.

    Parameters
    ----------
    runs : Trajectories
    rates : callable, optional
        Learning rates (N,) at increasing depths (N,) up to the horizon, for all tasks. Default: what was recorded as
        "learning_rate", at the depths of the runs; a schedule that bends between them is better given.

    Raises
    ------
    InputError
        If a task has no recorded rates and none are given, they differ between runs, are impossible, end before the
        horizon, or are 0 between two depths, which then are one.
    """
    return dataclasses.replace(runs, tasks=tuple(_retimed(task, rates) for task in runs))


def _retimed(task: TaskRuns, rates) -> TaskRuns:
    where = f"task {task.task!r}"
    if task.depth_unit == UNIT:
        raise InputError("its depths are in the time of the noise already", where, "Leave them.")
    at, rate = _asked(task, rates) if rates else _recorded(task, where)
    if rate.shape != at.shape or not (np.isfinite(rate) & (rate >= 0.0)).all() or not (rate > 0.0).any():
        raise InputError("its learning rates are not finite and positive", where, "Give one for each depth.")
    last = max(task.horizon, task.depths[-1])
    if at[-1] < last:
        raise InputError(
            f"its learning rates end at {at[-1]:g}, its runs at {last:g}", where, "Give them as a function: rates=."
        )
    depths = noise_time(task.depths, at, rate)
    if not (np.diff(depths) > 0.0).all():
        raise InputError("its learning rate is 0 between two depths", where, "Leave out the depths behind the first.")
    forks = None if task.fork_depths is None else noise_time(task.fork_depths, at, rate)
    return dataclasses.replace(
        task,
        depths=depths,
        fork_depths=forks,
        horizon=float(noise_time(np.array([task.horizon]), at, rate)[0]),
        depth_unit=UNIT,
        notes=(*task.notes, f"depths are the integral of (learning rate / its maximum)^2 over {task.depth_unit}s"),
    )


def _asked(task, rates):
    """The rate at depths that lie close enough to see a schedule's bends between those of the runs."""
    at = np.union1d(np.linspace(0.0, max(task.horizon, task.depths[-1]), ASKED + 1)[1:], task.depths)
    return at, np.asarray(rates(at), np.float64)


def _recorded(task, where):
    """Depths at which the learning rate was recorded, and the rate there, the same for all runs."""
    if RATE not in task.values:
        raise InputError(f"{RATE!r} was not recorded", where, "Give it as a function of the depth: rates=.")
    value = np.where(np.isfinite(task.values[RATE]), task.values[RATE], np.nan)
    there = np.isfinite(value).any(axis=0)
    value = value[:, there]
    low, high = np.nanmin(value, axis=0, initial=np.inf), np.nanmax(value, axis=0, initial=-np.inf)
    if (high - low > 1e-6 * np.abs(high)).any():
        raise InputError("its runs have different learning rates", where, "Make a task of each schedule.")
    return task.depths[there], high
