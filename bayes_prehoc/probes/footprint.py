"""What a run holds in memory while it trains: a model, within a factor of two and a half of what XLA asks for.

Backward passes read what forward passes leave; where nothing is trained about a quarter of it is there at a time. A
layer of a transformer leaves per position about twelve vectors of its width (norms, query, key, value, their products,
dropout), four of its hidden width, and three matrices of attention.
"""

from collections.abc import Iterable

__all__ = ["layer_floats", "perceptron_floats", "state_floats", "while_judged"]


def layer_floats(positions: int, length: int, width: int, hidden: int, heads: int) -> int:
    """Numbers that a layer leaves for so many positions, of texts of that length."""
    return positions * (12 * width + 4 * hidden + 3 * heads * length)


def perceptron_floats(examples: int, widths: Iterable[int]) -> int:
    """Numbers that a multilayer perceptron leaves: before and after each nonlinearity, and their gradients."""
    return examples * 4 * sum(widths)


def state_floats(trained: int, slots: int) -> int:
    """Numbers of what is trained, its gradient, its update, two moments, and as often its state is kept for forks."""
    return trained * (5 + 3 * slots)


def while_judged(left: int) -> int:
    """Numbers that are there at a time, of those that a forward pass would leave."""
    return left // 4
