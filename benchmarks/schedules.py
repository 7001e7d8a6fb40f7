"""Does one law describe a task under four schedules of the learning rate, in steps and in the time of the noise?

First in the laboratory, where along a flat direction one law holds in the time of the noise and none in steps: how
often does the test of `risk.one_law` reject each at a level of 0.05? Then on a task of the built-in suite.

    python benchmarks/schedules.py --size full --json schedules.json
"""

import argparse
import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from _table import Figure, machine, print_figures, write_figures
from threadpoolctl import threadpool_limits

import bayes_prehoc as bp
from bayes_prehoc._machine import cores
from bayes_prehoc.risk.clock import in_noise_time
from bayes_prehoc.risk.laboratory import sgd
from bayes_prehoc.risk.one_law import ALL, one_law
from bayes_prehoc.runs import Trajectories

STEPS = 1000
DEPTHS = np.geomspace(10, STEPS, 10).round()
RUNS, BRANCHES = 64, 2
LEVEL = 0.05
TASK = "digits-slow"


def constant(step, horizon):
    return 1.0 + 0.0 * step


def linear(step, horizon):
    return 1.0 - step / horizon


def cosine(step, horizon):
    import jax.numpy as jnp

    return 0.5 * (1.0 + jnp.cos(jnp.pi * step / horizon))


def cooldown(step, horizon):
    """Constant, and linear to nothing over the last fifth."""
    import jax.numpy as jnp

    return jnp.minimum(1.0, (horizon - step) / (0.2 * horizon))


SCHEDULES = (constant, linear, cosine, cooldown)


class Size(NamedTuple):
    """Replicates by branching and by the conditional proxy, simulations of a test, seeds of the real task."""

    branching: int
    conditional: int
    simulations: int
    seeds: int


SIZES = {"smoke": Size(1, 1, 19, 0), "full": Size(200, 100, 199, 64)}


def timed(runs: Trajectories, horizon: int) -> Trajectories:
    """The runs of tasks that are named by their schedule, in the time of the noise."""
    found = []
    for task in runs:
        (schedule,) = (own for own in SCHEDULES if own.__name__ == task.task)
        found += in_noise_time(
            Trajectories((task,)), lambda depth, own=schedule: np.maximum(own(depth - 0.5, horizon), 0.0)
        ).tasks
    return Trajectories(tuple(found))


def laboratory(proxy: str, size: Size, index: int) -> tuple[float, float]:
    """p-values of one law in the time of the noise and in steps."""
    rng = np.random.default_rng([5, index])
    step = np.arange(STEPS)
    drawn = []
    for schedule in SCHEDULES:
        rates = 0.02 * np.asarray(schedule(step, STEPS), np.float64)
        chain = sgd(DEPTHS, rates, curvature=0.0, noise=1.0, floor=0.02)
        drawn.append(chain.draw(rng, RUNS, branches=BRANCHES if proxy == "branching" else 0, name=schedule.__name__))
    runs = Trajectories(tuple(drawn))
    return tuple(
        one_law(bp.estimate_risk(own, proxy=proxy), simulations=size.simulations, seed=index).p_value
        for own in (timed(runs, STEPS), runs)
    )


def rejected(proxy: str, size: Size) -> list[Figure]:
    """How often each is rejected."""
    count = getattr(size, proxy)
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(cores()) as pool:
        p_values = np.array(list(pool.map(lambda index: laboratory(proxy, size, index), range(count))))
    figures = []
    for own, where in zip(p_values.T, ("in the time of the noise, where one law holds", "in steps"), strict=True):
        share = float((own <= LEVEL).mean())
        error = np.sqrt(share * (1.0 - share) / count)
        figures.append(
            Figure(
                f"one law rejected by {proxy}, {where}",
                share,
                f"of {count} sets of {len(SCHEDULES)} x {RUNS} runs, standard error {error:.3f}",
            )
        )
    return figures


def real(size: Size) -> list[Figure]:
    """The same question of a task that is fine-tuned."""
    (spec,) = (own for own in bp.suite() if own.name == TASK)
    tasks = [
        bp.probe(dataclasses.replace(spec, name=own.__name__, schedule=own), size.seeds).tasks[0] for own in SCHEDULES
    ]
    runs, figures = Trajectories(tuple(tasks)), []
    for where, own in (("the time of the noise", timed(runs, spec.steps)), ("steps", runs)):
        estimates = bp.estimate_risk(own, proxy="conditional")
        found = one_law(estimates, simulations=999)
        print(f"\n{TASK} in {where}, {size.seeds} seeds a schedule:")
        print(found.laws.set_index("task").map(lambda value: f"{value:.3g}").to_string())
        law = found.laws.set_index("task").loc[ALL]
        figures.append(
            Figure(
                f"{TASK}, one law in {where}",
                found.p_value,
                f"p-value; alpha of all {law.alpha:.2f} [{law.alpha_lower:.2f}, {law.alpha_upper:.2f}]",
            )
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    size = SIZES[options.size]
    print(machine())
    found = [*rejected("branching", size), *rejected("conditional", size)]
    if size.seeds:
        found += real(size)
    print_figures(found)
    write_figures(options.json, found)


if __name__ == "__main__":
    main()
