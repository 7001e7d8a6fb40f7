"""Sampling the collapsed model with NUTS and leaps, and again with shorter steps where the gate was missed.

Before chains start, `placing` finds where the posterior of the hyperparameters lies. That gives NUTS its metric, so
that its warm-up has only the step size to find.

Between the steps of NUTS the hyperparameters leap (`leaps`), with the explored posterior as proposal: there can be
modes that NUTS does not cross between. Chains start from draws of that proposal, which is wider than the posterior.

On a CPU each chain is a program of its own and chains run in threads, one per core: in lock-step the longest trajectory
would set the pace of all. On an accelerator the chains are one batch. Either way sampling goes in blocks of draws, so
that it shows how far it is and can be interrupted.

Source of the sampler: Hoffman and Gelman 2014, in NumPyro; dense mass matrix over the hyperparameters.
"""

import dataclasses
import functools
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer.hmc import hmc
from numpyro.infer.util import ParamInfo
from tqdm.auto import tqdm

from bayes_prehoc._machine import cores
from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.checks import GATE, Check, Gate, convergence, integration
from bayes_prehoc.hierarchy.collapsed import quadrature_errors
from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.leaps import leap
from bayes_prehoc.hierarchy.mixture import Mixture, draw, mixture_of_draws
from bayes_prehoc.hierarchy.model import Hyperprior
from bayes_prehoc.hierarchy.placing import REPRESENTATIVE, Known, next_rule, place
from bayes_prehoc.hierarchy.start import find_reference, reference_of_draws
from bayes_prehoc.hierarchy.target import Arguments, Target, with_correlation

__all__ = ["Sampler", "Samples", "sample"]

STATISTICS = ("diverging", "energy", "num_steps", "accept_prob")
BLOCK = 50
"""Draws per call of the compiled program; warm-up and draws are multiples of it."""
HOPELESS = 1.1
"""R-hat above which more draws from the same chains would not help."""
LENGTH_HELPS = {"r_hat", "ess_bulk", "ess_tail"}
"""Checks that more draws from the same chains can mend."""

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
        Chains that mix but are too short for the gate go on, by half of `draws` each time.
    attempts : int
        A run that misses the gate otherwise is made anew, around the means of its own draws and with a proposal made
        from them, with twice the warm-up and a third of the distance of `target_accept` from 1; the last one stands.
    """

    chains: int = 4
    warmup: int = 100
    draws: int = 300
    target_accept: float = 0.95
    max_tree_depth: int = 4
    extensions: int = 8
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
    target = Target(prior, proxy, bool(np.any((np.asarray(data.noise) > 0.0) | (np.asarray(data.noise_se) > 0.0))))
    known = Known(find_reference(data, prior, proxy))
    for attempt in range(sampler.attempts):
        made, learn = _attempt(jax.random.fold_in(key, attempt), known, target, data, sampler, gate)
        if all(check.passed for check in made.checks):
            break
        known, sampler = learn(), sampler.harder()
    return made


def _attempt(key, known: Known, target: Target, data: ModelData, sampler: Sampler, gate: Gate):
    """Draws with their checks, and a function that gives what the next attempt may know."""
    place_key, start_key, run_key = jax.random.split(key, 3)
    arguments, rule, found = place(place_key, known, target, data)
    chains = _Chains(target, sampler, jax.default_backend() != "cpu", arguments, found.proposal)
    start = draw(start_key, found.proposal, sampler.chains)
    states = chains.begin(jax.random.split(run_key, sampler.chains), start, found.covariance())
    states, *_ = chains.advance(states, sampler.warmup // BLOCK, "warm-up")

    kept, blocks = [], sampler.draws // BLOCK
    for extension in range(sampler.extensions + 1):
        states, *new = chains.advance(states, max(1, blocks // 2) if extension else blocks, "sampling")
        kept.append(new)
        sites, statistics = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *kept)
        x, effective = statistics.pop("x"), statistics.pop("effective")
        checks = convergence(_judged(sites), statistics["diverging"], statistics["energy"], gate)
        failed = {check.name: check.value for check in checks if not check.passed}
        if not failed or not failed.keys() <= LENGTH_HELPS or failed.get("r_hat", 1.0) > HOPELESS:
            break
    errors = quadrature_errors(_few(sites), arguments.groups, target.proxy, rule)
    checks += integration(errors, effective.reshape(-1, effective.shape[-1]), gate)

    def learn() -> Known:
        imprecise = any(check.name == "quadrature" and not check.passed for check in checks)
        too_coarse = next_rule(rule) if imprecise else known.too_coarse
        return Known(reference_of_draws(_flat(sites), data), mixture_of_draws(x.reshape(-1, x.shape[-1])), too_coarse)

    return Samples(sites, statistics, checks, sampler), learn


class _Steps(NamedTuple):
    """Compiled steps of one chain."""

    begin: Callable
    """(key, x, covariance, arguments) -> state"""
    advance: Callable
    """(state, proposal, arguments) -> state, (sites, statistics) of a block"""


@functools.lru_cache(maxsize=16)
def _compiled(target: Target, warmup: int, target_accept: float, max_tree_depth: int, batched: bool) -> _Steps:
    """One program per model; it serves every data set of one shape."""
    initial, step = hmc(potential_fn_gen=lambda *arguments: lambda z: target.energy(z, Arguments(*arguments)))

    def begin(key, x, covariance, arguments):
        z = target.at(x, arguments.data)
        # Energy and gradient are made where a step begins, after the leaps.
        return initial(
            ParamInfo(z, jnp.zeros(()), jax.tree.map(jnp.zeros_like, z)),
            warmup,
            step_size=0.5,
            inverse_mass_matrix={("x",): covariance},
            dense_mass=[("x",)],
            adapt_mass_matrix=False,
            target_accept_prob=target_accept,
            max_tree_depth=max_tree_depth,
            model_args=arguments,
            rng_key=key,
        )

    def advance(state, proposal, arguments):
        def energy_of(z):
            return target.energy(z, arguments)

        def one(state, _):
            # Not split from the state's key, whose children the transition uses.
            leap_key, latent_key = (jax.random.fold_in(state.rng_key, mark) for mark in (0x1EA9, 0x1A7E))
            x, leapt = leap(leap_key, state.z["x"], lambda x: -energy_of(state.z | {"x": x}), proposal)
            z = state.z | {"x": x}
            energy, slope = jax.value_and_grad(energy_of)(z)
            state = step(state._replace(z=z, potential_energy=energy, z_grad=slope), arguments)
            sites = target.sites(latent_key, state.z, arguments)
            statistics = {name: getattr(state, name) for name in STATISTICS}
            statistics |= {"leapt": leapt, "x": state.z["x"], "effective": sites.pop("effective")}
            del sites["white"]
            return state, (sites, statistics)

        return jax.lax.scan(one, state, None, length=BLOCK)

    if batched:
        begin = jax.vmap(begin, in_axes=(0, 0, None, None))
        advance = jax.vmap(advance, in_axes=(0, None, None))
    return _Steps(jax.jit(begin), jax.jit(advance))


class _Chains(NamedTuple):
    """The chains' program and what it runs on; states are one per chain, or one for all on an accelerator."""

    target: Target
    sampler: Sampler
    batched: bool
    arguments: Arguments
    proposal: Mixture

    @property
    def steps(self) -> _Steps:
        settings = self.sampler.warmup, self.sampler.target_accept, self.sampler.max_tree_depth
        return _compiled(self.target, *settings, self.batched)

    def begin(self, keys, x, covariance) -> list:
        begin = self.steps.begin
        covariance = jnp.asarray(covariance, jnp.float32)
        if self.batched:
            return [begin(keys, x, covariance, self.arguments)]
        return [begin(key, own, covariance, self.arguments) for key, own in zip(keys, x, strict=True)]

    def advance(self, states, count, label):
        """Move all chains on by `count` blocks: the new states, draws by site and statistics by name."""
        advance = self.steps.advance
        stop = threading.Event()
        width = self.sampler.chains // len(states)

        def move(state):
            kept = []
            for _ in range(count):
                if stop.is_set():
                    break
                state, new = jax.block_until_ready(advance(state, self.proposal, self.arguments))
                kept.append(jax.tree.map(np.asarray, new))
                bar.update(BLOCK * width)
            return state, kept

        total = count * BLOCK * self.sampler.chains
        with tqdm(total=total, desc=label, unit="draw", disable=None, file=sys.stderr, leave=False) as bar:
            pool = ThreadPoolExecutor(min(len(states), cores()))
            try:
                moved = list(pool.map(move, states))
            finally:
                stop.set()
                pool.shutdown()
        blocks = list(zip(*(kept for _, kept in moved), strict=True))
        return [state for state, _ in moved], *_joined(blocks, self.batched)


def _flat(sites):
    """Draws with the chains joined, arrays (S, ...)."""
    return {name: values.reshape(-1, *values.shape[2:]) for name, values in sites.items()}


def _few(sites):
    """Draws that represent all of them, as many of each chain, arrays (S, ...)."""
    chains, draws = sites["misfit"].shape
    which = np.linspace(0, draws - 1, max(1, REPRESENTATIVE // chains)).astype(int)
    return _flat({name: values[:, which] for name, values in sites.items()})


def _joined(blocks, batched):
    """Draws by site and statistics by name, each (chains, draws, ...)."""

    def across_chains(*leaves):
        return leaves[0] if batched else np.stack(leaves)

    chains = [jax.tree.map(across_chains, *block) for block in blocks]
    sites, statistics = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *chains)
    return with_correlation(sites), statistics


def _judged(sites):
    """What the gate looks at: every site, of the symmetric matrix its lower triangle."""
    lower = np.tril_indices(3, -1)
    return {name: values[..., lower[0], lower[1]] if name == "corr" else values for name, values in sites.items()}
