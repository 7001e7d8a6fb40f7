"""A probe that is killed, again and again, ends where one that was left alone ends."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from bayes_prehoc.probes import probe
from bayes_prehoc.runs import RunStore

KILLS, SEEDS = 20, 16 * 45
PROBE = """
import sys
from bayes_prehoc.probes import ProbeSpec, probe
spec = ProbeSpec(**{fields!r})
probe(spec, {seeds}, store=sys.argv[1], progress=False)
"""


def stored(path):
    """How many runs are in the store."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
        return connection.execute("SELECT count(*) FROM run").fetchone()[0]
    return 0


@pytest.mark.slow
def test_a_probe_that_is_killed_goes_on_and_ends_the_same(variant, tmp_path):
    """Each time the kill comes within a few groups after the first new one was stored."""
    pytest.importorskip("sklearn")
    spec = variant(steps=100)
    fields = {f: getattr(spec, f) for f in spec.__dataclass_fields__ if getattr(spec, f) is not None}
    script, store = tmp_path / "probe.py", tmp_path / "runs.db"
    script.write_text(PROBE.format(fields=fields, seeds=SEEDS))
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    rng, kills = random.Random(0), 0
    while kills < KILLS:
        before = stored(store)
        child = subprocess.Popen([sys.executable, script, store], env=environment)
        while child.poll() is None and stored(store) == before:
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.02))
        assert child.poll() is None, f"ended by itself after {kills} kills"
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills += 1
        assert stored(store) % 16 == 0, "a group is stored whole or not at all"
    assert before < SEEDS
    subprocess.run([sys.executable, script, store], env=environment, check=True)

    with RunStore(store) as opened:
        resumed = opened.read()["small"]
    alone = probe(spec, SEEDS, progress=False)["small"]
    rows = [resumed.seeds.index(seed) for seed in alone.seeds]
    assert set(resumed.metrics) == set(alone.metrics)
    for metric, values in alone.values.items():
        np.testing.assert_array_equal(resumed.values[metric][rows], values)
    np.testing.assert_array_equal(resumed.outcome[rows], alone.outcome)
    np.testing.assert_array_equal(resumed.outcome_examples[rows], alone.outcome_examples)
