"""Which law of decay the estimates of many tasks speak for, by leaving out one task at a time.

Every law is fitted by itself, with the same priors. What is compared is how well each foretells the estimates of a task
from those of the others: the expected log density of a task's estimates, its latents integrated out, under the
posterior of the hyperparameters given the other tasks, by Pareto-smoothed importance sampling.

Source: Vehtari, Gelman and Gabry 2017 (leave-one-out by PSIS); Merkle, Furr and Rabe-Hesketh 2019 (leaving out groups
whose own latents are integrated out).
"""

import dataclasses
import warnings
from collections.abc import Sequence

import arviz_base
import arviz_stats
import jax
import numpy as np
import pandas as pd

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.checks import Check
from bayes_prehoc.hierarchy.data import check_estimates, model_data
from bayes_prehoc.hierarchy.inference import sample
from bayes_prehoc.hierarchy.laws import LAWS
from bayes_prehoc.hierarchy.model import weak_prior
from bayes_prehoc.risk.estimates import RiskEstimates

__all__ = ["LawComparison", "compare_laws"]

FEWEST_TASKS = 3
RELIABLE = 0.7
"""Pareto shape of a task's importance weights above which its figure is not to be trusted."""


@dataclasses.dataclass(frozen=True, eq=False)
class LawComparison:
    """What `compare_laws` returns.

    Attributes
    ----------
    frame : DataFrame, indexed by law, the best first
        elpd, the expected log density of all tasks left out in turn, in nats, with standard error se; elpd_diff, how
        far below the best (negative), with standard error dse; weight, in a stacked mixture of the laws; p, the
        effective number of parameters; worst_k, the largest Pareto shape, and unreliable, at how many tasks it is
        above 0.7. A law whose fit did not converge has no figures.
    pointwise : DataFrame, tasks by laws
        Expected log density of each task.
    gates : mapping from law to tuple of Check
    """

    frame: pd.DataFrame
    pointwise: pd.DataFrame
    gates: dict[str, tuple[Check, ...]]


def compare_laws(estimates: RiskEstimates, *, laws: Sequence[str] = LAWS, seed: int = 0) -> LawComparison:
    """Compare laws of decay by how well each foretells a task from the others.

    Parameters
    ----------
    estimates : RiskEstimates
        Of one proxy, three tasks or more.
    laws : sequence of str, optional
        Of those of `hierarchy.laws`: "power", "no floor", "exponential", "stretched", "change point".
    seed : int, optional

    Returns
    -------
    LawComparison

    Raises
    ------
    InputError
        Fewer than three tasks or two laws, an unknown law, estimates that no model can be fitted to, or no fit that
        converged.
    """
    check_estimates(estimates, "compare_laws", seed)
    if len(estimates) < FEWEST_TASKS:
        raise InputError(f"{len(estimates)} tasks", "compare_laws", f"Give {FEWEST_TASKS} or more: one is left out.")
    unknown = [law for law in laws if law not in LAWS]
    if unknown or len(set(laws)) < 2:
        wrong = f"there is no law {unknown[0]!r}" if unknown else f"laws are {list(laws)!r}"
        raise InputError(wrong, "laws", f"Give two or more of: {', '.join(LAWS)}.")
    data, prior = model_data(estimates), weak_prior(estimates.proxy)
    found, gates = {}, {}
    for law in dict.fromkeys(laws):
        samples = sample(jax.random.key(int(seed)), data, prior, estimates.proxy, law=law)
        gates[law] = samples.checks
        if all(check.passed for check in samples.checks):
            found[law] = _left_out(samples.log_marginals, estimates)
    if not found:
        failed = next(check for checks in gates.values() for check in checks if not check.passed)
        raise InputError("no law's fit converged", "compare_laws", failed.advice)
    pointwise = pd.DataFrame({law: own.elpd_i.values for law, own in found.items()}, index=[t.task for t in estimates])
    return LawComparison(_table(found, gates), pointwise.rename_axis("task"), gates)


def _left_out(log_marginals, estimates):
    """ArviZ's figures of leaving out each task, from draws (chains, draws, T) of its log marginal likelihood."""
    draws = arviz_base.from_dict(
        {"posterior": {"total": log_marginals.sum(axis=-1)}, "log_likelihood": {"estimates": log_marginals}},
        coords={"task": [task.task for task in estimates]},
        dims={"estimates": ["task"]},
    )
    with warnings.catch_warnings():
        # Unreliable tasks are counted in the table.
        warnings.simplefilter("ignore")
        return arviz_stats.loo(draws, pointwise=True)


def _table(found, gates):
    if len(found) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compared = arviz_stats.compare(found, round_to="none")
    else:
        only = {law: {"elpd_diff": 0.0, "dse": 0.0, "weight": 1.0} for law in found}
        compared = pd.DataFrame.from_dict(only, orient="index")
    rows = []
    for law in (*compared.index, *(law for law in gates if law not in found)):
        row = {"law": law, "converged": law in found}
        if law in found:
            own, beside = found[law], compared.loc[law]
            shapes = np.asarray(own.pareto_k)
            row |= {"elpd": float(own.elpd), "se": float(own.se)}
            row |= {name: float(beside[name]) for name in ("elpd_diff", "dse", "weight")}
            row |= {"p": float(own.p), "worst_k": float(shapes.max()), "unreliable": int((shapes > RELIABLE).sum())}
        rows.append(row)
    return pd.DataFrame(rows).set_index("law")
