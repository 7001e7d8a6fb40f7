"""The verb `fit`: from risk estimates to a posterior."""

import jax

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.data import check_estimates, model_data
from bayes_prehoc.hierarchy.inference import Samples, sample
from bayes_prehoc.hierarchy.labels import labelled
from bayes_prehoc.hierarchy.model import Hyperprior, log_hyperprior, weak_prior
from bayes_prehoc.hierarchy.posterior import Posterior
from bayes_prehoc.risk.estimates import RiskEstimates

__all__ = ["fit", "posterior_of"]


def fit(estimates: RiskEstimates, *, prior: str | None = None, seed: int = 0) -> Posterior:
    """Fit the hierarchical model of the decay of risk to the estimates of many tasks.

    Parameters
    ----------
    estimates : RiskEstimates
        One proxy, one task or more.
    prior : str, optional
        A prior card's name or folder. Default: the documented weak prior (`hierarchy.model.weak_prior`).
    seed : int
        Of the sampler.

    Returns
    -------
    Posterior
        Its gate says whether sampling converged; where it did not, no figures are given.

    Raises
    ------
    InputError
        No estimates, one that is not a positive number, a prior card that is not there, or a seed that is no whole
        number from 0 to 2**32 - 1.

    Notes
    -----
    The model is that of `hierarchy.model`. The hyperparameters are sampled, by leaps and walks and, if need be, by
    Hamiltonian trajectories (`hierarchy.chains`), with the tasks' latents integrated out (`hierarchy.collapsed`), which
    are drawn afterwards. Where families and covariates make them many they are sampled together with the latents by the
    no-U-turn sampler (`hierarchy.joint`). The posterior's `engine` says which. A run that misses the gate is extended
    or made anew (`hierarchy.inference.Sampler`).
    """
    if not isinstance(estimates, RiskEstimates):
        raise InputError(f"got a {type(estimates).__name__}", "fit", "Give what estimate_risk returns.")
    check_estimates(estimates, "fit", seed)
    if prior is not None:
        raise InputError(f"there is no prior card {prior!r}", "prior", "Leave it out to use the weak prior.")
    hyperprior = weak_prior(estimates.proxy)
    samples = sample(jax.random.key(int(seed)), model_data(estimates), hyperprior, estimates.proxy)
    return posterior_of(samples, estimates, hyperprior, int(seed))


def posterior_of(samples: Samples, estimates: RiskEstimates, hyperprior: Hyperprior, seed: int) -> Posterior:
    """Samples under the weak prior with labels."""
    checks = tuple(check.naming([task.task for task in estimates]) for check in samples.checks)
    draws = labelled(
        samples.sites,
        samples.statistics,
        estimates,
        log_likelihood={"estimates": samples.log_marginals},
        log_prior={"hyperparameters": log_hyperprior(samples.sites, hyperprior, estimates.proxy)},
    )
    return Posterior(draws, estimates, checks, hyperprior, "weak prior", seed, samples.engine)
