"""Random masks for dropout, as the same key gives them on every device.

JAX compiles its Threefry generator for CPUs as a loop over rounds that goes through memory at each of them, and draws
two words for each one that it returns. Written out, rounds are one loop over the words, each of which serves four
places of a mask (`benchmarks/masks.py` has the times).

Source: Salmon et al. 2011 (Threefry-2x32, 20 rounds).
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, UInt32

__all__ = ["bernoulli", "threefry"]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
WORD = 2**32
LOWER = 2**24 - 1
"""The bits of a word below its highest byte."""
ODD = 0x9E3779B1
"""Multiplying by it is a bijection of the lower bits, the highest of which then depend on all."""


def threefry(
    key: UInt32[Array, "2"], first: UInt32[Array, " n"], second: UInt32[Array, " n"]
) -> tuple[UInt32[Array, " n"], UInt32[Array, " n"]]:
    """Two random words for each two words of a counter; that of `jax.extend.random.threefry_2x32`."""
    subkeys = key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(PARITY)
    first, second = first + subkeys[0], second + subkeys[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            first = first + second
            second = first ^ (second << jnp.uint32(rotation) | second >> jnp.uint32(32 - rotation))
        first = first + subkeys[(group + 1) % 3]
        second = second + subkeys[(group + 2) % 3] + jnp.uint32(group + 1)
    return first, second


def bernoulli(key: jax.Array, probability: float, shape: tuple[int, ...]) -> Bool[Array, "..."]:
    """Values that are true with this probability, to 2**-32, and in pairs independent.

    A word serves four values, each of which is told by a byte of its own, but for one time in 256: there a bijective
    mix of the other three decides.

    Parameters
    ----------
    key : key of JAX's default generator
    probability : float
        Above 0 and below 1.
    shape : tuple of int
    """
    size = math.prod(shape)
    pairs = -(-size // 8)
    counter = jax.lax.iota(jnp.uint32, pairs)
    # Without the barriers XLA would compute the words anew for each value.
    words = jax.lax.optimization_barrier(threefry(jax.random.key_data(key), counter, counter + jnp.uint32(pairs)))
    words = jax.lax.optimization_barrier(jnp.concatenate(words))[None]
    by = jnp.uint32(8) * jax.lax.iota(jnp.uint32, 4)[:, None]
    turned = words << by | words >> (jnp.uint32(32) - by & jnp.uint32(31))
    mixed = turned & jnp.uint32(~LOWER & 0xFFFFFFFF) | turned * jnp.uint32(ODD) & jnp.uint32(LOWER)
    below = jnp.uint32(min(round(probability * WORD), WORD - 1))
    return jax.lax.optimization_barrier((mixed < below).reshape(-1)[:size].reshape(shape))
