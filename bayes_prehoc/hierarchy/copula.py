r"""How estimates of one task at different depths depend on each other: a Gaussian copula over their normal scores.

A score is the sum of three parts, in shares of the variance that `likelihood.Errors` gives,

- the error of sampling. Estimates at different depths come from the same runs: neighbours have correlation r, and any
  two the product of those between.

  - `run_to_run`: r = exp(-2 |log c_i - log c_j| / l), the square of the correlation of two values of one run that
    decays over the correlation length l in log depth, of a share lambda of the error; the rest comes of noise that
    values have anew at every depth.
  - `conditional`, `branching`: errors of nested predictions have correlation sqrt(U_j / U_i) for c_j > c_i, their
    squares U_j / U_i; times kappa < 1 per step, because each depth's regression has an error of its own.

- the drift, a random walk in log depth that is nothing at the horizon: at two depths before it, or two after, the
  square of the correlation is the ratio of their distances from it in log depth,
- what each depth has of its own: that rest, and the misfit.

The first two are Markov chains that nobody sees, so a Kalman filter along the depths gives the density, in time linear
in their number. Scores must be normal in the tails too: with Wilson and Hilferty's, which are bounded below, estimates
of few runs that are far too small at many depths look like one coincidence, and a curve far above them all is likely.

Source: Kalman 1960.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from bayes_prehoc.hierarchy.likelihood import Errors, Shared

__all__ = [
    "NEVER_IDENTICAL",
    "Chains",
    "Whitened",
    "chains_of",
    "copula_log_density",
    "correlation_of_drift",
    "correlation_of_sampling",
    "drawn_scores",
    "whitened",
]

NEVER_IDENTICAL = 0.9995
"""Upper bound of the correlation of neighbours, so that the copula stays proper in float32."""


class Chains(NamedTuple):
    """Correlations of what neighbours have of sampling error and, where there is any, of drift, arrays (D - 1, ...)."""

    sampling: Float[Array, "..."]
    drift: Float[Array, "..."] | None


class Whitened(NamedTuple):
    """Scores less what the shallower ones tell of them, over their standard deviation, and that; arrays (D, ...)."""

    scores: Float[Array, "..."]
    scale: Float[Array, "..."]


def chains_of(depth, log_mean, shared: Shared, proxy: str, most: float = NEVER_IDENTICAL) -> Chains:
    """Correlations at depths that increase, shares of the horizon; none is above `most`."""
    logs = jnp.log(depth)
    before, after = logs[:-1], logs[1:]
    if proxy == "run_to_run":
        sampling = correlation_of_sampling(before, after, shared.dependence)
        drift = correlation_of_drift(before, after)
    else:
        sampling = shared.dependence * jnp.exp(jnp.minimum(log_mean[1:] - log_mean[:-1], 0.0))
        drift = None
    return Chains(jnp.minimum(sampling, most), None if drift is None else jnp.minimum(drift, most))


def correlation_of_sampling(log_depth, other, length):
    """Of the errors of sampling of a spread between runs, at two depths."""
    return jnp.exp(-2.0 * jnp.abs(log_depth - other) / length)


def correlation_of_drift(log_depth, other):
    """Of the drift at two depths, logarithms of shares of the horizon."""
    apart = log_depth * other <= 0.0
    ratio = jnp.where(apart, 1.0, log_depth) / jnp.where(apart, 1.0, other)
    return jnp.where(apart, 0.0, jnp.sqrt(jnp.minimum(ratio, 1.0 / ratio)))


def whitened(values: Float[Array, "D ..."], chains: Chains, errors: Errors, mask: Bool[Array, "D ..."]) -> Whitened:
    """Scores, or what is linear in them, made independent along depth.

    Parameters
    ----------
    values : array (D, ...); used depths come first
    chains, errors : broadcast against `values`
    mask : which values are there; the others have the scale 1 and are nothing
    """
    values = jnp.where(mask, values, 0.0)
    pairs = ((errors.sampling, chains.sampling), (errors.drift, chains.drift))
    hidden = [(loading, _from_before(chain)) for loading, chain in pairs if chain is not None]
    loadings, steps = zip(*hidden, strict=True)
    which = range(len(hidden))
    shape = jnp.broadcast_shapes(*(jnp.shape(part)[1:] for part in (*loadings, errors.own, *steps, mask)))

    def step(state, at):
        means, covariance = state
        value, loading, own, r, there = at
        # From the depth before.
        means = [r[i] * means[i] for i in which]
        fresh = [[1.0 - r[i] ** 2 if i == j else 0.0 for j in which] for i in which]
        covariance = [[r[i] * r[j] * covariance[i][j] + fresh[i][j] for j in which] for i in which]
        # What a score here says.
        told = [sum(loading[j] * covariance[i][j] for j in which) for i in which]
        variance = jnp.where(there, sum(loading[i] * told[i] for i in which) + own**2, 1.0)
        off = jnp.where(there, value - sum(loading[i] * means[i] for i in which), 0.0)
        means = [means[i] + told[i] / variance * off for i in which]
        covariance = [[covariance[i][j] - told[i] * told[j] / variance for j in which] for i in which]
        return (means, covariance), (off, variance)

    means = [jnp.zeros(jnp.broadcast_shapes(shape, jnp.shape(values)[1:]), values.dtype) for _ in which]
    covariance = [[jnp.full(shape, float(i == j), values.dtype) for j in which] for i in which]
    _, (off, variance) = jax.lax.scan(step, (means, covariance), (values, loadings, errors.own, steps, mask))
    scale = jnp.sqrt(variance)
    return Whitened(off / scale, scale)


def _from_before(chain):
    """Correlation of each depth with the one before it, (D, ...); of the first with nothing."""
    return jnp.concatenate([jnp.zeros_like(chain[:1]), chain])


def copula_log_density(
    scores: Float[Array, "D ..."], chains: Chains, errors: Errors, mask: Bool[Array, "D ..."]
) -> Float[Array, "..."]:
    """Log density of the copula, summed over depths: log N(s; 0, C) less that of independent scores."""
    found = whitened(scores, chains, errors, mask)
    there = jnp.where(mask, scores, 0.0)
    return jnp.sum(0.5 * (there**2 - found.scores**2) - jnp.log(found.scale), axis=0)


def drawn_scores(key, chains: Chains, errors: Errors, drift=None) -> Float[np.ndarray, "D ..."]:
    """Scores of estimates from the copula, float64; their drift is given or drawn too."""
    known = [None if part is None else np.asarray(part, np.float64) for part in chains]
    loadings = [np.asarray(part, np.float64) for part in (errors.sampling, errors.drift, errors.own)]
    shape = np.broadcast_shapes(*(part.shape[1:] for part in (*known, *loadings) if part is not None))
    parts = np.array(jax.random.normal(key, (3, len(loadings[0]), *shape)), np.float64)
    for part, chain in zip(parts, known, strict=False):
        for i in range(1, len(part) if chain is not None else 1):
            part[i] = chain[i - 1] * part[i - 1] + np.sqrt(1.0 - chain[i - 1] ** 2) * part[i]
    if drift is not None:
        parts[1] = drift
    return sum(own * part for own, part in zip(loadings, parts, strict=True))
