"""What all that computes in parallel asks about the machine."""

import os

__all__ = ["cores"]


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
