r"""A prior card as the prior of the hyperparameters: the logarithm of its density over the weak prior's.

In the coordinates x of `target` the weak prior is independent from coordinate to coordinate. So a card that speaks of
the coordinates K takes the weak prior's place there, and leaves it where it says nothing, if the weak prior is tilted,

.. math:: p(x) = p_{weak}(x) \, \frac{p_{card}(x_K)}{\prod_{k \in K} p_{weak}(x_k)} .

What samplers compute under the weak prior, which takes long to compile, serves under every card so. Each factor of the
bottom is normal, but for partial correlations, which are erf(x / sqrt(2 b)) of a Beta(b, b) on (-1, 1), b that of
`target.PARTIAL_BETA`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import special

from bayes_prehoc.hierarchy.target import FARTHEST_ERFC
from bayes_prehoc.priors import Weak
from bayes_prehoc.priors.mixture import Gaussians

__all__ = ["Partial", "Tilt", "tilt_of", "tilts"]


class Partial(NamedTuple):
    """Partial correlations among the K coordinates: which they are, and b and the constant of the density of each."""

    which: Int[np.ndarray | Array, " R"]
    b: Float[np.ndarray | Array, " R"]
    constant: Float[np.ndarray | Array, " R"]


class Tilt(NamedTuple):
    """A mixture of C normals of K of the P coordinates, and the weak prior of these.

    Attributes
    ----------
    places : which coordinates they are
    constant : log weight of each normal with that of its density
    mean, into : mean and inverse Cholesky factor of each
    weak_mean, weak_scale : of the weak prior's normals
    partial : Partial
    """

    places: Int[np.ndarray | Array, " K"]
    constant: Float[np.ndarray | Array, " C"]
    mean: Float[np.ndarray | Array, "C K"]
    into: Float[np.ndarray | Array, "C K K"]
    weak_mean: Float[np.ndarray | Array, " K"]
    weak_scale: Float[np.ndarray | Array, " K"]
    partial: Partial

    def log_ratio(self, x):
        """Log of the card's density over the weak prior's at points (..., Q) that begin with x; array (...).

        NumPy arrays are computed in float64, JAX arrays by JAX in their own precision.
        """
        xp = jnp if isinstance(x, jax.Array) else np
        y = (x if xp is jnp else np.asarray(x, np.float64))[..., self.places]
        # One product of matrices for all normals, which may be hundreds; from near the means, where no digits are lost.
        off, away = y - self.weak_mean, self.mean - self.weak_mean
        into = self.into.reshape(-1, len(self.places))
        white = (off @ into.T).reshape(*off.shape[:-1], *self.mean.shape)
        white = white - xp.einsum("cij,cj->ci", self.into, away)
        terms = self.constant - 0.5 * xp.sum(white**2, axis=-1)
        most = xp.max(terms, axis=-1, keepdims=True)
        card = most[..., 0] + xp.log(xp.sum(xp.exp(terms - most), axis=-1))
        standard = (y - self.weak_mean) / self.weak_scale
        weak = -0.5 * standard**2 - xp.log(self.weak_scale) - 0.5 * math.log(2.0 * math.pi)
        return card - xp.sum(weak, axis=-1) - self._beyond_normal(y, xp)

    def _beyond_normal(self, y, xp):
        """What the log densities of partial correlations are beyond those of standard normals."""
        which, b, constant = self.partial
        erfc = jax.scipy.special.erfc if xp is jnp else special.erfc
        own = y[..., which]
        at = xp.clip(own / xp.sqrt(2.0 * b), -FARTHEST_ERFC, FARTHEST_ERFC)
        log_rest = xp.log(erfc(at)) + xp.log(erfc(-at))
        return xp.sum(constant + (b - 1.0) * log_rest + 0.5 * (1.0 - 1.0 / b) * own**2, axis=-1)


def tilt_of(
    card: Gaussians,
    weak: Weak,
    places: Int[np.ndarray, " K"],
    partial: Int[np.ndarray, " R"],
    b: Float[np.ndarray, " R"],
) -> Tilt:
    """The tilt of a density of some coordinates.

    Parameters
    ----------
    card : Gaussians
        Of K coordinates.
    weak : Weak
        The weak prior of the same.
    places : array (K,)
        Where they are in x.
    partial, b : arrays (R,)
        Which of the K are partial correlations, and b of each.
    """
    factor = np.linalg.cholesky(card.covariance)
    into = np.linalg.solve(factor, np.broadcast_to(np.eye(len(places)), factor.shape))
    constant = np.log(card.weight) - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    constant = constant - 0.5 * len(places) * math.log(2.0 * math.pi)
    # Of (1 - r^2)^(b - 1) on (-1, 1), of the slope of r, less that of the normal.
    beyond = -(2.0 * b - 1.0) * math.log(2.0) - special.betaln(b, b) + 0.5 * np.log(4.0 / b)
    return Tilt(places, constant, card.mean, into, weak.mean, weak.scale, Partial(partial, b, beyond))


@jax.jit
def tilts(tilt: Tilt, points: Float[Array, "N Q"]):
    """`Tilt.log_ratio` (N,) and its gradients (N, Q)."""
    return jax.vmap(jax.value_and_grad(tilt.log_ratio))(points)
