"""Tests of the comparison of laws, on tasks that follow one of them."""

import numpy as np
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy import compare_laws
from bayes_prehoc.hierarchy.laws import LAWS

STEEP = {"mu_rate": np.array(-0.4), "mu_share": np.array(-3.0), "misfit": np.array(0.02)}


def estimates_of(make, law, tasks=8, proxy="run_to_run"):
    return make.simulated(tasks, proxy, nu=400.0, depths=10, law=law, **STEEP)[2]


def test_the_law_that_tasks_follow_is_preferred(make):
    found = compare_laws(estimates_of(make, "exponential"), laws=("power", "exponential"))
    frame = found.frame
    assert list(frame.index) == ["exponential", "power"] and frame["converged"].all()
    assert frame.loc["exponential", "elpd_diff"] == 0.0
    assert frame.loc["power", "elpd_diff"] < -4.0 * frame.loc["power", "dse"] / np.sqrt(8)
    np.testing.assert_allclose(found.pointwise.sum(), frame["elpd"][found.pointwise.columns], rtol=1e-6)
    assert found.pointwise.shape == (8, 2) and set(found.gates) == {"power", "exponential"}


@pytest.mark.slow
@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
@pytest.mark.parametrize("law", LAWS)
def test_no_law_beats_the_true_one(make, law, proxy):
    """By more than three standard errors of the difference; the power law has the others nearly as special cases."""
    frame = compare_laws(estimates_of(make, law, 20, proxy)).frame
    assert frame.loc[law, "converged"]
    assert frame.loc[law, "elpd_diff"] >= -3.0 * frame.loc[law, "dse"] - 1.0


@pytest.mark.parametrize(
    ("tasks", "laws", "what"),
    [(2, LAWS, "2 tasks"), (4, ("power", "linear"), "no law 'linear'"), (4, ("power", "power"), "laws are")],
)
def test_what_cannot_be_compared(make, tasks, laws, what):
    with pytest.raises(InputError, match=what):
        compare_laws(make.simulated(tasks)[2], laws=laws)
