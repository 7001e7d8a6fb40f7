"""Bridge sampling: known normalisers, its own error, and evidences by plain averages over the prior."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal, special, stats

from bayes_prehoc.hierarchy.basis import Basis
from bayes_prehoc.hierarchy.collapsed import RULES, groups_by_depths, plain_frame
from bayes_prehoc.hierarchy.evaluator import Evaluator
from bayes_prehoc.hierarchy.evidence import bridge, evidence_at
from bayes_prehoc.hierarchy.inference import sampled_target
from bayes_prehoc.hierarchy.informed import informed_by
from bayes_prehoc.hierarchy.model import weak_prior
from bayes_prehoc.hierarchy.target import Arguments

LOG_Z = 3.7


def two_normals(rng, size):
    """A mixture of two normals of which one is wide along some directions, times e^3.7: its logarithm, and draws."""
    wide = np.linalg.qr(rng.normal(size=(size, size)))[0] * np.geomspace(0.5, 2.0, size)
    factors, means = (wide, 0.7 * np.eye(size)), rng.normal(size=(2, size))

    def log_p(x):
        terms = [
            stats.multivariate_normal(mean, factor @ factor.T).logpdf(x) + np.log(0.5)
            for mean, factor in zip(means, factors, strict=True)
        ]
        return np.logaddexp(*np.atleast_2d(terms)) + LOG_Z

    def draws(number):
        white = rng.normal(size=(number, size))
        first = rng.random(number) < 0.5
        return np.where(first[:, None], means[0] + white @ factors[0].T, means[1] + white @ factors[1].T)

    return log_p, draws


def are_standard(values):
    """Whether mean and mean square are those of so many standard normals, each to a level of 1 in 500."""
    number = len(values)
    low, high = stats.chi2(number).ppf((0.001, 0.999)) / number
    return abs(np.mean(values)) < stats.norm.ppf(0.999) / np.sqrt(number) and low < np.mean(np.square(values)) < high


@pytest.mark.parametrize("size", [1, 4, 15])
def test_known_normalisers_within_the_error(size):
    """Of 16 mixtures each: mean and mean square of the standardised errors, each to a level of 1 in 500."""
    standardised = []
    for seed in range(16):
        rng = np.random.default_rng(seed)
        log_p, draws = two_normals(rng, size)
        found = bridge(rng, draws(1200).reshape(4, 300, size), log_p)
        assert found.error < 0.05
        standardised.append((found.log_z - LOG_Z) / found.error)
    assert are_standard(standardised)


def test_draws_that_hang_together_count_less():
    """Autoregressive chains, exactly standard normal: the error grows, and is still of the right size."""
    errors = {}
    for rho in (0.0, 0.95):
        found = []
        for seed in range(16):
            rng = np.random.default_rng(seed)
            white = rng.normal(size=(4, 600, 3)) * np.where(np.arange(600) == 0, 1.0, np.sqrt(1.0 - rho**2))[:, None]
            chains = signal.lfilter([1.0], [1.0, -rho], white, axis=1)
            # Heavier tails than the proposal's leave the bridge something to average.
            scaled = np.sinh(chains)
            found.append(
                bridge(rng, scaled, lambda x: np.sum(stats.norm.logpdf(np.arcsinh(x)) - 0.5 * np.log1p(x**2), axis=1))
            )
        errors[rho] = np.mean([own.error for own in found])
        assert are_standard([own.log_z / own.error for own in found])
    assert errors[0.95] > 1.3 * errors[0.0]


def test_a_density_that_is_nowhere_has_no_evidence():
    found = bridge(
        np.random.default_rng(0), np.random.default_rng(1).normal(size=(2, 40, 2)), lambda x: -np.inf * x[:, 0]
    )
    assert np.isnan(found.log_z) and found.error == np.inf


def from_weak(number, seed=0):
    """Exact draws of the weak prior of one kind of metric, in the sampler's coordinates, of a spread."""
    uniform = np.clip(stats.qmc.Sobol(14, seed=seed).random(number), 1e-9, 1 - 1e-9)
    prior = weak_prior("run_to_run")
    x = special.ndtri(uniform)
    for place, b in enumerate((2.5, 2.5, 2.0)):
        partial = 2.0 * stats.beta.ppf(uniform[:, place], b, b) - 1.0
        x[:, place] = np.sqrt(2.0 * b) * special.erfinv(partial)
    # In the order of their names: correlations, dependence, drift, lasting, log_onset, misfit, mu_level, and so on.
    for place, (mean, scale) in (
        (3, prior.length),
        (6, prior.onset),
        (8, prior.level),
        (9, prior.rate),
        (10, prior.share),
    ):
        x[:, place] = mean + scale * x[:, place]
    return x


@pytest.fixture(scope="module")
def few(make):
    """An evaluator of two tasks of four runs at three depths, and the arguments of a fine rule."""
    _, data, _ = make.simulated(tasks=2, nu=3.0, depths=3)
    target = sampled_target(data, weak_prior("run_to_run"), "run_to_run")
    start = np.tile([-6.0, -1.0, -1.0], (2, 1)).astype(np.float32)
    arguments = Arguments.by_rule(groups_by_depths(data, plain_frame(jnp.asarray(start))), data, RULES[1])
    with Evaluator(target) as evaluator:
        yield evaluator, arguments


def resampled(rng, points, log_likelihood):
    """Posterior draws (4, 200, Q) among points of the prior; the first half of each chain from other points than the
    second, since a proposal must not be made of the draws that it is used with."""
    halves = []
    for own, logs in zip(np.split(points, 2), np.split(log_likelihood, 2), strict=True):
        weight = np.exp(logs - logs.max())
        halves.append(own[rng.choice(len(own), 400, p=weight / weight.sum())].reshape(4, 100, -1))
    return np.concatenate(halves, axis=1)


def mean_likelihood(log_likelihood):
    """Logarithm of the mean, and its standard error."""
    weight = np.exp(log_likelihood - log_likelihood.max())
    error = weight.std() / weight.mean() / np.sqrt(len(weight))
    return log_likelihood.max() + np.log(weight.mean()), error


def test_evidence_is_the_mean_likelihood_under_the_prior(few):
    """By 2^13 points of the weak prior, of which the posterior's draws are resampled, too."""
    evaluator, arguments = few
    x = from_weak(2**13)
    log_likelihood = evaluator.densities(x, arguments).by_task.sum(axis=1)
    expected, error = mean_likelihood(log_likelihood)
    rng = np.random.default_rng(0)
    found = evidence_at(rng, evaluator, arguments, resampled(rng, x, log_likelihood), x.shape[1])
    assert abs(found.log_z - expected) < 3.5 * np.hypot(error, found.error) < 0.3


def test_without_data_the_evidence_is_one(few, made_up_card):
    """So the priors are normalised, the weak one and a card's."""
    evaluator, arguments = few
    nothing = arguments.data._replace(mask=jnp.zeros_like(arguments.data.mask))
    groups = tuple(
        group._replace(data=group.data._replace(mask=np.zeros_like(group.data.mask))) for group in arguments.groups
    )
    arguments = arguments._replace(data=nothing, groups=groups)
    rng = np.random.default_rng(0)
    found = evidence_at(rng, evaluator, arguments, from_weak(1024).reshape(4, 256, -1), 14)
    assert abs(found.log_z) < 3.5 * found.error < 0.2
    informed = informed_by(made_up_card, weak_prior("run_to_run"), "run_to_run", Basis(("accuracy",)))
    with Evaluator(evaluator.target, informed.tilt) as tilted:
        found = evidence_at(rng, tilted, arguments, informed.draw(rng, 1200).reshape(4, 300, -1), 14)
    assert abs(found.log_z) < 3.5 * found.error < 0.2


@pytest.mark.slow
def test_noise_of_outcome_sets_is_integrated_out(make):
    """Against an average over the prior of hyperparameters and noises together."""
    noise = (np.full(2, 4e-4), np.full(2, 2e-4))
    _, data, _ = make.simulated(tasks=2, proxy="conditional", nu=6.0, depths=3, noise=noise)
    prior = weak_prior("conditional")
    target = sampled_target(data, prior, "conditional")
    assert target.with_noise
    start = jnp.asarray(np.tile([-6.0, -1.0, -1.0], (2, 1)), jnp.float32)
    arguments = Arguments.by_rule(groups_by_depths(data, plain_frame(start)), data, RULES[2])
    # The same coordinates without those that only a spread has; the share kappa is a standard normal.
    x = from_weak(2**14)
    x[:, 3] = np.random.default_rng(3).normal(size=len(x))
    x = np.delete(x, (4, 5), axis=1)
    points = np.column_stack([x, np.random.default_rng(4).normal(size=(len(x), 2))])
    with Evaluator(target) as evaluator:
        log_likelihood = evaluator.densities(points, arguments).by_task.sum(axis=1)
        expected, error = mean_likelihood(log_likelihood)
        rng = np.random.default_rng(0)
        found = evidence_at(rng, evaluator, arguments, resampled(rng, points, log_likelihood), x.shape[1])
    assert abs(found.log_z - expected) < 3.5 * np.hypot(error, found.error) < 0.4
