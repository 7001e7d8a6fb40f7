"""The weak prior's weight: by hand, at its ends, and what it does where prior and data conflict."""

import math

import numpy as np
import pytest
from scipy import stats

from bayes_prehoc.errors import InputError
from bayes_prehoc.priors import conflict_threshold, weak_weight
from bayes_prehoc.priors.robust import mixed_rows


def test_by_hand():
    weak, card = -3.0, -2.0
    expected = 0.1 * math.exp(weak) / (0.1 * math.exp(weak) + 0.9 * math.exp(card))
    assert weak_weight(weak, card) == pytest.approx(expected)
    assert weak_weight(-5.0, -5.0) == pytest.approx(0.1)
    # Evidences of many tasks are far below what exp can tell.
    assert weak_weight(-1e5, -1e5 + 1.0) == pytest.approx(expected)
    assert weak_weight(0.0, -2000.0) == 1.0
    assert weak_weight(-2000.0, 0.0) == 0.0


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_an_evidence_that_is_none(wrong):
    with pytest.raises(InputError, match="not finite"):
        weak_weight(wrong, 0.0)


def test_data_from_the_card_exceed_the_threshold_one_time_in_twenty_and_data_from_elsewhere_nearly_always():
    rng, n = np.random.default_rng(0), 20_000

    def evidences(mean):
        seen = rng.normal(mean, 0.5, n)
        return stats.norm.logpdf(seen, 0.0, np.hypot(2.0, 0.5)), stats.norm.logpdf(seen, 1.0, np.hypot(0.2, 0.5))

    threshold = conflict_threshold(*evidences(rng.normal(1.0, 0.2, n)))
    again = weak_weight(*evidences(rng.normal(1.0, 0.2, n)))
    assert np.mean(again > threshold) == pytest.approx(0.05, abs=0.01)
    assert np.mean(weak_weight(*evidences(-3.0)) > threshold) > 0.99


def test_rows_of_both_in_the_wanted_proportion():
    rng = np.random.default_rng(0)
    rows = mixed_rows(rng, 0.25, 1200, 1200, 1000)
    assert len(rows) == len(np.unique(rows)) == 1000
    assert np.sum(rows < 1200) in (250, 251)
    assert set(mixed_rows(rng, 0.0, 10, 4, 9)) == {10, 11, 12, 13}
    assert np.all(mixed_rows(rng, 1.0, 10, 4, 9) < 10)
    shares = [np.mean(mixed_rows(rng, 0.05, 50, 50, 10) < 50) for _ in range(400)]
    assert np.mean(shares) == pytest.approx(0.05, abs=0.015)
