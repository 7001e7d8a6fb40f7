"""The gate that a fit must pass before it may answer, and how much the data told about each task.

A check is data: passed or not, the value, the threshold, where it is worst, and what to do. The gate asks for
rank-normalised R-hat <= 1.01 and bulk and tail effective sample sizes >= 400 for every hyperparameter and every latent
of every task. R-hat of many quantities is above 1.01 somewhere even of independent draws, so for tasks the threshold is
what as many of those would pass, where that is more. Where chains moved by leaps alone, the weights of what they were
offered must have a Pareto shape of at most 0.7; where by Hamiltonian trajectories too, no transition may diverge, and
E-BFMI must be 0.3 or more in every chain. Since the tasks' latents are integrated out by quadrature and drawn by
resampling, the error of the log density must vary by at most 0.5 over the posterior, and ten points or more must have a
say in a task's draws.

Sources: Vehtari et al. 2021 (R-hat, ESS), Vehtari et al. 2024 (Pareto shape), Betancourt 2016 (E-BFMI).
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats
from jaxtyping import Bool, Float
from scipy.stats import f as variance_ratio

__all__ = ["GATE", "Check", "Gate", "bits_learned", "convergence", "integration", "of_leaps", "of_trajectories"]

CENTRAL = (0.05, 0.95)
BY_CHANCE = 0.01
"""Probability with which independent draws of all tasks fail."""
_ALONG = {"chain_axis": 0, "draw_axis": 1}
PER_TASK = re.compile(r"(?P<site>level|share|rate|noise|task)(\[| )(?P<row>\d+)\]?")


@dataclasses.dataclass(frozen=True)
class Gate:
    """What a fit must show before it may answer."""

    r_hat: float = 1.01
    ess: float = 400.0
    k_hat: float = 0.7
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
    quantities: Mapping[str, Float[np.ndarray, "chains draws ..."]], gate: Gate = GATE
) -> tuple[Check, ...]:
    """Checks that chains agree and are long enough.

    Parameters
    ----------
    quantities : mapping from name to array (chains, draws, ...)
        Constant elements are not judged.
    gate : Gate
    """
    labels, draws = _flat(quantities)
    per_task = np.array([PER_TASK.fullmatch(label) is not None for label in labels])
    most = max(gate.r_hat, _r_hat_by_chance(per_task.sum(), *draws.shape[:2]))
    r_hat = array_stats.rhat(draws, method="rank", **_ALONG)
    bulk = array_stats.ess(draws, method="bulk", **_ALONG)
    tail = array_stats.ess(draws, method="tail", prob=CENTRAL, **_ALONG)
    longer = (
        "Draws were too few for how slowly they mix. Fit again with another seed, or leave out the task named as worst."
    )
    stuck = "Chains disagree. Look at the task named as worst: leave it out if its estimates conflict or are extreme."

    def check_ess(name, values):
        values = np.where(np.isnan(values), -np.inf, values)
        least = int(np.argmin(values))
        return Check(name, bool(values[least] >= gate.ess), float(values[least]), gate.ess, labels[least], longer)

    r_hat, thresholds = np.where(np.isnan(r_hat), np.inf, r_hat), np.where(per_task, most, gate.r_hat)
    worst = int(np.argmax((r_hat - 1.0) / (thresholds - 1.0)))
    value, threshold = float(r_hat[worst]), float(thresholds[worst])
    return (
        Check("r_hat", value <= threshold, value, threshold, labels[worst], stuck),
        check_ess("ess_bulk", bulk),
        check_ess("ess_tail", tail),
    )


def _r_hat_by_chance(quantities: int, chains: int, draws: int) -> float:
    """What the largest R-hat of so many quantities exceeds with probability `BY_CHANCE`, of independent draws.

    Chains are split in halves, between which the variance over that within follows an F distribution.
    """
    halves, length = 2 * chains, draws // 2
    ratio = variance_ratio.isf(BY_CHANCE / max(quantities, 1), halves - 1, halves * (length - 1))
    return float(np.sqrt(1.0 + (ratio - 1.0) / length))


def of_leaps(log_weight: Float[np.ndarray, "..."], gate: Gate = GATE) -> Check:
    """Check that proposals of leaps reach all of the posterior, from the log weights of all of them."""
    # ArviZ takes minus the log weights, as leave-one-out cross-validation has them.
    k_hat = float(array_stats.psislw(-log_weight[np.isfinite(log_weight)])[1])
    advice = "Part of the posterior is reached too rarely. Fit again with another seed, or add seeds or depths."
    return Check("k_hat", k_hat <= gate.k_hat, k_hat, gate.k_hat, "leaps", advice)


def of_trajectories(
    divergent: Bool[np.ndarray, "chains draws"], energy: Float[np.ndarray, "chains draws"], gate: Gate = GATE
) -> tuple[Check, ...]:
    """Checks of Hamiltonian trajectories."""
    number = int(np.sum(divergent))
    e_bfmi = array_stats.bfmi(np.asarray(energy, np.float64), **_ALONG)
    chain = int(np.argmin(e_bfmi))
    low = float(e_bfmi[chain])
    steps = (
        "The posterior has a corner that sampling did not resolve. Fit again with another seed, or add seeds or depths."
    )
    energies = "Energy moves slowly between draws: some scale (tau) is barely told by the data; add tasks or seeds."
    return (
        Check("divergences", number <= gate.divergences, number, gate.divergences, "all chains", steps),
        Check("e_bfmi", low >= gate.e_bfmi, low, gate.e_bfmi, f"chain {chain}", energies),
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
