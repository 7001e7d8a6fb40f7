r"""What watching a run costs: C(c) = C_s + lambda c.

C_s is paid at any depth, so it moves no decision about how deep to look; it counts where probing is compared with not
probing at all.
"""

import dataclasses
import math
import numbers

from bayes_prehoc.errors import InputError

__all__ = ["LinearCost", "positive"]


@dataclasses.dataclass(frozen=True)
class LinearCost:
    """Linear cost of a probe, per_unit * depth + fixed.

    Parameters
    ----------
    per_unit : float
        lambda > 0, per unit of depth of the task that is planned (its step, epoch, token).
    fixed : float
        C_s >= 0, what a probe costs before its first step.
    unit : str
        What the cost is counted in, such as "GPU hour".

    Raises
    ------
    InputError
        A cost that is not a finite number or has the wrong sign, or an empty unit.
    """

    per_unit: float
    fixed: float = 0.0
    unit: str = "full run"

    def __post_init__(self):
        positive(self.per_unit, "cost", name="per_unit")
        if not _is_number(self.fixed) or self.fixed < 0:
            raise InputError(f"fixed is {self.fixed!r}", "cost", "Give a finite number, 0 or greater.")
        if not isinstance(self.unit, str) or not self.unit.strip():
            raise InputError(f"unit is {self.unit!r}", "cost", "Name what the cost is counted in, such as 'GPU hour'.")
        object.__setattr__(self, "per_unit", float(self.per_unit))
        object.__setattr__(self, "fixed", float(self.fixed))

    def at(self, depth):
        """Cost of watching to `depth`; float or array, in `unit`."""
        return self.fixed + self.per_unit * depth


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


def _is_number(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
