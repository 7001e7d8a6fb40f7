"""Runs that we make: fine-tuning tasks, the engine that runs them under many seeds, and the built-in suite."""

from bayes_prehoc.probes.adapters import Adapter
from bayes_prehoc.probes.execute import probe
from bayes_prehoc.probes.objectives import Judged
from bayes_prehoc.probes.spec import ProbeSpec
from bayes_prehoc.probes.suite import suite, suite_task
from bayes_prehoc.probes.texts import TextData

__all__ = ["Adapter", "Judged", "ProbeSpec", "TextData", "probe", "suite", "suite_task"]
