"""Checks are data: what fails says where and what to do."""

import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.hierarchy.checks import (
    GATE,
    Check,
    bits_learned,
    convergence,
    integration,
    of_leaps,
    of_trajectories,
)

DRAWS = (4, 500)


def good(seed=0):
    rng = np.random.default_rng(seed)
    return {"mu": rng.normal(size=DRAWS), "share": rng.normal(size=(*DRAWS, 3)), "fixed": np.ones(DRAWS)}


def failed(quantities):
    return {check.name: check for check in convergence(quantities) if not check.passed}


def test_independent_draws_pass_everything():
    checks = convergence(good())
    assert [check.name for check in checks] == ["r_hat", "ess_bulk", "ess_tail"]
    assert all(check.passed for check in checks)
    assert checks[0].threshold == 1.01 and checks[1].threshold == 400.0


def test_a_shifted_chain_is_found_and_named():
    quantities = good()
    quantities["share"][2, :, 1] += 2.0
    found = failed(quantities)
    assert found["r_hat"].worst == "share[1]" and found["r_hat"].value > 1.1 and found["r_hat"].advice


def test_thousands_of_tasks_are_not_told_off_for_being_many():
    """Of independent draws of 6,000 quantities the largest R-hat is above 1.01, a fault of a hyperparameter."""
    rng = np.random.default_rng(1)
    many = rng.normal(size=(4, 200, 6000))
    (of_tasks,) = (check for check in convergence({"share": many}) if check.name == "r_hat")
    assert 1.01 < of_tasks.value < of_tasks.threshold < 1.03 and of_tasks.passed
    worst = int(of_tasks.worst.removeprefix("share[").removesuffix("]"))
    (shared,) = (check for check in convergence({"mu": many[..., worst]}) if check.name == "r_hat")
    assert not shared.passed and shared.threshold == 1.01 and shared.value == of_tasks.value
    shifted = many.copy()
    shifted[0, :, 7] += 1.0
    assert failed({"share": shifted})["r_hat"].worst == "share[7]"


def test_the_threshold_is_what_independent_draws_hardly_pass():
    """Of twenty sets of 300 quantities at the probability that is allowed, next to none is beyond."""
    rng = np.random.default_rng(2)
    beyond = [bool(failed({"rate": rng.normal(size=(4, 60, 300))}).get("r_hat")) for _ in range(20)]
    assert sum(beyond) <= 2


def test_slow_mixing_is_found():
    quantities = good()
    rng = np.random.default_rng(5)
    walk = np.empty(DRAWS)
    walk[:, 0] = rng.normal(size=4)
    for i in range(1, DRAWS[1]):
        walk[:, i] = 0.95 * walk[:, i - 1] + np.sqrt(1 - 0.95**2) * rng.normal(size=4)
    quantities["mu"] = walk
    assert {"ess_bulk"} <= set(failed(quantities))


def test_a_number_that_is_none_fails():
    quantities = good()
    quantities["mu"][0, 3] = np.nan
    assert {"r_hat", "ess_bulk", "ess_tail"} <= set(failed(quantities))


def test_proposals_narrower_than_the_posterior_fail():
    """Weights of t proposals for a normal are bounded; of normal proposals for a wider normal they are not."""
    rng = np.random.default_rng(3)
    t, narrow = rng.standard_t(6, (4, 300, 7)), rng.normal(size=(4, 300, 7))
    wide = of_leaps(stats.norm.logpdf(t) - stats.t.logpdf(t, 6))
    assert wide.passed and wide.name == "k_hat" and wide.threshold == 0.7
    missed = of_leaps(stats.norm.logpdf(narrow, scale=3.0) - stats.norm.logpdf(narrow))
    assert not missed.passed and missed.advice
    with_none = stats.norm.logpdf(t) - stats.t.logpdf(t, 6)
    with_none[0, :20] = -np.inf
    assert of_leaps(with_none).passed


def test_trajectories_are_judged_by_divergences_and_energy():
    energy, divergent = np.random.default_rng(0).normal(size=DRAWS), np.zeros(DRAWS, bool)
    assert [check.name for check in of_trajectories(divergent, energy)] == ["divergences", "e_bfmi"]
    assert all(check.passed for check in of_trajectories(divergent, energy)) and GATE.divergences == 0
    divergent[1, 77] = True
    energy[3] = np.cumsum(energy[3])
    one, crawling = of_trajectories(divergent, energy)
    assert not one.passed and one.value == 1
    assert not crawling.passed and crawling.worst == "chain 3"


def test_only_an_error_of_quadrature_that_varies_matters():
    rng = np.random.default_rng(2)
    points = np.full((200, 5), 60.0)
    constant = np.tile([-8.0, 0.0, 3.0, 0.1, 0.0], (24, 1))
    assert [check.passed for check in integration(constant, points)] == [True, True]
    wavering = constant.copy()
    wavering[:, 3] += rng.normal(size=24)
    quadrature, _ = integration(wavering, points)
    assert not quadrature.passed and quadrature.worst == "task 3" and quadrature.value == pytest.approx(1.0, abs=0.4)


def test_latents_drawn_from_too_few_points_are_found():
    points = np.full((200, 5), 60.0)
    points[:120, 2] = 1.5
    _, few = integration(np.zeros((24, 5)), points)
    assert not few.passed and few.worst == "task 2" and few.value == 1.5 and few.advice


@pytest.mark.parametrize(
    ("worst", "named"), [("share[1]", "share b"), ("task 0", "task a"), ("tau[1]", "tau[1]"), ("chain 1", "chain 1")]
)
def test_a_check_names_the_task_where_it_is_worst(worst, named):
    assert Check("r_hat", False, 1.2, 1.01, worst, "advice").naming(["a", "b"]).worst == named


def test_bits():
    prior = np.linspace(0.0, 1.0, 2001)
    posterior = np.stack([prior, 0.25 + prior / 2, 0.4 + prior / 16, 2 * prior], axis=1)
    assert bits_learned(posterior, prior) == pytest.approx([0.0, 1.0, 4.0, -1.0], abs=1e-6)
