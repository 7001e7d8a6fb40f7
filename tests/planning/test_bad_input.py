"""What a user can get wrong about costs, prices, tolerances and depths: each error names the place and the remedy."""

import math

import numpy as np
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning import LinearCost, TableCost, ThresholdLoss, plan

NO_NUMBERS = [0.0, -1.0, math.nan, math.inf, -math.inf, True, "0.01", None, [0.01], np.array([0.01])]


@pytest.mark.parametrize("value", [v for v in NO_NUMBERS if v is not None], ids=repr)
@pytest.mark.parametrize("argument", ["tolerance", "c_cheap", "gamma"])
def test_not_a_positive_number(make, argument, value):
    with pytest.raises(InputError, match="finite number greater than 0") as error:
        plan(make.posterior(), **{argument: value})
    assert error.value.where == argument


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize("argument", ["tolerance", "c_cheap"])
def test_not_a_positive_number_for_one_task(make, argument, value):
    posterior = make.posterior({"a": make.curve(), "b": make.curve()})
    with pytest.raises(InputError, match="finite number greater than 0") as error:
        plan(posterior, **{argument: {"a": 0.02, "b": value}})
    assert error.value.where == f"{argument}, task 'b'"


@pytest.mark.parametrize(
    ("argument", "given", "where", "remedy"),
    [
        ("tolerance", {"c": 0.1}, "tolerance", "Name one of the fitted tasks: a, b."),
        ("c_cheap", {"c": 0.1}, "c_cheap", "Name one of the fitted tasks: a, b."),
        ("c_cheap", 1000.1, "c_cheap, task 'a'", "at most 1000"),
        ("c_cheap", {"b": 2e3}, "c_cheap, task 'b'", "at most 1000"),
        ("cost", 0.4, "cost", "LinearCost(per_unit"),
        ("cost", {"a": LinearCost(0.4)}, "cost", "Give one for each task"),
        ("cost", {"a": LinearCost(0.4), "b": 0.4}, "cost, task 'b'", "LinearCost(per_unit"),
        ("cost", {"c": LinearCost(0.4)}, "cost", "Name one of the fitted tasks: a, b."),
        ("gamma", {"c": 3.0}, "gamma", "Name one of the fitted tasks: a, b."),
        ("cost", TableCost((40.0, 1000.0), (1.0, 2.0)), "cost, task 'a'", "from the shallowest fitted depth"),
        ("cost", TableCost((0.0, 900.0), (1.0, 2.0)), "cost, task 'a'", "to its horizon"),
        ("gamma", ThresholdLoss(0.9, 1.0, 1.0), "gamma, task 'a'", "State higher_is_better"),
    ],
)
def test_what_does_not_fit_the_tasks(make, argument, given, where, remedy):
    posterior = make.posterior({"a": make.curve(), "b": make.curve()})
    with pytest.raises(InputError) as error:
        plan(posterior, **{argument: given})
    assert error.value.where == where
    assert remedy in error.value.remedy


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_impossible_cost_per_unit(value):
    with pytest.raises(InputError, match="per_unit") as error:
        LinearCost(value)
    assert error.value.where == "cost"


@pytest.mark.parametrize(
    ("fixed", "unit", "named"),
    [
        (-0.1, "full run", "fixed"),
        (math.nan, "full run", "fixed"),
        (math.inf, "full run", "fixed"),
        (True, "full run", "fixed"),
        ("2", "full run", "fixed"),
        (0.0, "", "unit"),
        (0.0, "  ", "unit"),
        (0.0, 3, "unit"),
        (0.0, None, "unit"),
    ],
)
def test_impossible_rest_of_a_cost(fixed, unit, named):
    with pytest.raises(InputError, match=named) as error:
        LinearCost(1.0, fixed, unit)
    assert error.value.where == "cost" and error.value.remedy


def test_numbers_of_numpy_are_numbers(make):
    made = plan(
        make.posterior(),
        cost=LinearCost(np.float32(0.5), np.int64(2), "GPU hour"),
        tolerance=np.float64(0.02),
        c_cheap={"a": np.int32(40)},
        gamma=7,
    )
    task = made["a"]
    assert (task.cost.per_unit, task.cost.fixed, task.tolerance, task.c_cheap, task.gamma) == (0.5, 2.0, 0.02, 40.0, 7)
    assert task.cost.at(10.0) == 7.0
    assert all(type(v) is float for v in (task.cost.fixed, task.tolerance, task.c_cheap, task.gamma))


def test_a_task_that_was_set_aside_may_be_named(make):
    posterior = make.posterior(set_aside=[("z", "one seed only")])
    assert plan(posterior, tolerance={"z": 0.5, "a": 0.02})["a"].tolerance == 0.02


def test_a_task_that_does_not_exist(make):
    made = plan(make.posterior())
    with pytest.raises(InputError, match="The tasks are: a"):
        made["b"]
    with pytest.raises(InputError, match="'z' was set aside: one seed only"):
        plan(make.posterior(set_aside=[("z", "one seed only")]))["z"]
