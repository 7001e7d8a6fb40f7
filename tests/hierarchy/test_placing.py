"""What is known before chains start: where the posterior lies, and where points of quadrature belong."""

import jax
import numpy as np

from bayes_prehoc.hierarchy.collapsed import RULES
from bayes_prehoc.hierarchy.mixture import draw
from bayes_prehoc.hierarchy.placing import next_rule


def test_points_are_put_where_the_latents_are(placed):
    """What was found is close to the posterior: many draws count, and latents are close to standard in the frame."""
    evaluator, _, (arguments, rule, found) = placed
    assert rule in RULES and found.effective > 300
    x = draw(np.random.default_rng(1), found.proposal, 100)
    sites = evaluator.sites(jax.random.key(2), x, arguments)
    group = arguments.groups[0]
    off = np.asarray(sites["white"]) - np.asarray(group.frame.center)
    standard = np.linalg.solve(np.asarray(group.frame.spread), off[..., None])[..., 0]
    assert np.abs(standard.mean(axis=0)).max() < 0.6 and 0.6 < standard.std(axis=0).mean() < 1.5


def test_the_finest_rule_is_never_left_out():
    assert [next_rule(rule) for rule in RULES] == [1, 2, 3, 3]
    assert all(RULES[next_rule(rule) :] for rule in RULES)
