"""Cards of several projects as one card for a new project (`heterogeneity` has the mathematics)."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayes_prehoc.errors import InputError
from bayes_prehoc.priors import mixture, validate
from bayes_prehoc.priors.about import Provenance, Scope, Units
from bayes_prehoc.priors.card import PriorCard, Weak
from bayes_prehoc.priors.heterogeneity import ESS, R_HAT, evidence_of, predictive
from bayes_prehoc.priors.verify import Diagnostic, compare_with_draws

__all__ = ["Combination", "combine", "is_named"]

FITTED, KEPT = 4000, 1000
"""Draws that a combined card's mixture is made of, and that it carries."""
UNNAMED = ("[]", "[, ")
"""In labels of what has no name, such as the family of tasks that name none."""


@dataclasses.dataclass(frozen=True, eq=False)
class Combination:
    """What `combine` returns.

    Attributes
    ----------
    card : PriorCard
        The prior for a new project.
    heterogeneity : DataFrame
        By coordinate: median and 90% interval (`lower`, `upper`) of the standard deviation h between projects, in the
        coordinate's unit.
    """

    card: PriorCard
    heterogeneity: pd.DataFrame


def combine(
    cards: Sequence[PriorCard],
    name: str,
    *,
    description: str | None = None,
    licence: str | None = None,
    citation: str | None = None,
    seed: int = 0,
) -> Combination:
    """The prior of a new project, of which cards of other projects tell as far as projects are alike.

    Parameters
    ----------
    cards : sequence of PriorCard
        Two or more, each of one project.
    name : str
        Of the new card.
    description, licence, citation : str, optional
        As in `Provenance`. Default: the names of the cards; their licence where all have the same one, else "unknown";
        all their citations.
    seed : int

    Raises
    ------
    InputError
        There are fewer than two, a card is itself a combination, two have seen the same run, or they differ in proxy,
        reference depth, weak prior, in which sites they have or in how one is transformed; or the chains of the
        heterogeneity do not agree.

    Notes
    -----
    Of lists by name, such as levels by kind of metric and effects by family, a card may have any part: what has the
    same name is taken to be alike as far as projects are. What has no name is another thing in each project, and left
    out.
    """
    cards = [_named(card.converted(Units())) for card in cards]
    _check_alike(cards)
    sites, weak = _union(cards)
    labels = [label for site in sites for label in site.labels]
    at = [np.array([labels.index(label) for label in card.labels]) for card in cards]
    means, covariances = [], []
    for card in cards:
        mean, covariance = mixture.moments(card.mixture)
        means.append((mean - card.weak.mean) / card.weak.scale)
        covariances.append(covariance / np.outer(card.weak.scale, card.weak.scale))
    rng = np.random.default_rng(validate.count(seed, "seed"))
    found = predictive(rng, evidence_of(means, covariances, at, len(labels)))
    draws = weak.mean + weak.scale * _spread(found.theta, FITTED)
    kept = _spread(draws, KEPT)
    made = mixture.fit_gaussians(draws)
    diagnostics = (
        Diagnostic("heterogeneity_r_hat", found.r_hat <= R_HAT, found.r_hat, R_HAT, "worst of all"),
        Diagnostic("heterogeneity_ess", found.ess >= ESS, found.ess, ESS, "worst of all"),
    )
    quantiles = np.quantile(weak.scale * found.heterogeneity, (0.5, 0.05, 0.95), axis=0)
    card = PriorCard(
        scope=_scope(cards),
        provenance=_provenance(cards, name, {"description": description, "licence": licence, "citation": citation}),
        sites=sites,
        mixture=made,
        weak=weak,
        population={mean: scale for card in cards for mean, scale in card.population.items()},
        draws=kept,
        fingerprints=np.unique(np.concatenate([card.fingerprints for card in cards]), axis=0),
        diagnostics=(*diagnostics, *compare_with_draws(made, kept, tuple(labels))),
    )
    return Combination(
        card, pd.DataFrame(dict(zip(("median", "lower", "upper"), quantiles, strict=True)), index=labels)
    )


def _spread(draws, number):
    return draws[np.linspace(0, len(draws) - 1, number).astype(int)]


def _check_alike(cards):
    if len(cards) < 2:
        raise InputError(f"{len(cards)} cards", "combine", "Give two or more.")
    first, owners = cards[0], {}
    everywhere = {site.name: card.name for card in cards for site in card.sites if not _is_list(site)}
    for card in cards:
        where = f"card {card.name}"
        if card.provenance.projects > 1:
            raise InputError("it is a combination itself", where, "Combine the cards that it was made of.")
        for field in ("proxy", "reference_depth"):
            mine, other = getattr(card.scope, field), getattr(first.scope, field)
            if mine != other:
                raise InputError(
                    f"its {field} is {mine}, that of {first.name} is {other}", where, "Combine cards that are alike."
                )
        there = {site.name for site in card.sites}
        lacking = [name for name in everywhere if name not in there]
        if lacking:
            raise InputError(
                f"it has no site {lacking[0]!r}, which {everywhere[lacking[0]]} has, so others mean something else",
                where,
                "Combine cards of the same model; a fit that is given both puts them in its own terms first.",
            )
        for row in card.fingerprints:
            other = owners.setdefault(row.tobytes(), card)
            if other is not card:
                raise InputError(
                    f"it has seen a run that {other.name} has seen too", where, "Combine cards of different runs."
                )


def is_named(label: str) -> bool:
    """Whether a coordinate is of something that has a name."""
    return not any(part in label for part in UNNAMED)


def _named(card):
    """The card without what has no name."""
    kept = [place for place, label in enumerate(card.labels) if is_named(label)]
    if len(kept) == len(card.labels):
        return card
    sites = [(site, tuple(filter(is_named, site.labels))) for site in card.sites]
    labels = [label for _, own in sites for label in own]
    return dataclasses.replace(
        card,
        sites=tuple(_relabelled(site, own) for site, own in sites if own),
        mixture=mixture.marginal(card.mixture, kept),
        weak=Weak(card.weak.mean[kept], card.weak.scale[kept]),
        population={mean: scale for mean, scale in card.population.items() if {mean, scale} <= set(labels)},
        draws=card.draws[:, kept],
    )


def _relabelled(site, labels):
    """A list by name with other names."""
    if labels == site.labels:
        return site
    return dataclasses.replace(site, shape=(len(labels) // math.prod(site.shape[1:]), *site.shape[1:]), labels=labels)


def _union(cards):
    """Sites with all coordinates that any card has, and the weak prior of them."""
    sites, weak = {}, {}
    for card in cards:
        for site in card.sites:
            known = sites.setdefault(site.name, site)
            same = (known.transform, known.log_of, known.shape[1:]) == (site.transform, site.log_of, site.shape[1:])
            same = same and len(known.shape) == len(site.shape)
            if not same or (site.labels != known.labels and not _is_list(site)):
                raise InputError(
                    f"its site {site.name!r} is another than that of {cards[0].name}",
                    f"card {card.name}",
                    "Combine cards of the same model.",
                )
            sites[site.name] = _relabelled(
                known, (*known.labels, *(label for label in site.labels if label not in known.labels))
            )
        for place, label in enumerate(card.labels):
            mine = (float(card.weak.mean[place]), float(card.weak.scale[place]))
            if not np.allclose(weak.setdefault(label, mine), mine, rtol=1e-9, atol=1e-12):
                raise InputError(
                    f"its weak prior of {label!r} is another", f"card {card.name}", "Combine cards of the same model."
                )
    found = np.array([weak[label] for site in sites.values() for label in site.labels])
    return tuple(sites.values()), Weak(found[:, 0].copy(), found[:, 1].copy())


def _is_list(site):
    """Whether it has a row for each of several things with names, of which cards may know different ones."""
    by_element = any(len(values) > 1 for values in site.transform.parameters.values())
    return len(site.shape) > 0 and site.transform.kind != "correlation" and not by_element


def _scope(cards):
    kinds, families = (
        tuple(sorted({name for card in cards for name in getattr(card.scope, field)}))
        for field in ("metric_kinds", "families")
    )
    return Scope(cards[0].scope.proxy, cards[0].scope.reference_depth, kinds, families)


def _provenance(cards, name, given):
    licences = {card.provenance.licence for card in cards}
    texts = {
        "description": f"A meta-analysis of the cards {', '.join(card.name for card in cards)}.",
        "licence": licences.pop() if len(licences) == 1 else "unknown",
        "citation": "\n\n".join(c.provenance.citation for c in cards if c.provenance.citation)[: validate.LONGEST_TEXT],
    }
    return Provenance(
        name=name,
        tasks=sum(card.provenance.tasks for card in cards),
        runs=sum(card.provenance.runs for card in cards),
        fitted_under=f"heterogeneity between {len(cards)} projects",
        projects=len(cards),
        **texts | {field: text for field, text in given.items() if text is not None},
    )
