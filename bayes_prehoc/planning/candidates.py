"""Which probes of a task there are: n more seeds to depth c, what they cost, and what they add to its estimates.

- `conditional` needs outcomes, so a probe is so many complete runs.
- `branching`: complete runs, forked at the fitted depths up to c into as many continuations as the runs before,
  n { C(c_T) + b sum_f [C(c_T) - C(f)] }.
- `run_to_run`: a depth counts where nearly all runs were seen, so all of them end together: new ones at the deepest
  depth of the old, or deeper, and the old ones go on to there, n C(c) + n_runs [C(c) - C(c_max)].
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from bayes_prehoc.hierarchy.data import spread_depths
from bayes_prehoc.planning.costs import Cost
from bayes_prehoc.risk.estimates import TaskEstimates

__all__ = ["Measured", "Probe", "added_by", "measured", "probes_of"]

FORKS = 4
"""Among the fitted depths, that forks may end at."""
AHEAD = 3
"""Depths beyond the deepest fitted one, at most; each about twice the one before, or more."""
SAME_DEPTH = 1e-9
"""Relative difference below which two depths are one."""


class Measured(NamedTuple):
    """Depths (D,) that probes may tell of, in the task's unit, and the estimates there; dof is 0 where none is."""

    depths: np.ndarray
    log_value: np.ndarray
    dof: np.ndarray


class Probe(NamedTuple):
    """So many more seeds to a depth; of `branching` the deepest at which they are forked. `cost` in the cost's unit."""

    depth: float
    seeds: int
    cost: float


def measured(estimates: TaskEstimates) -> Measured:
    """The estimates that the model saw; of `run_to_run` followed by depths that runs have yet to reach."""
    places = spread_depths(estimates.depths)
    found = Measured(estimates.depths[places], np.log(estimates.risk[places]), estimates.nu[places])
    if estimates.proxy != "run_to_run" or not _beyond(estimates.horizon, found.depths[-1]):
        return found
    steps = int(np.clip(np.ceil(np.log2(estimates.horizon / found.depths[-1])), 1, AHEAD))
    ahead = np.geomspace(found.depths[-1], estimates.horizon, steps + 1)[1:]
    ahead[-1] = estimates.horizon
    nothing = np.zeros(steps)
    return Measured(*(np.append(own, more) for own, more in zip(found, (ahead, nothing, nothing), strict=True)))


def probes_of(estimates: TaskEstimates, at: Measured, cost: Cost, seeds: Sequence[int]) -> list[Probe]:
    """All there are of a task, for these numbers of seeds."""
    ends = _ends(estimates, at)
    to_end = cost.at(ends)
    old = np.zeros(len(ends))
    if estimates.proxy == "run_to_run":
        old = estimates.n_runs * (to_end - to_end[0])
    elif estimates.proxy == "branching":
        whole = cost.at(estimates.horizon)
        continued = np.where(_beyond(at.depths, ends[:, None]), 0.0, whole - cost.at(at.depths))
        to_end = whole + estimates.branches * continued.sum(axis=1)
    return [
        Probe(float(depth), n, float(n * new + before))
        for depth, new, before in zip(ends, to_end, old, strict=True)
        for n in seeds
    ]


def added_by(probe: Probe, estimates: TaskEstimates, at: Measured) -> Float[np.ndarray, " D"]:
    """Degrees of freedom that a probe adds to the estimate at each depth."""
    runs = estimates.n_runs
    if estimates.proxy == "run_to_run":
        # Of a variance: 2 / nu = g / n + 2 / (n - 1), with the excess kurtosis g that the runs have.
        known = np.where(at.dof > 0.0, at.dof, np.median(estimates.nu))
        excess = runs * (2.0 / known - 2.0 / (runs - 1.0))
        every = 2.0 / (excess / (runs + probe.seeds) + 2.0 / (runs + probe.seeds - 1.0))
        added = np.maximum(every - at.dof, 0.0)
    elif estimates.proxy == "branching":
        # Of a mean over runs; the fewest that there are at any depth are those that were counted.
        added = np.full(len(at.dof), at.dof.min() * probe.seeds / runs)
    else:
        added = at.dof * probe.seeds / runs
    return np.where(_beyond(at.depths, probe.depth), 0.0, added)


def _ends(estimates, at):
    """Depths (E,) that a probe may end at, increasing."""
    if estimates.proxy == "conditional":
        return np.array([estimates.horizon])
    if estimates.proxy == "run_to_run":
        return at.depths[at.depths >= estimates.depths[-1]]
    places = np.linspace(0, len(at.depths) - 1, min(FORKS, len(at.depths)))
    return at.depths[np.unique(places.round().astype(int))]


def _beyond(depths, depth):
    return depths > depth * (1.0 + SAME_DEPTH)
