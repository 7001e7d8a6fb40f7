"""The callback in the real Trainer, from runs that it made itself to decisions about new ones (`make test-torch`).

Torch is in an environment of its own, of an older Python and without JAX: the table comes from the other interpreter
(BAYES_PREHOC_PYTHON) through a file, as it would on a machine that only trains. The runs are a small network's on
exclusive or, where a part of the seeds ends in a poor minimum.
"""

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from torch import nn  # noqa: E402
from transformers import Trainer, TrainingArguments, set_seed  # noqa: E402

from bayes_prehoc.integrations import WatchCallback  # noqa: E402

STEPS, EVERY, SEEDS, FRESH = 96, 8, 64, 24
THRESHOLD, WORTH = 0.9, 1.7
# Threads of so small a network only wait for each other.
torch.set_num_threads(1)


class Network(nn.Module):
    """A classifier with few hidden units, some of which may die."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))

    def forward(self, x, labels=None):
        logits = self.layers(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def _points(count, seed):
    random = np.random.default_rng(seed)
    corner = random.integers(0, 2, (count, 2))
    x = (2.0 * corner - 1.0 + 0.35 * random.normal(size=(count, 2))).astype(np.float32)
    return [{"x": torch.tensor(a), "labels": int(b)} for a, b in zip(x, corner.sum(axis=1) % 2, strict=True)]


TRAIN, EVALUATE = _points(256, 0), _points(512, 1)


def _accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(axis=-1) == prediction.label_ids).mean())}


def _trainer(seed, folder, callbacks=(), **options):
    set_seed(seed)
    settings = {
        "max_steps": STEPS,
        "learning_rate": 0.05,
        "lr_scheduler_type": "linear",
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 512,
        "seed": seed,
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    arguments = TrainingArguments(output_dir=str(folder), **settings | options)
    return Trainer(
        Network(),
        arguments,
        train_dataset=TRAIN,
        eval_dataset=EVALUATE,
        compute_metrics=_accuracy,
        callbacks=list(callbacks),
    )


def _evaluations(trainer):
    return {entry["step"]: entry["eval_accuracy"] for entry in trainer.state.log_history if "eval_accuracy" in entry}


def _run_whole(seed, folder):
    trainer = _trainer(seed, folder, eval_strategy="steps", eval_steps=EVERY)
    trainer.train()
    return _evaluations(trainer)


@pytest.fixture(scope="module")
def table(table_of, tmp_path_factory):
    """A file with the table that 64 seeds give."""
    folder = tmp_path_factory.mktemp("runs")
    return table_of([_run_whole(seed, folder) for seed in range(SEEDS)], "accuracy", THRESHOLD, WORTH, folder)


def test_runs_are_watched_where_it_pays_and_ended_where_not(table, tmp_path):
    net, whole = [], []
    for seed in range(1000, 1000 + FRESH):
        outcome = _run_whole(seed, tmp_path)[STEPS]
        whole.append(WORTH * (outcome > THRESHOLD) - 1.0)
        callback = WatchCallback(table)
        trainer = _trainer(seed, tmp_path, [callback])
        trainer.train()
        steps, last = trainer.state.global_step, callback.decisions[-1]
        # A run that is stopped before its first look still takes the step that it began.
        assert steps == (max(last["depth"], 1) if last["action"] == "stop" else STEPS)
        asked = [d["next_depth"] for d in callback.decisions if d["action"] == "watch"]
        seen = _evaluations(trainer)
        assert list(seen) == asked == [d["depth"] for d in callback.decisions[1:]]
        net.append(WORTH * (steps == STEPS and outcome > THRESHOLD) - steps / STEPS - len(seen) * 0.001)
        print(f"seed {seed}: ends at {outcome:.3f}; {last['reason']}")
    print(f"net per run, in full runs: watched {np.mean(net):.3f}, all finished {np.mean(whole):.3f}")
    assert np.mean(net) > max(np.mean(whole), 0.0)
    assert "jax" not in sys.modules


def test_a_run_that_goes_on_from_a_checkpoint_decides_as_before(table, tmp_path):
    """With the trainer's states of callbacks restored, and without."""
    for seed in range(1000, 1000 + FRESH):
        callback = WatchCallback(table)
        whole = _trainer(seed, tmp_path / str(seed), [callback], save_strategy="steps", save_steps=EVERY)
        whole.train()
        if len(_evaluations(whole)) > 1:
            break
    else:
        pytest.fail("no run was looked at twice")
    first = min(_evaluations(whole))
    for restored in (True, False):
        again = WatchCallback(table)
        trainer = _trainer(seed, tmp_path / "again", [again], restore_callback_states_from_checkpoint=restored)
        trainer.train(resume_from_checkpoint=str(tmp_path / str(seed) / f"checkpoint-{int(first)}"))
        (kept,) = (c for c in trainer.callback_handler.callbacks if isinstance(c, WatchCallback))
        assert (kept is again) is not restored
        assert _evaluations(trainer) == pytest.approx(_evaluations(whole))
        assert kept.decisions[-1]["action"] == callback.decisions[-1]["action"]
        assert trainer.state.global_step == whole.state.global_step
