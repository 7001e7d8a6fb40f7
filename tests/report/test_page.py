"""The page: complete, self-contained, safe, honest about what is withheld, and with the plan's own numbers."""

import dataclasses
import json
import os
import re
from html.parser import HTMLParser

import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning import LinearCost, plan
from bayes_prehoc.report import write_report
from bayes_prehoc.report.page import render_page
from bayes_prehoc.report.text import number, probability
from bayes_prehoc.risk.estimates import LeftOut

from .conftest import HOSTILE, LONG, SUITE, MadeUpPosterior

VOID = {"meta", "link", "input", "br", "img", "hr"}
LOADING = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background", "formaction"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not nest."""

    def __init__(self, content):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.ids, self.rows = [], [], [], [], []
        self.words, self.cell = [], None
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append({"task": dict(attributes).get("data-task"), "cells": []})
        if tag in ("td", "th") and self.rows:
            self.rows[-1]["cells"].append("")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)
            if "tr" in self.open and self.rows[-1]["cells"]:
                self.rows[-1]["cells"][-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def row(self, task):
        return [" ".join(c.split()) for c in next(r["cells"] for r in self.rows if r["task"] == task)]


@pytest.fixture(scope="module")
def pages(eight, spread, one, ninety_nine, failed, hostile, no_tolerance):
    plans = {
        "eight": eight,
        "one": one,
        "ninety_nine": ninety_nine,
        "failed": failed,
        "hostile": hostile,
        "no_tolerance": no_tolerance,
    }
    return {
        name: (made, render_page(made, compare=(spread,) if name == "eight" else ())) for name, made in plans.items()
    }


KINDS = ("eight", "one", "ninety_nine", "failed", "hostile", "no_tolerance")


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_well_formed_self_contained_and_names_every_task(pages, kind):
    made, content = pages[kind]
    page = Page(content)
    assert len(page.ids) == len(set(page.ids))
    for _, name, value in page.attributes:
        if name in LOADING:
            assert value.startswith("#") or value == "data:,"
        if name in ("aria-labelledby", "aria-describedby", "for"):
            assert set(value.split()) <= set(page.ids)
        assert not name.startswith("on")
    assert not {"iframe", "img", "object", "embed", "base"} & set(page.tags)
    assert page.tags.count("script") == 1
    assert not re.search(r"https?://|@import|url\(|//cdn", content)
    assert "default-src 'none'" in content
    for task in made.tasks:
        assert " ".join(task.task.split()) in page.text
    for aside in made.set_aside:
        assert aside.task in page.text and aside.reason in page.text
    assert made.posterior.proxy in page.text or not made.posterior.converged
    assert len(content) < 5_000_000


def test_the_script_is_the_one_that_the_security_policy_allows(pages):
    import base64
    import hashlib

    content = pages["eight"][1]
    script = content.split("<script>")[1].split("</script>")[0]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in content


def test_names_that_are_markup_are_text(pages):
    content = pages["hostile"][1]
    assert HOSTILE not in content
    assert "<iframe" not in content and "<img" not in content and "<i>och" not in content and "<b>bold" not in content
    page = Page(content)
    assert HOSTILE in page.text and LONG in page.text and "<img src=x onerror=alert(1)>" in page.text
    # A title inside a chart may not end the chart.
    assert content.count("<svg") == content.count("</svg>")


def _as_float(told):
    """The first number of a text as it is printed on the page."""
    found = re.search(r"([−-]?\d+(?:\.\d+)?)(?:×10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?", told)
    power = (found[2] or "0").translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    return float(found[1].replace("−", "-")) * 10 ** int(power)


def _interval(told):
    """Median, lower and upper as printed: 'M×10ᵖ [L, U]×10ᵖ'."""
    found = re.search(r"(\S+)\s+(?:[^\[]*)\[([^,\]]+), ([^\]]+)\](×10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?", told)
    power = found[4] or ""
    return _as_float(found[1]), _as_float(found[2] + power), _as_float(found[3] + power)


@pytest.mark.parametrize("kind", ["eight", "one", "ninety_nine"])
def test_the_numbers_of_the_table_are_the_plans(pages, kind):
    made, content = pages[kind]
    page = Page(content)
    for task in made.tasks:
        cells = page.row(task.task)
        if task.status != "ok":
            continue
        for cell, figure in ((cells[3], task.L_int), (cells[4], task.alpha), (cells[5], task.c_star)):
            printed = _interval(cell)
            # Three significant digits of the largest of the three.
            size = max(abs(figure.median), abs(figure.lower), abs(figure.upper))
            expected = (figure.median, figure.lower, figure.upper)
            assert printed == pytest.approx(expected, abs=0.0051 * size)
        assert _as_float(cells[6]) == pytest.approx(task.best_depth, rel=6e-3)
        for p in task.regimes.values():
            assert probability(p) in cells[1]
        assert task.regime in cells[1]
        for flip in task.flips:
            assert any(
                _as_float(part) == pytest.approx(flip.tolerance, rel=6e-3) for part in cells[8].split("below")[1:]
            )


def test_the_headline_counts_and_names_the_tasks_of_each_regime(pages):
    made, content = pages["eight"]
    head = content.split('class="facts"')[0]
    counts = {regime: sum(t.regime == regime for t in made.tasks) for regime in made.tasks[0].regimes}
    assert min(counts.values()) >= 2
    for regime, count in counts.items():
        assert re.search(rf">{count}<small> of 8</small></span>\s*{regime}", head)
    assert all(t.name in head for t in SUITE)
    assert "0.01 accuracy" in Page(content).text
    assert "✓ passed" in Page(content).text


def test_a_spread_reading_says_so_before_any_figure(pages):
    text = Page(pages["ninety_nine"][1]).text
    assert text.index("spread reading") < text.index("static-sufficient")
    assert "This is a spread reading, not a verdict." in text
    assert "This is a spread reading" not in Page(pages["eight"][1]).text
    assert "extrapolated: L_int" in text and "horizon assumed" in text


def test_a_failed_gate_shows_checks_and_advice_and_no_figure(pages):
    made, content = pages["failed"]
    page = Page(content)
    assert "Withheld: the fit did not converge" in page.text
    assert "The chains disagree about the rate" in page.text and "1.087" in page.text
    assert "svg" not in page.tags
    # Beside the checks (four of them) the body has no decimal number: no probability, risk, depth or tolerance.
    body = content.split("<main>")[1].split("</main>")[0]
    assert set(re.findall(r"\d+\.\d+", body)) == {"1.087", "1.01", "0.81", "0.3"}
    assert page.text.count("withheld") >= len(made.tasks)


def test_a_task_that_is_not_identified_is_withheld_and_keeps_its_estimates(pages):
    made, content = pages["no_tolerance"]
    page = Page(content)
    cells = page.row("unclear")
    assert "not identified" in cells[0] and "no tolerance stated" in cells[1]
    # What is open at the cheap depth and at the end was observed; what lies between is not told.
    assert "cheap" in cells[2] and "end" in cells[2]
    assert all("withheld" in cell for cell in cells[3:-1])
    assert not any(character.isdigit() for cell in cells[3:-1] for character in cell)
    chart = content.split("unclear: risk against depth")[1].split("</svg>")[0]
    assert chart.count("<circle") == len(made["unclear"].points)


def test_without_a_tolerance_there_is_no_regime_but_everything_else(pages):
    made, content = pages["no_tolerance"]
    page = Page(content)
    assert "without a tolerance" in page.text and "Phase diagram" not in page.text
    cells = page.row("loss_0")
    assert cells[1] == "no tolerance stated"
    assert _interval(cells[3])[0] == pytest.approx(made["loss_0"].L_int.median, rel=6e-3)


def test_many_tasks_are_folded_and_sorted_by_regime(pages):
    made, content = pages["ninety_nine"]
    page = Page(content)
    assert "The other 87 tasks" in page.text
    rows = [r["task"] for r in page.rows if r["task"]]
    # The table of tasks, and in the same order those that have regrets.
    order, regretted = rows[:99], rows[99:]
    assert len(set(order)) == 99
    assert regretted == [task for task in order if made[task].actions is not None] and len(regretted) == 88
    regimes = [made[name].regime or "withheld" for name in order]
    ranks = ["static-sufficient", "dynamic-critical", "noise-dominant", "withheld"]
    assert regimes == sorted(regimes, key=ranks.index)
    sure = [made[n].regimes["dynamic-critical"] for n in order if made[n].regime == "dynamic-critical"]
    assert sure == sorted(sure, reverse=True)


def test_depths_left_out_are_listed_or_counted_by_reason(pages):
    assert "depth 0 is kept but not fitted digits_fast at 0 steps" in Page(pages["eight"][1]).text
    left_out = tuple(LeftOut(float(depth), "all runs agree") for depth in range(40, 60))
    made = plan(MadeUpPosterior([dataclasses.replace(SUITE[0], left_out=left_out)]))
    assert "all runs agree digits_fast at 20 depths from 40 to 59 steps" in Page(render_page(made)).text


def test_the_same_plan_gives_the_same_bytes(pages, spread):
    made, content = pages["eight"]
    assert render_page(made, compare=(spread,)) == content


def test_what_other_depths_lose_stands_with_the_numbers_of_the_plan(eight):
    content = render_page(eight)
    rows = [r for r in Page(content).rows if r["task"] and len(r["cells"]) == 7]
    assert {r["task"] for r in rows} == {t.task for t in eight.tasks}
    for row in rows:
        actions = eight[row["task"]].actions
        order = ("best_depth", "plug_in", "no_probe", "fixed_fraction", "hundred_steps", "full_run")
        for cell, name in zip(row["cells"][1:], order, strict=True):
            regret = actions[name].regret
            assert cell.replace(" ", "") == number(regret.expected, 2) + number(regret.cvar, 2)
    assert content.count("against cost</title>") == len(eight.tasks)
    assert "Expected regret in full runs" in content
    money = plan(eight.posterior, tolerance=0.01, cost=LinearCost(0.4, unit="GPU hour", price=2.5, currency="EUR"))
    assert "Expected regret in EUR," in render_page(money)


def test_a_figure_that_an_odd_task_lacks_is_withheld(eight):
    lacking = dataclasses.replace(
        eight.tasks[0],
        c_star=None,
        c_star_at_min=None,
        c_star_at_max=None,
        best_depth=None,
        actions=None,
        frontier=None,
        gain=None,
        p_gain=None,
        cloud={k: v for k, v in eight.tasks[0].cloud.items() if k != "c_star"},
    )
    made = dataclasses.replace(eight, tasks=(lacking, *eight.tasks[1:]))
    cells = Page(render_page(made)).row(lacking.task)
    assert [cells[i] for i in (5, 6, 7)] == ["withheld"] * 3


class TestFiles:
    def test_json_is_the_plan_strictly(self, eight, tmp_path):
        write_report(eight, tmp_path / "report.json")

        def refuse(constant):
            raise AssertionError(constant)

        read = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)
        assert read == json.loads(json.dumps(eight.to_dict()))
        assert {t["task"] for t in read["tasks"]} == {t.name for t in SUITE}

    def test_html_is_the_page(self, one, tmp_path):
        write_report(one, str(tmp_path / "Report.HTML"))
        assert (tmp_path / "Report.HTML").read_text(encoding="utf-8") == render_page(one)
        assert os.listdir(tmp_path) == ["Report.HTML"]

    @pytest.mark.parametrize("name", ["report.pdf", "report", "nowhere/report.html", "folder.html"])
    def test_a_place_that_cannot_be_written_to(self, one, tmp_path, name):
        (tmp_path / "folder.html").mkdir()
        with pytest.raises(InputError):
            write_report(one, tmp_path / name)
        assert os.listdir(tmp_path) == ["folder.html"]

    def test_a_report_that_fails_leaves_the_old_one(self, one, tmp_path):
        path = tmp_path / "report.html"
        path.write_text("old")
        broken = dataclasses.replace(one, tasks=(dataclasses.replace(one.tasks[0], points=({},)),))
        with pytest.raises(KeyError):
            write_report(broken, path)
        assert path.read_text() == "old" and os.listdir(tmp_path) == ["report.html"]
