"""The time of the noise: against sums over steps, and one law for all schedules in the laboratory."""

import dataclasses

import numpy as np
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.risk.clock import RATE, UNIT, in_noise_time, noise_time
from bayes_prehoc.risk.laboratory import sgd
from bayes_prehoc.runs import Trajectories

STEPS = 1000
STEP = np.arange(1, STEPS + 1)
SCHEDULES = {
    "constant": np.full(STEPS, 0.02),
    "linear": 0.02 * (1.0 - STEP / (STEPS + 1)),
    "cosine": 0.01 * (1.0 + np.cos(np.pi * STEP / (STEPS + 1))),
    "cooldown": 0.02 * np.clip((STEPS + 1 - STEP) / 200, 0.0, 1.0),
    "warm-up": 0.02 * np.clip(STEP / 100, 0.0, 1.0),
}
DEPTHS = np.unique(np.r_[np.geomspace(5, STEPS, 20).round(), np.arange(20, STEPS + 1, 20)])


@pytest.mark.parametrize("name", SCHEDULES)
def test_sum_of_squared_rates(name):
    rates = SCHEDULES[name]
    total = np.cumsum((rates / rates.max()) ** 2)
    every = noise_time(STEP.astype(float), STEP.astype(float), rates)
    # Steps are a sum, and time is an integral between them.
    np.testing.assert_allclose(every, total, atol=1.0)
    some = noise_time(DEPTHS, DEPTHS, rates[DEPTHS.astype(int) - 1])
    np.testing.assert_allclose(some, total[DEPTHS.astype(int) - 1], rtol=0.01, atol=2.0)


def test_between_recorded_depths_and_before_the_first():
    at, rate = np.array([2.0, 4.0]), np.array([1.0, 0.5])
    expected = [0.0, 1.0, 2.0, 2.0 + (1.0 + 0.75 + 0.75**2) / 3.0, 2.0 + 2.0 * (1.0 + 0.5 + 0.25) / 3.0]
    np.testing.assert_allclose(noise_time(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), at, rate), expected)
    from_zero = noise_time(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0]), np.array([1.0, 1.0]))
    np.testing.assert_allclose(from_zero, [0.0, 1.0, 2.0])


def task(name, **changes):
    rates = SCHEDULES[name]
    chain = sgd(DEPTHS, rates, 0.0, 1.0, 0.0)
    runs = chain.draw(np.random.default_rng(0), 3, branches=2, name=name)
    values = dict(runs.values) | {RATE: np.tile(rates[DEPTHS.astype(int) - 1], (3, 1))}
    return chain, dataclasses.replace(runs, values=values, **changes)


def test_one_law_describes_all_schedules():
    """What is open along a flat direction is K (u_T - u), the same K whatever the schedule; in steps it is not."""
    by_time, by_step = {}, {}
    for name in SCHEDULES:
        chain, runs = task(name)
        timed = in_noise_time(Trajectories((runs,))).tasks[0]
        left = timed.horizon - timed.depths
        early = left > 0.05 * timed.horizon
        by_time[name] = chain.risk[early] / left[early] / SCHEDULES[name].max() ** 2
        by_step[name] = chain.risk[early] / (STEPS - DEPTHS[early]) / SCHEDULES[name].max() ** 2
        assert timed.depth_unit == UNIT and timed.fork_depths.tolist() == timed.depths[:-1].tolist()
        assert timed.notes[-1].startswith("depths are the integral")
    for name in SCHEDULES:
        np.testing.assert_allclose(by_time[name], 1.0, rtol=0.03)
    assert np.ptp(by_step["cosine"]) > 0.3 and np.ptp(by_step["constant"]) < 1e-6


def test_rates_as_a_function():
    _, runs = task("linear")
    asked = in_noise_time(Trajectories((runs,)), lambda depth: 1.0 - depth / 1001.0)
    recorded = in_noise_time(Trajectories((runs,)))
    # The highest rate is the first, which is not among those that were recorded.
    np.testing.assert_allclose(asked.tasks[0].depths, recorded.tasks[0].depths, rtol=0.02)


def test_a_function_shows_bends_between_the_depths():
    _, runs = task("cooldown")
    few = np.array([10.0, 100.0, 1000.0])
    sparse = dataclasses.replace(runs, depths=few, values={"score": np.zeros((3, 3))}, fork_depths=None, forked=None)
    timed = in_noise_time(Trajectories((sparse,)), lambda depth: np.interp(depth, STEP, SCHEDULES["cooldown"]))
    total = np.cumsum((SCHEDULES["cooldown"] / 0.02) ** 2)
    np.testing.assert_allclose(timed.tasks[0].depths, total[few.astype(int) - 1], rtol=0.005)


@pytest.mark.parametrize(
    ("changes", "rates", "words"),
    [
        ({"values": {"score": np.zeros((3, len(DEPTHS)))}}, None, "'learning_rate' was not recorded"),
        ({"values": {RATE: np.arange(3.0)[:, None] + np.ones((3, len(DEPTHS)))}}, None, "different learning rates"),
        ({"horizon": 2000.0}, None, "its learning rates end at 1000, its runs at 2000"),
        ({"depth_unit": UNIT}, None, "already"),
        ({}, lambda depth: -depth, "not finite and positive"),
        ({}, lambda depth: 0.0 * depth, "not finite and positive"),
        ({}, lambda depth: depth[:3], "Give one for each depth"),
        ({}, lambda depth: np.where(depth > 100, 0.0, 1.0), "is 0 between two depths"),
    ],
)
def test_impossible_clocks(changes, rates, words):
    _, runs = task("linear", depth_unit="step")
    with pytest.raises(InputError, match=words):
        in_noise_time(Trajectories((dataclasses.replace(runs, **changes),)), rates)
