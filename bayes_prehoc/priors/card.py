"""The prior card: what a project learned of the hyperparameters, with its units, its provenance and its checks.

A card is a density of unconstrained coordinates (`transforms`), a mixture of normals (`mixture`), verified against
draws that it carries (`verify`). It names its sites and their shapes itself, so that a model with other hyperparameters
has cards of the same form. It holds no task's figures, and tasks' names only where asked for; of each run it has seen
there is a fingerprint, so that nobody uses a card on the data that it was made from.
"""

import dataclasses
import functools
import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from bayes_prehoc.errors import InputError
from bayes_prehoc.priors import mixture, validate
from bayes_prehoc.priors.about import Calibration, Provenance, Scope, Units
from bayes_prehoc.priors.mixture import Gaussians
from bayes_prehoc.priors.transforms import Site, constrained, unconstrained
from bayes_prehoc.priors.verify import Diagnostic, compare_with_draws
from bayes_prehoc.priors.worth import equivalent_tasks
from bayes_prehoc.risk.estimates import RiskEstimates

__all__ = ["FINGERPRINT", "MOST_COORDINATES", "MOST_DRAWS", "PriorCard", "Weak", "fingerprint", "make_card"]

MOST_COORDINATES = 200
MOST_DRAWS = 1000
"""Draws that a card carries."""
MOST_RUNS = 1_000_000
LEAST_SCALE = 1e-6
"""Standard deviation of a coordinate; none is known better."""
FARTHEST = 100.0
"""Of coordinates that are exponents or normal values of a quantile, and of their variance."""
FINGERPRINT = 16
"""Bytes of a run's fingerprint."""
SUMMARISED = 20_000
CENTRAL = (0.05, 0.5, 0.95)


@dataclasses.dataclass(frozen=True, eq=False)
class Weak:
    """The weak prior in the card's coordinates, independent normals.

    Attributes
    ----------
    mean, scale : float64 arrays (P,)
    """

    mean: Float[np.ndarray, " P"]
    scale: Float[np.ndarray, " P"]


@dataclasses.dataclass(frozen=True, eq=False)
class PriorCard:
    """A prior that travels; `make_card` makes one, `load_card` reads one, and `save` writes it.

    Attributes
    ----------
    scope : Scope
    provenance : Provenance
    sites : tuple of Site
        Their coordinates, one after the other, are the P coordinates of the card.
    mixture : Gaussians
    weak : Weak
    population : mapping from str to str
        Label of the coordinate that is a population mean, to that of the scale of tasks around it.
    draws : float64 array (S, P)
        What the mixture was made of, thinned.
    fingerprints : uint8 array (N, 16)
        One per run that it has seen, sorted.
    diagnostics : tuple of Diagnostic
        Of the fit, and the distances of the mixture from the draws.
    calibration : tuple of Calibration

    Raises
    ------
    InputError
        A field is of another type, shape or size than its kind may have, a covariance is not positive definite, or the
        mixture is not that of the draws.
    """

    scope: Scope
    provenance: Provenance
    sites: tuple[Site, ...]
    mixture: Gaussians
    weak: Weak
    population: Mapping[str, str]
    draws: Float[np.ndarray, "S P"]
    fingerprints: UInt8[np.ndarray, "N 16"]
    diagnostics: tuple[Diagnostic, ...] = ()
    calibration: tuple[Calibration, ...] = ()

    def __post_init__(self):
        _check(self)

    def __repr__(self):
        about = self.provenance
        return f"PriorCard {about.name!r} of {about.tasks} tasks, {about.runs} runs, proxy {self.scope.proxy}"

    @property
    def name(self) -> str:
        """Its name."""
        return self.provenance.name

    @functools.cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the P coordinates."""
        return tuple(label for site in self.sites for label in site.labels)

    @functools.cached_property
    def places(self) -> dict[str, slice]:
        """Where the coordinates of each site lie."""
        ends = np.cumsum([0, *(len(site.labels) for site in self.sites)]).tolist()
        return {site.name: slice(*pair) for site, pair in zip(self.sites, itertools.pairwise(ends), strict=True)}

    def log_density(self, y):
        """Log density of unconstrained coordinates.

        Parameters
        ----------
        y : array (..., P)
            NumPy's are computed in float64, JAX's (traced ones too) by JAX in their own precision.

        Returns
        -------
        array (...)
        """
        return mixture.log_density(self.mixture, y)

    def sample(self, number: int, *, seed: int = 0) -> Float[np.ndarray, "N P"]:
        """Independent draws of the coordinates; `values` says what they stand for.

        Raises
        ------
        InputError
            `number` or `seed` is no whole number.
        """
        rng = np.random.default_rng(validate.count(seed, "seed"))
        return mixture.sample(rng, self.mixture, validate.count(number, "number", least=1))

    def values(self, y: Float[np.ndarray, "S P"]) -> dict[str, np.ndarray]:
        """Hyperparameters at coordinates, arrays (S, *shape) by site."""
        return {site.name: constrained(site, y[:, self.places[site.name]]) for site in self.sites}

    def coordinates(self, values: Mapping[str, np.ndarray]) -> Float[np.ndarray, "S P"]:
        """The inverse of `values`.

        Raises
        ------
        InputError
            A site is missing, or a value is of another shape or out of range.
        """
        return _coordinates(values, self.sites)

    def marginal(self, labels: Sequence[str]) -> Gaussians:
        """The density of some coordinates alone, in the order of their labels.

        Raises
        ------
        InputError
            A label is not the card's.
        """
        unknown = [label for label in labels if label not in self.labels]
        if unknown:
            raise InputError(f"it has no coordinate {unknown[0]!r}", f"card {self.name}", f"It has {self.labels}.")
        return mixture.marginal(self.mixture, [self.labels.index(label) for label in labels])

    def summary(self) -> pd.DataFrame:
        """One row per element of each site: median and 90% interval (`lower`, `upper`) in the hyperparameter's own
        unit, and `narrowing`, the weak prior's standard deviation over the card's, in coordinates.

        Correlation matrices have the elements below the diagonal. A fixed sample is summarised.
        """
        values = self.values(self.sample(SUMMARISED))
        spread = np.sqrt(np.diag(mixture.moments(self.mixture)[1]))
        rows = []
        for site in self.sites:
            found = values[site.name]
            if site.transform.kind == "correlation":
                found = found[(slice(None), *np.tril_indices(site.shape[0], -1))]
            quantiles = np.quantile(found.reshape(len(found), -1), CENTRAL, axis=0)
            at = self.places[site.name]
            for label, (lower, median, upper), ratio in zip(
                site.labels, quantiles.T, self.weak.scale[at] / spread[at], strict=True
            ):
                rows.append({"of": label, "median": median, "lower": lower, "upper": upper, "narrowing": ratio})
        return pd.DataFrame(rows).set_index("of")

    @functools.cached_property
    def equivalent_tasks(self) -> dict[str, float]:
        """What the prior of each population mean is worth, in tasks whose curves are known exactly (`worth`), from the
        card's draws."""
        values = {}
        for site in self.sites:
            if site.transform.kind != "correlation":
                found = constrained(site, self.draws[:, self.places[site.name]])
                values |= dict(zip(site.labels, found.reshape(len(found), -1).T, strict=True))
        return {
            mean: equivalent_tasks(self.mixture, self.labels.index(mean), values[mean], values[scale])
            for mean, scale in self.population.items()
        }

    def seen(self, hashes: Iterable[str]) -> list[str]:
        """Which of these runs, by their hashes, the card was made from."""
        return [own for own in hashes if fingerprint(own) in self._known]

    def converted(self, units: Units) -> "PriorCard":
        """The same card in other units: logarithms of depths and risks move by the logarithm of the ratio."""
        shift = np.zeros(len(self.labels))
        for site in self.sites:
            if site.log_of is not None:
                before, after = (getattr(own, site.log_of) for own in (self.scope.units, units))
                shift[self.places[site.name]] = math.log(before) - math.log(after)
        return dataclasses.replace(
            self,
            scope=dataclasses.replace(self.scope, units=units),
            mixture=self.mixture._replace(mean=self.mixture.mean + shift),
            weak=dataclasses.replace(self.weak, mean=self.weak.mean + shift),
            draws=self.draws + shift,
        )

    def for_estimates(self, estimates: RiskEstimates, reference_depth: float) -> "PriorCard":
        """The card as a prior for these estimates: in the units of the model, horizons and squared outcome scales.

        Parameters
        ----------
        estimates : RiskEstimates
        reference_depth : float
            c_0 of the model, a share of the horizon.

        Raises
        ------
        InputError
            The card has seen runs of these estimates (the error names the tasks), is of another proxy, or has another
            reference depth, which changes what level and share mean and cannot be converted.
        """
        where = f"card {self.name}"
        if estimates.proxy != self.scope.proxy:
            raise InputError(
                f"it is of the proxy {self.scope.proxy}, the estimates are of {estimates.proxy}",
                where,
                "Proxies are never pooled: estimate by the same one, or take another card.",
            )
        if not math.isclose(reference_depth, self.scope.reference_depth, rel_tol=1e-9):
            raise InputError(
                f"its level and share are at {self.scope.reference_depth:g} of the horizon, the model's at "
                f"{reference_depth:g}, which cannot be converted",
                where,
                "Take a card of the same reference depth, or refit it.",
            )
        twice = [task.task for task in estimates if self.seen(task.hashes)]
        if twice:
            shown = ", ".join(map(repr, twice[:8])) + (f" and {len(twice) - 8} more" if len(twice) > 8 else "")
            raise InputError(
                f"it was fitted on runs of {shown}, which would count twice",
                where,
                "Leave these tasks out, or fit without the card.",
            )
        return self.converted(Units())

    def save(self, path) -> None:
        """Write the card as a folder, which `load_card` reads.

        Raises
        ------
        InputError
            There is something else at that place, or it cannot be written.
        """
        from bayes_prehoc.priors.files import save_card

        save_card(self, path)

    @functools.cached_property
    def _known(self) -> frozenset[bytes]:
        return frozenset(row.tobytes() for row in self.fingerprints)


def make_card(
    values: Mapping[str, np.ndarray],
    sites: Sequence[Site],
    weak: Weak,
    scope: Scope,
    provenance: Provenance,
    *,
    hashes: Iterable[str],
    ancestors: Sequence[PriorCard] = (),
    population: Mapping[str, str] | None = None,
    effective: float | None = None,
    diagnostics: Sequence[Diagnostic] = (),
    calibration: Sequence[Calibration] = (),
) -> PriorCard:
    """A card from draws of the hyperparameters.

    Parameters
    ----------
    values : mapping from site to array (S, *shape)
    sites : sequence of Site
    weak : Weak
        The weak prior, whose information is in the draws too.
    scope : Scope
    provenance : Provenance
    hashes : iterable of str
        One per run behind the draws, as `TaskEstimates.hashes` has them.
    ancestors : sequence of PriorCard
        Cards that the fit itself had as its prior. What they have seen, this card has seen.
    population : mapping from str to str, optional
    effective : float, optional
        What the draws count as: of chains the effective number of the worst hyperparameter. Default: S.
    diagnostics, calibration : sequences

    Raises
    ------
    InputError
        The draws do not fit the sites, are too few for a mixture or do not vary, or no mixture of at most four normals
        is near them.
    """
    sites = tuple(sites)
    draws = _coordinates(values, sites)
    number, size = draws.shape
    if (number if effective is None else effective) < 2 * (size + 1):
        raise InputError(
            f"{number} draws ({effective} effective) of {size} hyperparameters", "make_card", "Fit with more draws."
        )
    try:
        made = mixture.fit_gaussians(draws, effective)
    except np.linalg.LinAlgError:
        raise InputError(
            "the draws do not vary in every direction",
            "make_card",
            "Leave out what is constant or follows from others.",
        ) from None
    kept = draws[np.unique(np.linspace(0, number - 1, min(number, MOST_DRAWS)).astype(int))]
    labels = tuple(label for site in sites for label in site.labels)
    found = {fingerprint(own) for own in hashes} | {own for card in ancestors for own in card._known}
    return PriorCard(
        scope=scope,
        provenance=provenance,
        sites=sites,
        mixture=made,
        weak=weak,
        population=dict(population or {}),
        draws=kept,
        fingerprints=np.frombuffer(b"".join(sorted(found)), np.uint8).reshape(-1, FINGERPRINT),
        diagnostics=(*diagnostics, *compare_with_draws(made, kept, labels)),
        calibration=tuple(calibration),
    )


def fingerprint(run_hash: str) -> bytes:
    """What stands for a run in a card: 16 bytes of the SHA-256 of its hash."""
    return hashlib.sha256(run_hash.encode()).digest()[:FINGERPRINT]


def _coordinates(values, sites):
    missing = [site.name for site in sites if site.name not in values]
    if missing:
        raise InputError(f"there are no values of {missing[0]!r}", "coordinates", "Give an array for every site.")
    return np.concatenate([unconstrained(site, values[site.name]) for site in sites], axis=1)


def _check(card):
    for field, kind in (("scope", Scope), ("provenance", Provenance), ("mixture", Gaussians), ("weak", Weak)):
        if not isinstance(getattr(card, field), kind):
            raise InputError(f"it is a {type(getattr(card, field)).__name__}", field, f"Give a {kind.__name__}.")
    where = f"card {card.name}"
    labels = validate.names(card.labels, "labels", MOST_COORDINATES)
    validate.names([site.name for site in card.sites], "sites", MOST_COORDINATES)
    size = len(labels)
    components = len(card.mixture.weight)
    if not 1 <= components <= mixture.MOST:
        raise InputError(f"{components} components", where, f"A mixture has 1 to {mixture.MOST}.")
    shapes = ((components,), (components, size), (components, size, size))
    weight, _, covariance = validate.tuple_of_arrays(card.mixture, shapes, "mixture")
    validate.tuple_of_arrays((card.weak.mean, card.weak.scale), ((size,),) * 2, "weak")
    if not np.all(card.weak.scale >= LEAST_SCALE):
        raise InputError("a scale is not positive", "weak", f"Give standard deviations of {LEAST_SCALE:g} or more.")
    if not np.all(weight > 0.0) or abs(weight.sum() - 1.0) > 1e-9:
        raise InputError("the weights are not positive, or do not add up to one", "mixture", "Give shares.")
    if np.any(covariance != np.swapaxes(covariance, 1, 2)):
        raise InputError("a covariance is not symmetric", "mixture", "Give symmetric matrices.")
    variances = np.linalg.eigvalsh(covariance)
    if not np.all(variances[:, 0] > LEAST_SCALE**2 * np.maximum(variances[:, -1], 1.0)):
        raise InputError("a covariance is not positive definite", "mixture", "Give covariances of full rank.")
    number = len(card.draws)
    if not 1 <= number <= MOST_DRAWS:
        raise InputError(f"{number} draws", where, f"A card has 1 to {MOST_DRAWS}.")
    validate.tuple_of_arrays((card.draws,), ((number, size),), "draws")
    _check_range(card, where)
    _check_fingerprints(card.fingerprints, where)
    _check_population(card)
    for distance in compare_with_draws(card.mixture, card.draws, labels):
        if not distance.passed:
            raise InputError(
                f"its mixture is not that of its draws ({distance.name} {distance.value:.2g} at {distance.worst}, "
                f"at most {distance.threshold:g})",
                where,
                "Make the card again from more draws; a posterior that four normals do not describe cannot travel.",
            )
    for check in card.diagnostics:
        validate.text(check.name, "diagnostics")
        validate.text(check.worst, f"diagnostics, {check.name}", empty=True)
        validate.number(check.value, f"diagnostics, {check.name}")
        validate.number(check.threshold, f"diagnostics, {check.name}")
        if check.passed is not True:
            raise InputError(f"the check {check.name!r} was not passed", where, "What did not converge is no prior.")


def _check_range(card, where):
    """Refuse coordinates so far out that what they stand for is beyond all numbers."""
    for site in card.sites:
        at = card.places[site.name]
        variance = np.diagonal(card.mixture.covariance, axis1=1, axis2=2)[:, at]
        near = max(np.abs(card.mixture.mean[:, at]).max(), np.abs(card.draws[:, at]).max())
        if site.transform.kind != "identity" and (near > FARTHEST or variance.max() > FARTHEST):
            raise InputError(
                f"its site {site.name!r} lies at {near:.3g}", where, f"Give coordinates up to {FARTHEST:g}."
            )


def _check_fingerprints(found, where):
    if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.shape[1:] != (FINGERPRINT,):
        raise InputError("fingerprints of runs are not bytes", where, f"Give an array (N, {FINGERPRINT}) of them.")
    if not 1 <= len(found) <= MOST_RUNS:
        raise InputError(f"it has seen {len(found)} runs", where, f"Give the hashes of 1 to {MOST_RUNS} runs.")


def _check_population(card):
    by_label = {label: site for site in card.sites for label in site.labels}
    for mean, scale in card.population.items():
        for label, kinds in ((mean, ("identity",)), (scale, ("log", "half_normal", "exponential"))):
            if label not in by_label or by_label[label].transform.kind not in kinds:
                raise InputError(
                    f"{ascii(label)[:80]} is no coordinate of the kinds {kinds}", "population", "Name means and scales."
                )
