"""Leaps keep the target and find its modes."""

import jax
import numpy as np

from bayes_prehoc.hierarchy.leaps import LEAPS, leap
from bayes_prehoc.hierarchy.mixture import mixture_of_draws


def test_leaps_leave_the_target_as_it_is_and_cross_between_its_modes(two_modes):
    """From one mode only, with a proposal that has the masses of the modes wrong."""
    rng = np.random.default_rng(2)
    proposal = mixture_of_draws(two_modes.draws(rng, 600))
    proposal = proposal._replace(weight=np.full(len(proposal.weight), 0.5))
    log_p = jax.jit(jax.vmap(two_modes.log_p))
    points, seen, accepted = np.full((40, 3), 4.5), [], []
    for _ in range(600):
        points, leapt = leap(rng, points, log_p, proposal)
        seen.append(points)
        accepted.append(leapt)
    x = np.stack(seen, axis=1)[:, 40:]
    assert 0.2 < np.mean(accepted) < 1.0 and LEAPS > 1
    in_first = (x[..., 0] < 0).mean(axis=1)
    assert abs(in_first.mean() - two_modes.share) < 4 * in_first.std(ddof=1) / np.sqrt(40)
    first, other = x[x[..., 0] < 0], x[x[..., 0] > 0]
    np.testing.assert_allclose(np.cov(other.T), 0.25 * np.eye(3), atol=0.03)
    np.testing.assert_allclose(np.cov(first.T), [[1.0, 0.7, 0], [0.7, 0.98, 0], [0, 0, 0.25]], atol=0.1)


def test_impossible_proposals_are_never_taken():
    rng = np.random.default_rng(4)
    proposal = mixture_of_draws(rng.normal(size=(200, 2)))
    here = np.zeros((3, 4))

    def only_here(points):
        return np.where((points == 0.0).all(axis=1), 0.0, np.nan)

    points, accepted = leap(rng, here, only_here, proposal)
    np.testing.assert_array_equal(points, here)
    np.testing.assert_array_equal(accepted, np.zeros(3))


def test_only_what_the_proposal_is_for_leaps():
    rng = np.random.default_rng(5)
    points = rng.normal(size=(4, 5))
    proposal = mixture_of_draws(rng.normal(size=(200, 2)))
    moved, accepted = leap(rng, points, lambda points: -0.5 * np.sum(points**2, axis=1), proposal)
    assert accepted.min() > 0.0 and not np.any(moved[:, :2] == points[:, :2])
    np.testing.assert_array_equal(moved[:, 2:], points[:, 2:])
