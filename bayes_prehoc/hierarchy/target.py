"""The posterior of the hyperparameters as a density of flat, unconstrained vectors.

Samplers and explorers see two arrays: `x` (P,), the hyperparameters' unconstrained values one after the other in the
order of their names, and, where outcome sets have noise, `noise_white` (T,). `Target` says which model that is, and
`Arguments` what it is evaluated on; functions of a target compile once for all data of one shape.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from numpyro.infer.util import constrain_fn, potential_energy

from bayes_prehoc.hierarchy.collapsed import Group, Nodes, collapsed_model, draw_latents, quadrature
from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.model import HYPERPARAMETERS, LATENTS, MOST_MISFIT, Hyperprior, population_of
from bayes_prehoc.hierarchy.start import Reference

__all__ = ["Arguments", "Target", "flat_values", "gradient", "log_densities", "posterior_sites"]


class Arguments(NamedTuple):
    """Tasks by group, the estimates of all, and the points of quadrature."""

    groups: tuple[Group, ...]
    data: ModelData
    nodes: Nodes

    @classmethod
    def by_rule(cls, groups, data: ModelData, rule: tuple[int, int, int]) -> "Arguments":
        """With the nodes of one of `collapsed.RULES`."""
        return cls(groups, data, quadrature(rule))


@dataclasses.dataclass(frozen=True)
class Target:
    """Which posterior: the prior, the proxy, and whether outcome sets have noise that is sampled too."""

    prior: Hyperprior
    proxy: str
    with_noise: bool

    @property
    def model(self):
        """The NumPyro model, a function of `Arguments`."""
        return functools.partial(collapsed_model, prior=self.prior, proxy=self.proxy, with_noise=self.with_noise)

    def energy(self, z, arguments: Arguments) -> Float[Array, ""]:
        """Minus the log density at z = {x, noise_white}, up to a constant of the data."""
        return potential_energy(self.model, arguments, {}, _by_site(z, arguments.data))

    def sites(self, key, z, arguments: Arguments) -> dict[str, Array]:
        """Hyperparameters, noise and latents there, with the latents' `white` (T, 3) and `effective` (T,)."""
        groups, data, _ = arguments
        tasks = data.noise.shape[0]
        sites = constrain_fn(self.model, arguments, {}, _by_site(z, data), return_deterministic=True)
        noise = sites["noise"] if self.with_noise else jnp.zeros(tasks)
        white, latents, effective = jnp.zeros((tasks, 3)), jnp.zeros((tasks, 3)), jnp.zeros(tasks)
        for own, group in zip(jax.random.split(key, len(groups)), groups, strict=True):
            drawn = draw_latents(own, population_of(sites), group, noise[group.rows], self.proxy)
            white, latents, effective = (
                whole.at[group.rows].set(part) for whole, part in zip((white, latents, effective), drawn, strict=True)
            )
        kept = {name: sites[name] for name in (*HYPERPARAMETERS, *(("noise",) if self.with_noise else ()))}
        kept |= {name: latents[:, i] for i, name in enumerate(LATENTS)}
        return kept | {"white": white, "effective": effective}

    def at(self, x: Float[Array, " P"], data: ModelData) -> dict[str, Array]:
        """z with these hyperparameters and the noise where its estimate is."""
        return {"x": x} | ({"noise_white": jnp.zeros_like(data.noise)} if self.with_noise else {})


def _by_site(z, data: ModelData) -> dict[str, Array]:
    shapes = dict.fromkeys(HYPERPARAMETERS, ()) | {"mu_level": data.kind.shape[1:], "tau": (3,), "corr_chol": (3,)}
    _, whole_of = ravel_pytree({name: jnp.zeros(shape) for name, shape in shapes.items()})
    return whole_of(z["x"]) | {name: value for name, value in z.items() if name != "x"}


def flat_values(reference: Reference, proxy: str, data: ModelData) -> Float[np.ndarray, " P"]:
    """x at a reference."""
    constraint = dist.constraints
    scale = jnp.sqrt(jnp.diag(reference.covariance))
    corr = reference.covariance / (scale[:, None] * scale[None, :])
    shrunk = 0.7 * corr + 0.3 * jnp.eye(3)
    positive, unit = constraint.positive, constraint.unit_interval
    values = {
        "mu_level": data.kind.T @ reference.mean[:, 0] / jnp.maximum(data.kind.sum(0), 1.0),
        "mu_share": reference.mean[0, 1],
        "mu_rate": reference.mean[0, 2],
        "tau": dist.biject_to(positive).inv(scale),
        "corr_chol": dist.biject_to(constraint.corr_cholesky).inv(jnp.linalg.cholesky(shrunk)),
        "log_onset": jnp.log(reference.onset),
        "misfit": dist.biject_to(constraint.interval(0.0, MOST_MISFIT)).inv(reference.misfit),
        "dependence": dist.biject_to(positive if proxy == "run_to_run" else unit).inv(reference.dependence),
    }
    return np.asarray(ravel_pytree(values)[0])


@functools.partial(jax.jit, static_argnames=("target", "at_once"))
def log_densities(target: Target, points: Float[Array, "N P"], arguments: Arguments, at_once: int = 1):
    """Log densities (N,) with the noise where its estimate is; `at_once` points are computed together."""
    return jax.lax.map(
        lambda x: -target.energy(target.at(x, arguments.data), arguments),
        points,
        batch_size=at_once if at_once > 1 else None,
    )


@functools.partial(jax.jit, static_argnames="target")
def gradient(target: Target, x: Float[Array, " P"], arguments: Arguments):
    """Log density there and its gradient."""
    return jax.value_and_grad(lambda x: -target.energy(target.at(x, arguments.data), arguments))(x)


@functools.partial(jax.jit, static_argnames="target")
def posterior_sites(target: Target, key, points: Float[Array, "N P"], arguments: Arguments) -> dict[str, Array]:
    """`Target.sites` at several points, arrays (N, ...)."""

    def sites_at(key_and_x):
        key, x = key_and_x
        return target.sites(key, target.at(x, arguments.data), arguments)

    return jax.lax.map(sites_at, (jax.random.split(key, len(points)), points))
