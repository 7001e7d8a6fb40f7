"""The law's phase is found where it is, and not left for what merely scatters around a decay."""

import numpy as np
import pytest
from scipy import integrate, stats

from bayes_prehoc import theory
from bayes_prehoc.risk import regular
from bayes_prehoc.risk.regular import regular_phase

DEPTHS = np.geomspace(1, 100, 8)
LAW_AFTER_A_RISE = np.array([0.05, 0.3, 1.0, 0.7, 0.5, 0.35, 0.25, 0.2])
GROWTH_AFTER_A_LAW = np.array([1.0, 0.7, 0.5, 0.35, 0.25, 0.5, 1.2, 3.0])


def found(curve, nu, replicates=50, depths=DEPTHS, proxy="run_to_run", shared=0.0):
    """Phases of estimates that scatter around a curve; `shared` is the correlation of neighbouring depths."""
    rng, number = np.random.default_rng(0), len(curve)
    correlation = shared ** np.abs(np.subtract.outer(np.arange(number), np.arange(number)))
    factor = np.linalg.cholesky(correlation)
    for _ in range(replicates):
        quantile = stats.norm.cdf(factor @ rng.normal(size=number))
        risk = curve * stats.chi2.ppf(quantile, nu) / nu
        yield regular_phase(depths, risk, np.full(number, nu), depths[-1], proxy, correlation)


def used(phase):
    return (phase.before <= 0.5) & (phase.after <= 0.5) & (phase.never <= 0.5)


@pytest.mark.parametrize("nu", [2.0, 7.0, 63.0, 1500.0])
@pytest.mark.parametrize("shared", [0.0, 0.8])
@pytest.mark.parametrize("curve", ["law", "floor", "flat at first", "gone at the horizon"])
def test_of_a_decay_hardly_any_depth_is_left_out(curve, nu, shared):
    proxy = "conditional" if curve == "gone at the horizon" else "run_to_run"
    values = {
        "law": DEPTHS**-0.5,
        "floor": np.ones(8),
        "flat at first": 1.0 / (DEPTHS + 10.0),
        "gone at the horizon": 0.01 + DEPTHS**-0.5 - 0.1,
    }[curve]
    kept = np.mean([used(phase) for phase in found(values, nu, proxy=proxy, shared=shared)])
    assert kept > 0.93


@pytest.mark.parametrize("nu", [20.0, 1500.0])
def test_a_transient_and_late_growth_are_found_with_their_places(nu):
    for phase in found(LAW_AFTER_A_RISE, nu, 30):
        assert used(phase)[3:].all() and not used(phase)[:1].any() and phase.before[0] > 0.9
    for phase in found(GROWTH_AFTER_A_LAW, nu, 30):
        assert used(phase)[:4].all() and not used(phase)[6:].any() and phase.after[-1] > 0.9
        assert (np.diff(phase.after) >= -1e-12).all()


@pytest.mark.parametrize("nu", [63.0, 1500.0])
def test_where_all_rises_there_is_no_law(nu):
    assert np.mean([phase.never > 0.5 for phase in found(DEPTHS, nu)]) > 0.95
    assert max(phase.never for phase in found(DEPTHS**-0.5, nu)) < 0.01


def test_a_hump_of_a_few_percent_is_left_to_the_misfit_however_certain_it_is():
    curve = np.array([1.0, 1.1, 1.25, 1.2, 0.8, 0.4, 0.2, 0.1])
    phase = regular_phase(DEPTHS, curve, np.full(8, 5000.0), 100.0, "run_to_run")
    assert used(phase).all()


def test_evidence_is_the_mean_likelihood(float64):
    """Of one pair of change points, by integrating over the level and adding up slopes and laws one by one."""
    rng = np.random.default_rng(3)
    depths, y = np.array([1.0, 3.0, 10.0, 30.0]), rng.normal(size=4)
    covariance = 0.3 * np.eye(4) + 0.1
    laws = regular._laws(depths / 30.0, "conditional")
    rise = np.minimum(np.log(depths / 3.0), 0.0)
    growth = np.maximum(np.log(depths / 10.0), 0.0)
    held = laws[:, [1, 1, 2, 2]]
    precision = np.linalg.inv(covariance)
    total = precision.sum(axis=1)
    projected = precision - np.outer(total, total) / (total.sum() + 1.0 / regular.LEVEL_VARIANCE)
    got = regular._log_evidence(y - held, rise, growth, projected)
    normal = stats.multivariate_normal(np.zeros(4), covariance)

    def likelihood(mean):
        def at(level):
            return normal.pdf(y - mean - level) * stats.norm.pdf(level, 0, np.sqrt(regular.LEVEL_VARIANCE))

        return integrate.quad(at, -12, 12, points=[np.mean(y - mean)], limit=200)[0]

    few = range(0, len(held), 16), range(0, len(regular.SLOPES), 5)
    means = [
        held[i] + regular.SLOPES[j] * rise + regular.SLOPES[k] * growth for i in few[0] for j in few[1] for k in few[1]
    ]
    # The constant that all pairs share.
    constant = np.log(normal.pdf(np.zeros(4))) - 0.5 * np.log1p(regular.LEVEL_VARIANCE * precision.sum())
    some = [regular._log_evidence((y - mean)[None], 0.0 * rise, 0.0 * growth, projected) + constant for mean in means]
    np.testing.assert_allclose(some, np.log([likelihood(mean) for mean in means]), rtol=1e-6)
    every = [
        regular._log_evidence((y - law - a * rise - b * growth)[None], 0.0 * rise, 0.0 * growth, projected)
        for law in held
        for a in regular.SLOPES
        for b in regular.SLOPES
    ]
    assert got == pytest.approx(np.log(np.mean(np.exp(every))), rel=1e-9)


@pytest.mark.parametrize("proxy", ["run_to_run", "conditional"])
def test_laws_are_those_of_theory(proxy):
    laws = regular._laws(DEPTHS / 100.0, proxy)
    assert laws.shape == (regular.LAWS, 8) and np.isfinite(laws).all() and (np.diff(laws, axis=1) <= 1e-6).all()
    assert theory.alpha_bounds(proxy)[1] == 4.0
