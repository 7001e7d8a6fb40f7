"""How many seeds go together: what is usual, or as many as memory has room for."""

import types

import jax
import numpy as np
import pytest

from bayes_prehoc.probes import engine, probe, suite_task, widths
from bayes_prehoc.probes.prepare import prepare

pytest.importorskip("sklearn")


def device(limit=None, platform="gpu"):
    stats = None if limit is None else {"bytes_limit": limit, "bytes_in_use": limit // 5}
    return types.SimpleNamespace(platform=platform, memory_stats=lambda: stats)


def test_an_accelerator_takes_as_many_as_fit(small):
    task = prepare(small)
    one = task.bytes_of_run
    assert widths.choose_width(task, device(), 1) == widths.usual_width("mlp", "gpu")
    assert widths.choose_width(task, device(int(1e5 * one)), 1) == widths.usual_width("mlp", "gpu")
    assert widths.choose_width(task, device(int(26 * one)), 1) == 10  # half of four fifths of 26
    assert widths.choose_width(task, device(int(one)), 1) == 1


def test_little_memory_makes_groups_narrow_and_is_remembered(small, monkeypatch, tmp_path):
    one = prepare(small).bytes_of_run
    monkeypatch.setattr(widths, "available_memory", lambda: int(2 * 4.5 * one))
    monkeypatch.setattr("bayes_prehoc.probes.execute.cores", lambda: 1)
    narrow = probe(small, 6, store=tmp_path / "runs.db", progress=False)["small"]
    assert narrow.attributes["width"] == 4
    monkeypatch.setattr(widths, "available_memory", lambda: None)
    assert probe(small, 2, progress=False)["small"].attributes["width"] == widths.usual_width("mlp", "cpu")
    more = probe(small, 7, store=tmp_path / "runs.db", progress=False)["small"]
    assert more.attributes["width"] == 4
    np.testing.assert_array_equal(more.values["loss"][:6], narrow.values["loss"])


@pytest.mark.parametrize("name", ["digits-fast", "addition"])
def test_the_model_of_memory_is_what_the_compiler_asks_for(name):
    """Within a factor of two and a half."""
    task, width = prepare(suite_task(name)), 4
    program, arguments = task.place(jax.devices()[0], width)
    seeds = np.arange(width, dtype=np.uint32)
    asked = engine.run_group.lower(program, seeds, *arguments).compile().memory_analysis()
    assert 0.4 < asked.temp_size_in_bytes / width / task.bytes_of_run < 2.5
