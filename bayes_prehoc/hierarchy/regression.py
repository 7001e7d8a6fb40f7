"""Least squares with as many columns as draws ask for.

Arrays are columns (N, K) at draws, what they tell (N,), and the draws' weights (N,), which sum to one; `number` is how
many independent draws they count as.
"""

import numpy as np

__all__ = ["chosen_columns", "regressed"]

GAIN = 3.0
"""Nats that draws must gain by a term, for it to be taken: about the logarithm of how many there are to choose from."""
SHRINKAGE = 0.5
"""Weight, in draws, of coefficients that are zero."""


def chosen_columns(products, y, weight, number, always: int, most: int):
    """Columns that regression of y takes, at most so many: the first, which it always does, and others as long as the
    best of them gains enough."""
    root = np.sqrt(weight)[:, None]
    left, rest = products * root, y * root[:, 0]
    size, known = np.sum(left**2, axis=0), 1e-12 * (rest @ rest)
    chosen = []
    while len(chosen) < min(most, left.shape[1]):
        # What is left of the other columns, and of y, is orthogonal to those chosen.
        new = np.sum(left**2, axis=0) > 1e-6 * size
        along = left.T @ rest
        explained = np.where(new, along**2, 0.0) / np.where(new, np.sum(left**2, axis=0), 1.0)
        if len(chosen) < always:
            best = len(chosen)
        else:
            best = int(np.argmax(explained))
            if rest @ rest <= known:
                break
            if -0.5 * number * np.log1p(-min(explained[best] / (rest @ rest), 1.0 - 1e-9)) < GAIN:
                break
        chosen.append(best)
        if new[best]:
            direction = left[:, best] / np.linalg.norm(left[:, best])
            left = left - np.outer(direction, direction @ left)
            rest = rest - direction * (direction @ rest)
    return chosen


def regressed(products, y, weight, number):
    """Coefficients by least squares; all but the first are drawn towards zero."""
    weighted = number * weight[:, None] * products
    penalty = np.full(products.shape[1], SHRINKAGE)
    penalty[0] = 0.0
    return np.linalg.solve(products.T @ weighted + np.diag(penalty), weighted.T @ y)
