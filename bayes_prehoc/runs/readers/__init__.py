"""Read runs that others made: files and data frames -> `Trajectories`."""

from bayes_prehoc.runs.readers.attributes import read_attributes, with_attributes
from bayes_prehoc.runs.readers.read import read_runs

__all__ = ["read_attributes", "read_runs", "with_attributes"]
