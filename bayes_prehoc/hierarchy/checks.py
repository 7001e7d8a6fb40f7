"""The gate that a fit must pass before it may answer, and how much the data told about each task.

A check is data: passed or not, the value, the threshold, where it is worst, and what to do. The gate asks for
rank-normalised R-hat <= 1.01 and bulk and tail effective sample sizes >= 400 for every hyperparameter and every latent
of every task, no divergent transition, and E-BFMI >= 0.3 in every chain. Since the tasks' latents are integrated out by
quadrature and drawn by resampling, the error of the log density must vary by at most 0.5 over the posterior, and ten
points or more must have a say in a task's draws.

Sources: Vehtari et al. 2021 (R-hat, ESS), Betancourt 2016 (E-BFMI).
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats
from jaxtyping import Float

__all__ = ["GATE", "Check", "Gate", "bits_learned", "convergence", "integration"]

CENTRAL = (0.05, 0.95)
PER_TASK = re.compile(r"(?P<site>level|share|rate|noise|task)(\[| )(?P<row>\d+)\]?")


@dataclasses.dataclass(frozen=True)
class Gate:
    """What a fit must show before it may answer."""

    r_hat: float = 1.01
    ess: float = 400.0
    divergences: int = 0
    e_bfmi: float = 0.3
    quadrature: float = 0.5
    points: float = 10.0


GATE = Gate()


class Check(NamedTuple):
    """One check of the gate.

    Attributes
    ----------
    name : str
    passed : bool
    value, threshold : float
        `value` is the worst over all quantities; NaN fails.
    worst : str
        The quantity with that value.
    advice : str
        What to do if it failed.
    """

    name: str
    passed: bool
    value: float
    threshold: float
    worst: str
    advice: str

    def naming(self, tasks: Sequence[str]) -> "Check":
        """The same with the name of the task where it is worst, in place of its number."""
        found = PER_TASK.fullmatch(self.worst)
        return self._replace(worst=f"{found['site']} {tasks[int(found['row'])]}") if found else self


def convergence(
    quantities: Mapping[str, Float[np.ndarray, "chains draws ..."]],
    divergent: np.ndarray,
    energy: np.ndarray,
    gate: Gate = GATE,
) -> tuple[Check, ...]:
    """The checks of the gate.

    Parameters
    ----------
    quantities : mapping from name to array (chains, draws, ...)
        Constant elements are not judged.
    divergent : bool array (chains, draws)
    energy : array (chains, draws)
    gate : Gate
    """
    labels, draws = _flat(quantities)
    along = {"chain_axis": 0, "draw_axis": 1}
    r_hat = array_stats.rhat(draws, method="rank", **along)
    bulk = array_stats.ess(draws, method="bulk", **along)
    tail = array_stats.ess(draws, method="tail", prob=CENTRAL, **along)
    e_bfmi = array_stats.bfmi(np.asarray(energy, np.float64), **along)
    n_divergent = int(np.sum(divergent))

    def check(name, passed, value, threshold, where, advice):
        return Check(name, bool(passed), float(value), float(threshold), where, advice)

    def worst(values, largest):
        values = np.where(np.isnan(values), np.inf if largest else -np.inf, values)
        index = int(np.argmax(values) if largest else np.argmin(values))
        return values[index], labels[index]

    top, top_at = worst(r_hat, True)
    low, low_at = worst(bulk, False)
    rim, rim_at = worst(tail, False)
    chain = int(np.argmin(e_bfmi))
    longer = (
        "Draws were too few for how slowly they mix. Fit again with another seed, or leave out the task named as worst."
    )
    stuck = "Chains disagree. Look at the task named as worst: leave it out if its estimates conflict or are extreme."
    steps = (
        "The posterior has a corner that sampling did not resolve. Fit again with another seed, or add seeds or depths."
    )
    energies = "Energy moves slowly between draws: some scale (tau) is barely told by the data; add tasks or seeds."
    return (
        check("r_hat", top <= gate.r_hat, top, gate.r_hat, top_at, stuck),
        check("ess_bulk", low >= gate.ess, low, gate.ess, low_at, longer),
        check("ess_tail", rim >= gate.ess, rim, gate.ess, rim_at, longer),
        check("divergences", n_divergent <= gate.divergences, n_divergent, gate.divergences, "all chains", steps),
        check("e_bfmi", e_bfmi[chain] >= gate.e_bfmi, e_bfmi[chain], gate.e_bfmi, f"chain {chain}", energies),
    )


def integration(
    errors: Float[np.ndarray, "S T"], effective: Float[np.ndarray, "S T"], gate: Gate = GATE
) -> tuple[Check, ...]:
    """Checks of how well the tasks' latents were integrated out.

    Parameters
    ----------
    errors : array (S, T)
        Error of each task's log marginal likelihood at some draws. What matters is how its sum over the tasks varies:
        it is what the posterior density of the hyperparameters is off by.
    effective : array (S, T)
        Effective number of the points that each task's latents were drawn from.
    gate : Gate
    """
    off, points = errors.sum(axis=1).std(), np.median(effective, axis=0)
    share, least = int(np.argmax(errors.std(axis=0))), int(np.argmin(points))
    advice = "A task's latents lie where the points do not reach. Look at the task named as worst, or leave it out."
    return (
        Check("quadrature", bool(off <= gate.quadrature), float(off), gate.quadrature, f"task {share}", advice),
        Check("points", bool(points[least] >= gate.points), float(points[least]), gate.points, f"task {least}", advice),
    )


def bits_learned(posterior: Float[np.ndarray, "S T"], prior: Float[np.ndarray, " M"]) -> Float[np.ndarray, " T"]:
    """log2 of how many times narrower the posterior's 90% interval is than the prior's, per task.

    One bit halves the interval. Below zero the posterior is the wider one.
    """
    width = np.diff(np.quantile(prior, CENTRAL))
    widths = np.diff(np.quantile(posterior, CENTRAL, axis=0), axis=0)[0]
    return np.log2(width / np.maximum(widths, 1e-12 * width))


def _flat(quantities):
    """Names and draws (chains, draws, elements) of all elements that vary."""
    labels, columns = [], []
    for name, values in quantities.items():
        values = np.asarray(values, np.float64)
        shape = values.shape[2:]
        flat = values.reshape(*values.shape[:2], -1)
        for element, index in enumerate(np.ndindex(shape)):
            if np.ptp(flat[..., element]) > 0.0 or not np.isfinite(flat[..., element]).all():
                labels.append(f"{name}[{', '.join(map(str, index))}]" if index else name)
                columns.append(flat[..., element])
    return labels, np.stack(columns, axis=-1)
