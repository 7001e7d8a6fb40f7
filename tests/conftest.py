"""Settings of the test run: shape checking of the numerical modules, strict jax, and where recorded runs lie."""

import functools
import gc
import os
import shutil
import types
from pathlib import Path

import jax
import jaxtyping
import numpy as np
import pytest
from scipy import special

# Installed before the package is imported, so that shape annotations are checked while the tests run. Modules that
# NumPyro or NNX trace run unchecked: they meet jax's defaults.
CHECKED = (
    "bayes_prehoc.theory",
    "bayes_prehoc.risk",
    *(
        f"bayes_prehoc.priors.{name}"
        for name in ("heterogeneity", "mixture", "robust", "transforms", "verify", "worth")
    ),
)
_hook = jaxtyping.install_import_hook(CHECKED, "beartype.beartype")

from bayes_prehoc.hierarchy.labels import labelled  # noqa: E402
from bayes_prehoc.hierarchy.model import weak_prior  # noqa: E402
from bayes_prehoc.hierarchy.posterior import Posterior  # noqa: E402
from bayes_prehoc.risk.estimate import estimate_risk  # noqa: E402
from bayes_prehoc.risk.laboratory import martingale  # noqa: E402
from bayes_prehoc.runs.trajectories import Trajectories  # noqa: E402

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


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Function that gives the folder of a tiny checkpoint (`tests/probes/references`) that reads words w3 to w47."""
    transformers, tokenizers = (pytest.importorskip(name) for name in ("transformers", "tokenizers"))
    words = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2} | {f"w{i}": i for i in range(3, 48)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A [SEP] $B:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )

    @functools.cache
    def made(variant):
        folder = tmp_path_factory.mktemp("models") / variant
        shutil.copytree(ROOT / "tests" / "probes" / "references" / variant, folder)
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="[SEP]")
        fast.save_pretrained(folder)
        return str(folder)

    return made


@pytest.fixture(scope="session", autouse=True)
def _caches_of_their_own(tmp_path_factory):
    """Compiled programs stay out of the user's folder; the tests and the processes that they start share them."""
    folder = tmp_path_factory.mktemp("caches")
    programs = str(folder / "programs")
    jax.config.update("jax_compilation_cache_dir", programs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("JAX_COMPILATION_CACHE_DIR", programs)
        yield


@pytest.fixture(scope="session")
def posterior_of():
    """Function that makes a posterior of estimates from draws of their latents, (S, T) or one number for all.

    `mu_level` and so on, if given, are those of the population; `misfit` to `lasting` are shared by the tasks.
    """

    def made(estimates, *, level, share, rate, draws=400, **others):
        tasks = len(estimates)
        sites = {name: np.broadcast_to(value, (draws, tasks)) for name, value in
                 {"level": level, "share": share, "rate": rate}.items()}  # fmt: skip
        known = {"log_onset": -4.0, "misfit": 0.0, "dependence": 0.9}
        if estimates.proxy == "run_to_run":
            known |= {"drift": 0.0, "lasting": 1.0}
        known |= others
        noise = known.pop("noise", None)
        if noise is not None:
            sites["noise"] = np.broadcast_to(noise, (draws, tasks))
        shapes = {"mu_level": (draws, 1), "tau": (draws, 3), "corr": (draws, 3, 3)}
        sites |= {name: np.broadcast_to(value, shapes.get(name, (draws,))) for name, value in known.items()}
        sites = {name: np.array(value, float)[None] for name, value in sites.items()}
        drawn = labelled(sites, {}, estimates)
        return Posterior(drawn, estimates, (), weak_prior(estimates.proxy), "weak prior", 0)

    return made


@pytest.fixture(scope="session")
def laboratory(posterior_of):
    """A chain whose risk is known, 64 of its runs, and a posterior that knows the risk, give or take `spread`."""
    depths = np.geomspace(10.0, 1000.0, 7)
    alpha, amplitude, floor = 0.5, 3e-3, 1e-5
    chain = martingale(depths, alpha, amplitude, floor)
    runs = Trajectories((chain.draw(np.random.default_rng(0), 64, name="a"),))
    estimates = estimate_risk(runs, proxy="conditional")
    reducible = amplitude * (200.0**-alpha - 1000.0**-alpha)

    def posterior(spread=0.0):
        return posterior_of(
            estimates,
            level=np.log((floor + reducible) / estimates["a"].scale ** 2)
            + spread * np.random.default_rng(1).normal(size=(400, 1)),
            share=np.log(floor / reducible),
            rate=special.logit((alpha + 1.0) / 5.0),
            # c_1 is nothing beside any depth, as in the chain.
            log_onset=-20.0,
        )

    return types.SimpleNamespace(chain=chain, runs=runs, posterior=posterior)


MOST_MAPPINGS = 20_000
"""Every compiled program maps memory; a process may have 65,530 mappings on a usual Linux, and dies beyond."""


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Let compiled programs go after a module of tests, once there are many."""
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()
        gc.collect()
