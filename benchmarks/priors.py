"""What the weak prior says before any data, beside what recorded runs show.

    python benchmarks/priors.py --size full --out docs/images/priors.png --json priors.json

Tasks are drawn from the prior (`hierarchy.simulate.draw_truth`), and the quantiles of what a reader thinks in are
printed: the standard deviation of the outcome that is open at a fifth of the run, as a share of its mean; how much of
that is intrinsic; alpha; the risk at the end over that at a fiftieth of the run; misfit and drift. Beside them stand
the quantiles of recorded runs' own estimates, where there are any (`BAYES_PREHOC_DATA`). `--out` draws the same; it
needs matplotlib.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from _recorded import SOURCES, data_folder, recorded
from _table import Figure, machine, print_figures, write_figures

import bayes_prehoc as bp
from bayes_prehoc.hierarchy.data import REFERENCE_DEPTH
from bayes_prehoc.hierarchy.likelihood import alpha_of_rate, log_risk_curve
from bayes_prehoc.hierarchy.model import weak_prior
from bayes_prehoc.hierarchy.simulate import draw_truth

PROXIES = {"run_to_run": "spread between runs", "conditional": "remaining risk"}
DEPTHS = np.geomspace(0.01, 1.0, 40)
EARLY = 0.02
QUANTILES = (0.05, 0.5, 0.95)
SIZES = {"smoke": 200, "full": 4000}


class Predicted(NamedTuple):
    """Of S tasks, arrays (S,), and curves (S, D) of U(c) / U(c_0)."""

    deviation: np.ndarray
    share: np.ndarray
    alpha: np.ndarray
    fall: np.ndarray
    misfit: np.ndarray
    drift: np.ndarray
    curves: np.ndarray


def predicted(proxy: str, number: int) -> Predicted:
    """One task from each of many draws of the hyperparameters."""
    prior = weak_prior(proxy)
    truths = [draw_truth(key, prior, proxy, np.ones((1, 1))) for key in jax.random.split(jax.random.key(0), number)]
    level, share, rate, onset, misfit, drift = (
        np.array([float(np.ravel(getattr(truth, name))[0]) for truth in truths])
        for name in ("level", "share", "rate", "log_onset", "misfit", "drift")
    )
    depths = np.concatenate([DEPTHS, [EARLY]])
    latents = (part[:, None].astype(np.float32) for part in (0.0 * level, share, rate, np.exp(onset)))
    curves = np.exp(np.asarray(log_risk_curve(*latents, depths[None].astype(np.float32), proxy)))
    # The spread's walk, from the end of the run backwards, over which there is none.
    order = np.argsort(depths)[::-1]
    steps = np.diff(-np.log(depths[order]), prepend=0.0)
    walk = np.cumsum(np.sqrt(steps) * np.random.default_rng(0).normal(size=(number, len(depths))), axis=1)
    curves *= np.exp(drift[:, None] * walk[:, np.argsort(order)])
    # Of remaining risk, nothing but the floor is left at the end.
    fall = curves[:, len(DEPTHS) - 1] / curves[:, -1]
    alpha = np.asarray(alpha_of_rate(rate, proxy))
    of_end = drift * np.sqrt(-np.log(EARLY))
    return Predicted(np.exp(0.5 * level), 1.0 / (1.0 + np.exp(-share)), alpha, fall, misfit, of_end, curves[:, :-1])


def figures(proxy: str, found: Predicted) -> list[Figure]:
    """Quantiles of what the prior says."""
    said = {
        "standard deviation at a fifth of the run over the mean": found.deviation,
        "share of L_int there": found.share,
        "alpha": found.alpha,
        "risk at the end over that at a fiftieth": found.fall,
        "misfit": found.misfit,
    }
    if proxy == "run_to_run":
        said["drift between a fiftieth and the end, standard deviation of log risk"] = found.drift
    rows = []
    for name, values in said.items():
        low, middle, high = np.quantile(values, QUANTILES)
        rows.append(Figure(f"{PROXIES[proxy]}: {name}", float(middle), f"median, 90% in {low:.2g} to {high:.2g}"))
    return rows


def observed(data: Path) -> np.ndarray:
    """Standard deviations, over the outcome's mean, of recorded tasks at the depth nearest to a fifth of their runs."""
    found = []
    for name in SOURCES[:-1]:
        for task in bp.estimate_risk(recorded(name, data, 0, None), proxy="run_to_run"):
            nearest = np.abs(np.log(task.depths / (REFERENCE_DEPTH * task.horizon))).argmin()
            found.append(np.sqrt(task.risk[nearest]) / task.scale)
    return np.array(found)


def draw(path: Path, drawn: dict[str, Predicted], seen: np.ndarray | None) -> None:
    """A row of panels for each kind of proxy."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(13, 6), layout="constrained")
    for row, (proxy, found) in zip(axes, drawn.items(), strict=True):
        row[0].hist(np.log10(100.0 * found.deviation), bins=50, density=True, color="#7a9cc6")
        row[0].set(xlabel="sd of what is open at c$_0$, % of the mean", ylabel=PROXIES[proxy])
        ticks = [-3, -2, -1, 0, 1, 2, 3]
        row[0].set_xticks(ticks, [f"{10.0**tick:g}" for tick in ticks], rotation=30)
        if seen is not None and proxy == "run_to_run":
            row[0].plot(np.log10(100.0 * seen), np.full(len(seen), 0.01), "|", color="black", markersize=10)
            row[0].set_title("ticks: recorded tasks", fontsize=9)
        row[1].hist(found.share, bins=50, density=True, color="#7a9cc6")
        row[1].set(xlabel="share of L$_{int}$ at c$_0$")
        row[2].hist(found.alpha, bins=50, density=True, color="#7a9cc6")
        row[2].set(xlabel="alpha")
        curves = np.maximum(found.curves, 1e-4)
        row[3].fill_between(DEPTHS, *np.quantile(curves, (0.05, 0.95), axis=0), color="#7a9cc6", alpha=0.35)
        row[3].plot(DEPTHS, curves[:25].T, color="#36506e", linewidth=0.6)
        row[3].plot(DEPTHS, np.median(curves, axis=0), color="black", linewidth=2)
        row[3].set(
            xscale="log", yscale="log", xlabel="depth, share of the run", ylabel="U(c) / U(c$_0$)", ylim=(1e-3, 30)
        )
    figure.suptitle("The weak prior, before any data: one task from each of many populations; bands hold 90%")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--out", type=Path, metavar="FILE", help="draw a picture here")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    drawn = {proxy: predicted(proxy, SIZES[options.size]) for proxy in PROXIES}
    found = [figure for proxy, own in drawn.items() for figure in figures(proxy, own)]
    data = data_folder() / "runs"
    seen = observed(data) if options.size == "full" and data.is_dir() else None
    if seen is not None:
        low, middle, high = np.quantile(seen, QUANTILES)
        name = "recorded runs: standard deviation at a fifth of the run over the mean"
        unit = f"median of {len(seen)} tasks, 90% in {low:.2g} to {high:.2g}"
        found.append(Figure(name, float(middle), unit))
    print(machine())
    print_figures(found)
    write_figures(options.json, found)
    if options.out is not None:
        draw(options.out, drawn, seen)


if __name__ == "__main__":
    main()
