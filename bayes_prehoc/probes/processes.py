"""Processes of `jax.distributed` that share the seeds of a probe.

Each runs every n-th group of seeds on its own devices and commits it to the store, and all have the runs of all in the
end. A process alone agrees with itself.
"""

import pickle
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

__all__ = ["agreed", "everyones", "own_share"]


def own_share(items: list) -> list:
    """Those of the items, the same list in all processes, that this one sees to."""
    return items[jax.process_index() :: jax.process_count()]


def agreed(values: np.ndarray) -> np.ndarray:
    """What the first process says, an array of one shape in all."""
    return values if jax.process_count() == 1 else np.asarray(multihost_utils.broadcast_one_to_all(values))


def everyones(own: Any) -> list:
    """What each process has, in their order; of anything that can be pickled, as the job's own processes may."""
    if jax.process_count() == 1:
        return [own]
    message = np.frombuffer(pickle.dumps(own), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(len(message), np.int32))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(message)] = message
    messages = multihost_utils.process_allgather(padded)
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(messages, sizes, strict=True)]
