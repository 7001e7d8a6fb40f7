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
    weighted = weight[:, None] * products
    # Of what is left of the columns, and of y, orthogonal to those chosen: products with each other.
    left, along, rest = products.T @ weighted, y @ weighted, y @ (weight * y)
    size, known = np.diagonal(left).copy(), 1e-12 * rest
    chosen = []
    while len(chosen) < min(most, len(size)):
        own = np.diagonal(left)
        new = own > 1e-6 * size
        if len(chosen) < always:
            best = len(chosen)
        else:
            explained = np.where(new, along**2, 0.0) / np.where(new, own, 1.0)
            best = int(np.argmax(explained))
            if rest <= known or -0.5 * number * np.log1p(-min(explained[best] / rest, 1.0 - 1e-9)) < GAIN:
                break
        chosen.append(best)
        if new[best]:
            direction = left[best] / np.sqrt(own[best])
            share = along[best] / np.sqrt(own[best])
            left, along, rest = left - np.outer(direction, direction), along - share * direction, rest - share**2
    return chosen


def regressed(products, y, weight, number):
    """Coefficients by least squares; all but the first are drawn towards zero."""
    weighted = number * weight[:, None] * products
    penalty = np.full(products.shape[1], SHRINKAGE)
    penalty[0] = 0.0
    return np.linalg.solve(products.T @ weighted + np.diag(penalty), weighted.T @ y)
