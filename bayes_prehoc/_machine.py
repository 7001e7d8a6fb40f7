"""What all that computes in parallel asks about the machine."""

import os
from pathlib import Path

__all__ = ["available_memory", "cores"]


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Bytes that can be had without swapping, where the system says so."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    said = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    return int(said["MemAvailable"][0]) * 1024 if "MemAvailable" in said else None
