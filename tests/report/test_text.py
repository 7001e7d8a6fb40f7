"""Numbers as text: what is printed is the number, to the digits promised."""

import pytest

from bayes_prehoc.planning import Interval
from bayes_prehoc.report.text import (
    depth_unit,
    interval,
    number,
    probability,
    quantity,
    regime_key,
    root,
    stated,
)


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (0.0, "0.00"),
        (1.0, "1.00"),
        (9.996, "10.0"),
        (0.001234, "0.00123"),
        (-0.5, "−0.500"),
        (12345.0, "12300"),
        (123456.0, "1.23×10⁵"),
        (3.456e-6, "3.46×10⁻⁶"),
        (9.999e-7, "1.00×10⁻⁶"),
        (None, "withheld"),
    ],
)
def test_three_significant_digits(value, printed):
    assert number(value) == printed


def test_an_interval_has_one_power_of_ten():
    told = interval(Interval(2.0e-6, 1.0e-7, 3.456e-5))
    assert (told.median, told.range, told.power) == ("0.20", "[0.01, 3.46]", "×10⁻⁵")
    assert str(interval(Interval(1.5, 0.25, 12.0))) == "1.5 [0.2, 12.0]"
    assert interval(None) is None


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (0.0, "<0.01"),
        (0.004, "<0.01"),
        (0.005, "0.01"),
        (0.5, "0.50"),
        (0.994, "0.99"),
        (0.996, ">0.99"),
        (1.0, ">0.99"),
    ],
)
def test_no_probability_is_printed_as_certain(value, printed):
    assert probability(value) == printed


@pytest.mark.parametrize(("value", "printed"), [(0.01, "0.01"), (400.0, "400"), (0.002, "0.002"), (3e-7, "3.00×10⁻⁷")])
def test_a_stated_number_keeps_the_digits_it_was_given(value, printed):
    assert stated(value) == printed


def test_words(one, ninety_nine):
    assert (depth_unit("step"), depth_unit("FLOPs")) == ("steps", "FLOPs")
    assert [regime_key(r) for r in ("static-sufficient", "noise-dominant", None)] == ["static", "noise", "plain"]
    assert (quantity(one.tasks[0]), root(one.tasks[0])) == ("risk", "RMSE")
    assert (quantity(ninety_nine.tasks[0]), root(ninety_nine.tasks[0])) == ("spread", "SD between runs")
