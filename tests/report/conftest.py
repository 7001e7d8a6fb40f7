"""Real plans of made-up posteriors: the draws of each task's risk curve are drawn here, the rest is `plan`'s."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from bayes_prehoc import theory
from bayes_prehoc.hierarchy import RiskCurve
from bayes_prehoc.planning import plan
from bayes_prehoc.risk.estimates import LeftOut, RiskEstimates, TaskEstimates
from bayes_prehoc.runs.trajectories import SetAside

DRAWS = 500


@dataclasses.dataclass(frozen=True)
class Task:
    """A task whose RMSE falls from about `cheap` at 5% of the horizon to about `final` at its end."""

    name: str
    final: float = 0.004
    cheap: float = 0.03
    alpha: float = 0.6
    width: float = 0.25
    seed: int = 0
    metric: str = "accuracy"
    unit: str = "step"
    horizon: float = 400.0
    noise: bool = True
    status: str = "ok"
    n_runs: int = 64
    n_depths: int = 8
    horizon_assumed: bool = False
    flags: tuple = ()
    left_out: tuple = ()


class MadeUpPosterior:
    """What `plan` and the report ask of a posterior."""

    def __init__(self, tasks, *, proxy="conditional", converged=True, set_aside=()):
        self.proxy, self.converged, self.prior = proxy, converged, "weak prior"
        self.misfit = np.linspace(0.1, 0.3, 101)
        self.drift = np.linspace(0.2, 0.4, 101) if proxy == "run_to_run" else None
        self.tasks = tuple(t.name for t in tasks)
        self._status = {t.name: t.status for t in tasks}
        pairs = [_made_up(t, proxy) for t in tasks]
        self._curves = {estimates.task: curve for curve, estimates in pairs}
        self.estimates = RiskEstimates(proxy, tuple(estimates for _, estimates in pairs), tuple(set_aside))

    def status(self, task):
        return self._status[task]

    def curve(self, task):
        return self._curves[task]

    drifted_curve = curve

    def checks(self):
        ok = self.converged
        advice = "The chains disagree about the rate: give more depths per task, or fewer tasks."
        return pd.DataFrame(
            {
                "gate": [True, True, True, False],
                "passed": [ok, True, True, True],
                "value": [1.003 if ok else 1.0873, 812.0, 0.0, 0.81],
                "threshold": [1.01, 400.0, 0.0, 0.3],
                "worst": ["alpha[wine_slow]", "tau[share]", "", ""],
                "advice": ["" if ok else advice, "", "", ""],
            },
            index=pd.Index(["R-hat", "effective sample size", "divergences", "E-BFMI"], name="check"),
        )


def _made_up(task, proxy):
    rng = np.random.default_rng(task.seed)
    spread = proxy == "run_to_run"
    end = None if spread else task.horizon
    reference, c_cheap = 0.2 * task.horizon, 0.05 * task.horizon
    l_int = task.final**2 * np.exp(2 * task.width * rng.standard_normal(DRAWS))
    alpha = np.clip(task.alpha + 0.3 * task.width * rng.standard_normal(DRAWS), 0.05, 3.9)
    onset = np.full(DRAWS, 0.02 * task.horizon)
    fall = np.median(theory.decay(c_cheap, reference, alpha, onset, end))
    reducible = task.cheap**2 / fall * np.exp(task.width * rng.standard_normal(DRAWS))
    noise = (task.cheap / 15) ** 2 * np.exp(0.2 * rng.standard_normal(DRAWS)) if task.noise else None
    curve = RiskCurve(l_int, reducible, reference, alpha, onset, end, noise)

    depths = np.geomspace(task.horizon / 40, (0.6 if spread else 1.0) * task.horizon, task.n_depths)
    shapes = (np.median(a) for a in (l_int, reducible))
    level, fallen = shapes
    truth = np.asarray(theory.envelope(depths, level, fallen, reference, np.median(alpha), onset[0], end), float)
    nu = task.n_runs - 1.0
    risk = (truth + (0 if noise is None else np.median(noise))) * rng.chisquare(nu, len(depths)) / nu
    estimates = TaskEstimates(
        task=task.name,
        proxy=proxy,
        metric=task.metric,
        metric_kind="accuracy" if task.metric.startswith("acc") else "loss",
        depths=depths,
        risk=risk,
        nu=np.full(len(depths), nu),
        scale=0.93,
        outcome_mean=0.93,
        n_runs=task.n_runs,
        horizon=task.horizon,
        horizon_assumed=task.horizon_assumed,
        depth_unit=task.unit,
        noise=float("nan") if noise is None else float(np.median(noise)),
        noise_se=float("nan") if noise is None else 1e-6,
        outcome_stands_in=spread,
        left_out=task.left_out,
        flags=task.flags,
    )
    return curve, estimates


BIAS = "estimated from 64 runs; the bias of cross-fitting is not removed"
SUITE = (
    Task("digits_fast", 0.0045, 0.0062, 0.9, seed=0),
    Task("digits_slow", 0.0040, 0.0310, 0.5, seed=1, flags=(BIAS,)),
    Task("digits_noisy", 0.0140, 0.0190, 0.4, seed=2),
    Task("wine_fast", 0.0020, 0.0041, 1.1, seed=3, flags=(BIAS,)),
    Task("wine_slow", 0.0058, 0.0420, 0.3, seed=4),
    Task("cancer_noisy", 0.0230, 0.0260, 0.5, seed=5, flags=(BIAS,)),
    Task("addition_3digit", 0.0061, 0.1200, 0.2, seed=6, noise=False),
    Task("modular_grok", 0.0094, 0.2100, 0.4, seed=7),
)
HOSTILE = "<script>alert('x')</script>"
LONG = "llama-3.1-70b/instruct/lora-r16/alpha-32/" + "very-long-name_" * 9 + '& "quotes" </svg><b>'


@pytest.fixture(scope="session")
def eight():
    """Eight tasks that cover the three regimes; one more was set aside, and depths were left out."""
    left_out = (LeftOut(0.0, "depth 0 is kept but not fitted"), LeftOut(3.0, "zero variance"))
    tasks = [dataclasses.replace(SUITE[0], left_out=left_out), *SUITE[1:]]
    aside = [SetAside("lonely", "one seed only: at least two are needed to see a spread")]
    return plan(MadeUpPosterior(tasks, set_aside=aside), tolerance=0.01)


@pytest.fixture(scope="session")
def spread():
    """Posterior of another proxy for the eight tasks: narrower, and its prefixes end before the horizon."""
    tasks = [dataclasses.replace(t, cheap=1.4 * t.cheap, final=0.5 * t.final, noise=False) for t in SUITE]
    return MadeUpPosterior(tasks, proxy="run_to_run")


@pytest.fixture(scope="session")
def one():
    return plan(MadeUpPosterior([Task("rte-lora", unit="epoch", horizon=20.0)]))


@pytest.fixture(scope="session")
def ninety_nine():
    """Spread readings of losses with a stated tolerance, as from recorded submissions."""
    rng = np.random.default_rng(5)
    tasks = [
        Task(
            f"submitter-{i % 17:02d}/system_{i:02d}x8_H200",
            final=float(0.0012 * np.exp(0.6 * rng.standard_normal())),
            cheap=float(0.0045 * np.exp(0.5 * rng.standard_normal())),
            alpha=float(rng.uniform(0.3, 1.5)),
            seed=i,
            metric="eval_loss",
            unit="sample",
            horizon=float(rng.choice([3072, 4608, 6144])),
            noise=False,
            status="not_identified" if i % 9 == 4 else "ok",
            n_runs=10,
            n_depths=6,
            horizon_assumed=i % 5 == 0,
            flags=("10 runs: the spread's own uncertainty is about 50%",),
        )
        for i in range(99)
    ]
    aside = [SetAside(f"odd-{i}", "fewer than two usable depths") for i in range(7)]
    return plan(MadeUpPosterior(tasks, proxy="run_to_run", set_aside=aside), tolerance=0.002)


@pytest.fixture(scope="session")
def failed():
    """The fit failed its gate: nothing may be shown."""
    return plan(MadeUpPosterior(SUITE, converged=False), tolerance=0.01)


@pytest.fixture(scope="session")
def hostile():
    """Names that are markup, or longer than any page is wide."""
    tasks = [
        Task(HOSTILE, flags=("<img src=x onerror=alert(1)>",), metric="acc<b>", unit="ep<i>och"),
        Task(LONG, seed=1, cheap=0.006),
        Task("nobody</title>knows", seed=2, status="not_identified"),
    ]
    return plan(MadeUpPosterior(tasks, set_aside=[SetAside("<iframe>", "<b>bold</b> reason")]))


@pytest.fixture(scope="session")
def no_tolerance():
    """Losses, for which there is no default tolerance, and one task that is not identified."""
    tasks = [Task(f"loss_{i}", seed=i, metric="eval_loss") for i in range(2)]
    return plan(MadeUpPosterior([*tasks, Task("unclear", status="not_identified", metric="eval_loss")]))
