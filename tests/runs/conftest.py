"""Makers of small run tables and runs."""

import numpy as np
import pandas as pd
import pytest

from bayes_prehoc.runs import TaskRuns

COLUMNS = ["task", "seed", "step", "metric", "value"]


@pytest.fixture
def table():
    """Maker of a good tidy table: `seeds` runs of one metric at `steps`, values all different."""

    def make(seeds=4, steps=(1, 2, 4), task="a", metric="loss"):
        rows = [(task, s, c, metric, 1.0 / (c + 1) + 0.01 * s + 0.001 * s * c) for s in range(seeds) for c in steps]
        return pd.DataFrame(rows, columns=COLUMNS)

    return make


@pytest.fixture
def task_runs():
    """Maker of a `TaskRuns` with every field filled, values drawn from a seeded generator."""

    def make(task="a", seeds=(0, 1, "two"), depths=(0.0, 0.1, 3.0), examples="bool", **changes):
        rng = np.random.default_rng(0)
        shape = (len(seeds), len(depths))
        values = {"loss": rng.normal(size=shape), "accuracy": rng.uniform(size=shape)}
        values["loss"][0, -1] = np.nan
        values["accuracy"][-1, -1] = np.inf
        drawn = rng.uniform(size=(len(seeds), 13))
        fields = {
            "outcome_metric": "accuracy",
            "horizon": float(depths[-1]),
            "outcome": np.r_[rng.uniform(size=len(seeds) - 1), np.nan],
            "outcome_examples": drawn > 0.5 if examples == "bool" else drawn.astype(np.float32),
            "depth_unit": "epoch",
            "higher_is_better": True,
            "attributes": {"model": "small", "rate": 0.1, "layers": 3, "tied": True},
            "notes": ("read with care",),
        }
        return TaskRuns(task, tuple(seeds), np.array(depths), values, **{**fields, **changes})

    return make
