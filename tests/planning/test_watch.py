"""When to stop, finish or look again: against quadrature, simulated policies and runs whose risk is known."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import integrate, special, stats

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning.costs import LinearCost
from bayes_prehoc.planning.watch import best_actions, watch_decision, watch_table
from bayes_prehoc.risk.estimate import estimate_risk
from bayes_prehoc.risk.estimates import RiskEstimates
from bayes_prehoc.risk.laboratory import with_failures
from bayes_prehoc.runs.trajectories import Trajectories
from bayes_prehoc.watching import DECIDED, STOP, WatchTable, load_watch_table

THRESHOLD, WORTH = 0.85, 2.0


@pytest.fixture(scope="module")
def table(laboratory):
    return watch_table(laboratory.posterior(0.3), "a", runs=laboratory.runs, threshold=THRESHOLD, worth=WORTH)


def _shown(runs, row, upto):
    return dict(zip(runs.depths[:upto], runs.values["score"][row, :upto], strict=True))


def test_with_one_look_to_come_the_value_is_that_of_quadrature():
    margins = np.linspace(-6.0, 6.0, 321)
    variance = np.array([[1.0, 1.44], [0.36, 0.25]])
    remaining, worth, look_cost = np.array([0.7, 0.3]), 1.5, 0.02
    action, p_above, value = best_actions(margins, variance, remaining, worth, look_cost)

    def later(x):
        return max(worth * special.ndtr(x / np.sqrt(variance[1])).mean() - remaining[1], 0.0)

    for place in range(60, 321, 20):
        x = margins[place]
        watched = np.mean([
            integrate.quad(lambda z, x=x, sd=sd: later(x + sd * z) * stats.norm.pdf(z), -8, 8, limit=200)[0]
            for sd in np.sqrt(variance[0] - variance[1])
        ]) - (remaining[0] - remaining[1]) - look_cost  # fmt: skip
        finished = worth * special.ndtr(x / np.sqrt(variance[0])).mean() - remaining[0]
        assert value[0, place] == pytest.approx(max(watched, finished, 0.0), abs=2e-4)
        best = int(np.argmax([0.0, finished, watched]))
        assert action[0, place] == (STOP, DECIDED, 0)[best]
        assert p_above[0, place] == pytest.approx((finished + remaining[0]) / worth, abs=1e-5)
    assert set(action[0]) == {STOP, DECIDED, 0}


def test_the_value_is_what_the_policy_earns_and_no_simpler_one_earns_more():
    sd = np.array([1.0, 0.8, 0.6, 0.35, 0.2])
    remaining, worth, look_cost = np.array([0.8, 0.75, 0.68, 0.4, 0.05]), 1.4, 0.01
    margins = np.linspace(-7.0, 7.0, 321)
    action, _, value = best_actions(margins, sd[:, None] ** 2, remaining, worth, look_cost)
    random, paths = np.random.default_rng(0), 100_000
    steps = np.sqrt(-np.diff(sd**2))
    for start in (-0.8, 0.0, 0.7):
        x = start + np.cumsum(np.pad(steps * random.normal(size=(paths, 4)), ((0, 0), (1, 0))), axis=1)
        ends_right = x[:, -1] + sd[-1] * random.normal(size=paths) > 0.0
        earned, paid, at = np.zeros(paths), np.zeros(paths), np.zeros(paths, int)
        done = np.zeros(paths, bool)
        for look in range(5):
            here = ~done & (at == look)
            code = action[look, np.abs(margins - x[:, look][:, None]).argmin(axis=1)[here]]
            rows = np.flatnonzero(here)
            finishes = rows[code == DECIDED]
            earned[finishes] = worth * ends_right[finishes] - remaining[look]
            done[rows[code < 0]] = True
            on = rows[code >= 0]
            at[on] = code[code >= 0] + 1
            paid[on] += remaining[look] - remaining[at[on]] + look_cost
        net = earned - paid
        expected = np.interp(start, margins, value[0])
        assert net.mean() == pytest.approx(expected, abs=4 * net.std() / np.sqrt(paths) + 2e-3)
        always = worth * special.ndtr(start) - remaining[0]
        assert expected >= max(always, 0.0) - 1e-12
    assert np.interp(0.0, margins, value[0]) > max(worth * 0.5 - remaining[0], 0.0) + 0.05


def test_watching_pays_more_than_finishing_all_or_none(laboratory, table):
    fresh = laboratory.chain.draw(np.random.default_rng(11), 1500)
    full = 1.0
    net = []
    for row in range(1500):
        seen, paid = {}, 0.0
        while True:
            found = table.decide(seen)
            if found.action == "stop":
                net.append(-paid - found.depth / 1000.0)
                break
            if found.action == "decided":
                net.append(WORTH * (fresh.outcome[row] > THRESHOLD) - paid - full)
                break
            paid += table.look_cost
            upto = int(np.searchsorted(fresh.depths, found.next_depth * 1.001))
            seen = {c: v for c, v in _shown(fresh, row, upto).items() if c in seen or c == fresh.depths[upto - 1]}
    net = np.array(net)
    always = WORTH * (fresh.outcome > THRESHOLD) - full
    assert net.mean() - 2 * net.std() / np.sqrt(1500) > max(always.mean(), 0.0)
    # What the table promises before the first look is what is earned.
    assert net.mean() == pytest.approx(table.decide({}).best, abs=0.06)


def test_a_run_far_above_is_decided_far_below_stopped_and_between_watched(laboratory, table):
    depths = laboratory.runs["a"].depths
    high, low, between = (
        table.decide(dict.fromkeys(depths[:4], value)) for value in (THRESHOLD + 0.2, THRESHOLD - 0.2, THRESHOLD)
    )
    assert (high.action, low.action, between.action) == ("decided", "stop", "watch")
    assert between.next_depth in depths[4:] and high.next_depth is None
    assert high.p_above > 0.99 and low.p_above < 0.01 and 0.3 < between.p_above < 0.7
    assert low.best == 0.0 and low.finishing < 0.0 < between.best and high.best == pytest.approx(high.finishing)
    assert high.lower < high.mean < high.upper
    for part in ("decided", "step 100", "proxy conditional", "P(score > 0.85)", "full run"):
        assert part in high.reason
    assert f"evaluate next at step {between.next_depth:g}" in between.reason
    # At the end there is no next look.
    assert table.decide(dict.fromkeys(depths, THRESHOLD + 0.2)).action == "decided"
    diverged = table.decide({depths[0]: 0.8, depths[1]: np.inf})
    assert diverged.action == "stop" and "diverged" in diverged.reason and diverged.mean is None
    assert high.upper > 1.0 and dataclasses.replace(table, bounds=(0.0, 1.0)).decide({depths[3]: 1.0}).upper == 1.0
    # Another threshold moves the margin, and nothing else.
    moved = table.decide(dict.fromkeys(depths[:4], THRESHOLD), threshold=THRESHOLD - 0.2)
    assert moved.action == "decided"


def test_where_a_part_of_the_runs_fails_the_chance_is_not_a_normals(laboratory, posterior_of):
    chain = with_failures(laboratory.chain, 0.3, 0.4, 60.0)
    runs = Trajectories((chain.draw(np.random.default_rng(2), 100, name="a"),))
    estimates = estimate_risk(runs, proxy="conditional")
    posterior = posterior_of(
        estimates, level=np.log(chain.risk[4]) - 2.0 * np.log(estimates["a"].scale), share=-3.0, rate=-0.8
    )
    table = watch_table(posterior, "a", runs=runs, threshold=0.7, worth=WORTH)
    ended = np.mean(chain.draw(np.random.default_rng(3), 4000).outcome > 0.7)
    normal = special.ndtr((estimates["a"].outcome_mean - 0.7) / np.sqrt(table.variance[0]))
    assert table.decide({}).p_above == pytest.approx(ended, abs=0.08)
    assert ended - normal > 0.1


def test_a_function_of_the_posterior_says_the_same(laboratory, table):
    shown = _shown(laboratory.runs["a"], 3, 4)
    options = {"runs": laboratory.runs, "threshold": THRESHOLD, "worth": WORTH}
    found = watch_decision(laboratory.posterior(0.3), "a", shown, **options)
    assert found == table.decide(shown)
    dear = watch_decision(laboratory.posterior(0.3), "a", shown, **options, cost=LinearCost(1.0, 0.0, "USD"))
    assert dear.action == "stop" and "unit USD" in dear.reason
    no_looks = watch_table(laboratory.posterior(0.3), "a", **options, look_cost=3.0)
    assert {no_looks.decide(_shown(laboratory.runs["a"], row, 3)).action for row in range(40)} == {"stop", "decided"}


def test_a_loss_is_a_score_turned_over(laboratory, table):
    runs = laboratory.runs["a"]
    turned = dataclasses.replace(
        runs, values={"score": -runs.values["score"]}, outcome=-runs.outcome, higher_is_better=False
    )
    posterior = laboratory.posterior(0.3)
    own = dataclasses.replace(posterior.estimates["a"], higher_is_better=False, outcome_mean=-0.8)
    posterior = dataclasses.replace(posterior, estimates=RiskEstimates("conditional", (own,)))
    other = watch_table(posterior, "a", runs=Trajectories((turned,)), threshold=-THRESHOLD, worth=WORTH)
    for row in range(5):
        seen = _shown(runs, row, 3)
        one, two = table.decide(seen), other.decide({c: -v for c, v in seen.items()})
        assert (one.action, one.next_depth) == (two.action, two.next_depth)
        assert one.mean == pytest.approx(-two.mean) and one.p_above == pytest.approx(two.p_above)
        assert one.lower == pytest.approx(-two.upper)
    assert "P(score < -0.85)" in two.reason


def test_a_table_in_a_file_decides_the_same(laboratory, table, tmp_path):
    table.save(tmp_path / "watch.json")
    again = load_watch_table(tmp_path / "watch.json")
    for row in range(20):
        for upto in (0, 2, 5, 7):
            seen = _shown(laboratory.runs["a"], row, upto)
            one, two = table.decide(seen), again.decide(seen)
            assert (one.action, one.next_depth, one.notes) == (two.action, two.next_depth, two.notes)
            assert one.best == pytest.approx(two.best, abs=1e-5) and one.mean == pytest.approx(two.mean)
    assert again.to_dict() == table.to_dict()


def test_files_that_hold_something_else_are_refused(table, tmp_path):
    path = tmp_path / "watch.json"
    whole = table.to_dict()
    for content, complaint in (
        ("{", "not JSON"),
        ("[1]", "no watch table"),
        (json.dumps({"tasks": []}), "no watch table"),
        (json.dumps(whole | {"schema": 9}), "schema 9"),
        (json.dumps({k: v for k, v in whole.items() if k != "margins"}), "not a whole watch table"),
        (json.dumps(whole | {"action": whole["action"][:2]}), "do not fit together"),
        (json.dumps(whole | {"remaining": [1.0]}), "do not fit together"),
        (json.dumps(whole | {"predictor": whole["predictor"] | {"looks": [99]}}), "do not fit together"),
        (json.dumps(whole | {"predictor": whole["predictor"] | {"depths": "deep"}}), "not a whole watch table"),
        (json.dumps(whole | {"action": np.full_like(table.action, 99).tolist()}), "do not fit together"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=complaint):
            load_watch_table(path)
    with pytest.raises(InputError, match="no such file"):
        load_watch_table(tmp_path / "none.json")
    with pytest.raises(InputError, match="no such folder"):
        table.save(tmp_path / "none" / "watch.json")
    assert isinstance(WatchTable.from_dict(whole), WatchTable)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"worth": 0.0}, "worth: it is 0.0"),
        ({"threshold": float("nan")}, "threshold: it is nan"),
        ({"look_cost": -1.0}, "look_cost"),
        ({"runs": None}, "runs: it is a NoneType"),
        ({"cost": 3.0}, "cost: it is 3.0"),
    ],
)
def test_impossible_arguments_say_what_to_do(laboratory, changes, complaint):
    options = {"runs": laboratory.runs, "threshold": THRESHOLD, "worth": WORTH} | changes
    with pytest.raises(InputError, match=complaint):
        watch_table(laboratory.posterior(), "a", **options)


def test_what_allows_no_decision_says_why(laboratory, posterior_of, table):
    options = {"runs": laboratory.runs, "threshold": THRESHOLD, "worth": WORTH}
    posterior = laboratory.posterior()
    own = posterior.estimates["a"]
    spread = RiskEstimates("run_to_run", (dataclasses.replace(own, proxy="run_to_run"),))
    with pytest.raises(InputError, match="where one run will end"):
        watch_table(posterior_of(spread, level=-6.0, share=-1.0, rate=-1.0), "a", **options)
    unknown = RiskEstimates("conditional", (dataclasses.replace(own, higher_is_better=None),))
    with pytest.raises(InputError, match="higher 'score' is better"):
        watch_table(dataclasses.replace(posterior, estimates=unknown), "a", **options)
    with pytest.raises(InputError, match="threshold is 'high'"):
        table.decide({}, threshold="high")
