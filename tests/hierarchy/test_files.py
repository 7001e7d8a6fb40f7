"""Round trip of a posterior, and files that are none."""

import dataclasses
import json
import os
import stat

import numpy as np
import pytest
import xarray as xr

from bayes_prehoc import InputError, load_posterior
from bayes_prehoc.hierarchy.files import EARLIEST_VERSION, SCHEMA_VERSION
from bayes_prehoc.risk import LeftOut


@pytest.fixture
def saved(fitted, tmp_path):
    path = tmp_path / "post.nc"
    fitted[0].save(path)
    return path


def test_round_trip(fitted, saved):
    posterior, _ = fitted
    read = load_posterior(saved)
    for group in ("posterior", "sample_stats", "observed_data"):
        xr.testing.assert_identical(read.draws[group].to_dataset(), posterior.draws[group].to_dataset())
    assert read.gate == posterior.gate and read.hyperprior == posterior.hyperprior
    assert (read.prior, read.seed, read.proxy, read.tasks) == ("weak prior", 1, "run_to_run", posterior.tasks)
    for got, expected in zip(read.estimates, posterior.estimates, strict=True):
        np.testing.assert_array_equal(got.risk, expected.risk)
        assert (got.task, got.hashes, got.flags, got.horizon) == (
            expected.task, expected.hashes, expected.flags, expected.horizon,
        )  # fmt: skip
    np.testing.assert_array_equal(read.predict_risk("t1", [20.0], 8), posterior.predict_risk("t1", [20.0], 8))
    assert read.summary().equals(posterior.summary())


def test_what_only_some_proxies_have_is_kept(fitted, tmp_path):
    first, *rest = fitted[0].estimates
    count, left_out = len(first.depths), (LeftOut(1.0, "rises", 0.1, 30.0), LeftOut(2.0, "no value"))
    parts = {"bias": np.full(count, 0.2), "correlation": np.eye(count), "left_out": left_out, "branches": 4}
    full = dataclasses.replace(first, **parts)
    estimates = dataclasses.replace(fitted[0].estimates, tasks=(full, *rest))
    dataclasses.replace(fitted[0], estimates=estimates).save(tmp_path / "post.nc")
    read = load_posterior(tmp_path / "post.nc").estimates
    np.testing.assert_array_equal(read.tasks[0].bias, full.bias)
    np.testing.assert_array_equal(read.tasks[0].correlation, full.correlation)
    assert read.tasks[1].bias is None and read.tasks[1].correlation is None
    assert read.tasks[0].left_out == left_out
    assert read.tasks[0].branches == 4 and read.tasks[1].branches is None


def test_the_file_can_be_replaced_while_its_posterior_lives(saved):
    first = load_posterior(saved)
    first.save(saved)
    assert load_posterior(saved).tasks == first.tasks
    assert [p.name for p in saved.parent.iterdir()] == ["post.nc"]


def test_the_file_is_as_readable_as_any_other(saved):
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize(("place", "words"), [("", "is a folder"), ("nowhere/post.nc", "its folder does not exist")])
def test_places_that_cannot_be_written(fitted, tmp_path, place, words):
    with pytest.raises(InputError, match=words):
        fitted[0].save(tmp_path / place)


def test_files_that_are_no_posterior(saved, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_posterior(tmp_path / "missing.nc")
    with pytest.raises(InputError, match="is a folder"):
        load_posterior(tmp_path)
    text = tmp_path / "text.nc"
    text.write_text("task,seed\n")
    with pytest.raises(InputError, match="not a netCDF file"):
        load_posterior(text)
    other = tmp_path / "other.nc"
    xr.DataTree(xr.Dataset({"x": 1.0})).to_netcdf(other, engine="h5netcdf")
    with pytest.raises(InputError, match="not a posterior"):
        load_posterior(other)
    cut = tmp_path / "cut.nc"
    cut.write_bytes(saved.read_bytes()[:5000])
    with pytest.raises(InputError, match="not a posterior"):
        load_posterior(cut)


def test_newer_schemas_and_damaged_documents(saved, tmp_path):
    def rewritten(change):
        with xr.open_datatree(saved, engine="h5netcdf") as lazy:
            tree = lazy.load()
        change(tree)
        path = tmp_path / "changed.nc"
        tree.to_netcdf(path, engine="h5netcdf")
        return path

    def newer(tree):
        tree.attrs["schema_version"] = SCHEMA_VERSION + 1

    def older(tree):
        tree.attrs["schema_version"] = EARLIEST_VERSION - 1

    def without_branches(tree):
        tree.attrs["schema_version"] = EARLIEST_VERSION
        document = json.loads(tree["bayes_prehoc/document"].values.astype(np.uint8).tobytes())
        for task in document["estimates"]["tasks"]:
            del task["branches"]
        content = np.frombuffer(json.dumps(document).encode(), np.uint8)
        tree["bayes_prehoc"] = xr.DataTree(xr.Dataset({"document": ("byte", content)}))

    def damaged(tree):
        content = np.frombuffer(json.dumps({"gate": []}).encode(), np.uint8)
        tree["bayes_prehoc"] = xr.DataTree(xr.Dataset({"document": ("byte", content)}))

    with pytest.raises(InputError, match="Update bayes-prehoc"):
        load_posterior(rewritten(newer))
    with pytest.raises(InputError, match="earlier model .* Fit the same runs again"):
        load_posterior(rewritten(older))
    with pytest.raises(InputError, match="damaged"):
        load_posterior(rewritten(damaged))
    assert {task.branches for task in load_posterior(rewritten(without_branches)).estimates} == {None}
