"""Prior cards as the prior of a fit: what a card says in the terms of this model, and the tilt that follows.

A card is of another project's tasks, and projects differ: what one says of another is wider than itself
(`priors.heterogeneity`). A combination of several allows for that already.

Coordinates that this model lacks (kinds of metric and families that do not occur) are integrated out, which leaves the
others as they are. Where one model has families as a level and the other has not, population means are of something
else, and are moved before:

- A card with families, a model without: where all tasks are of one family, the model's means are that family's. They
  are moved by its effect, or by one from the population of families where the card does not know it. Tasks of several
  families, too few for a level, differ by more: the spread between families is added to that between tasks.
- A card without families, a model with: the card's means are those of one family, or of a mixture of them, whose effect
  is taken off as one that nobody knows; the spread between families goes with it.

What a card with covariates says of slopes is left out as `cards.without_covariates` does. Cards that transform a
hyperparameter otherwise than the model are expressed in its coordinates. Each is done to draws of the card, of which a
mixture is made again.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.basis import NO_FAMILY, Basis, family_of
from bayes_prehoc.hierarchy.cards import sites_of, wider, within, without_covariates
from bayes_prehoc.hierarchy.data import REFERENCE_DEPTH
from bayes_prehoc.hierarchy.model import (
    FAMILY_SPREAD,
    LATENTS,
    MOST_MISFIT,
    OF_COVARIATES,
    OF_FAMILIES,
    Hyperprior,
)
from bayes_prehoc.hierarchy.target import PARTIAL_BETA
from bayes_prehoc.hierarchy.tilt import Tilt, tilt_of
from bayes_prehoc.priors import PriorCard, Site, Weak, combine, load_card
from bayes_prehoc.priors.heterogeneity import of_new_project
from bayes_prehoc.priors.meta import is_named
from bayes_prehoc.priors.mixture import Gaussians, fit_gaussians, moments, sample
from bayes_prehoc.priors.transforms import unconstrained
from bayes_prehoc.risk.estimates import RiskEstimates

__all__ = ["Informed", "card_for", "card_in_terms_of", "informed_by"]

DRAWS, KEPT = 2000, 1000
"""Draws of a card that is expressed in other terms, and those that it carries then."""


def card_for(prior, estimates: RiskEstimates, hyperprior: Hyperprior, basis: Basis, seed: int) -> PriorCard:
    """The card that `fit` is given, or the combination of several, as a prior for these estimates.

    Parameters
    ----------
    prior : str, path, PriorCard, or sequence of these
    estimates : RiskEstimates
    hyperprior : Hyperprior
        The weak prior.
    basis : Basis
        The columns of the fit.
    seed : int
        Of the combination.

    Raises
    ------
    InputError
        No such card, several cards that cannot be combined, or one that `PriorCard.for_estimates` refuses.
    """
    several = list(prior) if isinstance(prior, Sequence) and not isinstance(prior, str) else [prior]
    if not several:
        raise InputError("there are no cards", "prior", "Leave it out to use the weak prior.")
    cards = [own if isinstance(own, PriorCard) else load_card(own) for own in several]
    cards = [card_in_terms_of(own.for_estimates(estimates, REFERENCE_DEPTH), estimates, hyperprior, basis)
             for own in cards]  # fmt: skip
    if len(cards) == 1:
        return cards[0]
    return combine(cards, "-".join(card.name for card in cards)[:64], seed=seed).card


class Informed(NamedTuple):
    """A card as the prior of a model with P hyperparameters, of which it speaks of K.

    Attributes
    ----------
    density : Gaussians
        Of the K coordinates, for a new project.
    places : array (K,)
        Where they are in the coordinates x of `target`.
    weak : Weak
        The weak prior of x.
    tilt : Tilt
    """

    density: Gaussians
    places: Int[np.ndarray, " K"]
    weak: Weak
    tilt: Tilt

    def draw(self, rng: np.random.Generator, number: int) -> Float[np.ndarray, "N P"]:
        """Independent draws of x; what the card does not speak of is drawn from the weak prior."""
        x = self.weak.mean + self.weak.scale * rng.normal(size=(number, len(self.weak.mean)))
        x[:, self.places] = sample(rng, self.density, number)
        return x

    def moments(self) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, "P P"]]:
        """Mean and covariance of x."""
        mean, covariance = self.weak.mean.copy(), np.diag(self.weak.scale**2)
        mean[self.places], covariance[np.ix_(self.places, self.places)] = moments(self.density)
        return mean, covariance


def informed_by(card: PriorCard, hyperprior: Hyperprior, proxy: str, basis: Basis) -> Informed:
    """What turns the weak prior of a model with these columns into the card where that says anything.

    Raises
    ------
    InputError
        The card and the model have no hyperparameter in common.
    """
    sites, weak = sites_of(hyperprior, proxy, basis)
    # In the order of the sampler's coordinates, which have the Cholesky factor of the correlations.
    order = sorted(sites, key=lambda site: "corr_chol" if site.name == "corr" else site.name)
    by_label = _by_label(sites, weak)
    labels = [label for site in order for label in site.labels]
    weak = _in_order(labels, by_label)
    # Tasks that name no family are of another one in each project.
    known = set(filter(is_named, card.labels))
    places = np.array([place for place, label in enumerate(labels) if label in known], int)
    if not len(places):
        raise InputError("it knows none of this model's hyperparameters", f"card {card.name}", "Take another card.")
    spoken = [labels[place] for place in places]
    correlations = next(site for site in sites if site.name == "corr").labels
    partial = np.array([row for row, label in enumerate(spoken) if label in correlations], int)
    b = np.array([float(PARTIAL_BETA[correlations.index(spoken[row])]) for row in partial])
    before = _in_order(spoken, by_label)
    density = card.marginal(spoken)
    if card.provenance.projects == 1:
        density = _of_new_project(density, before)
    return Informed(density, places, weak, tilt_of(density, before, places, partial, b))


def card_in_terms_of(card: PriorCard, estimates: RiskEstimates, hyperprior: Hyperprior, basis: Basis) -> PriorCard:
    """The card in the terms of a model with these columns; itself where they are the same."""
    sites, weak = sites_of(hyperprior, estimates.proxy, basis)
    own = {site.name: site for site in sites}
    theirs = {site.name: site for site in card.sites}
    other_families = ("family_white" in own) != ("family_white" in theirs)
    other_terms = [name for name in own.keys() & theirs.keys() if own[name].transform != theirs[name].transform]
    if not (other_families or other_terms or theirs.keys() & set(OF_COVARIATES)):
        return card
    missing = sorted({"tau", "corr", *(OF_FAMILIES if "family_white" in theirs else ())} - theirs.keys())
    if missing:
        raise InputError(f"it lacks {missing[0]}", f"card {card.name}", "Make it again from its posterior.")
    rng = np.random.default_rng(0)
    values = without_covariates(card.values(card.sample(DRAWS)))
    if other_families and "family_white" in theirs:
        values = _without_families(rng, values, card, {family_of(task) for task in estimates})
    elif other_families:
        values = _off_unknown_family(rng, values, hyperprior)
    kept = [
        dataclasses.replace(site, transform=own[site.name].transform) if site.name in own else site
        for site in (*card.sites, *(site for site in sites if site.name not in theirs))
        if site.name in values
    ]
    return _remade(card, kept, values, _by_label(card.sites, card.weak) | _by_label(sites, weak))


def _of_new_project(project, weak):
    """A density that allows for how projects differ (`priors.heterogeneity`), of one project's."""
    standard = Gaussians(
        project.weight, (project.mean - weak.mean) / weak.scale, project.covariance / np.outer(weak.scale, weak.scale)
    )
    made = of_new_project(standard)
    return Gaussians(
        made.weight, weak.mean + weak.scale * made.mean, made.covariance * np.outer(weak.scale, weak.scale)
    )


def _without_families(rng, values, card, families):
    """Hyperparameters of a model that has no families, where the tasks are of these."""
    tau, white = values["tau_family"], values["family_white"]
    of_one = {"family_onset": values["family_onset"], "family_misfit": values["family_misfit"]}
    number = len(tau)
    effect, onset, misfit = rng.normal(size=(number, 3)), *rng.normal(size=(2, number))
    known = [label.removeprefix("family_onset[").removesuffix("]") for label in card.labels if "family_onset[" in label]
    (family, *others) = sorted(families)
    if others:
        values = values | wider(values, tau[:, :, None] ** 2 * np.eye(3))
        effect = np.zeros((number, 3))
    elif family in known and family != NO_FAMILY:
        at = known.index(family)
        effect, onset, misfit = white[:, at], *(own[:, at] for own in of_one.values())
    moved = _moved(values, tau * effect, onset, misfit)
    return {name: own for name, own in moved.items() if name not in OF_FAMILIES}


def _off_unknown_family(rng, values, hyperprior):
    """Hyperparameters of all families, where those of one that nobody knows are given."""
    number = len(values["tau"])
    tau = np.abs(rng.normal(size=(number, 3))) * np.array(hyperprior.tau_family)
    moved = _moved(values, tau * rng.normal(size=(number, 3)), *rng.normal(size=(2, number)))
    return moved | {"tau_family": tau}


def _moved(values, effect, onset, misfit):
    """Population means, onset and misfit moved by what a family does to them."""
    found = dict(values)
    for place, latent in enumerate(LATENTS):
        if f"mu_{latent}" in found:
            mean = found[f"mu_{latent}"]
            found[f"mu_{latent}"] = mean + effect[:, place].reshape(-1, *[1] * (mean.ndim - 1))
    if "log_onset" in found:
        found["log_onset"] = found["log_onset"] + FAMILY_SPREAD * onset
    if "misfit" in found:
        found["misfit"] = np.minimum(found["misfit"] * np.exp(FAMILY_SPREAD * misfit), MOST_MISFIT)
    return found


def _by_label(sites, weak):
    """Mean and scale of the weak prior of each coordinate."""
    labels = [label for site in sites for label in site.labels]
    return dict(zip(labels, zip(weak.mean, weak.scale, strict=True), strict=True))


def _in_order(labels, by_label):
    """The weak prior of these coordinates."""
    return Weak(*(np.array(part, np.float64) for part in zip(*(by_label[label] for label in labels), strict=True)))


def _remade(card: PriorCard, sites: Sequence[Site], values, weak) -> PriorCard:
    """A card of these values of the same project; `weak` as `_by_label` gives it."""
    draws = np.concatenate([unconstrained(site, within(values[site.name], site.transform)) for site in sites], axis=1)
    labels = [label for site in sites for label in site.labels]
    return dataclasses.replace(
        card,
        sites=tuple(sites),
        mixture=fit_gaussians(draws),
        weak=_in_order(labels, weak),
        population={mean: scale for mean, scale in card.population.items() if {mean, scale} <= set(labels)},
        draws=draws[np.linspace(0, len(draws) - 1, KEPT).astype(int)],
    )
