"""Runs with known truth: martingales that end in a noisy outcome."""

import numpy as np
import pytest

from bayes_prehoc.runs import TaskRuns


def _martingale(rng, n, depths, noise=0.1, metrics=1):
    """Values (M, n, D), outcome (n,) and Bayes risk (D,): what the increments to come and the noise leave open."""
    to_come = 1.0 / depths - 1.0 / depths[-1]
    step = np.sqrt(np.r_[1.0, -np.diff(to_come)])
    path = np.cumsum(rng.normal(size=(n, len(depths))) * step, axis=1)
    others = [path + 0.3 * rng.normal(size=path.shape) for _ in range(metrics - 1)]
    return np.stack([path, *others]), path[:, -1] + noise * rng.normal(size=n), to_come + noise**2


@pytest.fixture
def martingale():
    """Function of (rng, n, depths, noise, metrics) that draws runs and says their Bayes risk."""
    return _martingale


@pytest.fixture
def make_task():
    """Maker of a task of n complete runs: metrics accuracy and loss, R recorded with its examples, forks if asked."""

    def make(task="a", n=32, depths=(0.0, 1.0, 2.0, 4.0, 8.0), seed=0, examples=True, branches=0, **changes):
        rng = np.random.default_rng(seed)
        depths = np.asarray(depths, float)
        path = 0.7 + 0.05 * np.cumsum(rng.normal(size=(n, len(depths))) / np.sqrt(1.0 + depths), axis=1)
        right = rng.random((n, 200)) < np.clip(path[:, -1:], 0.0, 1.0)
        fields = {
            "outcome_metric": "accuracy",
            "horizon": float(depths[-1]),
            "outcome": right.mean(axis=1) if examples else None,
            "outcome_examples": right if examples else None,
            "depth_unit": "epoch",
            "higher_is_better": True,
        }
        if branches:
            left = np.sqrt(1.0 / (1.0 + depths[1:-1]))
            fields["fork_depths"] = depths[1:-1]
            fields["forked"] = 0.7 + 0.05 * left[:, None] * rng.normal(size=(n, len(left), branches))
        values = {"accuracy": path, "loss": 1.0 - path + 0.02 * rng.normal(size=path.shape)}
        return TaskRuns(task, tuple(range(n)), depths, **{"values": values, **fields, **changes})

    return make
