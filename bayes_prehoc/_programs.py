"""Where commands keep their compiled programs.

The package itself, used from Python, changes no setting of JAX; a command is a process of its own, and may.
"""

import os
import platform
from pathlib import Path

import jax

__all__ = ["keep_programs"]

WORTH_KEEPING_S = 0.2
"""Programs that took less to compile are not kept."""
MOST_KEPT_BYTES = 500_000_000
"""Beyond, those unused for longest are deleted."""


def keep_programs() -> None:
    """Keep compiled programs from one command to the next, in the user's folder for caches.

    A fit of a table of tasks is compiled in a minute or more, and every command is a new process. Does nothing where
    JAX's own settings already say where to keep them, or where there is no such folder and none can be made.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        # Compiled for this machine's processor, which others that share the home folder may lack.
        folder = caches / "bayes-prehoc" / platform.node()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        # RuntimeError: the user has no home folder.
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING_S)
    jax.config.update("jax_compilation_cache_max_size", MOST_KEPT_BYTES)
