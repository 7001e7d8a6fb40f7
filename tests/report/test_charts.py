"""Charts: marks lie where the numbers are, inside the frame, and labels do not meet."""

import dataclasses
import re

import numpy as np
import pytest

from bayes_prehoc.report.charts import decay_chart, depth_dots, depth_strip, frontier_chart, phase_chart
from bayes_prehoc.report.charts.depths import DOTS
from bayes_prehoc.report.charts.svg import LogScale, depth_label, element, risk_label, shorten


@pytest.mark.parametrize(
    ("low", "high"), [(1.0, 1e6), (1e-9, 3e-2), (4.0, 400.0), (0.3, 5.0), (2.0, 3.1), (100.0, 104.0), (7.1e-6, 7.2e-6)]
)
def test_ticks_are_few_round_and_on_the_axis(low, high):
    ticks = LogScale(low, high, 0.0, 100.0).ticks(6)
    assert 2 <= len(ticks) <= 6
    assert all(low <= t <= high for t in ticks)
    assert np.all(np.diff(ticks) > 0)
    assert all(float(f"{t:.4g}") == pytest.approx(t, rel=1e-12) for t in ticks)


def test_the_scale_is_logarithmic_and_clamps():
    scale = LogScale(1.0, 100.0, 10.0, 30.0)
    assert scale(10.0) == pytest.approx(20.0)
    assert scale([0.0, 1.0, 1e9]).tolist() == pytest.approx([10.0, 10.0, 30.0])


def test_labels_of_axes():
    assert [depth_label(v) for v in (0.5, 400.0, 5000.0, 20000.0, 3e6)] == ["0.5", "400", "5000", "20k", "3M"]
    assert [risk_label(v) for v in (0.01, 1e-5, 2e-5, 300.0)] == ["0.01", "10⁻⁵", "2×10⁻⁵", "300"]
    assert len(shorten("x" * 80, 26)) == 26 and shorten("short", 26) == "short"


def test_elements_escape_text_and_attributes():
    assert element("text", "<b>", x=1.04, class_='"') == '<text x="1" class="&#34;">&lt;b&gt;</text>'


def _numbers(chart, tag, *names):
    found = re.findall(f"<{tag} ([^>]*)>", chart)
    return [tuple(float(re.search(f'{name}="([^"]+)"', f)[1]) for name in names) for f in found]


def test_points_and_lines_of_the_decay_chart_lie_at_the_numbers(eight):
    task = eight["digits_slow"]
    chart = decay_chart(task, "d")
    circles = _numbers(re.search(r'<g class="points dynamic">(.*?)</g>', chart)[1], "circle", "cx", "cy")
    assert len(circles) == len(task.points)
    # On log axes pixels are affine in the logarithm of what they show.
    for axis, name in ((0, "depth"), (1, "risk")):
        pixels = np.array([c[axis] for c in circles])
        logs = np.log([p[name] for p in task.points])
        fit = np.polynomial.Polynomial.fit(logs, pixels, 1)
        assert np.abs(fit(logs) - pixels).max() < 0.2
    best = re.search(r'<line x1="([\d.]+)"[^>]*class="best"', chart)[1]
    depths = np.polynomial.Polynomial.fit(np.log([p["depth"] for p in task.points]), [c[0] for c in circles], 1)
    assert float(best) == pytest.approx(depths(np.log(task.best_depth)), abs=0.3)
    assert f"{task.points[0]['risk']:.2e}"[:3] in chart


def test_the_band_without_noise_is_drawn_where_it_differs(eight):
    assert 'class="without dynamic"' in decay_chart(eight["digits_slow"], "d")
    assert 'class="without' not in decay_chart(eight["addition_3digit"], "d")


@pytest.mark.parametrize(("tolerance", "words"), [(1e-6, "is below"), (30.0, "is above")])
def test_a_tolerance_that_is_far_away_is_said_and_does_not_squeeze_the_chart(eight, tolerance, words):
    task = dataclasses.replace(eight["digits_slow"], tolerance=tolerance)
    chart = decay_chart(task, "d")
    assert words in chart and 'class="tolerance"' not in chart


def test_depths_that_were_not_observed_are_shaded(ninety_nine, eight):
    spread = next(t for t in ninety_nine.tasks if t.status == "ok")
    assert decay_chart(spread, "d").count('class="outside"') == 2
    assert decay_chart(eight["digits_slow"], "d").count('class="outside"') == 1


def test_labels_of_the_phase_diagram_do_not_meet(eight):
    chart = phase_chart(eight.tasks, "p")
    labels = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="name halo" text-anchor="(\w+)">([^<]+)<', chart)
    assert len(labels) == 8
    boxes = []
    for x, y, anchor, label in labels:
        width = 7.6 * len(label.replace("&gt;", ">"))
        left = float(x) - {"start": 0, "middle": width / 2, "end": width}[anchor]
        boxes.append((left, float(y) - 11, left + width - 4, float(y) + 4))
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert all(t.task in chart for t in eight.tasks)


def test_clouds_are_classified_by_the_boundaries_drawn(eight):
    """The share of a task's dots in each drawn region is the probability of that regime."""
    chart = phase_chart(eight.tasks, "p")
    boundary = _numbers("".join(re.findall(r'<line [^>]*class="boundary"[^>]*>', chart)), "line", "x1", "y1")
    (one_x, one_y), _ = boundary
    for task in eight.tasks:
        cloud = re.search(rf'<g class="cloud \w+"><title>{task.task}: .*?</g>', chart)[0]
        dots = np.array(_numbers(cloud, "circle", "cx", "cy"))
        noise = np.mean(dots[:, 1] < one_y)
        static = np.mean((dots[:, 1] >= one_y) & (dots[:, 0] <= one_x))
        expected = [task.regimes["static-sufficient"], task.regimes["noise-dominant"]]
        assert [static, noise] == pytest.approx(expected, abs=0.06)


def test_many_clouds_keep_the_page_small(ninety_nine):
    placed = [t for t in ninety_nine.tasks if t.regimes is not None]
    chart = phase_chart(placed, "p", label_all=False)
    assert len(chart) < 400_000
    assert chart.count("<title>") == len(placed)


def test_a_cloud_without_risk_has_a_place(eight):
    nothing = {name: np.zeros(400) for name in ("rmse_cheap", "rmse_final")}
    task = dataclasses.replace(eight.tasks[0], cloud=eight.tasks[0].cloud | nothing)
    assert not re.search(r"\b(nan|inf)\b", phase_chart([task], "p"))


@pytest.mark.parametrize(("at_min", "at_max"), [(0.0, 0.0), (0.3, 0.0), (0.25, 0.5), (1.0, 0.0), (0.0, 1.0)])
def test_every_dot_is_the_same_share_of_the_posterior(eight, at_min, at_max):
    task = eight["digits_slow"]
    n = 400
    inside = np.geomspace(2 * task.c_min, task.horizon / 2, n)
    inside[: int(at_min * n)] = task.c_min
    inside[n - int(at_max * n) :] = task.horizon
    task = dataclasses.replace(task, c_star_at_min=at_min, c_star_at_max=at_max, cloud={"c_star": inside})
    chart = depth_dots(task, task.c_min / task.horizon, "c")
    dots = _numbers(chart, "circle", "cx")
    assert len(dots) == DOTS
    scale = LogScale(task.c_min / task.horizon, 1.0, 44.0, 576.0)
    left, right = sum(x[0] < scale.start for x in dots), sum(x[0] > scale.end for x in dots)
    assert (left, right) == (DOTS * at_min, DOTS * at_max)


def test_the_strip_tells_median_interval_and_what_is_clipped(eight):
    task = dataclasses.replace(eight["digits_slow"], c_star_at_max=0.2)
    chart = depth_strip(task, task.c_min / task.horizon, "c")
    scale = LogScale(task.c_min / task.horizon, 1.0, 44.0, 576.0)
    (median,) = _numbers(chart, "circle", "cx")
    assert median[0] == pytest.approx(scale(task.c_star.median / task.horizon), abs=0.06)
    assert ">0.20<" in chart


def test_the_frontier_pairs_cost_with_risk(eight):
    task = eight["digits_slow"]
    chart = frontier_chart(task, "f")
    path = re.search(r'<path d="M([^"]*)" class="median dynamic"', chart)[1]
    drawn = np.array([[float(v) for v in pair.split()] for pair in path.split("L")])
    for axis, values in ((0, task.frontier.cost), (1, task.frontier.median)):
        fit = np.polynomial.Polynomial.fit(np.log(values), drawn[:, axis], 1)
        assert np.abs(fit(np.log(values)) - drawn[:, axis]).max() < 0.2
    assert np.all(np.diff(drawn[:, 0]) > 0) and np.all(np.diff(drawn[:, 1]) > 0)  # down is more
    # A full run costs 1, so that cost is depth over the horizon.
    (mark,) = _numbers(chart, "circle", "cx")
    costs = np.polynomial.Polynomial.fit(np.log(task.frontier.cost), drawn[:, 0], 1)
    assert mark[0] == pytest.approx(costs(np.log(task.best_depth / task.horizon)), abs=0.3)
    assert "cost (full run)" in chart and "best depth" in chart
