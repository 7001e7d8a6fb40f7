"""What all that computes in parallel asks about the machine, and where it keeps compiled programs."""

import os
import platform
from pathlib import Path

import jax

__all__ = ["cores", "keep_programs"]

WORTH_KEEPING_S = 0.2
"""Programs that took less to compile are not kept."""
MOST_KEPT_BYTES = 500_000_000
"""Beyond, those unused for longest are deleted."""


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_programs() -> None:
    """Keep compiled programs from one command to the next, in the user's folder for caches.

    A fit of a table of tasks is compiled in a minute or more, and every command is a new process. Does nothing where
    JAX's own settings already say where to keep them, or where the folder cannot be made.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    # Compiled for this machine's processor, which others that share the home folder may lack.
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bayes-prehoc" / platform.node()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING_S)
    jax.config.update("jax_compilation_cache_max_size", MOST_KEPT_BYTES)
