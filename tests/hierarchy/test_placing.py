"""What is known before chains start: where the posterior lies, and where points of quadrature belong."""

import jax
import numpy as np

from bayes_prehoc.hierarchy import placing
from bayes_prehoc.hierarchy.collapsed import RULES
from bayes_prehoc.hierarchy.start import find_reference


def test_points_are_put_where_the_latents_are(placed):
    """What was found is close to the posterior: many draws count, and latents are close to standard in the frame."""
    evaluator, _, (arguments, rule, found, _) = placed
    assert rule in RULES and found.effective > 300
    x = found.proposal.draw(np.random.default_rng(1), 100)
    sites = evaluator.sites(jax.random.key(2), x, arguments)
    group = arguments.groups[0]
    off = np.asarray(sites["white"]) - np.asarray(group.frame.center)
    standard = np.linalg.solve(np.asarray(group.frame.spread), off[..., None])[..., 0]
    assert np.abs(standard.mean(axis=0)).max() < 0.6 and 0.6 < standard.std(axis=0).mean() < 1.5


def test_many_tasks_are_found_by_way_of_some(placed, monkeypatch):
    """With less effort, the same posterior: means within half a standard deviation."""
    evaluator, data, (_, _, found, _) = placed
    monkeypatch.setattr(placing, "MANY", 4)
    known = placing.Known(find_reference(data, evaluator.target.prior, evaluator.target.proxy))
    other = placing.place(jax.random.key(3), known, evaluator, data).found
    assert len(other.x) < len(found.x) and other.effective > 100
    means = [own.weight @ own.x for own in (found, other)]
    assert np.all(np.abs(means[0] - means[1]) < 0.5 * np.sqrt(np.diag(found.proposal.covariance())))
