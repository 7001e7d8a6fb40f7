r"""Laws that the decay of risk may follow: the power law of the theory, and what it is held against.

Every law is a clock f of the depth, a share of the horizon, in which the reducible risk decays exponentially,

.. math:: b(c) = e^{-\alpha f(c)}, \qquad f'(c_0) \, c_0 \approx 1 ,

so that whatever the law alpha is how steep log b is against log depth at the reference depth c_0, and one prior serves
all. B(c) is b(c) for the spread between runs and b(c) - b(c_T), which is what is open, for the proxies of remaining
risk. One hyperparameter bends the clock: the onset c_1, of which the weak prior says that its logarithm is N(-4, 1).

| law | f(c) | |
| --- | --- | --- |
| power | log(c + c_1) | |
| no floor | log(c + c_1) | L_int = 0 |
| exponential | c / c_0 | |
| stretched | ((c / c_0)^b - 1) / b | b, uniform in (0, 1), stands in the place of the onset |
| change point | log max(c, c_1) | flat before c_1 |
"""

import jax.numpy as jnp
from jax.scipy.special import ndtr

from bayes_prehoc import theory

__all__ = ["LAWS", "NO_FLOOR", "POWER", "decay"]

POWER, NO_FLOOR = "power", "no floor"
LAWS = (POWER, NO_FLOOR, "exponential", "stretched", "change point")
STRETCH_AT, STRETCH_PER = -4.0, 1.0
"""Location and scale of the log of the onset under the weak prior: its normal score, and so b."""
LEAST_STRETCH = 1e-3


def decay(law: str, depth, reference, alpha, onset, horizon=None):
    """B(depth) / B(reference) of a law; arguments as in `theory.decay`, which it is for the power law."""
    if law in (POWER, NO_FLOOR):
        return theory.decay(depth, reference, alpha, onset, horizon)
    at, at_reference = (_clock(law, c, reference, onset) for c in (depth, reference))
    at_horizon = None if horizon is None else _clock(law, horizon, reference, onset)
    return theory.decay_by_clock(at, at_reference, alpha, at_horizon)


def _clock(law, depth, reference, onset):
    """f(depth)."""
    if law == "exponential":
        return depth / reference
    if law == "stretched":
        bend = jnp.maximum(ndtr((jnp.log(onset) - STRETCH_AT) / STRETCH_PER), LEAST_STRETCH)
        return jnp.expm1(bend * jnp.log(depth / reference)) / bend
    return jnp.log(jnp.maximum(depth, onset))
