r"""What a run will end at: R given its prefix, with an interval as wide as the decomposition of the risk says.

.. math:: R \mid x^{(c)} \sim \hat R(x^{(c)}) + \sqrt{L(c) + E_c + V_{eval}} \; e , \qquad
    L(c) = L_{int} + V_{opt}(c) ,

with one L per posterior draw, so that not knowing the risk widens the interval too; e has variance one and the shape of
the runs' own prediction errors at that depth (`planning.shape`), normal where there are no runs. R-hat is the
regression of `planning.prefix`, E_c what it errs by beyond L because few runs trained it (with n runs about L b / n:
the bias that the conditional proxy removed tells b) and because values of this run are missing. V_eval is the noise of
the outcome set, which R shows and an endless set would not.

Branching's risk is given the state of a run, of which its metrics tell a part: there the risk is at least the
conditional proxy of the same runs. A spread between runs is no risk: from `run_to_run` follows how finished runs
differ, the same for every run whatever it has shown, and that is what is said.
"""

import dataclasses
import numbers

import numpy as np

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning import draws
from bayes_prehoc.planning.costs import positive
from bayes_prehoc.planning.prefix import trained_predictor
from bayes_prehoc.planning.results import Interval
from bayes_prehoc.planning.shape import NORMAL, ErrorShape, mixture_quantile
from bayes_prehoc.planning.variance import Variance, noise_of, variance_before_looking, variance_of_outcome
from bayes_prehoc.runs.trajectories import Trajectories, metric_kind

__all__ = [
    "OutcomePrediction",
    "bounds_of",
    "check_converged",
    "checked_seed",
    "converged_task",
    "finite",
    "predict_new_task",
    "predict_outcome",
    "reading",
]

LEVEL = 0.9
"""Of intervals."""
NEW_TASK = "new task"


@dataclasses.dataclass(frozen=True, eq=False)
class OutcomePrediction:
    """Predictive distribution of R: one mean and shape, with a variance for each posterior draw.

    Attributes
    ----------
    task, metric, depth_unit, proxy : str
    depth : float
        Of the prefix that was used; 0: none.
    mean : float
    variance : Variance
    shape : ErrorShape
    bounds : pair of float or None
        What R cannot lie beyond; intervals end there.
    flags : tuple of str
        What a reader must know.
    """

    task: str
    metric: str
    depth_unit: str
    proxy: str
    depth: float
    mean: float
    variance: Variance
    shape: ErrorShape = NORMAL
    bounds: tuple[float, float] | None = None
    flags: tuple[str, ...] = ()

    @property
    def sd(self) -> float:
        """Predictive standard deviation, in the metric's unit."""
        return float(np.sqrt(self.variance.total.mean()))

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Central predictive interval.

        Raises
        ------
        InputError
            The level is not between 0 and 1.
        """
        if not 0.0 < level < 1.0:
            raise InputError(f"it is {level!r}", "level", "Give a number between 0 and 1, such as 0.9.")
        low, high = (
            mixture_quantile(self.variance.total, p, self.shape) for p in (0.5 - level / 2.0, 0.5 + level / 2.0)
        )
        ends = np.array([self.mean + low, self.mean + high])
        low, high = ends if self.bounds is None else np.clip(ends, *self.bounds)
        return float(low), float(high)

    def probability_above(self, threshold: float) -> float:
        """P(R > threshold)."""
        return float(1.0 - self.shape.cdf((threshold - self.mean) / np.sqrt(self.variance.total)).mean())

    def to_dict(self) -> dict:
        """JSON-ready: mean, sd, 90% interval and the parts of the variance with their intervals."""
        lower, upper = self.interval()
        told = {name: getattr(self, name) for name in ("task", "metric", "depth_unit", "proxy", "depth", "mean", "sd")}
        parts = {f.name: dataclasses.asdict(Interval.of(getattr(self.variance, f.name)))
                 for f in dataclasses.fields(self.variance)}  # fmt: skip
        return told | {"lower": lower, "upper": upper, "variance": parts, "flags": list(self.flags)}


def predict_outcome(
    posterior, task: str, seen=None, *, runs: Trajectories | None = None, outcome_noise: bool = True
) -> OutcomePrediction:
    """R of a run of a task that was fitted, given what it has shown.

    Parameters
    ----------
    posterior : Posterior
    task : str
    seen : mapping from depth to value, or to a mapping from metric to value, optional
        Evaluations of the run so far, at depths that the runs have too. A plain value is of the outcome's metric.
        Default: a run of which nothing is known.
    runs : Trajectories, optional
        The runs that the task's risk was estimated from: they train the regression. Needed where `seen` is given.
    outcome_noise : bool, optional
        Predict R as an outcome set of the same size will show it (default), or as an endless one would.

    Returns
    -------
    OutcomePrediction
        From a `run_to_run` posterior it is that of any finished run: what is seen is not used, and `flags` says so.

    Raises
    ------
    InputError
        No such task, a fit that did not converge, runs that are missing or of other metrics, values that are infinite
        (a run that diverged has no outcome), or neither runs nor values and a task that is not identified.
    """
    estimates = converged_task(posterior, task, "predict_outcome")
    if posterior.proxy == "run_to_run":
        return _of_finished_runs(posterior, estimates, outcome_noise)
    if runs is None:
        if seen:
            raise InputError("runs is missing", "predict_outcome", "Give the runs that the task was fitted to.")
        return _of_any_run(posterior, estimates, None, outcome_noise)
    predictor, errors = trained_predictor(runs, task, estimates.metric, estimates.depths)
    found = predictor.read({} if seen is None else seen)
    if found.diverged:
        raise InputError(f"a value of {task!r} is infinite", "seen", "A run that diverged has no outcome to predict.")
    if found.look < 0:
        unseen = _of_any_run(posterior, estimates, runs, outcome_noise)
        return dataclasses.replace(unseen, flags=("no value of this run was used", *found.notes, *unseen.flags))
    depth = float(predictor.depths[predictor.looks[found.look]])
    variance = variance_of_outcome(posterior, runs, task, [depth], outcome_noise=outcome_noise)[0]
    variance = dataclasses.replace(variance, predictor=variance.predictor + found.excess)
    shape = ErrorShape.of(errors[found.look + 1])
    flags = (*found.notes, *reading(estimates, outcome_noise, runs))
    about = task, estimates.metric, estimates.depth_unit, posterior.proxy
    return OutcomePrediction(
        *about, depth, found.mean, variance, shape, bounds_of(estimates.metric_kind, estimates.outcome_mean), flags
    )


def predict_new_task(
    posterior, *, metric: str, mean: float, horizon: float, mean_sd: float = 0.0, scale: float | None = None,
    family: str | None = None, descriptors: dict[str, float] | None = None, seed: int = 0,
) -> OutcomePrediction:  # fmt: skip
    """R of a run of a task that nobody has probed, from the population of the tasks that were fitted and from what is
    known of it before any run.

    The population says how far runs scatter around the mean of their task, not what that mean is: it is the user's.

    Parameters
    ----------
    posterior : Posterior
        Of a fit, not of an update; of `conditional` or `branching`.
    metric : str
        Of a kind (accuracy, loss, other) that was fitted.
    mean : float
        Expected R of the task, in the metric's unit; `mean_sd` its standard error.
    horizon : float
    scale : float, optional
        Outcome scale; default |mean|.
    family, descriptors
        As `Posterior.expect` takes them.
    seed : int

    Raises
    ------
    InputError
        A fit that did not converge, an update, a spread, a kind of metric that was not fitted, impossible numbers.
    """
    check_converged(posterior, "predict_new_task")
    if posterior.proxy == "run_to_run":
        raise InputError("a spread between runs is no risk", "predict_new_task", "Fit conditional or branching.")
    mean, mean_sd = finite(mean, "mean"), finite(mean_sd, "mean_sd", least=0.0)
    horizon, scale = positive(horizon, "horizon"), positive(abs(mean) if scale is None else scale, "scale")
    known = {"metric": metric, "family": family, "descriptors": descriptors, "seed": checked_seed(seed)}
    expected = posterior.expect(NEW_TASK, scale=scale, horizon=horizon, **known)
    curve = expected.curve(NEW_TASK)
    risk = draws.risk(curve, [0.0])[:, 0]
    variance = Variance(curve.l_int, risk - curve.l_int, np.full_like(risk, mean_sd**2), np.zeros_like(risk))
    flags = (
        "the mean is the user's; how far runs scatter around it is the population's of the fitted tasks",
        "the risk before the first step is extrapolated from the depths that were fitted",
    )
    about = NEW_TASK, metric, expected.estimates[NEW_TASK].depth_unit, posterior.proxy
    bounds = bounds_of(metric_kind(metric), mean)
    return OutcomePrediction(*about, 0.0, mean, variance, bounds=bounds, flags=flags)


def converged_task(posterior, task: str, where: str):
    """Estimates of a task of a posterior that may be believed.

    Raises
    ------
    InputError
        No such task, or a fit that did not pass its gate.
    """
    check_converged(posterior, where)
    return posterior.estimates[task]


def check_converged(posterior, where: str) -> None:
    """Complain about a posterior that did not pass its gate."""
    if not posterior.converged:
        raise InputError("the posterior did not pass its gate", where, "See its checks(), and fit again.")


def finite(value, where: str, least: float = -np.inf) -> float:
    """`value` as a float, if it is a finite number and not below the least.

    Raises
    ------
    InputError
        Anything else, booleans and text included.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not np.isfinite(value) or value < least:
        than = "" if np.isinf(least) else f", {least:g} or greater"
        raise InputError(f"it is {value!r}", where, f"Give a finite number{than}.")
    return float(value)


def checked_seed(seed) -> int:
    """`seed`, if it can be one.

    Raises
    ------
    InputError
        It is no whole number from 0 to 2**32 - 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**32:
        raise InputError(f"{seed!r} cannot be a seed", "seed", "Give a whole number from 0 to 2**32 - 1.")
    return int(seed)


def _of_finished_runs(posterior, estimates, outcome_noise):
    """From a spread: how the ends of runs differ."""
    spread = posterior.predict_risk(estimates.task, [estimates.horizon])[:, 0]
    none = np.zeros_like(spread)
    flags = ["a spread between runs is no risk: this is any finished run's, whatever this one has shown"]
    if estimates.c_max < estimates.horizon:
        flags.append(f"extrapolated: the spread was fitted up to {estimates.c_max:g}")
    if not outcome_noise:
        flags.append("the outcome set's noise is part of a spread, and in it")
    variance = Variance(none, spread, spread / estimates.n_runs, none)
    return _unseen(estimates, posterior.proxy, variance, (*flags, *estimates.flags))


def _of_any_run(posterior, estimates, runs, outcome_noise):
    """A run of which nothing is known."""
    curve = posterior.curve(estimates.task)
    flags = ()
    if runs is not None:
        variance = variance_before_looking(posterior, runs, estimates.task, outcome_noise=outcome_noise)
    elif posterior.status(estimates.task) == "ok":
        risk, noise = draws.risk(curve, [0.0])[:, 0], noise_of(curve, outcome_noise)
        variance = Variance(curve.l_int, risk - curve.l_int, (risk + noise_of(curve, True)) / estimates.n_runs, noise)
        flags = ("the risk before the first step is extrapolated from the depths that were fitted",)
    else:
        raise InputError(
            "what is left open before the first step is not identified",
            f"predict_outcome, task {estimates.task!r}",
            "Give the task's runs, which show it.",
        )
    return _unseen(estimates, posterior.proxy, variance, (*flags, *reading(estimates, outcome_noise, runs)))


def reading(estimates, outcome_noise: bool, runs: Trajectories | None = None) -> tuple[str, ...]:
    """What a reader of a prediction must know of the estimates, and of the runs, behind it."""
    flags = []
    if runs is not None and estimates.hashes and not set(estimates.hashes) & set(runs[estimates.task].run_hashes()):
        flags.append("the runs are others than the risk was estimated from: what they predict may err by more")
    if not estimates.has_noise and not outcome_noise:
        flags.append("the outcome set's noise is not known, and part of what is left open")
    if estimates.outcome_stands_in:
        flags.append("the last value of the trajectory stands in for R")
    return (*flags, *estimates.flags)


def bounds_of(kind: str, mean: float) -> tuple[float, float] | None:
    """0 and 1 for an accuracy that is not in percent; else none are known."""
    return (0.0, 1.0) if kind == "accuracy" and 0.0 <= mean <= 1.0 else None


def _unseen(estimates, proxy, variance, flags):
    about = estimates.task, estimates.metric, estimates.depth_unit, proxy
    return OutcomePrediction(
        *about,
        0.0,
        estimates.outcome_mean,
        variance,
        NORMAL,
        bounds_of(estimates.metric_kind, estimates.outcome_mean),
        flags,
    )
