"""The product of activations and a kernel, whose gradient XLA computes fast on CPUs as well.

The kernel's gradient x'g contracts the first axis of both factors. XLA's CPU backend computes such a product by a loop
of its own and not by the kernels that it has for others, at a fraction of their speed, and the slower the fewer columns
g has: half of a step of training a head went there. So the left factor is transposed beforehand, and where g has fewer
columns than x the product is (g'x)'. Barriers keep the compiler from putting the transposition back.
"""

import jax
from jaxtyping import Array, Float

__all__ = ["product"]


@jax.custom_vjp
def product(x: Float[Array, "*N I"], kernel: Float[Array, "I O"]) -> Float[Array, "*N O"]:
    """x @ kernel."""
    return x @ kernel


def _forward(x, kernel):
    return x @ kernel, (x, kernel)


def _backward(kept, gradient):
    x, kernel = kept
    inputs, outputs = kernel.shape
    rows_x, rows_g = x.reshape(-1, inputs), gradient.reshape(-1, outputs)
    of_kernel = jax.lax.platform_dependent(rows_x, rows_g, cpu=_transposed_first, default=_contracted)
    return gradient @ kernel.T, of_kernel


def _contracted(x, gradient):
    return x.T @ gradient


def _transposed_first(x, gradient):
    if x.shape[1] > gradient.shape[1]:
        return jax.lax.optimization_barrier(jax.lax.optimization_barrier(gradient.T) @ x).T
    return jax.lax.optimization_barrier(x.T) @ gradient


product.defvjp(_forward, _backward)
