"""The change of variables is exact, the stand-in for the likelihood is its curvature, the prior is as documented."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density
from scipy import stats
from scipy.special import betaln

from bayes_prehoc.hierarchy.data import ModelData
from bayes_prehoc.hierarchy.information import gauss_newton
from bayes_prehoc.hierarchy.likelihood import Shared, alpha_of_rate, log_mean_curve
from bayes_prehoc.hierarchy.model import (
    Ridge,
    color,
    hierarchical_model,
    hyperparameters,
    outcome_noise,
    population_of,
    prior_draws,
    task_log_likelihood,
    weak_prior,
)


def columns(values):
    """A triple of arrays (T,) from an array (T, 3)."""
    return tuple(jnp.asarray(values)[:, i] for i in range(3))


def population(truth):
    return population_of({name: jnp.asarray(getattr(truth, name)) for name in hyperparameters("run_to_run")})


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_whitening_is_an_exact_change_of_variables(make, proxy):
    """log N(white) + correction = log N(z; mean, Sigma) + log |dz / dwhite|, far from the expansion's point too."""
    corr_chol = np.linalg.cholesky([[1.0, 0.3, -0.2], [0.3, 1.0, 0.5], [-0.2, 0.5, 1.0]])
    truth, data, _ = make.simulated(tasks=4, proxy=proxy, corr_chol=corr_chol)
    rng = np.random.default_rng(2)
    start = jnp.asarray(np.stack([truth.level, truth.share, truth.rate], -1) + rng.normal(size=(4, 3)))
    shared = population(truth)
    noise = jnp.array([0.0, 1e-4, 0.0, 2e-3])
    white = jnp.asarray(2.0 * rng.normal(size=(4, 3)))

    def latents(white):
        return jnp.stack(color(columns(white), shared, start, noise, data, proxy)[0], axis=-1)

    jacobian = jax.jacfwd(latents)(white)
    each = np.stack([np.asarray(jacobian[t, :, t, :]) for t in range(4)])
    assert np.abs(np.asarray(jacobian)[0, :, 1:, :]).max() == 0.0
    z, mean = np.asarray(latents(white)), np.stack(shared.mean(data), axis=-1)
    sigma = np.asarray(shared.scale @ shared.scale.T)
    expected = [
        stats.multivariate_normal.logpdf(z[t], mean[t], sigma) + np.linalg.slogdet(each[t])[1] for t in range(4)
    ]
    got = stats.norm.logpdf(white).sum(-1) + np.asarray(color(columns(white), shared, start, noise, data, proxy)[1])
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.usefixtures("float64")
def test_a_lost_jacobian_would_show(make, monkeypatch):
    """The test above can fail: without the ridge, latents and the correction are others by far more than 1e-6."""
    truth, data, _ = make.simulated(tasks=4)
    start = jnp.asarray(np.stack([truth.level, truth.share - 2.0, truth.rate], -1))
    arguments = (columns(np.full((4, 3), 3.0)), population(truth), start, jnp.zeros(4), data, "run_to_run")
    bent = color(*arguments)
    for name in ("rate_bend", "level_bend"):
        monkeypatch.setattr(Ridge, name, lambda *arguments: jnp.zeros(4))
    straight = color(*arguments)
    np.testing.assert_array_equal(bent[0][1], straight[0][1])
    for latent in (0, 2):
        assert np.abs(np.asarray(bent[0][latent] - straight[0][latent])).max() > 1e-2
    assert np.abs(np.asarray(bent[1] - straight[1])).max() > 1e-2


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_information_is_the_expected_curvature(make, proxy):
    """With estimates on the curve, H is close to minus the Hessian and b leads back to the curve's latents."""
    truth, data, _ = make.simulated(tasks=3, proxy=proxy, nu=4000.0, misfit=np.array(1e-3))
    shared = Shared(
        np.exp(truth.log_onset), 1e-3, float(truth.dependence), 1e-3 * float(truth.drift), float(truth.lasting)
    )
    z = jnp.asarray(np.stack([truth.level, truth.share, truth.rate], -1))
    noise = jnp.zeros(3)
    on_curve = log_mean_curve(*columns(z), shared.onset, noise, data.depth, proxy)
    data = data._replace(log_risk=on_curve, depth=jnp.asarray(data.depth, float), dof=jnp.asarray(data.dof, float))
    information, linear = gauss_newton(z, shared, noise, data, proxy)
    back = np.linalg.solve(np.asarray(information), np.asarray(linear)[..., None])[..., 0]
    np.testing.assert_allclose(back, z, atol=2e-2)

    def total(z):
        return task_log_likelihood(columns(z), shared, noise, data, proxy).sum()

    hessian = jax.hessian(total)(z)
    for t in range(3):
        np.testing.assert_allclose(information[t], -hessian[t, :, t, :], rtol=0.03, atol=0.03 * np.abs(hessian).max())


def test_density_of_the_model_is_prior_plus_likelihood(make):
    """With the numpyro model traced at the latents' truth, against the parts summed by hand."""
    truth, data, _ = make.simulated(tasks=3)
    prior = weak_prior("run_to_run")
    start = jnp.asarray(np.stack([truth.level, truth.share, truth.rate], -1), jnp.float32)
    white = jnp.full((3, 3), 0.3)
    sites = {
        "mu_level": jnp.asarray(truth.mu_level), "mu_share": truth.mu_share, "mu_rate": truth.mu_rate,
        "tau": jnp.asarray(truth.tau), "corr_chol": jnp.eye(3), "log_onset": truth.log_onset,
        "misfit": truth.misfit, "dependence": truth.dependence,
        "drift": truth.drift, "lasting": truth.lasting, "white": white,
    }  # fmt: skip
    got, _ = log_density(hierarchical_model, (data, start, prior, "run_to_run", False), {}, sites)
    shared = population(truth._replace(corr_chol=np.eye(3)))
    (level, share, rate), correction = color(columns(white), shared, start, jnp.zeros(3), data, "run_to_run")
    likelihood = task_log_likelihood((level, share, rate), shared.shared, jnp.zeros(3), data, "run_to_run")
    eta = 2.0  # LKJ(eta) at the identity: the normalising constant of Lewandowski et al. 2009
    log_constant = sum((2 * eta - 2 + 3 - k) * (3 - k) for k in (1, 2)) * np.log(2) + sum(
        (3 - k) * betaln(eta + (3 - k - 1) / 2, eta + (3 - k - 1) / 2) for k in (1, 2)
    )
    hyper = (
        stats.norm.logpdf(truth.mu_level[0], *prior.level)
        + stats.norm.logpdf(truth.mu_share, *prior.share)
        + stats.norm.logpdf(truth.mu_rate, *prior.rate)
        + stats.halfnorm.logpdf(truth.tau, scale=prior.tau).sum()
        + stats.norm.logpdf(truth.log_onset, *prior.onset)
        + stats.halfnorm.logpdf(truth.misfit, scale=prior.misfit)
        + stats.lognorm.logpdf(truth.dependence, prior.length[1], scale=np.exp(prior.length[0]))
        + stats.expon.logpdf(truth.drift, scale=prior.drift)
        + stats.beta.logpdf(truth.lasting, prior.lasting, 1.0)
        - log_constant
    )
    expected = hyper + stats.norm.logpdf(white).sum() + float(correction.sum()) + float(likelihood.sum())
    assert float(got) == pytest.approx(expected, abs=2e-3)


@pytest.mark.usefixtures("float64")
def test_outcome_noise_is_a_normal_truncated_at_zero():
    levels = np.linspace(0.01, 0.99, 25)
    white = jnp.asarray(stats.norm.ppf(levels))
    for noise, se in ((1e-3, 4e-4), (-2e-4, 3e-4)):
        empty = {name: jnp.zeros(1) for name in ModelData._fields}
        data = ModelData(**empty)._replace(noise=jnp.full(25, noise), noise_se=jnp.full(25, se))
        expected = stats.truncnorm.ppf(levels, -noise / se, np.inf, loc=noise, scale=se)
        np.testing.assert_allclose(outcome_noise(white, data), expected, rtol=1e-5, atol=1e-9)


def test_weak_prior_centres_alpha_where_theory_puts_it():
    for proxy, alpha in (("run_to_run", 0.75), ("conditional", 0.5)):
        assert float(alpha_of_rate(weak_prior(proxy).rate[0], proxy)) == pytest.approx(alpha, abs=2e-3)


def test_prior_draws_have_the_hyperpriors_spread():
    prior = weak_prior("run_to_run")
    share, rate = prior_draws(prior)
    # Variance of mu plus that of a normal with half-normal scale.
    for values, (center, sd), tau in ((share, prior.share, prior.tau[1]), (rate, prior.rate, prior.tau[2])):
        assert values.mean() == pytest.approx(center, abs=0.05)
        assert values.std() == pytest.approx(np.hypot(sd, tau), rel=0.03)
