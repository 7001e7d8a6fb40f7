"""A task small enough to be run many times; what varies in the tests shares its compilation."""

import dataclasses

import pytest

from bayes_prehoc.probes import ProbeSpec

SMALL = ProbeSpec(
    name="small",
    data="wine",
    backbone="wine-features",
    train_size=48,
    probe_size=40,
    outcome_size=90,
    steps=20,
    batch_size=10,
    learning_rate=3e-3,
    weight_decay=0.1,
    n_depths=4,
)


@pytest.fixture
def small():
    """A wine task of 20 steps."""
    return SMALL


@pytest.fixture
def variant():
    """Function that changes fields of the small task."""
    return lambda **fields: dataclasses.replace(SMALL, **fields)
