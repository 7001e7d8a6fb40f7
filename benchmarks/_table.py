"""What every benchmark prints and writes: where it ran, and figures with their targets."""

import json
import math
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

__all__ = ["Figure", "machine", "print_figures", "write_figures"]


class Figure(NamedTuple):
    """One measured figure; `target` in words and `met` are None where nothing is promised."""

    name: str
    value: float
    unit: str
    target: str | None = None
    met: bool | None = None


def machine() -> str:
    """One line: processor, cores, system, versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{name} {version(name)}" for name in ("bayes-prehoc", "jax", "numpyro"))
    return f"{_processor()}, {cores} cores, {platform.system()}; Python {platform.python_version()}, {versions}"


def print_figures(figures: list[Figure]) -> None:
    """A line for each, with its target where it has one."""
    for figure in figures:
        verdict = "" if figure.met is None else f"   target {figure.target}: {'met' if figure.met else 'NOT MET'}"
        print(f"{figure.name}: {figure.value:.3f} {figure.unit}{verdict}")


def write_figures(path: str | Path | None, figures: list[Figure]) -> None:
    """Write figures as a JSON list, if a path is given; a value that is not finite is null, JSON has no other."""
    if path is not None:
        rows = [figure._replace(value=figure.value if math.isfinite(figure.value) else None) for figure in figures]
        Path(path).write_text(json.dumps([row._asdict() for row in rows], indent=1, allow_nan=False) + "\n")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
