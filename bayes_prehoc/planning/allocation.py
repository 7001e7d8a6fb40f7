r"""One budget over many tasks: the depths that leave least weighted expected risk for what they cost together.

.. math:: \min_{c, z} \; \sum_t w_t E[L_t(c_t)] \quad\text{subject to}\quad \sum_t C_t(c_t) \le B ,

over tasks that are probed (z_t = 1), c_t between a least and a greatest depth, on multiples of a step where one is
stated. Tasks of a group are probed all or not at all; one that is not costs nothing and leaves open what is open at the
shallowest depth.

With a price mu of budget tasks part: each takes the depth that minimises w E[L] + mu C, where its marginal return
w E[-dL/dc] / C' falls to mu, the same for all; a group is probed if that is less than not probing it. The
price at which the budget is just spent is found by bisection. For any mu the sum of these minima less mu B is a lower
bound of the objective (Lagrange duality; Everett 1963), so it is always known how far from the best the answer can be.
Where nothing jumps (no steps, no groups, costs convex), the answer is the optimum. Else groups are settled by branch
and bound on that bound, what is left of the budget is spent step by step where it returns most (Fox 1966), and a
problem small enough is settled by integer programming.
"""

import dataclasses
import heapq
import math
from typing import NamedTuple

import numpy as np
from scipy import optimize, sparse

from bayes_prehoc.planning.expected import NODES, ExpectedRisk

__all__ = ["Allotment", "Options", "Portfolio", "allot"]

BISECTIONS = 32
"""Of a depth between two nodes."""
PRICE_STEPS = 80
SPENT = 1e-11
"""Share of the budget that may be left where nothing jumps."""
STEEPEST = 600.0
"""Logarithm of a price beyond which none is asked, either way."""
MOST_NODES = 400
MOST_WORK = 40_000
"""Nodes of branch and bound, at most as many that they hold so many pieces in all: what is then open is told."""
MOST_LEVELS = 3000
"""Pairs of task and depth that integer programming is given."""
CLOSED = 1e-8
"""Share of the objective by which an answer may miss its bound and count as the best."""


class Options(NamedTuple):
    """Pieces of all tasks' costs, sorted by task; int and float64 arrays (N,). See `costs.Piece`."""

    task: np.ndarray
    low: np.ndarray
    high: np.ndarray
    base: np.ndarray
    slope: np.ndarray
    doubling: np.ndarray
    power: np.ndarray

    def cost(self, depth):
        """At a depth of each."""
        return self.base + self.slope * depth * (1.0 + (depth / self.doubling) ** (self.power - 1.0))

    def marginal_cost(self, depth):
        """At depths of each, (N,) or (D, N)."""
        return self.slope * (1.0 + self.power * (depth / self.doubling) ** (self.power - 1.0))

    def taken(self, places) -> "Options":
        """Some of them, by their places."""
        return Options(*(part[places] for part in self))

    def cost_of(self, places, depth):
        """At a depth of each of some."""
        return self.taken(places).cost(depth)

    def marginal_cost_of(self, places, depth):
        """At a depth of each of some."""
        return self.taken(places).marginal_cost(depth)


class Allotment(NamedTuple):
    """An answer.

    Attributes
    ----------
    depth, cost, risk : float64 arrays (T,)
        0, 0 and the risk at the shallowest depth of a task that is not probed; risk by the cubics.
    probed : bool array (T,)
    marginal_value : float
        What one more unit of budget lowers the objective by: the common marginal return, or, on steps, that of the best
        next step; 0 where nothing is left to buy.
    gap : float
        At most this much less could the objective be.
    """

    depth: np.ndarray
    cost: np.ndarray
    risk: np.ndarray
    probed: np.ndarray
    marginal_value: float
    gap: float


class _Answer(NamedTuple):
    """Each task's best at a price: arrays (T,), and what the tasks take together."""

    depth: np.ndarray
    cost: np.ndarray
    risk: np.ndarray
    option: np.ndarray
    on: np.ndarray
    spent: float
    bound: float
    log_price: float


@dataclasses.dataclass(frozen=True, eq=False)
class Portfolio:
    """What is to be allotted.

    Attributes
    ----------
    expected : ExpectedRisk
        Of T tasks.
    options : Options
    weight : float64 array (T,)
    unprobed : float64 array (T,)
        Expected risk of a task that is not probed.
    group : int array (T,)
        Place of a task's group, -1 where it is probed in any case.
    step : float64 array (T,)
        Depths are multiples of it; 0: any depth.
    returns : float64 array (NODES, N)
        Logarithm of the marginal return at the nodes of each option's task.
    firsts : int array (T + 1,)
        Where each task's options begin.
    groups : int
    """

    expected: ExpectedRisk
    options: Options
    weight: np.ndarray
    unprobed: np.ndarray
    group: np.ndarray
    step: np.ndarray
    returns: np.ndarray = dataclasses.field(init=False)
    firsts: np.ndarray = dataclasses.field(init=False)
    groups: int = dataclasses.field(init=False)

    def __post_init__(self):
        own = self.options.task
        depths = self.expected.depths(own)
        with np.errstate(divide="ignore", invalid="ignore"):
            worth = np.log(self.weight[own]) + np.log(self.expected.gains[:, own])
            object.__setattr__(self, "returns", worth - np.log(self.options.marginal_cost(depths)))
        object.__setattr__(self, "firsts", np.searchsorted(own, np.arange(len(self.weight) + 1)))
        object.__setattr__(self, "groups", int(self.group.max(initial=-1)) + 1)

    def at_price(self, log_price: float, budget: float, state: np.ndarray) -> _Answer:
        """The best of each task at a price of budget.

        `state` (G,): 1 a group that is probed, 0 one that is not, -1 one that is free.
        """
        price = math.exp(log_price) if log_price > -math.inf else 0.0
        depth, option = self._settled(self._met(log_price), price)
        cost, risk = self.options.cost_of(option, depth), self.expected.risk(np.arange(len(depth)), depth)
        total = self.weight * risk + price * cost
        on = np.ones(len(depth), bool)
        if self.groups:
            saved = np.bincount(
                self.group[self.group >= 0],
                (total - self.weight * self.unprobed)[self.group >= 0],
                minlength=self.groups,
            )
            of_group = np.where(state == -1, saved < 0.0, state == 1)
            on = (self.group < 0) | of_group[self.group]
        spent = float(cost[on].sum())
        least = float((self.weight * np.where(on, risk, self.unprobed)).sum())
        # Less what rounding can do to a great price.
        bound = least + price * (spent - budget * (1.0 + 1e-13))
        return _Answer(depth, cost, risk, option, on, spent, bound, log_price)

    def objective(self, answer: _Answer) -> float:
        """Weighted expected risk that an answer leaves."""
        return float((self.weight * np.where(answer.on, answer.risk, self.unprobed)).sum())

    def _met(self, log_price):
        """On each piece the depth at which the marginal return falls to the price."""
        own, expected, options = self.options.task, self.expected, self.options
        if log_price == -math.inf:
            return options.high
        price = math.exp(log_price)

        def pays_at(depth):
            return self.weight[own] * expected.gain(own, depth) > price * options.marginal_cost(depth)

        place = np.clip((self.returns > log_price).sum(axis=0) - 1, 0, NODES - 2)
        a, b, c, _ = expected.cubic[:, place, own]
        width = expected.width[own]
        start = expected.log_low[own] + place * width
        left, right = np.zeros(len(own)), np.ones(len(own))
        wanted = price * width / self.weight[own]
        for _ in range(BISECTIONS):
            middle = 0.5 * (left + right)
            depth = np.exp(start + middle * width)
            fall = -((3.0 * a * middle + 2.0 * b) * middle + c)
            pays = fall > wanted * depth * options.marginal_cost(depth)
            left, right = np.where(pays, middle, left), np.where(pays, right, middle)
        met = np.clip(np.exp(start + 0.5 * (left + right) * width), options.low, options.high)
        # What pays to the end, or never, is there exactly.
        return np.where(pays_at(options.high), options.high, np.where(pays_at(options.low), met, options.low))

    def _settled(self, depth, price):
        """Of each task the best of its pieces, with depths on its steps."""
        options, own = self.options, self.options.task
        step = self.step[own]
        candidates = [depth]
        if np.any(step > 0):
            whole = np.where(step > 0, step, 1.0)
            below = np.where(step > 0, np.floor(depth / whole * (1.0 + 1e-12)) * whole, depth)
            candidates = [below, np.where(step > 0, below + whole, depth)]
        best = np.full(len(own), np.inf)
        chosen = depth
        for candidate in candidates:
            inside = (candidate >= options.low * (1.0 - 1e-12)) & (candidate <= options.high * (1.0 + 1e-12))
            at = np.where(inside, candidate, depth)
            value = self.weight[own] * self.expected.risk(own, at) + price * options.cost(at)
            value = np.where(inside | (step == 0.0), value, np.inf)
            chosen, best = np.where(value < best, at, chosen), np.minimum(value, best)
        if len(own) == len(self.weight):
            return chosen, np.arange(len(own))
        # The first of each task's pieces that reaches its least.
        least = np.minimum.reduceat(best, self.firsts[:-1])
        reached = np.flatnonzero(best <= least[own])
        option = reached[np.searchsorted(own[reached], np.arange(len(self.weight)))]
        return chosen[option], option


def allot(portfolio: Portfolio, budget: float) -> Allotment | float:
    """Spend a budget.

    Parameters
    ----------
    portfolio : Portfolio
    budget : float

    Returns
    -------
    Allotment, or, where the budget is too small for any answer, the smallest that is not.
    """
    free = np.full(portfolio.groups, -1)
    least = portfolio.at_price(STEEPEST, budget, free).spent
    if least > budget * (1.0 + 1e-12):
        return least
    best, bound = _branched(portfolio, budget, free)
    objective = portfolio.objective(best)
    if objective - bound > CLOSED * abs(objective) and np.all(portfolio.step > 0):
        better = _programmed(portfolio, budget)
        if better is not None and portfolio.objective(better) <= objective + CLOSED * abs(objective):
            best, objective = better, portfolio.objective(better)
            bound = objective
    value = _marginal_value(portfolio, best)
    on = best.on
    return Allotment(
        np.where(on, best.depth, 0.0),
        np.where(on, best.cost, 0.0),
        np.where(on, best.risk, portfolio.unprobed),
        on,
        value,
        max(objective - bound, 0.0),
    )


def _branched(portfolio, budget, free):
    """Best answer found and a bound of every answer, by best-first branch and bound on which groups are probed."""
    best, ties = None, 0
    queue = [(-math.inf, ties, free)]
    unknown = -math.inf
    for _ in range(min(MOST_NODES, 1 + MOST_WORK // len(portfolio.options.task))):
        if not queue:
            break
        bound, _, state = heapq.heappop(queue)
        if best is not None and bound >= (1.0 - CLOSED) * portfolio.objective(best):
            queue = []
            break
        cheap, dear, bound = _priced(portfolio, budget, state)
        if dear is None:
            continue
        for tried in {tuple(answer.on) for answer in (cheap, dear)}:
            found = _filled(portfolio, budget, _state_of(portfolio, np.array(tried)))
            if found is not None and (best is None or portfolio.objective(found) < portfolio.objective(best)):
                best = found
        open_ones = np.flatnonzero(state == -1)
        differing = open_ones[_state_of(portfolio, cheap.on)[open_ones] != _state_of(portfolio, dear.on)[open_ones]]
        if not len(open_ones) or bound >= (1.0 - CLOSED) * portfolio.objective(best):
            unknown = _lower(unknown, bound)
            continue
        branch = differing[0] if len(differing) else open_ones[0]
        for value in (1, 0):
            child = state.copy()
            child[branch] = value
            ties += 1
            heapq.heappush(queue, (bound, ties, child))
    left = [bound for bound, _, _ in queue] + ([unknown] if unknown > -math.inf else [])
    # Without anything left open the best found is the best there is.
    return best, min([*left, portfolio.objective(best)])


def _lower(first, second):
    return second if first == -math.inf else min(first, second)


def _state_of(portfolio, on):
    """Which groups are probed, (G,), of which tasks are."""
    state = np.zeros(portfolio.groups, int)
    inside = portfolio.group >= 0
    state[portfolio.group[inside]] = on[inside]
    return state


def _priced(portfolio, budget, state):
    """Answers on either side of the price at which the budget is spent, and the best bound; None where none fits."""
    dear = portfolio.at_price(STEEPEST, budget, state)
    if dear.spent > budget * (1.0 + 1e-12):
        return None, None, math.inf
    cheap = portfolio.at_price(-math.inf, budget, state)
    if cheap.spent <= budget:
        return cheap, cheap, cheap.bound
    low, high, bound = *_reach(portfolio), -math.inf
    for i in range(PRICE_STEPS):
        if budget - dear.spent <= SPENT * budget or high - low < 1e-13 * max(abs(low), 1.0):
            break
        middle = 0.5 * (low + high)
        if i % 3 and math.isfinite(cheap.log_price) and dear.spent > 0.0:
            # Spending is nearly a power of the price: aim where the line through both ends spends it all.
            over, under = math.log(cheap.spent / budget), math.log(dear.spent / budget)
            aimed = low + (high - low) * over / (over - under)
            # A little to the side on which less was done last, so that both ends move.
            middle = min(max(aimed + (1e-3 if i % 3 == 1 else -1e-3) * (high - low), low), high)
        answer = portfolio.at_price(middle, budget, state)
        bound = max(bound, answer.bound)
        if answer.spent > budget:
            low, cheap = middle, answer
        else:
            high, dear = middle, answer
    return cheap, dear, bound


def _reach(portfolio):
    """Prices between which the budget is spent, in logarithms."""
    returns = portfolio.returns[np.isfinite(portfolio.returns)]
    if portfolio.groups or not len(returns):
        return -STEEPEST, STEEPEST
    return float(returns.min()) - 1.0, float(returns.max()) + 1.0


def _filled(portfolio, budget, state):
    """An answer for groups that are settled, its budget spent; None where it does not fit."""
    _, answer, _ = _priced(portfolio, budget, state)
    if answer is None:
        return None
    if len(portfolio.options.task) > len(portfolio.weight) and not np.any(portfolio.step > 0):
        # With its piece settled a task's depth moves with the price without a jump.
        chosen = answer.option
        settled = dataclasses.replace(portfolio, options=portfolio.options.taken(chosen))
        _, answer, _ = _priced(settled, budget, state)
        answer = answer._replace(option=chosen)
    return _stepped(portfolio, budget, answer) if np.any(portfolio.step > 0) else answer


def _stepped(portfolio, budget, answer):
    """Go on where a step returns most for its cost, as long as one can be paid."""
    depth, cost, risk = answer.depth.copy(), answer.cost.copy(), answer.risk.copy()
    left = budget - cost[answer.on].sum()
    queue = []

    def offer(tasks):
        for ahead in zip(*_ahead(portfolio, tasks, depth, cost, risk), strict=True):
            heapq.heappush(queue, (-ahead[0], *ahead[1:]))

    offer(np.flatnonzero(answer.on & (portfolio.step > 0)))
    while queue:
        _, t, deeper, dearer, less = heapq.heappop(queue)
        if dearer - cost[t] > left * (1.0 + 1e-12):
            continue
        left -= dearer - cost[t]
        depth[t], cost[t], risk[t] = deeper, dearer, less
        offer(np.array([t]))
    spent = float(cost[answer.on].sum())
    return answer._replace(depth=depth, cost=cost, risk=risk, spent=spent)


def _ahead(portfolio, tasks, depth, cost, risk):
    """Of tasks (int array) that can go a step deeper: return per cost, place, and depth, cost and risk there."""
    deeper = depth[tasks] + portfolio.step[tasks]
    option = _reaching(portfolio, tasks, deeper)
    there = portfolio.options.high[option] * (1.0 + 1e-12) >= deeper
    tasks, deeper, option = tasks[there], deeper[there], option[there]
    dearer, less = portfolio.options.cost_of(option, deeper), portfolio.expected.risk(tasks, deeper)
    paid = np.maximum(dearer - cost[tasks], np.finfo(float).tiny)
    return portfolio.weight[tasks] * (risk[tasks] - less) / paid, tasks, deeper, dearer, less


def _marginal_value(portfolio, answer):
    """Marginal return of the task whose is greatest, of those that can go deeper; on steps, of a whole one."""
    on_steps = _ahead(portfolio, np.flatnonzero(answer.on & (portfolio.step > 0)), *answer[:2], answer.risk)[0]
    free = np.flatnonzero(answer.on & (portfolio.step == 0))
    option = _reaching(portfolio, free, answer.depth[free] * (1.0 + 1e-11))
    depth = np.minimum(answer.depth[free], portfolio.options.high[option])
    paid = np.maximum(portfolio.options.marginal_cost_of(option, depth), np.finfo(float).tiny)
    returns = portfolio.weight[free] * portfolio.expected.gain(free, depth) / paid
    returns = returns[portfolio.options.high[option] > depth * (1.0 + 1e-11)]
    return float(max(on_steps.max(initial=0.0), returns.max(initial=0.0)))


def _reaching(portfolio, tasks, depth):
    """The first of each task's pieces that reaches a depth, or its last."""
    option, last = portfolio.firsts[tasks], portfolio.firsts[tasks + 1] - 1
    for _ in range(int((last - option).max(initial=0))):
        option = option + ((portfolio.options.high[option] * (1.0 + 1e-12) < depth) & (option < last))
    return option


def _programmed(portfolio, budget):
    """The best answer on steps by integer programming; None where there are too many depths, or it does not end."""
    levels = _levels(portfolio)
    if levels is None:
        return None
    task, depth, cost, risk, option = levels
    weight, groups, pairs = portfolio.weight, portfolio.groups, len(task)
    grouped = np.flatnonzero(portfolio.group >= 0)
    # Of each task one depth, or none where its group is off: sum_k x_tk = 1, or z_g.
    rows = np.concatenate([task, grouped])
    columns = np.concatenate([np.arange(pairs), pairs + portfolio.group[grouped]])
    values = np.concatenate([np.ones(pairs), -np.ones(len(grouped))])
    one_each = sparse.csr_array((values, (rows, columns)), shape=(len(weight), pairs + groups))
    wanted = (portfolio.group < 0).astype(float)
    saved = weight[task] * (risk - portfolio.unprobed[task])
    unit = max(np.abs(saved).max(), np.finfo(float).tiny)
    spend = np.concatenate([cost, np.zeros(groups)])[None, :] / budget
    found = optimize.milp(
        np.concatenate([saved / unit, np.zeros(groups)]),
        integrality=np.ones(pairs + groups),
        bounds=optimize.Bounds(0.0, 1.0),
        constraints=[
            optimize.LinearConstraint(one_each, wanted, wanted),
            optimize.LinearConstraint(spend, -np.inf, 1.0),
        ],
        options={"mip_rel_gap": 1e-10, "time_limit": 20.0},
    )
    if found.status != 0:
        return None
    chosen = np.flatnonzero(found.x[:pairs] > 0.5)
    spent = float(cost[chosen].sum())
    if spent > budget * (1.0 + 1e-12):
        return None
    on = np.zeros(len(weight), bool)
    on[task[chosen]] = True
    parts = [np.zeros(len(weight)) for _ in range(3)]
    for part, values in zip(parts, (depth, cost, risk), strict=True):
        part[task[chosen]] = values[chosen]
    own = portfolio.firsts[:-1].copy()
    own[task[chosen]] = option[chosen]
    return _Answer(*parts, own, on, spent, math.nan, math.nan)


def _levels(portfolio):
    """All depths of all tasks, with their cost and risk; None where there are more than `MOST_LEVELS`."""
    options, step = portfolio.options, portfolio.step[portfolio.options.task]
    first = np.ceil(options.low / step * (1.0 - 1e-12))
    count = np.maximum(np.floor(options.high / step * (1.0 + 1e-12)) - first + 1.0, 0.0).astype(int)
    if count.sum() > MOST_LEVELS:
        return None
    option = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(option)) - np.repeat(np.cumsum(count) - count, count)
    depth = (first[option] + within) * step[option]
    task = options.task[option]
    return task, depth, portfolio.options.cost_of(option, depth), portfolio.expected.risk(task, depth), option
