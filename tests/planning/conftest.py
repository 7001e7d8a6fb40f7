"""A posterior whose draws are known: either one curve without uncertainty, or a spread around it."""

import types

import h5py
import numpy as np
import pandas as pd
import pytest

from bayes_prehoc.hierarchy import RiskCurve
from bayes_prehoc.risk.estimates import RiskEstimates, TaskEstimates
from bayes_prehoc.runs.trajectories import SetAside


class FakePosterior:
    """The part of a Posterior that a plan consumes."""

    def __init__(self, estimates, curves, converged=True, statuses=None, prior="weak prior"):
        self.estimates, self.curves, self.converged = estimates, curves, converged
        self.statuses = statuses or {}
        self.prior = prior
        self.misfit = np.linspace(0.1, 0.3, 101)
        self.drift = np.linspace(0.2, 0.4, 101) if self.proxy == "run_to_run" else None

    @property
    def proxy(self):
        return self.estimates.proxy

    @property
    def tasks(self):
        return tuple(t.task for t in self.estimates)

    def status(self, task):
        return self.statuses.get(task, "ok") if self.converged else "not_converged"

    def curve(self, task):
        return self.curves[task]

    drifted_curve = curve

    def checks(self):
        index = pd.Index(["r_hat", "e_bfmi"], name="check")
        columns = {"passed": [self.converged] * 2, "value": [1.001, np.nan], "threshold": [1.01, 0.3], "advice": ""}
        columns |= {"gate": True}
        return pd.DataFrame(columns, index=index)

    def save(self, path):
        with h5py.File(path, "w") as file:
            file.attrs["holds"] = "a posterior"


def make_estimates(task="a", proxy="conditional", **changes):
    depths = np.array([30.0, 100.0, 300.0, 900.0])
    fields = {
        "metric": "accuracy",
        "metric_kind": "accuracy",
        "depths": depths,
        "risk": 1e-4 + 4e-4 * (depths / 30.0) ** -0.7,
        "nu": np.array([60.0, 55.0, 50.0, 45.0]),
        "scale": 0.9,
        "outcome_mean": 0.9,
        "n_runs": 64,
        "horizon": 1000.0,
        "outcome_stands_in": False,
    }
    return TaskEstimates(task=task, proxy=proxy, **(fields | changes))


def make_curve(draws=1, spread=0.0, horizon=1000.0, noise=None, seed=0, **changes):
    """Curves of `draws` draws, log-normal around one truth; without spread all are the same."""
    random = np.random.default_rng(seed)
    truth = {"l_int": 2e-5, "reducible": 1.5e-4, "alpha": 0.6, "onset": 8.0} | changes
    parts = {name: value * np.exp(spread * random.standard_normal(draws)) for name, value in truth.items()}
    noise = None if noise is None else noise * np.exp(spread * random.standard_normal(draws))
    return RiskCurve(reference=200.0, horizon=horizon, noise=noise, **parts)


def make_posterior(curves=None, set_aside=(), estimates=None, **options):
    """A posterior of the tasks in `curves`; one without uncertainty by default."""
    curves = curves or {"a": make_curve()}
    proxy = "run_to_run" if next(iter(curves.values())).horizon is None else "conditional"
    if estimates is None:
        estimates = tuple(make_estimates(task, proxy) for task in curves)
    aside = tuple(SetAside(task, reason) for task, reason in set_aside)
    return FakePosterior(RiskEstimates(estimates[0].proxy, tuple(estimates), aside), curves, **options)


@pytest.fixture
def make():
    """Builders of estimates, curves and posteriors."""
    return types.SimpleNamespace(estimates=make_estimates, curve=make_curve, posterior=make_posterior)
