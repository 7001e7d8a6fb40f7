"""What do depths chosen by the posterior lose against depths chosen otherwise, where the truth is known?

    python benchmarks/decisions.py --size full --keep decisions.jsonl --json decisions.json

In each replicate a portfolio of tasks is drawn, estimated from 5 or 10 runs each, fitted by `fit`, and for each task a
depth is chosen. Its regret is what it costs, in full runs, beyond the best depth of the true curve: J(c) - min J with
J = gamma L + C and C = c / c_T. The price of error gamma is the same for all rules, and made of the data, so that it
tells nothing of the truth that the data do not: *one price* for all tasks, by which removing the median estimate at
a twentieth of the run is worth a full run; and the *default prices* of a plan, by which removing the expected risk
there is, in each task. Rules: the depth of least posterior expected risk plus cost (`planning.stopping`); c* of
least squares of each task by itself, L_int + K c^-alpha with L_int, K >= 0 and alpha up to 4 (Algorithm 1 of arXiv
2606.17649), clipped to the depths that one may choose, and the same with the law that ends at the horizon; c* of the
posterior medians; and the shallowest depth, 100 steps, a tenth, a fifth and half of the run, and the whole run.

Sources of portfolios:

- laboratory: martingales of `risk.laboratory` with rates, levels and floors from a population, each run forked into two
  at every depth, estimated by the proxy branching. Their law is the model's.
- model: hyperparameters from the weak prior, tasks and estimates (with misfit and onset) from the likelihood of the
  proxy conditional, n - 1 degrees of freedom.

Beside it, how good the probabilities of regimes are: the Brier score (the sum over regimes of squared differences from
what is true), against the one regime that least squares names; and how often what is given a probability is true. The
tolerances are the quartiles of the roots of all estimates of the portfolio: from the data, so that they tell nothing of
the truth that the data do not.

Last, `allocate` spreads one budget over many tasks with made-up posteriors of a thousand draws, on whole steps.

Intervals are central 90% of a bootstrap over replicates. Every task counts, also those of which a plan would withhold
the depth as not identified, and every fit, also those that missed the gate; how many that are is said.
"""

import argparse
import itertools
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from _kept import Kept
from _portfolios import (
    CHEAP,
    COST,
    DEPTHS,
    HORIZON,
    MadeUp,
    bootstrapped,
    curve_of,
    laboratory_task,
    least_squares,
    one_price,
    regrets_of,
)
from _table import Figure, machine, print_figures, write_figures
from tqdm.auto import tqdm

import bayes_prehoc as bp
from bayes_prehoc.hierarchy import RiskCurve
from bayes_prehoc.hierarchy.likelihood import alpha_of_rate
from bayes_prehoc.hierarchy.model import weak_prior
from bayes_prehoc.hierarchy.simulate import draw_estimates, draw_truth
from bayes_prehoc.planning import draws
from bayes_prehoc.planning.regimes import regime_probabilities
from bayes_prehoc.planning.stopping import optimal_stopping
from bayes_prehoc.risk.estimates import RiskEstimates, TaskEstimates
from bayes_prehoc.runs.trajectories import Trajectories

OURS, PLUG_IN = "Bayes depth", "least squares"
ONE_PRICE, DEFAULT_PRICES = "one price", "default prices"
FIXED = {"shallowest depth": 0.0, "100 steps": 100.0}
FIXED |= {f"{share:.0%} of the run": share * HORIZON for share in (0.1, 0.2, 0.5, 1.0)}
HALF = 0.5
BINS = np.linspace(0.0, 1.0, 6)


class Size(NamedTuple):
    """What a run of the benchmark simulates."""

    sources: tuple[str, ...]
    seeds: tuple[int, ...]
    replicates: int
    tasks: int
    allocated: int


SIZES = {
    "smoke": Size(("laboratory",), (5,), 1, 4, 100),
    "full": Size(("laboratory", "model"), (5, 10), 10, 20, 10_000),
}


class Portfolio(NamedTuple):
    """Estimates, and the true curve of each task as one draw."""

    estimates: RiskEstimates
    truth: dict[str, RiskCurve]


def laboratory(seed: list[int], n_runs: int, tasks: int) -> Portfolio:
    """Martingales whose rates, levels and shares of L_int come from a population."""
    rng = np.random.default_rng(seed)
    runs, truth = [], {}
    for i in range(tasks):
        own, truth[f"task {i}"] = laboratory_task(rng, n_runs, 2, f"task {i}")
        runs.append(own)
    return Portfolio(bp.estimate_risk(Trajectories(tuple(runs)), proxy="branching"), truth)


def model(seed: list[int], n_runs: int, tasks: int) -> Portfolio:
    """Truth and estimates from the model itself, under its weak prior."""
    truth_key, data_key = jax.random.split(jax.random.key(np.random.default_rng(seed).integers(2**31)))
    kind, depth = np.ones((tasks, 1)), np.tile(DEPTHS / HORIZON, (tasks, 1))
    true = draw_truth(truth_key, weak_prior("conditional"), "conditional", kind)
    data = draw_estimates(data_key, true, depth, np.full(depth.shape, n_runs - 1.0), kind, "conditional")
    estimates, truth = [], {}
    for i, log_risk in enumerate(np.asarray(data.log_risk, float).T):
        estimates.append(
            TaskEstimates(
                task=f"task {i}",
                proxy="conditional",
                metric="score",
                metric_kind="accuracy",
                depths=DEPTHS,
                risk=np.exp(log_risk),
                nu=np.full(len(DEPTHS), n_runs - 1.0),
                scale=1.0,
                outcome_mean=1.0,
                n_runs=n_runs,
                horizon=HORIZON,
            )
        )
        level, share = np.exp(true.level[i]), 1.0 / (1.0 + np.exp(-true.share[i]))
        alpha = float(alpha_of_rate(true.rate[i], "conditional"))
        truth[f"task {i}"] = curve_of(level * share, level * (1.0 - share), alpha, np.exp(true.log_onset) * HORIZON)
    return Portfolio(RiskEstimates("conditional", tuple(estimates)), truth)


def allocation(tasks: int) -> list[Figure]:
    """How long spreading a budget takes, and how far from the best the answer may be."""
    posterior = MadeUp(tasks)
    bp.allocate(MadeUp(2), 1.0, cost=COST)
    start = time.process_time()
    for task in posterior.estimates:
        posterior.curve(task.task)
    making = 3 * (time.process_time() - start)
    start = time.process_time()
    found = bp.allocate(posterior, 0.2 * tasks, cost=COST, step=10.0)
    seconds = time.process_time() - start - making
    label = f"allocation of {tasks:,} tasks"
    return [
        Figure(label, seconds, f"s of processor time, without making draws three times ({making:.1f} s)"),
        Figure(f"{label}: gap to the bound", 1e9 * found.gap / found.expected_risk, "billionths of the expected risk"),
    ]


MAKERS = {"laboratory": laboratory, "model": model}


def replicate(source: str, n_runs: int, index: int, tasks: int) -> dict:
    """Draw a portfolio, fit it, decide, and hold the decisions against the truth; what came out, as plain data."""
    portfolio = MAKERS[source]([index, n_runs], n_runs, tasks)
    posterior = bp.fit(portfolio.estimates, seed=index)
    everything = np.concatenate([task.risk for task in portfolio.estimates])
    tolerances = np.sqrt(np.quantile(everything, (0.25, 0.5, 0.75)))
    price = one_price(portfolio.estimates)
    told = [_told(task, posterior, portfolio.truth[task.task], tolerances, price) for task in portfolio.estimates]
    answered = sum(posterior.status(task) == "ok" for task in posterior.tasks)
    made = {"source": source, "runs": n_runs, "replicate": index}
    return made | {"tasks": told, "converged": posterior.converged, "answered": answered}


def _told(task, posterior, truth, tolerances, price):
    """Regrets of one task by price and rule; for each tolerance the probabilities of regimes, given, hard and true."""
    curve, fitted = posterior.curve(task.task), least_squares(task, None)
    prices = {ONE_PRICE: price, DEFAULT_PRICES: 1.0 / float(draws.risk(curve, [CHEAP]).mean())}
    curves = {PLUG_IN: fitted, "least squares to the horizon": least_squares(task, HORIZON)}
    regret = {name: _regrets(task, gamma, curve, curves, truth) for name, gamma in prices.items()}
    regimes = []
    for tolerance in tolerances:
        given, hard, true = (regime_probabilities(*_ends(c), tolerance).tolist() for c in (curve, fitted, truth))
        regimes.append({"given": given, "hard": hard, "true": true})
    return {"regret": regret, "regimes": regimes}


def _regrets(task, gamma, curve, curves, truth):
    """By rule, at a price of error."""
    c_min = float(task.depths[0])
    limits = (COST, c_min, HORIZON)
    bayes = optimal_stopping(curve, gamma, *limits)
    chosen = {OURS: bayes.best_depth, "posterior medians": bayes.actions["plug_in"].depth}
    chosen |= {name: optimal_stopping(fitted, gamma, *limits).best_depth for name, fitted in curves.items()}
    chosen |= {name: max(depth, c_min) for name, depth in FIXED.items()}
    return regrets_of(chosen, truth, gamma, c_min)


def _ends(curve):
    return np.sqrt(draws.risk(curve, [CHEAP, HORIZON])).T


def run(size: Size, keep: Path | None) -> list[dict]:
    """All replicates, in turn; those that `keep` already holds are not repeated."""
    kept = Kept(keep, {"tasks": size.tasks})
    there = {(one["source"], one["runs"], one["replicate"]) for one in kept.results}
    # Replicates outside: a run that is cut short has a bit of everything.
    wanted = [(name, n, index) for index in range(size.replicates) for name in size.sources for n in size.seeds]
    for name, n_runs, index in tqdm([one for one in wanted if one not in there], desc="fits", disable=None):
        kept.add(replicate(name, n_runs, index, size.tasks))
    return [one for one in kept.results if (one["source"], one["runs"], one["replicate"]) in wanted]


def regrets(results: list[dict], price: str, rule: str) -> np.ndarray:
    """Of all tasks of all replicates."""
    return np.concatenate([one["regret"][price][rule] for one in results])


def figures(size: Size, results: list[dict], judged: bool) -> list[Figure]:
    """Regrets by rule, how ours compares, and scores of the regimes."""
    found = []
    for source in size.sources:
        for n_runs in size.seeds:
            own = [_columns(one) for one in results if (one["source"], one["runs"]) == (source, n_runs)]
            if own:
                label = f"{source}, {n_runs} runs"
                for price in (ONE_PRICE, DEFAULT_PRICES):
                    found += _of_depths(f"{label}, {price}", own, price, judged)
                found += _of_regimes(label, own, judged)
    return found


def _columns(result):
    """A replicate with its tasks' regrets by rule and its regimes as arrays (tasks x tolerances, 3)."""
    regimes = [one for task in result["tasks"] for one in task["regimes"]]
    return {
        "regret": {
            price: {rule: np.array([task["regret"][price][rule] for task in result["tasks"]]) for rule in rules}
            for price, rules in result["tasks"][0]["regret"].items()
        },
        "regimes": {name: np.array([one[name] for one in regimes]) for name in ("given", "hard", "true")},
        "converged": result["converged"],
        "answered": result["answered"],
    }


def _of_depths(label, own, price, judged):
    found = []
    for rule in own[0]["regret"][price]:
        for name, average in (("mean", np.mean), ("median", np.median)):
            value, low, high = bootstrapped(own, lambda some, a=average, r=rule: float(a(regrets(some, price, r))))
            found.append(Figure(f"{label}: {name} regret, {rule}", value, f"full runs, 90% {low:.4f} to {high:.4f}"))
    for name, average in (("mean", np.mean), ("median", np.median)):
        value, low, high = bootstrapped(
            own,
            lambda some, a=average: float(a(regrets(some, price, OURS)) / max(a(regrets(some, price, PLUG_IN)), 1e-12)),
        )
        target, met = (f"at most {HALF:g}", bool(value <= HALF)) if judged else (None, None)
        unit = f"of that of {PLUG_IN}, 90% {low:.3f} to {high:.3f}"
        found.append(Figure(f"{label}: {name} regret, {OURS}, share", value, unit, target, met))
    for rule in FIXED:
        value, low, high = bootstrapped(
            own, lambda some, r=rule: float(np.mean(regrets(some, price, OURS) - regrets(some, price, r)))
        )
        target, met = ("below 0", bool(value < 0.0)) if judged else (None, None)
        unit = f"full runs, 90% {low:.4f} to {high:.4f}"
        found.append(Figure(f"{label}: mean regret, {OURS} less {rule}", value, unit, target, met))
    return found


def _of_regimes(label, own, judged):
    found = []
    for kind, name in (("given", "posterior"), ("hard", "least squares")):
        value, low, high = bootstrapped(own, lambda some, k=kind: brier(some, k))
        found.append(Figure(f"{label}: Brier score, {name}", value, f"90% {low:.3f} to {high:.3f}"))
    value, low, high = bootstrapped(own, lambda some: brier(some, "given") - brier(some, "hard"))
    target, met = ("below 0", bool(value < 0.0)) if judged else (None, None)
    found.append(Figure(f"{label}: Brier score, difference", value, f"90% {low:.3f} to {high:.3f}", target, met))
    tasks = sum(len(one["regret"][ONE_PRICE][OURS]) for one in own)
    answered = sum(one["answered"] for one in own)
    found.append(Figure(f"{label}: tasks that a plan answers", answered / tasks, f"share of {tasks}"))
    failed = sum(not one["converged"] for one in own)
    found.append(Figure(f"{label}: fits that missed the gate", failed, f"of {len(own)}"))
    return found


def brier(some: list[dict], kind: str) -> float:
    """Mean over tasks and tolerances of the sum over regimes of squared differences from what is true."""
    given, true = (np.concatenate([one["regimes"][name] for one in some]) for name in (kind, "true"))
    return float(np.mean(np.sum((given - true) ** 2, axis=1)))


def print_reliability(size: Size, results: list[dict]) -> None:
    """How often what is given a probability is true, over all regimes, with the standard error by replicates."""
    print("\nOf regimes given a probability within a bin, the mean probability and the share that is true")
    print(f"{'':24}" + "".join(f"{low:>14.1f} to {high:.1f}" for low, high in itertools.pairwise(BINS)))
    for source in size.sources:
        for n_runs in size.seeds:
            own = [_columns(one) for one in results if (one["source"], one["runs"]) == (source, n_runs)]
            cells = []
            for i, high in enumerate(BINS[1:]):
                last = i == len(BINS) - 2
                pairs = [(one["regimes"]["given"].ravel(), one["regimes"]["true"].ravel()) for one in own]
                inside = [(g >= BINS[i]) & ((g < high) | last) for g, _ in pairs]
                counts = np.array([part.sum() for part in inside])
                hits = np.array([true[part].sum() for (_, true), part in zip(pairs, inside, strict=True)])
                if counts.sum() == 0:
                    cells.append("none")
                    continue
                mean = sum(g[part].sum() for (g, _), part in zip(pairs, inside, strict=True)) / counts.sum()
                share = hits.sum() / counts.sum()
                error = np.sqrt(np.sum((hits - share * counts) ** 2)) / counts.sum()
                cells.append(f"{mean:.2f} {share:.2f} ({error:.2f})")
            print(f"{source + f', {n_runs} runs':24}" + "".join(f"{cell:>21}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--replicates", type=int, metavar="N", help="instead of those of the size")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="store replicates here, and go on from them")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    size = SIZES[options.size]
    size = size._replace(replicates=options.replicates or size.replicates)
    results = run(size, options.keep)
    print(machine())
    print(f"{size.replicates} portfolios of {size.tasks} tasks for each source and number of runs\n")
    found = figures(size, results, judged=options.size == "full") + allocation(size.allocated)
    print_figures(found)
    print_reliability(size, results)
    write_figures(options.json, found)


if __name__ == "__main__":
    main()
