"""Tests of random masks, against the generator of JAX and against the binomial distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32
from scipy import stats

from bayes_prehoc.probes.backbones.masks import LOWER, ODD, bernoulli, threefry


@pytest.mark.parametrize("seed", [0, 1, 2**31 + 5])
def test_words_are_those_of_jax(seed):
    key = jax.random.key_data(jax.random.key(seed))
    counter = jnp.arange(1000, dtype=jnp.uint32)
    words = threefry(key, counter[:500], counter[500:])
    np.testing.assert_array_equal(np.concatenate(words), threefry_2x32(key, counter))


@pytest.mark.parametrize("probability", [0.1, 0.5, 128.5 / 256, 0.9])
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


@pytest.mark.parametrize("probability", [0.5, 128.5 / 256, 0.9])
def test_values_of_one_word_are_independent_in_pairs(probability):
    """The four values that a word serves lie a quarter of the mask apart."""
    keys = jax.random.split(jax.random.key(1), 64)
    drawn = np.asarray(jax.vmap(lambda key: bernoulli(key, probability, (4, 2**14)))(keys))
    drawn = drawn.transpose(1, 0, 2).reshape(4, -1)
    correlation = np.corrcoef(drawn)[np.triu_indices(4, 1)]
    assert np.abs(correlation).max() < 4.0 / np.sqrt(drawn.shape[1])


def test_a_tie_of_the_first_byte_is_told_by_all_other_bits():
    """What decides there takes every value of 24 bits once."""
    lower = np.arange(2**24, dtype=np.uint32)
    assert len(np.unique(lower * np.uint32(ODD) & np.uint32(LOWER))) == 2**24
