"""What prefixes tell of R: against the truth of the laboratory, permutations dealt by hand, and chance."""

import jax
import numpy as np
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.risk import estimate_information
from bayes_prehoc.risk.conditional import MOST, Prefix, cross_fitted_errors, prefix_features
from bayes_prehoc.risk.information import MOST_AT_ONCE, information
from bayes_prehoc.risk.laboratory import martingale
from bayes_prehoc.runs import SetAside, Trajectories

DEPTHS = np.geomspace(5, 500, 6).round()
CHAIN = martingale(DEPTHS, 0.6, 1e-3, 2e-5)


def drawn(runs, seed=0):
    """Prefixes, outcomes, and the information in nats of one depth after the other."""
    made = CHAIN.draw(np.random.default_rng(seed), runs)
    total = CHAIN.spread[-1] + CHAIN.floor
    return prefix_features(made.values["score"][None]), made.outcome, 0.5 * np.log(total / CHAIN.risk)


def test_near_the_truth_of_a_martingale():
    """Below it by the regression's error, which is part of the errors of predicting."""
    prefix, outcome, truth = drawn(200)
    found = information(jax.random.key(0), prefix, outcome, permutations=19)
    assert (np.abs(found.nats - truth) < 4.0 * found.se).all()
    assert (found.se < 0.12).all() and found.p_any == 0.05 and (found.p_value == 0.05).all()


def test_permutations_are_those_of_the_outcome_alone(monkeypatch):
    """Dealt one by one, through the public regression; in parts as a whole."""
    prefix, outcome, _ = drawn(24)
    key = jax.random.key(3)
    found = information(key, prefix, outcome, permutations=19)
    fold_key, deal_key = jax.random.split(key)
    nothing = Prefix(np.zeros((1, 24, 1)), np.zeros((24, 0)), np.zeros((1, 0), bool))

    def nats(y):
        before, after = (
            (np.asarray(cross_fitted_errors(fold_key, p, y, MOST)[0]) ** 2).mean((1, 2)) for p in (nothing, prefix)
        )
        return 0.5 * np.log(before / after)

    standard = jax.numpy.asarray((outcome - outcome.mean()) / outcome.std(), jax.numpy.float32)
    own = nats(standard)
    null = np.array([nats(jax.random.permutation(k, standard)) for k in jax.random.split(deal_key, 19)])
    np.testing.assert_allclose(found.nats, own, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found.p_value, (1 + (null >= own).sum(axis=0)) / 20)
    assert found.p_any == (1 + (null.max(axis=1) >= own.max()).sum()) / 20
    monkeypatch.setattr("bayes_prehoc.risk.information.MOST_AT_ONCE", 24 * 7)
    for whole, in_parts in zip(found, information(key, prefix, outcome, permutations=19), strict=True):
        np.testing.assert_allclose(whole, in_parts, rtol=1e-5)
    assert MOST_AT_ONCE > 1500


def test_nothing_is_told_where_there_is_nothing_to_tell():
    """p-values are those of chance, and the estimate lies about zero or below."""
    rng, found = np.random.default_rng(0), []
    for i in range(60):
        prefix = prefix_features(rng.normal(size=(1, 24, 3)))
        found.append(information(jax.random.key(i), prefix, rng.normal(size=24), permutations=19))
    assert np.mean([f.nats for f in found]) < 0.02
    for p in (np.array([f.p_any for f in found]), np.array([f.p_value[0] for f in found])):
        # Uniform on 1/20 .. 1: shares within three standard errors.
        for level in (0.1, 0.5):
            assert abs(np.mean(p <= level) - level) < 3.0 * np.sqrt(level * (1 - level) / 60)


def test_standard_error_is_that_of_other_runs():
    found = [information(jax.random.key(0), *drawn(64, seed)[:2], permutations=1) for seed in range(40)]
    scatter = np.std([f.nats for f in found], axis=0, ddof=1)
    np.testing.assert_allclose(np.mean([f.se for f in found], axis=0) / scatter, 1.0, atol=0.35)


def test_tasks_with_enough_runs_have_a_row_for_each_depth(make_task):
    runs = Trajectories((make_task("a"), make_task("b", n=19), make_task("c", n=20)))
    found = estimate_information(runs, permutations=19)
    table = found.frame
    assert [(aside.task, aside.reason.partition(";")[0]) for aside in found.set_aside] == [
        ("b", "19 of 19 runs are complete")
    ]
    assert table["task"].tolist() == ["a"] * 4 + ["c"] * 4
    assert table["depth"].tolist() == [1.0, 2.0, 4.0, 8.0] * 2
    assert table["runs"].tolist() == [32] * 4 + [20] * 4
    assert table.groupby("task")["p_any"].nunique().tolist() == [1, 1]
    last = table[table["task"] == "a"].iloc[-1]
    assert last["nats"] > 2.0 * last["se"] and last["p_value"] == 0.05


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"permutations": 18}, "Give 19 or more"),
        ({"metric": "bleu"}, "no metric 'bleu'"),
        ({"seed": -1}, "cannot be a seed"),
    ],
)
def test_impossible_arguments(make_task, options, words):
    with pytest.raises(InputError, match=words):
        estimate_information(Trajectories((make_task(),)), **options)


def test_too_few_runs_are_an_error(make_task):
    runs = Trajectories((make_task("a", n=12),), (SetAside("z", "unreadable"),))
    with pytest.raises(InputError, match="12 of 12 runs are complete"):
        estimate_information(runs)
