"""Reports: a plan as one self-contained page that works offline, or as JSON with the same numbers."""

from bayes_prehoc.report.page import write_report

__all__ = ["write_report"]
