"""Do 90% intervals of the hierarchical model hold the truth 90% of the time?

In each replicate the hyperparameters are drawn from the prior, the tasks' latents from their population, and estimates
from the likelihood, with depths that share seeds; the model is fitted with the settings that `bp.fit` uses. The table
is quantity by seeds: the share of (task, replicate) pairs whose central 90% interval holds the truth, with a standard
error clustered by replicate. The optimal depth is not clipped; its price of depth is the geometric mean of the task's
own estimates per horizon, a number that is the same for the truth and for every draw. (An interval of log c* holds
log c* exactly where the interval of c* holds c*, and c* may lie below zero.)

A replicate whose fit misses the gate is counted and stays in the table.

    python benchmarks/coverage.py --size full --keep coverage.jsonl --json coverage.json

`--keep` stores each replicate when it is done; the same command goes on where an interrupted one stopped.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from _kept import Kept
from _table import Figure, machine, print_figures, write_figures
from tqdm.auto import tqdm

from bayes_prehoc import theory
from bayes_prehoc.hierarchy.data import REFERENCE_DEPTH, ModelData
from bayes_prehoc.hierarchy.inference import Sampler, sample
from bayes_prehoc.hierarchy.likelihood import alpha_of_rate
from bayes_prehoc.hierarchy.model import LATENTS, weak_prior
from bayes_prehoc.hierarchy.simulate import Truth, draw_estimates, draw_truth

PROXY = "run_to_run"
QUANTITIES = (*LATENTS, "log c*")
PROMISED = 0.90
CELL_SLACK, CELL_ERRORS = 0.04, 3.0
POOLED = (0.88, 0.92)


class Size(NamedTuple):
    """What a run of the benchmark simulates."""

    seeds: tuple[int, ...]
    replicates: int
    tasks: int
    depths: int


SIZES = {"smoke": Size((8,), 1, 10, 8), "full": Size((3, 8, 64, 1500), 20, 50, 8)}


def replicate(size: Size, n_seeds: int, index: int) -> dict:
    """Simulate and fit once; what came out, as plain data."""
    truth_key, data_key, fit_key = jax.random.split(jax.random.fold_in(jax.random.key(n_seeds), index), 3)
    prior = weak_prior(PROXY)
    kind = np.ones((size.tasks, 1))
    depth = np.tile(np.geomspace(0.02, 1.0, size.depths), (size.tasks, 1))
    dof = np.full(depth.shape, n_seeds - 1.0)
    truth = draw_truth(truth_key, prior, PROXY, kind)
    data = draw_estimates(data_key, truth, depth, dof, kind, PROXY)
    return {"seeds": n_seeds, "replicate": index} | held(fit_key, data, truth)


def held(key, data: ModelData, truth: Truth) -> dict:
    """Fit, and see which intervals hold the truth; as plain data."""
    price = np.exp(np.where(data.mask, np.asarray(data.log_risk, float), 0.0).sum(axis=0) / data.mask.sum(axis=0))
    start = time.monotonic()
    samples = sample(key, data, weak_prior(PROXY), PROXY)
    seconds = time.monotonic() - start

    tasks = data.kind.shape[0]
    true = {name: np.asarray(getattr(truth, name)) for name in LATENTS}
    drawn = {name: samples.sites[name].reshape(-1, tasks).astype(float) for name in LATENTS}
    true["log c*"] = optimal_depth(true, truth.log_onset, price)
    drawn["log c*"] = optimal_depth(drawn, samples.sites["log_onset"].reshape(-1, 1).astype(float), price)
    covered = {}
    for name in QUANTITIES:
        low, high = np.quantile(drawn[name], (0.05, 0.95), axis=0)
        covered[name] = float(np.mean((low <= true[name]) & (true[name] <= high)))
    return {
        "seconds": seconds,
        "covered": covered,
        "checks": {check.name: check.value for check in samples.checks},
        "failed": [check.name for check in samples.checks if not check.passed],
        "draws": int(samples.statistics["leapt"].size),
        "target_accept": samples.sampler.target_accept,
    }


def optimal_depth(latents, log_onset, price):
    """c* as a share of the horizon, not clipped."""
    u0 = np.exp(latents["level"])
    reducible = u0 / (1.0 + np.exp(latents["share"]))
    alpha = np.asarray(alpha_of_rate(latents["rate"], PROXY), float)
    with jax.enable_x64(True):
        return np.asarray(theory.optimal_depth(price, reducible, REFERENCE_DEPTH, alpha, np.exp(log_onset)))


def run(size: Size, keep: Path | None) -> list[dict]:
    """All replicates, in turn; those that `keep` already holds are not repeated."""
    kept = Kept(keep, {"size": size, "sampler": str(Sampler())})
    there = {(r["seeds"], r["replicate"]) for r in kept.results}
    # Replicates outside, numbers of seeds inside: a run that is cut short has a bit of everything.
    wanted = [(n, index) for index in range(size.replicates) for n in size.seeds if (n, index) not in there]
    for n_seeds, index in tqdm(wanted, desc="fits", disable=None):
        kept.add(replicate(size, n_seeds, index))
    return kept.results


def figures(size: Size, results: list[dict], judged: bool) -> list[Figure]:
    """Coverage by quantity and seeds, pooled coverage, and how the fits did."""
    found = []
    for name in QUANTITIES:
        for n_seeds in size.seeds:
            value, error = clustered([r["covered"][name] for r in results if r["seeds"] == n_seeds])
            slack = max(CELL_SLACK, CELL_ERRORS * error)
            found.append(
                Figure(
                    f"coverage of 90% intervals, {name}, {n_seeds} seeds",
                    value,
                    f"share, standard error {error:.3f}",
                    f"{PROMISED:.2f} within {slack:.3f}" if judged else None,
                    bool(abs(value - PROMISED) <= slack) if judged else None,
                )
            )
    pooled, error = clustered([np.mean(list(r["covered"].values())) for r in results])
    found.append(
        Figure(
            "coverage of 90% intervals, pooled",
            pooled,
            f"share, standard error {error:.3f}",
            "{:.2f} to {:.2f}".format(*POOLED) if judged else None,
            bool(POOLED[0] <= pooled <= POOLED[1]) if judged else None,
        )
    )
    for n_seeds in size.seeds:
        of = [r for r in results if r["seeds"] == n_seeds]
        failed = sum(bool(r["failed"]) for r in of)
        found.append(Figure(f"fits that missed the gate, {n_seeds} seeds", failed, f"of {len(of)}", "0", failed == 0))
        seconds = float(np.median([r["seconds"] for r in of]))
        found.append(Figure(f"time of a fit, {n_seeds} seeds, median", seconds, "s"))
    return found


def clustered(shares) -> tuple[float, float]:
    """Mean of the replicates' shares and its standard error (NaN for one replicate)."""
    shares = np.asarray(shares, float)
    error = shares.std(ddof=1) / np.sqrt(len(shares)) if len(shares) > 1 else np.nan
    return float(shares.mean()), float(error)


def print_table(size: Size, results: list[dict], found: list[Figure]) -> None:
    print(machine())
    tasks = f"{size.tasks} tasks x {size.depths} depths, proxy {PROXY}, float32"
    print(f"{tasks}; {size.replicates} replicates for each number of seeds, truth drawn from the weak prior\n")
    print("coverage of 90% intervals (standard error clustered by replicate)")
    print(f"{'seeds':>10}" + "".join(f"{name:>18}" for name in QUANTITIES))
    for n_seeds in size.seeds:
        cells = [clustered([r["covered"][q] for r in results if r["seeds"] == n_seeds]) for q in QUANTITIES]
        print(f"{n_seeds:>10}" + "".join(f"{value:>10.3f} ({error:.3f})" for value, error in cells))
    print()
    print_figures(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="store replicates here, and go on from it")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    size = SIZES[options.size]
    results = run(size, options.keep)
    found = figures(size, results, judged=options.size == "full")
    print_table(size, results, found)
    write_figures(options.json, found)


if __name__ == "__main__":
    main()
