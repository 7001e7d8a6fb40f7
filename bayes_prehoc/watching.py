r"""What to do at an evaluation of a run in progress, from a table that was computed before: stop, decided or watch.

The table is made from a posterior (`bayes_prehoc.planning.watch_table`). Here it is only read: with NumPy and nothing
else, so that the process that trains a network needs no JAX and pays a fraction of a millisecond.

What a run's values so far tell of its outcome is linear in them. Values that are missing are filled by what the runs'
covariance says of them given those that are there, which leaves more open by the variance of what was filled,

.. math:: \hat R = a_k + w_k' x, \qquad
    w_m' (C_{mm} - C_{ms} C_{ss}^{-1} C_{sm}) w_m .
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bayes_prehoc.errors import InputError

__all__ = ["ACTIONS", "Decision", "PrefixPredictor", "Read", "WatchTable", "load_watch_table"]

ACTIONS = ("stop", "decided", "watch")
STOP, DECIDED = -2, -1
"""Codes in `WatchTable.action`; what is not negative is the look to watch next."""
SCHEMA = 1
SAME_DEPTH = 1e-6
"""Relative difference below which two depths are one."""
SMALLEST_SHARE = 1e-6
"""Of its variance that no value is without, so that covariances of few runs can be inverted."""
DIGITS = 6
"""Significant digits in a file of what is only looked up on the grid."""


class Read(NamedTuple):
    """What a run's values so far tell of its outcome.

    Attributes
    ----------
    look : place among the predictor's looks; -1 where the run has no value at any
    mean : expected R given the values
    excess : variance of R that is open because values before the look are missing
    diverged : whether a value is infinite
    notes : what was not used or lies outside what runs have shown, in words
    """

    look: int
    mean: float
    excess: float
    diverged: bool
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class PrefixPredictor:
    """The regression of R on prefixes, for each of K depths at which a prefix may end.

    Attributes
    ----------
    metrics : tuple of str, length M
        The outcome's metric comes first.
    depths : float array (J,)
        Where values are features.
    looks : int array (K,)
        Which of them end a prefix.
    intercept, weights : float arrays (K,), (K, M, J)
        Of R, in its unit; no weight lies beyond the look.
    average, covariance : float arrays (M, J), (M J, M J)
        Of the values of the runs that were regressed.
    lowest, highest : float
        No prediction lies beyond.
    outcome_mean : float
        Mean R of those runs.
    """

    metrics: tuple[str, ...]
    depths: np.ndarray
    looks: np.ndarray
    intercept: np.ndarray
    weights: np.ndarray
    average: np.ndarray
    covariance: np.ndarray
    lowest: float
    highest: float
    outcome_mean: float

    def read(self, seen) -> Read:
        """What the values so far tell.

        Parameters
        ----------
        seen : mapping from depth to value of the first metric, or to a mapping from metric to value
            NaN is missing, infinite is diverged.

        Raises
        ------
        InputError
            A depth or a value is no number, or a metric unknown.
        """
        values, notes = self._table(seen)
        if np.isinf(values).any():
            return Read(-1, math.nan, math.nan, True, tuple(notes))
        there = np.isfinite(values).any(axis=0)
        ends = np.flatnonzero(there[self.looks])
        if not len(ends):
            return Read(-1, self.outcome_mean, 0.0, False, tuple(notes))
        look = int(ends[-1])
        upto = np.arange(len(self.depths)) <= self.looks[look]
        known = (np.isfinite(values) & upto).ravel()
        missing = (np.isnan(values) & upto).ravel()
        notes += self._outside(values, known)
        off = (values - self.average).ravel()
        weights = self.weights[look].ravel()
        mean, excess = self.intercept[look] + weights[known] @ values.ravel()[known], 0.0
        if missing.any():
            # Relative to the standard deviations, so that metrics of any size are told apart.
            scale = np.sqrt(np.maximum(np.diag(self.covariance), np.finfo(float).tiny))
            relative = self.covariance / np.outer(scale, scale) + SMALLEST_SHARE * np.eye(len(scale))
            gain = np.linalg.solve(relative[np.ix_(known, known)], relative[np.ix_(known, missing)])
            filled = self.average.ravel()[missing] + scale[missing] * ((off[known] / scale[known]) @ gain)
            mean += weights[missing] @ filled
            left = relative[np.ix_(missing, missing)] - relative[np.ix_(missing, known)] @ gain
            pull = weights[missing] * scale[missing]
            excess = max(float(pull @ left @ pull), 0.0)
            notes.append(f"{missing.sum()} of {missing.sum() + known.sum()} values so far are missing, and filled")
        return Read(look, float(np.clip(mean, self.lowest, self.highest)), excess, False, tuple(notes))

    def _table(self, seen):
        """Values (M, J), NaN where there is none, and what was not used."""
        if not isinstance(seen, Mapping):
            raise InputError(
                f"it is a {type(seen).__name__}", "seen", "Give {depth: value} or {depth: {metric: value}}."
            )
        values = np.full((len(self.metrics), len(self.depths)), np.nan)
        unused = []
        for depth, given in seen.items():
            at = _number(depth, "a depth")
            near = np.flatnonzero(np.abs(self.depths - at) <= SAME_DEPTH * np.abs(self.depths))
            for metric, value in (given if isinstance(given, Mapping) else {self.metrics[0]: given}).items():
                if metric not in self.metrics:
                    raise InputError(f"no metric {metric!r}", "seen", f"The runs have {', '.join(self.metrics)}.")
                value = _number(value, f"{metric} at {at:g}", finite=False)
                if math.isinf(value) and not len(near):
                    values[self.metrics.index(metric), 0] = value
                elif len(near):
                    values[self.metrics.index(metric), near[0]] = value
            if not len(near):
                unused.append(f"{at:g}")
        few = f"{', '.join(unused[:3])}{', ...' if len(unused) > 3 else ''}"
        return values, [f"values at {few} are not used: the runs share none there"] if unused else []

    def _outside(self, values, known):
        """Says where a run is far from all that was regressed."""
        deviation = np.sqrt(np.diag(self.covariance))
        far = np.abs((values - self.average).ravel()[known]) > 5.0 * deviation[known] + 1e-9
        if not far.any():
            return []
        return [f"{far.sum()} values lie over 5 standard deviations off the runs': what follows is extrapolated"]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, content) -> "PrefixPredictor":
        """From what `to_dict` made."""
        there = dict(content)
        for name in ("depths", "intercept", "weights", "average", "covariance"):
            there[name] = np.array(there[name], float)
        return cls(**there | {"metrics": tuple(there["metrics"]), "looks": np.array(there["looks"], int)})

    @property
    def whole(self) -> bool:
        """Whether the parts fit together."""
        m, j, k = len(self.metrics), len(self.depths), len(self.looks)
        shapes = {"intercept": (k,), "weights": (k, m, j), "average": (m, j), "covariance": (m * j, m * j)}
        fits = all(getattr(self, name).shape == shape for name, shape in shapes.items())
        return fits and m > 0 and k > 0 and bool(np.all((self.looks >= 0) & (self.looks < j)))


@dataclasses.dataclass(frozen=True)
class Decision:
    """What to do with a run at an evaluation, and why.

    Attributes
    ----------
    action : str
        "stop": its expected value is below the cost that remains; "decided": let it finish, no further look is worth
        its price; "watch": evaluate next at `next_depth`.
    reason : str
        In words, with the figures behind it.
    depth : float
        Of the last look that was used; 0 before the first.
    next_depth : float or None
    mean, lower, upper : float or None
        Expected R and its 90% interval; None where the run diverged.
    p_above : float or None
        Probability that R is on the right side of the threshold.
    finishing, best : float or None
        Expected net value of finishing without a further look, and of the best that can be done, in the cost's unit;
        stopping has 0.
    notes : tuple of str
    """

    action: str
    reason: str
    depth: float
    next_depth: float | None = None
    mean: float | None = None
    lower: float | None = None
    upper: float | None = None
    p_above: float | None = None
    finishing: float | None = None
    best: float | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return dataclasses.asdict(self) | {"notes": list(self.notes)}


@dataclasses.dataclass(frozen=True, eq=False)
class WatchTable:
    """The best action at each look of a run and each distance of its expected R from the threshold.

    Row 0 is before the first look, row k + 1 at the k-th.

    Attributes
    ----------
    task, metric, depth_unit, proxy : str
    horizon : float
    higher_is_better : bool
    threshold : float
        What R is to reach.
    worth : float
        What a run is worth that does, in the cost's unit.
    cost_unit : str
    look_cost : float
        What a look costs.
    remaining : float array (K + 1,)
        What the rest of the run costs.
    predictor : PrefixPredictor
    margins : float array (G,)
        Expected R less the threshold, positive where that is good; evenly spaced.
    action : int array (K + 1, G)
    p_above, best : float arrays (K + 1, G)
        See `Decision`.
    lower, upper : float arrays (K + 1,)
        90% interval of R less its expectation.
    variance : float array (K + 1,)
        Posterior mean of the variance of R.
    bounds : pair of float or None
        What R cannot lie beyond.
    flags : tuple of str
        What a reader of a decision must know.
    """

    task: str
    metric: str
    depth_unit: str
    proxy: str
    horizon: float
    higher_is_better: bool
    threshold: float
    worth: float
    cost_unit: str
    look_cost: float
    remaining: np.ndarray
    predictor: PrefixPredictor
    margins: np.ndarray
    action: np.ndarray
    p_above: np.ndarray
    best: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    variance: np.ndarray
    bounds: tuple[float, float] | None = None
    flags: tuple[str, ...] = ()

    @property
    def depths(self) -> np.ndarray:
        """Depths of the looks, float array (K,)."""
        return self.predictor.depths[self.predictor.looks]

    def decide(self, seen, threshold: float | None = None) -> Decision:
        """What to do with a run that has shown these values.

        Parameters
        ----------
        seen : mapping from depth to value, or to a mapping from metric to value
            All evaluations so far; empty before the first.
        threshold : float, optional
            In place of the table's: what the best run so far reached, say.

        Raises
        ------
        InputError
            A depth, a value or the threshold is no number, or a metric unknown.
        """
        threshold = self.threshold if threshold is None else _number(threshold, "threshold")
        found = self.predictor.read(seen)
        row = found.look + 1
        depth = 0.0 if row == 0 else float(self.depths[found.look])
        if found.diverged:
            return Decision(
                "stop", f"stop: {self.metric} is not finite, the run has diverged", depth, notes=found.notes
            )
        sign = 1.0 if self.higher_is_better else -1.0
        margin = sign * (found.mean - threshold)
        place = int(np.clip(np.searchsorted(self._middles, margin), 0, len(self.margins) - 1))
        code = int(self.action[row, place])
        p_above, best = (float(np.interp(margin, self.margins, own[row])) for own in (self.p_above, self.best))
        finishing = self.worth * p_above - float(self.remaining[row])
        wider = math.sqrt(1.0 + found.excess / max(float(self.variance[row]), np.finfo(float).tiny))
        lower, upper = (found.mean + wider * float(own[row]) for own in (self.lower, self.upper))
        if self.bounds is not None:
            lower, upper = (min(max(end, self.bounds[0]), self.bounds[1]) for end in (lower, upper))
        action = "stop" if code == STOP else "decided" if code == DECIDED else "watch"
        next_depth = float(self.depths[code]) if action == "watch" else None
        figures = (found.mean, lower, upper, p_above, finishing, max(best, 0.0))
        reason = self._reason(action, depth, next_depth, threshold, *figures)
        return Decision(action, reason, depth, next_depth, *figures, notes=(*self.flags, *found.notes))

    @property
    def _middles(self):
        """Between the margins: each place is nearest to what lies between its two."""
        return 0.5 * (self.margins[1:] + self.margins[:-1])

    def _reason(self, action, depth, next_depth, threshold, mean, lower, upper, p_above, finishing, best):
        does = {
            "stop": "stop",
            "decided": "decided, let it finish",
            "watch": f"watch, evaluate next at {self.depth_unit} {next_depth or 0.0:g}",
        }[action]
        at = f"at {self.depth_unit} {depth:g}" if depth else "before the first look"
        chance = f"P({self.metric} {'>' if self.higher_is_better else '<'} {threshold:.4g}) = {p_above:.2f}"
        return (
            f"{does}: {at} {self.metric} is expected to end at {mean:.4g} (90%: {lower:.4g} to {upper:.4g}, proxy "
            f"{self.proxy}), {chance}; finishing is worth {finishing:.3g} and the best plan {best:.3g} (unit "
            f"{self.cost_unit}, less what remains to be paid)"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `WatchTable.from_dict` reads it."""
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        content = {name: _plain(value) for name, value in content.items() if name != "predictor"}
        for name in ("p_above", "best"):
            content[name] = [[float(f"{value:.{DIGITS}g}") for value in row] for row in content[name]]
        return {"schema": SCHEMA, "predictor": self.predictor.to_dict()} | content

    @classmethod
    def from_dict(cls, content, where: str = "watch table") -> "WatchTable":
        """From what `to_dict` made.

        Raises
        ------
        InputError
            It is something else, or of a later version.
        """
        remedy = "Make it with bayes_prehoc.watch_table and WatchTable.save."
        if not isinstance(content, Mapping) or "schema" not in content:
            raise InputError("it holds no watch table", where, remedy)
        if content["schema"] != SCHEMA:
            raise InputError(f"it has schema {content['schema']}, not {SCHEMA}", where, "Update bayes-prehoc.")
        there = {name: value for name, value in content.items() if name != "schema"}
        try:
            for name in ("remaining", "margins", "p_above", "best", "lower", "upper", "variance"):
                there[name] = np.array(there[name], float)
            there["action"] = np.array(there["action"], int)
            there["predictor"] = PrefixPredictor.from_dict(there["predictor"])
            bounds = None if there["bounds"] is None else tuple(map(float, there["bounds"]))
            made = cls(**there | {"bounds": bounds, "flags": tuple(there["flags"])})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"it is not a whole watch table ({error})", where, remedy) from None
        if not made.whole:
            raise InputError("its parts do not fit together", where, remedy)
        return made

    @property
    def whole(self) -> bool:
        """Whether the parts fit together, each with a row for each look and the one before."""
        rows = len(self.predictor.looks) + 1
        shapes = dict.fromkeys(("action", "p_above", "best"), (rows, len(self.margins)))
        shapes |= dict.fromkeys(("remaining", "lower", "upper", "variance"), (rows,))
        fits = all(getattr(self, name).shape == shape for name, shape in shapes.items())
        known = fits and bool(np.all((self.action >= STOP) & (self.action < rows - 1)))
        return known and self.predictor.whole

    def save(self, path) -> None:
        """Write the table as JSON, which `load_watch_table` reads.

        Raises
        ------
        InputError
            The folder does not exist.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise InputError("there is no such folder", str(path.parent), "Make it first.")
        path.write_text(json.dumps(self.to_dict(), allow_nan=False) + "\n", encoding="utf-8")


def load_watch_table(path) -> WatchTable:
    """Read a table that `WatchTable.save` wrote; needs NumPy only.

    Raises
    ------
    InputError
        No such file, or something else in it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("there is no such file", str(path), "Name a file that WatchTable.save wrote.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise InputError("it is not JSON", str(path), "Name a file that WatchTable.save wrote.") from None
    return WatchTable.from_dict(content, str(path))


def _number(value, what, finite=True):
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = None
    if found is None or isinstance(value, bool) or (finite and not math.isfinite(found)):
        raise InputError(f"{what} is {value!r}", "seen" if what != "threshold" else what, "Give a number.")
    return found


def _plain(value):
    """Plain Python."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value
