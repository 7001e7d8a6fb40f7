"""Portfolios whose true curves are known, how depths are judged by them, and what least squares makes of a task."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

import bayes_prehoc as bp
from bayes_prehoc import theory
from bayes_prehoc.hierarchy import RiskCurve
from bayes_prehoc.hierarchy.data import REFERENCE_DEPTH
from bayes_prehoc.planning import draws
from bayes_prehoc.planning.stopping import optimal_stopping
from bayes_prehoc.risk.estimates import RiskEstimates, TaskEstimates
from bayes_prehoc.risk.laboratory import Chain, martingale
from bayes_prehoc.runs.trajectories import TaskRuns

__all__ = [
    "CHEAP",
    "COST",
    "DEPTHS",
    "HORIZON",
    "Kind",
    "MadeUp",
    "bootstrapped",
    "curve_of",
    "draw_kind",
    "laboratory_task",
    "least_squares",
    "one_price",
    "regrets_of",
    "truth_of",
]

HORIZON = 4000.0
CHEAP = 0.05 * HORIZON
DEPTHS = np.round(np.geomspace(0.01, 1.0, 9) * HORIZON)
COST = bp.LinearCost(1.0 / HORIZON)
ALPHAS = np.linspace(0.02, 4.0, 200)
REMAINING_ALPHAS = np.linspace(-0.98, 4.0, 250)
RESAMPLES = 4000
MADE_UP_DRAWS = 1000


class Kind(NamedTuple):
    """What tells tasks of the laboratory apart: the rate, U(c_0), and the share of L_int in it."""

    alpha: float
    level: float
    share: float


def draw_kind(rng: np.random.Generator) -> Kind:
    """One of the population."""
    alpha = float(np.clip(rng.normal(0.6, 0.3), 0.05, 2.0))
    return Kind(alpha, 0.02**2 * np.exp(rng.normal()), 1.0 / (1.0 + np.exp(-rng.normal(-1.0, 1.0))))


def chain_of(kind: Kind) -> Chain:
    """A martingale of which that is what states leave open."""
    reference = REFERENCE_DEPTH * HORIZON
    amplitude = kind.level * (1.0 - kind.share) / (reference**-kind.alpha - HORIZON**-kind.alpha)
    return martingale(DEPTHS, kind.alpha, amplitude, kind.level * kind.share)


def truth_of(kind: Kind, horizon=HORIZON) -> RiskCurve:
    """Its true curve; without a horizon a power law."""
    return curve_of(kind.level * kind.share, kind.level * (1.0 - kind.share), kind.alpha, horizon=horizon)


def laboratory_task(rng: np.random.Generator, runs: int, branches: int, name: str) -> tuple[TaskRuns, RiskCurve]:
    """So many runs of one of the population, forked at every depth, and its true curve."""
    kind = draw_kind(rng)
    return chain_of(kind).draw(rng, runs, branches=branches, name=name), truth_of(kind)


def curve_of(l_int: float, reducible: float, alpha: float, onset: float = 0.0, horizon=HORIZON) -> RiskCurve:
    """One draw; without a horizon a power law."""
    parts = (np.array([float(part)]) for part in (l_int, reducible, alpha, onset))
    l_int, reducible, alpha, onset = parts
    return RiskCurve(l_int, reducible, REFERENCE_DEPTH * HORIZON, alpha, onset, horizon, None)


class MadeUp:
    """What `allocate` and `next_probe` ask of a posterior: curves around the laboratory's, made when asked for."""

    proxy, converged = "conditional", True

    def __init__(self, tasks: int):
        level = 0.02**2 * (DEPTHS[:-1] / DEPTHS[0]) ** -0.6
        nu = np.full(len(level), 12.0)
        estimates = (
            TaskEstimates(f"task {i}", self.proxy, "score", "other", DEPTHS[:-1], level, nu, 1.0, 1.0, 30, HORIZON)
            for i in range(tasks)
        )
        self.estimates = RiskEstimates(self.proxy, tuple(estimates))

    def status(self, task: str) -> str:
        return "ok"

    def curve(self, task: str) -> RiskCurve:
        rng = np.random.default_rng(int(task.split()[1]))
        kind = draw_kind(rng)
        l_int, reducible = (kind.level * np.exp(rng.normal(size=(2, MADE_UP_DRAWS)) * 0.3)) * [[0.3], [0.7]]
        alpha = np.clip(kind.alpha + 0.2 * rng.normal(size=MADE_UP_DRAWS), -0.9, 3.9)
        onset = np.full(MADE_UP_DRAWS, 0.01 * HORIZON)
        return RiskCurve(l_int, reducible, REFERENCE_DEPTH * HORIZON, alpha, onset, HORIZON, None)

    def shared(self, task: str) -> dict[str, np.ndarray]:
        known = {"log_onset": np.log(0.01), "misfit": 0.1, "dependence": 0.9}
        return {name: np.full(MADE_UP_DRAWS, value) for name, value in known.items()}


def least_squares(task: TaskEstimates, horizon: float | None) -> RiskCurve:
    """Of all floors, amplitudes and rates, for each rate the best of the other two by a linear problem."""
    unit, scale = REFERENCE_DEPTH * HORIZON, task.risk.max()
    fits = []
    for alpha in ALPHAS if horizon is None else REMAINING_ALPHAS:
        fallen = np.asarray(theory.decay(task.depths, unit, alpha, 0.0, horizon), float)
        (floor, amplitude), residual = nnls(np.column_stack([np.ones_like(fallen), fallen]), task.risk / scale)
        fits.append((residual, floor * scale, amplitude * scale, float(alpha)))
    _, floor, amplitude, alpha = min(fits)
    return curve_of(floor, amplitude, alpha, 0.0, horizon)


def one_price(estimates: RiskEstimates) -> float:
    """gamma by which removing the median estimate at a twentieth of the run is worth a full run."""
    near = [np.exp(np.interp(np.log(CHEAP), np.log(task.depths), np.log(task.risk))) for task in estimates]
    return 1.0 / float(np.median(near))


def regrets_of(chosen: dict[str, float], truth: RiskCurve, gamma: float, c_min: float) -> dict[str, float]:
    """What each depth costs beyond the best one of the true curve, from c_min to the horizon, in full runs."""
    best = float(optimal_stopping(truth, gamma, COST, c_min, HORIZON).c_star[0])
    depths = np.array([best, *chosen.values()])
    least, *costs = gamma * draws.risk(truth, depths)[0] + COST.at(depths)
    return {name: max(cost - least, 0.0) for name, cost in zip(chosen, costs, strict=True)}


def bootstrapped(results: list, statistic) -> tuple[float, float, float]:
    """A statistic of replicates, and the central 90% of it where replicates are drawn anew."""
    rng = np.random.default_rng(0)
    places = rng.integers(len(results), size=(RESAMPLES if len(results) > 1 else 1, len(results)))
    drawn = [statistic([results[i] for i in row]) for row in places]
    return statistic(results), *np.quantile(drawn, (0.05, 0.95))
