"""How many seeds are computed together.

On a CPU a wide `vmap` spares small networks the overhead of many small operations, and costs large ones their caches;
an accelerator wants as many as fit. Both within a share of the memory that is free, by a model of what a seed needs.
The width changes the last bits of a run, so it is recorded with the runs and kept for those that are added later.
"""

import jax

from bayes_prehoc._machine import available_memory
from bayes_prehoc.probes.prepare import Prepared

__all__ = ["CPU_WIDTHS", "choose_width"]

CPU_WIDTHS = {"mlp": 16, "decoder": 1, "transformer": 1, "head": 32}
"""The fastest, by kind of network; see `benchmarks/probe_throughput.py --widths`."""
ACCELERATOR_WIDTH = 64
SHARE = 0.5
"""Of the free memory that groups of seeds may take, all that run at a time together."""


def choose_width(task: Prepared, device: jax.Device, at_a_time: int) -> int:
    """Seeds of a group, when so many groups run at a time on the device."""
    wanted = CPU_WIDTHS[task.kind] if device.platform == "cpu" else ACCELERATOR_WIDTH
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
