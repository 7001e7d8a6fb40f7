"""Other proxies beside the plan's own: their plans, made under the same assumptions.

A proxy answers a question of its own (spread is not risk), so nothing is pooled here: each is read separately and
shown under its name.
"""

import dataclasses
from collections.abc import Mapping

from bayes_prehoc.errors import InputError

__all__ = ["Beside", "plans_beside"]


@dataclasses.dataclass(frozen=True, eq=False)
class Beside:
    """Another proxy's reading of the same tasks.

    Attributes
    ----------
    proxy : str
    converged : bool
        Its fit passed the gate; where it did not, `tasks` is empty.
    tasks : dict of TaskPlan by task
        Those that the plan has too, with the same metric and unit of depth.
    """

    proxy: str
    converged: bool
    tasks: dict


def plans_beside(made, posteriors) -> tuple[Beside, ...]:
    """Read other posteriors under the assumptions of the plan `made`.

    Parameters
    ----------
    made : Plan
    posteriors : iterable of Posterior

    Returns
    -------
    tuple of Beside, in the order given.

    Raises
    ------
    InputError
        If a posterior shares no task with the plan (the same name, metric and unit of depth).
    """
    return tuple(_beside(made, posterior) for posterior in posteriors)


def _beside(made, posterior):
    # Planning builds on jax; a page without comparisons needs none of it.
    from bayes_prehoc.planning import LinearCost, plan

    own = {t.task: t for t in made.tasks}
    shared = [
        estimates.task
        for estimates in posterior.estimates
        if estimates.task in own
        and (estimates.metric, estimates.depth_unit) == (own[estimates.task].metric, own[estimates.task].depth_unit)
    ]
    if not shared:
        raise InputError(
            f"the posterior of proxy {posterior.proxy} shares no task, metric and unit of depth with the plan",
            "compare",
            "Give posteriors that were fitted to the same runs under another proxy.",
        )
    if not posterior.converged:
        return Beside(posterior.proxy, False, {})
    stated = made.arguments
    cost, gamma = stated.cost, stated.gamma
    if isinstance(cost, Mapping):
        # Tasks that the plan has not are not shown, whatever they cost.
        cost = {t.task: own[t.task].cost if t.task in shared else LinearCost(1.0) for t in posterior.estimates}
    if isinstance(gamma, Mapping):
        gamma = {task: gamma[task] for task in shared if task in gamma} or None
    read = plan(
        posterior,
        cost=cost,
        gamma=gamma,
        tolerance={task: own[task].tolerance for task in shared if own[task].tolerance is not None} or None,
        c_cheap={task: own[task].c_cheap for task in shared},
    )
    return Beside(posterior.proxy, True, {task: read[task] for task in shared})
