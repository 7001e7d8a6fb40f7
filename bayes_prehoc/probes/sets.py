"""The probe and the outcome set of a task as the engine judges them: in batches of about one length."""

import jax
import numpy as np

from bayes_prehoc.probes.learners import Learner

__all__ = ["by_length", "judged_sets", "rows_of"]


def judged_sets(learner: Learner, sets, lengths: tuple[int, ...], at_once: int) -> tuple:
    """The last fields of `engine.Sets`, from the probe and the outcome set as pairs (x, y).

    Parameters
    ----------
    learner : Learner
    sets : two pairs (x, y)
    lengths : tuple of int
        At which batches can be computed, increasing.
    at_once : int
        Examples of a batch, at most.
    """
    at_once = min(at_once, max(len(y) for _, y in sets))
    batches, which, places, begins = [], [], [], []
    for x, y in sets:
        begins.append(len(which))
        place = np.zeros(len(y), np.int32)
        for i, rows in by_length(learner.lengths(x), lengths):
            place[rows] = len(which) * at_once + np.arange(len(rows))
            count = -(-len(rows) // at_once)
            filled = np.resize(rows, count * at_once)
            batches.append(_in_batches(rows_of((x, y), filled), at_once))
            which += [i] * count
        places.append(place)
    judged_x, judged_y = jax.tree.map(lambda *parts: np.concatenate(parts), *batches)
    return judged_x, judged_y, np.array(which, np.int32), np.int32(begins[1]), *places


def by_length(needed: np.ndarray, lengths: tuple[int, ...]) -> list[tuple[int, np.ndarray]]:
    """The place of each length that occurs, and its rows."""
    which = np.searchsorted(lengths, np.minimum(needed, lengths[-1]))
    return [(i, rows) for i in range(len(lengths)) if len(rows := np.flatnonzero(which == i))]


def rows_of(tree, rows):
    """These rows of all arrays."""
    return jax.tree.map(lambda a: a[rows], tree)


def _in_batches(tree, size: int):
    return jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), tree)
