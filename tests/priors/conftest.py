"""Cards of known content: hyperparameters like those of the model, drawn from a normal in coordinates."""

import types

import numpy as np
import pytest

from bayes_prehoc.priors import Diagnostic, Provenance, Scope, Site, Transform, Weak, make_card
from bayes_prehoc.priors.transforms import constrained

LATENTS = ("level", "share", "rate")


def sites(kinds=("accuracy",)):
    """Every transform once or more, in 12 coordinates of one kind of metric."""
    levels = tuple(f"mu_level[{kind}]" for kind in kinds)
    below = ("corr[share, level]", "corr[rate, level]", "corr[rate, share]")
    return (
        Site("mu_level", (len(kinds),), Transform("identity"), levels, "risk"),
        Site("mu_share", (), Transform("identity"), ("mu_share",)),
        Site("mu_rate", (), Transform("identity"), ("mu_rate",)),
        Site("tau", (3,), Transform("half_normal", {"scale": (1.5, 1.0, 0.5)}), tuple(f"tau[{n}]" for n in LATENTS)),
        Site("corr", (3, 3), Transform("correlation", {"lkj": (2.0,)}), below),
        Site("log_onset", (), Transform("identity"), ("log_onset",), "depth"),
        Site("misfit", (), Transform("half_normal", {"scale": (0.2,), "most": (1.0,)}), ("misfit",)),
        Site("drift", (), Transform("exponential", {"mean": (0.33,)}), ("drift",)),
        Site("lasting", (), Transform("power", {"a": (2.0,)}), ("lasting",)),
        Site("length", (), Transform("log"), ("length",)),
    )


def weak(kinds=("accuracy",)):
    """Of these sites."""
    k = len(kinds)
    mean = np.array([-8.0] * k + [-1.0, -1.5] + [0.0] * 6 + [-4.0] + [0.0] * 4)
    return Weak(mean, np.array([2.5] * k + [1.5, 0.7] + [1.0] * 6 + [1.0] + [1.0] * 3 + [0.7]))


def hashes(tasks, first=0):
    return tuple(f"run {first + number}" for number in range(8 * tasks))


def card_around(
    at=0.5, width=0.4, kinds=("accuracy",), seed=0, tasks=12, draws=500, first=0, scope=None, more=(), **about
):
    """A card at `at` weak standard deviations from the weak mean, `width` of them wide, with a little correlation."""
    rng = np.random.default_rng(seed)
    before = weak(kinds)
    size = len(before.mean)
    factor = width * np.linalg.cholesky(0.8 * np.eye(size) + 0.2)
    y = before.mean + before.scale * (at + rng.normal(size=(draws, size)) @ factor.T)
    values, done = {}, 0
    for site in sites(kinds):
        values[site.name] = constrained(site, y[:, done : done + len(site.labels)])
        done += len(site.labels)
    means = {f"mu_level[{kind}]": "tau[level]" for kind in kinds} | {"mu_share": "tau[share]", "mu_rate": "tau[rate]"}
    return make_card(
        values,
        sites(kinds),
        before,
        Scope("run_to_run", 0.2, kinds, ("bert",), **(scope or {})),
        Provenance(**({"name": "made-up", "tasks": tasks, "runs": 8 * tasks, "licence": "CC0-1.0"} | about)),
        hashes=(*hashes(tasks, first), *more),
        population=means,
        diagnostics=(Diagnostic("r_hat", True, 1.002, 1.01, "tau[0]"),),
    )


@pytest.fixture(scope="session")
def make():
    """Builders of cards and of what they are made from."""
    return types.SimpleNamespace(card=card_around, sites=sites, weak=weak, hashes=hashes)


@pytest.fixture(scope="session")
def card():
    """A card of twelve tasks."""
    return card_around()


@pytest.fixture
def saved(card, tmp_path):
    """Its folder."""
    card.save(tmp_path / "card")
    return tmp_path / "card"
