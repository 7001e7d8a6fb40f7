"""One law for several tasks: schedules in the laboratory, the size of the test, and laws against a minimiser."""

import dataclasses

import numpy as np
import pytest
from scipy import optimize
from scipy.special import digamma, polygamma

from bayes_prehoc.errors import InputError
from bayes_prehoc.risk import RiskEstimates, TaskEstimates, estimate_risk
from bayes_prehoc.risk.clock import in_noise_time
from bayes_prehoc.risk.laboratory import martingale, sgd
from bayes_prehoc.risk.one_law import ALL, one_law
from bayes_prehoc.runs import Trajectories

STEPS, FLOOR = 1000, 0.02
STEP = np.arange(1, STEPS + 1)
SCHEDULES = {
    "constant": np.full(STEPS, 0.02),
    "linear": 0.02 * (1.0 - STEP / (STEPS + 1)),
    "cosine": 0.01 * (1.0 + np.cos(np.pi * STEP / (STEPS + 1))),
    "cooldown": 0.02 * np.clip((STEPS + 1 - STEP) / 200, 0.0, 1.0),
}
DEPTHS = np.geomspace(10, STEPS, 10).round()


def under_schedules(seed, runs=64):
    """Estimates by branching of the same task under each schedule, in steps and in the time of the noise."""
    rng = np.random.default_rng(seed)
    drawn = [
        sgd(DEPTHS, rates, 0.0, 1.0, FLOOR).draw(rng, runs, branches=2, name=name) for name, rates in SCHEDULES.items()
    ]
    timed = [
        in_noise_time(Trajectories((task,)), lambda depth, rates=SCHEDULES[task.task]: np.interp(depth, STEP, rates))
        for task in drawn
    ]
    together = Trajectories(tuple(own.tasks[0] for own in timed))
    return (estimate_risk(found, proxy="branching") for found in (Trajectories(tuple(drawn)), together))


def test_one_law_describes_schedules_in_the_time_of_the_noise_and_not_in_steps():
    p_time, p_step = [], []
    for seed in range(10):
        by_step, by_time = under_schedules(seed)
        p_step.append(one_law(by_step, simulations=99).p_value)
        found = one_law(by_time, simulations=99)
        p_time.append(found.p_value)
    assert max(p_step) <= 0.02
    # Ten p-values of a test of the right size: as good as never all below a half, nor four below a tenth.
    assert max(p_time) > 0.5 and np.sum(np.array(p_time) < 0.1) < 4
    law = found.laws.set_index("task").loc[ALL]
    # L = L_int + the sum of the squared rates left: alpha is -1, and the rate says how much.
    assert law.alpha_lower >= -1.0 and law.alpha < -0.9
    assert law.L_int_lower < FLOOR < law.L_int_upper
    left = (STEPS - found.reference) * 0.02**2
    assert law.reducible_lower < left < law.reducible_upper and law.reducible_upper < 1.3 * law.reducible_lower
    assert found.laws.task.tolist() == [ALL, *SCHEDULES]


def test_laws_are_the_best_there_are():
    """Against a minimiser over level, share and alpha of one task and of two."""
    chains = [martingale(DEPTHS, alpha=alpha, amplitude=1.0, floor=0.05) for alpha in (0.5, 0.8)]
    drawn = [c.draw(np.random.default_rng(i), 40, branches=3, name=str(i)) for i, c in enumerate(chains)]
    estimates = estimate_risk(Trajectories(tuple(drawn)), proxy="branching")
    plain = [dataclasses.replace(t, correlation=None, nu=np.full(len(t.depths), 50.0)) for t in estimates]
    found = one_law(RiskEstimates("branching", tuple(plain)), simulations=19)

    def off(parameters, tasks):
        log_floor, log_scale, alpha = parameters
        residuals = []
        for task in tasks:
            left = (task.depths**-alpha - task.horizon**-alpha) / alpha
            law = np.log(np.exp(log_floor) + np.exp(log_scale) * left)
            residuals.append((np.log(task.risk) - digamma(25.0) + np.log(25.0) - law) / np.sqrt(polygamma(1, 25.0)))
        return np.concatenate(residuals)

    def best(tasks):
        starts = [(np.log(0.05), 0.0, alpha) for alpha in (0.3, 0.9)]
        return min(2.0 * optimize.least_squares(off, start, args=(tasks,)).cost for start in starts)

    statistic = best(plain) - sum(best([task]) for task in plain)
    assert found.statistic == pytest.approx(statistic, abs=0.3)


def test_of_spreads_too():
    """Power laws without a horizon: the same one twice, and one beside three times itself."""

    def spread(name, factor):
        return TaskEstimates(
            name, "run_to_run", "loss", "loss", DEPTHS, factor * (0.01 + DEPTHS**-0.7), np.full(10, 63.0),
            scale=1.0, outcome_mean=1.0, n_runs=64, horizon=1000.0,
        )  # fmt: skip

    same, apart = (
        one_law(RiskEstimates("run_to_run", (spread("a", 1.0), spread("b", factor))), simulations=99)
        for factor in (1.0, 3.0)
    )
    assert same.p_value > 0.5 and apart.p_value == 0.01
    law = same.laws.set_index("task").loc[ALL]
    assert law.alpha_lower < 0.7 < law.alpha_upper and law.L_int_lower < 0.01 < law.L_int_upper


def test_impossible_input(make_task):
    runs = Trajectories((make_task("a"), make_task("b", seed=1)))
    estimates = estimate_risk(runs, proxy="conditional")
    with pytest.raises(InputError, match="one task only"):
        one_law(RiskEstimates(estimates.proxy, estimates.tasks[:1]))
    with pytest.raises(InputError, match="18 simulations"):
        one_law(estimates, simulations=18)
    other = dataclasses.replace(estimates.tasks[1], metric="loss")
    with pytest.raises(InputError, match="tasks differ in metric: accuracy, loss"):
        one_law(RiskEstimates(estimates.proxy, (estimates.tasks[0], other)))
