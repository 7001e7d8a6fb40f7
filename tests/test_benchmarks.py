"""Each benchmark runs at its smallest size and writes its figures as documented."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
BENCHMARKS = sorted(path.name for path in FOLDER.glob("*.py") if not path.name.startswith("_"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_smoke(name, tmp_path):
    command = [sys.executable, str(FOLDER / name), "--size", "smoke", "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures and all(set(figure) == {"name", "value", "unit", "target", "met"} for figure in figures)
    assert all(figure["name"] in done.stdout for figure in figures) and "cores" in done.stdout


def test_coverage_goes_on_where_it_stopped(tmp_path):
    """Replicates that the kept file holds are not repeated."""
    keep = tmp_path / "keep.jsonl"
    command = [sys.executable, str(FOLDER / "coverage.py"), "--size", "smoke", "--keep", str(keep)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    line = json.loads(keep.read_text())
    line["result"]["covered"]["level"] = 0.123
    keep.write_text(json.dumps(line) + "\n")
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    assert len(keep.read_text().splitlines()) == 1 and "0.123" in done.stdout
