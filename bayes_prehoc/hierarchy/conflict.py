r"""How large the weak prior's weight gets where estimates and card do not conflict: by estimates drawn from the card.

Hyperparameters are drawn from the card as it is used, for a new project (from the weak prior where it says nothing),
latents from their population, and estimates of the same tasks, depths and degrees of freedom from the likelihood. Their
evidence under the card and under the weak prior is by importance sampling with one set of points for both,

.. math:: Z_{prior} \approx \frac{1}{N} \sum_n \frac{p_{prior}(x_n) \, p(\hat U | x_n)}{q(x_n)} ,

so that what the points miss is missed by both. The proposal q is where the posteriors must lie: those of the estimates
at hand, moved as the truth is by as much as estimates tell of it, and next what the weighted points show. That is four
hundred densities where a fit takes some twenty thousand. Noise of outcome sets is held at its estimates.

Source: Cornuet et al. 2012 (points of all rounds weighted as draws of the mixture of all proposals).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.special import logsumexp

from bayes_prehoc.hierarchy.collapsed import RULES, groups_by_depths, plain_frame
from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.evaluator import Evaluator, generator
from bayes_prehoc.hierarchy.explore import flattened
from bayes_prehoc.hierarchy.mixture import WIDENING, Mixture, draw, log_density
from bayes_prehoc.hierarchy.simulate import draw_estimates, truth_at
from bayes_prehoc.hierarchy.target import Arguments, Target
from bayes_prehoc.hierarchy.tilt import Tilt
from bayes_prehoc.priors.robust import QUANTILE, conflict_threshold, weak_weight

__all__ = ["UNKNOWN", "Prior", "Threshold", "simulated_evidences", "sufficient", "threshold_of"]

LEAST, MOST, TASKS = 40, 100, 400
"""Sets of estimates at least and at most, and tasks in all of them together: many tasks take long."""
ROUND = 100
"""Points of a proposal."""
LEAST_COUNTING = 0.1
"""Share of the points that must count, by flattening their weights, for a proposal to be made of them."""
RULE = RULES[0]
"""Of quadrature over the tasks' latents: what it is off by is nearly the same under both priors."""


class Threshold(NamedTuple):
    """w above which there is conflict, with the ends of its 90% interval, from so many simulated sets."""

    value: float
    lower: float
    upper: float
    simulated: int


UNKNOWN = Threshold(math.nan, 0.0, 1.0, 0)


def threshold_of(log_evidence_weak: Float[np.ndarray, " N"], log_evidence_card: Float[np.ndarray, " N"]) -> Threshold:
    """`priors.conflict_threshold` with its interval, which is that of an order statistic; unknown from too few sets."""
    number = len(log_evidence_weak)
    if number < LEAST // 2:
        return UNKNOWN
    ranks = stats.binom.ppf((0.05, 0.95), number, QUANTILE)
    weights = np.sort(weak_weight(log_evidence_weak, log_evidence_card))
    lower, upper = weights[np.clip(ranks.astype(int) - 1, 0, number - 1)]
    return Threshold(conflict_threshold(log_evidence_weak, log_evidence_card), float(lower), float(upper), number)


def sufficient(tasks: int) -> int:
    """How many sets of estimates of so many tasks to draw."""
    return int(np.clip(TASKS // tasks, LEAST, MOST))


class Prior(NamedTuple):
    """First two moments of a prior of the hyperparameters, and of the posterior of the estimates at hand under it."""

    mean: Float[np.ndarray, " P"]
    covariance: Float[np.ndarray, "P P"]
    posterior_mean: Float[np.ndarray, " P"]
    posterior_covariance: Float[np.ndarray, "P P"]

    @classmethod
    def of_draws(cls, mean, covariance, draws: Float[np.ndarray, "C S P"]) -> "Prior":
        """With the posterior's moments from draws."""
        flat = draws.reshape(-1, draws.shape[-1])
        return cls(mean, covariance, flat.mean(axis=0), np.cov(flat.T))

    def proposal(self, truth: Float[np.ndarray, " P"]) -> Mixture:
        """Where the posterior lies whose estimates were made with these hyperparameters.

        By normal theory its mean moves with the truth by the share of the prior's covariance that data take away.
        """
        told = np.eye(len(truth)) - np.linalg.solve(self.covariance, self.posterior_covariance).T
        return _single(self.mean + told @ (truth - self.mean), self.posterior_covariance)


def simulated_evidences(
    key, target: Target, data: ModelData, tilt: Tilt, truths: Float[np.ndarray, "N P"], priors: tuple[Prior, Prior]
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Log evidences under the weak prior and under the card, of estimates drawn at each truth.

    A set of estimates that is beyond all numbers is left out.

    Parameters
    ----------
    key : PRNG key
    target : Target
        With the weak prior.
    data : ModelData
        The estimates at hand, whose design is taken.
    tilt : Tilt
    truths : array (N, P)
        Hyperparameters from the card.
    priors : pair of Prior
        The weak one, and the card with the weak prior where it says nothing.
    """
    found = []
    with Evaluator(target) as evaluator:
        sites = evaluator.values(target.points(truths, data), data).sites
        for place, truth in enumerate(truths):
            data_key, rng_key = jax.random.split(jax.random.fold_in(key, place))
            own = {name: values[place] for name, values in sites.items() if name != "noise"}
            arguments = _drawn(data_key, target, data, own)
            proposals = [prior.proposal(truth) for prior in priors]
            found.append(_evidences(generator(rng_key), evaluator, arguments, tilt, proposals))
    told = np.array(found)[np.isfinite(found).all(axis=1)]
    return told[:, 0], told[:, 1]


def _drawn(key, target: Target, data: ModelData, sites) -> Arguments:
    """Estimates drawn at some hyperparameters, in groups as those at hand."""
    truth_key, data_key = jax.random.split(key)
    truth = truth_at(truth_key, sites, data)
    noise = (np.maximum(np.asarray(data.noise, float), 0.0), np.zeros(len(data.noise)))
    made = draw_estimates(
        data_key,
        truth,
        np.asarray(data.depth).T,
        np.asarray(data.dof).T,
        np.asarray(data.kind),
        target.proxy,
        noise,
        family=np.asarray(data.family),
        covariates=np.asarray(data.covariates),
    )
    made = made._replace(mask=data.mask, log_risk=jnp.where(data.mask, made.log_risk, 0.0))
    start = jnp.asarray(np.stack([truth.level, truth.share, truth.rate], axis=1), jnp.float32)
    return Arguments.by_rule(groups_by_depths(made, plain_frame(start)), made, RULE)


def _evidences(rng, evaluator: Evaluator, arguments: Arguments, tilt: Tilt, proposals) -> tuple[float, float]:
    """Under the weak prior and under the card; NaN where no point has a density."""
    xs, log_ps, all_proposals = [], [], []
    for again in (True, False):
        for proposal in proposals:
            x = draw(rng, proposal, ROUND)
            weak = evaluator.densities(evaluator.target.points(x, arguments.data), arguments).total
            xs.append(x)
            log_ps.append(np.stack([weak, weak + tilt.log_ratio(x)]))
        all_proposals += proposals
        x, log_p = np.concatenate(xs), np.concatenate(log_ps, axis=1)
        log_q = logsumexp([log_density(q, x) for q in all_proposals], axis=0) - np.log(len(all_proposals))
        log_weight = np.where(np.isfinite(log_p), log_p - log_q, -np.inf)
        if not np.isfinite(log_weight).any():
            return np.nan, np.nan
        if again:
            proposals = [_moved(x, own, before) for own, before in zip(log_weight, proposals, strict=True)]
    return tuple(logsumexp(log_weight, axis=1) - np.log(len(x)))


def _moved(x, log_weight, before: Mixture) -> Mixture:
    """One component where weighted points lie, their weights flattened until enough of them count.

    Its covariance is shrunk towards that of the proposal before, which weighs as many points as there are dimensions.
    """
    weight = flattened(log_weight, LEAST_COUNTING * len(x))
    mean = weight @ x
    off = x - mean
    effective, size = 1.0 / np.sum(weight**2), x.shape[1]
    wide = before.factor[0] @ before.factor[0].T / WIDENING
    return _single(mean, (effective * (weight * off.T) @ off + size * wide) / (effective + size))


def _single(mean, covariance) -> Mixture:
    return Mixture(mean[None], np.linalg.cholesky(WIDENING * covariance)[None], np.ones(1))
