"""A specification is checked when it is made, and its hash is its identity."""

import dataclasses

import pytest

from bayes_prehoc.errors import InputError


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
