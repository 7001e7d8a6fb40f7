"""The outcome set's noise: against the formula by loops, and against the truth by simulation."""

import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.errors import InputError
from bayes_prehoc.risk.noise import (
    evaluation_variance_of_separate_sets,
    split_by_depth,
    split_outcome_variance,
)


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
    training, evaluation = _by_definition(values)
    assert split.training == pytest.approx(training, rel=1e-9, abs=1e-15)
    assert split.evaluation == pytest.approx(evaluation, rel=1e-9, abs=1e-15)
    n = len(values)
    without = np.array([_by_definition(np.delete(values, i, axis=0)) for i in range(n)])
    se = np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose([split.training_se, split.evaluation_se], se, rtol=1e-8, atol=1e-15)


def test_a_shift_of_every_example_changes_nothing():
    examples = np.random.default_rng(0).normal(size=(10, 20))
    np.testing.assert_allclose(
        split_outcome_variance(examples + 1e6), split_outcome_variance(examples), rtol=1e-6, atol=1e-12
    )


def test_runs_that_agree_have_no_noise():
    examples = np.tile(np.arange(12) % 3 == 0, (5, 1))
    assert split_outcome_variance(examples) == (0.0, 0.0, 0.0, 0.0)


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
    found = splits[:, [0, 2]]
    z = (found.mean(axis=0) - [training, evaluation]) / (found.std(axis=0) / np.sqrt(replicates))
    assert np.abs(z).max() < 3.0
    if runs == 8:
        assert (splits[:, 0] < 0.0).any()  # never clipped

    # The standard error is that of these examples: over runs, the examples held fixed.
    difficulty = 1.0 + spread * rng.normal(size=m)
    fixed = np.array([split_outcome_variance(draw(difficulty)) for _ in range(replicates)])
    assert fixed[:, 3].mean() == pytest.approx(fixed[:, 2].std(), rel=0.15)


def test_every_depth_has_its_own_split(make_task):
    rng = np.random.default_rng(0)
    examples = (rng.random((32, 5, 40)) < 0.7).astype(np.float32)
    examples[5, 2:] = np.nan
    examples[2:, 4] = np.nan
    found = split_by_depth(make_task(n=32, depth_examples=examples))
    assert found["depth"].tolist() == [0.0, 1.0, 2.0, 4.0] and found["runs"].tolist() == [32, 32, 31, 31]
    expected = split_outcome_variance(np.delete(examples[:, 3], 5, axis=0))
    assert tuple(found.iloc[3][list(expected._fields)]) == pytest.approx(expected)


@pytest.mark.parametrize(("examples", "words"), [(None, "keep_examples=True"), (np.zeros((32, 5, 1)), "two or more")])
def test_no_split_without_examples(make_task, examples, words):
    with pytest.raises(InputError, match=words):
        split_by_depth(make_task(n=32, depth_examples=examples))


def test_separate_sets():
    rng, m = np.random.default_rng(0), 60
    found = []
    for _ in range(2000):
        true = rng.uniform(0.6, 0.9, size=12)
        value, error = evaluation_variance_of_separate_sets(rng.binomial(m, true) / m, m)
        found.append((value - np.mean(true * (1.0 - true)) / m, value, error))
    off, values, errors = np.transpose(found)
    assert abs(off.mean()) < 3.0 * off.std() / np.sqrt(2000)
    assert errors.mean() == pytest.approx(values.std(), rel=0.1)


def test_a_shared_set_is_no_set_of_separate_ones():
    """Easy and hard examples: their share of a (1 - a) is not between runs."""
    rng = np.random.default_rng(0)
    results = rng.random((40, 200)) < np.where(np.arange(200) < 160, 0.98, 0.1)
    separate, _ = evaluation_variance_of_separate_sets(results.mean(axis=1), 200)
    assert separate > 3.0 * split_outcome_variance(results).evaluation


@pytest.mark.parametrize(
    ("accuracy", "examples", "words"),
    [
        ([0.5], 10, "fewer than two"),
        ([0.5, 80.0], 10, "not percentages"),
        ([0.5, np.nan], 10, "not between 0 and 1"),
        ([0.5, 0.6], 1, "two examples"),
        ([0.5, 0.6], np.array([10, 1]), "two examples"),
    ],
)
def test_impossible_separate_sets(accuracy, examples, words):
    with pytest.raises(InputError, match=words):
        evaluation_variance_of_separate_sets(np.array(accuracy), examples)
