"""Settings of the test run: shape checking of the numerical modules, strict jax, and where recorded runs lie."""

import os
from pathlib import Path

import jax
import jaxtyping
import pytest

# Installed before the package is imported, so that shape annotations are checked while the tests run. Modules that
# NUTS or NNX trace run unchecked: they meet jax's defaults.
CHECKED = ("bayes_prehoc.theory", "bayes_prehoc.risk")
_hook = jaxtyping.install_import_hook(CHECKED, "beartype.beartype")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def strict_jax():
    """Rank promotion raises and dtype promotion is strict, for tests of our own numerical functions."""
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def float64():
    """Double precision, for tolerances of 1e-6 and tighter."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def data_folder():
    """Folder of recorded runs and fine-tuning data; skips where it is missing."""
    folder = Path(os.environ.get("BAYES_PREHOC_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder} (set BAYES_PREHOC_DATA)")
    return folder
