"""What of R is open given a prefix, draw by draw: the parts of the decomposition, and what comes on top of them."""

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy import stats

from bayes_prehoc.planning import draws
from bayes_prehoc.planning.prefix import complete_runs_of
from bayes_prehoc.risk.conditional import MOST
from bayes_prehoc.risk.estimate import estimate_risk
from bayes_prehoc.runs.trajectories import Trajectories

__all__ = ["Variance", "noise_of", "variance_before_looking", "variance_of_outcome"]


@dataclasses.dataclass(frozen=True, eq=False)
class Variance:
    """Draws of the parts of Var(R | what is known), float64 arrays (S,), squared unit of the metric.

    Attributes
    ----------
    intrinsic : L_int, which no trajectory tells
    to_come : V_opt(c), which the rest of the run would tell
    predictor : what the regression errs by beyond these
    noise : of the outcome set; 0 where it is not asked for, or not known and then in the others
    """

    intrinsic: np.ndarray
    to_come: np.ndarray
    predictor: np.ndarray
    noise: np.ndarray

    @property
    def total(self) -> Float[np.ndarray, " S"]:
        """All of it."""
        return self.intrinsic + self.to_come + self.predictor + self.noise


def variance_of_outcome(
    posterior, runs: Trajectories, task: str, depths, *, outcome_noise: bool = True
) -> list[Variance]:
    """Draws of Var(R | prefix) at each of some fitted depths, for a prefix without gaps."""
    estimates = posterior.estimates[task]
    curve = posterior.curve(task)
    risk = draws.risk(curve, depths)
    noise = noise_of(curve, outcome_noise)
    at = np.searchsorted(estimates.depths, np.asarray(depths) * (1.0 - 1e-9))
    if posterior.proxy == "branching":
        observed, bias = _as_prefixes_tell(runs, task, estimates.metric, depths, len(risk))
        risk = np.maximum(risk, observed)
    else:
        bias = np.zeros(len(at)) if estimates.bias is None else estimates.bias[at]
    # The bias is that of training on four fifths of the runs, and goes as one over their number.
    excess = MOST.training * np.maximum(bias, 0.0)
    return [
        Variance(curve.l_int, np.maximum(own - curve.l_int, 0.0), more * (own + noise_of(curve, True)), noise)
        for own, more in zip(risk.T, excess, strict=True)
    ]


def variance_before_looking(posterior, runs: Trajectories, task: str, *, outcome_noise: bool = True) -> Variance:
    """Var(R) of a run of which nothing is known, as the outcomes of the n runs tell: s^2 (n - 1) / chi^2."""
    curve = posterior.curve(task)
    outcome = complete_runs_of(runs, task, posterior.estimates[task].metric).outcome
    total = outcome.var(ddof=1) / _mean_squares(len(outcome) - 1.0, len(curve.l_int))
    intrinsic = np.minimum(curve.l_int, total)
    noise = np.minimum(noise_of(curve, True), total - intrinsic)
    to_come = total - intrinsic - noise
    return Variance(intrinsic, to_come, total / len(outcome), noise if outcome_noise else np.zeros_like(noise))


def noise_of(curve, asked: bool) -> Float[np.ndarray, " S"]:
    """Draws of the outcome set's noise; 0 where it is not asked for or not known."""
    return np.zeros_like(curve.l_int) if curve.noise is None or not asked else np.asarray(curve.noise)


def _as_prefixes_tell(runs, task, metric, depths, count):
    """The conditional proxy of a task's runs at some depths: its risk in so many draws (S, D), and its bias (D,)."""
    own = Trajectories((runs[task],))
    found = estimate_risk(own, proxy="conditional", metric=metric)[task]
    logs = np.log(found.depths)
    risk, nu, bias = (np.interp(np.log(depths), logs, own) for own in (np.log(found.risk), found.nu, found.bias))
    return np.stack([np.exp(r) / _mean_squares(v, count) for r, v in zip(risk, nu, strict=True)], axis=1), bias


def _mean_squares(nu: float, count: int):
    """So many draws of chi-square over nu, spread evenly over its distribution, in an order of their own."""
    even = stats.chi2.ppf((np.arange(count) + 0.5) / count, nu) / nu
    return np.random.default_rng(0).permutation(even)
