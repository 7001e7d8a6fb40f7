"""Runs that benchmarks of the whole way from runs to a posterior read."""

from pathlib import Path

import bayes_prehoc as bp
from bayes_prehoc.runs.trajectories import Trajectories

__all__ = ["SOURCES", "recorded"]

SOURCES = ("MLPerf BERT", "MLPerf LoRA", "DeepOBS", "suite")
_FILES = {"MLPerf BERT": "mlperf_bert.csv", "MLPerf LoRA": "mlperf_llama2_70b_lora.csv"}


def recorded(source: str, data: Path, seeds: int, store: Path | None) -> Trajectories:
    """All runs of one of `SOURCES`; those of the suite are made, for so many seeds, and kept in the store."""
    if source == "suite":
        return bp.probe(bp.suite(), seeds, store=store)
    if source == "DeepOBS":
        files = sorted(data.glob("deepobs_*.csv"))
        return Trajectories(tuple(task for file in files for task in bp.read_runs(file, outcome="test_loss")))
    return bp.read_runs(data / _FILES[source])
