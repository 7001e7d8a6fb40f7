"""How long does it take to say of new tasks what a posterior knows, without another fit?

A posterior of simulated tasks is updated (`Posterior.update`) with one new task, many times, and with very many at
once.

    python benchmarks/updates.py --size full --json updates.json
"""

import argparse
import dataclasses
import resource
import time
from typing import NamedTuple

import jax
import numpy as np
from _table import Figure, machine, print_figures, write_figures

import bayes_prehoc as bp
from bayes_prehoc.hierarchy.model import weak_prior
from bayes_prehoc.hierarchy.simulate import draw_estimates, draw_truth
from bayes_prehoc.risk.estimates import RiskEstimates, TaskEstimates

PROXY = "conditional"
DEPTHS = np.geomspace(0.02, 0.9, 8)
HORIZON, NU = 400.0, 60.0
LONGEST_MS = 100.0
LOOKED_AT = 500
"""New tasks whose intervals are held against the truth."""


class Size(NamedTuple):
    """Tasks that are fitted, new ones one at a time, and new ones all at once."""

    fitted: int
    one_by_one: int
    at_once: int


SIZES = {"smoke": Size(4, 2, 3), "full": Size(50, 30, 10_000)}


def simulated(tasks: int) -> tuple[RiskEstimates, np.ndarray]:
    """Estimates of tasks of one population, and the true log U(c_0) of each."""
    truth_key, data_key = jax.random.split(jax.random.key(0))
    kind = np.ones((tasks, 1))
    white = np.random.default_rng(0).normal(size=(3, tasks))
    level, share, rate = np.array([-6.0, -1.0, -1.0])[:, None] + np.array([0.8, 0.8, 0.4])[:, None] * white
    # The population is set: what the weak prior draws may be an odd one.
    truth = draw_truth(truth_key, weak_prior(PROXY), PROXY, kind)._replace(
        level=level, share=share, rate=rate, log_onset=np.array(-4.0), misfit=np.array(0.1), dependence=np.array(0.9)
    )
    depth = np.tile(DEPTHS, (tasks, 1))
    data = draw_estimates(data_key, truth, depth, np.full(depth.shape, NU), kind, PROXY)
    risk = np.exp(np.asarray(data.log_risk, float)).T
    shared = {
        "proxy": PROXY, "metric": "accuracy", "metric_kind": "accuracy", "depths": DEPTHS * HORIZON,
        "nu": np.full(len(DEPTHS), NU), "scale": 1.0, "outcome_mean": 1.0, "n_runs": 64, "horizon": HORIZON,
    }  # fmt: skip
    found = tuple(TaskEstimates(task=str(row), risk=risk[row], hashes=(str(row),), **shared) for row in range(tasks))
    return RiskEstimates(PROXY, found), level


def figures(size: Size, judged: bool) -> list[Figure]:
    """Times of one and of many; `judged` where the machine is used for this alone."""
    estimates, level = simulated(size.fitted + size.one_by_one + size.at_once)
    parts = np.split(np.arange(len(estimates)), np.cumsum([size.fitted, size.one_by_one]))
    fitted, single, many = (
        dataclasses.replace(estimates, tasks=tuple(estimates.tasks[row] for row in rows)) for rows in parts
    )
    posterior = bp.fit(fitted)
    times = []
    for task in single:
        start = time.perf_counter()
        posterior.update(RiskEstimates(PROXY, (task,)))
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    updated = posterior.update(many)
    all_of_them = time.perf_counter() - start
    median = 1e3 * float(np.median(times[1:]))
    held = []
    for task in updated.tasks[:LOOKED_AT]:
        curve = updated.curve(task)
        low, high = np.quantile(np.log(curve.l_int + curve.reducible), (0.05, 0.95))
        held.append(low <= level[int(task)] <= high)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [
        Figure("first update, with compilation", times[0], "s"),
        Figure(
            "one new task",
            median,
            f"ms, median of {len(times) - 1}",
            f"< {LONGEST_MS:g} ms" if judged else None,
            median < LONGEST_MS if judged else None,
        ),
        Figure(f"{size.at_once} new tasks at once", all_of_them, f"s; {len(updated.estimates.set_aside)} set aside"),
        Figure("90% intervals of U(c_0) that hold the truth", float(np.mean(held)), f"share of {len(held)}"),
        Figure("peak memory", peak, "GiB"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    print(machine())
    found = figures(SIZES[options.size], judged=options.size == "full")
    print_figures(found)
    write_figures(options.json, found)


if __name__ == "__main__":
    main()
