"""Tests of random masks, against the generator of JAX and against the binomial distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32
from scipy import stats

from bayes_prehoc.probes.backbones.masks import bernoulli, threefry


@pytest.mark.parametrize("seed", [0, 1, 2**31 + 5])
def test_words_are_those_of_jax(seed):
    key = jax.random.key_data(jax.random.key(seed))
    counter = jnp.arange(1000, dtype=jnp.uint32)
    words = threefry(key, counter[:500], counter[500:])
    np.testing.assert_array_equal(np.concatenate(words), threefry_2x32(key, counter))


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(), (7,), (3, 1, 5), (100, 999)])
def test_shares_are_binomial(probability, shape):
    """A two-sided test at one in ten thousand, over masks of many keys."""
    keys = jax.random.split(jax.random.key(3), 200)
    drawn = np.asarray(jax.vmap(lambda key: bernoulli(key, probability, shape))(keys))
    assert drawn.shape == (200, *shape) and drawn.dtype == bool
    assert stats.binomtest(int(drawn.sum()), drawn.size, probability).pvalue > 1e-4


def test_places_and_keys_are_independent():
    """The two halves of a mask, neighbours in it, and masks of neighbouring keys."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(64))
    drawn = np.asarray(jax.vmap(lambda key: bernoulli(key, 0.5, (4096,)))(keys)) - 0.5
    for a, b in ((drawn[:, :2048], drawn[:, 2048:]), (drawn[:, 1:], drawn[:, :-1]), (drawn[1:], drawn[:-1])):
        correlation = 4.0 * np.mean(a * b)
        assert abs(correlation) < 4.0 / np.sqrt(a.size)
