"""Sampling the collapsed model, and again with shorter steps where the gate was missed.

Before chains start, `placing` finds where the posterior of the hyperparameters lies. That gives them the proposal they
leap with and the metric of their trajectories (`chains`), so that warm-up has little to find. The tasks' latents are
drawn at the points that the chains leave.
"""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.chains import Chains
from bayes_prehoc.hierarchy.checks import GATE, Check, Gate, convergence, integration, of_leaps, of_trajectories
from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.evaluator import Evaluator, generator
from bayes_prehoc.hierarchy.laws import POWER
from bayes_prehoc.hierarchy.mixture import mixture_of_draws
from bayes_prehoc.hierarchy.model import Hyperprior
from bayes_prehoc.hierarchy.placing import Known, next_rule, place, quadrature_errors
from bayes_prehoc.hierarchy.start import find_reference, reference_of_draws
from bayes_prehoc.hierarchy.target import Target

__all__ = ["Sampler", "Samples", "sample"]

HOPELESS = 1.1
"""R-hat above which more draws from the same chains would not help."""
REPRESENTATIVE = 24
"""Draws at which the quadrature's error is computed."""
LENGTH_HELPS = {"r_hat", "ess_bulk", "ess_tail"}
"""Checks that more draws from the same chains can mend."""

_LEAST = {"chains": 2, "warmup": 1, "draws": 4, "extensions": 0, "attempts": 1}


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Settings of the chains.

    Attributes
    ----------
    chains, warmup, draws : int
        Warm-up and kept draws are per chain.
    target_accept : float
    extensions : int
        Chains that mix but are too short for the gate go on, by half of `draws` each time.
    attempts : int
        A run that misses the gate otherwise is made anew around the means of its own draws and with a proposal made
        from them, with twice the warm-up and a third of the distance of `target_accept` from 1; from the third on with
        trajectories. The last one stands.
    """

    chains: int = 4
    warmup: int = 100
    draws: int = 300
    target_accept: float = 0.95
    extensions: int = 8
    attempts: int = 3

    def __post_init__(self):
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise InputError(f"{name} is {value!r}", "Sampler", f"Give a whole number of at least {least}.")
        if not 0.0 < self.target_accept < 1.0:
            raise InputError(f"target_accept is {self.target_accept!r}", "Sampler", "Give a number between 0 and 1.")

    def harder(self) -> "Sampler":
        """Settings of the next attempt."""
        closer = 1.0 - (1.0 - self.target_accept) / 3.0
        return dataclasses.replace(self, warmup=2 * self.warmup, target_accept=closer)


DEFAULT = Sampler()


class Samples(NamedTuple):
    """What sampling left.

    Attributes
    ----------
    sites : mapping from site to array (chains, draws, ...)
        Hyperparameters (with `corr` (3, 3) for `corr_chol`), the tasks' latents, `noise` where there is any.
    statistics : mapping from name to array (chains, draws)
    log_marginals : array (chains, draws, T)
        Log likelihood of each task's estimates, its latents integrated out.
    checks : tuple of Check
    sampler : Sampler
        The settings of the attempt that stands.
    """

    sites: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    log_marginals: np.ndarray
    checks: tuple[Check, ...]
    sampler: Sampler


def sample(
    key,
    data: ModelData,
    prior: Hyperprior,
    proxy: str,
    sampler: Sampler = DEFAULT,
    gate: Gate = GATE,
    law: str = POWER,
) -> Samples:
    """Draws from the posterior, with the checks of the gate."""
    with_noise = bool(np.any((np.asarray(data.noise) > 0.0) | (np.asarray(data.noise_se) > 0.0)))
    target = Target(prior, proxy, with_noise, law)
    known = Known(find_reference(data, prior, proxy, law))
    with Evaluator(target) as evaluator:
        for attempt in range(sampler.attempts):
            own = jax.random.fold_in(key, attempt)
            made, learn = _attempt(own, known, evaluator, data, sampler, gate, with_trajectories=attempt > 1)
            if all(check.passed for check in made.checks):
                break
            known, sampler = learn(), sampler.harder()
    return made


def _attempt(
    key,
    known: Known,
    evaluator: Evaluator,
    data: ModelData,
    sampler: Sampler,
    gate: Gate,
    with_trajectories: bool = False,
):
    """Draws with their checks, and a function that gives what the next attempt may know."""
    place_key, run_key, latent_key = jax.random.split(key, 3)
    placed = place(place_key, known, evaluator, data)
    arguments = placed.arguments
    rng = generator(run_key)
    chains = Chains(rng, evaluator, placed, sampler.chains, sampler.target_accept, with_trajectories)
    chains.warm_up(sampler.warmup)

    kept = []
    for extension in range(sampler.extensions + 1):
        points, statistics = chains.draw(max(1, sampler.draws // 2) if extension else sampler.draws)
        sites = evaluator.sites(jax.random.fold_in(latent_key, extension), _flat(points), arguments)
        by_chain = {name: values.reshape(*points.shape[:2], *values.shape[1:]) for name, values in sites.items()}
        kept.append((points, by_chain, statistics))
        points, sites, statistics = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *kept)
        effective = sites.pop("effective")
        del sites["white"]
        checks = convergence(_judged(sites), gate)
        if chains.with_trajectories:
            checks += of_trajectories(statistics["diverging"], statistics["energy"], gate)
        else:
            checks += (of_leaps(statistics["log_weight"], gate),)
        failed = {check.name: check.value for check in checks if not check.passed}
        if not failed or not failed.keys() <= LENGTH_HELPS or failed.get("r_hat", 1.0) > HOPELESS:
            break
    errors = quadrature_errors(evaluator, _few(points), arguments)
    checks += integration(errors, _flat(effective), gate)

    def learn() -> Known:
        imprecise = any(check.name == "quadrature" and not check.passed for check in checks)
        too_coarse = next_rule(placed.rule) if imprecise else known.too_coarse
        x = _flat(points)[:, : placed.found.x.shape[1]]
        draws = {name: _flat(values) for name, values in sites.items()}
        return Known(reference_of_draws(draws, data), mixture_of_draws(x), too_coarse)

    del statistics["log_weight"]
    return Samples(sites, statistics, statistics.pop("by_task"), checks, sampler), learn


def _flat(values):
    """Draws with the chains joined, array (S, ...)."""
    return values.reshape(-1, *values.shape[2:])


def _few(points):
    """Draws that represent all of them, as many of each chain, array (S, Q)."""
    chains, draws = points.shape[:2]
    which = np.linspace(0, draws - 1, max(1, REPRESENTATIVE // chains)).astype(int)
    return _flat(points[:, which])


def _judged(sites):
    """What the gate looks at: every site, of the symmetric matrix its lower triangle."""
    lower = np.tril_indices(3, -1)
    return {name: values[..., lower[0], lower[1]] if name == "corr" else values for name, values in sites.items()}
