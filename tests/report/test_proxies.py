"""The page of a comparison: complete, safe, and with the comparison's own numbers."""

import json
import re

import numpy as np
import pytest

from bayes_prehoc.report import write_report
from bayes_prehoc.report.proxies import render_comparison, task_words
from bayes_prehoc.report.text import number
from bayes_prehoc.risk import compare_proxies
from bayes_prehoc.risk.laboratory import martingale
from bayes_prehoc.runs import Trajectories

from .conftest import HOSTILE
from .test_page import LOADING, Page

DEPTHS = np.geomspace(10, 1000, 8).round()


@pytest.fixture(scope="module")
def compared():
    chain = martingale(DEPTHS, alpha=0.5, amplitude=1.0, floor=0.02)
    drawn = [
        chain.draw(np.random.default_rng(0), 40, branches=3, name="told"),
        chain.draw(np.random.default_rng(1), 12, name=HOSTILE),
    ]
    return compare_proxies(Trajectories(tuple(drawn)), permutations=19)


def test_a_page_has_every_figure_and_loads_nothing(compared):
    content = render_comparison(compared)
    page = Page(content)
    assert len(page.ids) == len(set(page.ids))
    assert not [
        value for _, name, value in page.attributes if name in LOADING and not value.startswith(("#", "data:,"))
    ]
    assert "script" not in page.tags and HOSTILE in page.text and "<script>alert" not in content
    assert "script-src 'none'" in content
    for row in compared.frame.itertuples():
        assert number(row.risk, 2)[:3] in content
    assert "40 runs, 40 forked" in page.text
    for task in compared.tasks:
        for words in task_words(compared, task):
            assert " ".join(words.split()) in page.text
    for what in ("branching", "conditional"):
        assert f"{HOSTILE}, {what}" in page.text


def test_marks_lie_at_the_numbers(compared):
    content = render_comparison(compared)
    found = compared.frame[(compared.frame["task"] == "told") & (compared.frame["proxy"] == "branching")]
    (group,) = re.findall(r'<g class="points noise">(.*?)</g>', content)
    squares = np.array(re.findall(r'd="M([\d.]+) ([\d.]+)h6v6h-6Z"', group), float)
    for pixels, values in zip(squares.T, (found["depth"], found["risk"]), strict=True):
        logs = np.log(values.to_numpy())
        fit = np.polynomial.Polynomial.fit(logs, pixels, 1)
        assert len(pixels) == 7 and np.abs(fit(logs) - pixels).max() < 0.2


def test_words_say_what_the_figures_come_to(compared):
    words = task_words(compared, "told")
    assert any(line.startswith("branching against conditional: not told apart at 7 depths") for line in words)
    (told,) = [line for line in words if line.startswith("watching tells")]
    best = compared.information.frame.sort_values("nats").iloc[-1]
    assert f"{best['nats']:.2f} nats at depth {best['depth']:g}, standard error {best['se']:.2f}" in told
    assert "p = 0.05" in told


def test_files(compared, tmp_path):
    write_report(compared, tmp_path / "p.html")
    write_report(compared, tmp_path / "p.json")
    assert (tmp_path / "p.html").read_text() == render_comparison(compared)
    assert json.loads((tmp_path / "p.json").read_text()) == json.loads(json.dumps(compared.to_dict()))
