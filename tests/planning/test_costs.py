"""Costs: what they are at a depth, what they are counted in, and what a user can get wrong about them."""

import json
import math

import numpy as np
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning import ConvexCost, LinearCost, TableCost
from bayes_prehoc.planning.costs import cost_from_dict

TABLE = TableCost((0.0, 10.0, 40.0), (2.0, 3.0, 12.0), "GPU hour")
COSTS = [
    LinearCost(0.25, 2.0, "GPU hour"),
    LinearCost(6e15, unit="FLOP", price=2e-18, currency="USD"),
    ConvexCost(0.5, 20.0, 3.0, 1.0, "token"),
    TABLE,
    TableCost((1, 4), (0, 0), price=3, currency="EUR"),
]


def test_costs_at_a_depth():
    assert COSTS[0].at(8.0) == 4.0
    assert COSTS[1].at(100.0) == pytest.approx(1.2)
    assert COSTS[2].at(0.0) == 1.0
    # At the doubling depth the variable part is twice what it would be by the first unit's cost.
    assert COSTS[2].at(20.0) == pytest.approx(1.0 + 2 * 0.5 * 20.0)
    np.testing.assert_allclose(TABLE.at(np.array([0.0, 5.0, 10.0, 20.0, 40.0])), [2.0, 2.5, 3.0, 6.0, 12.0])
    assert [cost.set_up for cost in COSTS] == [2.0, 0.0, 1.0, 2.0, 0.0]
    assert TABLE.of_full_run(40.0) == 10.0 and COSTS[0].of_full_run(40.0) == 10.0


def test_money_where_a_price_is_stated():
    assert [cost.counted_in for cost in COSTS] == ["GPU hour", "USD", "token", "GPU hour", "EUR"]
    hours = TableCost(TABLE.depths, TABLE.costs, "GPU hour", 2.5, "EUR")
    np.testing.assert_allclose(hours.at(np.array([5.0, 25.0])), 2.5 * TABLE.at(np.array([5.0, 25.0])))
    assert hours.set_up == 5.0


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: type(cost).__name__)
def test_a_cost_never_falls_and_its_pieces_are_its_slopes(cost):
    low, high = (1.0, 4.0) if cost.set_up == 0.0 else (3.0, 40.0)
    grid = np.linspace(low, high, 997)
    assert np.all(np.diff(cost.at(grid)) >= 0.0)
    for piece in cost.pieces(low, high):
        middle = 0.5 * (piece.low + piece.high)
        step = 1e-4 * (piece.high - piece.low)
        slope = (cost.at(middle + step) - cost.at(middle - step)) / (2 * step)
        assert piece.marginal(middle) == pytest.approx(slope, rel=1e-6, abs=1e-12)
        assert piece.at(middle) == pytest.approx(cost.at(middle))
    ends = [end for piece in cost.pieces(low, high) for end in (piece.low, piece.high)]
    assert ends[0] == low and ends[-1] == high and ends[1:-1:2] == ends[2:-1:2]


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: type(cost).__name__)
def test_round_trip(cost):
    assert cost_from_dict(json.loads(json.dumps(cost.to_dict()))) == cost


def test_a_cost_of_earlier_versions_has_no_form():
    assert cost_from_dict({"per_unit": 0.1, "fixed": 3.0, "unit": "GPU hour"}) == LinearCost(0.1, 3.0, "GPU hour")


@pytest.mark.parametrize(
    ("depths", "costs", "said"),
    [
        ((0.0, 10.0, 20.0), (1.0, 3.0, 2.5), "the cost falls from 3 at depth 10 to 2.5 at 20"),
        ((0.0, 10.0, 10.0), (1.0, 2.0, 3.0), "depth 10 follows 10"),
        ((0.0, 10.0), (1.0, 2.0, 3.0), "2 depths and 3 costs"),
        ((5.0,), (1.0,), "1 depths and 1 costs"),
        ((0.0, math.nan), (1.0, 2.0), "depths hold nan"),
        ((0.0, 1.0), (1.0, math.inf), "costs hold inf"),
        ((-1.0, 1.0), (1.0, 2.0), "depths hold -1.0"),
        ((0.0, 1.0), (True, 2.0), "costs hold True"),
        ("01", (1.0, 2.0), "depths are '01'"),
        ((0.0, 1.0), 3.0, "costs are 3.0"),
    ],
)
def test_impossible_tables(depths, costs, said):
    with pytest.raises(InputError, match=said) as error:
        TableCost(depths, costs)
    assert error.value.where == "cost" and error.value.remedy


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ConvexCost(0.0, 10.0), "per_unit is 0.0"),
        (lambda: ConvexCost(1.0, -10.0), "doubling is -10.0"),
        (lambda: ConvexCost(1.0, 10.0, 1.0), "power is 1.0"),
        (lambda: ConvexCost(1.0, 10.0, fixed=-1.0), "fixed is -1.0"),
        (lambda: LinearCost(1.0, price=2.0), "price is 2.0 and currency None"),
        (lambda: LinearCost(1.0, currency="EUR"), "price is None and currency 'EUR'"),
        (lambda: LinearCost(1.0, price=-2.0, currency="EUR"), "price is -2.0"),
        (lambda: LinearCost(1.0, price=2.0, currency=" "), "currency is ' '"),
        (lambda: TableCost((0.0, 1.0), (1.0, 2.0), ""), "unit is ''"),
    ],
)
def test_impossible_costs(make, said):
    with pytest.raises(InputError, match=said) as error:
        make()
    assert error.value.where == "cost" and error.value.remedy


def test_a_table_has_no_cost_beyond_its_depths():
    with pytest.raises(InputError, match="knows depths 0 to 40"):
        TABLE.at(41.0)
    with pytest.raises(InputError, match="knows depths 1 to 4"):
        COSTS[4].at(np.array([0.5, 2.0]))
