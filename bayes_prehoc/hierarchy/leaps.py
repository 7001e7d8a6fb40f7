r"""Leaps across the posterior of the hyperparameters, between the steps of NUTS.

A posterior can have more than one mode that gradients do not lead between: levels that differ because rates do, or
because shares do, for tasks that were observed far from c_0. A proposal q that is known before sampling starts, and
then left alone, leads there: an independent draw x' ~ q replaces x with probability

.. math:: \min(1, \frac{p(x') q(x)}{p(x) q(x')}) .

Since proposals do not depend on where a chain is, several are weighed at once, and cost one evaluation of the density
each.

Source: Tierney 1994 (independence Metropolis-Hastings and its mixtures with other kernels).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bayes_prehoc.hierarchy.mixture import Mixture, draw, log_density

__all__ = ["LEAPS", "leap"]

LEAPS = 16
"""Proposals for each step of NUTS."""


def leap(key, x: Float[Array, " P"], log_p_of, proposal: Mixture):
    """`LEAPS` Metropolis-Hastings steps from x.

    Returns
    -------
    x : where the chain is now
    leapt : share of the proposals that were accepted
    """
    draw_key, accept_key = jax.random.split(key)
    offered = jnp.concatenate([x[None], draw(draw_key, proposal, LEAPS)])
    log_weight = jax.lax.map(log_p_of, offered) - log_density(proposal, offered)
    log_weight = jnp.where(jnp.isfinite(log_weight), log_weight, -jnp.inf)
    thresholds = jnp.log(jax.random.uniform(accept_key, (LEAPS,)))

    def step(state, offer):
        *other, threshold = offer
        accepted = threshold < other[1] - state[1]
        return jax.tree.map(lambda a, b: jnp.where(accepted, a, b), tuple(other), state), accepted

    (x, _), accepted = jax.lax.scan(step, (x, log_weight[0]), (offered[1:], log_weight[1:], thresholds))
    return x, accepted.mean()
