"""The posterior of the hyperparameters as a density of flat, unconstrained vectors.

Samplers and explorers see a point (Q,): `x` (P,), the hyperparameters' unconstrained values one after the other in the
order of their names, and after it, where outcome sets have noise, `noise_white` (T,). Scales (tau, misfit) and
kappa are there as the standard normal values of the same quantile under their prior, correlations nearly so. The usual
choices, logarithm and logit, have tails that are only exponential where the data allow no spread at all, or any
correlation: trajectories take long to come back from there, and no mixture of few components covers them.

`Target` says which model that is, and `Arguments` what it is evaluated on; functions of a target compile once for all
data of one shape, and `hierarchy.evaluator` says how many points they are given.
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

__all__ = ["Arguments", "Target", "flat_values", "gradients", "log_densities", "posterior_sites"]

FARTHEST = -12.0
"""Below, the probability of a standard normal is nothing in single precision."""
FARTHEST_ERFC = 9.0
"""Beyond, the complementary error function is nothing in single precision."""
PARTIAL_BETA = np.array([2.5, 2.5, 2.0], np.float32)
"""b of the canonical partial correlations, Beta(b, b) on (-1, 1) under LKJ(2), in the order of `corr_chol`'s values."""
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

    def energy(self, point: Float[Array, " Q"], arguments: Arguments) -> Float[Array, ""]:
        """Minus the log density there, up to a constant of the data."""
        sites, volume = self._sites(point, arguments.data)
        with _ONE_MODEL:
            return potential_energy(self.model, arguments, {}, sites) - volume

    def sites(self, key, point: Float[Array, " Q"], arguments: Arguments) -> dict[str, Array]:
        """Hyperparameters, noise and latents there, with the latents' `white` (T, 3) and `effective` (T,)."""
        groups, data, _ = arguments
        tasks = data.noise.shape[0]
        sites, _ = self._sites(point, data)
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

    def points(self, x: Float[np.ndarray, "N P"], data: ModelData) -> Float[np.ndarray, "N Q"]:
        """Points with these hyperparameters and the noise where its estimate is."""
        return np.pad(x, ((0, 0), (0, self._noises(data))))

    def _sites(self, point, data: ModelData):
        """Unconstrained values by site, and the log volume of going there from a point."""
        x, noise_white = jnp.split(point, [len(point) - self._noises(data)])
        sites, volume = _by_site(x, data, self.prior, self.proxy)
        return sites | ({"noise_white": noise_white} if self.with_noise else {}), volume

    def _noises(self, data: ModelData) -> int:
        return data.noise.shape[0] if self.with_noise else 0


def _half_normal(y, scale: Float[Array, "..."], most: float = math.inf):
    """The half-normal value, cut at `most`, that has the quantile of y under a standard normal; log of its slope."""
    held = math.erf(most / scale / math.sqrt(2.0)) if most < math.inf else 1.0
    low = y < 0.0
    # Each branch where it is exact; the other gets a harmless argument, for the sake of derivatives.
    below = held * ndtr(jnp.where(low, jnp.maximum(y, FARTHEST), -1.0))
    above = 1.0 - held + held * ndtr(-jnp.where(low, 1.0, y))
    below, above = jax.lax.optimization_barrier((below, above))
    standard = jnp.where(low, math.sqrt(2.0) * jax.scipy.special.erfinv(below), -ndtri(0.5 * above))
    standard = jax.lax.optimization_barrier(standard)
    log_slope = norm.logpdf(y) + math.log(held) - math.log(2.0) - norm.logpdf(standard) + jnp.log(scale)
    return scale * standard, log_slope


def _white_half_normal(value, scale, most: float = math.inf):
    """The inverse of `_half_normal`."""
    held = special.erf(most / scale / math.sqrt(2.0))
    standard = np.asarray(value, np.float64) / scale / math.sqrt(2.0)
    below, above = special.erf(standard) / held, (special.erfc(standard) - (1.0 - held)) / held
    return np.where(below < 0.5, special.ndtri(below), -special.ndtri(np.maximum(above, 1e-12)))


def _partial_correlations(y):
    """Unconstrained `corr_chol` of values that are nearly standard normal under the LKJ prior; log of its volume.

    A partial correlation that is Beta(b, b) on (-1, 1) is nearly erf(y / sqrt(2 b)), and in its tails exactly so.
    """
    standard = y / np.sqrt(2.0 * PARTIAL_BETA)
    # log(1 + r) and log(1 - r), each to the last digit.
    within = jnp.clip(standard, -FARTHEST_ERFC, FARTHEST_ERFC)
    above, below = jnp.log(jax.scipy.special.erfc(-within)), jnp.log(jax.scipy.special.erfc(within))
    above, below = jax.lax.optimization_barrier((above, below))
    log_slope = -(standard**2) - 0.5 * np.log(0.5 * np.pi * PARTIAL_BETA) - above - below
    return 0.5 * (above - below), jnp.sum(log_slope)


def _kappa(y, a: float):
    """Logit of the Beta(a, 1) value that has the quantile of y under a standard normal; log of its slope."""
    log_kappa = jax.scipy.special.log_ndtr(y) / a
    log_rest = jnp.log(-jnp.expm1(log_kappa))
    log_slope = norm.logpdf(y) - jax.scipy.special.log_ndtr(y) - math.log(a) - log_rest
    return log_kappa - log_rest, log_slope


def _by_site(x, data: ModelData, prior: Hyperprior, proxy: str):
    """Unconstrained hyperparameters by site, and the log volume of going from x to them."""
    shapes = dict.fromkeys(HYPERPARAMETERS, ()) | {"mu_level": data.kind.shape[1:], "tau": (3,), "corr_chol": (3,)}
    _, whole_of = ravel_pytree({name: jnp.zeros(shape) for name, shape in shapes.items()})
    sites = whole_of(x)
    tau, tau_slope = _half_normal(sites["tau"], jnp.asarray(prior.tau))
    misfit, misfit_slope = _half_normal(sites["misfit"], prior.misfit, MOST_MISFIT)
    partial, partial_slope = _partial_correlations(sites["corr_chol"])
    sites |= {"tau": jnp.log(tau), "misfit": jax.scipy.special.logit(misfit / MOST_MISFIT), "corr_chol": partial}
    volume = jnp.sum(tau_slope - sites["tau"]) + misfit_slope + partial_slope
    volume -= jnp.log(misfit) + jnp.log1p(-misfit / MOST_MISFIT)  # d logit(m / most) / dm = most / (m (most - m))
    if proxy != "run_to_run":
        sites["dependence"], kappa_slope = _kappa(sites["dependence"], prior.kappa[0])
        volume += kappa_slope
    return jax.lax.optimization_barrier((sites, volume))


def flat_values(reference: Reference, prior: Hyperprior, proxy: str, data: ModelData) -> Float[np.ndarray, " P"]:
    """x at a reference."""
    scale = jnp.sqrt(jnp.diag(reference.covariance))
    corr = reference.covariance / (scale[:, None] * scale[None, :])
    shrunk = 0.7 * corr + 0.3 * jnp.eye(3)
    partial = np.tanh(dist.biject_to(dist.constraints.corr_cholesky).inv(jnp.linalg.cholesky(shrunk)))
    # A logarithm, or the inverse of `_kappa`.
    dependence = np.log if proxy == "run_to_run" else lambda kappa: special.ndtri(kappa ** prior.kappa[0])
    values = {
        "mu_level": data.kind.T @ reference.mean[:, 0] / jnp.maximum(data.kind.sum(0), 1.0),
        "mu_share": reference.mean[0, 1],
        "mu_rate": reference.mean[0, 2],
        "tau": _white_half_normal(scale, np.array(prior.tau)),
        "corr_chol": np.sqrt(2.0 * PARTIAL_BETA) * special.erfinv(partial),
        "log_onset": jnp.log(reference.onset),
        "misfit": _white_half_normal(reference.misfit, prior.misfit, MOST_MISFIT),
        "dependence": dependence(reference.dependence),
    }
    return np.asarray(ravel_pytree({name: jnp.asarray(value, jnp.float32) for name, value in values.items()})[0])


@functools.partial(jax.jit, static_argnames=("target", "together"))
def log_densities(target: Target, points: Float[Array, "N Q"], arguments: Arguments, together: bool):
    """Log densities (N,), computed one after the other or all together."""
    return _each(lambda point: -target.energy(point, arguments), together)(points)


@functools.partial(jax.jit, static_argnames=("target", "together"))
def gradients(target: Target, points: Float[Array, "N Q"], arguments: Arguments, together: bool):
    """Log densities (N,) and their gradients (N, Q)."""
    return _each(jax.value_and_grad(lambda point: -target.energy(point, arguments)), together)(points)


@functools.partial(jax.jit, static_argnames=("target", "together"))
def posterior_sites(target: Target, keys, points: Float[Array, "N Q"], arguments: Arguments, together: bool):
    """`Target.sites` at several points, arrays (N, ...), with a key for each."""
    return _each(lambda pair: target.sites(*pair, arguments), together)((keys, points))


def _each(compute, together: bool):
    return jax.vmap(compute) if together else functools.partial(jax.lax.map, compute)
