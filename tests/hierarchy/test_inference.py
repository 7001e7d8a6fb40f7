"""Settings of the sampler, and what moving the points of quadrature does to a chain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import potential_energy

from bayes_prehoc import InputError
from bayes_prehoc.hierarchy.collapsed import RULES, collapsed_model, groups_by_depths, plain_frame, quadrature
from bayes_prehoc.hierarchy.inference import DEFAULT, Sampler, _compiled, _Program, _starting_points
from bayes_prehoc.hierarchy.model import weak_prior
from bayes_prehoc.hierarchy.start import find_reference


@pytest.mark.parametrize(
    "settings", [{"chains": 1}, {"warmup": 55}, {"draws": 0}, {"target_accept": 1.0}, {"attempts": 0}, {"draws": 2.5}]
)
def test_impossible_samplers_are_refused(settings):
    with pytest.raises(InputError, match="Give a"):
        Sampler(**settings)


def test_a_failed_attempt_is_made_harder():
    first = Sampler()
    second = first.harder()
    assert second.warmup == 2 * first.warmup and first.target_accept < second.target_accept < 1.0


def test_a_chain_keeps_its_place_and_renews_its_energy_when_points_move(make):
    """A stale energy that is too low would reject every proposal for ever."""
    proxy, prior = "run_to_run", weak_prior("run_to_run")
    _, data, _ = make.simulated()
    reference = find_reference(data, prior, proxy)
    program = _Program(_compiled(DEFAULT, prior, proxy, False, False), data, proxy, DEFAULT, False)
    start = _starting_points(jax.random.key(0), reference, prior, proxy, data, False, DEFAULT.chains)
    groups = groups_by_depths(data, plain_frame(reference.latents))
    states = program.begin(jax.random.split(jax.random.key(1), DEFAULT.chains), start, groups, RULES[0])
    moved = tuple(group._replace(frame=group.frame._replace(center=group.frame.center + 2.0)) for group in groups)
    renewed = program.renew(states, moved, RULES[0])
    for before, after in zip(states, renewed, strict=True):
        jax.tree.map(np.testing.assert_array_equal, before.z, after.z)
        assert float(before.adapt_state.step_size) == float(after.adapt_state.step_size)
        arguments = (moved, data, quadrature(RULES[0]), prior, proxy, False)
        expected = potential_energy(collapsed_model, arguments, {}, after.z)
        assert float(after.potential_energy) == pytest.approx(float(expected), abs=1e-2)
        assert abs(float(after.potential_energy - before.potential_energy)) > 0.05
    back = program.renew(renewed, groups, RULES[0])
    np.testing.assert_allclose(back[0].potential_energy, states[0].potential_energy, rtol=1e-5)
    np.testing.assert_allclose(
        *(jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(s.z_grad)]) for s in (back[0], states[0])),
        rtol=1e-3,
    )
