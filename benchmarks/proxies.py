"""What do the proxies of risk estimate, with how much bias, and from how many runs do their intervals hold?

The laboratory (`bayes_prehoc.risk.laboratory`) draws runs whose risk is known at every depth; `estimate_risk` sees the
runs. Each proxy is held against what it estimates: `run_to_run` against the spread between runs, `branching` against
the variance of R given the state, `conditional` against the Bayes risk given the prefix, at or above which it lies. A
cell is a proxy, a kind of runs and a number of runs: the mean ratio of estimate to truth, the share of 90% intervals
that hold the truth, over all depths and replicates, with a standard error clustered by replicate, and the share of
replicates in which the proxy gives no estimates. Of `conditional` the ratio is shown before its bias is removed too.
From `WORKS_FROM` runs on coverage is promised to lie within `PROMISED`.
Then the exponent of Proposition 5.1 of arXiv 2606.17649 by `branching`, and the split of the outcome's variance into
training and evaluation.

    python benchmarks/proxies.py --size full --keep proxies.jsonl --json proxies.json

`--keep` stores replicates as they are done, some at a time; the same command goes on where an interrupted one stopped.
"""

import argparse
import json
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _table import Figure, machine, print_figures, write_figures
from scipy import optimize, stats
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from bayes_prehoc._machine import cores
from bayes_prehoc.errors import InputError
from bayes_prehoc.risk import estimate_risk
from bayes_prehoc.risk.laboratory import (
    LEVEL,
    Chain,
    martingale,
    power_rates,
    results_of_examples,
    sgd,
    stopped,
    with_failures,
)
from bayes_prehoc.risk.noise import split_outcome_variance
from bayes_prehoc.runs import Trajectories

DEPTHS = np.geomspace(10, 1000, 8).round()
STEPS, RHO = 1000, 0.8
PLAIN = martingale(DEPTHS, alpha=0.5, amplitude=1.0, floor=0.02)
BRANCHES = 4
PROMISED = 0.86, 0.94
EXPONENT_SLACK = 0.05
AT_ONCE = 10
"""Replicates of one line that is kept."""
STOPPING = "stop at target"


class Kind(NamedTuple):
    """Runs of a chain; where `target` is a number they stop at it."""

    chain: Chain
    target: float | None = None


KINDS = {
    "martingale": Kind(PLAIN),
    "flat SGD": Kind(sgd(DEPTHS, power_rates(STEPS, RHO), curvature=0.0, noise=1.0, floor=0.02)),
    "curved SGD": Kind(sgd(DEPTHS, power_rates(STEPS, RHO), curvature=0.5, noise=1.0, floor=2e-4)),
    "heavy tails": Kind(martingale(DEPTHS, alpha=0.5, amplitude=1.0, floor=0.02, tail=5.0)),
    "some fail": Kind(with_failures(PLAIN, failing=0.2, gap=1.5, onset=100.0)),
    "label noise": Kind(martingale(DEPTHS, alpha=0.5, amplitude=1.0, floor=1.0)),
    STOPPING: Kind(PLAIN, target=LEVEL + 0.7),
}
TRUTH: dict[str, Callable[[Chain], np.ndarray]] = {
    "run_to_run": lambda chain: chain.spread,
    "branching": lambda chain: chain.given_state[:-1],
    "conditional": lambda chain: chain.risk,
}


WORKS_FROM: dict[tuple[str, str], int | None] = {
    ("run_to_run", "heavy tails"): 64,
    ("run_to_run", "some fail"): None,
    ("run_to_run", STOPPING): 30,
    ("conditional", STOPPING): None,
}
"""Runs from which on intervals are promised to hold the truth, where it is not the fewest that a proxy takes."""
FEWEST = {"run_to_run": 3, "branching": 4, "conditional": 30}
ENOUGH = 500
"""Replicates from which on the promise is judged."""


class Size(NamedTuple):
    """Numbers of runs by proxy, replicates by proxy and number of runs, replicates of the exponent and the split."""

    runs: dict[str, tuple[int, ...]]
    replicates: Callable[[str, int], int]
    others: int


SIZES = {
    "smoke": Size({"run_to_run": (8,), "branching": (8,), "conditional": (30,)}, lambda proxy, runs: 2, 4),
    # Two hundred runs cost a regression some thirty times what thirty cost.
    "full": Size(
        {"run_to_run": (3, 8, 30, 64, 200), "branching": (4, 8, 16, 64), "conditional": (30, 64, 200)},
        lambda proxy, runs: 60 if (proxy, runs) == ("conditional", 200) else 500,
        200,
    ),
}


class Cell(NamedTuple):
    """What is simulated together."""

    proxy: str
    kind: str
    runs: int


def replicate(cell: Cell, index: int) -> dict | None:
    """Ratios of estimates to truth and whether intervals hold it, lists by depth; None where there are none."""
    chain, target = KINDS[cell.kind]
    rng = np.random.default_rng([zlib.crc32(cell.kind.encode()), cell.runs, index])
    runs = chain.draw(rng, cell.runs, branches=BRANCHES if cell.proxy == "branching" else 0)
    if target is not None:
        runs = stopped(runs, target)
    try:
        found = estimate_risk(Trajectories((runs,)), proxy=cell.proxy, seed=index).tasks[0]
    except InputError:
        return None
    depths = DEPTHS[:-1] if cell.proxy == "branching" else DEPTHS
    truth = TRUTH[cell.proxy](chain)[np.searchsorted(depths, found.depths)]
    low, high = (found.risk * found.nu / stats.chi2.ppf(q, found.nu) for q in (0.95, 0.05))
    before = found.risk if found.bias is None else found.risk * (1.0 + found.bias)
    return {
        "ratio": (found.risk / truth).tolist(),
        "before": (before / truth).tolist(),
        "covered": ((low <= truth) & (truth <= high)).tolist(),
    }


def cells_of(size: Size) -> list[Cell]:
    """Continuations go on whatever the run had reached: nothing stops them."""
    return [
        Cell(proxy, kind, runs)
        for proxy, numbers in size.runs.items()
        for runs in numbers
        for kind in KINDS
        if (proxy, kind) != ("branching", STOPPING)
    ]


def run(size: Size, keep: Path | None) -> dict[Cell, list[dict | None]]:
    """All replicates of all cells; those that `keep` already holds are not repeated."""
    cells = [(cell, size.replicates(cell.proxy, cell.runs)) for cell in cells_of(size)]
    done: dict[Cell, dict[int, dict | None]] = {cell: {} for cell, _ in cells}
    if keep is not None and keep.exists():
        for line in map(json.loads, keep.read_text().splitlines()):
            if Cell(*line["cell"]) in done:
                done[Cell(*line["cell"])] |= {int(index): result for index, result in line["results"].items()}
    total = sum(wanted for _, wanted in cells)
    # Threads of the BLAS would wait for each other.
    with (
        threadpool_limits(limits=1, user_api="blas"),
        ThreadPoolExecutor(cores()) as pool,
        tqdm(total=total, desc="replicates", disable=None) as bar,
    ):
        for cell, wanted in cells:
            bar.set_postfix_str(" ".join(map(str, cell)))
            missing = [index for index in range(wanted) if index not in done[cell]]
            bar.update(wanted - len(missing))
            for first in range(0, len(missing), AT_ONCE):
                own = missing[first : first + AT_ONCE]
                made = dict(zip(own, pool.map(lambda index, cell=cell: replicate(cell, index), own), strict=True))
                done[cell] |= made
                bar.update(len(own))
                if keep is not None:
                    with keep.open("a") as file:
                        file.write(json.dumps({"cell": cell, "results": made}) + "\n")
    return {cell: [done[cell][index] for index in range(wanted)] for cell, wanted in cells}


class Row(NamedTuple):
    """A cell's figures; the first are NaN where no replicate gave estimates."""

    before: float
    ratio: float
    coverage: float
    error: float
    none: float


def row(results: list[dict | None]) -> Row:
    """Means over depths and replicates; the standard error is that of the coverage."""
    given = [result for result in results if result is not None]
    none = 1.0 - len(given) / len(results)
    if not given:
        return Row(*[float("nan")] * 4, none)
    before, ratio, covered = (
        np.array([np.mean(result[name]) for result in given]) for name in ("before", "ratio", "covered")
    )
    error = covered.std(ddof=1) / np.sqrt(len(given)) if len(given) > 1 else float("nan")
    return Row(float(before.mean()), float(ratio.mean()), float(covered.mean()), float(error), none)


def exponent(index: int, runs: int = 200, steps: int = 10_000) -> float:
    """2 rho - 1 as `branching` shows it: the curve K (c^-a - c_T^-a) closest to its estimates in logarithms."""
    depths = np.geomspace(10, steps, 10).round()
    chain = sgd(depths, power_rates(steps, RHO), curvature=0.0, noise=1.0, floor=0.0)
    drawn = chain.draw(np.random.default_rng([7, index]), runs, branches=BRANCHES)
    found = estimate_risk(Trajectories((drawn,)), proxy="branching").tasks[0]

    def off(parameters):
        alpha, log_k = parameters
        return np.log(found.risk) - log_k - np.log(found.depths**-alpha - float(steps) ** -alpha)

    return float(optimize.least_squares(off, (0.5, 0.0), bounds=([0.01, -20.0], [4.0, 20.0])).x[0])


def split_error(index: int, runs: int = 30, examples: int = 200) -> tuple[float, float]:
    """Errors of the two parts of an accuracy's variance, relative to the true ones."""
    rng = np.random.default_rng([8, index])
    sd = 0.02
    accuracy = 0.8 + sd * np.clip(rng.normal(size=runs), -4.0, 4.0)
    right, evaluation = results_of_examples(rng, accuracy, examples)
    split = split_outcome_variance(right)
    return split.training / sd**2 - 1.0, split.evaluation / evaluation - 1.0


def works_from(proxy: str, kind: str) -> int | None:
    """Runs from which on intervals are promised to hold the truth; None where nothing is promised."""
    return WORKS_FROM.get((proxy, kind), FEWEST[proxy])


def figures(size: Size, rows: dict[Cell, Row], judged: bool) -> list[Figure]:
    """Every cell, and the exponent and the split with their errors."""
    found = []
    for cell, own in rows.items():
        name = f"{cell.proxy}, {cell.kind}, {cell.runs} runs"
        if own.none == 1.0:
            found.append(Figure(f"{name}: no estimates", own.none, "of the replicates"))
            continue
        promised = works_from(cell.proxy, cell.kind)
        is_judged = promised is not None and cell.runs >= promised and size.replicates(cell.proxy, cell.runs) >= ENOUGH
        found.append(Figure(f"{name}: estimate over truth", own.ratio, "ratio"))
        found.append(
            Figure(
                f"{name}: coverage of 90% intervals",
                own.coverage,
                f"share, standard error {own.error:.3f}, no estimates in {own.none:.0%}",
                f"{PROMISED[0]} to {PROMISED[1]}" if is_judged else None,
                PROMISED[0] <= own.coverage <= PROMISED[1] if is_judged else None,
            )
        )
    exponents = np.array([exponent(index) for index in range(size.others)])
    off = exponents.mean() - (2 * RHO - 1)
    found.append(
        Figure(
            f"exponent {2 * RHO - 1:.1f} of Proposition 5.1 by branching, 200 runs",
            float(exponents.mean()),
            f"mean of {size.others}, standard deviation {exponents.std(ddof=1):.3f}",
            f"within {EXPONENT_SLACK}" if judged else None,
            bool(abs(off) <= EXPONENT_SLACK) if judged else None,
        )
    )
    errors = np.array([split_error(index) for index in range(size.others)])
    for part, own in zip(("training", "evaluation"), errors.T, strict=True):
        error = own.std(ddof=1) / np.sqrt(len(own))
        found.append(
            Figure(
                f"bias of the {part} part of the outcome's variance, 30 runs",
                float(own.mean()),
                f"of it, standard error {error:.3f}",
                "within 2 standard errors" if judged else None,
                bool(abs(own.mean()) <= 2.0 * error) if judged else None,
            )
        )
    return found


def print_table(size: Size, rows: dict[Cell, Row]) -> None:
    print(machine())
    print(f"{len(DEPTHS)} depths, {BRANCHES} branches; coverage with its standard error, clustered by replicate")
    shown = None
    for cell, own in rows.items():
        if shown != (cell.proxy, cell.runs):
            shown = cell.proxy, cell.runs
            print(f"\n{cell.proxy}, {cell.runs} runs, {size.replicates(*shown)} replicates")
            print(f"{'':>16}{'before':>10}{'estimate':>10}{'coverage':>18}{'none':>8}{'works from':>12}")
        before = f"{own.before:.3f}" if cell.proxy == "conditional" else ""
        covered = f"{own.coverage:.3f} ({own.error:.3f})"
        works = works_from(cell.proxy, cell.kind) or "-"
        print(f"{cell.kind:>16}{before:>10}{own.ratio:>10.3f}{covered:>18}{own.none:>8.0%}{works:>12}")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="store replicates here, and go on from it")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    size = SIZES[options.size]
    rows = {cell: row(results) for cell, results in run(size, options.keep).items()}
    print_table(size, rows)
    found = figures(size, rows, judged=options.size == "full")
    print_figures(found)
    write_figures(options.json, found)


if __name__ == "__main__":
    main()
