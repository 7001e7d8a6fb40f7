"""All proxies of the same runs beside each other: what each says, and where they disagree.

They estimate different things (`estimate`), so nothing is pooled: where two disagree, the disagreement tells something
of the task. A spread below the conditional risk says that runs agree early and part later; a spread above it that runs
differ by more than their ends stay open, because the difference tells the end or because training forgets it; a
conditional risk above that of branching that prefixes show less than there is in the state, or that a linear prediction
misses it.
"""

import dataclasses
import itertools

import numpy as np
import pandas as pd
from scipy import stats

from bayes_prehoc.errors import InputError
from bayes_prehoc.risk.estimate import estimate_information, estimate_risk
from bayes_prehoc.risk.estimates import InformationEstimates, RiskEstimates
from bayes_prehoc.runs.trajectories import Trajectories

__all__ = ["PROXIES", "Comparison", "compare_proxies"]

PROXIES = ("conditional", "branching", "run_to_run")
"""The order in which they are shown; of two, the later one is held against the earlier."""
NO_TASK = "proxy conditional"
"""Where an error lies that is no fault of the arguments: no task has runs enough for a regression."""


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Estimates of the same runs by every proxy that they allow.

    Attributes
    ----------
    estimates : dict of RiskEstimates by proxy
    refused : dict of str by proxy
        Why a proxy, or "information", has no estimates of any task.
    information : InformationEstimates or None
        What watching tells of the outcome; None where no task has runs enough.
    """

    estimates: dict[str, RiskEstimates]
    refused: dict[str, str]
    information: InformationEstimates | None

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that some proxy has estimates of."""
        return tuple(dict.fromkeys(task.task for found in self.estimates.values() for task in found))

    @property
    def frame(self) -> pd.DataFrame:
        """Tidy table of all estimates; see `RiskEstimates.frame`."""
        return pd.concat([found.frame for found in self.estimates.values()], ignore_index=True)

    @property
    def outside(self) -> pd.DataFrame:
        """Tidy table of what was estimated where the law does not hold; see `RiskEstimates.outside`."""
        return pd.concat([found.outside for found in self.estimates.values()], ignore_index=True)

    def to_dict(self) -> dict:
        """All of it as plain values: lists of rows, missing as None."""
        told = self.information
        aside = {proxy: found.set_aside for proxy, found in self.estimates.items()}
        aside |= {} if told is None else {"information": told.set_aside}
        return {
            "estimates": _rows(self.frame),
            "outside": _rows(self.outside),
            "agreement": _rows(self.agreement),
            "ratios": _rows(self.ratios),
            "information": [] if told is None else _rows(told.frame),
            "tasks": [
                {
                    "task": task.task,
                    "proxy": proxy,
                    "noise": task.noise if task.has_noise else None,
                    "noise_se": task.noise_se if task.has_noise else None,
                    "left_out": [dataclasses.asdict(left) for left in task.left_out],
                    "flags": list(task.flags),
                }
                for proxy, found in self.estimates.items()
                for task in found
            ],
            "refused": dict(self.refused),
            "set_aside": [{"proxy": of, **dataclasses.asdict(one)} for of, ones in aside.items() for one in ones],
        }

    @property
    def ratios(self) -> pd.DataFrame:
        """One proxy over another at each depth that both have.

        Columns task, proxy, against, depth, ratio, and lower and upper, the ends of a 90% interval as if the two were
        independent; they share runs, so that it is rather too wide.
        """
        parts = []
        for against, proxy in itertools.combinations([p for p in PROXIES if p in self.estimates], 2):
            below = {task.task: task for task in self.estimates[against]}
            parts += [_ratios(task, below[task.task]) for task in self.estimates[proxy] if task.task in below]
        columns = ["task", "proxy", "against", "depth", "ratio", "lower", "upper"]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)

    @property
    def agreement(self) -> pd.DataFrame:
        """What `ratios` comes to: a row for each task and pair of proxies.

        Columns task, proxy, against, depths (how many they share), lower and higher (at how many of them the interval
        of the ratio lies below one, or above it; one in ten does by chance), and the smallest and the largest ratio.
        """
        found = self.ratios
        found = found.assign(is_lower=found["upper"] < 1.0, is_higher=found["lower"] > 1.0)
        return (
            found.groupby(["task", "proxy", "against"], sort=False)
            .agg(
                depths=("depth", "size"),
                lower=("is_lower", "sum"),
                higher=("is_higher", "sum"),
                smallest=("ratio", "min"),
                largest=("ratio", "max"),
            )
            .reset_index()
        )


def _rows(frame):
    """Rows as dicts of plain values."""
    return [
        {name: None if pd.isna(value) else value for name, value in row.items()} for row in frame.to_dict("records")
    ]


def _ratios(task, against):
    shared, own, others = np.intersect1d(task.depths, against.depths, return_indices=True)
    ratio = task.risk[own] / against.risk[others]
    lower, upper = (ratio / stats.f.ppf(q, task.nu[own], against.nu[others]) for q in (0.95, 0.05))
    named = {"task": task.task, "proxy": task.proxy, "against": against.proxy}
    return pd.DataFrame(named | {"depth": shared, "ratio": ratio, "lower": lower, "upper": upper})


def compare_proxies(
    runs: Trajectories, *, metric: str | None = None, permutations: int = 199, seed: int = 0
) -> Comparison:
    """Estimate the risk by every proxy that the runs allow, and what watching tells of the outcome.

    Parameters
    ----------
    runs, metric, seed
        As for `estimate_risk`.
    permutations : int, optional
        As for `estimate_information`.

    Raises
    ------
    InputError
        If an argument is impossible, or no proxy can use any task.
    """
    estimates, refused, information = {}, {}, None
    try:
        information = estimate_information(runs, metric=metric, permutations=permutations, seed=seed)
    except InputError as error:
        if error.where != NO_TASK:
            raise
        refused["information"] = error.what
    for proxy in PROXIES:
        try:
            estimates[proxy] = estimate_risk(runs, proxy=proxy, metric=metric, seed=seed)
        except InputError as error:
            refused[proxy], last = error.what, error
    if not estimates:
        raise last
    return Comparison(estimates, refused, information)
