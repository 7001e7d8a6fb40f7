"""The verb `fit`: from risk estimates and a prior to a posterior."""

import os
from collections.abc import Sequence

import jax
import numpy as np

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.basis import basis_of
from bayes_prehoc.hierarchy.conflict import UNKNOWN, Prior, simulated_evidences, sufficient, threshold_of
from bayes_prehoc.hierarchy.data import ModelData, check_estimates, model_data
from bayes_prehoc.hierarchy.evaluator import generator
from bayes_prehoc.hierarchy.inference import Samples, sample, sampled_target
from bayes_prehoc.hierarchy.informed import Informed, card_for, informed_by
from bayes_prehoc.hierarchy.labels import labelled
from bayes_prehoc.hierarchy.mixing import CardWeight, mixed, weighed
from bayes_prehoc.hierarchy.model import Hyperprior, log_hyperprior, weak_prior
from bayes_prehoc.hierarchy.posterior import Posterior
from bayes_prehoc.priors import PriorCard
from bayes_prehoc.priors.robust import WEAK_SHARE
from bayes_prehoc.risk.estimates import RiskEstimates

__all__ = ["fit", "posterior_of"]

WEAK = "weak prior"
Card = str | os.PathLike | PriorCard


def fit(estimates: RiskEstimates, *, prior: Card | Sequence[Card] | None = None, seed: int = 0) -> Posterior:
    """Fit the hierarchical model of the decay of risk to the estimates of many tasks.

    Parameters
    ----------
    estimates : RiskEstimates
        One proxy, one task or more.
    prior : str, path, PriorCard, or sequence of these, optional
        A prior card, by its name, its folder or itself; several are combined (`priors.combine`). Default: the
        documented weak prior (`hierarchy.model.weak_prior`).
    seed : int
        Of the sampler.

    Returns
    -------
    Posterior
        Its gate says whether sampling converged; where it did not, no figures are given.

    Raises
    ------
    InputError
        No estimates, one that is not a positive number, a seed that is no whole number from 0 to 2**32 - 1; a prior
        card that is not there or is damaged, of another proxy or reference depth, that has seen runs of these
        estimates, or that cannot be combined with another.

    Notes
    -----
    The model is that of `hierarchy.model`. The hyperparameters are sampled, by leaps and walks and, if need be, by
    Hamiltonian trajectories (`hierarchy.chains`), with the tasks' latents integrated out (`hierarchy.collapsed`), which
    are drawn afterwards. Where families and covariates make them many they are sampled together with the latents by the
    no-U-turn sampler (`hierarchy.joint`). The posterior's `engine` says which. A run that misses the gate is extended
    or made anew (`hierarchy.inference.Sampler`).

    With a card there are two fits, under the card and under the weak prior, each of which must pass the gate. The
    posterior is their mixture by the evidence of the estimates under each (`hierarchy.evidence`), in which the weak
    prior, a tenth of the prior, has the weight w; a w that is larger than it would be were the estimates the card's is
    told as conflict (`hierarchy.conflict`), and the answer stands (Schmidli et al. 2014). A card is of another project
    than the estimates: under it their hyperparameters are the card's as far as projects are alike
    (`priors.heterogeneity`).
    """
    if not isinstance(estimates, RiskEstimates):
        raise InputError(f"got a {type(estimates).__name__}", "fit", "Give what estimate_risk returns.")
    check_estimates(estimates, "fit", seed)
    hyperprior = weak_prior(estimates.proxy)
    key, data = jax.random.key(int(seed)), model_data(estimates)
    if prior is None:
        return posterior_of(sample(key, data, hyperprior, estimates.proxy), estimates, hyperprior, int(seed))
    basis = basis_of(estimates)
    card = card_for(prior, estimates, hyperprior, basis, int(seed))
    informed = informed_by(card, hyperprior, estimates.proxy, basis)
    samples, weight = _robust(key, data, hyperprior, estimates.proxy, card, informed)
    return posterior_of(samples, estimates, hyperprior, int(seed), informed, weight)


def posterior_of(
    samples: Samples,
    estimates: RiskEstimates,
    hyperprior: Hyperprior,
    seed: int,
    informed: Informed | None = None,
    weight: CardWeight | None = None,
) -> Posterior:
    """Samples with labels: under the weak prior, or under its mixture with a card."""
    checks = tuple(check.naming([task.task for task in estimates]) for check in samples.checks)
    log_prior = log_hyperprior(samples.sites, hyperprior, estimates.proxy)
    if informed is not None:
        of_card = np.log1p(-WEAK_SHARE) + informed.tilt.log_ratio(samples.x)
        log_prior = log_prior + np.logaddexp(np.log(WEAK_SHARE), of_card)
    draws = labelled(
        samples.sites,
        samples.statistics,
        estimates,
        log_likelihood={"estimates": samples.log_marginals},
        log_prior={"hyperparameters": log_prior},
    )
    prior = WEAK if weight is None else weight.words
    return Posterior(draws, estimates, checks, hyperprior, prior, seed, samples.engine, weight)


def _robust(
    key, data: ModelData, hyperprior: Hyperprior, proxy: str, card: PriorCard, informed: Informed
) -> tuple[Samples, CardWeight]:
    """Samples under the mixture of card and weak prior, and the weights of the two."""
    weak_key, card_key, truth_key, data_key, mixing_key = jax.random.split(key, 5)
    weak = sample(weak_key, data, hyperprior, proxy, with_evidence=True)
    under_card = sample(card_key, data, hyperprior, proxy, tilt=informed.tilt, with_evidence=True)
    weight, lower, upper = weighed(weak.evidence, under_card.evidence)
    made, from_card = mixed(generator(mixing_key), weight, weak, under_card)
    made = made._replace(statistics=made.statistics | {"under_card": from_card})
    threshold = UNKNOWN
    if all(check.passed for check in made.checks):
        priors = tuple(
            Prior.of_draws(*moments, own.x)
            for moments, own in (
                ((informed.weak.mean, np.diag(informed.weak.scale**2)), weak),
                (informed.moments(), under_card),
            )
        )
        truths = informed.draw(generator(truth_key), sufficient(data.kind.shape[0]))
        target = sampled_target(data, hyperprior, proxy)
        threshold = threshold_of(*simulated_evidences(data_key, target, data, informed.tilt, truths, priors))
    return made, CardWeight(
        card.name, weight, lower, upper, weak.evidence, under_card.evidence, threshold, card.fingerprints
    )
