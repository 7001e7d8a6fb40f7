"""Simulation-based calibration: are the posteriors those of the model, for data of a given design?

Truth is drawn from the prior, estimates from the likelihood given the truth, and the model is fitted to them as `fit`
does. If all is right, then among thinned draws of the posterior the truth has every rank with the same probability, for
every quantity, the log likelihood among them, which sees errors that single parameters hide.

Ranks are held against uniform ones by Kolmogorov's statistic, and folded about the middle rank too, which sees
intervals that are too narrow or too wide; levels are divided by the number of tests.

Sources: Talts et al. 2018 (ranks), Modrak et al. 2023 (the log likelihood among the quantities).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy import stats

from bayes_prehoc.hierarchy.inference import sample
from bayes_prehoc.hierarchy.model import (
    LATENTS,
    shared_of,
    shared_of_tasks,
    shared_sites,
    task_log_likelihood,
    weak_prior,
)
from bayes_prehoc.hierarchy.simulate import draw_estimates, draw_truth
from bayes_prehoc.risk.estimates import SHALLOWEST

__all__ = ["RANKS", "Design", "Ranked", "rank_of_truth", "uniformity"]

RANKS = 100
"""Ranks there are: one more than thinned draws."""


class Design(NamedTuple):
    """Tasks, depths and runs that are simulated, the proxy, and numbers of families and covariates."""

    tasks: int
    depths: int
    n_seeds: int
    proxy: str = "run_to_run"
    families: int = 0
    covariates: int = 0


class Ranked(NamedTuple):
    """Rank of the truth among the draws, 0 to `RANKS` - 1, by quantity, and the checks of the gate that failed."""

    ranks: dict[str, int]
    failed: tuple[str, ...]


def rank_of_truth(key, design: Design) -> Ranked:
    """Simulate and fit once, with the weak prior. A fit that fails the gate is ranked too.

    Parameters
    ----------
    key : jax key
    design : Design
    """
    truth_key, data_key, fit_key, tie_key = jax.random.split(key, 4)
    prior = weak_prior(design.proxy)
    kind = np.ones((design.tasks, 1))
    depth = np.tile(np.geomspace(SHALLOWEST, 1.0, design.depths), (design.tasks, 1))
    own = np.arange(design.tasks)[:, None] % max(design.families, 1)
    family = np.asarray(own == np.arange(design.families), float)
    covariates = np.random.default_rng(0).normal(size=(design.tasks, design.covariates))
    truth = draw_truth(truth_key, prior, design.proxy, kind, family, covariates)
    dof = np.full(depth.shape, design.n_seeds - 1.0)
    columns = {"family": family, "covariates": covariates}
    data = draw_estimates(data_key, truth, depth, dof, kind, design.proxy, **columns)
    samples = sample(fit_key, data, prior, design.proxy)

    drawn = {name: values.reshape(-1, *values.shape[2:]) for name, values in samples.sites.items()}
    thinned = np.linspace(0, len(drawn["misfit"]) - 1, RANKS - 1).round().astype(int)
    drawn = {name: np.asarray(values[thinned], np.float64) for name, values in drawn.items()}
    true = {name: np.asarray(value, np.float64) for name, value in truth.sites.items()}
    true["corr"] = true.pop("corr_chol") @ truth.corr_chol.T
    as_draw = {name: value[None] for name, value in true.items()}
    quantities = _quantities(drawn, data, design.proxy), _quantities(as_draw, data, design.proxy)
    uniform = np.random.default_rng(np.asarray(jax.random.key_data(tie_key)))
    ranks = {}
    for name, own in quantities[0].items():
        below, equal = (own < quantities[1][name]).sum(), (own == quantities[1][name]).sum()
        ranks[name] = int(below + uniform.integers(0, equal + 1))
    return Ranked(ranks, tuple(check.name for check in samples.checks if not check.passed))


def _quantities(sites, data, proxy):
    """What is ranked, arrays (S,): hyperparameters, latents of the first task, and the log likelihood of all tasks."""
    names = shared_sites(proxy)
    found = {name: sites[name] for name in ("mu_share", "mu_rate", *names)}
    found["mu_level"] = sites["mu_level"][:, 0]
    found |= {f"tau_{name}": sites["tau"][:, i] for i, name in enumerate(LATENTS)}
    for i, j in zip(*np.tril_indices(len(LATENTS), -1), strict=True):
        found[f"corr_{LATENTS[j]}_{LATENTS[i]}"] = sites["corr"][:, i, j]
    found |= {name: sites[name][:, 0] for name in LATENTS}
    for name in ("tau_family", "sway"):
        found |= {f"{name}_{own}": sites[name][:, i] for i, own in enumerate(LATENTS) if name in sites}
    for name in ("family_white", "slope_white"):
        found |= {f"{name}_{own}": sites[name][:, 0, i] for i, own in enumerate(LATENTS) if name in sites}
    found |= {name: sites[name][:, 0] for name in ("family_onset", "family_misfit") if name in sites}
    latents = tuple(jnp.asarray(sites[name].T, jnp.float32) for name in LATENTS)
    of_each = shared_of_tasks(sites, proxy, np.asarray(data.family)).items()
    shared = shared_of({name: jnp.asarray(np.atleast_2d(value.T), jnp.float32) for name, value in of_each})
    by_task = task_log_likelihood(latents, shared, jnp.zeros(len(data.noise)), data, proxy)
    found["log_likelihood"] = np.asarray(by_task, np.float64).sum(axis=0)
    return found


def uniformity(ranks: Sequence[Mapping[str, int]], level: float = 0.01) -> pd.DataFrame:
    """Whether ranks of many simulations are uniform.

    Parameters
    ----------
    ranks : sequence of mappings from quantity to rank
        `Ranked.ranks` of each simulation.
    level : float, optional
        Probability that any quantity fails where all is right.

    Returns
    -------
    DataFrame, indexed by quantity
        mean rank over the largest; distance and folded, Kolmogorov's statistics; p_value, the smaller of their two;
        passed, by the level divided by the number of tests.
    """
    frame = pd.DataFrame(ranks)
    shares = (frame + 0.5) / RANKS
    rows = []
    for name in frame:
        plain = stats.kstest(shares[name], "uniform")
        folded = stats.kstest(np.abs(2.0 * shares[name] - 1.0), "uniform")
        p_value = float(min(plain.pvalue, folded.pvalue))
        rows.append(
            {
                "quantity": name,
                "mean": float(shares[name].mean()),
                "distance": float(plain.statistic),
                "folded": float(folded.statistic),
                "p_value": p_value,
                "passed": p_value >= level / (2 * frame.shape[1]),
            }
        )
    return pd.DataFrame(rows).set_index("quantity")
