"""The copula's filter against a dense multivariate normal, in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.hierarchy.copula import Chains, chains_of, copula_log_density, correlation_of_drift, whitened
from bayes_prehoc.hierarchy.likelihood import Errors, Shared, deviation, normal_scores

DEPTH = np.geomspace(0.02, 1.0, 6)
RISK = np.array([1.0, 0.9, 0.7, 0.45, 0.4, 0.2])


def loadings(sampling, drift, misfit):
    """Errors with these shares of the variance."""
    return Errors(1.0, 1.0, 0.0, *(jnp.sqrt(jnp.asarray(part)) for part in (sampling, drift, misfit)))


def dense(scores, correlation):
    return stats.multivariate_normal.logpdf(scores, cov=correlation) - stats.norm.logpdf(scores).sum()


def documented(proxy, dependence):
    """Correlations of sampling and of drift."""
    walk = -np.log(DEPTH)
    if proxy == "run_to_run":
        drift = np.minimum(walk[:, None], walk) / np.sqrt(np.maximum(np.outer(walk, walk), 1e-300))
        return np.exp(-2 * np.abs(walk[:, None] - walk) / dependence), drift
    steps = np.abs(np.arange(6)[:, None] - np.arange(6))
    return np.minimum(RISK[:, None] / RISK, RISK / RISK[:, None]) * dependence**steps, np.zeros((6, 6))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("proxy", "dependence"), [("run_to_run", 0.7), ("conditional", 0.93)])
def test_copula_is_a_dense_normal_with_the_documented_correlation(proxy, dependence):
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(3), size=6).T
    if proxy == "run_to_run":
        # Nothing drifts at the horizon.
        shares[1, -1], shares[2, -1] = 0.0, shares[1, -1] + shares[2, -1]
    else:
        shares[1], shares[2] = 0.0, shares[1] + shares[2]
    of_sampling, of_drift = documented(proxy, dependence)
    roots = np.sqrt(shares)
    correlation = np.outer(roots[0], roots[0]) * of_sampling + np.outer(roots[1], roots[1]) * of_drift
    correlation += np.diag(shares[2])
    scores = rng.normal(size=6)
    chains = chains_of(jnp.asarray(DEPTH), jnp.log(RISK), Shared(0.01, 0.1, dependence, 0.3), proxy)
    got = copula_log_density(jnp.asarray(scores), chains, loadings(*shares), jnp.ones(6, bool))
    np.testing.assert_allclose(got, dense(scores, correlation), rtol=1e-8)


@pytest.mark.usefixtures("float64")
def test_whitening_is_the_inverse_of_the_cholesky_factor():
    shares = np.array([[0.5, 0.2, 0.7, 0.4], [0.3, 0.5, 0.2, 0.1], [0.2, 0.3, 0.1, 0.5]])
    r, q = np.array([0.9, 0.3, 0.6]), np.array([0.8, 0.99, 0.5])
    found = whitened(jnp.eye(4), Chains(r[:, None], q[:, None]), loadings(*shares[..., None]), jnp.ones((4, 1), bool))

    def dense_chain(chain):
        return np.array([[np.prod(chain[min(i, j) : max(i, j)]) for j in range(4)] for i in range(4)])

    roots = np.sqrt(shares)
    correlation = np.outer(roots[0], roots[0]) * dense_chain(r) + np.outer(roots[1], roots[1]) * dense_chain(q)
    factor = np.linalg.cholesky(correlation + np.diag(shares[2]))
    np.testing.assert_allclose(found.scores, np.linalg.inv(factor), atol=1e-12)
    np.testing.assert_allclose(found.scale[:, 0], np.diag(factor), rtol=1e-12)


@pytest.mark.usefixtures("float64")
def test_masked_depths_do_not_count():
    rng = np.random.default_rng(1)
    scores, (r, q), shares = (
        jnp.asarray(rng.normal(size=5)),
        rng.uniform(0.1, 0.9, (2, 4)),
        rng.dirichlet(np.ones(3), 5).T,
    )
    short = copula_log_density(scores[:3], Chains(r[:2], q[:2]), loadings(*shares[:, :3]), jnp.ones(3, bool))
    there = jnp.array([True, True, True, False, False])
    padded = copula_log_density(scores, Chains(r, q), loadings(*shares), there)
    np.testing.assert_allclose(padded, short, rtol=1e-12)


@pytest.mark.usefixtures("float64")
def test_drift_is_a_walk_away_from_the_horizon_on_either_side():
    logs = np.array([-2.0, -0.5, 0.0, 0.3, 1.2])
    side = np.sign(logs)
    expected = np.minimum(np.abs(logs)[:, None], np.abs(logs)) * (side[:, None] == side)
    scale = np.sqrt(np.where(logs == 0.0, 1.0, np.abs(logs)))
    np.testing.assert_allclose(
        correlation_of_drift(jnp.asarray(logs)[:, None], jnp.asarray(logs)),
        expected / np.outer(scale, scale),
        atol=1e-12,
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("a", [0.4, 1.0, 4.0])
def test_the_density_of_two_depths_integrates_to_one(a):
    """As a copula must; for scores that are bounded below it does not."""
    levels = stats.norm.cdf(np.linspace(-8.0, 8.0, 401))
    errors = Errors(jnp.asarray(a), jnp.asarray(1e-20), 0.0, *(jnp.full((2, 1, 1), part) for part in (1.0, 0.0, 0.0)))
    log_value = np.log(stats.gamma.ppf(levels, a) / a)
    scores = normal_scores(deviation(jnp.asarray(log_value), 0.0, errors), errors)
    pairs = jnp.stack(jnp.meshgrid(scores, scores))
    chains = Chains(jnp.full((1, 1, 1), 0.99), jnp.zeros((1, 1, 1)))
    density = np.exp(copula_log_density(pairs, chains, errors, jnp.ones(pairs.shape, bool)))
    weight = stats.norm.pdf(np.linspace(-8.0, 8.0, 401)) * 16.0 / 400.0
    assert weight @ density @ weight == pytest.approx(1.0, abs=0.02)
