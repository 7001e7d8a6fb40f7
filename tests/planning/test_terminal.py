"""A plan as text: complete, marked, and no wider than 120 columns."""

import numpy as np

from bayes_prehoc._terminal import allocation_text, interval_text, plan_text
from bayes_prehoc.planning import Interval, LinearCost, allocate, plan


def many(make, **options):
    names = ["digits", "a_system_with_a_very_long_name:v4.0:001", "a_system_with_a_very_long_name:v4.0:002"]
    curves = {name: make.curve(300, 0.4, noise=1e-5, reducible=10.0**-i) for i, name in enumerate(names, start=3)}
    estimates = tuple(
        make.estimates(n, metric=m, metric_kind=k, noise=1e-5, noise_se=1e-6)
        for n, m, k in (
            (names[0], "accuracy", "accuracy"),
            (names[1], "cross_entropy_loss", "loss"),
            (names[2], "accuracy", "accuracy"),
        )
    )
    return make.posterior(curves, estimates=estimates, **options)


def test_it_fits(make):
    text = plan_text(plan(many(make), cost=LinearCost(0.4, 2.0, "GPU hour")))
    assert max(map(len, text.splitlines())) <= 120
    for shown in ("digits", "0:001", "0:002", "noise <", "< static", "L_int", "alpha", "c*", "best depth"):
        assert shown in text
    assert "Note on a_system_with_a_very_long_name:v4.0:001: no regime: state a tolerance" in text.replace("\n  ", " ")
    assert "GPU hour" in text


def test_the_numbers_are_those_of_the_plan(make):
    made = plan(make.posterior({"a": make.curve(300, 0.3)}))
    text = plan_text(made)
    (row,) = [line for line in text.splitlines() if line.startswith("a ")][:1]
    assert interval_text(made["a"].L_int) in row and interval_text(made["a"].c_star) in row
    assert f"<{made['a'].flips[0].tolerance:.2g}< dynamic" in text
    assert "with noise" not in text  # unknown


def test_what_other_depths_lose_is_told(make):
    made = plan(make.posterior({"a": make.curve(300, 0.3)}), cost=LinearCost(0.4, 2.0, "h", 2.5, "EUR"))
    text = plan_text(made)
    (row,) = [line for line in text.splitlines() if line.startswith("a ")][2:]
    for action in made["a"].actions.values():
        assert f"{action.regret.expected:.1e}"[0] in row
    assert len(row.split("(")) == 1 + len(made["a"].actions) and "in units of EUR" in text
    for name in ("plug-in c*", "no probe", "10% of run", "100 steps", "full run"):
        assert name in text


def test_an_allocation(make):
    posterior = make.posterior(
        {"a": make.curve(60, 0.3), "b": make.curve(60, 0.3), "c": make.curve()}, statuses={"c": "not_identified"}
    )
    found = allocate(posterior, 0.4, groups={"one": ["b"]}, min_depth={"b": 900.0})
    text = allocation_text(found)
    assert max(map(len, text.splitlines())) <= 120
    row = next(line for line in text.splitlines() if line.startswith("a "))
    assert f"{found.table.loc['a', 'depth']:.0f}" in row
    assert next(line for line in text.splitlines() if line.startswith("b ")).endswith(" -")
    assert "not probed" in text and "Left out: c" in text and "0.400000 of 0.400000 full run" in text


def test_the_actions_that_are_named_are_those_of_a_plan(make):
    from bayes_prehoc import _terminal
    from bayes_prehoc.planning.stopping import FIXED_FRACTION
    from bayes_prehoc.report import page

    actions = plan(make.posterior())["a"].actions
    assert set(_terminal.ACTIONS) == set(page.ACTIONS) == set(actions)
    for names in (_terminal.ACTIONS, page.ACTIONS):
        assert names["fixed_fraction"].startswith(f"{FIXED_FRACTION:.0%} of")


def test_marks(make):
    spread = plan_text(plan(make.posterior({"a": make.curve(50, 0.3, horizon=None)})))
    assert "S  spread reading" in spread and "X  extrapolated" in spread
    deep = make.estimates("a", depths=np.array([30.0, 100.0, 500.0, 1000.0]), horizon_assumed=True)
    assumed = plan_text(plan(make.posterior({"a": make.curve(50, 0.3)}, estimates=(deep,))))
    assert "H  horizon assumed" in assumed and "X  " not in assumed and "S  " not in assumed


def test_what_is_withheld_is_a_dash(make):
    unidentified = plan_text(
        plan(make.posterior({"a": make.curve(), "b": make.curve()}, statuses={"b": "not_identified"}))
    )
    assert [line[:2] for line in unidentified.splitlines() if line[:2] in ("a ", "b ")] == ["a ", "b ", "a ", "a "]
    row = next(line for line in unidentified.splitlines() if line.startswith("b "))
    assert row.split()[2:] == ["-"] * 6 + ["n"]
    failed = plan_text(plan(make.posterior({"a": make.curve()}, converged=False)))
    assert "!  not converged" in failed and "How firm" not in failed


def test_intervals():
    assert interval_text(None) == "-"
    assert interval_text(Interval(0.604, 0.369, 0.974)) == "0.604 [0.369, 0.974]"
    assert interval_text(Interval(261.0, 210.0, 999.6)) == "261 [210, 1000]"
    assert interval_text(Interval(2e-5, 1e-5, 9.999e-5)) == "0.20 [0.10, 1.00]e-4"
    assert interval_text(Interval(0.0, 0.0, 0.0)) == "0.00 [0.00, 0.00]"
