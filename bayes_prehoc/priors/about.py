"""What a card says about itself: what it speaks of, in which units, where it comes from, how it was calibrated."""

import dataclasses
import datetime
import importlib.metadata

from bayes_prehoc.errors import InputError
from bayes_prehoc.priors import validate

__all__ = ["MOST_NAMES", "Calibration", "Provenance", "Scope", "Units"]

MOST_NAMES = 20_000
"""Tasks, families and kinds of metric that a card names."""
PROXIES = ("conditional", "branching", "run_to_run")


@dataclasses.dataclass(frozen=True)
class Units:
    """What the logarithms of depths and of risks in a card are logarithms of.

    Attributes
    ----------
    depth : float
        The unit of depth, in horizons of the task.
    risk : float
        The unit of risk, in squared outcome scales of the task.
    """

    depth: float = 1.0
    risk: float = 1.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            validate.number(getattr(self, field.name), f"units, {field.name}", positive=True)


@dataclasses.dataclass(frozen=True)
class Scope:
    """What a card speaks of.

    Attributes
    ----------
    proxy : str
    reference_depth : float
        c_0, a share of the horizon, where level and share are taken.
    metric_kinds : tuple of str
    families : tuple of str
        Families of tasks that have hyperparameters of their own, or that the tasks were of.
    units : Units
    """

    proxy: str
    reference_depth: float
    metric_kinds: tuple[str, ...]
    families: tuple[str, ...] = ()
    units: Units = Units()

    def __post_init__(self):
        if self.proxy not in PROXIES:
            raise InputError(f"the proxy is {ascii(self.proxy)[:80]}", "scope", f"Proxies are {', '.join(PROXIES)}.")
        if not 0.0 < validate.number(self.reference_depth, "reference_depth") <= 1.0:
            raise InputError(f"it is {self.reference_depth}", "reference_depth", "Give a share of the horizon.")
        validate.names(self.metric_kinds, "metric_kinds", MOST_NAMES)
        validate.names(self.families, "families", MOST_NAMES)
        if not isinstance(self.units, Units):
            raise InputError(f"they are a {type(self.units).__name__}", "units", "Give Units.")


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a card comes from and how it may be used.

    Attributes
    ----------
    name : str
        Letters, digits, '.', '-' and '_'.
    tasks, runs : int
        How many are behind it.
    description : str
    licence : str
        An SPDX identifier, or a name.
    citation : str
        How to cite it.
    fitted_under : str
        The prior that it was itself fitted under.
    task_names : tuple of str or None
    projects : int
        Cards that were combined in it; 1 where it is a fit's own.
    made_by, created : str
        The package with its version, and the day (ISO 8601).
    """

    name: str
    tasks: int
    runs: int
    description: str = ""
    licence: str = "unknown"
    citation: str = ""
    fitted_under: str = "weak prior"
    task_names: tuple[str, ...] | None = None
    projects: int = 1
    made_by: str = dataclasses.field(
        default_factory=lambda: f"bayes-prehoc {importlib.metadata.version('bayes-prehoc')}"
    )
    created: str = dataclasses.field(default_factory=lambda: datetime.datetime.now(datetime.UTC).date().isoformat())

    def __post_init__(self):
        validate.short_name(self.name, "name")
        for field in ("tasks", "runs", "projects"):
            validate.count(getattr(self, field), field, least=1)
        for field in ("description", "citation"):
            validate.text(getattr(self, field), field, validate.LONGEST_TEXT, lines=True, empty=True)
        for field in ("licence", "fitted_under", "made_by"):
            validate.text(getattr(self, field), field)
        if self.task_names is not None and len(validate.names(self.task_names, "task_names", MOST_NAMES)) != self.tasks:
            raise InputError(f"{len(self.task_names)} names of {self.tasks} tasks", "task_names", "Give all or none.")
        try:
            datetime.date.fromisoformat(validate.text(self.created, "created"))
        except ValueError:
            raise InputError(f"{ascii(self.created)[:80]} is no day", "created", "Give it as 2026-11-27.") from None


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A figure of how well the model behind a card is calibrated, as benchmarks write it; `met` of a target, if any."""

    name: str
    value: float
    unit: str = ""
    target: str = ""
    met: bool | None = None

    def __post_init__(self):
        validate.text(self.name, "calibration")
        where = f"calibration, {self.name}"
        validate.number(self.value, where)
        validate.text(self.unit, where, empty=True)
        validate.text(self.target, where, empty=True)
        if self.met not in (True, False, None):
            raise InputError("'met' is neither true nor false", where, "Say whether the target was met, or nothing.")
