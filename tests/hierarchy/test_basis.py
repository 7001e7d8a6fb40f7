"""Columns that tell tasks apart before any run: which there are, and what descriptors become."""

import dataclasses

import numpy as np
import pytest

from bayes_prehoc.hierarchy.basis import TASKS_PER_COVARIATE, basis_of
from bayes_prehoc.hierarchy.data import Sizes, model_data
from bayes_prehoc.risk.estimates import RiskEstimates


@pytest.fixture
def tasks(make):
    """Estimates of forty tasks; `told` gives them families and descriptors."""
    _, _, estimates = make.simulated(tasks=40, depths=3)

    def told(number=40, families=None, **descriptors):
        made = []
        for row, task in enumerate(estimates.tasks[:number]):
            given = {name: float(values[row]) for name, values in descriptors.items() if np.isfinite(values[row])}
            family = None if families is None else families[row]
            made.append(dataclasses.replace(task, family=family, descriptors=given))
        return RiskEstimates(estimates.proxy, tuple(made))

    return told


def test_covariates_are_standard_and_independent(tasks):
    rng = np.random.default_rng(0)
    size = rng.lognormal(8, 2, 40)
    estimates = tasks(size=size, again=size * rng.lognormal(0, 0.1, 40), score=rng.normal(size=40), same=np.ones(40))
    basis = basis_of(estimates)
    assert basis.covariates.names == ("again", "score", "size") and basis.covariates.logarithm.tolist() == [1, 0, 1]
    made = np.asarray(model_data(estimates, basis).covariates, float)
    assert made.shape == (40, 3) and model_data(estimates).sizes == Sizes(1, 0, 3)
    np.testing.assert_allclose(made.T @ made / 40, np.eye(3), atol=1e-5)
    # The first is what the two sizes have in common.
    assert abs(np.corrcoef(made[:, 0], np.log(size))[0, 1]) > 0.95


def test_there_are_no_more_covariates_than_tasks_tell(tasks):
    rng = np.random.default_rng(1)
    many = {f"d{i}": rng.normal(size=40) for i in range(9)}
    for number, most in ((TASKS_PER_COVARIATE - 1, 0), (25, 2), (40, 4)):
        covariates = basis_of(tasks(number, **many)).covariates
        assert (0 if covariates is None else covariates.into.shape[1]) == most
    assert basis_of(tasks()).covariates is None


def test_a_descriptor_that_is_missing_counts_as_average(tasks):
    rng = np.random.default_rng(2)
    size, rare = rng.lognormal(8, 2, 40), np.where(np.arange(40) < 15, 1.0 + np.arange(40), np.nan)
    size[3] = np.nan
    estimates = tasks(size=size, rare=rare)
    covariates = basis_of(estimates).covariates
    assert covariates.names == ("size",)
    assert covariates.of(estimates.tasks[3]) == 0.0
    far, negative = (dataclasses.replace(estimates.tasks[0], descriptors={"size": own}) for own in (1e30, -1.0))
    assert abs(covariates.of(far)) == pytest.approx(3.0, rel=0.2) and covariates.of(negative) == 0.0


def test_families_are_a_level_where_they_can_be_told_apart(tasks):
    few = [None, "a", "b"] * 2 + ["b"]
    assert basis_of(tasks(7, few)).families == ()
    assert basis_of(tasks(9, ["a"] * 9)).families == ()
    estimates = tasks(9, [None, "a", "b"] * 3)
    basis = basis_of(estimates)
    assert basis.families == ("", "a", "b")
    np.testing.assert_array_equal(model_data(estimates).family, np.tile(np.eye(3), (3, 1)))
    other = RiskEstimates(estimates.proxy, (dataclasses.replace(estimates.tasks[0], family="c"),))
    np.testing.assert_array_equal(model_data(other, basis).family, [[0.0, 0.0, 0.0]])
