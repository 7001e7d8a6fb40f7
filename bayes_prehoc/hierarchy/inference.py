"""Sampling the collapsed model with NUTS, and again with shorter steps where the gate was missed.

Warm-up is also when the points of quadrature are put in place (`collapsed.Frame`). Its first third finds where the
posterior lies, and the means of its draws become the point of expansion; the second third tells where each task's
latents lie in those coordinates; before the last, the coarsest rule that is fine enough is chosen.

Between the steps of NUTS the hyperparameters leap (`leaps`), with a proposal made from the warm-up: the posterior can
have modes that NUTS does not cross between. Chains start far apart, so that they find them.

On a CPU each chain is a program of its own and chains run in threads, one per core: in lock-step the longest trajectory
would set the pace of all. On an accelerator the chains are one batch. Either way sampling goes in blocks of draws, so
that it shows how far it is and can be interrupted.

Source of the sampler: Hoffman and Gelman 2014, in NumPyro; dense mass matrix over the hyperparameters.
"""

import dataclasses
import functools
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree
from numpyro.infer import NUTS
from numpyro.infer.util import potential_energy
from tqdm.auto import tqdm

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.checks import GATE, Check, Gate, convergence, integration
from bayes_prehoc.hierarchy.collapsed import (
    RULES,
    coarsest_rule,
    collapsed_model,
    draw_latents,
    fitted_frame,
    groups_by_depths,
    plain_frame,
    quadrature,
    quadrature_errors,
)
from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.leaps import Proposal, leap, proposal_of_draws, wide_proposal
from bayes_prehoc.hierarchy.model import HYPERPARAMETERS, LATENTS, Hyperprior, population_of
from bayes_prehoc.hierarchy.start import Reference, find_reference, reference_of_draws

__all__ = ["Sampler", "Samples", "sample"]

START_JITTER = 0.5
STATISTICS = ("diverging", "energy", "num_steps", "accept_prob")
BLOCK = 50
"""Draws per call of the compiled program; warm-up and draws are multiples of it."""
HOPELESS = 1.1
"""R-hat above which more draws from the same chains would not help."""
REPRESENTATIVE = 24
"""Draws at which the quadrature's error is computed."""

_LEAST = {"chains": 2, "warmup": BLOCK, "draws": BLOCK, "max_tree_depth": 1, "extensions": 0, "attempts": 1}


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Settings of NUTS.

    Attributes
    ----------
    chains, warmup, draws : int
        Warm-up and kept draws are per chain.
    target_accept : float
    max_tree_depth : int
    extensions : int
        Chains that mix but are too short for the gate go on, by `draws` each time.
    attempts : int
        A run that misses the gate otherwise is made anew, around the means of its own draws and with a proposal made
        from them, with twice the warm-up and a third of the distance of `target_accept` from 1; the last one stands.
    """

    chains: int = 4
    warmup: int = 300
    draws: int = 300
    target_accept: float = 0.95
    max_tree_depth: int = 6
    extensions: int = 6
    attempts: int = 3

    def __post_init__(self):
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise InputError(f"{name} is {value!r}", "Sampler", f"Give a whole number of at least {least}.")
            if least == BLOCK and value % BLOCK:
                raise InputError(f"{name} is {value}", "Sampler", f"Give a multiple of {BLOCK}.")
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
    checks : tuple of Check
    sampler : Sampler
        The settings of the attempt that stands.
    """

    sites: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    checks: tuple[Check, ...]
    sampler: Sampler


def sample(
    key, data: ModelData, prior: Hyperprior, proxy: str, sampler: Sampler = DEFAULT, gate: Gate = GATE
) -> Samples:
    """Draws from the posterior, with the checks of the gate."""
    known = _Known(find_reference(data, prior, proxy))
    for attempt in range(sampler.attempts):
        made, known = _attempt(jax.random.fold_in(key, attempt), known, data, prior, proxy, sampler, gate)
        if all(check.passed for check in made.checks):
            break
        sampler = sampler.harder()
    return made


class _Known(NamedTuple):
    """What one attempt tells the next: where the posterior lies, and how to leap across it."""

    reference: Reference
    proposal: Proposal | None = None


def _attempt(key, known: _Known, data: ModelData, prior: Hyperprior, proxy, sampler: Sampler, gate: Gate):
    """Draws with their checks, and what the next attempt may know."""
    start_key, run_key = jax.random.split(key)
    with_noise = bool(np.any(np.asarray(data.noise_se) > 0.0))
    batched = jax.default_backend() != "cpu"
    program = _Program(_compiled(sampler, prior, proxy, with_noise, batched), data, proxy, sampler, batched)
    start = _starting_points(start_key, known.reference, prior, proxy, data, with_noise, sampler.chains)
    keys = jax.random.split(run_key, sampler.chains)
    states, groups, rule, proposal = _warmed_up(program, keys, start, known)

    kept = []
    for _ in range(sampler.extensions + 1):
        states, *new = program.advance(states, sampler.draws // BLOCK, groups, rule, proposal, "sampling")
        kept.append(new)
        sites, statistics = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *kept)
        sites.pop("white")
        x = sites.pop("x")
        effective = statistics.pop("effective")
        checks = convergence(_judged(sites), statistics["diverging"], statistics["energy"], gate)
        failed = {check.name for check in checks if not check.passed}
        if not failed or "divergences" in failed or checks[0].value > HOPELESS:
            break
    errors = quadrature_errors(_few(sites), groups, proxy, rule)
    checks += integration(errors, effective.reshape(-1, effective.shape[-1]), gate)
    learned = _Known(reference_of_draws(_flat(sites), data), proposal_of_draws(x.reshape(-1, x.shape[-1])))
    return Samples(sites, statistics, checks, sampler), learned


def _warmed_up(program: "_Program", keys, start, known: _Known):
    """Chains that have adapted; the tasks' points, the rule of quadrature and the proposal to go on with."""
    reference, proposal = known
    blocks = program.sampler.warmup // BLOCK
    third = max(1, blocks // 3)
    latest = slice(-BLOCK, None)
    rule = RULES[0]
    groups = groups_by_depths(program.data, plain_frame(reference.latents))
    states = program.begin(keys, start, groups, rule)
    if proposal is None:
        center = np.asarray(ravel_pytree({name: start[name].mean(axis=0) for name in HYPERPARAMETERS})[0])
        proposal = wide_proposal(center, START_JITTER)
    states, sites, _ = program.advance(states, third, groups, rule, proposal, "warm-up")

    latents = reference_of_draws(_flat(sites, latest), program.data).latents
    groups = groups_by_depths(program.data, plain_frame(latents))
    states = program.renew(states, groups, rule)
    proposal = proposal_of_draws(_flat(sites, latest)["x"])
    states, sites, _ = program.advance(states, third, groups, rule, proposal, "warm-up")

    groups = groups_by_depths(program.data, fitted_frame(latents, _flat(sites, latest)["white"]))
    rule = coarsest_rule(_few(sites), groups, program.proxy)
    states = program.renew(states, groups, rule)
    proposal = proposal_of_draws(_flat(sites)["x"])
    states, sites, _ = program.advance(states, max(1, blocks - 2 * third), groups, rule, proposal, "warm-up")
    return states, groups, rule, proposal_of_draws(_flat(sites)["x"])


class _Chain(NamedTuple):
    """Compiled steps of one chain: begin(key, start, arguments), renew(state, arguments), draw(state, arguments)."""

    begin: callable
    renew: callable
    draw: callable


@functools.lru_cache(maxsize=16)
def _compiled(sampler: Sampler, prior: Hyperprior, proxy: str, with_noise: bool, batched: bool) -> _Chain:
    """One program per model; it serves every data set of one shape."""
    model = functools.partial(collapsed_model, prior=prior, proxy=proxy, with_noise=with_noise)
    kernel = NUTS(
        model,
        target_accept_prob=sampler.target_accept,
        max_tree_depth=sampler.max_tree_depth,
        dense_mass=[HYPERPARAMETERS],
    )

    def begin(key, start, arguments):
        return kernel.init(key, sampler.warmup, init_params=start, model_args=arguments, model_kwargs={})

    def energy_of(z, arguments):
        return potential_energy(model, arguments, {}, z)

    def renew(state, arguments):
        # A state carries the energy and its gradient where it is, which other points of quadrature change.
        energy, gradient = jax.value_and_grad(energy_of)(state.z, arguments)
        return state._replace(potential_energy=energy, z_grad=gradient)

    def draw(state, proposal, arguments):
        groups, data, _ = arguments
        tasks = data.noise.shape[0]

        def one(state, _):
            state = kernel.sample(state, arguments, {})
            x, whole_of = ravel_pytree({name: state.z[name] for name in HYPERPARAMETERS})

            def log_p(x):
                return -energy_of(state.z | whole_of(x), arguments)

            leap_key = jax.random.fold_in(state.rng_key, 0x1EA9)
            x, _, leapt = leap(leap_key, x, -state.potential_energy, log_p, proposal)
            z = state.z | whole_of(x)
            energy, gradient = jax.value_and_grad(energy_of)(z, arguments)
            state = state._replace(z=z, potential_energy=energy, z_grad=gradient)
            sites = kernel.postprocess_fn(arguments, {})(state.z)
            noise = sites["noise"] if with_noise else jnp.zeros(tasks)
            white, latents, effective = jnp.zeros((tasks, 3)), jnp.zeros((tasks, 3)), jnp.zeros(tasks)
            # Not split from the state's key, whose children the next transition uses.
            latent_key = jax.random.fold_in(state.rng_key, 0x1A7E)
            for key, group in zip(jax.random.split(latent_key, len(groups)), groups, strict=True):
                drawn = draw_latents(key, population_of(sites), group, noise[group.rows], proxy)
                white, latents, effective = (
                    whole.at[group.rows].set(part)
                    for whole, part in zip((white, latents, effective), drawn, strict=True)
                )
            sites = {name: sites[name] for name in (*HYPERPARAMETERS, *(("noise",) if with_noise else ()))}
            sites |= {"white": white, "x": x} | {name: latents[:, i] for i, name in enumerate(LATENTS)}
            statistics = {name: getattr(state, name) for name in STATISTICS}
            return state, (sites, statistics | {"effective": effective, "leapt": leapt})

        return jax.lax.scan(one, state, None, length=BLOCK)

    if batched:
        begin = jax.vmap(begin, in_axes=(0, 0, None))
        renew, draw = jax.vmap(renew, in_axes=(0, None)), jax.vmap(draw, in_axes=(0, None, None))
    return _Chain(jax.jit(begin), jax.jit(renew), jax.jit(draw))


class _Program(NamedTuple):
    """The chains' compiled steps and what they run on; states are one per chain, or one for all on an accelerator."""

    chain: _Chain
    data: ModelData
    proxy: str
    sampler: Sampler
    batched: bool

    def begin(self, keys, start, groups, rule) -> list:
        arguments = (groups, self.data, quadrature(rule))
        if self.batched:
            return [self.chain.begin(keys, start, arguments)]
        each = [jax.tree.map(lambda value, c=c: value[c], start) for c in range(len(keys))]
        return [self.chain.begin(key, own, arguments) for key, own in zip(keys, each, strict=True)]

    def renew(self, states, groups, rule) -> list:
        """The same states under other points of quadrature."""
        return [self.chain.renew(state, (groups, self.data, quadrature(rule))) for state in states]

    def advance(self, states, count, groups, rule, proposal, label):
        """Move all chains on by `count` blocks: the new states, draws by site and statistics by name."""
        arguments = (groups, self.data, quadrature(rule))
        stop = threading.Event()
        width = self.sampler.chains // len(states)

        def move(state):
            kept = []
            for _ in range(count):
                if stop.is_set():
                    break
                state, new = jax.block_until_ready(self.chain.draw(state, proposal, arguments))
                kept.append(jax.tree.map(np.asarray, new))
                bar.update(BLOCK * width)
            return state, kept

        total = count * BLOCK * self.sampler.chains
        with tqdm(total=total, desc=label, unit="draw", disable=None, file=sys.stderr, leave=False) as bar:
            pool = ThreadPoolExecutor(min(len(states), _cores()))
            try:
                moved = list(pool.map(move, states))
            finally:
                stop.set()
                pool.shutdown()
        blocks = list(zip(*(kept for _, kept in moved), strict=True))
        return [state for state, _ in moved], *_joined(blocks, self.batched)


def _flat(sites, which=slice(None)):
    """Draws with the chains joined, arrays (S, ...)."""
    return {name: values[:, which].reshape(-1, *values.shape[2:]) for name, values in sites.items()}


def _few(sites):
    """Draws that represent all of them, as many of each chain, arrays (S, ...)."""
    chains, draws = sites["misfit"].shape
    return _flat(sites, np.linspace(0, draws - 1, max(1, REPRESENTATIVE // chains)).astype(int))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _joined(blocks, batched):
    """Draws by site and statistics by name, each (chains, draws, ...)."""

    def across_chains(*leaves):
        return leaves[0] if batched else np.stack(leaves)

    chains = [jax.tree.map(across_chains, *block) for block in blocks]
    sites, statistics = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *chains)
    factor = sites.pop("corr_chol").astype(np.float64)
    return sites | {"corr": factor @ np.swapaxes(factor, -1, -2)}, statistics


def _starting_points(key, reference: Reference, prior: Hyperprior, proxy, data: ModelData, with_noise, chains):
    """Unconstrained starting values around the reference, one per chain."""
    constraint = dist.constraints
    scale = jnp.sqrt(jnp.diag(reference.covariance))
    by_kind = data.kind.T @ reference.mean[:, 0] / jnp.maximum(data.kind.sum(0), 1.0)
    corr = reference.covariance / (scale[:, None] * scale[None, :])
    shrunk = 0.7 * corr + 0.3 * jnp.eye(3)
    positive, unit = constraint.positive, constraint.unit_interval
    values = {
        "mu_level": by_kind,
        "mu_share": reference.mean[0, 1],
        "mu_rate": reference.mean[0, 2],
        "tau": dist.biject_to(positive).inv(scale),
        "corr_chol": dist.biject_to(constraint.corr_cholesky).inv(jnp.linalg.cholesky(shrunk)),
        "log_onset": jnp.log(reference.onset),
        "misfit": dist.biject_to(positive).inv(reference.misfit),
        "dependence": dist.biject_to(positive if proxy == "run_to_run" else unit).inv(reference.dependence),
    }
    if with_noise:
        values["noise_white"] = jnp.zeros(data.noise.shape)
    keys = dict(zip(values, jax.random.split(key, len(values)), strict=True))
    return {
        name: value + START_JITTER * jax.random.normal(keys[name], (chains, *jnp.shape(value)))
        for name, value in values.items()
    }


def _judged(sites):
    """What the gate looks at: every site, of the symmetric matrix its lower triangle."""
    lower = np.tril_indices(3, -1)
    return {name: values[..., lower[0], lower[1]] if name == "corr" else values for name, values in sites.items()}
