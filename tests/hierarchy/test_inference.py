"""Settings of the sampler, its chains, and whole fits of data with all that data can have."""

import dataclasses

import jax
import numpy as np
import pytest

from bayes_prehoc import InputError
from bayes_prehoc.hierarchy import collapsed
from bayes_prehoc.hierarchy.checks import GATE
from bayes_prehoc.hierarchy.collapsed import RULES
from bayes_prehoc.hierarchy.inference import Sampler, _by_leaps, sample
from bayes_prehoc.hierarchy.model import LATENTS, weak_prior
from bayes_prehoc.hierarchy.placing import Known, place
from bayes_prehoc.hierarchy.start import find_reference


@pytest.mark.parametrize(
    "settings", [{"chains": 1}, {"warmup": 0}, {"draws": 0}, {"target_accept": 1.0}, {"attempts": 0}, {"draws": 2.5}]
)
def test_impossible_samplers_are_refused(settings):
    with pytest.raises(InputError, match="Give a"):
        Sampler(**settings)


def test_a_failed_attempt_is_made_harder():
    first = Sampler()
    second = first.harder()
    assert second.warmup == 2 * first.warmup and first.target_accept < second.target_accept < 1.0


@pytest.mark.slow
def test_tasks_of_all_sorts_in_one_fit(make, monkeypatch):
    """Different numbers of depths, two kinds of metric, and noise that is known for some outcome sets only."""
    monkeypatch.setattr(collapsed, "GROUP_COST", 10)
    noise = (np.array([4e-4, 0.0] * 8), np.array([8e-5, 0.0] * 8))
    truth, data, _ = make.simulated(tasks=16, proxy="conditional", noise=noise)
    kind = np.tile(np.eye(2, dtype=np.float32), (8, 1))
    mask = np.arange(8)[:, None] < np.array([4, 8, 6, 8] * 4)
    data = data._replace(kind=jax.numpy.asarray(kind), mask=jax.numpy.asarray(mask))
    made = sample(jax.random.key(0), data, weak_prior("conditional"), "conditional")
    assert [check.name for check in made.checks if not check.passed] == []
    assert made.sites["mu_level"].shape[2:] == (2,) and made.sites["noise"].shape[2:] == (16,)
    for name in LATENTS:
        low, high = np.quantile(made.sites[name].reshape(-1, 16), (0.01, 0.99), axis=0)
        assert np.sum((low <= getattr(truth, name)) & (getattr(truth, name) <= high)) >= 13, name


def test_a_rule_that_was_too_coarse_is_not_taken_again(placed):
    evaluator, data, _ = placed
    target = evaluator.target
    known = Known(find_reference(data, target.prior, target.proxy))
    strict = dataclasses.replace(GATE, quadrature=0.0)
    _, further = _by_leaps(jax.random.key(0), known, evaluator, data, Sampler(draws=50, extensions=0), strict, 0)
    known = further.known()
    assert known.too_coarse >= 1
    again = place(jax.random.key(0), known, evaluator, data)
    assert RULES.index(again.rule) >= known.too_coarse
