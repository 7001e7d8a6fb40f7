"""Which law of decay do real runs prefer, by leaving out one task at a time?

    python benchmarks/laws.py --size full --store suite.db --json laws.json

For each source, `hierarchy.compare_laws` of the estimates of one proxy: the spread of recorded runs (those of
`BAYES_PREHOC_DATA`, see docs/development.md), and of the built-in suite the spread and the conditional risk.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from _recorded import SOURCES, data_folder, recorded
from _table import Figure, machine, write_figures

import bayes_prehoc as bp
from bayes_prehoc.hierarchy import LawComparison, compare_laws
from bayes_prehoc.hierarchy.laws import LAWS


class Size(NamedTuple):
    """Sources with the proxy that is asked for, laws, and seeds of the suite."""

    sources: tuple[tuple[str, str], ...]
    laws: tuple[str, ...]
    suite_seeds: int


SIZES = {
    "smoke": Size((("DeepOBS", "run_to_run"),), LAWS[:2], 0),
    "full": Size((*((name, "run_to_run") for name in SOURCES), ("suite", "conditional")), LAWS, 64),
}


def figures(label: str, compared: LawComparison) -> list[Figure]:
    """What each law loses to the best, per task."""
    tasks = len(compared.pointwise)
    best = compared.frame.index[0]
    found = []
    for law, row in compared.frame.iterrows():
        if not row["converged"]:
            found.append(Figure(f"{label}: {law}", float("nan"), "did not converge"))
            continue
        unit = (
            f"nats below {best}, {tasks} tasks; standard error {row['dse']:.2f}, weight {row['weight']:.2f}, "
            f"{row['unreliable']:.0f} tasks unreliable (Pareto shapes up to {row['worst_k']:.2f})"
        )
        found.append(Figure(f"{label}: {law}", -float(row["elpd_diff"]), unit))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--store", type=Path, metavar="FILE", help="keep the suite's runs here, and go on from it")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    data = data_folder() / "runs"
    if not data.is_dir():
        parser.exit(1, f"needs runs in {data}\n")
    size = SIZES[options.size]
    print(machine(), flush=True)
    found = []
    for name, proxy in size.sources:
        estimates = bp.estimate_risk(recorded(name, data, size.suite_seeds, options.store), proxy=proxy)
        own = figures(f"{name}, {proxy}", compare_laws(estimates, laws=size.laws))
        for figure in own:
            print(f"{figure.name}: {figure.value:.2f} {figure.unit}", flush=True)
        found += own
    write_figures(options.json, found)


if __name__ == "__main__":
    main()
