"""Devices and processes share the seeds of a probe, and change nothing about a seed."""

import os
import pickle
import socket
import subprocess
import sys

import numpy as np
import pytest

from bayes_prehoc.probes import probe
from bayes_prehoc.runs import RunStore

pytest.importorskip("sklearn")

SEEDS = 40
"""Three groups."""
ON_ITS_OWN = """
import pickle, sys
import jax
from conftest import SMALL
from bayes_prehoc.probes import probe
rank, port, out, store = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
if port != "none":
    jax.distributed.initialize("127.0.0.1:" + port, 2, rank)
runs = probe(SMALL, {seeds}, store=store if store != "none" else None, progress=False)["small"]
values = runs.values | {{"outcome": runs.outcome, "examples": runs.outcome_examples, "seeds": runs.seeds}}
pickle.dump((values, len(jax.local_devices()), jax.process_count()), open(out, "wb"))
"""


def start(tmp_path, rank, port="none", store="none", seeds=SEEDS, flags=""):
    script = tmp_path / "own.py"
    script.write_text(ON_ITS_OWN.format(seeds=seeds))
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__), "XLA_FLAGS": flags}
    command = [sys.executable, str(script), str(rank), str(port), str(tmp_path / f"{rank}.pkl"), str(store)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def result(process, tmp_path, rank):
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said[-3000:]
    return pickle.loads((tmp_path / f"{rank}.pkl").read_bytes())


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def assert_same(values, expected):
    """To the last bit: a group is computed by the same program wherever it is."""
    assert values["seeds"] == expected.seeds
    for name, array in expected.values.items():
        np.testing.assert_array_equal(values[name], array, err_msg=name)
    np.testing.assert_array_equal(values["outcome"], expected.outcome)
    np.testing.assert_array_equal(values["examples"], expected.outcome_examples)


@pytest.fixture
def expected(small):
    """Runs of this process alone."""
    return probe(small, SEEDS, progress=False)["small"]


def test_two_devices_of_one_process(tmp_path, expected):
    process = start(tmp_path, 0, flags="--xla_force_host_platform_device_count=2")
    values, devices, _ = result(process, tmp_path, 0)
    assert devices == 2
    assert_same(values, expected)


def test_two_processes_with_one_store(tmp_path, expected):
    """Each has all runs in the end, and the store has each once; a second call runs nothing."""
    store = tmp_path / "runs.db"
    for _ in range(2):
        port = free_port()
        processes = [start(tmp_path, rank, port, store) for rank in (0, 1)]
        for rank, process in enumerate(processes):
            values, _, count = result(process, tmp_path, rank)
            assert count == 2
            assert_same(values, expected)
        with RunStore(store) as opened:
            assert sorted(opened.read(["small"])["small"].seeds) == list(range(SEEDS))


def test_processes_whose_stores_differ_are_told_so(tmp_path, small):
    probe(small, 3, store=tmp_path / "runs0.db", progress=False)
    port = free_port()
    processes = [start(tmp_path, rank, port, tmp_path / f"runs{rank}.db", seeds=3) for rank in (0, 1)]
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode != 0 and "Give all processes one store" in said
