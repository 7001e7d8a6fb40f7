"""Sampling by one of two engines, and again with shorter steps where the gate was missed.

Up to `MOST_BY_LEAPS` hyperparameters are sampled with the tasks' latents integrated out (`collapsed`, `chains`); more,
which families and covariates make, together with all latents (`joint`).

Of the first engine: before chains start, `placing` finds where the posterior of the hyperparameters lies. That gives
leap with and the metric of their trajectories (`chains`), so that warm-up has little to find. The tasks' latents are
drawn at the points that the chains leave.
"""

import dataclasses
import logging
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.chains import Chains
from bayes_prehoc.hierarchy.checks import GATE, Check, Gate, convergence, integration, of_leaps, of_trajectories
from bayes_prehoc.hierarchy.collapsed import RULES, fitted_frame, groups_by_depths
from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.evaluator import Evaluator, generator
from bayes_prehoc.hierarchy.evidence import Evidence, evidence_at
from bayes_prehoc.hierarchy.joint import Adaptation, JointChains
from bayes_prehoc.hierarchy.laws import POWER
from bayes_prehoc.hierarchy.model import LATENTS, Hyperprior
from bayes_prehoc.hierarchy.placing import Known, place
from bayes_prehoc.hierarchy.precision import fine_enough, next_rule, quadrature_errors
from bayes_prehoc.hierarchy.proposal import proposal_of_draws
from bayes_prehoc.hierarchy.start import Reference, find_reference, reference_of_draws
from bayes_prehoc.hierarchy.target import Arguments, Target, flat_values
from bayes_prehoc.hierarchy.tilt import Tilt

__all__ = ["ENGINES", "Sampler", "Samples", "sample", "sampled_target"]

logger = logging.getLogger(__name__)

HOPELESS = 1.1
"""R-hat above which more draws from the same chains would not help."""
MOST_BY_LEAPS = 20
"""Hyperparameters. In more dimensions few leaps land, and trajectories cost less where latents are not integrated."""
JOINT_WARMUP = 4
"""How many times longer a warm-up is that must find the posterior and its metric by itself."""
JOINT_STRIDE = 2.0
"""How many times farther from 1 the acceptance is there: longer steps are enough in coordinates as even as these."""
SHORTER = 5
"""How many times shorter warm-up is of chains that a coarser rule leads: exploring has told more of where they are."""
REPRESENTATIVE = 24
"""Draws at which the quadrature's error is computed."""
COLLAPSED, JOINT = ENGINES = ("collapsed", "joint")
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


class _Drawn(NamedTuple):
    """Where chains were, sites and statistics there, arrays (C, S, ...)."""

    places: object
    sites: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]


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
    engine : str
        One of `ENGINES`.
    x : array (chains, draws, P)
        The hyperparameters in the coordinates of `target`.
    evidence : Evidence or None
        Where it was asked for.
    """

    sites: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    log_marginals: np.ndarray
    checks: tuple[Check, ...]
    sampler: Sampler
    engine: str
    x: np.ndarray
    evidence: Evidence | None = None


class _Further(NamedTuple):
    """What follows from draws if it is asked for: what the next attempt may know, and the evidence."""

    known: Callable[[], Known]
    evidence: Callable[[np.random.Generator], Evidence]


def sample(
    key,
    data: ModelData,
    prior: Hyperprior,
    proxy: str,
    sampler: Sampler = DEFAULT,
    gate: Gate = GATE,
    law: str = POWER,
    engine: str | None = None,
    tilt: Tilt | None = None,
    with_evidence: bool = False,
) -> Samples:
    """Draws from the posterior, with the checks of the gate; by the engine that the number of hyperparameters asks for,
    unless one is named.

    The prior is tilted towards a card by `tilt`; where it is None it is `prior`.
    """
    target = sampled_target(data, prior, proxy, law)
    known = Known(find_reference(data, prior, proxy, law))
    size = len(flat_values(known.reference, prior, proxy, data))
    engine = engine or ENGINES[size > MOST_BY_LEAPS]
    attempt_by = dict(zip(ENGINES, (_by_leaps, _jointly), strict=True))[engine]
    with Evaluator(target, tilt) as evaluator:
        for attempt in range(sampler.attempts):
            own = jax.random.fold_in(key, attempt)
            made, further = attempt_by(own, known, evaluator, data, sampler, gate, attempt)
            missed = [f"{check.name} {check.value:.4g} ({check.worst})" for check in made.checks if not check.passed]
            logger.info("attempt %d: %s", attempt + 1, f"missed {', '.join(missed)}" if missed else "passed the gate")
            if not missed:
                break
            if attempt + 1 < sampler.attempts:
                known, sampler = further.known(), sampler.harder()
        if with_evidence:
            made = made._replace(evidence=further.evidence(generator(jax.random.fold_in(key, sampler.attempts))))
    return made


def sampled_target(data: ModelData, prior: Hyperprior, proxy: str, law: str = POWER) -> Target:
    """The posterior of these estimates; outcome sets have noise where it is known of any."""
    with_noise = bool(np.any((np.asarray(data.noise) > 0.0) | (np.asarray(data.noise_se) > 0.0)))
    return Target(prior, proxy, with_noise, law)


def _by_leaps(
    key, known: Known, evaluator: Evaluator, data: ModelData, sampler: Sampler, gate: Gate, attempt: int
) -> tuple[Samples, _Further]:
    """Draws with their checks, and what follows from them."""
    place_key, run_key, latent_key = jax.random.split(key, 3)
    placed = place(place_key, known, evaluator, data)
    arguments = placed.arguments
    rng = generator(run_key)
    chains = Chains(rng, evaluator, placed, sampler.chains, sampler.target_accept, with_trajectories=attempt > 1)
    chains.warm_up(max(1, sampler.warmup // SHORTER) if placed.rough else sampler.warmup)

    def draw(extension: int, number: int) -> _Drawn:
        points, statistics = chains.draw(number)
        sites = evaluator.sites(jax.random.fold_in(latent_key, extension), _flat(points), arguments)
        by_chain = {name: values.reshape(*points.shape[:2], *values.shape[1:]) for name, values in sites.items()}
        del by_chain["white"]
        return _Drawn(points, by_chain, statistics)

    def judge(drawn: _Drawn) -> tuple[Check, ...]:
        statistics = drawn.statistics
        if chains.with_trajectories:
            return of_trajectories(statistics["diverging"], statistics["energy"], gate)
        return (of_leaps(statistics["log_weight"], gate),)

    drawn, checks = _enough(draw, judge, sampler, gate)
    points, sites, statistics = drawn
    errors = quadrature_errors(evaluator, _few(points), arguments)
    checks += integration(errors, _flat(sites.pop("effective")), gate)

    x = points[..., : placed.found.x.shape[1]]

    def learn() -> Known:
        imprecise = any(check.name == "quadrature" and not check.passed for check in checks)
        too_coarse = next_rule(placed.rule) if imprecise else known.too_coarse
        return Known(_reference(sites, data), proposal_of_draws(_flat(x)), too_coarse)

    def evidence(rng) -> Evidence:
        return evidence_at(rng, evaluator, arguments, points, x.shape[2])

    del statistics["log_weight"]
    made = Samples(sites, statistics, statistics.pop("by_task"), checks, sampler, COLLAPSED, x)
    return made, _Further(learn, evidence)


def _jointly(
    key, known: Known, evaluator: Evaluator, data: ModelData, sampler: Sampler, gate: Gate, attempt: int
) -> tuple[Samples, _Further]:
    """As `_by_leaps`; what is known is the reference alone."""
    del attempt
    target = evaluator.target
    x = flat_values(known.reference, target.prior, target.proxy, data)
    chains = JointChains(key, evaluator, data, known.reference.latents, x, sampler.chains)
    acceptance = 1.0 - JOINT_STRIDE * (1.0 - sampler.target_accept)
    chains.warm_up(Adaptation(JOINT_WARMUP * sampler.warmup, acceptance))

    def draw(extension: int, number: int) -> _Drawn:
        places, statistics = chains.draw(number)
        return _Drawn(places, chains.sites(places), statistics)

    def judge(drawn: _Drawn) -> tuple[Check, ...]:
        return of_trajectories(drawn.statistics["diverging"], drawn.statistics["energy"], gate)

    (places, sites, statistics), checks = _enough(draw, judge, sampler, gate)
    frame = fitted_frame(chains.start, _flat(places.white))
    points = _flat(places.point)
    arguments = Arguments.by_rule(groups_by_depths(data, frame), data, RULES[0])
    some = points[np.linspace(0, len(points) - 1, 4 * len(x)).astype(int)]
    arguments, _ = fine_enough(evaluator, some, arguments, np.cov(points[:, : len(x)].T), RULES)
    log_marginals = evaluator.densities(points, arguments).by_task.reshape(*places.x.shape[:2], -1)

    def evidence(rng) -> Evidence:
        return evidence_at(rng, evaluator, arguments, places.point, len(x))

    made = Samples(sites, statistics, log_marginals, checks, sampler, JOINT, places.x)
    return made, _Further(lambda: Known(_reference(sites, data)), evidence)


def _enough(draw: Callable, judge: Callable, sampler: Sampler, gate: Gate) -> tuple[_Drawn, tuple[Check, ...]]:
    """Draws, more of them as long as more would mend what the gate misses, and its checks.

    `draw` takes the number of the extension and of draws, `judge` gives the engine's own checks.
    """
    kept = []
    for extension in range(sampler.extensions + 1):
        kept.append(draw(extension, max(1, sampler.draws // 2) if extension else sampler.draws))
        drawn = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *kept)
        sites = {name: values for name, values in drawn.sites.items() if name != "effective"}
        shared, of_tasks = _judged(sites)
        checks = convergence(shared, gate)
        if all(check.passed for check in checks):
            # Of many tasks this takes as long as some draws.
            checks = convergence(shared | of_tasks, gate)
        checks += judge(drawn)
        failed = {check.name: check.value for check in checks if not check.passed}
        logger.info("%d draws of each chain: R-hat %.4f", sites["tau"].shape[1], checks[0].value)
        if not failed or not failed.keys() <= LENGTH_HELPS or failed.get("r_hat", 1.0) > HOPELESS:
            break
    return drawn, checks


def _reference(sites, data: ModelData) -> Reference:
    return reference_of_draws({name: _flat(values) for name, values in sites.items()}, data)


def _flat(values):
    """Draws with the chains joined, array (S, ...)."""
    return values.reshape(-1, *values.shape[2:])


def _few(points):
    """Draws that represent all of them, as many of each chain, array (S, Q)."""
    chains, draws = points.shape[:2]
    which = np.linspace(0, draws - 1, max(1, REPRESENTATIVE // chains)).astype(int)
    return _flat(points[:, which])


def _judged(sites):
    """What the gate looks at: every site, of the symmetric matrix its lower triangle; those of tasks by themselves."""
    lower = np.tril_indices(3, -1)
    found = {name: values[..., lower[0], lower[1]] if name == "corr" else values for name, values in sites.items()}
    of_tasks = {name: found.pop(name) for name in (*LATENTS, "noise") if name in found}
    return found, of_tasks
