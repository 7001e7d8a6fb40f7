"""Tests of the product with a kernel, against the plain one."""

import jax
import numpy as np
import pytest

from bayes_prehoc.probes.backbones.products import product


def plain(x, kernel):
    return x @ kernel


@pytest.mark.parametrize("shape", [(5, 7, 2), (5, 2, 7), (5, 3, 3)])
@pytest.mark.parametrize("leading", [(), (4,)])
def test_value_and_gradients_are_those_of_the_plain_product(shape, leading):
    rows, inputs, outputs = shape
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (*leading, rows, inputs))
        kernel = jax.random.normal(keys[1], (inputs, outputs))
        weight = jax.random.normal(keys[2], (*leading, rows, outputs))
        found, expected = (
            jax.jit(jax.value_and_grad(lambda x, kernel, f=f: (weight * f(x, kernel) ** 2).sum(), argnums=(0, 1)))(
                x, kernel
            )
            for f in (product, plain)
        )
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_gradients_of_many_seeds_at_once():
    keys = jax.random.split(jax.random.key(1), 6)

    def slope(f, key):
        x_key, kernel_key = jax.random.split(key)
        x, kernel = jax.random.normal(x_key, (8, 6)), jax.random.normal(kernel_key, (6, 2))
        return jax.grad(lambda kernel: (f(x, kernel) ** 2).sum())(kernel)

    found, expected = (jax.jit(jax.vmap(lambda key, f=f: slope(f, key)))(keys) for f in (product, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
