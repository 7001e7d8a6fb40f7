"""Fits of tasks that are hard for a hierarchical model: one alone, all the same, one unlike the rest, little data."""

import dataclasses

import numpy as np
import pytest

from bayes_prehoc.hierarchy import fit
from bayes_prehoc.hierarchy.data import MOST_DEPTHS, model_data, spread_depths

PROXIES = ("run_to_run", "conditional")


def log_u0(posterior):
    """Draws of log U(c_0), (T, S)."""
    curves = [posterior.curve(task) for task in posterior.tasks]
    return np.log([curve.l_int + curve.reducible for curve in curves])


@pytest.mark.slow
@pytest.mark.parametrize("proxy", PROXIES)
def test_a_single_task(make, proxy):
    truth, _, estimates = make.simulated(tasks=1, proxy=proxy)
    posterior = fit(estimates)
    assert posterior.converged
    low, high = np.quantile(log_u0(posterior)[0], (0.005, 0.995))
    assert low <= np.log(make.true_figures(truth, proxy)["U_c0"][0]) <= high
    # What one task tells of how tasks differ is next to nothing: the prior's half-normal(1.5) has the mean 1.2.
    assert 0.7 < posterior.draws["posterior"]["tau"].values[..., 0].mean() < 1.7


@pytest.mark.slow
@pytest.mark.parametrize("proxy", PROXIES)
def test_a_thousand_seeds(make, proxy):
    none = {"drift": np.array(0.003)} if proxy == "run_to_run" else {}
    truth, _, estimates = make.simulated(tasks=6, proxy=proxy, nu=999.0, misfit=np.array(0.005), **none)
    posterior = fit(estimates)
    assert posterior.converged
    drawn, true = log_u0(posterior), np.log(make.true_figures(truth, proxy)["U_c0"])
    # The estimate at one depth alone has sqrt(2 / 999) = 0.045.
    assert drawn.std(axis=1).max() < 0.06
    assert np.all(np.abs(drawn.mean(axis=1) - true) < 4.0 * drawn.std(axis=1))


@pytest.mark.slow
@pytest.mark.parametrize("proxy", PROXIES)
def test_two_depths(make, proxy):
    """The level is told; a floor and a rate are not, but for remaining risk, whose floor lies at the end."""
    truth, _, estimates = make.simulated(tasks=6, proxy=proxy, depths=2, nu=10.0)
    posterior = fit(estimates)
    assert posterior.converged
    low, high = np.quantile(log_u0(posterior), (0.005, 0.995), axis=1)
    true = np.log(make.true_figures(truth, proxy)["U_c0"])
    assert ((low <= true) & (true <= high)).sum() >= 5
    if proxy == "run_to_run":
        assert "not_identified" in {posterior.status(task) for task in posterior.tasks}


@pytest.mark.slow
@pytest.mark.parametrize("proxy", PROXIES)
def test_identical_tasks(make, proxy):
    """They differ by less than a twentieth of what the prior allows, and each is known better than one alone."""
    _, _, estimates = make.simulated(tasks=1, proxy=proxy)
    (one,) = estimates.tasks
    copies = tuple(dataclasses.replace(one, task=f"t{i}", hashes=(f"{i:04d}",)) for i in range(8))
    posterior = fit(dataclasses.replace(estimates, tasks=copies))
    assert posterior.converged
    assert np.median(posterior.draws["posterior"]["tau"].values[..., 0]) < 0.25
    drawn = log_u0(posterior)
    assert np.ptp(drawn.mean(axis=1)) < 0.05 and drawn.std(axis=1).max() < log_u0(fit(estimates)).std()


@pytest.mark.slow
@pytest.mark.parametrize("proxy", PROXIES)
def test_one_wild_task_among_fifty(make, proxy):
    """Three thousand times the risk of any other: its own level is told. The others, whose population is wider now and
    draws them less together, move by less than a standard deviation, half of them by less than half of one."""
    _, _, estimates = make.simulated(tasks=50, proxy=proxy)
    wild = dataclasses.replace(estimates.tasks[0], risk=estimates.tasks[0].risk * np.exp(8.0))
    without = fit(dataclasses.replace(estimates, tasks=estimates.tasks[1:]))
    beside = fit(dataclasses.replace(estimates, tasks=(wild, *estimates.tasks[1:])))
    assert without.converged and beside.converged
    before, after = log_u0(without), log_u0(beside)
    nearest = np.abs(np.log(wild.depths / (0.2 * wild.horizon))).argmin()
    assert np.mean(after[0]) == pytest.approx(np.log(wild.risk[nearest]), abs=1.0)
    moved = np.abs(after[1:].mean(axis=1) - before.mean(axis=1)) / before.std(axis=1)
    assert np.median(moved) < 0.5 and moved.max() < 1.0


def test_dense_depths_are_thinned_evenly(make):
    _, _, estimates = make.simulated(tasks=1)
    (one,) = estimates.tasks
    depths = np.arange(1.0, 401.0)
    dense = dataclasses.replace(one, depths=depths, risk=np.ones(400), nu=np.full(400, 60.0))
    places = spread_depths(dense.depths)
    assert len(places) <= MOST_DEPTHS and places[0] == 0 and places[-1] == 399
    gaps = np.diff(np.log(depths[places]))
    assert gaps.max() < 1.6 * np.log(400.0) / (MOST_DEPTHS - 1)
    data = model_data(dataclasses.replace(estimates, tasks=(dense,)))
    np.testing.assert_allclose(data.depth[:, 0] * 400.0, depths[places], rtol=1e-6)


@pytest.mark.slow
def test_a_task_that_nobody_probed_is_what_the_others_expect(make, fitted):
    """Fitted among them, it changes nothing of theirs, and is as `expect` says."""
    posterior, _ = fitted
    first = posterior.estimates.tasks[0]
    expected = posterior.expect("new", scale=first.scale, horizon=first.horizon)
    nothing = expected.estimates.tasks[0]
    both = fit(dataclasses.replace(posterior.estimates, tasks=(*posterior.estimates.tasks, nothing)))
    assert both.converged and both.tasks[-1] == "new"
    assert both.status("new") == expected.status("new")
    for task in posterior.tasks:
        one, other = (np.log(own.curve(task).l_int + own.curve(task).reducible) for own in (posterior, both))
        assert abs(np.mean(one) - np.mean(other)) < 0.3 * np.std(one)
    one, other = (np.log(own.curve("new").l_int + own.curve("new").reducible) for own in (expected, both))
    assert np.std(other) == pytest.approx(np.std(one), rel=0.2)
    assert abs(np.mean(one) - np.mean(other)) < 0.3 * np.std(one)
