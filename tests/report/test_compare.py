"""Other proxies beside: read under the plan's assumptions, shown under their own name, never pooled."""

import dataclasses

import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning import LinearCost, plan
from bayes_prehoc.report.compare import plans_beside
from bayes_prehoc.report.page import render_page

from .conftest import SUITE, MadeUpPosterior, Task


def test_the_other_proxy_is_read_under_the_plans_assumptions(spread):
    tolerance = {t.name: 0.01 + 0.001 * i for i, t in enumerate(SUITE)}
    made = plan(MadeUpPosterior(SUITE), tolerance=tolerance, c_cheap=40.0, gamma=7.0, cost=LinearCost(0.5, unit="euro"))
    (beside,) = plans_beside(made, (spread,))
    assert beside.proxy == "run_to_run" and list(beside.tasks) == [t.name for t in SUITE]
    for name, other in beside.tasks.items():
        own = made[name]
        assert (other.tolerance, other.c_cheap, other.gamma) == (own.tolerance, own.c_cheap, own.gamma)
        assert other.cost == own.cost
        assert other.reading == "spread reading" and other.L_int != own.L_int


def test_the_page_shows_it_dashed_and_in_a_table(eight, spread):
    content = render_page(eight, compare=(spread,))
    (beside,) = plans_beside(eight, (spread,))
    assert content.count('class="other-median dash0"') == len(SUITE) + 1
    assert 'id="beside"' in content
    for other in beside.tasks.values():
        assert f"{other.alpha.median:.2f}"[:3] in content.split('id="beside"')[1]
    assert "other-median" not in render_page(eight).split("</style>")[1]


def test_only_tasks_that_measure_the_same_are_shown(eight):
    tasks = [SUITE[0], dataclasses.replace(SUITE[1], metric="loss"), Task("not_in_the_plan")]
    (beside,) = plans_beside(eight, (MadeUpPosterior(tasks, proxy="run_to_run"),))
    assert list(beside.tasks) == [SUITE[0].name]
    content = render_page(eight, compare=(MadeUpPosterior(tasks, proxy="run_to_run"),))
    assert "not_in_the_plan" not in content.split('id="beside"')[1].split("</section>")[0]
    with pytest.raises(InputError, match="shares no task"):
        plans_beside(eight, (MadeUpPosterior(tasks[1:], proxy="run_to_run"),))


def test_a_proxy_whose_fit_failed_is_withheld(eight):
    failed = MadeUpPosterior(SUITE, proxy="run_to_run", converged=False)
    content = render_page(eight, compare=(failed,))
    section = content.split('id="beside"')[1].split("</section>")[0]
    assert "Withheld: the fit of this proxy did not pass its convergence gate." in section and "<table" not in section
    assert 'class="other-median dash0" d=' not in content and content.count("other-points") <= 4


def test_a_plan_that_is_withheld_shows_no_other_proxy(failed, spread):
    assert render_page(failed, compare=(spread,)) == render_page(failed)
