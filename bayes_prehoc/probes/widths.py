"""How many seeds are computed together.

On a CPU a wide `vmap` spares small networks the overhead of many small operations, and costs large ones their caches;
an accelerator wants as many as fit. Both within a share of the memory that is free, by a model of what a seed needs.
The width changes the last bits of a run, so it is recorded with the runs and kept for those that are added later.
"""

import jax

from bayes_prehoc._machine import available_memory
from bayes_prehoc.probes.prepare import Prepared

__all__ = ["choose_width", "usual_width"]

_CPU_WIDTHS = {"mlp": 16, "decoder": 1, "transformer": 1, "head": 32}
"""The fastest, by kind of network; see `benchmarks/probe_throughput.py --widths`."""
_ACCELERATOR_WIDTHS = {"mlp": 512, "decoder": 64, "transformer": 64, "head": 512}
"""Near the highest rate seen on an H200. A group is filled up where there are fewer seeds."""
SHARE = 0.5
"""Of the free memory that groups of seeds may take, all that run at a time together."""


def usual_width(kind: str, platform: str) -> int:
    """Seeds of a group for a kind of network, where memory does not matter."""
    return (_CPU_WIDTHS if platform == "cpu" else _ACCELERATOR_WIDTHS)[kind]


def choose_width(task: Prepared, device: jax.Device, at_a_time: int) -> int:
    """Seeds of a group, when so many groups run at a time on the device."""
    wanted = usual_width(task.kind, device.platform)
    free = _free(device)
    if free is None:
        return wanted
    return max(1, min(wanted, int(SHARE * free / at_a_time / task.bytes_of_run)))


def _free(device: jax.Device) -> int | None:
    """Bytes, if that is known."""
    if device.platform == "cpu":
        return available_memory()
    said = device.memory_stats() or {}
    return said["bytes_limit"] - said.get("bytes_in_use", 0) if "bytes_limit" in said else None
