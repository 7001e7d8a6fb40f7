"""Proxies beside each other: ratios and their intervals, what is refused, and runs of which the proxies are known."""

import dataclasses
import json

import numpy as np
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.risk import compare_proxies
from bayes_prehoc.risk.laboratory import martingale, power_rates, sgd
from bayes_prehoc.runs import SetAside, Trajectories

DEPTHS = np.geomspace(10, 1000, 8).round()


@pytest.fixture(scope="module")
def compared():
    """A martingale, whose prefixes tell all that its state does, and a curved direction, whose spread says nothing."""
    chains = {
        "martingale": martingale(DEPTHS, alpha=0.5, amplitude=1.0, floor=0.02),
        "curved": sgd(DEPTHS, power_rates(1000, 0.8), curvature=0.5, noise=1.0, floor=2e-4),
    }
    drawn = [
        chain.draw(np.random.default_rng(i), 64, branches=3, name=name)
        for i, (name, chain) in enumerate(chains.items())
    ]
    return compare_proxies(Trajectories((*drawn,), (SetAside("z", "unreadable"),)), permutations=19)


def test_where_proxies_agree_and_where_not(compared):
    assert compared.tasks == ("martingale", "curved") and compared.refused == {}
    rows = {(row.task, row.proxy, row.against): row for row in compared.agreement.itertuples()}
    same = rows["martingale", "branching", "conditional"]
    assert same.depths == 7 and same.lower + same.higher <= 2 and 0.5 < same.smallest < same.largest < 2.0
    # The spread of what forgets falls with the rates, far above what is open from the first depth on.
    apart = rows["curved", "run_to_run", "conditional"]
    assert apart.higher >= 4 and apart.lower == 0 and apart.largest > 50.0
    told = compared.information.frame.set_index(["task", "depth"])
    halfway = DEPTHS[4]
    assert told.loc[("martingale", halfway), "p_value"] == 0.05 and told.loc[("curved", halfway), "p_value"] > 0.1


def test_intervals_of_ratios_are_those_of_independent_variances(compared):
    """Against simulation: the interval holds a ratio of one nine times in ten."""
    rng = np.random.default_rng(0)
    row = compared.ratios[compared.ratios["proxy"] == "branching"].iloc[0]
    nus = [
        compared.estimates[proxy]["martingale"].nu[
            list(compared.estimates[proxy]["martingale"].depths).index(row.depth)
        ]
        for proxy in ("branching", "conditional")
    ]
    above, below = (rng.chisquare(nu, 20_000) / nu for nu in nus)
    inside = (row.lower / row.ratio < below / above) & (below / above < row.upper / row.ratio)
    assert inside.mean() == pytest.approx(0.9, abs=0.01)


def test_what_lies_outside_the_law_is_kept_apart(make_task):
    rising = martingale(DEPTHS, alpha=0.5, amplitude=1.0, floor=0.02)
    task = rising.draw(np.random.default_rng(1), 64)
    # Runs part from a common start, and then agree again.
    grown = np.array([0.02, 0.1, 0.4, 1.0, 0.6, 0.3, 0.15, 0.08])
    values = 0.8 + grown * np.random.default_rng(2).normal(size=(64, 8))
    found = compare_proxies(Trajectories((dataclasses.replace(task, values={"score": values}),)), permutations=19)
    outside = found.outside[found.outside["proxy"] == "run_to_run"]
    assert outside["depth"].tolist() == DEPTHS[:3].tolist()
    assert (outside["lower"] < outside["risk"]).all() and outside["reason"].str.contains("before the law").all()
    assert not set(outside["depth"]) & set(found.estimates["run_to_run"].tasks[0].depths)


def test_as_plain_values(compared):
    document = json.loads(json.dumps(compared.to_dict(), allow_nan=False))
    assert {row["proxy"] for row in document["estimates"]} == {"conditional", "branching", "run_to_run"}
    assert len(document["estimates"]) == len(compared.frame)
    assert {"task": "z", "reason": "unreadable", "proxy": "information"} in document["set_aside"]
    assert {row["task"] for row in document["information"]} == set(compared.tasks)


def test_what_has_no_estimates_is_refused_with_its_reason(make_task):
    found = compare_proxies(Trajectories((make_task(n=12),)), permutations=19)
    assert list(found.estimates) == ["run_to_run"] and found.information is None
    assert set(found.refused) == {"conditional", "branching", "information"}
    assert "12 of 12 runs are complete" in found.refused["conditional"]
    assert found.ratios.empty and found.agreement.empty
    json.dumps(found.to_dict(), allow_nan=False)


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
        compare_proxies(Trajectories((make_task(),)), **options)
