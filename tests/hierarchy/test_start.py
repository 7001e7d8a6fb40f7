"""The first guess lies near the truth where there is much data, and draws replace it by their means."""

import numpy as np

from bayes_prehoc.hierarchy.model import weak_prior
from bayes_prehoc.hierarchy.start import find_reference, reference_of_draws


def test_modes_are_near_the_truth_with_many_seeds(make):
    truth, data, _ = make.simulated(
        tasks=30, nu=1500.0, misfit=np.array(0.02), dependence=np.array(0.2), drift=np.array(0.01)
    )
    found = find_reference(data, weak_prior("run_to_run"), "run_to_run")
    latents = np.asarray(found.latents)
    assert np.isfinite(latents).all()
    assert np.median(np.abs(latents[:, 0] - truth.level)) < 0.1
    assert np.corrcoef(latents[:, 2], truth.rate)[0, 1] > 0.5
    assert np.all(np.linalg.eigvalsh(found.covariance) > 0) and float(found.shared.misfit) < 0.15


def test_draws_are_replaced_by_their_means(make):
    _, data, _ = make.simulated(tasks=2)
    rng = np.random.default_rng(0)
    shape = (4, 50)
    sites = {
        "mu_level": rng.normal(-6, 0.1, (*shape, 1)), "mu_share": rng.normal(-1, 0.1, shape),
        "mu_rate": rng.normal(0, 0.1, shape), "tau": np.exp(rng.normal(0, 0.1, (*shape, 3))),
        "corr": np.broadcast_to(np.eye(3), (*shape, 3, 3)), "log_onset": rng.normal(-4, 0.1, shape),
        "misfit": np.exp(rng.normal(-2, 0.1, shape)), "dependence": np.exp(rng.normal(0, 0.1, shape)),
        "drift": np.exp(rng.normal(-1, 0.1, shape)), "lasting": np.exp(rng.normal(-0.5, 0.1, shape)),
        "level": rng.normal([-7, -5], 0.1, (*shape, 2)), "share": rng.normal(0, 0.1, (*shape, 2)),
        "rate": rng.normal(0, 0.1, (*shape, 2)),
    }  # fmt: skip
    made = reference_of_draws({name: values.reshape(-1, *values.shape[2:]) for name, values in sites.items()}, data)
    np.testing.assert_allclose(made.latents, [[-7, 0, 0], [-5, 0, 0]], atol=0.05)
    np.testing.assert_allclose(made.mean, [[-6, -1, 0]] * 2, atol=0.05)
    np.testing.assert_allclose(made.covariance, np.eye(3), atol=0.06)
    np.testing.assert_allclose(made.shared, np.exp([-4, -2, 0, -1, -0.5]), rtol=0.05)
