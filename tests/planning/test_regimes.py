"""Classification of draws and the tolerances at which the verdict flips."""

import numpy as np
import pytest

from bayes_prehoc.planning import draws
from bayes_prehoc.planning.regimes import REGIMES, Flip, boundaries, flips, regime_probabilities

STATIC, DYNAMIC, NOISE = REGIMES


def one_by_one(rmse_cheap, rmse_final, tolerance):
    """The rule, draw by draw, on the risk itself."""
    counts = dict.fromkeys(REGIMES, 0)
    for cheap, final in zip(rmse_cheap**2, rmse_final**2, strict=True):
        if final > tolerance**2:
            counts[NOISE] += 1
        elif cheap <= tolerance**2:
            counts[STATIC] += 1
        else:
            counts[DYNAMIC] += 1
    return [counts[name] / len(rmse_cheap) for name in REGIMES]


def clouds(draws=500, cheap=0.02, final=0.009, spread=0.3, seed=0):
    random = np.random.default_rng(seed)
    lower = final * np.exp(spread * random.standard_normal(draws))
    return np.sqrt(lower**2 + (cheap * np.exp(spread * random.standard_normal(draws))) ** 2), lower


@pytest.mark.parametrize("tolerance", [0.001, 0.008, 0.0101, 0.0199, 0.03, 0.2])
def test_probabilities_are_shares_of_draws(tolerance):
    cheap, final = clouds()
    found = regime_probabilities(cheap, final, tolerance)
    np.testing.assert_allclose(found, one_by_one(cheap, final, tolerance), atol=1e-15)
    assert found.sum() == pytest.approx(1.0, abs=1e-15)


def test_a_risk_at_the_tolerance_is_tolerated():
    both = np.array([0.5])
    np.testing.assert_array_equal(regime_probabilities(both, both, 0.5), [1, 0, 0])
    np.testing.assert_array_equal(regime_probabilities(np.array([0.6]), both, 0.5), [0, 1, 0])
    np.testing.assert_array_equal(regime_probabilities(np.array([0.6]), both, 0.49), [0, 0, 1])


def test_without_uncertainty_the_verdict_flips_at_the_two_errors():
    for count in (1, 40):
        found = flips(np.full(count, 0.03), np.full(count, 0.01))
        assert found == (Flip(0.01, NOISE, DYNAMIC), Flip(0.03, DYNAMIC, STATIC))
    assert flips(np.array([0.01]), np.array([0.01])) == (Flip(0.01, NOISE, STATIC),)


@pytest.mark.parametrize("draws", [500, 501, 4000])
def test_flips_are_where_the_most_probable_regime_changes(draws):
    cheap, final = clouds(draws)
    found = flips(cheap, final)
    assert [(f.below, f.above) for f in found] == [(NOISE, DYNAMIC), (DYNAMIC, STATIC)]
    for flip in found:
        before, after = flip.tolerance * (1 - 1e-12), flip.tolerance
        assert REGIMES[regime_probabilities(cheap, final, before).argmax()] == flip.below
        assert REGIMES[regime_probabilities(cheap, final, after).argmax()] == flip.above
    between = np.linspace(found[0].tolerance * 1.03, found[1].tolerance * 0.97, 50)
    assert {REGIMES[regime_probabilities(cheap, final, t).argmax()] for t in between} == {DYNAMIC}


def test_a_regime_that_is_never_the_most_probable_has_no_flip():
    cheap, final = clouds(2000, cheap=0.001, final=0.01)
    (found,) = flips(cheap, final)
    assert (found.below, found.above) == (NOISE, STATIC)
    assert found.tolerance == pytest.approx(0.01, rel=0.03)


def test_monte_carlo_error_makes_no_flips():
    # Where the leaders are close, the shares cross many times by chance; one crossing is told, near all of them.
    for seed in range(20):
        cheap, final = clouds(4000, seed=seed)
        noise_share = np.array([regime_probabilities(cheap, final, t)[2] for t in np.sort(final)])
        crossing = np.sort(final)[np.abs(noise_share - 0.5).argmin()]
        found = flips(cheap, final)
        assert len(found) == 2
        assert found[0].tolerance == pytest.approx(crossing, rel=0.05)


@pytest.mark.parametrize("horizon", [1000.0, None])
def test_regimes_meet_at_the_boundaries(make, horizon):
    """On either side of each curve the rule itself says what the curve parts."""
    curve, tolerance, c_cheap = make.curve(horizon=horizon), 0.05, 50.0
    spread = make.curve(300, 0.3, horizon=horizon)
    alike = make.curve(200, horizon=horizon)._replace(alpha=np.array([0.2, 1.4]).repeat(100))
    found = boundaries(alike, tolerance, c_cheap)
    assert found.alpha[0] == pytest.approx(0.2) and found.alpha[-1] == pytest.approx(1.4)
    np.testing.assert_array_equal(found.static_lower, found.static_upper)
    assert np.all(np.diff(found.static) < 0)  # c_cheap lies before c_0

    def regime(l_int, alpha):
        one = curve._replace(l_int=np.array([l_int]), alpha=np.array([alpha]))
        cheap = draws.risk(one, [c_cheap])[0]
        final = np.array([l_int]) if horizon is None else draws.risk(one, [horizon])[0]
        return REGIMES[regime_probabilities(np.sqrt(cheap), np.sqrt(final), tolerance).argmax()]

    for alpha, static in zip(found.alpha, found.static, strict=True):
        assert 0.0 < static < found.noise
        assert regime(static * (1 - 1e-9), alpha) == STATIC and regime(static * (1 + 1e-9), alpha) == DYNAMIC
        assert regime(found.noise * (1 - 1e-9), alpha) == DYNAMIC and regime(found.noise * (1 + 1e-9), alpha) == NOISE
    wide = boundaries(spread, tolerance, c_cheap)
    assert np.all(wide.static_lower < wide.static) and np.all(wide.static < wide.static_upper)
    assert (wide.alpha[0], wide.alpha[-1]) == pytest.approx(tuple(np.quantile(spread.alpha, (0.005, 0.995))))


def test_the_regimes_that_the_terminal_prints_are_these():
    from bayes_prehoc import _terminal

    assert _terminal.REGIMES == REGIMES
