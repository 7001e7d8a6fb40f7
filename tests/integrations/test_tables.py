"""What a callback may be given."""

import sys

import numpy as np
import pytest

import bayes_prehoc as bp
from bayes_prehoc.errors import InputError
from bayes_prehoc.integrations.tables import table_of


@pytest.fixture
def arguments(laboratory):
    return {"runs": laboratory.runs, "threshold": 0.85, "worth": 2.0}


def test_runs_are_fitted_under_a_card(laboratory, table, arguments, monkeypatch):
    """All of the fit but the fit: that takes a minute (the next test)."""
    card, asked = bp.load_card("suite"), []

    def fit(estimates, prior):
        asked.append((estimates, prior))
        return laboratory.posterior(0.3)

    monkeypatch.setattr(sys.modules["bayes_prehoc.hierarchy.fit"], "fit", fit)
    assert table_of(card, "a", arguments).to_dict() == table.to_dict()
    ((estimates, prior),) = asked
    assert prior is card and estimates.proxy == card.scope.proxy and estimates.tasks[0].task == "a"


@pytest.mark.slow
def test_a_card_decides(laboratory, arguments):
    made = table_of(bp.load_card("suite"), "a", arguments)
    # Nearly every run that ends so high is worth finishing, and hardly one that starts far below is.
    looks = made.predictor.depths[made.predictor.looks]
    assert made.decide({looks[-1]: 0.8 + 0.3}).action != "stop"
    assert made.decide({looks[-1]: 0.8 - 0.3}).action == "stop"
    assert np.all(np.diff(made.variance) <= 1e-12)


def test_what_cannot_be_watched(arguments):
    card = bp.load_card("suite")
    with pytest.raises(InputError, match="no runs"):
        table_of(card, "a", arguments | {"runs": None})
    with pytest.raises(InputError, match="it is a int"):
        table_of(3, "a", arguments)
