r"""Coordinates in which a posterior is nearly normal, made from draws.

The posterior of the hyperparameters is curved where data tell of a combination only: of a scale times a correlation, of
the onset together with the rate, of two parts of the dependence. A mixture of a few ellipses covers that badly in a
dozen dimensions. A triangular map straightens it. Coordinates are standardised and put in order, those that are known
least first, and each is told by those before it:

.. math:: u_k = m_k(u_1 \dots u_{k-1}) + z_k \exp s_k(u_1 \dots u_{k-1})

with m_k a polynomial, of which products of two and cubes are taken where draws ask for them, and s_k linear likewise.
For given u_1 to u_{k-1} the map is linear in z_k, so it is inverted coordinate by coordinate, and the logarithm of its
volume is the sum of s_k. It need not be right: what is not straight in z is the business of the mixture made there.

Sources: Marzouk, Moselhy, Parno & Spantini 2016 (triangular maps); Baptista, Marzouk & Zahm 2023 (terms one by one).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bayes_prehoc.hierarchy.regression import chosen_columns, regressed

__all__ = ["Bends", "bends_of_draws"]

MOST_TERMS = 30
"""Of each polynomial."""
FAR = 3.5
"""Standard deviations beyond which polynomials go on as constants."""
MOST_SCALE = 3.0
"""Largest |s_k|."""


class Bend(NamedTuple):
    """How one coordinate is told by K before it.

    Attributes
    ----------
    terms : int array (M, 3)
        Each is a product of three entries of (1, u_1, ..., u_K).
    mean, log_scale : arrays (M,) and (K + 1,)
        Coefficients of these products, and of (1, u_1, ..., u_K).
    """

    terms: Int[np.ndarray, "M 3"]
    mean: Float[np.ndarray, " M"]
    log_scale: Float[np.ndarray, " K1"]

    def at(self, before: Float[np.ndarray, "N K1"]):
        """Mean and log scale, arrays (N,), where (1, u_1, ..., u_K) are these."""
        scale = np.clip(before @ self.log_scale, -MOST_SCALE, MOST_SCALE)
        return _products(before, self.terms) @ self.mean, scale


class Bends(NamedTuple):
    """The map; `order` (P,) tells which coordinate of x each u is."""

    center: Float[np.ndarray, " P"]
    spread: Float[np.ndarray, " P"]
    order: Int[np.ndarray, " P"]
    bends: tuple[Bend, ...]

    def straight(self, x: Float[np.ndarray, "N P"]):
        """z (N, P) at x, and the log of |dz/dx| (N,)."""
        u = self._standard(x)
        before = _before(u)
        z, log_volume = np.empty_like(u), np.full(len(u), -np.log(self.spread).sum())
        for k, bend in enumerate(self.bends):
            mean, log_scale = bend.at(before[:, : k + 1])
            z[:, k] = (u[:, k] - mean) * np.exp(-log_scale)
            log_volume -= log_scale
        return z, log_volume

    def bent(self, z: Float[np.ndarray, "N P"]) -> Float[np.ndarray, "N P"]:
        """x at z."""
        before, u = np.ones((len(z), 1 + z.shape[1])), np.empty_like(z)
        for k, bend in enumerate(self.bends):
            mean, log_scale = bend.at(before[:, : k + 1])
            u[:, k] = mean + z[:, k] * np.exp(log_scale)
            before[:, k + 1] = np.clip(u[:, k], -FAR, FAR)
        x = np.empty_like(u)
        x[:, self.order] = u
        return self.center + self.spread * x

    def _standard(self, x):
        return ((x - self.center) / self.spread)[:, self.order]


def bends_of_draws(x: Float[np.ndarray, "S P"], weight: Float[np.ndarray, " S"], effective: float) -> Bends:
    """The map that draws ask for, whose weights sum to one, and which count as so many."""
    center = weight @ x
    spread = np.maximum(np.sqrt(weight @ (x - center) ** 2), 1e-6)
    made = Bends(center, spread, np.argsort(-spread), ())
    u = made._standard(x)
    before = _before(u)
    bends = tuple(_bend(before[:, : k + 1], u[:, k], weight, effective) for k in range(x.shape[1]))
    return made._replace(bends=bends)


def _bend(before, u, weight, number) -> Bend:
    known = before.shape[1] - 1
    linear = [(0, 0, i) for i in range(known + 1)]
    squares = [(0, i, j) for j in range(1, known + 1) for i in range(1, j + 1)]
    cubes = [(i, i, i) for i in range(1, known + 1)]
    terms = np.array(linear + squares + cubes)
    products = _products(before, terms)
    chosen = chosen_columns(products, u, weight, number, always=len(linear), most=MOST_TERMS)
    mean = regressed(products[:, chosen], u, weight, number)
    # Logarithms of squares are regressed, which tells less than the squares would and is not led by a few of them.
    square = (u - products[:, chosen] @ mean) ** 2
    log_square = np.log(square + 1e-3 * (weight @ square))
    slopes = chosen_columns(before, log_square, weight, number, always=1, most=MOST_TERMS)
    log_scale = np.zeros(known + 1)
    log_scale[slopes[1:]] = 0.5 * regressed(before[:, slopes], log_square, weight, number)[1:]
    # Regression leaves less than there is to its own draws, and is as far off at others.
    fitted = min(len(chosen) / number, 0.5)
    left = weight @ (square * np.exp(-2.0 * before @ log_scale))
    log_scale[0] = 0.5 * np.log(left * (1.0 + fitted) / (1.0 - fitted))
    return Bend(terms[chosen], mean, log_scale)


def _before(u):
    """(1, u_1, ..., u_P), no farther out than polynomials are followed, array (N, 1 + P)."""
    return np.concatenate([np.ones((len(u), 1)), np.clip(u, -FAR, FAR)], axis=1)


def _products(before, terms):
    return np.prod(before[:, terms], axis=2)
