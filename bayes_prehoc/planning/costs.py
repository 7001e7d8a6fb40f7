r"""What watching a run costs: never less at a greater depth.

`LinearCost` C(c) = C_s + lambda c, `ConvexCost` C(c) = C_s + lambda c (1 + (c / d)^{p-1}), `TableCost` measured costs
with straight lines between them. Each is made of pieces of one form,

.. math:: C(c) = b + \lambda c \, (1 + (c / d)^{p-1}) , \qquad d = \infty \text{ where it is straight,}

on each of which risk plus cost is convex in depth, so that one solver serves them all.

C_s is paid at any depth, so it moves no decision about how deep to look; it counts where probing is compared with not
probing at all. Amounts are stated in `unit`, and counted in a currency where the price of one unit is stated.
"""

import abc
import dataclasses
import itertools
import math
import numbers
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from bayes_prehoc.errors import InputError

__all__ = ["ConvexCost", "Cost", "LinearCost", "Piece", "TableCost", "cost_from_dict", "positive"]

ROUNDING = 1e-9
"""Depths that differ by this share of themselves are the same."""


class Piece(NamedTuple):
    """A part of a cost: base + slope c (1 + (c / doubling)^(power - 1)) for c from `low` to `high`."""

    low: float
    high: float
    base: float
    slope: float
    doubling: float = math.inf
    power: float = 2.0

    @property
    def straight(self) -> bool:
        """Whether one more unit of depth costs the same everywhere."""
        return math.isinf(self.doubling)

    def at(self, depth):
        """Cost of watching to `depth`; float or array."""
        return self.base + self.slope * depth * (1.0 + (depth / self.doubling) ** (self.power - 1.0))

    def marginal(self, depth):
        """Cost of one more unit of depth at `depth`; float or array."""
        return self.slope * (1.0 + self.power * (depth / self.doubling) ** (self.power - 1.0))


class Cost(abc.ABC):
    """What the three forms of cost have in common; `unit`, `price` and `currency` are fields of each."""

    unit: str
    price: float | None
    currency: str | None

    @property
    def counted_in(self) -> str:
        """The currency where a price is stated, else the unit."""
        return self.unit if self.currency is None else self.currency

    @property
    @abc.abstractmethod
    def set_up(self) -> float:
        """What a probe costs before its first step, as counted."""

    @abc.abstractmethod
    def pieces(self, low: float, high: float) -> tuple[Piece, ...]:
        """The cost from depth `low` to `high`, as counted, in increasing order of depth.

        Raises
        ------
        InputError
            A table that does not reach so far.
        """

    def at(self, depth):
        """Cost of watching to `depth`, as counted; float or array."""
        depths = np.asarray(depth, np.float64)
        first, *others = self.pieces(float(depths.min()), float(depths.max()))
        told = first.at(depths)
        for piece in others:
            told = np.where(depths > piece.low, piece.at(depths), told)
        return float(told) if np.ndim(depth) == 0 else told

    def of_full_run(self, horizon: float) -> float:
        """What a run costs from its first step to the horizon, without what it takes to set it up."""
        return self.at(horizon) - self.set_up

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `cost_from_dict` reads it."""
        return {"form": _FORM_OF[type(self)]} | dataclasses.asdict(self)

    @property
    def _worth(self) -> float:
        """What one unit counts."""
        return 1.0 if self.price is None else self.price

    def _settle(self, **plain):
        """Check what all forms share, and keep plain floats."""
        if not isinstance(self.unit, str) or not self.unit.strip():
            raise InputError(f"unit is {self.unit!r}", "cost", "Name what the cost is counted in, such as 'GPU hour'.")
        if (self.price is None) != (self.currency is None):
            raise InputError(
                f"price is {self.price!r} and currency {self.currency!r}", "cost", "Give both of them, or neither."
            )
        if self.price is not None:
            plain["price"] = positive(self.price, "cost", name="price")
            if not isinstance(self.currency, str) or not self.currency.strip():
                raise InputError(f"currency is {self.currency!r}", "cost", "Name it, such as 'EUR'.")
        for name, value in plain.items():
            object.__setattr__(self, name, value)


@dataclasses.dataclass(frozen=True)
class LinearCost(Cost):
    """Linear cost of a probe, per_unit * depth + fixed.

    Parameters
    ----------
    per_unit : float
        lambda > 0, per unit of depth of the task that is planned (its step, epoch, token).
    fixed : float
        C_s >= 0, what a probe costs before its first step.
    unit : str
        What both are stated in, such as "GPU hour", "token" or "FLOP".
    price : float, optional
        Of one `unit`, in the currency. With it costs are counted in money.
    currency : str, optional
        Such as "EUR"; goes with `price`.

    Raises
    ------
    InputError
        A cost that is not a finite number or has the wrong sign, an empty unit, or a price without a currency.
    """

    per_unit: float
    fixed: float = 0.0
    unit: str = "full run"
    price: float | None = None
    currency: str | None = None

    def __post_init__(self):
        self._settle(per_unit=positive(self.per_unit, "cost", name="per_unit"), fixed=_not_negative(self.fixed))

    @property
    def set_up(self) -> float:
        """C_s, as counted."""
        return self._worth * self.fixed

    def pieces(self, low: float, high: float) -> tuple[Piece, ...]:
        """One straight piece."""
        return (Piece(low, high, self.set_up, self._worth * self.per_unit),)


@dataclasses.dataclass(frozen=True)
class ConvexCost(Cost):
    """A cost that grows faster the deeper a run is: fixed + per_unit * depth * (1 + (depth / doubling)^(power - 1)).

    As where contexts, replays or queues grow with the run, or a late answer is worth less.

    Parameters
    ----------
    per_unit : float
        lambda > 0, of the first unit of depth.
    doubling : float
        d > 0: a run of this depth costs twice what it would cost by `per_unit` alone.
    power : float
        p > 1, with which the excess grows.
    fixed, unit, price, currency
        As in `LinearCost`.

    Raises
    ------
    InputError
        As `LinearCost`, or a power of 1 or less.
    """

    per_unit: float
    doubling: float
    power: float = 2.0
    fixed: float = 0.0
    unit: str = "full run"
    price: float | None = None
    currency: str | None = None

    def __post_init__(self):
        plain = {name: positive(getattr(self, name), "cost", name=name) for name in ("per_unit", "doubling", "power")}
        if plain["power"] <= 1.0:
            raise InputError(f"power is {self.power!r}", "cost", "Give more than 1; of 1 the cost is a LinearCost.")
        self._settle(fixed=_not_negative(self.fixed), **plain)

    @property
    def set_up(self) -> float:
        """C_s, as counted."""
        return self._worth * self.fixed

    def pieces(self, low: float, high: float) -> tuple[Piece, ...]:
        """One piece."""
        return (Piece(low, high, self.set_up, self._worth * self.per_unit, self.doubling, self.power),)


@dataclasses.dataclass(frozen=True)
class TableCost(Cost):
    """Measured costs, with straight lines between them.

    Straight, since nothing is known between measurements, and no line overshoots. A table has no cost outside its
    depths.

    Parameters
    ----------
    depths : sequence of float
        Two or more, not negative, increasing, from the shallowest fitted depth of a task or less to its horizon.
    costs : sequence of float
        As many, not negative and never decreasing; each of all that a probe to that depth takes. That of depth 0, if it
        is there, is what it takes to set up a probe.
    unit, price, currency
        As in `LinearCost`.

    Raises
    ------
    InputError
        Numbers that are not finite or too few, depths that do not increase, costs that decrease.
    """

    depths: tuple[float, ...]
    costs: tuple[float, ...]
    unit: str = "full run"
    price: float | None = None
    currency: str | None = None

    def __post_init__(self):
        depths, costs = _numbers(self.depths, "depths"), _numbers(self.costs, "costs")
        if len(depths) != len(costs) or len(depths) < 2:
            raise InputError(
                f"{len(depths)} depths and {len(costs)} costs", "cost", "Give one cost for each of two or more depths."
            )
        for first, second in itertools.pairwise(depths):
            if second <= first:
                raise InputError(f"depth {second:.10g} follows {first:.10g}", "cost", "Sort by depth, each once.")
        for i in range(1, len(costs)):
            if costs[i] < costs[i - 1]:
                raise InputError(
                    f"the cost falls from {costs[i - 1]:.10g} at depth {depths[i - 1]:.10g} to {costs[i]:.10g} at "
                    f"{depths[i]:.10g}",
                    "cost",
                    "Watching deeper cannot cost less: give the cost of all that lies before each depth.",
                )
        self._settle(depths=depths, costs=costs)

    @property
    def set_up(self) -> float:
        """The cost of depth 0 where it was measured, as counted; else 0."""
        return self._worth * self.costs[0] if self.depths[0] == 0.0 else 0.0

    def pieces(self, low: float, high: float) -> tuple[Piece, ...]:
        """One straight piece between each two measured depths."""
        first, last = self.depths[0], self.depths[-1]
        if low < first * (1.0 - ROUNDING) or high > last * (1.0 + ROUNDING):
            raise InputError(
                f"the table knows depths {first:.10g} to {last:.10g}, and {low:.10g} to {high:.10g} are asked for",
                "cost",
                "Measure the cost from the shallowest fitted depth of each task to its horizon.",
            )
        found = []
        ends = list(zip(self.depths, self.costs, strict=True))
        for (start, before), (stop, after) in itertools.pairwise(ends):
            # The outermost pieces reach to what rounding left beside the table.
            left = low if start == first else max(start, low)
            right = high if stop == last else min(stop, high)
            if left < right or (left == right == low == high and not found):
                slope = (after - before) / (stop - start)
                found.append(Piece(left, right, self._worth * (before - slope * start), self._worth * slope))
        return tuple(found)


_FORM_OF = {LinearCost: "linear", ConvexCost: "convex", TableCost: "table"}


def cost_from_dict(content: dict[str, Any]) -> Cost:
    """A cost from what `Cost.to_dict` made; without a form it is linear."""
    forms = {name: form for form, name in _FORM_OF.items()}
    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in content.items() if name != "form"}
    return forms[content.get("form", "linear")](**fields)


def positive(value, where: str, name: str = "it") -> float:
    """`value` as a float, if it is a finite number above zero.

    Raises
    ------
    InputError
        Anything else, booleans and text included.
    """
    if not _is_number(value) or value <= 0:
        raise InputError(f"{name} is {value!r}", where, "Give a finite number greater than 0.")
    return float(value)


def _not_negative(fixed) -> float:
    if not _is_number(fixed) or fixed < 0:
        raise InputError(f"fixed is {fixed!r}", "cost", "Give a finite number, 0 or greater.")
    return float(fixed)


def _numbers(values, name) -> tuple[float, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(f"{name} are {values!r}", "cost", "Give a sequence of numbers.")
    values = tuple(values)
    for value in values:
        if not _is_number(value) or value < 0:
            raise InputError(f"{name} hold {value!r}", "cost", "Give finite numbers, 0 or greater.")
    return tuple(float(value) for value in values)


def _is_number(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
