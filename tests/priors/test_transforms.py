"""Coordinates: against SciPy's distributions, back and forth, and far out."""

import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.errors import InputError
from bayes_prehoc.priors import Site, Transform
from bayes_prehoc.priors.transforms import constrained, unconstrained


def of(kind, shape=(), labels=None, log_of=None, **parameters):
    parameters = {name: np.atleast_1d(value).tolist() for name, value in parameters.items()}
    size = int(np.prod(shape)) if kind != "correlation" else shape[0] * (shape[0] - 1) // 2
    labels = tuple(f"x{i}" for i in range(size)) if labels is None else labels
    return Site("x", shape, Transform(kind, {name: tuple(v) for name, v in parameters.items()}), labels, log_of)


REFERENCES = {
    "half_normal": (of("half_normal", scale=1.5), stats.halfnorm(scale=1.5)),
    "half_normal cut": (of("half_normal", scale=0.5, most=1.0), stats.truncnorm(0.0, 2.0, scale=0.5)),
    "exponential": (of("exponential", mean=0.33), stats.expon(scale=0.33)),
    "power": (of("power", a=9.0), stats.beta(9.0, 1.0)),
    "log": (of("log"), stats.lognorm(1.0)),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_a_coordinate_is_the_normal_value_of_the_same_quantile(name):
    site, reference = REFERENCES[name]
    quantiles = np.array([1e-9, 1e-3, 0.2, 0.5, 0.9, 0.999, 1 - 1e-7])
    values = reference.ppf(quantiles)
    y = unconstrained(site, values)
    assert y[:, 0] == pytest.approx(stats.norm.ppf(quantiles), abs=1e-6)
    assert constrained(site, y) == pytest.approx(values, rel=1e-9)


@pytest.mark.parametrize("name", REFERENCES)
def test_there_and_back_six_standard_deviations_out(name):
    site, _ = REFERENCES[name]
    # Next to the most that a value can be, double precision tells no more.
    y = np.linspace(-6.0, 4.0 if site.transform.kind == "power" else 6.0, 41)[:, None]
    assert unconstrained(site, constrained(site, y)) == pytest.approx(y, abs=1e-8)


def test_every_element_has_its_own_parameter():
    site = of("half_normal", (3,), scale=(1.5, 1.0, 0.5))
    y = unconstrained(site, np.array([[1.5, 1.0, 0.5]]))
    assert y == pytest.approx(np.full((1, 3), stats.norm.ppf(stats.halfnorm.cdf(1.0))))


def test_correlations_by_way_of_their_cholesky_factors(strict_jax):
    rng = np.random.default_rng(0)
    site = of("correlation", (4, 4), lkj=2.0)
    y = rng.normal(size=(50, 6)) * 2.0
    values = constrained(site, y)
    assert np.diagonal(values, axis1=1, axis2=2) == pytest.approx(np.ones((50, 4)))
    assert np.linalg.eigvalsh(values).min() > 0.0
    assert unconstrained(site, values) == pytest.approx(y, abs=1e-6)
    # A partial correlation, the plain way: what is left of two variables once those before are regressed out.
    own = values[7]
    rest, pair = [0, 1], [3, 2]
    left = own[np.ix_(pair, pair)] - own[np.ix_(pair, rest)] @ np.linalg.solve(
        own[np.ix_(rest, rest)], own[np.ix_(rest, pair)]
    )
    partial = left[0, 1] / np.sqrt(left[0, 0] * left[1, 1])
    # Element (3, 2) is the last of six; b of column 2 of 4 is 2 + (4 - 2 - 2) / 2.
    assert y[7, 5] == pytest.approx(np.sqrt(2 * 2.0) * stats.norm.ppf(0.5 + 0.5 * partial) / np.sqrt(2.0), abs=1e-6)


def test_coordinates_of_lkj_matrices_are_nearly_standard_normal():
    rng = np.random.default_rng(1)
    # LKJ(2) in three dimensions, by its canonical partial correlations.
    partial = {place: 2 * rng.beta(b, b, 4000) - 1 for place, b in (((1, 0), 2.5), ((2, 0), 2.5), ((2, 1), 2.0))}
    between = partial[2, 0] * partial[1, 0] + partial[2, 1] * np.sqrt(
        (1 - partial[2, 0] ** 2) * (1 - partial[1, 0] ** 2)
    )
    values = np.tile(np.eye(3), (4000, 1, 1))
    for (row, column), r in ({(1, 0): partial[1, 0], (2, 0): partial[2, 0], (2, 1): between}).items():
        values[:, row, column] = values[:, column, row] = r
    y = unconstrained(of("correlation", (3, 3), lkj=2.0), values)
    assert max(stats.kstest(column, "norm").statistic for column in y.T) < 0.04


@pytest.mark.parametrize(
    ("site", "values", "words"),
    [
        (of("log"), [0.0], "range of log"),
        (of("half_normal", scale=1.0), [-1.0], "range"),
        (of("half_normal", scale=1.0, most=1.0), [1.5], "range"),
        (of("exponential", mean=1.0), [0.0], "range"),
        (of("power", a=2.0), [1.0], "range"),
        (of("identity"), [np.nan], "not finite"),
        (of("identity", (2,)), [[1.0]], "shape"),
        (of("correlation", (2, 2), lkj=2.0), [[[1.0, 2.0], [2.0, 1.0]]], "positive definite"),
    ],
)
def test_values_outside_a_transform(site, values, words):
    with pytest.raises(InputError, match=words):
        unconstrained(site, np.array(values))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "magic"}, "no transform"),
        ({"kind": "half_normal"}, "parameters"),
        ({"kind": "log", "scale": 1.0}, "parameters"),
        ({"kind": "half_normal", "scale": -1.0}, "from 1e-06 to"),
        ({"kind": "half_normal", "scale": np.inf}, "from 1e-06 to"),
        ({"kind": "half_normal", "scale": np.nan}, "from 1e-06 to"),
        ({"kind": "half_normal", "scale": 1e-300}, "from 1e-06 to"),
        ({"kind": "half_normal", "scale": (1.0, 2.0, 3.0), "shape": (2,)}, "3 values"),
        ({"kind": "identity", "labels": ("a", "b")}, "2 labels for 1"),
        ({"kind": "correlation", "shape": (2, 3), "lkj": 1.0, "labels": ("a",)}, "as many rows"),
        ({"kind": "identity", "shape": (-2, -2)}, "positive whole"),
        ({"kind": "identity", "shape": (True,)}, "positive whole"),
        ({"kind": "identity", "log_of": "time"}, "depth"),
        ({"kind": "log", "log_of": "depth"}, "identity"),
    ],
)
def test_sites_that_cannot_be(arguments, words):
    with pytest.raises(InputError, match=words):
        of(**arguments)
