"""The verb `plan`: from a posterior and the user's assumptions to a decision for each task."""

import numpy as np
from scipy import stats

from bayes_prehoc.planning import draws
from bayes_prehoc.planning.arguments import Arguments
from bayes_prehoc.planning.prices import price_of
from bayes_prehoc.planning.regimes import REGIMES, boundaries, flips, regime_probabilities
from bayes_prehoc.planning.results import Frontier, Interval, Plan, RiskBand, TaskPlan
from bayes_prehoc.planning.stopping import optimal_stopping
from bayes_prehoc.planning.words import assumptions_in_words

__all__ = ["plan"]

CURVE_DEPTHS = 60
CLOUD_DRAWS = 400


def plan(posterior, *, cost=None, gamma=None, tolerance=None, c_cheap=None) -> Plan:
    """Say for each task which regime it is in and how deep a probe is worth its cost.

    Parameters
    ----------
    posterior : Posterior
    cost : LinearCost, ConvexCost, TableCost, or mapping from task to one of them, optional
        Cost of watching, of each task's depth; a mapping names every task. Default: a full run costs 1 (unit "full
        run").
    gamma : float, ThresholdLoss, or mapping from task to either, optional
        Price of one unit of squared error in the cost's unit, or the loss that it follows from (`planning.losses`).
        Default, one number per task: removing the whole expected risk at the cheap depth is worth one full run,
        gamma E[L(c_cheap)] = C(c_T) - C_s.
    tolerance : float or mapping from task to float, optional
        Largest RMSE of prediction that is accepted, absolute, in the metric's unit. Default: 0.01 for accuracies in
        [0, 1]; other metrics have none, and their tasks no regime until one is stated.
    c_cheap : float or mapping from task to float, optional
        Depth that counts as a cheap look. Default: max(0.05 c_T, c_min).

    Returns
    -------
    Plan
        With `status` "not_converged" the figures of a task are withheld (None), with "not_identified" those that need
        L_int told apart from the decay: L_int, alpha, c* and what follows from it. A verdict stands there if the
        depths it rests on were observed, and is withheld if not; a spread reading is withheld.

    Raises
    ------
    InputError
        An argument that cannot be used; it names the argument, the task and the remedy.

    Notes
    -----
    The decisions are those of `planning.regimes` and `planning.stopping`; risk is without the outcome set's noise
    wherever that is known. Of `run_to_run` the spread at a depth is the law's with the drift that the task's estimates
    show (`Posterior.drifted_curve`); L_int, alpha, K and the boundaries of regimes are the law's alone. Source: arXiv
    2606.17649 for L_int, alpha and c*; thresholds and Bayes actions are this package's.
    """
    arguments = Arguments(cost, gamma, tolerance, c_cheap)
    arguments.check(posterior.estimates)
    # A copy, so that what the caller does with its dictionaries later does not change the plan.
    arguments = Arguments.from_dict(arguments.to_dict())
    tasks = tuple(_task_plan(posterior, estimates, arguments) for estimates in posterior.estimates)
    return Plan(posterior, tasks, assumptions_in_words(posterior, tasks, arguments), arguments)


def _task_plan(posterior, estimates, arguments):
    """The plan of one task: what is known without the posterior, then its figures unless they are withheld."""
    status = posterior.status(estimates.task) if posterior.converged else "not_converged"
    known = {
        "task": estimates.task,
        "metric": estimates.metric,
        "depth_unit": estimates.depth_unit,
        "proxy": estimates.proxy,
        "n_runs": int(estimates.n_runs),
        "status": status,
        "reading": "spread reading" if estimates.proxy == "run_to_run" else "verdict",
        "horizon": float(estimates.horizon),
        "horizon_assumed": bool(estimates.horizon_assumed),
        "outcome_stands_in": bool(estimates.outcome_stands_in),
        "outcome_mean": float(estimates.outcome_mean),
        "c_min": estimates.c_min,
        "c_max": estimates.c_max,
        "tolerance": arguments.tolerance_of(estimates),
        "c_cheap": arguments.c_cheap_of(estimates),
        "cost": arguments.cost_of(estimates),
        "points": _points(estimates),
        "gamma": _stated_price(estimates, arguments),
        "flags": tuple(estimates.flags) + _tolerance_note(estimates, arguments),
    }
    if status == "not_converged" or (status == "not_identified" and not _seen_at_both_ends(known)):
        return TaskPlan(**known)
    curve = posterior.drifted_curve(estimates.task)
    figures = _classified(curve, known) | _curves(curve, known)
    if status != "ok":
        return TaskPlan(**(known | _in_intervals(figures, known)))
    figures |= _stopped(curve, estimates, known, arguments)
    if known["tolerance"] is not None:
        figures["boundaries"] = boundaries(curve, known["tolerance"], known["c_cheap"])
    figures["L_int"] = Interval.of(curve.l_int)
    if curve.noise is not None:
        figures["L_int_with_noise"] = Interval.of(curve.l_int + curve.noise)
    figures["alpha"] = Interval.of(curve.alpha)
    if curve.horizon is None:
        figures["K"] = Interval.of(curve.reducible * (curve.reference + curve.onset) ** curve.alpha)
    return TaskPlan(**(known | _in_intervals(figures, known)))


def _seen_at_both_ends(known):
    """Whether a verdict interpolates: then it needs neither alpha nor the division of the risk between."""
    return known["reading"] == "verdict" and not _extrapolated(known, {})


def _in_intervals(figures, known):
    """The figures with draws replaced by their intervals and a thinned cloud."""
    draws = {name: figures[name] for name in ("rmse_cheap", "rmse_final", "c_star") if figures.get(name) is not None}
    told = figures | {name: Interval.of(values) for name, values in draws.items()}
    return told | {"cloud": _cloud(draws, known["tolerance"]), "extrapolated": _extrapolated(known, told)}


def _classified(curve, known):
    """Regimes without and with the outcome set's noise, and the draws they come from."""
    final = curve.l_int if curve.horizon is None else draws.risk(curve, [known["horizon"]])[:, 0]
    cheap = draws.risk(curve, [known["c_cheap"]])[:, 0]
    rmse_cheap, rmse_final = np.sqrt(cheap), np.sqrt(final)
    # A spread may have drifted below what it tends to. `flips` counts on that it is no less, which changes no class.
    found = flips(np.maximum(rmse_cheap, rmse_final), rmse_final)
    figures = {"rmse_cheap": rmse_cheap, "rmse_final": rmse_final, "flips": found}
    tolerance = known["tolerance"]
    if tolerance is None:
        return figures
    figures["regimes"] = _named(regime_probabilities(rmse_cheap, rmse_final, tolerance))
    figures["regime"] = max(REGIMES, key=figures["regimes"].__getitem__)
    if curve.noise is not None:
        noisy = regime_probabilities(np.sqrt(cheap + curve.noise), np.sqrt(final + curve.noise), tolerance)
        figures["regimes_with_noise"] = _named(noisy)
    return figures


def _stopped(curve, estimates, known, arguments):
    """Optimal depth, best depth, the regret of what one might do and the gain, at the stated or the default gamma."""
    gamma, note = price_of(curve, estimates, arguments)
    flags = known["flags"] if note is None else (*known["flags"], note)
    if gamma is None:
        return {"c_star": None, "flags": flags}
    found = optimal_stopping(
        curve, gamma, known["cost"], known["c_min"], known["horizon"], known["depth_unit"] == "step"
    )
    return {
        "gamma": gamma,
        "flags": flags,
        "c_star": found.c_star,
        "c_star_at_min": found.at_min,
        "c_star_at_max": found.at_max,
        "best_depth": found.best_depth,
        "actions": found.actions,
        "gain": Interval.of(found.gain),
        "p_gain": float(np.mean(found.gain > 0)),
        "frontier": _frontier(curve, known),
    }


def _stated_price(estimates, arguments):
    """gamma where it was given as a number."""
    stated = arguments.gamma_of(estimates)
    return stated if isinstance(stated, float) else None


def _curves(curve, known):
    """Bands of the risk along depth, from before the shallowest estimate to the horizon."""
    depths = np.geomspace(min(known["c_min"] / 2, known["c_cheap"]), known["horizon"], CURVE_DEPTHS)
    without = draws.risk(curve, depths)
    if curve.noise is None:
        return {"curve": _band(depths, without)}
    seen = without + np.asarray(curve.noise)[:, None]
    return {"curve": _band(depths, seen), "curve_without_noise": _band(depths, without)}


def _frontier(curve, known):
    """Risk against cost; every depth is efficient where risk falls, and those are not beyond which a spread rises."""
    depths = np.geomspace(known["c_min"], known["horizon"], CURVE_DEPTHS)
    depths[[0, -1]] = known["c_min"], known["horizon"]
    risks = draws.risk(curve, depths)
    expected = risks.mean(axis=0)
    if curve.drift is not None:
        efficient = expected < np.minimum.accumulate(np.append(np.inf, expected[:-1]))
        depths, risks, expected = depths[efficient], risks[:, efficient], expected[efficient]
    band = _band(depths, risks)
    return Frontier(depths, known["cost"].at(depths), expected, band.median, band.lower, band.upper)


def _band(depths, risks):
    lower, median, upper = np.quantile(risks, (0.05, 0.5, 0.95), axis=0)
    return RiskBand(depths, median, lower, upper)


def _cloud(draws, tolerance):
    """A thinned set of draws for the phase diagram."""
    count = len(draws["rmse_cheap"])
    kept = np.linspace(0, count - 1, min(count, CLOUD_DRAWS)).round().astype(int)
    unit = 1.0 if tolerance is None else tolerance
    return {name: values[kept] / (1.0 if name == "c_star" else unit) for name, values in draws.items()}


def _points(estimates):
    """Estimates with their 90% sampling interval: nu U-hat / U is chi-square with nu degrees of freedom."""
    lower = estimates.risk * estimates.nu / stats.chi2.ppf(0.95, estimates.nu)
    upper = estimates.risk * estimates.nu / stats.chi2.ppf(0.05, estimates.nu)
    columns = (estimates.depths, estimates.risk, lower, upper)
    names = ("depth", "risk", "lower", "upper")
    return tuple(dict(zip(names, map(float, row), strict=True)) for row in zip(*columns, strict=True))


def _extrapolated(known, figures):
    """Names of the figures that lie outside the fitted depths."""
    at = {"c_cheap": known["c_cheap"], "best_depth": figures.get("best_depth")}
    if figures.get("c_star") is not None:
        at["c_star"] = figures["c_star"].median
    if known["reading"] == "verdict":
        at["L(c_T)"] = known["horizon"]
    else:
        # What the spread tends to, beyond any depth.
        at["L_int"] = np.inf
    # Depths that differ by rounding only are the same.
    low, high = known["c_min"] * (1 - 1e-9), known["c_max"] * (1 + 1e-9)
    return tuple(name for name, depth in at.items() if depth is not None and not low <= depth <= high)


def _tolerance_note(estimates, arguments):
    if arguments.tolerance_of(estimates) is not None:
        return ()
    why = ""
    if estimates.metric_kind == "accuracy":
        why = f" (the default for accuracies holds in [0, 1], and {estimates.outcome_mean:.4g} is not)"
    return (f"no regime: state a tolerance in units of {estimates.metric}{why}",)


def _named(probabilities):
    return dict(zip(REGIMES, map(float, probabilities), strict=True))
