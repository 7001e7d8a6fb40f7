"""The outcome set's noise: against the formula by loops, and against the truth by simulation."""

import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.risk.noise import split_outcome_variance


def _by_definition(examples):
    m = examples.shape[1]
    of_means = np.var([row.mean() for row in examples], ddof=1)
    of_columns = sum(np.var(column, ddof=1) for column in examples.T)
    training = m / (m - 1) * (of_means - of_columns / m**2)
    return training, of_means - training


@pytest.mark.parametrize("shape", [(3, 2), (7, 30), (40, 11)])
@pytest.mark.parametrize("kind", ["right or wrong", "real"])
def test_matches_the_formula_and_an_explicit_jackknife(shape, kind):
    rng = np.random.default_rng(0)
    examples = rng.normal(size=shape) + rng.normal(size=shape[0])[:, None]
    examples = examples > 0.5 if kind == "right or wrong" else examples
    split = split_outcome_variance(examples)
    values = examples.astype(float)
    np.testing.assert_allclose(split[:2], _by_definition(values), rtol=1e-9, atol=1e-15)
    n = len(values)
    without = np.array([_by_definition(np.delete(values, i, axis=0))[1] for i in range(n)])
    se = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    np.testing.assert_allclose(split.evaluation_se, se, rtol=1e-8, atol=1e-15)


def test_a_shift_of_every_example_changes_nothing():
    examples = np.random.default_rng(0).normal(size=(10, 20))
    np.testing.assert_allclose(
        split_outcome_variance(examples + 1e6), split_outcome_variance(examples), rtol=1e-6, atol=1e-12
    )


def test_runs_that_agree_have_no_noise():
    examples = np.tile(np.arange(12) % 3 == 0, (5, 1))
    assert split_outcome_variance(examples) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("runs", [8, 40])
def test_unbiased_with_an_honest_standard_error(runs):
    # Right where difficulty + run + luck > 0: the truth is an integral over difficulties and runs.
    rng = np.random.default_rng(1)
    m, spread, run_sd, replicates = 150, 1.5, 0.3, 300

    def draw(difficulty):
        run = run_sd * rng.normal(size=(runs, 1))
        return difficulty + run + rng.normal(size=(runs, m)) > 0

    splits = np.array([split_outcome_variance(draw(1.0 + spread * rng.normal(size=m))) for _ in range(replicates)])
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    given_run = weights @ stats.norm.cdf(1.0 + spread * nodes[:, None] + run_sd * nodes)
    training = weights @ given_run**2 - (weights @ given_run) ** 2
    marginal = stats.norm.cdf((1.0 + spread * nodes) / np.sqrt(1.0 + run_sd**2))
    evaluation = (weights @ (marginal * (1.0 - marginal)) - training) / m
    z = (splits[:, :2].mean(axis=0) - [training, evaluation]) / (splits[:, :2].std(axis=0) / np.sqrt(replicates))
    assert np.abs(z).max() < 3.0
    if runs == 8:
        assert (splits[:, 0] < 0.0).any()  # never clipped

    # The standard error is that of these examples: over runs, the examples held fixed.
    difficulty = 1.0 + spread * rng.normal(size=m)
    fixed = np.array([split_outcome_variance(draw(difficulty)) for _ in range(replicates)])
    assert fixed[:, 2].mean() == pytest.approx(fixed[:, 1].std(), rel=0.15)
