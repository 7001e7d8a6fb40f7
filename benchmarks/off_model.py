"""Do 90% intervals hold the truth where data are not drawn from the model?

Four worlds, each a step farther from the model than the one before:

- `fixed`: the hyperparameters are those of the middle of the weak prior, no longer drawn from it; estimates are drawn
  from the likelihood;
- `runs`: what is drawn are runs, normal ones, whose variance at each depth is the task's curve; `estimate_risk` makes
  estimates of them, with its plug-in degrees of freedom, its phase of the law, and what it sets aside;
- `tails`: runs have the excess kurtosis that recorded ones have (Student's t, a factor for each run);
- `tails as normal`: the same, and the degrees of freedom are those of normal runs.

    python benchmarks/off_model.py --size full --keep off_model.jsonl --json off_model.json

Cells are as in `coverage.py`: 50 tasks at 8 depths, the share of tasks whose central 90% interval holds the truth, with
its standard error clustered by replicate. Of tasks that are set aside nothing is asked; how many they are is told.
`--kurtosis` prints what recorded runs have (those of `BAYES_PREHOC_DATA`, docs/development.md): `tails` takes the
largest of the sources.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from _kept import Kept
from _recorded import data_folder, recorded
from _table import Figure, machine, print_figures, write_figures
from coverage import PROMISED, PROXY, QUANTITIES, clustered, held
from tqdm.auto import tqdm

import bayes_prehoc as bp
from bayes_prehoc.hierarchy.data import ModelData, model_data
from bayes_prehoc.hierarchy.likelihood import log_mean_curve
from bayes_prehoc.hierarchy.model import LATENTS, weak_prior
from bayes_prehoc.hierarchy.simulate import Truth, draw_estimates, truth_at
from bayes_prehoc.risk.by_task import spread_of
from bayes_prehoc.risk.estimates import RiskEstimates
from bayes_prehoc.risk.run_to_run import pooled_excess_kurtosis
from bayes_prehoc.runs.trajectories import TaskRuns, Trajectories

WORLDS = ("fixed", "runs", "tails", "tails as normal")
KURTOSIS = 0.9
"""Excess kurtosis of the runs of `tails`: that of MLPerf's LoRA."""
HORIZON = 1000.0
SPREADS = ("MLPerf BERT", "MLPerf LoRA", "DeepOBS")


class Size(NamedTuple):
    """What a run of the benchmark simulates."""

    seeds: tuple[int, ...]
    replicates: int
    tasks: int
    depths: int


SIZES = {"smoke": Size((8,), 1, 5, 6), "full": Size((8, 64), 6, 50, 8)}


def middle() -> dict[str, np.ndarray]:
    """Medians of the weak prior; no correlation between latents."""
    prior = weak_prior(PROXY)
    half_normal, exponential = 0.6745, np.log(2.0)
    return {
        "mu_level": np.array([prior.level[0]]),
        "mu_share": np.array(prior.share[0]),
        "mu_rate": np.array(prior.rate[0]),
        "tau": half_normal * np.asarray(prior.tau),
        "corr_chol": np.eye(3),
        "log_onset": np.array(prior.onset[0]),
        "misfit": np.array(half_normal * prior.misfit),
        "dependence": np.array(np.exp(prior.length[0])),
        "drift": np.array(exponential * prior.drift),
        "lasting": np.array(0.5 ** (1.0 / prior.lasting)),
    }


def replicate(size: Size, world: str, n_seeds: int, index: int) -> dict:
    """Simulate and fit once; what came out, as plain data."""
    root = jax.random.fold_in(jax.random.key(n_seeds), index)
    truth_key, data_key, fit_key = jax.random.split(root, 3)
    kind = np.ones((size.tasks, 1))
    depth = np.tile(np.geomspace(0.02, 1.0, size.depths), (size.tasks, 1))
    sites = middle()
    if world != "fixed":
        # Runs follow their curves exactly.
        sites |= {"misfit": np.array(0.0), "drift": np.array(0.0)}
    dof = np.full(depth.shape, n_seeds - 1.0)
    some = ModelData(
        *np.ones((4, size.depths, size.tasks)), kind, *np.zeros((2, size.tasks)), *np.zeros((2, size.tasks, 0))
    )
    truth = truth_at(truth_key, sites, some)
    if world == "fixed":
        data, taken = draw_estimates(data_key, truth, depth, dof, kind, PROXY), np.arange(size.tasks)
    else:
        rng = np.random.default_rng([n_seeds, index])
        estimates = bp.estimate_risk(
            runs(rng, truth, depth[0], n_seeds, 0.0 if world == "runs" else KURTOSIS), proxy=PROXY
        )
        if world == "tails as normal":
            estimates = as_normal(estimates)
        data, taken = model_data(estimates), np.array([int(task.task) for task in estimates])
    of_taken = truth._replace(**{name: getattr(truth, name)[taken] for name in LATENTS})
    about = {"world": world, "seeds": n_seeds, "replicate": index, "set_aside": size.tasks - len(taken)}
    return about | held(fit_key, data, of_taken)


def runs(rng: np.random.Generator, truth: Truth, depth, n_seeds: int, kurtosis: float) -> Trajectories:
    """Runs of every task, around a mean of one, with the correlation over depths that the likelihood has."""
    apart = np.abs(np.subtract.outer(np.log(depth), np.log(depth)))
    # The correlation of two sample variances is the square of that of the runs.
    correlation = np.sqrt(truth.lasting) * np.exp(-apart / truth.dependence)
    np.fill_diagonal(correlation, 1.0)
    factor = np.linalg.cholesky(correlation)
    curve = log_mean_curve(truth.level, truth.share, truth.rate, np.exp(truth.log_onset), 0.0, depth[:, None], PROXY)
    sd = np.exp(np.asarray(curve, float) / 2.0).T
    tasks = []
    for row, own in enumerate(sd):
        values = 1.0 + own * (rng.normal(size=(n_seeds, len(depth))) @ factor.T) * _factors(rng, n_seeds, kurtosis)
        tasks.append(
            TaskRuns(
                task=str(row),
                seeds=tuple(range(n_seeds)),
                depths=depth * HORIZON,
                values={"loss": values},
                outcome_metric="loss",
                horizon=HORIZON,
            )
        )
    return Trajectories(tuple(tasks))


def _factors(rng, number, kurtosis):
    """Of unit mean square, (number, 1): normal runs times these have the excess kurtosis."""
    if kurtosis == 0.0:
        return np.ones((number, 1))
    tail = 4.0 + 6.0 / kurtosis
    return np.sqrt((tail - 2.0) / rng.chisquare(tail, size=(number, 1)))


def as_normal(estimates: RiskEstimates) -> RiskEstimates:
    """With the degrees of freedom that the variances of normal runs have."""
    tasks = tuple(dataclasses.replace(task, nu=np.full(len(task.depths), task.n_runs - 1.0)) for task in estimates)
    return dataclasses.replace(estimates, tasks=tasks)


def recorded_kurtosis(data: Path) -> list[Figure]:
    """Of each source, all tasks together, as `estimate_risk` has it."""
    found = []
    for source in SPREADS:
        tables = [table for table in map(spread_of, recorded(source, data, 0, None)) if not isinstance(table, str)]
        own = pooled_excess_kurtosis([table.values for table in tables])
        found.append(Figure(f"excess kurtosis, {source}", own, f"of {len(tables)} tasks together"))
    return found


def figures(size: Size, results: list[dict]) -> list[Figure]:
    """Coverage by world, number of seeds and quantity, and how the fits did."""
    found = []
    for world in WORLDS:
        for n_seeds in size.seeds:
            own = [r for r in results if (r["world"], r["seeds"]) == (world, n_seeds)]
            for name in QUANTITIES:
                value, error = clustered([r["covered"][name] for r in own])
                unit = f"share, standard error {error:.3f}; {PROMISED:.2f} on the model"
                found.append(Figure(f"coverage of 90% intervals, {world}, {n_seeds} seeds, {name}", value, unit))
            failed, aside = sum(bool(r["failed"]) for r in own), sum(r["set_aside"] for r in own)
            found.append(Figure(f"fits that missed the gate, {world}, {n_seeds} seeds", failed, f"of {len(own)}"))
            found.append(Figure(f"tasks set aside, {world}, {n_seeds} seeds", aside, f"of {len(own) * size.tasks}"))
    return found


def print_table(size: Size, results: list[dict]) -> None:
    print(f"{'coverage of 90% intervals':<30}" + "".join(f"{name:>16}" for name in QUANTITIES))
    for world in WORLDS:
        for n_seeds in size.seeds:
            own = [r["covered"] for r in results if (r["world"], r["seeds"]) == (world, n_seeds)]
            cells = [clustered([covered[name] for covered in own]) for name in QUANTITIES]
            label = f"{world}, {n_seeds} seeds"
            print(f"{label:<30}" + "".join(f"{value:>8.3f} ({error:.3f})" for value, error in cells))
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--kurtosis", action="store_true", help="print that of recorded runs, and nothing else")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="store replicates here, and go on from it")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    size = SIZES[options.size]
    print(machine(), flush=True)
    if options.kurtosis:
        found = recorded_kurtosis(data_folder() / "runs")
    else:
        kept = Kept(options.keep, {"size": size, "kurtosis": KURTOSIS})
        there = {(r["world"], r["seeds"], r["replicate"]) for r in kept.results}
        every = [(world, n, index) for index in range(size.replicates) for n in size.seeds for world in WORLDS]
        for one in tqdm([one for one in every if one not in there], desc="fits", disable=None):
            kept.add(replicate(size, *one))
        print_table(size, kept.results)
        found = figures(size, kept.results)
    print_figures(found)
    write_figures(options.json, found)


if __name__ == "__main__":
    main()
