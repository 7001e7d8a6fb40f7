r"""The hierarchical model: level, share and rate of every task, partially pooled.

    level = log(U(c0) / scale^2)    share = logit(L_int / U(c0))    rate = logit of alpha within its bounds
    (level, share, rate)_t ~ Normal(mu + B x_t + family_f(t), Sigma)
    Sigma = diag(tau) Omega diag(tau),   Omega ~ LKJ(2),   family_f ~ Normal(0, diag(tau_family)^2)

The mean of the level is one per kind of metric. x_t are covariates that `basis` makes of static descriptors, and B has
columns that are normal with `sway` over the root of their number, so that descriptors together move a latent by sway
whatever their number. Onset and misfit are those of the task's family, around what families share; the correlation of
depths, the drift and what lasts are shared by all tasks. (L_int, K, alpha) are deterministic functions of the latents.

Each task's latents are sampled in coordinates in which they are close to standard normal whatever the hyperparameters
are. If the log likelihood of task t were -z'H_t z / 2 + b_t'z, then z_t = mu + L u_t with L L' = Sigma would have,
given the hyperparameters,

    u_t ~ Normal(P_t^-1 L'(b_t - H_t mu), P_t^-1),   P_t = I + L' H_t L ,

and that is the transform used, with (H, b) from a Gauss-Newton expansion at the current onset, misfit and dependence,
around the point to which one step from a fixed point of each task leads: so that where the population is far from what
was expected, and data that told of a latent there tell nothing of it here, the expansion knows. It runs from the
non-centred form (no data, H = 0) to the centred one (much data) by itself; for a Gaussian likelihood it makes the
latents independent of the hyperparameters, as integrating them out would.

The likelihood is not Gaussian: it has a curved ridge, along which a high floor with a large alpha looks like a low
floor with a small one. So level and rate are moved from the expansion's tangent to the ridge (`Ridge`), which
changes no volume. Both changes of variables are exact: a poor expansion costs speed or nodes, never correctness.

`collapsed` integrates the latents out in these coordinates; `joint` samples them with the hyperparameters, and
`hierarchical_model` is that as a NumPyro model.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float

from bayes_prehoc.hierarchy import laws, linear3
from bayes_prehoc.hierarchy.copula import chains_of, copula_log_density
from bayes_prehoc.hierarchy.data import ONE_KIND, REFERENCE_DEPTH, ModelData, Sizes
from bayes_prehoc.hierarchy.information import gauss_newton
from bayes_prehoc.hierarchy.likelihood import (
    Shared,
    alpha_of_rate,
    deviation,
    errors_of,
    information_of,
    log_mean_curve,
    log_peak,
    log_risk_curve,
    normal_scores,
)

__all__ = [
    "FAMILY_SPREAD",
    "LATENTS",
    "MOST_MISFIT",
    "OF_COVARIATES",
    "OF_FAMILIES",
    "Families",
    "Hyperprior",
    "Population",
    "color",
    "hierarchical_model",
    "hyperparameters",
    "hyperpriors",
    "log_hyperprior",
    "population_of",
    "prior_draws",
    "sampled_noise",
    "sampled_population",
    "shared_of",
    "shared_of_tasks",
    "shared_sites",
    "sizes_of",
    "task_log_likelihood",
    "weak_prior",
]

LATENTS = ("level", "share", "rate")
PRIOR_SAMPLE = 20_000
MOST_MISFIT = 1.0
"""Beyond, an estimate tells its risk to no better than a factor of three however many its degrees of freedom."""
LONGEST_STEP = 3.0
"""From where the likelihood is expanded first to where it is expanded last."""
FAMILY_SPREAD = 0.5
"""Standard deviation of the logarithms of onset and misfit between families: mostly within a factor of 2.7."""
_OF_LATENTS = ("mu_level", "mu_share", "mu_rate", "tau", "corr_chol")
OF_FAMILIES = ("tau_family", "family_white", "family_onset", "family_misfit")
OF_COVARIATES = ("sway", "slope_white")
_OF_ESTIMATES = ("log_onset", "misfit", "dependence")


def shared_sites(proxy: str) -> tuple[str, ...]:
    """Sites of what tasks share that their estimates depend on; of a spread between runs there are two more."""
    return (*_OF_ESTIMATES, "drift", "lasting") if proxy == "run_to_run" else _OF_ESTIMATES


def hyperparameters(proxy: str, sizes: Sizes = ONE_KIND) -> tuple[str, ...]:
    """Sites of the hyperparameters: of the latents' population, `shared_sites`, and of families and covariates."""
    families, covariates = OF_FAMILIES if sizes.families else (), OF_COVARIATES if sizes.covariates else ()
    return (*_OF_LATENTS, *shared_sites(proxy), *families, *covariates)


class Hyperprior(NamedTuple):
    """Parameters of the prior on the hyperparameters; location and scale of normals unless said otherwise.

    `tau` are scales of half-normals for (level, share, rate); `onset` is the log of c_1 over the horizon; `misfit`
    the scale of a half-normal, cut at `MOST_MISFIT`; `drift` the mean of an exponential, the prior of a standard
    deviation that prefers none and lets data ask for much (Simpson et al. 2017); `length` the log of the correlation
    length; `kappa` a Beta, `lasting` the a of a Beta(a, 1). `tau_family` and `sway` are scales of half-normals for
    (level, share, rate), too.
    """

    level: tuple[float, float]
    share: tuple[float, float]
    rate: tuple[float, float]
    tau: tuple[float, float, float]
    onset: tuple[float, float]
    misfit: float
    drift: float
    lasting: float
    length: tuple[float, float]
    kappa: tuple[float, float]
    tau_family: tuple[float, float, float]
    sway: tuple[float, float, float]


def weak_prior(proxy: str) -> Hyperprior:
    """The documented weak prior.

    The outcome's standard deviation at a fifth of the horizon is around 2% of its mean, give or take a factor of
    several; anything between nearly none and nearly all of it may be intrinsic; alpha is centred where theory puts
    it for step sizes c^-rho with rho = 3/4: rho for the spread, 2 rho - 1 for the remaining risk.
    """
    rate = -1.466 if proxy == "run_to_run" else -0.847  # alpha = 0.75 in (0, 4); alpha = 0.5 in (-1, 4)
    return Hyperprior(
        level=(-8.0, 2.5),
        share=(-1.0, 1.5),
        rate=(rate, 0.7),
        tau=(1.5, 1.0, 0.5),
        onset=(-4.0, 1.0),
        misfit=0.2,
        drift=0.33,
        lasting=2.0,
        length=(0.0, 0.7),
        # Continuations of different depths have randomness of their own.
        kappa=(1.0 if proxy == "branching" else 9.0, 1.0),
        # Families, and what descriptors tell, each up to half as much as tasks differ besides.
        tau_family=(0.75, 0.5, 0.25),
        sway=(0.75, 0.5, 0.25),
    )


def prior_draws(prior: Hyperprior) -> tuple[np.ndarray, np.ndarray]:
    """Share and rate of a task nobody has seen, under the prior; a fixed sample, arrays (M,).

    What a posterior is held against to tell how much was learned.
    """
    rng = np.random.default_rng(0)
    tau = np.abs(rng.normal(size=(2, PRIOR_SAMPLE))) * np.array(prior.tau[1:])[:, None]
    mean = np.array([prior.share[0], prior.rate[0]])[:, None]
    spread = np.array([prior.share[1], prior.rate[1]])[:, None]
    shape = (2, PRIOR_SAMPLE)
    share, rate = mean + spread * rng.normal(size=shape) + tau * rng.normal(size=shape)
    return share, rate


def task_log_likelihood(latents, shared: Shared, noise, data: ModelData, proxy: str, law: str = laws.POWER):
    """Log likelihood of each task's estimates, (T, ...).

    `latents` is a triple (level, share, rate) of arrays (T, ...), one value of each task or several; `noise` the
    outcome set's noise over the squared scale, (T,); fields of `shared` are numbers, arrays (T,), or arrays that
    broadcast to the latents.
    """
    several = jnp.ndim(latents[0]) - 1
    # What is one number for each estimate is computed before it stands beside several latents, where it would be
    # computed one by one.
    early = several if max(map(jnp.ndim, shared)) > 1 else 0
    depth, log_risk, dof, mask = (beside(values, early) for values in data[:4])
    errors = jax.lax.optimization_barrier(errors_of(dof, depth, shared))
    peaks = jnp.sum(jnp.where(mask, log_peak(errors) - log_risk, 0.0), axis=0)
    depth, log_risk, mask, errors, peaks, noise = jax.tree.map(
        lambda values: beside(values, several - early), (depth, log_risk, mask, errors, peaks, beside(noise, early))
    )
    shared = beside_latents(shared, several)
    log_mean = log_mean_curve(*latents, shared.onset, noise, depth, proxy, law)
    off = deviation(log_risk, log_mean, errors)
    margins = peaks - jnp.sum(jnp.where(mask, information_of(errors) * off.deviance, 0.0), axis=0)
    chains = chains_of(depth, log_mean, shared, proxy)
    return margins + copula_log_density(normal_scores(off, errors), chains, errors, mask)


def beside(values, several: int):
    """With that many axes of length one behind, to stand beside several values of each task."""
    return jnp.reshape(values, (*jnp.shape(values), *(1,) * several))


def beside_latents(shared: Shared, several: int) -> Shared:
    """With what is one number for each task standing beside several latents of it."""
    return jax.tree.map(lambda values: beside(values, several) if jnp.ndim(values) == 1 else values, shared)


def central_noise(data: ModelData) -> Float[Array, " T"]:
    """A positive value near the outcome set's noise, where it is known; the rest 0."""
    return jnp.maximum(data.noise, 0.5 * data.noise_se)


def outcome_noise(standard: Float[Array, " T"], data: ModelData) -> Float[Array, " T"]:
    """The outcome set's noise from a standard normal: its estimate's normal, truncated at zero."""
    se = jnp.where(data.noise_se > 0.0, data.noise_se, 1.0)
    below = jax.scipy.stats.norm.cdf(-data.noise / se)
    uniform = jax.lax.optimization_barrier(below + (1.0 - below) * jax.scipy.stats.norm.cdf(standard))
    drawn = data.noise + se * jax.scipy.special.ndtri(jnp.clip(uniform, 1e-6, 1.0 - 1e-6))
    return jnp.where(data.noise_se > 0.0, jnp.maximum(drawn, 0.0), jnp.maximum(data.noise, 0.0))


class Population(NamedTuple):
    """What the tasks share, given the hyperparameters.

    Attributes
    ----------
    mu_level : mean level by kind of metric
    mu_share, mu_rate : means of the other latents
    scale : Cholesky factor L of Sigma
    shared : Shared
        Of all families together.
    families : Families or None
    slopes : B, by covariate, or None
    """

    mu_level: Float[Array, " kinds"]
    mu_share: Float[Array, ""]
    mu_rate: Float[Array, ""]
    scale: Float[Array, "3 3"]
    shared: Shared
    families: "Families | None" = None
    slopes: Float[Array, "covariates 3"] | None = None

    def mean(self, data: ModelData):
        """Mean of each task's latents, a triple of arrays (T,)."""
        level = data.kind @ self.mu_level
        mean = level, jnp.full_like(level, self.mu_share), jnp.full_like(level, self.mu_rate)
        if self.families is not None:
            mean = tuple(own + data.family @ self.families.effect[:, i] for i, own in enumerate(mean))
        if self.slopes is not None:
            mean = tuple(own + data.covariates @ self.slopes[:, i] for i, own in enumerate(mean))
        return mean

    def shared_of(self, data: ModelData) -> Shared:
        """What each task's likelihood needs beside its latents; numbers, or arrays (T,) where families differ."""
        if self.families is None:
            return self.shared
        onset, misfit = (jnp.exp(data.family @ off) for off in (self.families.log_onset, self.families.log_misfit))
        return self.shared._replace(onset=self.shared.onset * onset, misfit=self.shared.misfit * misfit)


class Families(NamedTuple):
    """What sets families apart: of their latents' means, and of the logarithms of their onset and misfit."""

    effect: Float[Array, "families 3"]
    log_onset: Float[Array, " families"]
    log_misfit: Float[Array, " families"]


def hyperpriors(prior: Hyperprior, proxy: str, sizes: Sizes) -> dict[str, dist.Distribution]:
    """Prior of each hyperparameter, in the order of `hyperparameters`."""
    families, covariates = sizes.families, sizes.covariates
    if proxy == "run_to_run":
        dependence = dist.LogNormal(prior.length[0], prior.length[1])
    else:
        dependence = dist.Beta(prior.kappa[0], prior.kappa[1])
    priors = {
        "mu_level": dist.Normal(prior.level[0], prior.level[1]).expand([sizes.kinds]),
        "mu_share": dist.Normal(prior.share[0], prior.share[1]),
        "mu_rate": dist.Normal(prior.rate[0], prior.rate[1]),
        "tau": dist.HalfNormal(jnp.asarray(prior.tau)),
        "corr_chol": dist.LKJCholesky(3, 2.0),
        "log_onset": dist.Normal(prior.onset[0], prior.onset[1]),
        "misfit": dist.TruncatedNormal(0.0, prior.misfit, low=0.0, high=MOST_MISFIT),
        "dependence": dependence,
        "drift": dist.Exponential(1.0 / prior.drift),
        "lasting": dist.Beta(prior.lasting, 1.0),
        "tau_family": dist.HalfNormal(jnp.asarray(prior.tau_family)),
        "family_white": dist.Normal(0.0, 1.0).expand([families, 3]),
        "family_onset": dist.Normal(0.0, 1.0).expand([families]),
        "family_misfit": dist.Normal(0.0, 1.0).expand([families]),
        "sway": dist.HalfNormal(jnp.asarray(prior.sway)),
        "slope_white": dist.Normal(0.0, 1.0).expand([covariates, 3]),
    }
    return {name: priors[name] for name in hyperparameters(proxy, sizes)}


def sizes_of(sites) -> Sizes:
    """How many columns the hyperparameters of some draws belong to."""
    kinds, families, covariates = (
        np.shape(sites[name])[axis] if name in sites else 0
        for name, axis in (("mu_level", -1), ("family_onset", -1), ("slope_white", -2))
    )
    return Sizes(kinds, families, covariates)


def log_hyperprior(sites, prior: Hyperprior, proxy: str) -> np.ndarray:
    """Log prior density of draws of the hyperparameters, arrays (..., ...) by site with `corr`; array (...)."""
    priors = hyperpriors(prior, proxy, sizes_of(sites))
    del priors["corr_chol"]
    found = sum(np.asarray(own.log_prob(jnp.asarray(sites[name]))).reshape(*sites["misfit"].shape, -1).sum(axis=-1)
                for name, own in priors.items())  # fmt: skip
    # LKJ(2) in three dimensions is proportional to the determinant.
    return found + np.log(np.maximum(np.linalg.det(np.asarray(sites["corr"], np.float64)), 1e-30))


def sampled_population(prior: Hyperprior, proxy: str, sizes: Sizes) -> Population:
    """Sites of the hyperparameters, in a NumPyro model."""
    priors = hyperpriors(prior, proxy, sizes)
    return population_of({name: numpyro.sample(name, own) for name, own in priors.items()})


def population_of(sites) -> Population:
    """The population that values of the hyperparameters' sites stand for."""
    families = slopes = None
    if "tau_family" in sites:
        effect = sites["tau_family"] * sites["family_white"]
        families = Families(effect, *(FAMILY_SPREAD * sites[name] for name in ("family_onset", "family_misfit")))
    if "sway" in sites:
        slopes = sites["sway"] * sites["slope_white"] / jnp.sqrt(len(sites["slope_white"]))
    return Population(
        mu_level=sites["mu_level"],
        mu_share=sites["mu_share"],
        mu_rate=sites["mu_rate"],
        scale=sites["tau"][:, None] * sites["corr_chol"],
        shared=shared_of(sites),
        families=families,
        slopes=slopes,
    )


def shared_of(sites) -> Shared:
    """What tasks share, from values at `shared_sites`."""
    there = {name: sites[name] for name in Shared._fields if name in sites}
    return Shared(jnp.exp(sites["log_onset"]), **there)


def shared_of_tasks(sites, proxy: str, family: Float[np.ndarray, "T families"]) -> dict[str, np.ndarray]:
    """Draws of what the likelihood of each task needs beside its latents, by `shared_sites`.

    Parameters
    ----------
    sites : mapping from site to array (S, ...)
    proxy : str
    family : array (T, families)
        One-hot.

    Returns
    -------
    mapping from site to array (S,), or (S, T) where families differ in it
    """
    found = {name: np.asarray(sites[name], np.float64) for name in shared_sites(proxy)}
    if "family_onset" in sites:
        onset, misfit = (FAMILY_SPREAD * sites[name] @ family.T for name in ("family_onset", "family_misfit"))
        found |= {"log_onset": found["log_onset"][:, None] + onset, "misfit": found["misfit"][:, None] * np.exp(misfit)}
    return found


def sampled_noise(data: ModelData, with_noise: bool) -> Float[Array, " T"]:
    """Site of the outcome sets' noise, where any has one."""
    tasks = data.noise.shape[0]
    if not with_noise:
        return jnp.zeros(tasks)
    standard = numpyro.sample("noise_white", dist.Normal(0.0, 1.0).expand([tasks]).to_event(1))
    return numpyro.deterministic("noise", outcome_noise(standard, data))


def hierarchical_model(data: ModelData, start: Float[Array, "T 3"], prior: Hyperprior, proxy: str, with_noise: bool):
    """NumPyro model; sites are the hyperparameters, `white` (T, 3) and, where the outcome has noise, `noise_white`."""
    tasks = data.noise.shape[0]
    population = sampled_population(prior, proxy, data.sizes)
    noise = sampled_noise(data, with_noise)
    white = numpyro.sample("white", dist.Normal(0.0, 1.0).expand([tasks, 3]).to_event(2))
    latents, log_jacobian = color((white[:, 0], white[:, 1], white[:, 2]), population, start, noise, data, proxy)
    numpyro.factor("coordinates", log_jacobian.sum())
    for name, latent in zip(LATENTS, latents, strict=True):
        numpyro.deterministic(name, latent)
    numpyro.factor("estimates", task_log_likelihood(latents, population.shared_of(data), noise, data, proxy).sum())


def color(
    white, population: Population, start: Float[Array, "T 3"], noise, data: ModelData, proxy: str, law: str = laws.POWER
):
    """Latents from whitened coordinates, and what corrects the density.

    Parameters
    ----------
    white : triple of arrays (T, ...)
        One point of each task or several.
    population : Population
    start : array (T, 3)
        From where the point of expansion is sought; a constant, best near the posterior mean.
    noise : array (T,)

    Returns
    -------
    latents : triple of arrays (T, ...)
    log_correction : array (T, ...)
        log Normal(u; 0, I) + log |du/dwhite| - log Normal(white; 0, I).
    """
    shared = population.shared_of(data)
    lower, mean = linear3.triangle(population.scale), population.mean(data)

    def expanded(around):
        information, linear = gauss_newton(around, shared, noise, data, proxy, law)
        return information, *linear3.precision_normal(mean, population.scale, information, linear)

    _, center, _ = expanded(start)
    there = jnp.stack([a + b for a, b in zip(mean, linear3.product(lower, center), strict=True)], axis=-1)
    start = start + jnp.clip(there - start, -LONGEST_STEP, LONGEST_STEP)
    information, center, factor = expanded(start)
    ridge = Ridge.at(start, information, lower, shared.onset, data, proxy, law)

    several = jnp.ndim(white[0]) - 1
    mean, center, factor, ridge = jax.tree.map(lambda values: beside(values, several), (mean, center, factor, ridge))
    onset = beside_latents(shared, several).onset
    u = [a + b for a, b in zip(center, linear3.solve_upper(factor, white), strict=True)]
    level, share, rate = (a + b for a, b in zip(mean, linear3.product(lower, u), strict=True))
    rate_bend = ridge.rate_bend(share)
    level_bend = ridge.level_bend(share, rate, rate + rate_bend, onset, proxy, law)
    moved = linear3.solve_lower(lower, (level_bend, jnp.zeros_like(share), rate_bend))
    u = [a + b for a, b in zip(u, moved, strict=True)]
    correction = 0.5 * sum(w**2 - v**2 for w, v in zip(white, u, strict=True)) - linear3.log_det(factor)
    return (level + level_bend, share, rate + rate_bend), correction


class Ridge(NamedTuple):
    """How to go from the expansion's tangent to the curved ridge of each task's likelihood.

    Where a task's depths lie, around c, its estimates tell log U(c) best and next how steep log U is there. As the
    share moves, the rate moves so that the steepness (1 - s) alpha stays, s the floor's share at c, and the level so
    that U(c) stays. Each only as far as the data, and not the population, hold it given the other latents. The rate's
    shift depends on the share alone and the level's on the other two, so no volume changes.

    Attributes
    ----------
    center : c, the geometric mean of the task's depths
    left : log of B(c) / B(c_0) at the start
    share, rate : latents at the start
    log_risk, by_share, by_rate : log U(c) - level at the start, and its derivatives
    rate_told, level_told : share of what is known of the latent, given the others, that the data tell; the rate's
        divided by d log alpha / d rate, and 0 for the proxies of remaining risk
    """

    center: Array
    left: Array
    share: Array
    rate: Array
    log_risk: Array
    by_share: Array
    by_rate: Array
    rate_told: Array
    level_told: Array

    @classmethod
    def at(
        cls, start: Float[Array, "T 3"], information, lower, onset, data: ModelData, proxy: str, law: str
    ) -> "Ridge":
        """Around the latents `start`, where the data's information is (T, 3, 3) and the population's factor `lower`."""
        share, rate = start[:, 1], start[:, 2]
        logs = jnp.where(data.mask, jnp.log(data.depth), 0.0)
        center = jnp.exp(jnp.sum(logs, axis=0) / jnp.maximum(jnp.sum(data.mask, axis=0), 1))

        def log_risk(share, rate):
            return log_risk_curve(0.0, share, rate, onset, center, proxy, law)

        one, zero = jnp.ones_like(share), jnp.zeros_like(share)
        at_start, push = jax.linearize(log_risk, share, rate)
        level_told = information[:, 0, 0]
        level_told /= level_told + sum(x**2 for x in linear3.solve_lower(lower, (1.0, 0.0, 0.0)))
        left = rate_told = zero
        # Without a floor there is no such ridge.
        if proxy == "run_to_run" and law != laws.NO_FLOOR:
            left = jnp.log(laws.decay(law, center, REFERENCE_DEPTH, alpha_of_rate(rate, proxy), onset))
            rate_told = information[:, 2, 2] / (information[:, 2, 2] + lower[5] ** -2)
            rate_told /= jnp.maximum(1.0 - jax.nn.sigmoid(rate), 0.3)  # d log alpha / d rate = 1 - alpha / 4
        slopes = push(one, zero), push(zero, one)
        return cls(center, left, share, rate, at_start, *slopes, rate_told, level_told)

    def rate_bend(self, share):
        """What to add to the rate; log (1 - s) is minus the softplus of the share at c."""
        at, at_0 = share - self.left, self.share - self.left
        tangent = jax.nn.softplus(at_0) + jax.nn.sigmoid(at_0) * (at - at_0)
        return self.rate_told * (jax.nn.softplus(at) - tangent)

    def level_bend(self, share, rate, bent_rate, onset, proxy: str, law: str):
        """What to add to the level."""
        tangent = self.log_risk + self.by_share * (share - self.share) + self.by_rate * (rate - self.rate)
        return self.level_told * (tangent - log_risk_curve(0.0, share, bent_rate, onset, self.center, proxy, law))
