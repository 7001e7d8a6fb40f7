"""An update as a posterior: what is checked before, and how the draws are labelled after."""

import dataclasses

import jax
import numpy as np

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.basis import basis_of, metric_kinds
from bayes_prehoc.hierarchy.checks import GATE, Check
from bayes_prehoc.hierarchy.data import check_estimates
from bayes_prehoc.hierarchy.labels import labelled
from bayes_prehoc.hierarchy.posterior import Posterior
from bayes_prehoc.hierarchy.reweigh import known_of, updated
from bayes_prehoc.risk.estimates import RiskEstimates, TaskEstimates
from bayes_prehoc.runs.trajectories import metric_kind

__all__ = ["expected_task", "update_posterior"]

UPDATE = "update_k_hat"
"""The check of the weights, in the gate of an update."""


def update_posterior(posterior: Posterior, estimates: RiskEstimates, seed: int) -> Posterior:
    """`Posterior.update`."""
    _check(posterior, estimates, seed)
    group = posterior.draws["posterior"]
    key = jax.random.key(seed)
    draws = {name: group[name].values for name in group.data_vars}
    # A key of its own, so that what is drawn for tasks does not depend on there being families.
    known, rows = known_of(jax.random.fold_in(key, 1), draws, basis_of(posterior.estimates), posterior.proxy)
    fitted = {task.task: task for task in posterior.estimates}
    before = {
        task.task: (fitted[task.task], _noise(posterior, fitted[task.task])[rows])
        for task in estimates
        if task.task in fitted
    }
    found = updated(key, known, estimates, before)
    sites = {name: values[None] for name, values in found.sites.items()}
    if not any(task.has_noise for task in found.estimates):
        del sites["noise"]
    return dataclasses.replace(
        posterior,
        draws=labelled(sites, {}, found.estimates),
        estimates=found.estimates,
        gate=(*posterior.gate, _check_of_weights(found)),
        prior=f"a posterior of {len(posterior.estimates)} tasks ({posterior.prior}), updated task by task",
        seed=seed,
    )


def expected_task(posterior: Posterior, task: str, *, scale, horizon, metric, family, descriptors) -> RiskEstimates:
    """A task without estimates, as `Posterior.expect` describes it."""
    where = f"expect, task {task!r}"
    if task in posterior.tasks:
        raise InputError("was fitted", where, "Ask the posterior itself, or give the new task a name of its own.")
    for name, value in (("scale", scale), ("horizon", horizon)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < np.inf:
            raise InputError(f"{name} is {value!r}", where, "Give a positive number.")
    if "tau" not in posterior.draws["posterior"]:
        raise InputError("an update has no draws of the population", where, "Ask the fit that it was made from.")
    first = posterior.estimates.tasks[0]
    metric = first.metric if metric is None else metric
    kind = first.metric_kind if metric == first.metric else metric_kind(metric)
    like = next((own for own in posterior.estimates if own.metric_kind == kind), None)
    if like is None:
        known = ", ".join(metric_kinds(posterior.estimates))
        raise InputError(f"no task of the kind {kind!r} was fitted", where, f"There are {known}.")
    nothing = np.zeros(0)
    made = TaskEstimates(
        task=task,
        proxy=posterior.proxy,
        metric=metric,
        metric_kind=kind,
        depths=nothing,
        risk=nothing,
        nu=nothing,
        scale=float(scale),
        outcome_mean=float("nan"),
        n_runs=0,
        horizon=float(horizon),
        depth_unit=like.depth_unit,
        higher_is_better=like.higher_is_better,
        flags=("no run of it was seen: what is expected of it follows from the other tasks",),
        family=family,
        descriptors=dict(descriptors or {}),
    )
    return RiskEstimates(posterior.proxy, (made,))


def _check_of_weights(found):
    worst = int(np.argmax(found.k_hat))
    advice = "Fit the task together with the others."
    return Check(
        UPDATE, True, float(found.k_hat[worst]), GATE.k_hat, f"task {found.estimates.tasks[worst].task}", advice
    )


def _noise(posterior, task):
    """Draws of the noise of a fitted task's outcome set, (S,)."""
    curve = posterior.curve(task.task)
    return np.zeros(len(curve.l_int)) if curve.noise is None else curve.noise / task.scale**2


def _check(posterior, estimates, seed):
    if not isinstance(estimates, RiskEstimates):
        raise InputError(f"got a {type(estimates).__name__}", "update", "Give what estimate_risk returns.")
    if not posterior.converged:
        raise InputError("the posterior did not pass its gate", "update", "Update one that did.")
    if any(check.name == UPDATE for check in posterior.gate):
        raise InputError("the posterior is an update itself", "update", "Update the fit that it was made from.")
    if estimates.proxy != posterior.proxy:
        raise InputError(
            f"these are estimates of {estimates.proxy}, the posterior is of {posterior.proxy}",
            "update",
            "Proxies are never pooled: estimate by the same one.",
        )
    check_estimates(estimates, "update", seed)
    owner = {own: task.task for task in posterior.estimates for own in task.hashes}
    for task in estimates:
        twice = {owner[own] for own in task.hashes if own in owner} - {task.task}
        if twice:
            raise InputError(
                f"runs of task {task.task!r} were fitted as task {min(twice)!r}",
                "update",
                "Give a task the name that it was fitted under.",
            )
