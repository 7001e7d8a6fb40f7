r"""Hyperparameters and the unconstrained coordinates that a prior card is a density of.

A hyperparameter is a site with a name, a shape and a transform. Scales and shares are there as the standard normal
value of the same quantile under a reference distribution,

    y = Phi^-1(F(value)),

since a logarithm or a logit has tails that are only exponential where data allow no spread at all, which no mixture of
few normals covers. Where nothing was learned and the reference distribution is the prior, y is exactly standard normal.
Correlation matrices are their canonical partial correlations r = erf(y / sqrt(2 b)), nearly standard normal where the
matrix is LKJ (Lewandowski, Kurowicka & Joe 2009: under LKJ(eta) the partial correlations of the j-th of d columns are
Beta(b, b) on (-1, 1) with b = eta + (d - 2 - j) / 2).

All functions compute in NumPy float64.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy import special

from bayes_prehoc.errors import InputError

__all__ = ["PARAMETERS", "Site", "Transform", "constrained", "size_of", "unconstrained"]

PARAMETERS = {
    "identity": ((), ()),
    "log": ((), ()),
    "half_normal": (("scale",), ("most",)),
    "exponential": (("mean",), ()),
    "power": (("a",), ()),
    "correlation": (("lkj",), ()),
}
"""Kinds of transforms with the parameters that each must have and may have."""
MOST_AXES = 4
LARGEST = 1e6
"""Of parameters; no hyperparameter is of an order beyond."""
LEAST = 1e-300
"""Probability that stands for none."""


@dataclasses.dataclass(frozen=True)
class Transform:
    """How a value becomes coordinates.

    Attributes
    ----------
    kind : str
        "identity"; "log"; "half_normal" (`scale`, and `most` where it is cut there); "exponential" (`mean`); "power"
        (the distribution Beta(`a`, 1)); "correlation" (`lkj`, the concentration).
    parameters : mapping from name to tuple of float
        Positive; one number, or one for each element of the value.
    """

    kind: str
    parameters: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Site:
    """A hyperparameter.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Of a value; () is a number, (d, d) a correlation matrix.
    transform : Transform
    labels : tuple of str
        Names of its coordinates, unique in a card. Of a correlation matrix they are the elements below the diagonal,
        row by row.
    log_of : str or None
        "depth" or "risk" where the coordinate is the logarithm of one in the card's units, which another unit shifts.
    """

    name: str
    shape: tuple[int, ...]
    transform: Transform
    labels: tuple[str, ...]
    log_of: str | None = None

    def __post_init__(self):
        where = f"site {self.name!r}"
        whole = all(isinstance(part, int) and not isinstance(part, bool) and part > 0 for part in self.shape)
        if not whole or len(self.shape) > MOST_AXES:
            raise InputError(f"its shape is {self.shape}", where, f"Give at most {MOST_AXES} positive whole numbers.")
        must, may = PARAMETERS.get(self.transform.kind, ((), ()))
        if self.transform.kind not in PARAMETERS:
            raise InputError(
                f"{self.transform.kind!r} is no transform", where, f"Transforms are {', '.join(PARAMETERS)}."
            )
        there = set(self.transform.parameters)
        if not set(must) <= there <= {*must, *may}:
            raise InputError(
                f"{self.transform.kind} has the parameters {sorted(there)}", where, f"Give {[*must, *may]}."
            )
        if self.transform.kind == "correlation" and (len(self.shape) != 2 or len(set(self.shape)) > 1):
            raise InputError(f"a correlation matrix of shape {self.shape}", where, "Give it as many rows as columns.")
        size = size_of(self.shape, self.transform.kind)
        if size < 1 or len(self.labels) != size:
            raise InputError(f"{len(self.labels)} labels for {size} coordinates", where, "Give one for each.")
        for name, values in self.transform.parameters.items():
            if len(values) not in (1, math.prod(self.shape)) or (name == "lkj" and len(values) > 1):
                raise InputError(f"{len(values)} values of {name}", where, "Give one, or one for each element.")
            if not all(1.0 / LARGEST <= value <= LARGEST for value in values):
                raise InputError(f"{name} is {values}", where, f"Give numbers from {1 / LARGEST:g} to {LARGEST:g}.")
        if self.log_of not in (None, "depth", "risk"):
            raise InputError(f"it is the logarithm of {self.log_of!r}", where, "Say 'depth', 'risk' or nothing.")
        if self.log_of is not None and self.transform.kind != "identity":
            raise InputError("a unit of what is no plain logarithm", where, "Give it the transform 'identity'.")


def size_of(shape: tuple[int, ...], kind: str) -> int:
    """How many coordinates a value of that shape has."""
    return shape[0] * (shape[0] - 1) // 2 if kind == "correlation" else math.prod(shape)


def unconstrained(site: Site, values: Float[np.ndarray, "S ..."]) -> Float[np.ndarray, "S P"]:
    """Coordinates of S values, arrays (S, *shape).

    Raises
    ------
    InputError
        Values of another shape, or outside what the transform maps.
    """
    values = np.asarray(values, np.float64)
    where = f"site {site.name!r}"
    if values.shape[1:] != site.shape:
        raise InputError(f"values of shape {values.shape[1:]}", where, f"Give them as {site.shape}.")
    if not np.all(np.isfinite(values)):
        raise InputError("a value is not finite", where, "Leave out draws that are not.")
    if site.transform.kind == "correlation":
        return _of_correlations(values, site)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found = _MAPS[site.transform.kind][0](values.reshape(len(values), -1), **_arrays(site))
    if not np.all(np.isfinite(found)):
        raise InputError(f"a value is outside the range of {site.transform.kind}", where, "Give values within it.")
    return found


def constrained(site: Site, coordinates: Float[np.ndarray, "S P"]) -> Float[np.ndarray, "S ..."]:
    """The inverse: S values (S, *shape)."""
    coordinates = np.asarray(coordinates, np.float64)
    if site.transform.kind == "correlation":
        return _to_correlations(coordinates, site)
    with np.errstate(over="ignore"):
        found = _MAPS[site.transform.kind][1](coordinates, **_arrays(site))
    return found.reshape(len(coordinates), *site.shape)


def _arrays(site):
    return {name: np.array(values) for name, values in site.transform.parameters.items()}


def _normal_of(below, above):
    """The standard normal value with these probabilities below and above; the smaller one tells it exactly."""
    return np.where(below < 0.5, special.ndtri(np.maximum(below, LEAST)), -special.ndtri(np.maximum(above, LEAST)))


def _from_half_normal(value, scale, most=np.inf):
    held, standard = special.erf(most / scale / math.sqrt(2.0)), value / scale / math.sqrt(2.0)
    y = _normal_of(special.erf(standard) / held, (special.erfc(standard) - (1.0 - held)) / held)
    return np.where((value > 0.0) & (value <= most), y, np.nan)


def _to_half_normal(y, scale, most=np.inf):
    held = special.erf(most / scale / math.sqrt(2.0))
    below, above = held * special.ndtr(y), 1.0 - held + held * special.ndtr(-y)
    standard = np.where(y < 0.0, special.erfinv(np.minimum(below, 0.9)), special.erfcinv(above))
    return np.minimum(math.sqrt(2.0) * scale * standard, most)


def _from_exponential(value, mean):
    y = _normal_of(-np.expm1(-value / mean), np.exp(-value / mean))
    return np.where(value > 0.0, y, np.nan)


def _to_exponential(y, mean):
    return mean * np.where(y < 0.0, -np.log1p(-special.ndtr(np.minimum(y, 0.0))), -special.log_ndtr(-y))


def _from_power(value, a):
    y = _normal_of(value**a, -np.expm1(a * np.log(np.maximum(value, LEAST))))
    return np.where((value > 0.0) & (value < 1.0), y, np.nan)


_MAPS = {
    "identity": (lambda value: value, lambda y: y),
    "log": (np.log, np.exp),
    "half_normal": (_from_half_normal, _to_half_normal),
    "exponential": (_from_exponential, _to_exponential),
    "power": (_from_power, lambda y, a: np.exp(special.log_ndtr(y) / a)),
}


def _betas(site):
    """b of each element below the diagonal, row by row."""
    size = site.shape[0]
    (lkj,) = site.transform.parameters["lkj"]
    return np.array([lkj + 0.5 * (size - 2 - column) for row in range(size) for column in range(row)])


def _of_correlations(values, site):
    try:
        factor = np.linalg.cholesky(values)
    except np.linalg.LinAlgError:
        raise InputError(
            "a correlation matrix is not positive definite", f"site {site.name!r}", "Leave out draws that are not."
        ) from None
    rows, columns = np.tril_indices(site.shape[0], -1)
    # What the columns before have left of a row's unit length.
    left = np.sqrt(np.maximum(1.0 - np.cumsum(factor**2, axis=2) + factor**2, LEAST))
    partial = np.clip(factor[:, rows, columns] / left[:, rows, columns], -1.0 + 1e-15, 1.0 - 1e-15)
    return np.sqrt(2.0 * _betas(site)) * special.erfinv(partial)


def _to_correlations(coordinates, site):
    size = site.shape[0]
    rows, columns = np.tril_indices(size, -1)
    standard = coordinates / np.sqrt(2.0 * _betas(site))
    partial, rest = np.zeros((2, len(coordinates), size, size))
    partial[:, rows, columns] = special.erf(standard)
    # 1 - r^2, to the last digit where r is nearly one.
    rest[:, rows, columns] = special.erfc(standard) * special.erfc(-standard)
    factor = np.zeros_like(partial)
    for row in range(size):
        left = np.ones(len(coordinates))
        for column in range(row):
            factor[:, row, column] = partial[:, row, column] * np.sqrt(left)
            left *= rest[:, row, column]
        factor[:, row, row] = np.sqrt(left)
    return factor @ np.swapaxes(factor, 1, 2)
