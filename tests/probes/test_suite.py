"""The built-in tasks and their data."""

import dataclasses

import numpy as np
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.probes import suite, suite_task
from bayes_prehoc.probes.suite import SOURCES, load_data
from bayes_prehoc.probes.suite.data import MODULUS, addition, modular_addition

pytest.importorskip("sklearn")
TASKS = [pytest.param(spec, id=spec.name) for spec in suite()]
NOISY = [pytest.param(spec, id=spec.name) for spec in suite() if spec.label_noise]


def test_suite_has_tasks_of_every_kind():
    names = [spec.name for spec in suite()]
    assert len(names) == len(set(names)) >= 6
    assert {spec.metric for spec in suite()} == {"accuracy", "exact_match"}
    assert {"digits-high", "cancer", "addition-3", "modular-addition"} <= {spec.data for spec in suite()}
    assert all(suite_task(name) is spec for name, spec in zip(names, suite(), strict=True))


@pytest.mark.parametrize("spec", TASKS)
def test_tasks_say_what_they_are_and_not_which_regime(spec):
    assert spec.description
    assert not any(word in spec.description.lower() for word in ("static", "dynamic", "regime", "dominant", "critical"))


@pytest.mark.parametrize("spec", TASKS)
def test_first_depth_lies_within_five_percent(spec):
    assert spec.depths[0] <= 0.05 * spec.steps
    assert spec.depths[-1] == spec.steps
    assert np.all(np.diff(spec.depths) > 0)


@pytest.mark.parametrize("spec", TASKS)
def test_sets_are_disjoint(spec):
    data = load_data(spec)
    sets = [{row.tobytes() for row in x} for x in (data.train_x, data.probe_x, data.outcome_x)]
    assert [len(s) for s in sets] == [spec.train_size, spec.probe_size, spec.outcome_size]
    assert len(set.union(*sets)) == sum(map(len, sets))
    for y in (data.train_y, data.probe_y, data.outcome_y):
        assert y.min() >= 0 and y.max() < SOURCES[spec.data].outputs


@pytest.mark.parametrize("spec", NOISY)
def test_label_noise_is_exact_and_leaves_the_outcome_set_clean(spec):
    noisy, clean = load_data(spec), load_data(dataclasses.replace(spec, label_noise=0.0, probe_label_noise=0.0))
    assert np.sum(noisy.train_y != clean.train_y) == round(spec.label_noise * spec.train_size)
    assert np.sum(noisy.probe_y != clean.probe_y) == round(spec.probe_label_noise * spec.probe_size)
    np.testing.assert_array_equal(noisy.outcome_y, clean.outcome_y)
    np.testing.assert_array_equal(noisy.train_x, clean.train_x)


@pytest.mark.parametrize(("clean", "noisy"), [("cancer", "cancer-noisy"), ("wine", "wine-noisy")])
def test_twins_train_on_the_same_examples_and_share_the_outcome_set(clean, noisy):
    assert suite_task(noisy).probe_size < suite_task(clean).probe_size
    one, other = load_data(suite_task(clean)), load_data(suite_task(noisy))
    np.testing.assert_array_equal(one.train_x, other.train_x)
    np.testing.assert_array_equal(one.outcome_x, other.outcome_x)
    np.testing.assert_array_equal(one.outcome_y, other.outcome_y)
    assert np.any(one.train_y != other.train_y)


def test_data_follow_the_data_seed():
    spec = suite_task("cancer-noisy")
    once, again = load_data(spec), load_data(spec)
    other = load_data(dataclasses.replace(spec, data_seed=1))
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.any(once.outcome_x != other.outcome_x)


def test_measured_features_are_standardised_by_the_training_set():
    data = load_data(suite_task("cancer"))
    np.testing.assert_allclose(data.train_x.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(data.train_x.std(axis=0), 1, atol=1e-4)
    assert abs(data.outcome_x.mean(axis=0)).max() > 1e-3


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_addition_adds(digits):
    count = 60
    tokens, answer = addition(digits, count, np.random.default_rng(0))
    assert len(tokens) == len({row.tobytes() for row in tokens}) == count
    places = 10 ** np.arange(4)
    a, b = tokens[:, :3] @ places[:3], tokens[:, 4:7] @ places[:3]
    np.testing.assert_array_equal(a + b, answer @ places)
    assert np.all(np.maximum(a, b) >= (10 ** (digits - 1) if digits > 1 else 1)) and np.all(
        np.maximum(a, b) < 10**digits
    )
    assert np.all(tokens[:, 3] == 10) and np.all(tokens[:, 7] == 11)
    np.testing.assert_array_equal(tokens[:, 8:], answer[:, :-1])


def test_modular_addition_lists_every_pair():
    tokens, answer = modular_addition()
    assert len({(a, b) for a, b, _ in tokens.tolist()}) == MODULUS**2
    np.testing.assert_array_equal((tokens[:, 0] + tokens[:, 1]) % MODULUS, answer[:, 0])


@pytest.mark.parametrize(
    ("change", "words"),
    [({"data": "mnist"}, "unknown data source 'mnist'"), ({"outcome_size": 10_000}, "has 178 examples")],
)
def test_impossible_data_are_explained(variant, change, words):
    with pytest.raises(InputError, match=words):
        load_data(variant(**change))


def test_unknown_task_lists_the_known_ones():
    with pytest.raises(InputError, match="digits-fast"):
        suite_task("digit-fast")
