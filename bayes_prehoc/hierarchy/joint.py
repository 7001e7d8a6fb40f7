r"""The other engine: the no-U-turn sampler on the hyperparameters and all tasks' latents together.

Where there are families and covariates the hyperparameters are too many for leaps (`chains`): of a mixture's proposals
in thirty dimensions few land. Trajectories do not mind dimensions, and with the latents as coordinates of their own a
gradient costs one point of each task, where quadrature takes sixteen or more.

The density is that which `collapsed` integrates: in the whitened coordinates w of `model.color`,

.. math:: \log p(\theta, w) = \log p(\theta) + \sum_t [f_t(w_t, \theta) + \log N(w_t; 0, I)] ,

so that latents are close to independent of the hyperparameters and of each other. The metric is dense for the
hyperparameters and diagonal for the rest. A first warm-up tells where the latents lie; around their means the
likelihood is expanded anew, and a second adapts the sampler there.

The marginal likelihoods that comparisons need are computed by quadrature at the draws.

Sources: Hoffman and Gelman 2014 (the sampler), as in NumPyro (Phan, Pradhan and Jankowiak 2019).
"""

import functools
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro.infer.hmc import hmc
from tqdm.auto import tqdm

from bayes_prehoc.hierarchy.collapsed import groups_by_depths, in_parts, log_terms, plain_frame
from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.evaluator import Evaluator, generator, with_correlations
from bayes_prehoc.hierarchy.model import LATENTS, population_of
from bayes_prehoc.hierarchy.target import Target
from bayes_prehoc.hierarchy.tilt import Tilt

__all__ = ["Adaptation", "JointChains", "joint_log_density", "joint_sites"]

JITTER = 0.5
"""How far apart chains start: a standard deviation, of unconstrained values."""
AT_ONCE = 25
"""Draws of a chain between two reports."""
SITES = 16
"""Draws whose latents are computed together."""
DEEPEST = 9
"""Doublings of a trajectory, at most."""
OF_X, OF_REST = ("x",), ("noise", "white")
"""Blocks of the metric, dense and diagonal."""


class Place(NamedTuple):
    """Hyperparameters, noises as far as there are any, and the coordinates of the latents."""

    x: Float[Array, "... P"]
    noise: Float[Array, "... N"]
    white: Float[Array, "... T 3"]

    @property
    def point(self) -> Float[Array, "... Q"]:
        """Without the latents."""
        return np.concatenate([self.x, self.noise], axis=-1)


class Adaptation(NamedTuple):
    """How a warm-up adapts the sampler: its length and the acceptance it aims for."""

    moves: int
    target_accept: float


def joint_log_density(target: Target, place: Place, groups, data: ModelData, tilt: Tilt | None = None):
    """Log density of hyperparameters, noises and the coordinates of all latents, where the prior is tilted so."""
    values, terms, _ = _at(target, place, groups, data)
    log_prior = values.log_prior if tilt is None else values.log_prior + tilt.log_ratio(place.x)
    return log_prior + terms.sum() - 0.5 * jnp.sum(place.white**2) - 1.5 * len(place.white) * jnp.log(2 * jnp.pi)


def joint_sites(target: Target, place: Place, groups, data: ModelData) -> dict[str, Array]:
    """Hyperparameters, noise and latents there."""
    values, _, latents = _at(target, place, groups, data)
    return values.sites | {name: latents[:, i] for i, name in enumerate(LATENTS)}


def _at(target: Target, place: Place, groups, data: ModelData):
    """What the hyperparameters stand for; what each task adds to the density (T,), and its latents (T, 3)."""
    values = target.values(jnp.concatenate([place.x, place.noise]), data)
    population, noise = jax.lax.optimization_barrier((population_of(values.sites), values.noise))
    terms, latents = jnp.zeros(len(place.white)), jnp.zeros_like(place.white)
    for group in groups:

        def of_part(part, its, _):
            standard = tuple(place.white[part.rows, i, None] for i in range(3))
            _, own, found = log_terms(standard, population, part, its, target.proxy, target.law)
            return found[:, 0], jnp.concatenate(own, axis=1)

        found, own = in_parts(of_part, group, noise[group.rows])
        terms, latents = terms.at[group.rows].set(found), latents.at[group.rows].set(own)
    return values, terms, latents


class JointChains:
    """Chains of the no-U-turn sampler, one per thread on a CPU, or all as one batch.

    Parameters
    ----------
    key : jax key
    evaluator : Evaluator
        Of the target; gives threads.
    data : ModelData
    start : array (T, 3)
        Latents around which the likelihood is expanded.
    x : array (P,)
        Hyperparameters, around which chains start.
    number : int
    """

    def __init__(self, key, evaluator: Evaluator, data: ModelData, start, x, number: int):
        self._target, self._pool, self._batched = evaluator.target, evaluator.pool, evaluator.batched
        self._tilt = evaluator.tilt
        self._data, self._keys = data, jax.random.split(key, number)
        rng = generator(jax.random.fold_in(key, 1))
        noises = data.noise.shape[0] if self._target.with_noise else 0
        sizes = Place((number, len(x)), (number, noises), (number, *start.shape))
        jittered = Place(*(JITTER * rng.normal(size=size) for size in sizes))
        self._place = jax.tree.map(np.float32, jittered._replace(x=jittered.x + x))
        rest = noises + 3 * len(start)
        self._metric = (np.stack([np.eye(len(x))] * number), np.ones((number, rest)))
        self._expand_around(start)

    def _expand_around(self, start) -> None:
        self.start = jnp.asarray(start, jnp.float32)
        self._groups = groups_by_depths(self._data, plain_frame(self.start))

    def warm_up(self, adaptation: Adaptation) -> None:
        """Half of it to tell where the latents lie, half to adapt the sampler there."""
        first = adaptation._replace(moves=adaptation.moves // 2)
        self._begin(first)
        self._move(first.moves - first.moves // 2, "warm-up")
        places, _ = self._move(first.moves // 2, "warm-up")
        latents = self.sites(places)
        mean = np.stack([latents[name].mean(axis=(0, 1)) for name in LATENTS], axis=-1)
        self._place = jax.tree.map(lambda part: part[:, -1], places)
        self._metric = tuple(self._states.adapt_state.inverse_mass_matrix[sites] for sites in (OF_X, OF_REST))
        self._expand_around(mean)
        second = adaptation._replace(moves=adaptation.moves - first.moves)
        self._begin(second)
        self._move(second.moves, "warm-up")

    def draw(self, moves: int) -> tuple[Place, dict[str, np.ndarray]]:
        """Move on; places, arrays (C, S, ...), and statistics (C, S) by name."""
        return self._move(moves, "sampling")

    def sites(self, places: Place) -> dict[str, np.ndarray]:
        """Hyperparameters, noise and latents at places (C, S, ...), with `corr` for its Cholesky factor."""
        found = [_sites(self._target, own, self._groups, self._data) for own in _each(places)]
        return with_correlations({name: np.stack([own[name] for own in found]) for name in found[0]})

    def _begin(self, adaptation: Adaptation) -> None:
        def one(key, place, metric):
            return _begin(self._target, adaptation, key, place, metric, self._groups, self._data, self._tilt)

        self._keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(self._keys)
        self._adaptation = adaptation
        metric = jax.tree.map(np.float32, self._metric)
        self._states = self._of_chains(one, self._keys, self._place, metric)

    def _move(self, moves: int, label: str) -> tuple[Place, dict[str, np.ndarray]]:
        def one(state):
            return _advance(self._target, self._adaptation, state, self._groups, self._data, self._tilt)

        parts, chains = [], len(self._keys)
        with tqdm(total=moves * chains, desc=label, unit="draw", disable=None, file=sys.stderr, leave=False) as bar:
            for done in range(0, moves, AT_ONCE):
                self._states, found = self._of_chains(one, self._states)
                kept = min(AT_ONCE, moves - done)
                parts.append(jax.tree.map(lambda part, kept=kept: np.asarray(part)[:, :kept], found))
                bar.update(kept * chains)
        return jax.tree.map(lambda *own: np.concatenate(own, axis=1), *parts)

    def _of_chains(self, function, *arguments):
        """What a function gives for each chain, stacked."""
        if self._batched:
            return jax.vmap(function)(*arguments)
        found = list(self._pool.map(function, *(_each(own) for own in arguments)))
        return jax.tree.map(lambda *parts: jnp.stack(parts), *found)


def _each(tree):
    """The parts of a tree along the first axis of its arrays."""
    return [jax.tree.map(lambda part, i=i: part[i], tree) for i in range(len(jax.tree.leaves(tree)[0]))]


def _sampler(target: Target, adaptation: Adaptation, key, place, metric, *model):
    """State of a sampler that starts at a place, a dict, with a metric, and the function that moves it on."""

    def potential(*model):
        return lambda place: -joint_log_density(target, Place(**place), *model)

    begin, move = hmc(potential_fn_gen=potential)
    state = begin(
        place,
        adaptation.moves,
        inverse_mass_matrix=dict(zip((OF_X, OF_REST), metric, strict=True)),
        dense_mass=[OF_X],
        target_accept_prob=adaptation.target_accept,
        max_tree_depth=DEEPEST,
        model_args=model,
        rng_key=key,
    )
    return state, move


@functools.partial(jax.jit, static_argnames=("target", "adaptation"))
def _begin(target: Target, adaptation: Adaptation, key, place: Place, metric, groups, data, tilt):
    return _sampler(target, adaptation, key, place._asdict(), metric, groups, data, tilt)[0]


@functools.partial(jax.jit, static_argnames=("target", "adaptation"))
def _advance(target: Target, adaptation: Adaptation, state, groups, data, tilt):
    """The state `AT_ONCE` draws later, and places and statistics of these."""
    # NumPyro's sampler knows how to move once it has begun somewhere.
    metric = tuple(state.adapt_state.inverse_mass_matrix[sites] for sites in (OF_X, OF_REST))
    _, move = _sampler(target, adaptation, state.rng_key, state.z, metric, groups, data, tilt)

    def step(state, _):
        state = move(state, (groups, data, tilt))
        statistics = {"diverging": state.diverging, "energy": state.energy, "num_steps": state.num_steps}
        return state, (Place(**state.z), statistics | {"accept_prob": state.accept_prob})

    return jax.lax.scan(step, state, length=AT_ONCE)


@functools.partial(jax.jit, static_argnames="target")
def _sites(target: Target, places: Place, groups, data):
    return jax.lax.map(lambda place: joint_sites(target, place, groups, data), places, batch_size=SITES)
