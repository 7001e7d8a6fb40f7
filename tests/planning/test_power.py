"""Seeds that tell two configurations apart, against simulated tests."""

import dataclasses

import numpy as np
import pytest
from scipy import special, stats

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning.costs import LinearCost
from bayes_prehoc.planning.power import seeds_to_tell_apart
from bayes_prehoc.risk.estimates import RiskEstimates

COST = LinearCost(1e-3)


@pytest.fixture
def spread(make, posterior_of):
    """A posterior of runs' spread whose level is known to a factor of 1.5 or so, and its estimates."""
    depths = np.array([50.0, 200.0, 800.0])
    fields = {"depths": depths, "risk": 4e-4 * (depths / 200.0) ** -0.5, "nu": np.full(3, 19.0), "scale": 1.0}
    estimates = make.estimates("a", "run_to_run", n_runs=20, **fields)
    level = np.log(4e-4) + 0.4 * np.random.default_rng(0).normal(size=(400, 1))

    def of(*tasks):
        tasks = RiskEstimates("run_to_run", tasks or (estimates,))
        return posterior_of(tasks, level=level, share=-6.0, rate=special.logit(0.5 / 4.0), drift=1e-3)

    return of, estimates


def test_as_many_seeds_as_are_said_find_the_difference_as_often(spread):
    of, estimates = spread
    posterior = of()
    found = seeds_to_tell_apart(posterior, "a", 0.01, depths=[200.0, 800.0], power=0.8, cost=COST)
    random = np.random.default_rng(1)
    variance = posterior.predict_risk("a", [200.0])[:, 0]
    count = int(found.loc[200.0, "seeds"])
    own = np.sqrt(random.choice(variance, 6_000))[:, None]
    one, two = own * random.normal(size=(2, 6_000, count))
    for difference, expected in ((0.01, 0.8), (0.0, 0.05)):
        shown = stats.ttest_ind(one + difference, two, axis=1).pvalue < 0.05
        assert shown.mean() == pytest.approx(expected, abs=0.02)
    # Fewer do not have the power, deeper probes need fewer, and the draws say how sure that is.
    assert found.loc[200.0, "seeds_lower"] < count < found.loc[200.0, "seeds_upper"]
    assert found.loc[800.0, "seeds"] < count
    assert found.loc[200.0, "cost"] == pytest.approx(2 * count * 0.2)
    assert found.loc[200.0, "sd"] == pytest.approx(np.sqrt(variance.mean()), rel=1e-3)
    noisier = dataclasses.replace(estimates, task="b", scale=2.0)
    other = seeds_to_tell_apart(of(estimates, noisier), "a", 0.01, other="b")
    assert (other.loc[found.index, "seeds"] > found["seeds"]).all()


def test_impossible_arguments_say_what_to_do(spread, laboratory):
    of, _ = spread
    with pytest.raises(InputError, match="Fit estimates of the proxy run_to_run"):
        seeds_to_tell_apart(laboratory.posterior(), "a", 0.01)
    with pytest.raises(InputError, match="difference: it is -1"):
        seeds_to_tell_apart(of(), "a", -1.0)
    with pytest.raises(InputError, match="power: it is 1.5"):
        seeds_to_tell_apart(of(), "a", 0.01, power=1.5)
    with pytest.raises(InputError, match="more than 100,000 seeds"):
        seeds_to_tell_apart(of(), "a", 1e-9)
