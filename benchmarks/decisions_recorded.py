"""What do depths chosen from 5 or 10 seeds lose on real runs, judged by the seeds that were not used?

    python benchmarks/decisions_recorded.py --size full --store suite.db --keep recorded.jsonl --json recorded.json

Of every task so many runs are drawn, estimated by the proxy run_to_run (fewer than 20 runs allow no other without
forks) and fitted with the other tasks of the source; each rule chooses one of the depths that all its runs reached. The
truth is the variance that the *other* runs show there. A depth costs J = gamma V + C, with C = c / c_T, and gamma such
that removing what is estimated at a twentieth of the run is worth a full run: made of the runs that were seen, and the
same for all rules. Regret is what J is beyond the least there is, in full runs.

The truth has noise, since the others are few (in a source of ten repeats five). At a depth that was chosen without them
it is as often too high as too low, so differences between rules, which is what is judged, are not biased by it. The
least J is: as it stands it is too low, and regrets are too high by the same for all rules. So the least of one half of
the others is judged by the other half too, and regrets beyond that are too low; the truth lies between.

Rules: least posterior expected risk plus cost, with the drift off the law that the estimates show (what `plan` says),
and by the law alone; least squares of each task by itself (Algorithm 1 of arXiv 2606.17649); the estimates
as they are; and the shallowest depth, a tenth, a fifth and half of the run, and all of it.

A source's figures are means and medians over tasks, of means over splits, with the central 90% of a bootstrap over
tasks. Tasks whose spread follows no law of decay are set aside, as `fit` sets them aside, and counted.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from _portfolios import HORIZON, bootstrapped, least_squares
from _recorded import SOURCES, Size, by_split, cut_to, data_folder, taken_apart
from _table import Figure, machine, print_figures, write_figures

import bayes_prehoc as bp
from bayes_prehoc.planning import draws
from bayes_prehoc.runs.trajectories import TaskRuns, Trajectories

CHEAP = 0.05
OURS, LAW, PLUG_IN, RAW = "Bayes depth", "Bayes depth by the law alone", "least squares", "estimates as they are"
FIXED = {"shallowest depth": 0.0} | {f"{share:.0%} of the run": share for share in (0.1, 0.2, 0.5, 1.0)}


SIZES = {
    "smoke": Size(("DeepOBS",), (5,), 1, 0),
    "full": Size(SOURCES, (5, 10), 3, 64),
}


class Split(NamedTuple):
    """One task: runs that are seen, and the values (n, D) of the others at the same depths."""

    seen: TaskRuns
    others: np.ndarray


def split(task: TaskRuns, n_seen: int, rng: np.random.Generator) -> Split | None:
    """So many of the runs at the depths that all of them reached, and the rest; None where there are too few."""
    apart = taken_apart(task, n_seen, rng)
    if apart is None:
        return None
    return Split(cut_to(task, apart, apart.there), apart.value[np.ix_(apart.others, apart.there)])


def decided(runs: Trajectories, n_seen: int, index: int) -> dict:
    """Fit some of the runs, decide, and hold the decisions against the others; what came out, as plain data."""
    rng = np.random.default_rng([index, n_seen])
    splits = {task.task: split(task, n_seen, rng) for task in runs}
    splits = {name: own for name, own in splits.items() if own is not None}
    if not splits:
        return {"tasks": [], "set_aside": 0, "converged": True}
    estimates = bp.estimate_risk(Trajectories(tuple(own.seen for own in splits.values())), proxy="run_to_run")
    posterior = bp.fit(estimates, seed=index)
    told = [_told(estimates[name], posterior, splits[name]) for name in posterior.tasks]
    return {"tasks": told, "set_aside": len(splits) - len(told), "converged": posterior.converged}


def _told(task, posterior, own):
    """Regrets of a task by rule."""
    depths, horizon = own.seen.depths, own.seen.horizon
    logs = np.log(task.depths)
    gamma = 1.0 / np.exp(np.interp(np.log(CHEAP * horizon), logs, np.log(task.risk)))
    spent = depths / horizon
    curve = posterior.drifted_curve(task.task)
    fitted = least_squares(dataclasses.replace(task, depths=HORIZON * task.depths / horizon), None)
    # Depths that the law was not fitted at are interpolated, or carried on, for the rule without a law.
    risks = {
        OURS: draws.risk(curve, depths).mean(axis=0),
        LAW: draws.risk(curve._replace(drift=None), depths).mean(axis=0),
        PLUG_IN: draws.risk(fitted, HORIZON * spent)[0],
        RAW: np.exp(np.interp(np.log(depths), logs, np.log(task.risk))),
    }
    chosen = {rule: int(np.argmin(gamma * risk + spent)) for rule, risk in risks.items()}
    chosen |= {rule: int(np.abs(depths - share * horizon).argmin()) for rule, share in FIXED.items()}
    cost = gamma * own.others.var(axis=0, ddof=1) + spent
    halves = [gamma * half.var(axis=0, ddof=1) + spent for half in (own.others[::2], own.others[1::2])]
    least = float(np.mean([halves[1 - i][np.argmin(halves[i])] for i in (0, 1)]))
    return {
        "task": task.task,
        "others": len(own.others),
        "regret": {rule: float(cost[place] - cost.min()) for rule, place in chosen.items()},
        "too_high_by": least - float(cost.min()),
        "depth": float(depths[chosen[OURS]] / horizon),
    }


def figures(size: Size, results: list[dict]) -> list[Figure]:
    """Regrets by rule, and how ours compares."""
    found = []
    for source in size.sources:
        for n_seen in size.seen:
            fits = [one for one in results if (one["source"], one["seen"]) == (source, n_seen) and one["converged"]]
            rows = [
                {"task": t["task"], "too_high": t["too_high_by"]} | t["regret"] for one in fits for t in one["tasks"]
            ]
            if not rows:
                continue
            tasks = pd.DataFrame(rows).groupby("task").mean()
            label, own = f"{source}, {n_seen} runs seen", tasks.to_dict("records")
            for rule in (OURS, LAW, PLUG_IN, RAW, *FIXED):
                for name, average in (("mean", np.mean), ("median", np.median)):
                    value, low, high = bootstrapped(
                        own, lambda some, a=average, r=rule: float(a([one[r] for one in some]))
                    )
                    unit = f"full runs, {len(own)} tasks, 90% {low:.4f} to {high:.4f}"
                    found.append(Figure(f"{label}: {name} regret, {rule}", value, unit))
            found.append(Figure(f"{label}: mean regrets too high by at most", tasks["too_high"].mean(), "full runs"))
            for rule in (LAW, PLUG_IN, RAW, *FIXED):
                value, low, high = bootstrapped(
                    own, lambda some, r=rule: float(np.mean([one[OURS] - one[r] for one in some]))
                )
                unit = f"full runs, 90% {low:.4f} to {high:.4f}"
                found.append(Figure(f"{label}: mean regret, {OURS} less {rule}", value, unit))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--source", choices=SOURCES, action="append", help="instead of those of the size")
    parser.add_argument("--splits", type=int, metavar="N", help="instead of those of the size")
    parser.add_argument("--store", type=Path, metavar="FILE", help="keep the suite's runs here, and go on from it")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="store decisions here, and go on from them")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    data = data_folder() / "runs"
    if not data.is_dir():
        parser.exit(1, f"needs runs in {data}\n")
    size = SIZES[options.size]
    size = size._replace(splits=options.splits or size.splits, sources=tuple(options.source or size.sources))
    results = by_split(decided, size, data, options.store, options.keep)
    print(machine())
    for one in results:
        if one["tasks"]:
            label = f"{one['source']}, {one['seen']} runs seen, split {one['split']}"
            others = int(np.median([task["others"] for task in one["tasks"]]))
            state = "" if one["converged"] else "; the fit did not converge"
            held = f"judged by {others} others each (median)"
            print(f"{label}: {len(one['tasks'])} tasks, {held}, {one['set_aside']} set aside{state}")
    print()
    found = figures(size, results)
    print_figures(found)
    write_figures(options.json, found)


if __name__ == "__main__":
    main()
