r"""Likelihood of one estimate of a risk: the curve it estimates, the margin around it, and its normal score.

An estimate with nu effective degrees of freedom of a risk V follows, to a very good approximation, a Gamma distribution
with mean V and shape nu / 2. V lies off the curve U of the law by a factor whose logarithm is normal, with mean 0 and a
variance that is the sum of two,

- omega^2, the misfit, which each depth has of its own,
- delta^2 |log(c / c_T)|, the drift of a spread between runs, which is a random walk in log depth: where schedules make
  a spread rise and fall, deviations last. At the horizon the drift is nothing. Of the other proxies there is none.

What comes of both is taken to be an F distribution of shapes a and b, moved: the one whose logarithm has the mean, the
variance and, all but, the third moment. With z its logarithm and p = a / (a + b),

.. math:: \log p = N(a) + N(b) - N(a + b) - (a + b) [\log(1 - p + p e^z) - p z] - \log \hat U , \quad
    N(x) = x \log x - x - \log\Gamma(x) .

Without misfit b is without bound, and this is the gamma density in deviance form, which keeps its digits in float32
when a is large.

Arrays over depths have them along their first axis, (D, ...): whatever else there is lies contiguous behind it. How
estimates at different depths depend on each other is `copula`.

Source: Barndorff-Nielsen 1986 (r*).
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bayes_prehoc import theory
from bayes_prehoc.hierarchy import laws
from bayes_prehoc.hierarchy.data import REFERENCE_DEPTH

__all__ = [
    "Deviation",
    "Errors",
    "Shared",
    "alpha_of_rate",
    "deviation",
    "errors_of",
    "information_of",
    "log_density",
    "log_mean_curve",
    "log_peak",
    "log_risk_curve",
    "normal_scores",
]

STIRLING_FROM = 8.0
SHIFT = 6
SMALLEST_FLOOR = 1e-30
LARGEST, FARTHEST = 60.0, 1000.0
NEAR = 0.2
SMALLEST_MISFIT = 1e-16
"""1 / b of what has no misfit; its square is a number in single precision still, which slopes divide by."""


class Shared(NamedTuple):
    """What the likelihood of all tasks needs beside their latents; numbers, or arrays that broadcast to theirs.

    Attributes
    ----------
    onset : c_1 over the horizon
    misfit : omega
    dependence : correlation length for `run_to_run`, kappa for the other proxies
    drift : delta; 0 for the other proxies
    lasting : lambda, the share of the sampling error's variance that depths have in common at all; 1 for the others
    """

    onset: Float[Array, "..."] | float
    misfit: Float[Array, "..."] | float
    dependence: Float[Array, "..."] | float
    drift: Float[Array, "..."] | float = 0.0
    lasting: Float[Array, "..."] | float = 1.0


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


class Errors(NamedTuple):
    """How estimates lie around the curve, arrays (D, ...).

    Attributes
    ----------
    shape, inverse_shape : a and 1 / b
    shift : of the logarithm
    sampling, drift, own : loadings of the normal score, whose squares are shares of the variance: of the sampling error
        that depths have in common, of the drift, and of what each depth has of its own
    """

    shape: Float[Array, "..."]
    inverse_shape: Float[Array, "..."]
    shift: Float[Array, "..."]
    sampling: Float[Array, "..."]
    drift: Float[Array, "..."]
    own: Float[Array, "..."]


def errors_of(dof: Float[Array, "..."], depth: Float[Array, "..."], shared: Shared) -> Errors:
    """Errors of estimates with so many degrees of freedom at these depths, shares of the horizon.

    The logarithm of a gamma variable of shape a has, to a fifth, the variance v = 1 / a + 1 / a^2 and the third moment
    -v^2. So with v of sampling and w of the factor, shapes whose variances add up to v + w and whose squares differ by
    v^2 have the moments of both together; without a factor they are a and infinity.
    """
    sampling = jnp.sqrt(2.0 / dof + 4.0 / dof**2)
    drift = shared.drift * jnp.sqrt(jnp.abs(jnp.log(depth)))
    factor = shared.misfit**2 + drift**2
    total = sampling**2 + factor
    less = _inverse_shape(0.5 * factor * (2.0 * sampling**2 + factor) / total)
    shape, less = 1.0 / _inverse_shape(0.5 * (total + sampling**4 / total)), jnp.maximum(less, SMALLEST_MISFIT)
    shift = _mean_logarithm(0.5 * dof) - _mean_logarithm(shape) + _mean_logarithm(1.0 / less)
    own = jnp.sqrt(shared.misfit**2 + (1.0 - shared.lasting) * sampling**2 + SMALLEST_MISFIT)
    loadings = (part / jnp.sqrt(total) for part in (jnp.sqrt(shared.lasting) * sampling, drift, own))
    return Errors(shape, less, shift, *loadings)


def _inverse_shape(variance):
    """1 / a where the variance is 1 / a + 1 / a^2."""
    return 2.0 * variance / (1.0 + jnp.sqrt(1.0 + 4.0 * variance))


def _mean_logarithm(shape):
    """Of a gamma variable with mean 1, digamma(a) - log a; by recurrence from where Stirling's series holds."""
    over = 1.0 / (shape + SHIFT)
    series = -over * (0.5 + over * (1.0 / 12.0 - over**2 * (1.0 / 120.0 - over**2 / 252.0)))
    return series + jnp.log1p(SHIFT / shape) - sum(1.0 / (shape + i) for i in range(SHIFT))


class Deviation(NamedTuple):
    """How far an estimate lies from where it is likeliest, as margin and score need it.

    Each is over the information at z = 0.

    Attributes
    ----------
    deviance : minus the log density of z, 0 at z = 0
    root : its signed root, sign(z) sqrt(2 deviance)
    bend : log(v / root) / root, v the slope of the log density
    """

    deviance: Array
    root: Array
    bend: Array


def deviation(log_value, log_mean, errors: Errors) -> Deviation:
    """Bounded where the density is nothing, so that gradients stay finite there."""
    misfit = errors.shape * errors.inverse_shape
    upside, downside = misfit / (1.0 + misfit), 1.0 / (1.0 + misfit)
    # Turned over where p is above 1/2, so that nothing cancels: the larger shape rules the nearer tail.
    turned = upside > downside
    p = jnp.where(turned, downside, upside)
    z = log_value - log_mean - errors.shift
    u = jnp.clip(jnp.where(turned, -z, z), -FARTHEST, LARGEST)
    z = jnp.where(turned, -u, u)
    near = jnp.abs(u) < NEAR
    # Each branch where it keeps its digits; the other gets a harmless argument, for the sake of derivatives.
    small, large = jnp.where(near, u, 0.0), jnp.where(near, 1.0, u)
    # Where it is used, the exponential is far enough from 1 to lose next to nothing.
    rise = jnp.exp(large) - 1.0
    log_rest = jnp.log1p(p * rise)
    far = (log_rest * (2.0 / (p * (1.0 - p))) - large * (2.0 / (1.0 - p))) / large**2
    squared = jnp.where(near, _polynomial(small, _squared_series(p)), far)
    width = jnp.sqrt(squared)
    far = (jnp.log(rise / (large * width)) - log_rest) / large
    bend = jnp.where(near, _polynomial(small, _bend_series(p)), far) / width
    bend = jnp.where(turned, -bend, bend)
    # Without the barrier, XLA computes all this anew for each of the many sums that derivatives consist of.
    return Deviation(*jax.lax.optimization_barrier((0.5 * squared * z**2, z * width, bend)))


def _squared_series(p):
    """Of 2 deviance / u^2, by powers of u: cumulants of a Bernoulli variable over its variance."""
    v, d = p * (1.0 - p), 1.0 - 2.0 * p
    cumulants = (
        1.0,
        d,
        1.0 - 6.0 * v,
        d * (1.0 - 12.0 * v),
        1.0 + v * (-30.0 + 120.0 * v),
        d * (1.0 + v * (-60.0 + 360.0 * v)),
        1.0 + v * (-126.0 + v * (1680.0 - 5040.0 * v)),
    )
    return tuple(own * (2.0 / math.factorial(n + 2)) for n, own in enumerate(cumulants))


def _bend_series(p):
    """Of log(v / root) / u, by powers of u."""
    v, d = p * (1.0 - p), 1.0 - 2.0 * p
    return (
        d / 3.0,
        (1.0 - 13.0 * v) / 36.0,
        -d * (1.0 + 203.0 * v) / 1620.0,
        (-2.0 + v * (-203.0 + 1249.0 * v)) / 6480.0,
        d * (1.0 + v * (-851.0 + 10_678.0 * v)) / 136_080.0,
        (68.0 + v * (-12_759.0 + v * (400_425.0 - 1_623_038.0 * v))) / 12_247_200.0,
    )


def _polynomial(x, coefficients):
    found = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        found = coefficient + x * found
    return found


def information_of(errors: Errors):
    """Minus the second derivative of the log density by z at z = 0, a b / (a + b)."""
    return errors.shape / (1.0 + errors.shape * errors.inverse_shape)


def log_density(log_value, off: Deviation, errors: Errors):
    """Log density of an estimate, from its logarithm."""
    return log_peak(errors) - information_of(errors) * off.deviance - log_value


def log_peak(errors: Errors):
    """Log density of the logarithm of an estimate at z = 0, where it is largest."""
    a, b = errors.shape, 1.0 / errors.inverse_shape
    peak = _log_normaliser(a) - 0.5 * jnp.log1p(a * errors.inverse_shape)
    return peak + _less_half_log(b) - _less_half_log(a + b)


def _log_normaliser(x):
    """N(x) = x log x - x - lgamma(x)."""
    return 0.5 * jnp.log(x) + _less_half_log(x)


def _less_half_log(x):
    """N(x) less log(x) / 2, by Stirling's series; where x is small by recurrence from where that holds."""
    few = x < STIRLING_FROM
    small = jnp.where(few, x, 1.0)
    # Each branch where it keeps its digits; the other gets a harmless argument, for the sake of derivatives.
    at = jnp.where(few, small + SHIFT, x)
    over = 1.0 / at
    series = over * (1.0 / 12.0 - over**2 * (1.0 / 360.0 - over**2 * (1.0 / 1260.0 - over**2 / 1680.0)))
    raised = small + SHIFT
    product = functools.reduce(lambda made, i: made * (small + i), range(SHIFT), 1.0)
    moved = (small - 0.5) * jnp.log(small) - (raised - 0.5) * jnp.log(raised) + jnp.log(product) + SHIFT
    return jnp.where(few, moved, 0.0) - 0.5 * math.log(2.0 * math.pi) - series


def normal_scores(off: Deviation, errors: Errors):
    """Scores that are normal to a few hundredths far into both tails, whatever the shapes: Barndorff-Nielsen's r*."""
    width = jnp.sqrt(information_of(errors))
    return width * off.root + off.bend / width
