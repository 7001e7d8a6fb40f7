"""A table for runs of the laboratory."""

import pytest

from bayes_prehoc.planning.watch import watch_table


@pytest.fixture(scope="session")
def table(laboratory):
    """A run is worth two full ones if it ends above 0.85."""
    return watch_table(laboratory.posterior(0.3), "a", runs=laboratory.runs, threshold=0.85, worth=2.0)
