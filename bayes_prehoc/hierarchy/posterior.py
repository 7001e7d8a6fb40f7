"""The posterior of a fit: draws with labels, what they say of each task, and whether they may be believed.

Figures come in the task's own units: risk in the metric's unit squared, depth in the task's depth unit. A fit that did
not pass its gate gives no figures; a task whose estimates do not tell L_int apart from the decay gives none either.
"""

import dataclasses
import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.advice import fit_of_law, misfit_p_values, sensitivity_to_prior
from bayes_prehoc.hierarchy.basis import basis_of
from bayes_prehoc.hierarchy.checks import CENTRAL, Check, bits_learned
from bayes_prehoc.hierarchy.curves import Drift, RiskCurve
from bayes_prehoc.hierarchy.data import REFERENCE_DEPTH, model_data
from bayes_prehoc.hierarchy.likelihood import alpha_of_rate
from bayes_prehoc.hierarchy.mixing import CardWeight
from bayes_prehoc.hierarchy.model import (
    LATENTS,
    Hyperprior,
    prior_draws,
    shared_of,
    shared_of_tasks,
    shared_sites,
)
from bayes_prehoc.hierarchy.predict import drawn_drift, drawn_estimates, drawn_risk
from bayes_prehoc.risk.estimates import RiskEstimates, TaskEstimates

__all__ = ["Posterior"]

LEAST_BITS = 1.0
"""Bits that must be known about how U(c_0) is divided into L_int and what probing can remove."""
DRIFT_NODES = 48
"""Depths, log-spaced, at which the drift of a curve is drawn beside those that were fitted."""


@dataclasses.dataclass(frozen=True, eq=False)
class Posterior:
    """What `fit` returns.

    Attributes
    ----------
    draws : xarray.DataTree
        ArviZ groups `posterior` (hyperparameters; per task level, share, rate, alpha, L_int), `sample_stats` and
        `observed_data`.
    estimates : RiskEstimates
        What was fitted.
    gate : tuple of Check
    hyperprior : Hyperprior
        The prior on the hyperparameters.
    prior : str
        Its name in words.
    seed : int
    engine : str
        How it was sampled: "collapsed", the tasks' latents integrated out, or "joint", with all latents.
    card : CardWeight or None
        Of a fit under a prior card, what the estimates say of it.
    """

    draws: xr.DataTree
    estimates: RiskEstimates
    gate: tuple[Check, ...]
    hyperprior: Hyperprior
    prior: str
    seed: int
    engine: str = "collapsed"
    card: CardWeight | None = None

    def __repr__(self):
        state = "converged" if self.converged else "NOT converged"
        return f"Posterior of {len(self.estimates)} tasks, proxy {self.proxy}, {state}"

    @property
    def proxy(self) -> str:
        """The proxy that was fitted."""
        return self.estimates.proxy

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(task.task for task in self.estimates)

    @property
    def converged(self) -> bool:
        """Whether every check of the gate passed."""
        return all(check.passed for check in self.gate)

    @property
    def misfit(self) -> Float[np.ndarray, " S"]:
        """Draws of omega: how far estimates lie off the curves beyond their sampling error, in log risk."""
        return self._flat("misfit").ravel()

    @property
    def drift(self) -> Float[np.ndarray, " S"] | None:
        """Draws of delta, the standard deviation of a random walk off the law, in log risk and per root of log depth.

        None for the proxies of remaining risk, which have none.
        """
        return self._flat("drift").ravel() if self.proxy == "run_to_run" else None

    def checks(self) -> pd.DataFrame:
        """All checks, indexed by check: gate, passed, value, threshold, worst (the quantity), advice.

        Those of the gate decide whether there are answers. The others, which a posterior that converged has, decide
        nothing: the prior's say about the population, whether a prior card conflicts with the estimates, whether the
        law fits every task, and what was learned of the task that tells least of itself (see `status`).
        """
        rows = [{"gate": True} | check._asdict() for check in self.gate]
        rows += [{"gate": False} | check._asdict() for check in self._advice]
        return pd.DataFrame(rows).rename(columns={"name": "check"}).set_index("check")

    def status(self, task: str) -> str:
        """Whether the task has an answer: "ok", "not_identified" or "not_converged".

        Not identified: the estimates, with what the other tasks say, do not tell L_int apart from the decay. Of the two
        parts of U(c_0), L_int and what probing can remove, neither is known to half the width of its 90% interval under
        the weak prior, in logarithms and given U(c_0).

        Raises
        ------
        InputError
            No such task.
        """
        row = self._row(task)
        if not self.converged:
            return "not_converged"
        return "ok" if self._bits["share"][row] >= LEAST_BITS else "not_identified"

    def summary(self) -> pd.DataFrame:
        """One row per task: status, then medians with 90% intervals (`_lower`, `_upper`) of L_int, alpha, K (run_to_run
        only), U(c_0) and the share of L_int in it, and the bits learned about share and alpha.

        Figures are NaN where the fit did not converge or the task is not identified.
        """
        rows = []
        for row, estimates in enumerate(self.estimates):
            status = self.status(estimates.task)
            curve = self.curve(estimates.task)
            u0 = curve.l_int + curve.reducible
            figures = {"L_int": curve.l_int, "alpha": curve.alpha, "U_c0": u0, "share": curve.l_int / u0}
            if curve.horizon is None:
                figures["K"] = curve.reducible * (curve.reference + curve.onset) ** curve.alpha
            cells = {"task": estimates.task, "status": status, "metric": estimates.metric}
            for name, draws in figures.items():
                lower, median, upper = np.quantile(draws, (CENTRAL[0], 0.5, CENTRAL[1]))
                told = status == "ok"
                cells |= {
                    name: median if told else np.nan,
                    f"{name}_lower": lower if told else np.nan,
                    f"{name}_upper": upper if told else np.nan,
                }
            bits = {f"bits_{name}": self._bits[name][row] if self.converged else np.nan for name in self._bits}
            rows.append(cells | bits)
        return pd.DataFrame(rows).set_index("task")

    def effects(self) -> pd.DataFrame:
        """What tells tasks apart before any of their runs: one row for each family and descriptor, and latent.

        Indexed by `of` ("family" or "descriptor"), name and latent: median with 90% interval of how far it moves level,
        share or rate off the mean of all tasks. Of a descriptor it is by one standard deviation of it, or of its
        logarithm where it is positive everywhere. No rows where the model has neither (`hierarchy.basis`); NaN where
        the fit did not converge.
        """
        posterior, parts = self.draws["posterior"], []
        if "family_white" in posterior:
            effect = self._flat("tau_family")[:, None] * self._flat("family_white")
            parts.append(("family", posterior["family"].values, effect))
        if "slope_white" in posterior:
            covariates = basis_of(self.estimates).covariates
            white = self._flat("slope_white")
            slopes = self._flat("sway")[:, None] * white / np.sqrt(white.shape[1])
            parts.append(("descriptor", covariates.names, covariates.into @ slopes))
        rows = []
        for of, names, draws in parts:
            lower, median, upper = np.quantile(draws, (CENTRAL[0], 0.5, CENTRAL[1]), axis=0)
            for row, name in enumerate(names):
                for place, latent in enumerate(LATENTS):
                    figures = (own[row, place] if self.converged else np.nan for own in (median, lower, upper))
                    rows.append((of, name, latent, *figures))
        columns = ["of", "name", "latent", "median", "lower", "upper"]
        return pd.DataFrame(rows, columns=columns).set_index(columns[:3])

    def curve(self, task: str) -> RiskCurve:
        """All draws of a task's risk curve under the law, whatever its status.

        Raises
        ------
        InputError
            No such task.
        """
        row = self._row(task)
        estimates = self.estimates.tasks[row]
        level, share, rate = (self._flat(name)[:, row] for name in ("level", "share", "rate"))
        u0 = np.exp(level) * estimates.scale**2
        return RiskCurve(
            l_int=u0 / (1.0 + np.exp(-share)),
            reducible=u0 / (1.0 + np.exp(share)),
            reference=REFERENCE_DEPTH * estimates.horizon,
            alpha=np.asarray(alpha_of_rate(rate, self.proxy), np.float64),
            onset=np.exp(self._shared("log_onset", row)) * estimates.horizon,
            horizon=None if self.proxy == "run_to_run" else estimates.horizon,
            noise=self._flat("noise")[:, row] * estimates.scale**2 if estimates.has_noise else None,
        )

    def drifted_curve(self, task: str) -> RiskCurve:
        """All draws of a task's risk curve as it is: of `run_to_run` with the drift off the law; else `curve`.

        The drift that the estimates show lasts beyond them, and is nothing at the horizon. It is drawn from the
        posterior's own seed, so it is the same whenever it is asked for.

        Raises
        ------
        InputError
            No such task.
        """
        row, curve = self._row(task), self.curve(task)
        estimates = self.estimates.tasks[row]
        if self.proxy != "run_to_run":
            return curve
        log_spaced = np.geomspace(0.5 * estimates.c_min, estimates.horizon, DRIFT_NODES)[:-1]
        depths = np.unique(np.append(log_spaced, (*estimates.depths, estimates.horizon)))
        depth = jnp.asarray(depths / estimates.horizon)[:, None]
        # A stream of its own for each task, apart from those of the sampler.
        key = jax.random.fold_in(jax.random.key(self.seed), zlib.crc32(f"drift of {task}".encode()))
        drawn = drawn_drift(key, *self._given(task), depth)
        return curve._replace(drift=Drift(depths, drawn.T))

    def shared(self, task: str) -> dict[str, Float[np.ndarray, " S"]]:
        """Draws of what the likelihood of a task's estimates needs beside its curve, by `hierarchy.model.shared_sites`.

        Raises
        ------
        InputError
            No such task.
        """
        row = self._row(task)
        return {name: self._shared(name, row) for name in shared_sites(self.proxy)}

    def predict_risk(self, task: str, depths, n_seeds: int | None = None, *, seed: int = 0) -> Float[np.ndarray, "S D"]:
        """Draws of the risk at some depths, or of what a new set of runs would show there.

        For run_to_run it is the law's curve with the drift that the estimates show, which lasts beyond them.

        Parameters
        ----------
        task : str
        depths : sequence of float (D,)
            In the task's unit, positive and increasing; up to the horizon unless the proxy is run_to_run.
        n_seeds : int, optional
            Give the estimates that this many new runs would show, with their sampling error, their dependence along
            depth, the model's misfit and the outcome set's noise. Default: the risk itself, without any of them.
        seed : int
            Of the drift and the sampling error.

        Returns
        -------
        float64 array (S, D), the metric's unit squared

        Raises
        ------
        InputError
            No such task, or impossible depths or n_seeds.
        """
        row = self._row(task)
        estimates = self.estimates.tasks[row]
        depth = jnp.asarray(_checked_depths(depths, estimates, self.proxy) / estimates.horizon)
        depth = depth[:, None]
        latents, shared, data = self._given(task)
        key = jax.random.key(seed)
        if n_seeds is None:
            return np.exp(drawn_risk(key, latents, shared, data, depth, self.proxy)).T * estimates.scale**2
        if isinstance(n_seeds, bool) or not isinstance(n_seeds, int | np.integer) or n_seeds < 2:
            raise InputError(f"n_seeds is {n_seeds!r}", "predict_risk", "Give a whole number of at least 2.")
        noise = self._flat("noise")[:, row] if estimates.has_noise else np.zeros(len(self.misfit))
        dof, noise = _dof(estimates, int(n_seeds)), jnp.asarray(noise)[None]
        drawn = drawn_estimates(key, latents, shared, noise, data, depth, dof, self.proxy)
        return np.exp(drawn).T * estimates.scale**2

    def update(self, estimates: RiskEstimates, *, seed: int = 0) -> "Posterior":
        """What this posterior says of other tasks, or of more runs or depths of its own, without another fit.

        Each task by itself: the draws of the hyperparameters are weighted by what its estimates say of them, and its
        latents drawn (`hierarchy.reweigh`). That is what a fit with this one task in addition would give, or, of a task
        of the same name as a fitted one, a fit in which its new estimates take the place of the old. What several new
        tasks say together of the population needs a fit.

        Parameters
        ----------
        estimates : RiskEstimates
            Of the same proxy; kinds of metric that were fitted before.
        seed : int

        Returns
        -------
        Posterior
            Of these tasks alone, which `plan` takes. Those of which the posterior cannot tell without a fit are set
            aside with the reason.

        Raises
        ------
        InputError
            This posterior did not converge or is itself an update, the proxy or a kind of metric is another, runs are
            the same as those of a task of another name, or no task can be updated.
        """
        from bayes_prehoc.hierarchy.update import update_posterior

        return update_posterior(self, estimates, seed)

    def expect(
        self,
        task: str,
        *,
        scale: float,
        horizon: float,
        metric: str | None = None,
        family: str | None = None,
        descriptors: dict[str, float] | None = None,
        seed: int = 0,
    ) -> "Posterior":
        """What this posterior expects of a task that nobody has probed, from what is known before any run.

        Parameters
        ----------
        task : str
            Its name.
        scale : float
            Of the outcome, in the metric's unit: |mean R| that is expected.
        horizon : float
            c_T, in the unit of the fitted tasks' depths.
        metric : str, optional
            Of a kind (accuracy, loss, other) that was fitted. Default: that of the first task.
        family : str, optional
            Where families are a level of the model, one that was not fitted is drawn from the population of families.
        descriptors : dict of float by name, optional
            Those that are missing count as average.
        seed : int

        Returns
        -------
        Posterior
            Of this task alone.

        Raises
        ------
        InputError
            This posterior did not converge or is itself an update, the name is that of a fitted task, no task with a
            metric of the kind was fitted, or scale or horizon is not a positive number.
        """
        from bayes_prehoc.hierarchy.update import expected_task

        given = {"scale": scale, "horizon": horizon, "metric": metric, "family": family, "descriptors": descriptors}
        return self.update(expected_task(self, task, **given), seed=seed)

    def save(self, path) -> None:
        """Write draws, estimates and checks to one netCDF file, which `load_posterior` reads.

        Raises
        ------
        InputError
            The folder does not exist or cannot be written.
        """
        from bayes_prehoc.hierarchy.files import save_posterior

        save_posterior(self, path)

    def _given(self, task):
        """Draws of a task's latents and of what its likelihood needs besides, arrays (1, S), and its estimates."""
        row = self._row(task)
        latents = tuple(jnp.asarray(self._flat(name)[:, row])[None] for name in LATENTS)
        shared = shared_of({name: jnp.asarray(values)[None] for name, values in self.shared(task).items()})
        return latents, shared, model_data(RiskEstimates(self.proxy, (self.estimates.tasks[row],)))

    @functools.cached_property
    def _advice(self) -> tuple[Check, ...]:
        if not self.converged:
            return ()
        names = [name for name in (*LATENTS, "noise") if name in self.draws["posterior"]]
        p_values = misfit_p_values({name: self._flat(name) for name in names} | self._of_tasks, self.estimates)
        least = int(np.argmin(self._bits["share"]))
        told = float(self._bits["share"][least])
        advice = "L_int and the decay of this task cannot be told apart: observe more runs of it, or deeper ones."
        found = (
            fit_of_law(p_values, self.tasks),
            Check("bits_learned", told >= LEAST_BITS, told, LEAST_BITS, f"task {self.tasks[least]}", advice),
        )
        if self.card is not None:
            found = (self.card.check, *found)
        # An update has no draws of the population.
        return (sensitivity_to_prior(self.draws, self.proxy), *found) if "log_prior" in self.draws.children else found

    @functools.cached_property
    def _bits(self) -> dict[str, np.ndarray]:
        """Bits learned about the division of U(c_0), the larger of its two parts' figures, and about alpha; each (T,).

        A part is judged by its logarithm. On the scale of the share itself a task of which nearly all is reducible, or
        nearly nothing, would have to be known to a few percent of U(c_0) to count as known.
        """
        share, rate = prior_draws(self.hyperprior)
        drawn = self._flat("share")
        parts = [bits_learned(_log_sigmoid(sign * drawn), _log_sigmoid(sign * share)) for sign in (1.0, -1.0)]
        return {
            "share": np.maximum(*parts),
            "alpha": bits_learned(_sigmoid(self._flat("rate")), _sigmoid(rate)),
        }

    def _flat(self, name) -> np.ndarray:
        """Draws of a site, chains joined; float64 array (S, ...)."""
        if name not in self._joined:
            values = self.draws["posterior"][name].values
            self._joined[name] = values.reshape(-1, *values.shape[2:]).astype(np.float64)
        return self._joined[name]

    @functools.cached_property
    def _joined(self) -> dict[str, np.ndarray]:
        """What `_flat` has given: with thousands of tasks it is asked thousands of times."""
        return {}

    def _shared(self, name, row) -> np.ndarray:
        """Draws (S,) of what the task's likelihood needs beside its latents."""
        values = self._of_tasks[name]
        return values if values.ndim == 1 else values[:, row]

    @functools.cached_property
    def _of_tasks(self) -> dict[str, np.ndarray]:
        """By `model.shared_sites`, draws (S,) of what all tasks share or (S, T) of what each has of its own."""
        names = (*shared_sites(self.proxy), "family_onset", "family_misfit")
        sites = {name: self._flat(name) for name in names if name in self.draws["posterior"]}
        family = model_data(self.estimates).family if "family_onset" in sites else np.zeros((len(self.estimates), 0))
        return shared_of_tasks(sites, self.proxy, np.asarray(family))

    def _row(self, task) -> int:
        if task not in self._places:
            # Complains with the names of the tasks.
            self.estimates[task]
        return self._places[task]

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {task: row for row, task in enumerate(self.tasks)}


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def _log_sigmoid(x):
    return -np.logaddexp(0.0, -x)


def _dof(estimates: TaskEstimates, n_seeds: int) -> float:
    """Degrees of freedom of an estimate from `n_seeds` runs with the kurtosis that the task's runs have."""
    n, nu = estimates.n_runs, float(np.median(estimates.nu))
    excess = max(n * (2.0 / nu - 2.0 / (n - 1.0)), 0.0)
    return 2.0 / (excess / n_seeds + 2.0 / (n_seeds - 1.0))


def _checked_depths(depths, estimates, proxy):
    where = f"predict_risk, task {estimates.task!r}"
    try:
        depths = np.atleast_1d(np.asarray(depths, np.float64))
    except (TypeError, ValueError):
        raise InputError(f"depths are {depths!r}", where, "Give numbers in the task's depth unit.") from None
    if depths.ndim != 1 or not len(depths) or not np.all(depths > 0.0) or not np.all(np.isfinite(depths)):
        raise InputError("depths must be positive numbers", where, f"Give them in {estimates.depth_unit}s.")
    if np.any(np.diff(depths) <= 0.0):
        raise InputError("depths do not increase", where, "Sort them and drop duplicates.")
    if proxy != "run_to_run" and depths[-1] > estimates.horizon * (1.0 + 1e-9):
        raise InputError(
            f"depth {depths[-1]:g} lies beyond the horizon {estimates.horizon:g}",
            where,
            "A run ends there; give depths up to it.",
        )
    return depths
