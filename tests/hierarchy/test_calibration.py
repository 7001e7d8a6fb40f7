"""Tests of simulation-based calibration: of what judges ranks, and by it of the model."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from bayes_prehoc.hierarchy.calibration import RANKS, Design, rank_of_truth, uniformity

SIMULATIONS = 64
SBC = Path(__file__).resolve().parents[2] / "benchmarks" / "sbc.py"


def ranks_of(shares):
    """Ranks of one quantity, beside a uniform one."""
    uniform = np.random.default_rng(5).random(len(shares))
    rows = np.minimum(RANKS * np.column_stack([shares, uniform]), RANKS - 1).astype(int)
    return [{"judged": int(a), "uniform": int(b)} for a, b in rows]


def test_uniform_ranks_pass_about_as_often_as_they_should():
    rng = np.random.default_rng(0)
    passed = [uniformity(ranks_of(rng.random(64)), level=0.2).loc["judged", "passed"] for _ in range(200)]
    # By Bonferroni a quantity fails at most 0.1 of the time.
    assert 0.9 - 3.0 * np.sqrt(0.09 / 200) <= np.mean(passed) < 1.0


@pytest.mark.parametrize(
    "bend", [lambda u: u**2, lambda u: 0.5 + 4.0 * (u - 0.5) ** 3, lambda u: 0.5 + 0.5 * (u - 0.5)]
)
def test_shifted_narrow_and_wide_posteriors_fail(bend):
    found = uniformity(ranks_of(bend(np.random.default_rng(1).random(400))))
    assert not found.loc["judged", "passed"] and found.loc["uniform", "passed"]


def test_the_posterior_is_that_of_the_model():
    """A fixed band: the ranks of 64 simulations, from 3, 8 and 64 runs, of every quantity at a level of 0.01 in all."""
    ranked = [
        rank_of_truth(jax.random.fold_in(jax.random.key(1), i), Design(3, 5, (3, 8, 64)[i % 3]))
        for i in range(SIMULATIONS)
    ]
    found = uniformity([one.ranks for one in ranked])
    assert "log_likelihood" in found.index and len(found) == 18
    assert found["passed"].all(), found
    assert sum(bool(one.failed) for one in ranked) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["dispersion", "jacobian"])
def test_a_broken_model_fails(broken):
    command = [sys.executable, str(SBC), "--size", "full", "--simulations", "64", "--broken", broken]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "NOT MET" in done.stdout
