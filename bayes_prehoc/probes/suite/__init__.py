"""The built-in suite: tasks that fine-tune pretrained states, and their data."""

from bayes_prehoc.probes.suite.data import SOURCES, TaskArrays, load_data
from bayes_prehoc.probes.suite.tasks import suite, suite_task

__all__ = ["SOURCES", "TaskArrays", "load_data", "suite", "suite_task"]
