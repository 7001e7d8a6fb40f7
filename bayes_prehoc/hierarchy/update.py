"""An update as a posterior: what is checked before, and how the draws are labelled after."""

import dataclasses

import jax
import numpy as np

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.checks import GATE, Check
from bayes_prehoc.hierarchy.data import check_estimates, metric_kinds
from bayes_prehoc.hierarchy.labels import labelled
from bayes_prehoc.hierarchy.posterior import Posterior
from bayes_prehoc.hierarchy.reweigh import known_of, updated
from bayes_prehoc.risk.estimates import RiskEstimates

__all__ = ["update_posterior"]

UPDATE = "update_k_hat"
"""The check of the weights, in the gate of an update."""


def update_posterior(posterior: Posterior, estimates: RiskEstimates, seed: int) -> Posterior:
    """`Posterior.update`."""
    _check(posterior, estimates, seed)
    group = posterior.draws["posterior"]
    known, rows = known_of(
        {name: group[name].values for name in group.data_vars}, metric_kinds(posterior.estimates), posterior.proxy
    )
    fitted = {task.task: task for task in posterior.estimates}
    before = {
        task.task: (fitted[task.task], _noise(posterior, fitted[task.task])[rows])
        for task in estimates
        if task.task in fitted
    }
    found = updated(jax.random.key(seed), known, estimates, before)
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
