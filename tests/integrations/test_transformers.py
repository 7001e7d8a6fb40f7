"""The callback, driven by the trainer's own callback handler, state and control, which need no torch."""

import dataclasses
import importlib
import logging
import sys
import types

import numpy as np
import pytest

from bayes_prehoc.errors import InputError

transformers = pytest.importorskip("transformers")
from transformers.trainer_callback import (  # noqa: E402
    CallbackHandler,
    DefaultFlowCallback,
    TrainerControl,
    TrainerState,
)
from transformers.trainer_utils import IntervalStrategy, SaveStrategy  # noqa: E402

from bayes_prehoc.integrations import WatchCallback  # noqa: E402
from bayes_prehoc.watching import WatchTable  # noqa: E402

NEVER = types.SimpleNamespace(
    logging_first_step=False,
    logging_strategy=IntervalStrategy.NO,
    eval_strategy=IntervalStrategy.NO,
    save_strategy=SaveStrategy.NO,
    eval_delay=0,
)


def _trained(callback, values, state, control=None, until=1000):
    """Steps of a loop that does with state and control what the trainer does; the depths that were evaluated."""
    control = control or TrainerControl()
    handler = CallbackHandler([DefaultFlowCallback(), callback], None, None, None, None)
    control = handler.on_train_begin(NEVER, state, control)
    evaluated = []
    while state.global_step < until:
        control = handler.on_step_begin(NEVER, state, control)
        state.global_step += 1
        control = handler.on_step_end(NEVER, state, control)
        if control.should_evaluate:
            metrics = {"eval_score": float(np.interp(state.global_step, *values)), "eval_runtime": 0.1}
            state.log_history.append(metrics | {"step": state.global_step})
            evaluated.append(state.global_step)
            control = handler.on_evaluate(NEVER, state, control, metrics)
        if control.should_training_stop:
            break
    return evaluated, control


@pytest.fixture(scope="module")
def in_steps(table):
    """The table with whole numbers of steps, as a file keeps it."""
    predictor = dataclasses.replace(table.predictor, depths=np.round(table.predictor.depths))
    return WatchTable.from_dict(dataclasses.replace(table, predictor=predictor).to_dict())


def _run(laboratory, level):
    depths = np.round(laboratory.runs["a"].depths)
    return depths, np.full(len(depths), level)


def test_a_hopeless_run_is_stopped_and_a_good_one_let_finish(laboratory, in_steps, caplog):
    caplog.set_level(logging.INFO, "bayes_prehoc")
    bad, good = WatchCallback(in_steps), WatchCallback(in_steps)
    state = TrainerState(max_steps=1000)
    seen, control = _trained(bad, _run(laboratory, 0.6), state)
    assert control.should_training_stop and state.global_step < 200 and seen[-1] == state.global_step
    assert [d["action"] for d in bad.decisions] == [*["watch"] * len(seen), "stop"]
    assert [d["next_depth"] for d in bad.decisions[:-1]] == seen
    (stopped,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert stopped.message == bad.decisions[-1]["reason"] and "finishing is worth" in stopped.message

    state = TrainerState(max_steps=1000)
    seen, _ = _trained(good, _run(laboratory, 1.0), state)
    assert state.global_step == 1000 and good.decisions[-1]["action"] == "decided"
    assert max(seen) < 1000, "once it is decided, no further evaluation is asked for"


def test_a_run_that_goes_on_from_a_checkpoint_is_decided_as_if_it_had_not_stopped(laboratory, in_steps, tmp_path):
    values = laboratory.runs["a"].depths, 0.85 + 0.005 * np.sin(np.arange(7))
    whole = WatchCallback(in_steps)
    looks, _ = _trained(whole, values, TrainerState(max_steps=1000))

    first, state = WatchCallback(in_steps), TrainerState(max_steps=1000)
    before, _ = _trained(first, values, state, until=looks[0] + 1)
    kept = dataclasses.replace(state, stateful_callbacks=[first, TrainerControl()])
    kept.save_to_json(str(tmp_path / "state.json"))
    loaded = TrainerState.load_from_json(str(tmp_path / "state.json"))
    saved = loaded.stateful_callbacks["WatchCallback"]
    restored = WatchCallback.from_state(saved)
    assert restored.decisions == first.decisions and restored.table.to_dict() == in_steps.to_dict()
    # Restored or new, what was seen comes with the trainer's state.
    for callback in (restored, WatchCallback(in_steps)):
        after, _ = _trained(callback, values, TrainerState.load_from_json(str(tmp_path / "state.json")))
        assert before + after == looks and len(after) > 0
        assert callback.decisions[-1] == whole.decisions[-1]


def test_an_evaluation_of_something_else_is_not_used_and_said(in_steps, caplog):
    callback, control = WatchCallback(in_steps), TrainerControl()
    state = TrainerState(global_step=10)
    callback.on_evaluate(NEVER, state, control, metrics={"eval_other_loss": 1.0})
    assert not callback.decisions and "none of the metrics score" in caplog.text and "eval_other_loss" in caplog.text
    callback.on_evaluate(NEVER, state, control, metrics={"score": 0.2})
    assert callback.decisions[-1]["action"] == "stop" and control.should_training_stop


def test_the_loss_that_is_trained_on_is_no_evaluation(in_steps):
    loss = dataclasses.replace(in_steps.predictor, metrics=("loss",))
    callback = WatchCallback(dataclasses.replace(in_steps, metric="loss", predictor=loss))
    first, second, *_ = (int(depth) for depth in callback.table.depths)
    history = [{"step": first, "loss": 5.0, "learning_rate": 0.1}, {"step": second, "eval_loss": 0.85}]
    callback.on_train_begin(NEVER, TrainerState(global_step=second, log_history=history), TrainerControl())
    assert callback.decisions[-1]["depth"] == second
    assert callback.decisions[-1] == callback.table.decide({second: {"loss": 0.85}}).to_dict()


def test_diverged_runs_are_stopped(in_steps):
    callback, control = WatchCallback(in_steps), TrainerControl()
    callback.on_evaluate(NEVER, TrainerState(global_step=10), control, metrics={"eval_score": float("inf")})
    assert control.should_training_stop and "diverged" in callback.decisions[-1]["reason"]


def test_a_table_of_epochs_follows_the_trainers_epochs(table):
    predictor = dataclasses.replace(table.predictor, depths=np.arange(1.0, 8.0))
    epochs = WatchCallback(dataclasses.replace(table, depth_unit="epoch", predictor=predictor))
    state, control = TrainerState(global_step=37, epoch=1.0), TrainerControl()
    epochs.on_train_begin(NEVER, dataclasses.replace(state, epoch=0.0), control)
    assert epochs.decisions[-1]["next_depth"] >= 1.0
    state.epoch = epochs.decisions[-1]["next_depth"]
    assert epochs.on_step_end(NEVER, state, control).should_evaluate
    epochs.on_evaluate(NEVER, state, control, metrics={"eval_score": 0.85})
    assert epochs.decisions[-1]["depth"] == state.epoch


def test_it_takes_a_posterior_a_table_or_a_file(laboratory, table, tmp_path):
    table.save(tmp_path / "watch.json")
    options = {"runs": laboratory.runs, "threshold": 0.85, "worth": 2.0}
    given = (WatchCallback(laboratory.posterior(0.3), "a", **options), WatchCallback(table))
    for callback in (*given, WatchCallback(str(tmp_path / "watch.json"))):
        assert callback.table.to_dict() == table.to_dict()
    with pytest.raises(InputError, match="task is missing"):
        WatchCallback(laboratory.posterior(), **options)
    with pytest.raises(InputError, match="task, worth given beside"):
        WatchCallback(table, "a", worth=3.0)
    with pytest.raises(InputError, match="it is a int"):
        WatchCallback(3)
    with pytest.raises(InputError, match="counts depth in tokens"):
        WatchCallback(dataclasses.replace(table, depth_unit="token"))


@pytest.mark.parametrize(("library", "name"), [("transformers", "WatchCallback"), ("optuna", "WatchPruner")])
def test_without_the_library_the_error_says_what_to_install(monkeypatch, library, name):
    for module in list(sys.modules):
        if module == library or module.startswith(f"{library}."):
            monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"bayes_prehoc.integrations.{library}", raising=False)
    integrations = importlib.import_module("bayes_prehoc.integrations")
    with pytest.raises(InputError, match=rf"{name}: {library} is not installed. pip install 'bayes-prehoc\["):
        getattr(integrations, name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = integrations.nonsense
    assert name in dir(integrations)
