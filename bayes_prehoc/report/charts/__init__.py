"""Charts as inline SVG that follows the page: its colours, its font, light and dark."""

from bayes_prehoc.report.charts.decay import decay_chart
from bayes_prehoc.report.charts.depths import depth_dots, depth_strip
from bayes_prehoc.report.charts.frontier import frontier_chart
from bayes_prehoc.report.charts.phase import phase_chart
from bayes_prehoc.report.charts.proxies import proxies_chart

__all__ = ["decay_chart", "depth_dots", "depth_strip", "frontier_chart", "phase_chart", "proxies_chart"]
