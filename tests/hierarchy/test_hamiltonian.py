"""Trajectories keep the target, and their step is the largest that is accepted as often as asked."""

import numpy as np
import pytest

from bayes_prehoc.hierarchy.hamiltonian import Scale, State, StepSize, trajectory

FACTOR = np.array([[2.0, 0.0], [1.2, 0.5]])


def gradients(points):
    """A correlated normal in two coordinates, and beside it a logistic distribution."""
    white = np.linalg.solve(FACTOR, points[:, :2].T).T
    slope = -np.linalg.solve(FACTOR.T, white.T).T
    rest = points[:, 2]
    log_p = -0.5 * np.sum(white**2, axis=1) - np.abs(rest) - 2 * np.log1p(np.exp(-np.abs(rest)))
    return log_p, np.column_stack([slope, -np.tanh(0.5 * rest)])


def start(rng, chains):
    points = rng.normal(size=(chains, 3))
    return State(points, *gradients(points))


def test_trajectories_leave_the_target_as_it_is():
    rng = np.random.default_rng(0)
    state, draws, accepted = start(rng, 200), [], []
    for _ in range(400):
        number = int(rng.integers(1, 6, endpoint=True))
        state, moved = trajectory(rng, state, gradients, Scale(FACTOR), 0.7, number)
        draws.append(state.point)
        accepted.append(moved.accept_prob)
        assert not moved.diverging.any()
    np.testing.assert_allclose(state.log_p, gradients(state.point)[0])
    assert 0.7 < np.mean(accepted) < 1.0
    means = np.mean(draws[20:], axis=0)  # of each chain
    error = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    assert np.all(np.abs(means.mean(axis=0)) < 4 * error)
    draws = np.concatenate(draws[20:])
    np.testing.assert_allclose(np.cov(draws[:, :2].T), FACTOR @ FACTOR.T, atol=0.15)
    assert draws[:, 2].var() == pytest.approx(np.pi**2 / 3, rel=0.05)
    assert np.mean(draws[:, 2] > np.log(9.0)) == pytest.approx(0.1, abs=0.01)


def test_where_there_is_no_density_no_chain_goes():
    rng = np.random.default_rng(1)

    def half(points):
        log_p, slope = gradients(points)
        return np.where(points[:, 2] < 0.0, log_p, np.nan), slope

    points = np.column_stack([rng.normal(size=(100, 2)), np.full(100, -0.5)])
    state, lost = State(points, *half(points)), 0
    for _ in range(50):
        state, moved = trajectory(rng, state, half, Scale(FACTOR), 0.7, 4)
        assert state.point[:, 2].max() < 0.0 and np.isfinite(state.log_p).all()
        assert np.all(moved.accept_prob[moved.diverging] == 0.0)
        lost += moved.diverging.sum()
    assert lost > 0


def test_a_chain_that_starts_where_there_is_no_density_comes_in():
    rng = np.random.default_rng(2)

    def half(points):
        log_p, slope = gradients(points)
        return np.where(points[:, 2] < 0.0, log_p, np.nan), slope

    points = np.column_stack([rng.normal(size=(100, 2)), np.full(100, 0.5)])
    state = State(points, *half(points))
    for _ in range(50):
        state, moved = trajectory(rng, state, half, Scale(FACTOR), 0.7, 4)
        assert np.isfinite(moved.accept_prob).all()
    assert state.point[:, 2].max() < 0.0 and np.isfinite(state.log_p).all()


@pytest.mark.parametrize("target", [0.7, 0.95])
def test_the_step_is_accepted_as_often_as_asked(target):
    """On a normal of 30 dimensions, where acceptance falls smoothly with the step."""
    rng = np.random.default_rng(2)

    def normal(points):
        return -0.5 * np.sum(points**2, axis=1), -points

    points = rng.normal(size=(4, 30))
    state, step = State(points, *normal(points)), StepSize(0.5, target)

    def accepted(size):
        nonlocal state
        state, moved = trajectory(rng, state, normal, Scale(np.eye(2)), size, int(rng.integers(1, 6)))
        return float(moved.accept_prob.mean())

    for _ in range(300):
        step.adapt(accepted(step.exploring))
    assert np.mean([accepted(step.settled) for _ in range(500)]) == pytest.approx(target, abs=0.06)
