"""A plan in a file is the posterior and what was assumed."""

import json

import h5py
import pytest

import bayes_prehoc.hierarchy
from bayes_prehoc.errors import InputError
from bayes_prehoc.planning import ConvexCost, LinearCost, TableCost, ThresholdLoss, load_plan, plan
from bayes_prehoc.planning.arguments import Arguments


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"tolerance": 0.02, "c_cheap": 70, "gamma": 1e4 / 3},
        {
            "cost": {"a": ConvexCost(0.1, 500.0), "b": TableCost((0, 1000), (1, 9), price=2, currency="EUR")},
            "gamma": {"a": ThresholdLoss(0.9, 2.0, 1.0)},
        },
        {"cost": TableCost((1, 1000), (1, 9)), "gamma": ThresholdLoss(0.91, 2.0, 1.0)},
        {"tolerance": {"a": 0.1 + 0.2}, "c_cheap": {"b": 60.0}, "cost": LinearCost(0.1, 3.0, "GPU hour, à 2 €")},
    ],
)
def test_round_trip(make, tmp_path, monkeypatch, arguments):
    estimates = tuple(make.estimates(name, higher_is_better=True) for name in ("a", "b"))
    posterior = make.posterior({"a": make.curve(30, 0.3), "b": make.curve(30, 0.3, alpha=0.9)}, estimates=estimates)
    monkeypatch.setattr(bayes_prehoc.hierarchy, "load_posterior", lambda path: posterior, raising=False)
    made = plan(posterior, **arguments)
    made.save(tmp_path / "plan.nc")
    again = load_plan(tmp_path / "plan.nc")
    assert again.arguments == made.arguments
    assert again.to_dict() == made.to_dict()
    with h5py.File(tmp_path / "plan.nc") as file:
        assert file.attrs["holds"] == "a posterior"


def test_arguments_of_the_first_schema_are_read():
    old = {
        "cost": {"per_unit": 0.1, "fixed": 3.0, "unit": "h"},
        "gamma": None,
        "tolerance": {"form": 0.1},
        "c_cheap": 5,
    }
    assert Arguments.from_dict(old) == Arguments(LinearCost(0.1, 3.0, "h"), None, {"form": 0.1}, 5)


def test_what_is_no_plan(make, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_plan(tmp_path / "missing.nc")
    with pytest.raises(InputError, match="no such file"):
        load_plan(tmp_path)
    (tmp_path / "text.nc").write_text("task,seed\n")
    with pytest.raises(InputError, match="not a saved plan"):
        load_plan(tmp_path / "text.nc")
    make.posterior().save(tmp_path / "posterior.nc")
    with pytest.raises(InputError, match="holds no plan"):
        load_plan(tmp_path / "posterior.nc")


def test_a_plan_of_a_later_version(make, tmp_path):
    path = tmp_path / "plan.nc"
    plan(make.posterior()).save(path)
    with h5py.File(path, "r+") as file:
        file.attrs["bayes_prehoc_plan"] = json.dumps({"schema": 99, "arguments": {}})
    with pytest.raises(InputError, match="Update bayes-prehoc"):
        load_plan(path)
