"""The posterior of the hyperparameters as a density of flat, unconstrained vectors.

Samplers and explorers see two arrays: `x` (P,), the hyperparameters' unconstrained values one after the other in the
order of their names, and, where outcome sets have noise, `noise_white` (T,). Scales (tau, misfit) are there as the
standard normal values of the same quantile under their prior. Their logarithm, the usual choice, has a tail that is
only exponential where the data allow no spread at all: trajectories take long to come back from there, and no mixture
of few components covers it.

`Target` says which model that is, and `Arguments` what it is evaluated on; functions of a target compile once for all
data of one shape.
"""

import dataclasses
import functools
import math
import threading
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm
from jaxtyping import Array, Float
from numpyro.infer.util import constrain_fn, potential_energy
from scipy import special

from bayes_prehoc.hierarchy.collapsed import Group, Nodes, collapsed_model, draw_latents, quadrature
from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.model import HYPERPARAMETERS, LATENTS, MOST_MISFIT, Hyperprior, population_of
from bayes_prehoc.hierarchy.start import Reference

__all__ = ["Arguments", "Target", "flat_values", "gradient", "log_densities", "posterior_sites", "with_correlation"]

FARTHEST = -12.0
"""Below, the probability of a standard normal is nothing in single precision."""
_ONE_MODEL = threading.RLock()
"""NumPyro's handlers are one stack for all threads, and fits in several threads trace models."""


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
        sites, volume = _by_site(z, arguments.data, self.prior)
        with _ONE_MODEL:
            return potential_energy(self.model, arguments, {}, sites) - volume

    def sites(self, key, z, arguments: Arguments) -> dict[str, Array]:
        """Hyperparameters, noise and latents there, with the latents' `white` (T, 3) and `effective` (T,)."""
        groups, data, _ = arguments
        tasks = data.noise.shape[0]
        sites, _ = _by_site(z, data, self.prior)
        with _ONE_MODEL:
            sites = constrain_fn(self.model, arguments, {}, sites, return_deterministic=True)
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


def _half_normal(y, scale: Float[Array, "..."], most: float = math.inf):
    """The half-normal value, cut at `most`, that has the quantile of y under a standard normal; log of its slope."""
    held = math.erf(most / scale / math.sqrt(2.0)) if most < math.inf else 1.0
    low = y < 0.0
    # Each branch where it is exact; the other gets a harmless argument, for the sake of derivatives.
    below = held * ndtr(jnp.where(low, jnp.maximum(y, FARTHEST), -1.0))
    above = 1.0 - held + held * ndtr(-jnp.where(low, 1.0, y))
    standard = jnp.where(low, math.sqrt(2.0) * jax.scipy.special.erfinv(below), -ndtri(0.5 * above))
    log_slope = norm.logpdf(y) + math.log(held) - math.log(2.0) - norm.logpdf(standard) + jnp.log(scale)
    return scale * standard, log_slope


def _white_half_normal(value, scale, most: float = math.inf):
    """The inverse of `_half_normal`."""
    held = special.erf(most / scale / math.sqrt(2.0))
    standard = np.asarray(value, np.float64) / scale / math.sqrt(2.0)
    below, above = special.erf(standard) / held, (special.erfc(standard) - (1.0 - held)) / held
    return np.where(below < 0.5, special.ndtri(below), -special.ndtri(np.maximum(above, 1e-12)))


def _by_site(z, data: ModelData, prior: Hyperprior):
    """Unconstrained values by site, and the log volume of going from z to them."""
    shapes = dict.fromkeys(HYPERPARAMETERS, ()) | {"mu_level": data.kind.shape[1:], "tau": (3,), "corr_chol": (3,)}
    _, whole_of = ravel_pytree({name: jnp.zeros(shape) for name, shape in shapes.items()})
    sites = whole_of(z["x"])
    tau, tau_slope = _half_normal(sites["tau"], jnp.asarray(prior.tau))
    misfit, misfit_slope = _half_normal(sites["misfit"], prior.misfit, MOST_MISFIT)
    sites |= {"tau": jnp.log(tau), "misfit": jax.scipy.special.logit(misfit / MOST_MISFIT)}
    volume = jnp.sum(tau_slope - sites["tau"]) + misfit_slope
    volume -= jnp.log(misfit) + jnp.log1p(-misfit / MOST_MISFIT)  # d logit(m / most) / dm = most / (m (most - m))
    return sites | {name: value for name, value in z.items() if name != "x"}, volume


def flat_values(reference: Reference, prior: Hyperprior, proxy: str, data: ModelData) -> Float[np.ndarray, " P"]:
    """x at a reference."""
    constraint = dist.constraints
    scale = jnp.sqrt(jnp.diag(reference.covariance))
    corr = reference.covariance / (scale[:, None] * scale[None, :])
    shrunk = 0.7 * corr + 0.3 * jnp.eye(3)
    support = constraint.positive if proxy == "run_to_run" else constraint.unit_interval
    values = {
        "mu_level": data.kind.T @ reference.mean[:, 0] / jnp.maximum(data.kind.sum(0), 1.0),
        "mu_share": reference.mean[0, 1],
        "mu_rate": reference.mean[0, 2],
        "tau": _white_half_normal(scale, np.array(prior.tau)),
        "corr_chol": dist.biject_to(constraint.corr_cholesky).inv(jnp.linalg.cholesky(shrunk)),
        "log_onset": jnp.log(reference.onset),
        "misfit": _white_half_normal(reference.misfit, prior.misfit, MOST_MISFIT),
        "dependence": dist.biject_to(support).inv(reference.dependence),
    }
    return np.asarray(ravel_pytree({name: jnp.asarray(value, jnp.float32) for name, value in values.items()})[0])


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


def with_correlation(sites: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sites, arrays (..., 3, 3) among them, with `corr` for its Cholesky factor."""
    factor = sites["corr_chol"].astype(np.float64)
    rest = {name: values for name, values in sites.items() if name != "corr_chol"}
    return rest | {"corr": factor @ np.swapaxes(factor, -1, -2)}
