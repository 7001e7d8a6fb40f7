"""The pruner in real studies of the laboratory's runs."""

import dataclasses
import logging

import numpy as np
import pytest

from bayes_prehoc.errors import InputError

optuna = pytest.importorskip("optuna")
from optuna.trial import TrialState  # noqa: E402

from bayes_prehoc.integrations import WatchPruner  # noqa: E402

optuna.logging.set_verbosity(optuna.logging.WARNING)


def _study(laboratory, pruner, trials=60, direction="maximize", sign=1.0):
    """A study whose trials are runs of the chain; the study and the depth each trial came to."""
    fresh = laboratory.chain.draw(np.random.default_rng(21), trials)
    came_to = []

    def objective(trial):
        for place, depth in enumerate(fresh.depths):
            trial.report(sign * fresh.values["score"][trial.number, place], round(depth))
            if trial.should_prune():
                came_to.append(depth)
                raise optuna.TrialPruned
        came_to.append(fresh.depths[-1])
        return sign * fresh.outcome[trial.number]

    study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(0), pruner=pruner)
    study.optimize(objective, n_trials=trials)
    return study, np.array(came_to), fresh


@pytest.fixture(scope="module")
def whole(table):
    predictor = dataclasses.replace(table.predictor, depths=np.round(table.predictor.depths))
    # Half of the trials end above.
    return dataclasses.replace(table, predictor=predictor, threshold=0.8)


def test_trials_not_worth_finishing_are_pruned_and_the_rest_finish(laboratory, whole):
    pruner = WatchPruner(whole, beat_best=False)
    study, came_to, fresh = _study(laboratory, pruner)
    pruned = study.get_trials(states=[TrialState.PRUNED])
    complete = study.get_trials(states=[TrialState.COMPLETE])
    assert len(pruned) > 20 and len(complete) > 15 and came_to.mean() < 700.0
    for trial in pruned:
        assert whole.decide(trial.intermediate_values).action == "stop" == pruner.decisions[trial.number].action
    ended = fresh.outcome > whole.threshold
    kept = np.array([trial.state == TrialState.COMPLETE for trial in study.trials])
    # What ends above the threshold is mostly kept, the rest mostly not.
    assert ended[kept].mean() > 0.6 > 0.15 > ended[~kept].mean()


def test_by_default_a_trial_is_to_beat_the_best_that_has_finished(laboratory, whole):
    pruner = WatchPruner(whole)
    study, came_to, _ = _study(laboratory, pruner)
    fixed, fixed_to, _ = _study(laboratory, WatchPruner(whole, beat_best=False))
    assert came_to.sum() < fixed_to.sum()
    last = study.trials[-1]
    best_before = max(t.value for t in study.trials[:-1] if t.state == TrialState.COMPLETE)
    assert pruner.decisions[last.number] == whole.decide(last.intermediate_values, best_before)
    assert fixed.best_value >= study.best_value


def test_a_loss_is_minimised(laboratory, whole):
    turned = dataclasses.replace(
        whole,
        higher_is_better=False,
        threshold=-whole.threshold,
        predictor=dataclasses.replace(
            whole.predictor,
            intercept=-whole.predictor.intercept,
            average=-whole.predictor.average,
            outcome_mean=-whole.predictor.outcome_mean,
            lowest=-whole.predictor.highest,
            highest=-whole.predictor.lowest,
        ),
    )
    one, ends, _ = _study(laboratory, WatchPruner(whole))
    two, other, _ = _study(laboratory, WatchPruner(turned), direction="minimize", sign=-1.0)
    assert np.array_equal(ends, other) and one.best_value == pytest.approx(-two.best_value)
    with pytest.raises(InputError, match="it is to minimize, while a higher score is better"):
        _study(laboratory, WatchPruner(whole), trials=1, direction="minimize")


def test_it_says_why(laboratory, whole, caplog):
    caplog.set_level(logging.INFO, "bayes_prehoc")
    _study(laboratory, WatchPruner(whole), trials=5)
    assert any("trial 0: " in r.message and "is expected to end at" in r.message for r in caplog.records)
