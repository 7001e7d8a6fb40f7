"""A watch table of some runs, made by the interpreter that has the package's own dependencies."""

import csv
import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def table_of():
    """Function that gives the file with the table; `runs` are mappings from step to value, one a seed."""
    other = os.environ.get("BAYES_PREHOC_PYTHON")
    if not other:
        pytest.skip("BAYES_PREHOC_PYTHON names no interpreter that has the package's dependencies")

    def made(runs, metric, threshold, worth, folder):
        with open(folder / "runs.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("task", "seed", "step", "metric", "value"))
            for seed, run in enumerate(runs):
                rows.writerows(("tiny", seed, step, metric, value) for step, value in run.items())
        said = (metric, str(threshold), str(worth))
        command = [other, HERE / "make_table.py", folder / "runs.csv", *said, folder / "table.json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parent.parent)
        assert done.returncode == 0, done.stdout + done.stderr
        return folder / "table.json"

    return made
