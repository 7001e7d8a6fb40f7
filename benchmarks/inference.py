"""Effective draws per second of the worst hyperparameter, beside the same model in NumPyro and in PyMC with nutpie.

    python benchmarks/inference.py --size full --pymc PYMC_PYTHON --json inference.json

Data are simulated: 50 tasks x 8 depths, with 8, 64 and 1500 runs behind each estimate. Ours is the sampler that `fit`
uses. The others sample all latents, non-centred: NumPyro's NUTS and nutpie (in an environment of its own), each with
its default settings, NumPyro's chains one after the other. All draw a thousand times by each of four chains; `fit`
stops at three hundred where these are enough, which is measured too. Seconds are those of exploring, warming up and
drawing, after everything is compiled; ways alternate, medians of rounds. Effective draws are the smaller of bulk and
tail. Rates of chains that have not mixed say nothing: the largest R-hat and the divergences stand beside them.

`--scaling` measures instead how long ours takes with a hundred, a thousand and ten thousand tasks, from nothing, and
logs what it does.
"""

import argparse
import contextlib
import json
import logging
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import arviz_base
import arviz_stats
import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
from _table import Figure, machine, write_figures
from numpyro.infer import MCMC, NUTS

from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.inference import Sampler, sample
from bayes_prehoc.hierarchy.model import (
    Hyperprior,
    sampled_population,
    shared_of,
    shared_sites,
    task_log_likelihood,
    weak_prior,
)
from bayes_prehoc.hierarchy.simulate import draw_estimates, draw_truth

PROXY = "run_to_run"
OURS, AS_FIT = "bayes_prehoc", "bayes_prehoc as fit does"
DRAWS = 1000
"""Of each chain: nutpie's default, and what NumPyro's examples take."""
FASTER = 5.0
MOST_MINUTES, MOST_GIB = 15.0, 4.0
JUDGED = ("mu_level", "mu_share", "mu_rate", "tau", "corr", "log_onset", "misfit", "dependence", "drift", "lasting")


class Size(NamedTuple):
    """Runs behind each estimate, tasks, depths, rounds, and tasks of the scaling."""

    seeds: tuple[int, ...]
    tasks: int
    depths: int
    rounds: int
    scaling: tuple[int, ...]


SIZES = {"smoke": Size((8,), 4, 5, 1, (8,)), "full": Size((8, 64, 1500), 50, 8, 3, (100, 1000, 10_000))}


class Drawn(NamedTuple):
    """Draws (chains, draws, ...) by hyperparameter, seconds, and divergences."""

    sites: dict[str, np.ndarray]
    seconds: float
    divergences: int


def simulated(tasks: int, depths: int, n_seeds: int) -> ModelData:
    """Estimates of tasks from the weak prior's middle: nothing that is hard by itself."""
    truth_key, data_key = jax.random.split(jax.random.key(n_seeds))
    kind = np.ones((tasks, 1))
    truth = draw_truth(truth_key, weak_prior(PROXY), PROXY, kind)
    depth = np.tile(np.geomspace(0.02, 1.0, depths), (tasks, 1))
    return draw_estimates(data_key, truth, depth, np.full(depth.shape, n_seeds - 1.0), kind, PROXY)


def ours(data: ModelData, prior: Hyperprior, seed: int, sampler: Sampler) -> Drawn:
    """By `hierarchy.inference.sample`."""
    start = time.perf_counter()
    samples = sample(jax.random.key(seed), data, prior, PROXY, sampler)
    diverging = samples.statistics.get("diverging", np.zeros(1))
    return Drawn(samples.sites, time.perf_counter() - start, int(diverging.sum()))


def plain_model(data: ModelData, prior: Hyperprior):
    """Non-centred, as one writes it first."""
    population = sampled_population(prior, PROXY, data.sizes)
    tasks = data.kind.shape[0]
    white = numpyro.sample("white", dist.Normal(0.0, 1.0).expand([tasks, 3]).to_event(2))
    latents = [m + part for m, part in zip(population.mean(data), (white @ population.scale.T).T, strict=True)]
    none = jax.numpy.zeros(tasks)
    numpyro.factor("estimates", task_log_likelihood(tuple(latents), population.shared, none, data, PROXY).sum())


def by_numpyro(data: ModelData, prior: Hyperprior) -> Callable[[int], Drawn]:
    """NUTS with its default settings, 1000 draws of four chains after as many of warm-up."""
    mcmc = MCMC(
        NUTS(plain_model),
        num_warmup=DRAWS,
        num_samples=DRAWS,
        num_chains=4,
        chain_method="sequential",
        progress_bar=False,
    )

    def run(seed: int) -> Drawn:
        start = time.perf_counter()
        mcmc.run(jax.random.key(seed), data, prior)
        sites = jax.tree.map(np.asarray, mcmc.get_samples(group_by_chain=True))
        seconds = time.perf_counter() - start
        factor = sites.pop("corr_chol").astype(float)
        sites["corr"] = factor @ np.swapaxes(factor, -1, -2)
        return Drawn(sites, seconds, int(mcmc.get_extra_fields(group_by_chain=True)["diverging"].sum()))

    return run


class PyMC:
    """A process that samples with PyMC and nutpie."""

    def __init__(self, python: str, folder: str):
        side = Path(__file__).with_name("_pymc_side.py")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([python, side], **pipes)
        self.data, self.draws = Path(folder) / "data.npz", Path(folder) / "draws.npz"

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.process.stdin.close()
        self.process.wait()

    def log_likelihoods(self, data: ModelData, prior: Hyperprior, points: dict[str, list]) -> list[float]:
        """At parameters by name, arrays (N, ...)."""
        self._write(data, prior)
        np.savez(self.draws, **{name: np.array(value, float) for name, value in points.items()})
        return self._ask({"data": str(self.data), "points": str(self.draws)})["log_likelihoods"]

    def sampler(self, data: ModelData, prior: Hyperprior) -> Callable[[int], Drawn]:
        """nutpie with its default settings."""

        def run(seed: int) -> Drawn:
            self._write(data, prior)
            answer = self._ask({"data": str(self.data), "draws": str(self.draws), "seed": seed})
            with np.load(self.draws) as drawn:
                return Drawn(dict(drawn), answer["seconds"], answer["divergences"])

        return run

    def _write(self, data, prior):
        arrays = {name: np.asarray(getattr(data, name), float) for name in ("depth", "log_risk", "dof")}
        np.savez(self.data, prior=json.dumps(prior._asdict()), **arrays)

    def _ask(self, request: dict) -> dict:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def largest_disagreement(pymc: PyMC, data: ModelData, prior: Hyperprior, draws: int = 8) -> float:
    """Of the log likelihoods of PyMC's model and ours, in nats and but for a constant, at draws of the prior."""
    points, ours = {}, []
    for index in range(draws):
        truth = draw_truth(jax.random.key(index), prior, PROXY, np.asarray(data.kind))
        factor = truth.tau[:, None] * truth.corr_chol
        mean = np.array([truth.mu_level[0], truth.mu_share, truth.mu_rate])
        latents = np.stack([truth.level, truth.share, truth.rate])
        own = {"white": np.linalg.solve(factor, latents - mean[:, None]).T, "chol": factor[np.tril_indices(3)]}
        own |= dict(zip(("mu_level", "mu_share", "mu_rate"), mean, strict=True))
        own |= {name: getattr(truth, name) for name in shared_sites(PROXY)}
        for name, value in own.items():
            points.setdefault(name, []).append(value)
        shared = shared_of({name: np.float32(getattr(truth, name)) for name in shared_sites(PROXY)})
        found = task_log_likelihood(
            tuple(latents.astype(np.float32)), shared, np.zeros(latents.shape[1], np.float32), data, PROXY
        )
        ours.append(float(np.asarray(found, float).sum()))
    apart = np.array(pymc.log_likelihoods(data, prior, points)) - ours
    return float(np.ptp(apart))


def judged(drawn: Drawn) -> tuple[float, float, str]:
    """Effective draws of the worst hyperparameter, the largest R-hat, and which is the worst."""
    lower = np.tril_indices(3, -1)
    sites = {name: drawn.sites[name] for name in JUDGED}
    sites["corr"] = sites["corr"][..., lower[0], lower[1]]
    tree = arviz_base.from_dict({"posterior": {name: np.asarray(value, float) for name, value in sites.items()}})
    ways = [arviz_stats.ess(tree, method=method) for method in ("bulk", "tail")]
    least = {name: float(min(way[name].values.min() for way in ways)) for name in sites}
    r_hat = arviz_stats.rhat(tree)
    worst = min(least, key=least.get)
    return least[worst], max(float(r_hat[name].values.max()) for name in sites), worst


def compared(size: Size, n_seeds: int, pymc: PyMC | None) -> list[Figure]:
    """All ways on the same data, by turns."""
    data, prior = simulated(size.tasks, size.depths, n_seeds), weak_prior(PROXY)
    own = {OURS: Sampler(draws=DRAWS), AS_FIT: Sampler()}
    ways = {name: lambda seed, sampler=sampler: ours(data, prior, seed, sampler) for name, sampler in own.items()}
    ways["NumPyro"] = by_numpyro(data, prior)
    if pymc is not None:
        ways["PyMC with nutpie"] = pymc.sampler(data, prior)
        apart = largest_disagreement(pymc, data, prior)
        print(f"  {n_seeds} seeds: PyMC's log likelihood and ours differ by a constant to within {apart:.2g} nats")
    for name in (*own, "NumPyro"):
        ways[name](0)  # compiles
    found = {name: [] for name in ways}
    for index in range(1, size.rounds + 1):
        for name, run in ways.items():
            drawn = run(index)
            least, r_hat, worst = judged(drawn)
            found[name].append((least / drawn.seconds, least, r_hat, drawn.seconds, drawn.divergences))
            print(
                f"  {n_seeds} seeds, {name}: {least:.0f} effective draws of {worst} in {drawn.seconds:.1f} s, "
                f"R-hat {r_hat:.3f}, {drawn.divergences} divergences",
                flush=True,
            )
    figures = []
    for name, rows in found.items():
        rate, least, r_hat, seconds, _ = np.median(np.array(rows), axis=0)
        unit = f"effective draws per second ({least:.0f} in {seconds:.1f} s), R-hat {r_hat:.3f}"
        figures.append(Figure(f"{n_seeds} seeds: {name}", float(rate), unit))
    rates = {name: np.array([row[0] for row in found[name]]) for name in ways}
    ratio = float(np.median(rates[OURS] / np.max([rates[name] for name in ways if name not in own], axis=0)))
    whole = size.rounds > 1 and pymc is not None
    target, met = (f"at least {FASTER:g}", ratio >= FASTER) if whole else (None, None)
    return [*figures, Figure(f"{n_seeds} seeds: against the better of the others", ratio, "1", target, met)]


def scaled(size: Size, tasks: int) -> list[Figure]:
    """Time from nothing, with compilation, and the process's largest resident set so far."""
    data = simulated(tasks, size.depths, 8)
    start = time.perf_counter()
    samples = sample(jax.random.key(0), data, weak_prior(PROXY), PROXY)
    minutes = (time.perf_counter() - start) / 60.0
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    failed = [check.name for check in samples.checks if not check.passed]
    least, r_hat, worst = judged(Drawn(samples.sites, minutes, 0))
    most = tasks == SIZES["full"].scaling[-1]
    said = f"R-hat {r_hat:.4f}, {least:.0f} effective draws of {worst}, checks that failed: {failed or 'none'}"
    print(f"  {tasks} tasks: {said}", flush=True)
    return [
        Figure(
            f"{tasks} tasks: time",
            minutes,
            "min, with compilation",
            f"at most {MOST_MINUTES:g}, converged" if most else None,
            minutes <= MOST_MINUTES and not failed if most else None,
        ),
        Figure(
            f"{tasks} tasks: memory",
            gib,
            "GiB, largest resident set",
            f"below {MOST_GIB:g}" if most else None,
            gib < MOST_GIB if most else None,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--pymc", metavar="PYTHON", help="interpreter of an environment with pymc and nutpie")
    parser.add_argument("--seeds", type=int, action="append", help="numbers of runs; default all of the size")
    parser.add_argument("--scaling", type=int, action="append", metavar="TASKS", nargs="?", const=0)
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    size = SIZES[options.size]
    print(machine(), flush=True)
    found = []
    if options.scaling:
        logging.basicConfig(format="  %(asctime)s %(message)s")
        logging.getLogger("bayes_prehoc").setLevel(logging.INFO)
        for tasks in [n for n in options.scaling if n] or size.scaling:
            found += scaled(size, tasks)
    else:
        with (
            tempfile.TemporaryDirectory() as folder,
            PyMC(options.pymc, folder) if options.pymc else contextlib.nullcontext() as pymc,
        ):
            for n_seeds in options.seeds or size.seeds:
                found += compared(size, n_seeds, pymc)
    for figure in found:
        verdict = "" if figure.met is None else f"   {figure.target}: {'met' if figure.met else 'NOT MET'}"
        print(f"{figure.name} = {figure.value:.3g} {figure.unit}{verdict}")
    write_figures(options.json, found)


if __name__ == "__main__":
    main()
