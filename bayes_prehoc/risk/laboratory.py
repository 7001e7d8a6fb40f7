r"""Runs whose risk is known at every depth, to hold proxies against.

A run is a chain of its states at D depths, and R what it comes to:

.. math:: x_{i+1} = a_i x_i + \sqrt{v_i} \epsilon_i, \qquad R = x_D + \sqrt{L_{int}} \epsilon .

The metric shows the state, so a prefix leaves open what is still to come, carried to the end,
sum over k >= i of v_k prod_{j > k} a_j^2, and L_int. A martingale has a = 1; stochastic gradient descent on a quadratic
of curvature h with steps eta has a = prod(1 - eta h), which forgets. Innovations can have heavy tails.

Some runs can be bound to fail: an amount that grows with depth is taken from them, and from R in full. The state knows
which they are, and the metric tells it by and by; what prefixes and what states leave open then differ.

Source: Proposition 5.1 of arXiv 2606.17649 for steps that fall as a power.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs.trajectories import TaskRuns

__all__ = ["Chain", "martingale", "power_rates", "results_of_examples", "sgd", "stopped", "with_failures"]

LEVEL = 0.8
"""Mean of the metric."""
NODES = 101
"""Of the quadrature over what a prefix tells of whether a run fails."""


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """A kind of runs whose risk is known.

    Attributes
    ----------
    depths : float64 array (D,)
    carried : float64 array (D - 1,)
        a, what is left of a state at the next depth.
    fresh : float64 array (D,)
        Variance that is new at each depth.
    floor : float
        L_int.
    tail : float
        Degrees of freedom of Student's t, of which innovations are; infinite: normal. More than 2.
    failing : float
        Share of the runs that are bound to fail.
    lost : float64 array (D,)
        What failing takes from the metric; the last is what it takes from R.
    """

    depths: np.ndarray
    carried: np.ndarray
    fresh: np.ndarray
    floor: float
    tail: float = math.inf
    failing: float = 0.0
    lost: np.ndarray | None = None

    @property
    def given_state(self) -> Float[np.ndarray, " D"]:
        """E[Var(R | state at depth c)], what branching estimates."""
        kept = self._kept**2
        to_come = np.append(np.cumsum((self.fresh[1:] * kept[1:])[::-1])[::-1], 0.0)
        return self.floor + to_come

    @property
    def risk(self) -> Float[np.ndarray, " D"]:
        """L(c) = E[Var(R | prefix up to c)], what the conditional proxy is at or above.

        Of runs that may fail only where innovations are normal.
        """
        return self.given_state + self._unsure

    @property
    def spread(self) -> Float[np.ndarray, " D"]:
        """Variance of the metric over runs at each depth."""
        variance = np.zeros(len(self.depths))
        variance[0] = self.fresh[0]
        for i, (a, v) in enumerate(zip(self.carried, self.fresh[1:], strict=True), start=1):
            variance[i] = a**2 * variance[i - 1] + v
        return variance + self.failing * (1.0 - self.failing) * self._lost**2

    def draw(self, rng: np.random.Generator, runs: int, branches: int = 0, name: str = "laboratory") -> TaskRuns:
        """Runs of metric "score" with their R, each forked at all depths but the last where there are branches."""
        fails = rng.random(runs) < self.failing
        state = np.zeros((runs, len(self.depths)))
        state[:, 0] = self._innovations(rng, (runs,)) * np.sqrt(self.fresh[0])
        for i in range(1, len(self.depths)):
            state[:, i] = self._next(rng, state[:, i - 1], i)
        forks = None
        if branches:
            outcomes = [self._end(rng, state[:, i], i, fails, branches) for i in range(len(self.depths) - 1)]
            forks = np.stack(outcomes, axis=1)
        return TaskRuns(
            task=name,
            seeds=tuple(range(runs)),
            depths=self.depths,
            values={"score": LEVEL + state - fails[:, None] * self._lost},
            outcome_metric="score",
            horizon=float(self.depths[-1]),
            outcome=self._end(rng, state[:, -1], len(self.depths) - 1, fails, 1)[:, 0],
            fork_depths=self.depths[:-1] if branches else None,
            forked=forks,
            higher_is_better=True,
        )

    @property
    def _kept(self):
        """What is left at the end of a state at each depth (D,)."""
        return np.append(np.cumprod(self.carried[::-1])[::-1], 1.0)

    @property
    def _lost(self):
        return np.zeros(len(self.depths)) if self.lost is None else self.lost

    @property
    def _unsure(self):
        """What not knowing whether a run fails adds, (D,): (lost_D - lost_i)^2 E[q (1 - q)], q its probability.

        The log odds are log(p / (1 - p)) + s (s / 2 + z) for a run that fails and with -s / 2 for one that does not,
        s^2 the sum of squared steps of `lost` over the variances that are new there, z standard normal.
        """
        p = self.failing
        if p == 0.0:
            return np.zeros(len(self.depths))
        told = np.sqrt(np.cumsum(np.diff(self._lost, prepend=0.0) ** 2 / self.fresh))[:, None]
        z, weight = np.polynomial.hermite_e.hermegauss(NODES)
        prior = math.log(p / (1.0 - p))
        open_share = np.zeros(len(self.depths))
        for sign, share in ((1.0, p), (-1.0, 1.0 - p)):
            q = special.expit(prior + told * (sign * told / 2.0 + z))
            open_share += share * (q * (1.0 - q)) @ weight / weight.sum()
        return (self._lost[-1] - self._lost) ** 2 * open_share

    def _innovations(self, rng, shape):
        """Of variance one."""
        if math.isinf(self.tail):
            return rng.normal(size=shape)
        return rng.standard_t(self.tail, size=shape) / math.sqrt(self.tail / (self.tail - 2.0))

    def _next(self, rng, state, i):
        return self.carried[i - 1] * state + np.sqrt(self.fresh[i]) * self._innovations(rng, state.shape)

    def _end(self, rng, state, i, fails, branches):
        """R of continuations (n, b) from states (n,) at the i-th depth."""
        state = np.repeat(state[:, None], branches, axis=1)
        for later in range(i + 1, len(self.depths)):
            state = self._next(rng, state, later)
        noise = np.sqrt(self.floor) * rng.normal(size=state.shape)
        return LEVEL + state + noise - fails[:, None] * self._lost[-1]


def martingale(
    depths: Float[np.ndarray, " D"], alpha: float, amplitude: float, floor: float, tail: float = math.inf
) -> Chain:
    """Runs of which V_opt(c) = K (c^-alpha - c_T^-alpha), c_T the last depth; half of what was open is known at first.

    Parameters
    ----------
    depths : positive array (D,), increasing
    alpha : float, not 0
        With a negative alpha the amplitude K is negative too.
    amplitude, floor : float
        K and L_int, in squared units of the metric.
    tail : float, optional
        See `Chain`.
    """
    depths = _checked(depths)
    open_yet = amplitude * (depths**-alpha - depths[-1] ** -alpha)
    if not (np.diff(open_yet) < 0.0).all():
        raise InputError(
            f"V_opt does not fall with alpha {alpha:g} and amplitude {amplitude:g}",
            "martingale",
            "Give both the same sign.",
        )
    return Chain(depths, np.ones(len(depths) - 1), np.append(open_yet[0], -np.diff(open_yet)), floor, tail)


def sgd(
    depths: Float[np.ndarray, " D"], rates: Float[np.ndarray, " T"], curvature: float, noise: float, floor: float
) -> Chain:
    """Stochastic gradient descent along one direction, theta <- theta - eta_k (h theta + sigma e), with steps eta.

    Runs begin at theta = 0 and R = theta_T. With steps k^-rho along a flat direction (h = 0) what is left open falls as
    c^-(2 rho - 1) less its value at c_T, while runs drift apart; along a curved one their spread follows eta, and
    prefixes say little of R until late.

    Parameters
    ----------
    depths : whole numbers (D,), increasing, the last one T
    rates : array (T,)
        eta of the first step, and so on.
    curvature : float
        h, in [0, 2 / eta).
    noise, floor : float
        sigma, and L_int.
    """
    depths = _checked(depths)
    if depths[-1] != len(rates):
        raise InputError(f"{len(rates)} rates for {depths[-1]:g} steps", "sgd", "Give one for each step.")
    factor = 1.0 - rates * curvature
    carried, fresh = np.ones(len(depths)), np.zeros(len(depths))
    for i, (begin, end) in enumerate(zip(np.append(0, depths[:-1]).astype(int), depths.astype(int), strict=True)):
        later = np.append(np.cumprod(factor[begin + 1 : end][::-1])[::-1], 1.0)
        carried[i] = np.prod(factor[begin:end])
        fresh[i] = noise**2 * np.sum((rates[begin:end] * later) ** 2)
    return Chain(depths, carried[1:], fresh, floor)


def power_rates(steps: int, rho: float) -> Float[np.ndarray, " T"]:
    """eta_k = k^-rho of that many steps."""
    return np.arange(1, steps + 1) ** -float(rho)


def with_failures(chain: Chain, failing: float, gap: float, onset: float) -> Chain:
    """Two components: a share of the runs ends lower by `gap`, the metric by gap c / (c + onset) of it so far.

    For chains that carry their state in full, as martingales do; at the last depth the whole gap shows.
    """
    if not np.all(chain.carried == 1.0):
        raise InputError("the chain forgets its states", "with_failures", "Give a martingale.")
    lost = gap * chain.depths / (chain.depths + onset)
    return dataclasses.replace(chain, failing=failing, lost=lost * gap / lost[-1])


def stopped(runs: TaskRuns, target: float) -> TaskRuns:
    """The same runs, of which each ends at the first depth where it reaches the target; they have no R then.

    Informative: who is missing at a depth was good before it.
    """
    value = runs.values[runs.outcome_metric]
    reached = np.cumsum(value >= target, axis=1) > 0
    missing = np.zeros_like(reached)
    missing[:, 1:] = reached[:, :-1]
    values = {name: np.where(missing, np.nan, own) for name, own in runs.values.items()}
    return dataclasses.replace(runs, values=values, outcome=np.where(missing[:, -1], np.nan, runs.final_outcome()))


def results_of_examples(
    rng: np.random.Generator, accuracy: Float[np.ndarray, " n"], examples: int
) -> tuple[Bool[np.ndarray, "n m"], float]:
    """Results on a shared set of runs that would have these accuracies on an endless one, and the noise it adds.

    Examples differ in difficulty as far as the accuracies allow; given a run they are independent.

    Returns
    -------
    bool array (n, m)
    float
        V_eval of these accuracies on these examples.
    """
    room = min(accuracy.min(), 1.0 - accuracy.max())
    ease = np.resize(np.linspace(-room, room, 5), examples)
    chance = accuracy[:, None] + ease - ease.mean()
    chance = np.clip(chance, 0.0, 1.0)
    return rng.random(chance.shape) < chance, float(np.mean(chance * (1.0 - chance)) / examples)


def _checked(depths):
    depths = np.asarray(depths, np.float64)
    if depths.ndim != 1 or len(depths) < 2 or not (depths > 0.0).all() or not (np.diff(depths) > 0.0).all():
        raise InputError("depths are not positive and increasing", "laboratory", "Give two or more such numbers.")
    return depths
