"""Leaps keep the target and find its modes."""

import jax
import numpy as np
import pytest

from bayes_prehoc.hierarchy.leaps import LEAPS, At, NoiseProposal, enough_leaps, leap, redraw, walk
from bayes_prehoc.hierarchy.mixture import mixture_of_draws
from bayes_prehoc.hierarchy.proposal import Proposal, proposal_of_draws
from bayes_prehoc.hierarchy.target import Density


def densities_of(log_p):
    """As a target without tasks gives them."""
    return lambda points: Density(np.asarray(log_p(points), np.float64), np.zeros((len(points), 0)))


def at(points, densities):
    return At(points, densities(points))


def test_leaps_leave_the_target_as_it_is_and_cross_between_its_modes(two_modes):
    """From one mode only, with a proposal that has the masses of the modes wrong."""
    rng = np.random.default_rng(2)
    mixture = mixture_of_draws(two_modes.draws(rng, 600))
    proposal = Proposal(mixture._replace(weight=np.full(len(mixture.weight), 0.5)))
    densities = densities_of(jax.jit(jax.vmap(two_modes.log_p)))
    here, seen, accepted = at(np.full((40, 3), 4.5), densities), [], []
    for _ in range(600):
        here, leapt, _ = leap(rng, here, densities, proposal)
        seen.append(here.points)
        accepted.append(leapt)
    np.testing.assert_array_equal(here.density.total, densities(here.points).total)
    x = np.stack(seen, axis=1)[:, 40:]
    assert 0.2 < np.mean(accepted) < 1.0 and LEAPS[0] > 1
    in_first = (x[..., 0] < 0).mean(axis=1)
    assert abs(in_first.mean() - two_modes.share) < 4 * in_first.std(ddof=1) / np.sqrt(40)
    first, other = x[x[..., 0] < 0], x[x[..., 0] > 0]
    np.testing.assert_allclose(np.cov(other.T), 0.25 * np.eye(3), atol=0.03)
    np.testing.assert_allclose(np.cov(first.T), [[1.0, 0.7, 0], [0.7, 0.98, 0], [0, 0, 0.25]], atol=0.1)


def test_impossible_proposals_are_never_taken():
    rng = np.random.default_rng(4)
    proposal = proposal_of_draws(rng.normal(size=(200, 2)))
    here = np.zeros((3, 4))

    def only_here(points):
        return np.where((points == 0.0).all(axis=1), 0.0, np.nan)

    densities = densities_of(only_here)
    after, accepted, log_weight = leap(rng, at(here, densities), densities, proposal, 5)
    np.testing.assert_array_equal(after.points, here)
    np.testing.assert_array_equal(accepted, np.zeros(3))
    assert log_weight.shape == (3, 5) and np.all(log_weight == -np.inf)
    np.testing.assert_array_equal(walk(rng, after, densities, np.eye(2)).points, here)


def test_only_what_the_proposal_is_for_leaps():
    rng = np.random.default_rng(5)
    points = rng.normal(size=(4, 5))
    proposal = proposal_of_draws(rng.normal(size=(200, 2)))
    densities = densities_of(lambda points: -0.5 * np.sum(points**2, axis=1))
    moved, accepted, _ = leap(rng, at(points, densities), densities, proposal)
    assert accepted.min() > 0.0 and not np.any(moved.points[:, :2] == points[:, :2])
    np.testing.assert_array_equal(moved.points[:, 2:], points[:, 2:])


def test_leaps_are_as_many_as_are_needed():
    """So that one chain in twenty, at most, stays where it was, within bounds."""
    assert enough_leaps(0.5) == 5 and 0.5**5 <= 0.05 < 0.5**4
    assert (enough_leaps(1.0), enough_leaps(0.0)) == LEAPS


def test_walks_leave_the_target_as_it_is():
    """A normal, by a factor that does not fit it, from its own draws and from far away."""
    rng = np.random.default_rng(8)
    covariance = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.0], [0.0, 0.0, 0.04]])
    precision = np.linalg.inv(covariance)
    densities = densities_of(lambda points: -0.5 * np.einsum("ni,ij,nj->n", points, precision, points))
    far = at(np.full((1, 3), 6.0), densities)
    here = at(rng.multivariate_normal(np.zeros(3), covariance, 4000), densities)
    for _ in range(150):
        far, here = (walk(rng, own, densities, np.diag([1.0, 1.0, 0.3])) for own in (far, here))
    np.testing.assert_allclose(np.cov(here.points.T), covariance, atol=0.1)
    assert far.density.total > -10.0


@pytest.mark.parametrize("proposal", [NoiseProposal.of_prior(3), NoiseProposal(np.array([3.0, 0.0, -1.0]), np.ones(3))])
def test_noises_are_redrawn_each_by_itself(proposal):
    """The factor of task t is a normal around its own mean, so that the posterior of its noise is known."""
    rng = np.random.default_rng(6)
    mean, sd = np.array([2.0, 0.0, -1.0]), np.array([0.5, 1.0, 3.0])

    def densities(points):
        return Density(-0.5 * np.sum(points[:, 2:] ** 2, axis=1), -0.5 * ((points[:, 2:] - mean) / sd) ** 2)

    here, seen = at(np.zeros((60, 5)), densities), []
    for _ in range(150):
        here = redraw(rng, here, densities, proposal)
        seen.append(here.points)
    assert np.all(here.points[:, :2] == 0.0)
    for own, expected in zip(here.density, densities(here.points), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-9, atol=1e-9)
    noise = np.stack(seen[10:], axis=1)[..., 2:]
    precision = 1.0 + sd**-2
    error = noise.mean(axis=1).std(axis=0, ddof=1) / np.sqrt(60)
    assert np.all(np.abs(noise.mean(axis=(0, 1)) - mean / sd**2 / precision) < 4 * error)
    np.testing.assert_allclose(noise.std(axis=(0, 1)), precision**-0.5, rtol=0.05)


def test_proposals_of_a_noise_have_the_density_that_they_say():
    rng = np.random.default_rng(7)
    proposal = NoiseProposal.of_draws(rng.normal([1.0, -2.0], [0.2, 0.7], (400, 2)))
    np.testing.assert_allclose(proposal.center, [1.0, -2.0], atol=4 * 0.7 / 400**0.5)
    drawn = proposal.draw(rng, (200_000, 2))
    # The mean of prior over proposal is the prior's mass.
    weight = np.exp(proposal.log_prior_over_proposal(drawn))
    np.testing.assert_allclose(weight.mean(axis=0), 1.0, atol=4 * weight.std() / 200_000**0.5)
    np.testing.assert_allclose((weight * drawn**2).mean(axis=0), 1.0, atol=0.03)
    assert weight.max() <= 2.0 + 1e-9
