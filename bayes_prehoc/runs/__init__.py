"""What a set of fine-tuning runs is, wherever it came from: containers, readers, a store."""

from bayes_prehoc.runs.depths import shared_depths, summarise_left_out
from bayes_prehoc.runs.readers import read_attributes, read_runs, with_attributes
from bayes_prehoc.runs.store import RunStore
from bayes_prehoc.runs.trajectories import SetAside, TaskRuns, Trajectories, metric_kind

__all__ = [
    "RunStore",
    "SetAside",
    "TaskRuns",
    "Trajectories",
    "metric_kind",
    "read_attributes",
    "read_runs",
    "shared_depths",
    "summarise_left_out",
    "with_attributes",
]
