r"""Likelihood of the estimates of one task: gamma margins tied by a Gaussian copula.

An estimate with nu effective degrees of freedom of a risk U follows, to a very good approximation,
a Gamma distribution with mean U and shape k = nu_eff / 2, where 2 / nu_eff = 2 / nu + omega^2 adds the misfit
dispersion omega. With z = log U-hat - log U,

.. math:: \log p = [k \log k - k - \log\Gamma(k)] - k (e^z - 1 - z) - \log \hat U ,

the deviance form, whose second term keeps its digits in float32 when k is large.

Arrays over depths have them along their first axis, (D, ...): whatever else there is lies contiguous behind it.

Estimates at different depths come from the same seeds. Their dependence is a Gaussian copula over normal scores of the
margins with a Markov correlation, so it needs no matrix: adjacent scores have correlation r_i and the correlation of
any two is the product of those between. Scores must be normal in the tails too: with Wilson and Hilferty's, which are
bounded below, estimates of few runs that are far too small at many depths look like one coincidence, and a curve far
above all of them is likely.

- `run_to_run`: r = exp(-2 |log c_i - log c_j| / l), the square of the correlation of two values of one run
  that decays over the correlation length l in log depth.
- `conditional`, `branching`: errors of nested predictions have correlation sqrt(U_j / U_i) for c_j > c_i, their
  squares U_j / U_i; times kappa < 1 per step, because each depth's regression has an error of its own.

That is the correlation of errors which come from the runs. The misfit of each depth is its own, so scores are
correlated by the share of their variance that is sampling error.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Bool, Float

from bayes_prehoc import theory
from bayes_prehoc.hierarchy import laws
from bayes_prehoc.hierarchy.data import REFERENCE_DEPTH

__all__ = [
    "NEVER_IDENTICAL",
    "alpha_of_rate",
    "copula_log_density",
    "deviation",
    "effective_shape",
    "gamma_log_density",
    "log_mean_curve",
    "log_risk_curve",
    "neighbour_correlation",
    "normal_scores",
    "sampled_share",
]

STIRLING_FROM = 8.0
SMALLEST_FLOOR = 1e-30
LARGEST = 60.0
NEAR = 0.2
_HALVED = tuple(1.0 / math.factorial(n + 2) for n in range(8))
"""Of (e^z - 1 - z) / z^2, by powers of z."""
_BEND = (1.0 / 3.0, 1.0 / 36.0, -1.0 / 1620.0, -1.0 / 3240.0, 1.0 / 136_080.0)
"""Of log((e^z - 1) / root) / z."""
NEVER_IDENTICAL = 0.9995
"""Upper bound of the correlation of neighbours, so that the copula stays proper in float32."""


def alpha_of_rate(rate, proxy: str):
    """Alpha from its unbounded latent."""
    low, high = theory.alpha_bounds(proxy)
    return low + (high - low) * jax.nn.sigmoid(rate)


def log_risk_curve(level, share, rate, onset, depth, proxy: str, law: str = laws.POWER):
    """log of U(depth) over the squared scale.

    `depth` and `onset` are shares of the horizon; the latents broadcast against `depth`.
    """
    return level + jnp.log(_shape_of_curve(share, rate, onset, depth, proxy, law))


def log_mean_curve(level, share, rate, onset, noise, depth, proxy: str, law: str = laws.POWER):
    """log of the estimates' mean U(depth) + V_eval over the squared scale, (D, ...).

    Latents and `noise` broadcast against `depth`; `noise` is 0 where the outcome set's is unknown.
    """
    there = noise > 0.0
    log_noise = jnp.where(there, jnp.log(jnp.where(there, noise, 1.0)), -jnp.inf)
    # Relative to the larger of the two at c_0, so that one logarithm for each depth does.
    unit = jax.lax.stop_gradient(jnp.maximum(level, log_noise))
    curve = jnp.exp(level - unit) * _shape_of_curve(share, rate, onset, depth, proxy, law)
    return unit + jnp.log(curve + jnp.exp(log_noise - unit))


def _shape_of_curve(share, rate, onset, depth, proxy: str, law: str):
    """U(depth) / U(c_0)."""
    horizon = None if proxy == "run_to_run" else 1.0
    held = 0.0 if law == laws.NO_FLOOR else jax.nn.sigmoid(share)
    floor = jnp.maximum(held, SMALLEST_FLOOR)
    left = laws.decay(law, depth, REFERENCE_DEPTH, alpha_of_rate(rate, proxy), onset, horizon)
    return floor + (1.0 - floor) * left


def effective_shape(dof: Float[Array, "..."], misfit) -> Float[Array, "..."]:
    """Shape k = nu_eff / 2 of the gamma margin, 1 / k = 2 / nu + omega^2."""
    return 1.0 / (2.0 / dof + misfit**2)


def _log_normaliser(k):
    """k log k - k - lgamma(k), by Stirling's series where k is large."""
    small = jnp.where(k < STIRLING_FROM, k, 1.0)
    large = jnp.where(k < STIRLING_FROM, STIRLING_FROM, k)
    exact = small * jnp.log(small) - small - gammaln(small)
    series = 1.0 / large * (1.0 / 12.0 - 1.0 / large**2 * (1.0 / 360.0 - 1.0 / large**2 / 1260.0))
    return jnp.where(k < STIRLING_FROM, exact, 0.5 * jnp.log(large) - 0.5 * jnp.log(2.0 * jnp.pi) - series)


class Deviation(NamedTuple):
    """How far an estimate lies from its mean, z = log U-hat - log U, as margin and score need it.

    Attributes
    ----------
    deviance : e^z - 1 - z
    root : its signed root, sign(z) sqrt(2 deviance)
    bend : log((e^z - 1) / root) / root
    """

    deviance: Array
    root: Array
    bend: Array


def deviation(log_value, log_mean) -> Deviation:
    """Bounded where the density is nothing, so that gradients stay finite there."""
    z = jnp.minimum(log_value - log_mean, LARGEST)
    near = jnp.abs(z) < NEAR
    # Each branch where it keeps its digits; the other gets a harmless argument, for the sake of derivatives.
    small, large = jnp.where(near, z, 0.0), jnp.where(near, 1.0, z)
    rise = jnp.expm1(large)
    halved = jnp.where(near, _polynomial(small, _HALVED), (rise - large) / large**2)
    width = jnp.sqrt(2.0 * halved)
    bend = jnp.where(near, _polynomial(small, _BEND), jnp.log(rise / (large * width)) / large) / width
    # Without the barrier, XLA computes all this anew for each of the many sums that derivatives consist of.
    return Deviation(*jax.lax.optimization_barrier((halved * z**2, z * width, bend)))


def _polynomial(x, coefficients):
    found = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        found = coefficient + x * found
    return found


def gamma_log_density(log_value, off: Deviation, k):
    """Log density of a Gamma(shape k, mean) value in deviance form."""
    return _log_normaliser(k) - k * off.deviance - log_value


def normal_scores(off: Deviation, k):
    """Scores that are normal to a few hundredths far into both tails, whatever the shape.

    Barndorff-Nielsen's r* of the gamma distribution: w + log(v / w) / w, w = sqrt(k) root, v = sqrt(k) (e^z - 1).
    """
    return jnp.sqrt(k) * off.root + off.bend / jnp.sqrt(k)


def sampled_share(dof, k):
    """Share of an estimate's relative variance 1 / k that comes from its runs; the rest is misfit."""
    return 2.0 * k / dof


def neighbour_correlation(depth, log_mean, dependence, sampled, proxy: str):
    """Correlation of the scores at adjacent depths, (D - 1, ...).

    `dependence` is the correlation length l for `run_to_run`, kappa for the other proxies; `sampled` (D, ...) what
    `sampled_share` gives.
    """
    if proxy == "run_to_run":
        gap = jnp.log(depth[1:]) - jnp.log(depth[:-1])
        of_sampling = jnp.exp(-2.0 * jnp.abs(gap) / dependence)
    else:
        of_sampling = dependence * jnp.exp(jnp.minimum(log_mean[1:] - log_mean[:-1], 0.0))
    return of_sampling * jnp.sqrt(sampled[1:] * sampled[:-1])


def copula_log_density(scores: Float[Array, "D ..."], neighbour: Float[Array, "E ..."], mask: Bool[Array, "D ..."]):
    """Log density of a Gaussian Markov copula, summed over depths.

    Parameters
    ----------
    scores : normal scores; used depths come first
    neighbour : correlations of adjacent scores, E = D - 1
    mask : which scores are there

    Returns
    -------
    array (...): log c = sum over pairs of log N(s_j; r s_i, 1 - r^2) - log N(s_j; 0, 1).
    """
    pair = mask[1:] & mask[:-1]
    r = jnp.where(pair, jnp.minimum(neighbour, NEVER_IDENTICAL), 0.0)
    open_share = 1.0 - r**2
    before, after = scores[:-1], scores[1:]
    terms = -0.5 * jnp.log(open_share) - 0.5 * ((after - r * before) ** 2 / open_share - after**2)
    return jnp.sum(jnp.where(pair, terms, 0.0), axis=0)
