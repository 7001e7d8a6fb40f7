"""Does probing what `next_probe` says decide as well as probing everything, for half of the seed-steps?

    python benchmarks/sequential.py --size full --keep sequential.jsonl --json sequential.json

In each replicate a portfolio of tasks is drawn whose true curves are known. *The full grid* probes every task with all
seeds, to the horizon. *The campaign* begins with few seeds, fits, asks `next_probe` for a batch, probes it, updates the
posterior, and goes on until no probe is worth its cost or half of the grid's seed-steps are spent; then it fits again.
Its seeds are the grid's own, so that replicates are pairs. *The even half* has half of the grid's seeds in every task:
what the same seed-steps give without asking. Every step counts: of runs, of their continuations, and of runs that go
on.

Beside regrets stand those that each posterior expects, which scatter less; and, of branching, what half of the seeds
could give in hindsight: shared among tasks as is best, had one known what so many seeds of each tell (which the other
posteriors' expected regrets say).

Each gives a posterior, each posterior a depth for each task, and each depth a regret under the true curve: what
J = gamma L + C is there beyond its minimum, in full runs. The price of error gamma is one number for a portfolio, by
which removing the median estimate at a twentieth of the run is worth a full run; the estimates are those that the
campaign begins with, so that it is the same for all and tells nothing of the truth. As many runs are to come as make
the full grid a hundredth of their cost.

Sources of portfolios:

- branching: martingales of `risk.laboratory`, of which each run is forked into two at each depth; the rates, levels
  and floors of `benchmarks/decisions.py`. The campaign begins with four seeds forked at all depths.
- spread: chains that forget, whose variance over runs is L_int + K c^-alpha at each depth; the true curve is that
  variance. The campaign begins with four seeds seen to a tenth of the horizon.

Last, one `next_probe` is timed on very many tasks. Intervals are central 90% of a bootstrap over replicates. Every task
counts, also where a plan would withhold its depth as not identified; a fit that missed its gate ends a campaign, and is
said.
"""

import argparse
import dataclasses
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from _kept import Kept
from _portfolios import (
    COST,
    DEPTHS,
    HORIZON,
    MadeUp,
    bootstrapped,
    draw_kind,
    laboratory_task,
    one_price,
    regrets_of,
    truth_of,
)
from _table import Figure, machine, print_figures, write_figures
from tqdm.auto import tqdm

import bayes_prehoc as bp
from bayes_prehoc.hierarchy import RiskCurve
from bayes_prehoc.planning import draws
from bayes_prehoc.planning.design import CREDIBLE
from bayes_prehoc.planning.stopping import optimal_stopping
from bayes_prehoc.risk.laboratory import Chain
from bayes_prehoc.runs.trajectories import TaskRuns, Trajectories

BRANCHES = 2
START = 4
"""Seeds that a campaign begins with."""
BATCHES = 4
"""What is left to spend is shared evenly among those to come. The first fit is updated after each but the last, after
which all is fitted anew."""
SEEDS = (1, 2, 4, 8)
"""Numbers of seeds that a probe may have."""
PER_FUTURE_RUN = 0.01
"""What the full grid costs of the runs to come."""
HALF = 0.5
"""Of the full grid's seed-steps, that a campaign may spend."""
MOST = 3
"""Seeds that a task can have in a campaign, in those of the full grid."""
CAMPAIGN, BEGINNING, GRID, EVEN = "the campaign", "its beginning", "the full grid", "the even half"
SPREAD_DEPTHS = np.round(np.geomspace(0.01, 1.0, 13) * HORIZON)
SHALLOW = 0.1 * HORIZON
FORGETS = 1.0
"""Of the chains whose spread is known: correlation of the metric is exp(-this |log c - log c'|)."""


class Size(NamedTuple):
    """Sources, replicates, tasks of a portfolio, seeds of the full grid, and tasks that `next_probe` is timed on."""

    sources: tuple[str, ...]
    replicates: int
    tasks: int
    grid: int
    timed: int


SIZES = {
    "smoke": Size(("branching",), 1, 3, 16, 100),
    "full": Size(("branching", "spread"), 8, 12, 16, 10_000),
}


@dataclasses.dataclass(frozen=True)
class Branching:
    """A task of which it is known how many forks each seed has: an int array (n,) is all that was probed."""

    runs: TaskRuns
    truth: RiskCurve
    proxy = "branching"

    @classmethod
    def draw(cls, rng: np.random.Generator, seeds: int, name: str) -> "Branching":
        return cls(*laboratory_task(rng, seeds, BRANCHES, name))

    def begin(self) -> np.ndarray:
        return self.grid(START)

    def grid(self, seeds: int) -> np.ndarray:
        return np.full(seeds, len(self.runs.fork_depths))

    def probed(self, until: np.ndarray, depth: float, seeds: int) -> np.ndarray:
        """With more seeds, forked up to a depth."""
        forks = np.searchsorted(self.runs.fork_depths, depth * (1.0 - 1e-9)) + 1
        return np.append(until, np.full(seeds, forks))[: self.runs.n_runs]

    def spent(self, until: np.ndarray) -> float:
        """Steps, in full runs: each seed's own and those of its continuations."""
        continued = BRANCHES * np.cumsum(1.0 - self.runs.fork_depths / HORIZON)
        return float(np.sum(1.0 + continued[until - 1]))

    def seen(self, until: np.ndarray) -> TaskRuns:
        runs = self.runs.taken(range(len(until)))
        there = np.arange(len(runs.fork_depths)) < until[:, None]
        return dataclasses.replace(runs, forked=np.where(there[:, :, None], runs.forked, np.nan))


@dataclasses.dataclass(frozen=True)
class Spread:
    """A task whose seeds are all seen to one depth: a pair of integers, seeds and depths."""

    runs: TaskRuns
    truth: RiskCurve
    proxy = "run_to_run"

    @classmethod
    def draw(cls, rng: np.random.Generator, seeds: int, name: str) -> "Spread":
        truth = truth_of(draw_kind(rng), horizon=None)
        variance = draws.risk(truth, SPREAD_DEPTHS)[0]
        kept = np.exp(-FORGETS * np.diff(np.log(SPREAD_DEPTHS)))
        carried = kept * np.sqrt(variance[1:] / variance[:-1])
        fresh = np.append(variance[0], variance[1:] * (1.0 - kept**2))
        return cls(Chain(SPREAD_DEPTHS, carried, fresh, 0.0).draw(rng, seeds, name=name), truth)

    def begin(self) -> tuple[int, int]:
        return START, int(np.searchsorted(SPREAD_DEPTHS, SHALLOW * (1.0 - 1e-9))) + 1

    def grid(self, seeds: int) -> tuple[int, int]:
        return seeds, len(SPREAD_DEPTHS)

    def probed(self, until: tuple[int, int], depth: float, seeds: int) -> tuple[int, int]:
        """With more seeds, all of them on to a depth."""
        return min(until[0] + seeds, self.runs.n_runs), int(np.searchsorted(SPREAD_DEPTHS, depth * (1.0 - 1e-9))) + 1

    def spent(self, until: tuple[int, int]) -> float:
        return float(until[0] * SPREAD_DEPTHS[until[1] - 1] / HORIZON)

    def seen(self, until: tuple[int, int]) -> TaskRuns:
        seeds, depths = until
        runs = self.runs.taken(range(seeds))
        return dataclasses.replace(
            runs,
            depths=runs.depths[:depths],
            values={name: value[:, :depths] for name, value in runs.values.items()},
            outcome=None,
        )


KINDS = {"branching": Branching, "spread": Spread}


def replicate(source: str, index: int, size: Size) -> dict:
    """A campaign, the grid and the even half on one portfolio; what came out, as plain data."""
    rng = np.random.default_rng([index, 5])
    tasks = {f"task {i}": KINDS[source].draw(rng, MOST * size.grid, f"task {i}") for i in range(size.tasks)}
    grid = {name: task.grid(size.grid) for name, task in tasks.items()}
    whole = _spent(tasks, grid)
    begun = {name: task.begin() for name, task in tasks.items()}
    price = one_price(_estimated(tasks, begun))
    campaign = _campaign(tasks, begun, price, whole, index)
    half = {name: task.grid(size.grid // 2) for name, task in tasks.items()}
    ways = {CAMPAIGN: campaign["last"], BEGINNING: campaign["first"]}
    ways |= {way: (until, _fitted(tasks, until, index)) for way, until in ((GRID, grid), (EVEN, half))}
    made = {}
    for way, (until, posterior) in ways.items():
        regrets = [_regrets(name, task, posterior, price) for name, task in tasks.items()]
        made[way] = {
            "spent": _spent(tasks, until) / whole,
            "regret": [regret for regret, _ in regrets],
            "expected": [expected for _, expected in regrets],
            "converged": posterior.converged,
        }
    seeds = [len(tasks[name].seen(own).seeds) for name, own in campaign["last"][0].items()]
    made[CAMPAIGN] |= {"batches": campaign["batches"], "why": campaign["why"], "seeds": seeds}
    return {"source": source, "replicate": index, "ways": made}


def _campaign(tasks, until, price, whole, index):
    """What was probed when a campaign began and when it ended, each with its posterior, and why it ended."""
    options = {"cost": COST, "gamma": price, "future_runs": round(whole / len(tasks) / PER_FUTURE_RUN), "seeds": SEEDS}
    begun, first = until, _fitted(tasks, until, index)
    posterior, batches, why = first, 0, "the seed-steps were spent"
    while batches < BATCHES:
        if not posterior.converged:
            why = "a fit missed its gate"
            break
        found = bp.next_probe(posterior, **options, batch=len(tasks), seed=index)
        if found.task is None:
            why = "no probe is worth its cost"
            break
        purse = (HALF * whole - _spent(tasks, until)) / (BATCHES - batches)
        taken = until | {
            name: tasks[name].probed(until[name], row["depth"], int(row["seeds"]))
            for name, row in chosen(found.table, purse).items()
        }
        if _spent(tasks, taken) == _spent(tasks, until):
            break
        until, batches = taken, batches + 1
        if batches < BATCHES:
            # The tasks that an update cannot reach wait for the fit at the end.
            posterior = first.update(_estimated(tasks, until), seed=index)
    last = first if until is begun else _fitted(tasks, until, index)
    return {"first": (begun, first), "last": (until, last), "batches": batches, "why": why}


def chosen(table: pd.DataFrame, purse: float) -> dict[str, pd.Series]:
    """At most one probe of each task, for no more than the purse in all: the best by marginal value per cost."""
    worth = table[table["value"] > CREDIBLE * table["gain_se"]]
    taken = {}
    while True:
        step, best, more = 0.0, None, 0.0
        for _, row in worth.iterrows():
            now = taken.get(row["task"], {"value": 0.0, "cost": 0.0})
            extra, gained = row["cost"] - now["cost"], row["value"] - now["value"]
            if 0.0 < extra <= purse and gained / extra > step:
                step, best, more = gained / extra, row, extra
        if best is None:
            return taken
        taken[best["task"]], purse = best, purse - more


def _spent(tasks, until):
    return sum(task.spent(until[name]) for name, task in tasks.items())


def _estimated(tasks, until):
    runs = Trajectories(tuple(task.seen(until[name]) for name, task in tasks.items()))
    return bp.estimate_risk(runs, proxy=next(iter(tasks.values())).proxy)


def _fitted(tasks, until, seed):
    return bp.fit(_estimated(tasks, until), seed=seed)


def _regrets(name, task, posterior, price):
    """Of the depth of a task, and what the posterior expects; one that was set aside is as the others say."""
    if name not in posterior.tasks:
        posterior = posterior.expect(name, scale=posterior.estimates.tasks[0].scale, horizon=HORIZON)
    found = optimal_stopping(posterior.drifted_curve(name), price, COST, float(DEPTHS[0]), HORIZON)
    regret = regrets_of({"": found.best_depth}, task.truth, price, float(DEPTHS[0]))[""]
    return regret, found.actions["best_depth"].regret.expected


def run(size: Size, keep: Path | None) -> list[dict]:
    """All replicates, in turn; those that `keep` already holds are not repeated."""
    kept = Kept(keep, {"tasks": size.tasks, "grid": size.grid})
    there = {(one["source"], one["replicate"]) for one in kept.results}
    wanted = [(name, index) for index in range(size.replicates) for name in size.sources]
    for name, index in tqdm([one for one in wanted if one not in there], desc="campaigns", disable=None):
        kept.add(replicate(name, index, size))
    return [one for one in kept.results if (one["source"], one["replicate"]) in wanted]


def figures(size: Size, results: list[dict], judged: bool) -> list[Figure]:
    """Seed-steps and regrets by way, and the campaign against the others."""
    found = []
    for source in size.sources:
        own = [one["ways"] for one in results if one["source"] == source]
        if not own:
            continue
        for way in own[0]:
            spent = float(np.mean([one[way]["spent"] for one in own]))
            target, met = (f"at most {HALF:g}", spent <= HALF) if judged and way == CAMPAIGN else (None, None)
            found.append(Figure(f"{source}: seed-steps, {way}", spent, f"of those of {GRID}", target, met))
            for name, average in (("mean", np.mean), ("median", np.median)):
                value, low, high = bootstrapped(own, lambda some, a=average, w=way: float(a(_all(some, w))))
                unit = f"full runs, 90% {low:.4f} to {high:.4f}"
                found.append(Figure(f"{source}: {name} regret, {way}", value, unit))
            expected = float(np.mean(_all(own, way, "expected")))
            found.append(Figure(f"{source}: mean expected regret, {way}", expected, "full runs, by its own posterior"))
        for way in (GRID, EVEN, BEGINNING):
            value, low, high = bootstrapped(
                own, lambda some, w=way: float(np.mean(_all(some, CAMPAIGN) - _all(some, w)))
            )
            # As the grid, give or take what so many portfolios tell apart.
            target, met = ("not above 0", bool(low <= 0.0)) if judged and way == GRID else (None, None)
            unit = f"full runs, 90% {low:.4f} to {high:.4f}"
            found.append(Figure(f"{source}: mean regret, {CAMPAIGN} less {way}", value, unit, target, met))
        if source == "branching":
            best = float(np.mean([in_hindsight(one, size.grid) for one in own]))
            unit = "full runs, by the posteriors of the others"
            found.append(Figure(f"{source}: mean expected regret, half of the seeds shared in hindsight", best, unit))
        failed = sum(not part["converged"] for one in own for part in one.values())
        found.append(Figure(f"{source}: fits that missed the gate", failed, f"of {sum(map(len, own))}"))
    return found


def in_hindsight(ways: dict, grid: int) -> float:
    """Mean expected regret of half of the grid's seeds, shared among tasks as is best, had one known what they tell.

    What so many seeds of a task tell is read off its expected regrets at the beginning, in the even half and in the
    grid, on straight lines between their logarithms, and beyond the grid on the line through the first and the last.
    """
    at = np.log([START, grid // 2, grid])
    known = np.log(np.maximum([ways[way]["expected"] for way in (BEGINNING, EVEN, GRID)], 1e-9))
    options = np.log(np.arange(START, MOST * grid + 1))
    slope = (known[-1] - known[0]) / (at[-1] - at[0])
    regrets = [
        np.exp(np.interp(options, at, own) + steep * np.maximum(options - at[-1], 0.0))
        for own, steep in zip(known.T, slope, strict=True)
    ]
    # The least sum for each number of seeds, a task at a time.
    least = np.zeros(1)
    for own in regrets:
        there = np.full(len(least) + len(own) - 1, np.inf)
        for more, regret in enumerate(own):
            there[more : more + len(least)] = np.minimum(there[more : more + len(least)], least + regret)
        least = there
    spare = round(HALF * grid * len(regrets)) - START * len(regrets)
    return float(least[: spare + 1].min() / len(regrets))


def timed(tasks: int) -> list[Figure]:
    """How long `next_probe` takes of very many tasks, with made-up posteriors of a thousand draws."""
    options = {"cost": COST, "future_runs": 1000}
    bp.next_probe(MadeUp(2), **options)
    posterior, start = MadeUp(tasks), time.process_time()
    found = bp.next_probe(posterior, **options)
    seconds, told = time.process_time() - start, found.table.dropna()
    valued = told["task"].nunique()
    best = told.loc[told["task"] == found.task].iloc[0]
    return [
        Figure(f"next_probe of {tasks:,} tasks", seconds, f"s of processor time; {valued} tasks valued"),
        Figure("gain of the first probe of the best task", best["gain"] / best["perfect"], "of perfect knowledge's"),
    ]


def _all(some, way, what="regret"):
    """Of all tasks of some portfolios."""
    return np.concatenate([one[way][what] for one in some])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--replicates", type=int, metavar="N", help="instead of those of the size")
    parser.add_argument("--source", choices=KINDS, help="instead of those of the size")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="store replicates here, and go on from them")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    size = SIZES[options.size]
    size = size._replace(
        replicates=options.replicates or size.replicates, sources=(options.source,) if options.source else size.sources
    )
    results = run(size, options.keep)
    print(machine())
    print(f"{size.replicates} portfolios of {size.tasks} tasks, the full grid of {size.grid} seeds\n")
    for one in results:
        own = one["ways"][CAMPAIGN]
        print(f"{one['source']} {one['replicate']}: {own['batches']} batches, {own['why']}; seeds {own['seeds']}")
    print()
    found = figures(size, results, judged=options.size == "full") + timed(size.timed)
    print_figures(found)
    write_figures(options.json, found)


if __name__ == "__main__":
    main()
