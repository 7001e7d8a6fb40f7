"""Random masks for dropout, as the same key gives them on every device.

JAX compiles its Threefry generator for CPUs as a loop over rounds that goes through memory at each of them, and draws
two words for each one that it returns. Written out, rounds are one loop over the mask's places: the masks of a step of
LoRA on MiniLM cost a fifth (`benchmarks/masks.py`).

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
    """Independent values that are true with this probability, to 2**-32.

    Parameters
    ----------
    key : key of JAX's default generator
    probability : float
        Above 0 and below 1.
    shape : tuple of int
    """
    size = math.prod(shape)
    half = -(-size // 2)
    counter = jax.lax.iota(jnp.uint32, half)
    words = threefry(jax.random.key_data(key), counter, counter + jnp.uint32(half))
    below = jnp.uint32(min(round(probability * WORD), WORD - 1))
    return jnp.concatenate([word < below for word in words])[:size].reshape(shape)
