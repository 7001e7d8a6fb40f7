"""How well do few runs, seen on the shallower half of their depths, forecast the spread of others at the deeper half?

    python benchmarks/forecast.py --size full --store suite.db --keep forecast.jsonl --json forecast.json

Of every task with enough depths that all its runs reached, some runs are seen on the shallower half of those depths,
and what the sample variance of the *other* runs is at the deeper half is forecast: by the median of `predict_risk`
after `fit` on all tasks of the source, and, each task by itself, by

- carrying the last variance forward,
- a straight line through log variance against log depth,
- least squares of L + K c^-alpha with L, K >= 0 (Algorithm 1 of arXiv 2606.17649), on variances as they are.

A figure is the mean absolute log ratio of forecast and variance: over depths, then over splits of a task's runs, then
over tasks. Intervals are the central 90% of `predict_risk` for as many runs as are held against it. The horizon is not
told. Sources: the runs of `BAYES_PREHOC_DATA` (see docs/development.md) and the built-in suite. `--keep` stores each
fit's forecasts when it is done; the same command goes on where an interrupted one stopped.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from _recorded import SOURCES, Size, by_split, cut_to, data_folder, taken_apart
from _table import Figure, machine, print_figures, write_figures
from scipy.optimize import nnls

import bayes_prehoc as bp
from bayes_prehoc.runs.trajectories import TaskRuns, Trajectories

MOST_JUDGED = 8
"""Depths of a task at which forecasts are judged."""
ALPHAS = np.linspace(0.02, 4.0, 200)
OURS = "bayes_prehoc"
BETTER_BY, COVERED = 0.15, (0.85, 0.95)
PROMISED_AT = (3, 5)


SIZES = {
    "smoke": Size(("DeepOBS",), (3,), 1, 0),
    "full": Size(SOURCES, (3, 5, 10), 3, 64),
}


class Split(NamedTuple):
    """One task: what is seen, and the variances (J,) of the other runs at the judged depths."""

    seen: TaskRuns
    depths: np.ndarray
    variance: np.ndarray
    others: int


def split(task: TaskRuns, n_seen: int, rng: np.random.Generator) -> Split | None:
    """So many of the runs on the shallower half of their depths, and the rest; None where there are too few."""
    apart = taken_apart(task, n_seen, rng)
    if apart is None:
        return None
    half = -(-len(apart.there) // 2)
    shallow, deep = apart.there[:half], apart.there[half:]
    judged = deep[np.unique(np.linspace(0, len(deep) - 1, MOST_JUDGED).astype(int))]
    variance = apart.value[np.ix_(apart.others, judged)].var(axis=0, ddof=1)
    judged, variance = judged[variance > 0.0], variance[variance > 0.0]
    cut = cut_to(task, apart, shallow, horizon_assumed=True)
    return Split(cut, task.depths[judged], variance, len(apart.others)) if len(judged) else None


def by_last(depth, variance, wanted):
    """The last variance, carried forward."""
    return np.full(len(wanted), variance[-1])


def by_line(depth, variance, wanted):
    """A straight line in logarithms."""
    slope, constant = np.polyfit(np.log(depth), np.log(variance), 1)
    return np.exp(constant + slope * np.log(wanted))


def by_least_squares(depth, variance, wanted):
    """L + K c^-alpha: for each alpha the best L and K are those of a linear problem, so the best of all is found."""
    unit, scale = depth[-1], variance.max()
    fits = []
    for alpha in ALPHAS:
        columns = np.column_stack([np.ones_like(depth), (depth / unit) ** -alpha])
        (floor, amplitude), residual = nnls(columns, variance / scale)
        fits.append((residual, floor, amplitude, alpha))
    _, floor, amplitude, alpha = min(fits)
    return scale * (floor + amplitude * (wanted / unit) ** -alpha)


BASELINES = {"last variance": by_last, "log-log line": by_line, "least squares": by_least_squares}


def forecasts(runs: Trajectories, n_seen: int, index: int) -> dict:
    """Of all tasks of a source, from one split of each: what each way forecast, and what the others showed."""
    rng = np.random.default_rng([n_seen, index])
    splits = {task.task: split(task, n_seen, rng) for task in runs}
    splits = {name: own for name, own in splits.items() if own is not None}
    if not splits:
        return {"tasks": [], "set_aside": [], "converged": True}
    estimates = bp.estimate_risk(Trajectories(tuple(own.seen for own in splits.values())), proxy="run_to_run")
    posterior = bp.fit(estimates, seed=index)
    tasks = []
    for name in posterior.tasks:
        own = splits[name]
        drawn = posterior.predict_risk(name, own.depths, own.others, seed=index)
        lower, median, upper = np.quantile(drawn, (0.05, 0.5, 0.95), axis=0)
        variance = own.seen.values[own.seen.outcome_metric].var(axis=0, ddof=1)
        usable = variance > 0.0
        seen = own.seen.depths[usable], variance[usable]
        points = {OURS: median} | {way: make(*seen, own.depths) for way, make in BASELINES.items()}
        tasks.append(
            {
                "task": name,
                "errors": {way: float(np.abs(np.log(point / own.variance)).mean()) for way, point in points.items()},
                "covered": float(((lower <= own.variance) & (own.variance <= upper)).mean()),
                "width": float(np.log(upper / lower).mean()),
                "bias": float(np.log(median / own.variance).mean()),
            }
        )
    aside = [one.task for one in estimates.set_aside]
    return {"tasks": tasks, "set_aside": aside, "converged": posterior.converged}


def table(results: list[dict]) -> pd.DataFrame:
    """One row per source, number of runs seen and task, means over splits; fits that did not converge give none."""
    rows = [
        {"source": one["source"], "seen": one["seen"], "task": own["task"]}
        | own["errors"]
        | {name: own[name] for name in ("covered", "width", "bias")}
        for one in results
        if one["converged"]
        for own in one["tasks"]
    ]
    return pd.DataFrame(rows).groupby(["source", "seen", "task"], as_index=False).mean()


def figures(size: Size, frame: pd.DataFrame, judged: bool) -> list[Figure]:
    """Errors of all ways, how much better ours is than the best of the others, and coverage."""
    found = []
    for n_seen in size.seen:
        at = frame[frame["seen"] == n_seen]
        if at.empty:
            continue
        for name, own in [("all", at), *at.groupby("source", sort=False)]:
            promised = judged and name == "all" and n_seen in PROMISED_AT
            label = f"{name}, {n_seen} runs seen"
            means = {way: own[way].mean() for way in (OURS, *BASELINES)}
            for way, value in means.items():
                error = own[way].std(ddof=1) / np.sqrt(len(own)) if len(own) > 1 else np.nan
                unit = f"mean absolute log ratio, {len(own)} tasks, standard error {error:.3f}"
                found.append(Figure(f"{label}: {way}", float(value), unit))
            best = min(BASELINES, key=means.get)
            better = 1.0 - means[OURS] / means[best]
            target = f"at least {BETTER_BY:g}" if promised else None
            met = bool(better >= BETTER_BY) if promised else None
            found.append(Figure(f"{label}: error below that of {best} by", float(better), "share", target, met))
            covered = float(own["covered"].mean())
            error = own["covered"].std(ddof=1) / np.sqrt(len(own)) if len(own) > 1 else np.nan
            target = "{:g} to {:g}".format(*COVERED) if promised else None
            met = bool(COVERED[0] <= covered <= COVERED[1]) if promised else None
            found.append(
                Figure(f"{label}: coverage of 90%", covered, f"share, standard error {error:.3f}", target, met)
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--seen", type=int, action="append", metavar="N", help="runs seen; default those of the size")
    parser.add_argument("--splits", type=int, metavar="N", help="instead of those of the size")
    parser.add_argument("--store", type=Path, metavar="FILE", help="keep the suite's runs here, and go on from it")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="store forecasts here, and go on from them")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    data = data_folder() / "runs"
    if not data.is_dir():
        parser.exit(1, f"needs runs in {data}\n")
    size = SIZES[options.size]
    size = size._replace(seen=tuple(options.seen or size.seen), splits=options.splits or size.splits)
    results = by_split(forecasts, size, data, options.store, options.keep)
    print(machine())
    for one in results:
        label = f"{one['source']}, {one['seen']} runs seen, split {one['split']}"
        state = "" if one["converged"] else "; the fit did not converge"
        print(f"{label}: {len(one['tasks'])} tasks forecast, {len(one['set_aside'])} set aside{state}")
    print()
    found = figures(size, table(results), judged=options.size == "full")
    print_figures(found)
    write_figures(options.json, found)


if __name__ == "__main__":
    main()
