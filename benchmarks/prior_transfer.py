"""How many seeds does a prior card save, and what does a wrong one cost?

    python benchmarks/prior_transfer.py --size full --keep transfer.jsonl --json transfer.json

Families of simulated tasks differ from each other, and so do tasks of a family. One family is left out; the others'
tasks, 64 runs each, make a card. A new task of the family left out is fitted by itself on few runs under the card
(mixed with the weak prior by evidence, as `bp.fit(prior=...)` does) and on few or 64 runs under the weak prior. Runs
are seen up to half of their depth. Figures of a fit:

- log score: log predictive density, mean over the depths beyond that and two between, of the logarithm of the variance
  of 64 other runs there; the density is a kernel estimate, with t kernels, of draws of `Posterior.predict_risk`;
- c*: width of the central 90% interval of its logarithm, and whether it holds the truth; the price of depth is such
  that the true risk at a twentieth of the run is worth a full run. c* is not clipped.

Beside them stands what no card can do better than: new tasks under the population that the simulated tasks are drawn
from, known exactly, by importance sampling of its draws.

*Seeds needed*: the least number tried at which the mean log score under the card is that of 64 runs without or more,
and the interval of c* as narrow or narrower. The wrong card is the same with its rates four times too small. Intervals
are central 90% of a bootstrap over new tasks. Fits that missed the gate count like others; how many did is said.

Tasks do not name their families, so that a family left out is foretold as a task of the population of all tasks is. The
proxy is run_to_run, since it is what a handful of runs allows.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from _kept import Kept
from _table import Figure, machine, print_figures, write_figures
from scipy import special, stats
from tqdm.auto import tqdm

import bayes_prehoc as bp
from bayes_prehoc import theory
from bayes_prehoc.hierarchy.basis import basis_of
from bayes_prehoc.hierarchy.cards import card_of
from bayes_prehoc.hierarchy.data import REFERENCE_DEPTH, model_data
from bayes_prehoc.hierarchy.evaluator import generator
from bayes_prehoc.hierarchy.fit import posterior_of
from bayes_prehoc.hierarchy.inference import sample
from bayes_prehoc.hierarchy.informed import card_for, informed_by
from bayes_prehoc.hierarchy.likelihood import Shared, alpha_of_rate
from bayes_prehoc.hierarchy.mixing import mixed, weighed
from bayes_prehoc.hierarchy.model import task_log_likelihood, weak_prior
from bayes_prehoc.hierarchy.predict import drawn_estimates
from bayes_prehoc.hierarchy.simulate import draw_estimates, draw_truth
from bayes_prehoc.risk.estimates import RiskEstimates, TaskEstimates

PROXY = "run_to_run"
HORIZON = 1000.0
SEEN = np.geomspace(0.02, 0.5, 7)
HELD_OUT = np.array([0.05, 0.2, 0.7, 1.0])
OTHERS = 64
"""Runs of a held-out variance, and of what the card was made of."""
MEAN = np.array([-6.0, -1.0, -1.2])
OF_FAMILIES, OF_TASKS = np.array([0.6, 0.4, 0.2]), np.array([0.6, 0.5, 0.25])
KNOWN = {"log_onset": -4.0, "misfit": 0.1, "dependence": 1.0, "drift": 0.1, "lasting": 0.8}
FACTOR = 4.0
"""By which the wrong card's rates are too small."""
WRONG_AT = 8
MOST_LOST, ENOUGH = 0.2, 8
KERNEL = stats.t(4)
RESAMPLES = 2000
OFFERED, TAKEN = 20_000, 1000
"""Draws of the known population, and those of a new task that are taken of them."""


class Size(NamedTuple):
    """Families and how many of them are left out in turn, tasks of each that make the card, new tasks of one left out,
    numbers of seeds under the card, and without one."""

    families: int
    left_out: int
    tasks: int
    new: int
    seeds: tuple[int, ...]
    without: int


SIZES = {"smoke": Size(2, 1, 1, 1, (8,), 8), "full": Size(6, 6, 4, 4, (4, 8, 16), 64)}


def drawn_tasks(rng, families: int, tasks: int, seed: int):
    """Latents (families, tasks, 3), and a function that gives variances of one task at some depths from so many runs.

    `again` tells sets of as many runs apart.
    """
    effect = OF_FAMILIES * rng.normal(size=(families, 1, 3))
    latents = MEAN + effect + OF_TASKS * rng.normal(size=(families, tasks, 3))
    base = draw_truth(jax.random.key(0), weak_prior(PROXY), PROXY, np.ones((1, 1)))
    base = base._replace(**{name: np.array(value) for name, value in KNOWN.items()})

    def estimated(place, shares, runs, again=0) -> np.ndarray:
        level, share, rate = latents[place][:, None]
        truth = base._replace(level=level, share=share, rate=rate)
        key = jax.random.key(seed)
        for number in (*place, runs, again):
            key = jax.random.fold_in(key, number)
        dof = np.full((1, len(shares)), runs - 1.0)
        made = draw_estimates(key, truth, shares[None], dof, np.ones((1, 1)), PROXY)
        return np.exp(np.asarray(made.log_risk, float)[:, 0])

    return latents, estimated


def estimates_of(tasks: dict[str, tuple[np.ndarray, int]]) -> RiskEstimates:
    """Tasks by name, from their variances at `SEEN` and numbers of runs."""
    common = {"proxy": PROXY, "metric": "loss", "metric_kind": "loss", "scale": 1.0, "outcome_mean": 1.0}
    return RiskEstimates(
        PROXY,
        tuple(
            TaskEstimates(
                task=name,
                depths=SEEN * HORIZON,
                risk=risk,
                nu=np.full(len(SEEN), runs - 1.0),
                n_runs=runs,
                horizon=HORIZON,
                hashes=(f"{name} {runs}",),
                **common,
            )
            for name, (risk, runs) in tasks.items()
        ),
    )


def shifted(card):
    """The card with rates so many times too small."""
    at = card.places["mu_rate"].start
    rate = float(card.mixture.weight @ card.mixture.mean[:, at])
    bound = theory.alpha_bounds(PROXY)[1]
    move = special.logit(special.expit(rate) / FACTOR) - rate
    assert np.isclose(alpha_of_rate(rate + move, PROXY) * FACTOR, bound * special.expit(rate))
    off = move * (np.arange(len(card.labels)) == at)
    mixture = card.mixture._replace(mean=card.mixture.mean + off)
    return dataclasses.replace(card, mixture=mixture, draws=card.draws + off)


def figures_of(posterior, latents, held_out) -> dict:
    """Log score, and c*: log width and whether it holds the truth."""
    (task,) = posterior.tasks
    drawn = np.log(posterior.predict_risk(task, HELD_OUT * HORIZON, OTHERS))
    curve = posterior.curve(task)
    found = figures_of_draws(drawn, (curve.reducible, curve.alpha, curve.onset), latents, held_out)
    return found | {"converged": posterior.converged}


def figures_of_draws(drawn, curve, latents, held_out) -> dict:
    """The same of draws: log variances at `HELD_OUT` (S, 4), and of the reducible risk, alpha and the onset (S,)."""
    width = 1.06 * np.subtract(*np.quantile(drawn, (0.75, 0.25), axis=0)) / 1.349 * len(drawn) ** -0.2
    density = KERNEL.pdf((np.log(held_out) - drawn) / width).mean(axis=0) / width
    level, share, rate = latents
    true = {"reducible": np.exp(level) * special.expit(-share), "alpha": float(alpha_of_rate(rate, PROXY))}
    onset = np.exp(KNOWN["log_onset"]) * HORIZON
    risk = np.exp(level) * special.expit(share) + theory.optimization_variance(
        0.05 * HORIZON, true["reducible"], REFERENCE_DEPTH * HORIZON, true["alpha"], onset
    )
    price = float(risk) / HORIZON

    def log_depth(reducible, alpha, onset):
        # The formula takes the onset off; with it the depth is positive.
        return np.log(
            np.asarray(theory.optimal_depth(price, reducible, REFERENCE_DEPTH * HORIZON, alpha, onset) + onset)
        )

    low, high = np.quantile(log_depth(*curve), (0.05, 0.95))
    truth = float(log_depth(true["reducible"], true["alpha"], onset))
    return {"score": float(np.log(density).mean()), "width": float(high - low), "held": bool(low <= truth <= high)}


@jax.jit
def _log_likelihoods(latents, shared, data):
    """Of one task's estimates at latents (N, 3)."""
    return task_log_likelihood(tuple(latents.T[:, None]), shared, jnp.zeros(1), data, PROXY)[0]


def with_population_known(data, latents, held_out, seed: int) -> dict:
    """Figures of a new task whose population is known exactly: `MEAN`, the spreads of families and tasks, `KNOWN`."""
    spread_key, rows_key, drawn_key = jax.random.split(jax.random.key(seed), 3)
    spread = np.hypot(OF_FAMILIES, OF_TASKS)
    offered = jnp.asarray(MEAN + spread * jax.random.normal(spread_key, (OFFERED, 3)))
    shared = Shared(np.exp(KNOWN["log_onset"]), *(KNOWN[name] for name in Shared._fields[1:]))
    log_weight = _log_likelihoods(offered, shared, data)
    level, share, rate = offered[jax.random.categorical(rows_key, log_weight, shape=(TAKEN,))].T
    every = Shared(*(jnp.full((1, TAKEN), value) for value in shared))
    noise, depth = jnp.zeros((1, TAKEN)), jnp.asarray(HELD_OUT)[:, None]
    own = (level[None], share[None], rate[None])
    drawn = drawn_estimates(drawn_key, own, every, noise, data, depth, OTHERS - 1.0, PROXY).T
    reducible = np.exp(np.asarray(level, float)) * special.expit(-np.asarray(share, float))
    curve = reducible, np.asarray(alpha_of_rate(rate, PROXY)), np.exp(KNOWN["log_onset"]) * HORIZON
    return figures_of_draws(drawn, curve, latents, held_out)


def replicate(card, place, latents, estimated, size: Size, seed: int) -> dict:
    """Figures of a new task, by "weak", "card" or "wrong" and the number of runs, and weights of the weak prior."""
    hyperprior = weak_prior(PROXY)
    held_out = estimated(place, HELD_OUT, OTHERS, again=1)
    by_fit, weights = {}, {}
    for runs in sorted({*size.seeds, WRONG_AT, size.without}):
        own = estimates_of({"new": (estimated(place, SEEN, runs), runs)})
        data, key = model_data(own), jax.random.fold_in(jax.random.key(seed), runs)
        weak = sample(key, data, hyperprior, PROXY, with_evidence=True)
        by_fit[f"weak {runs}"] = figures_of(posterior_of(weak, own, hyperprior, seed), latents[place], held_out)
        cards = {"card": card} if runs in size.seeds else {}
        cards |= {"wrong": shifted(card)} if runs == WRONG_AT else {}
        for name, prior in cards.items():
            informed = informed_by(
                card_for(prior, own, hyperprior, basis_of(own), seed), hyperprior, PROXY, basis_of(own)
            )
            tilted_key, mixing_key = jax.random.split(jax.random.fold_in(key, len(name)))
            under = sample(tilted_key, data, hyperprior, PROXY, tilt=informed.tilt, with_evidence=True)
            weights[f"{name} {runs}"] = weight = weighed(weak.evidence, under.evidence)[0]
            made, _ = mixed(generator(mixing_key), weight, weak, under)
            posterior = posterior_of(made, own, hyperprior, seed, informed)
            by_fit[f"{name} {runs}"] = figures_of(posterior, latents[place], held_out)
    return {"fits": by_fit, "weights": weights}


def bootstrapped(values) -> tuple[float, float, float]:
    """A mean and the central 90% of it where new tasks are drawn anew."""
    values = np.asarray(values, float)
    rows = np.random.default_rng(0).integers(len(values), size=(RESAMPLES if len(values) > 1 else 1, len(values)))
    return float(values.mean()), *np.quantile(values[rows].mean(axis=1), (0.05, 0.95))


def needed(results, size: Size) -> tuple[float, float, float]:
    """Seeds needed under the card, with the central 90% of it over resampled tasks; infinite where none sufficed."""

    def of(some):
        def mean(fit, what):
            return np.mean([one["fits"][fit][what] for one in some])

        for runs in size.seeds:
            fits = f"card {runs}", f"weak {size.without}"
            (score, width), (wanted, widest) = ([mean(fit, what) for what in ("score", "width")] for fit in fits)
            if score >= wanted and width <= widest:
                return float(runs)
        return np.inf

    rng = np.random.default_rng(0)
    rows = rng.integers(len(results), size=(RESAMPLES if len(results) > 1 else 1, len(results)))
    drawn = [of([results[place] for place in row]) for row in rows]
    return of(results), *np.quantile(drawn, (0.05, 0.95), method="nearest")


def figures(results: list[dict], limits: list[dict], size: Size, judged: bool) -> list[Figure]:
    """What is told of new tasks; `limits` are figures with their population known, by number of runs."""
    found = []

    def told(name, values, unit, target=None, met=None):
        value, low, high = bootstrapped(values)
        found.append(Figure(name, value, f"{unit}, 90% {low:.3f} to {high:.3f}", target, met and met(value)))

    def of(fit, what):
        return np.array([one["fits"][fit][what] for one in results], float)

    baseline = f"weak {size.without}"
    for fit in dict.fromkeys((f"weak {WRONG_AT}", baseline, *(f"card {runs}" for runs in size.seeds))):
        name = f"{fit.replace('weak', 'no card,').replace('card ', 'card, ' if fit[0] == 'c' else 'card ')} seeds"
        told(f"{name}: log score", of(fit, "score"), "nats per held-out depth")
        told(f"{name}: width of log c*", of(fit, "width"), "nats")
        told(f"{name}: coverage of c*", of(fit, "held"), "share")
    for runs in size.seeds:
        gain = of(f"card {runs}", "score") - of(baseline, "score")
        told(f"card, {runs} seeds, over no card, {size.without}: log score", gain, "nats per held-out depth")
    for runs in size.seeds:
        gain = np.array([one[runs]["score"] for one in limits]) - of(baseline, "score")
        told(f"population known, {runs} seeds, over no card, {size.without}: log score", gain,
             "nats per held-out depth")  # fmt: skip
    value, low, high = needed(results, size)
    target = (f"at most {ENOUGH}", bool(value <= ENOUGH)) if judged else (None, None)
    found.append(Figure("seeds needed under the card", value, f"of those tried, 90% {low:g} to {high:g}", *target))
    lost = of(f"weak {WRONG_AT}", "score") - of(f"wrong {WRONG_AT}", "score")
    target = f"below {MOST_LOST:g}" if judged else None
    told(f"wrong card, {WRONG_AT} seeds: lost against no card", lost, "nats per held-out depth", target,
         (lambda value: bool(value < MOST_LOST)) if judged else None)  # fmt: skip
    for name in results[0]["weights"]:
        told(f"weight of the weak prior, {name} seeds", [one["weights"][name] for one in results], "")
    missed = sum(not fit["converged"] for one in results for fit in one["fits"].values())
    total = sum(len(one["fits"]) for one in results)
    found.append(Figure("fits that missed the gate", missed, f"of {total}, of {len(results)} new tasks"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--keep", metavar="FILE", type=Path, help="go on from the results there, and add to them")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    parser.add_argument("--most", type=int, metavar="N", help="end when so many new tasks are done")
    options = parser.parse_args()
    print(machine())
    size = SIZES[options.size]
    kept = Kept(options.keep, [options.size, *size])
    most = min(options.most or np.inf, size.left_out * size.new)
    latents, estimated = drawn_tasks(np.random.default_rng(0), size.families, size.tasks + size.new, seed=0)
    cards = {}

    def new_place(number):
        # All families once, then again: what an interrupted run leaves is of as many of them as can be.
        return number % size.left_out, size.tasks + number // size.left_out

    for number in tqdm(range(int(most)), initial=len(kept.results), desc="new tasks", disable=None, leave=False):
        if number < len(kept.results):
            continue
        out, _ = place = new_place(number)
        if out not in cards:
            others = [(f, t) for f in range(size.families) if f != out for t in range(size.tasks)]
            known = {f"{f}-{t}": (estimated((f, t), SEEN, OTHERS), OTHERS) for f, t in others}
            cards[out] = card_of(bp.fit(estimates_of(known), seed=out), f"without-{out}")
        kept.add(replicate(cards[out], place, latents, estimated, size, seed=number))
    limits = []
    for number in range(len(kept.results)):
        place = new_place(number)
        held_out = estimated(place, HELD_OUT, OTHERS, again=1)
        by_runs = {}
        for runs in size.seeds:
            data = model_data(estimates_of({"new": (estimated(place, SEEN, runs), runs)}))
            by_runs[runs] = with_population_known(data, latents[place], held_out, seed=number)
        limits.append(by_runs)
    found = figures(kept.results, limits, size, judged=options.size == "full")
    print_figures(found)
    write_figures(options.json, found)


if __name__ == "__main__":
    main()
