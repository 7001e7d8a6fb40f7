"""A specification is checked when it is made, and its hash is its identity."""

import dataclasses
import functools

import optax
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.probes import Adapter
from bayes_prehoc.probes.spec import name_of


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", " "),
        ("optimizer", "lion"),
        ("schedule", "warm"),
        ("head", "old"),
        ("metric", "f1"),
        ("steps", 0),
        ("steps", 2.5),
        ("batch_size", True),
        ("train_size", -1),
        ("n_depths", 0),
        ("data_seed", -1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -0.1),
        ("label_noise", 1.0),
        ("probe_label_noise", -0.1),
        ("dropout", float("inf")),
        ("batch_size", 49),
        ("depth_meaning", "budget"),
        ("branches", 1),
        ("fork_depths", (1,)),
        ("adapter", Adapter()),
        ("pooling", "mean"),
        ("optimizer", lambda rate: rate),
    ],
)
def test_impossible_values_name_the_field(variant, field, value):
    with pytest.raises(InputError) as caught:
        variant(**{field: value})
    assert field in str(caught.value)
    assert caught.value.remedy


def test_depths_are_spaced_evenly_in_the_logarithm_up_to_the_horizon(variant):
    depths = variant(steps=1000, n_depths=9).depths
    assert depths[0] == 20 and depths[-1] == 1000 and len(depths) == 9
    ratios = depths[1:] / depths[:-1]
    assert ratios.max() / ratios.min() < 1.1


def test_few_steps_give_fewer_depths_and_no_depth_twice(variant):
    assert variant(steps=3, n_depths=12).depths.tolist() == [1, 2, 3]
    assert variant(steps=3, n_depths=1).depths.tolist() == [3]


def test_hash_follows_what_is_run_and_nothing_else(small, variant):
    assert variant(description="other words").hash == small.hash
    assert variant(weight_decay=1).hash == variant(weight_decay=1.0).hash
    changed = {"steps": 21, "data_seed": 1, "label_noise": 0.1, "learning_rate": 1e-3, "head": "kept", "name": "other"}
    hashes = {dataclasses.replace(small, **{field: value}).hash for field, value in changed.items()}
    assert len(hashes | {small.hash}) == len(changed) + 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"branches": 2, "fork_depths": (20,)}, "20 is no depth before the last"),
        ({"branches": 2, "fork_depths": (3, 1)}, "not increasing"),
        ({"branches": 2, "depth_meaning": "per_depth"}, "each depth is a run of its own"),
        ({"optimizer": optax.lion}, "weight_decay is 0.1.*Build it into the optimizer"),
    ],
)
def test_what_does_not_go_together_is_explained(variant, fields, words):
    with pytest.raises(InputError, match=words):
        variant(**fields)


def balanced(judged, classes):
    """A metric of the user's."""
    return judged.right.mean()


def loss(judged, classes):
    """A metric that is called as what is recorded besides."""
    return judged.loss.mean()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"metric": balanced}, "higher_is_better is None.*Say True or False"),
        ({"metric": "accuracy", "higher_is_better": True}, "higher_is_better is True.*nothing of those known by name"),
        ({"metric": loss, "higher_is_better": False}, "Give it another name"),
        ({"metric": lambda judged, classes: 0.0, "higher_is_better": True}, "no name of its own"),
    ],
)
def test_impossible_metrics_of_the_user_are_explained(variant, fields, words):
    with pytest.raises(InputError, match=words):
        variant(**fields)


def test_a_metric_of_the_user_is_part_of_what_is_run(small, variant):
    specs = [variant(metric=balanced, higher_is_better=better) for better in (True, False)]
    assert len({small.hash, *(spec.hash for spec in specs)}) == 3
    assert specs[0].metric_name == "balanced" and small.metric_name == "accuracy"


def test_functions_are_told_apart_by_their_names(variant):
    named = [optax.lion, functools.partial(optax.lion, b1=0.8), functools.partial(optax.lion, b1=0.9), "adamw"]
    assert len({variant(optimizer=optimizer, weight_decay=0.0).hash for optimizer in named}) == 4
    assert name_of(functools.partial(optax.lion, b1=0.8), "here") == f"{optax.lion.__module__}.lion(b1=0.8)"
