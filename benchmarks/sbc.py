"""Is the truth of simulated data anywhere among the draws of its posterior with the same probability?

Simulation-based calibration (`hierarchy.calibration`): hyperparameters from the weak prior, tasks from their
population, estimates from the likelihood, the model fitted as `bp.fit` does, and the rank of the truth among 99 thinned
draws, for each hyperparameter, the latents of a task and the log likelihood. Fits that miss the gate are counted and
not left out.

    python benchmarks/sbc.py --size full --keep sbc.jsonl --evidence docs/calibration/sbc.json

`--evidence` writes every rank beside the figures and what made them; that file ships. `--keep` stores each simulation
when it is done; the same command goes on where an interrupted one stopped. `--broken` fits a model with an error in it,
which must fail: `dispersion` does not square the misfit, `jacobian` forgets a volume.
"""

import argparse
import datetime
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from _kept import Kept
from _table import Figure, machine, print_figures, write_figures
from tqdm.auto import tqdm

from bayes_prehoc.hierarchy.calibration import Design, rank_of_truth, uniformity


class Size(NamedTuple):
    """Numbers of runs, simulations of all of them together, tasks and depths of each."""

    seeds: tuple[int, ...]
    simulations: int
    tasks: int
    depths: int


SIZES = {"smoke": Size((8,), 1, 3, 5), "full": Size((3, 8, 64), 1000, 4, 6)}


def run(size: Size, keep: Path | None, broken: str | None) -> list[dict]:
    """All simulations, in turn; those that `keep` already holds are not repeated."""
    kept = Kept(keep, {"size": size, "broken": broken})
    for index in tqdm(range(len(kept.results), size.simulations), desc="simulations", disable=None):
        n_seeds = size.seeds[index % len(size.seeds)]
        ranked = rank_of_truth(jax.random.fold_in(jax.random.key(0), index), Design(size.tasks, size.depths, n_seeds))
        kept.add({"seeds": n_seeds} | ranked._asdict())
    return kept.results


def figures(results: list[dict], judged: bool) -> list[Figure]:
    """Distance of each quantity's ranks from uniform ones, and how many fits missed the gate."""
    found = []
    by_seeds = {seeds: [r for r in results if r["seeds"] == seeds] for seeds in {r["seeds"] for r in results}}
    for label, own in [("all", results), *((f"{seeds} seeds", by_seeds[seeds]) for seeds in sorted(by_seeds))]:
        for name, row in uniformity([r["ranks"] for r in own]).iterrows():
            unit = f"share of the ranks (mean {row['mean']:.3f}, folded {row['folded']:.3f}, p {row['p_value']:.2g})"
            met = bool(row["passed"]) if judged else None
            target = f"uniform at 0.01 over all quantities, {len(own)} simulations" if judged else None
            found.append(Figure(f"{label}, {name}: distance", float(row["distance"]), unit, target, met))
        failed = sum(bool(r["failed"]) for r in own)
        found.append(Figure(f"{label}: fits that missed the gate", failed, f"of {len(own)}"))
    return found


def break_model(how: str) -> None:
    """Put an error into the model."""
    from bayes_prehoc.hierarchy import information, model, target

    if how == "dispersion":
        right = model.errors_of

        def not_squared(dof, depth, shared):
            return right(dof, depth, shared._replace(misfit=jnp.sqrt(shared.misfit)))

        model.errors_of = information.errors_of = not_squared
    else:
        by_site = target._by_site

        def without_volume(*arguments):
            sites, volume = by_site(*arguments)
            return sites, 0.0 * volume

        target._by_site = without_volume


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--simulations", type=int, metavar="N", help="instead of those of the size")
    parser.add_argument("--broken", choices=("dispersion", "jacobian"), help="fit a model with an error in it")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="store simulations here, and go on from there")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    parser.add_argument("--evidence", type=Path, metavar="FILE", help="write ranks, figures and what made them here")
    options = parser.parse_args()
    size = SIZES[options.size]
    if options.simulations:
        size = size._replace(simulations=options.simulations)
    if options.broken:
        break_model(options.broken)
    results = run(size, options.keep, options.broken)
    print(machine())
    found = figures(results, judged=options.size == "full")
    print_figures(found)
    write_figures(options.json, found)
    if options.evidence:
        write_evidence(options.evidence, size, results, found)


def write_evidence(path: Path, size: Size, results: list[dict], found: list[Figure]) -> None:
    """Ranks of the truth among 99 draws, by simulation and quantity, with the figures they gave and what made them."""
    names = list(results[0]["ranks"])
    evidence = {
        "made_by": machine(),
        "date": f"{datetime.date.today()}",
        "size": size._asdict(),
        "quantities": names,
        "seeds": [one["seeds"] for one in results],
        "missed_gate": [bool(one["failed"]) for one in results],
        "ranks": [[one["ranks"][name] for name in names] for one in results],
        "figures": [figure._asdict() for figure in found],
    }
    path.write_text(json.dumps(evidence, separators=(",", ":"), allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
