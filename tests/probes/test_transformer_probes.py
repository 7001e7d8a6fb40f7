"""Probes of pretrained transformers: a run equals training written out as a loop, whatever is kept of lower layers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

from bayes_prehoc import Adapter, InputError, ProbeSpec, TextData, probe
from bayes_prehoc.probes import text_task
from bayes_prehoc.probes.backbones.paths import nested
from bayes_prehoc.probes.engine import run_key
from bayes_prehoc.probes.prepare import prepare

pytest.importorskip("transformers")
SIZE = 48
"""Words that the tiny checkpoints know: w3, w4, ..."""


@pytest.fixture(autouse=True)
def _few_lengths(monkeypatch):
    """Two lengths instead of four: each is compiled."""
    monkeypatch.setattr(text_task, "LENGTHS", 2)


def table(rows, seed, answers=False):
    """Texts of 2 to 14 words; the label is whether the first word is a late one, or the first word itself."""
    rng = np.random.default_rng(seed)
    texts = [[f"w{i}" for i in rng.integers(3, SIZE, rng.integers(2, 15))] for _ in range(rows)]
    labels = [text[0] if answers else int(int(text[0][1:]) > 25) for text in texts]
    return pd.DataFrame(
        {"text": [" ".join(text) for text in texts], "label": labels, "number": np.linspace(-1, 1, rows)}
    )


def spec(folder, kind="class", **changes):
    answers = kind == "answer"
    data = TextData(
        train=table(60, 0, answers),
        evaluation=table(90, 1, answers),
        text="text",
        label="number" if kind == "number" else "label",
        kind=kind,
    )
    given = {"steps": 9, "batch_size": 8, "learning_rate": 3e-3, "n_depths": 3, "dropout": 0.0, "schedule": "linear"}
    metric = "accuracy" if kind == "class" else "loss"
    return ProbeSpec(**({"name": "t", "data": data, "backbone": folder, "metric": metric} | given | changes))


def in_a_loop(task, seed):
    """Train step by step, with batches at full length: losses on the probe set at the recorded depths."""
    program, (start, frozen, sets, _, _) = task.place(jax.devices()[0], 1)
    learner, steps = program.learner, task.spec.steps
    order_key, fresh_key, _ = jax.random.split(run_key(seed), 3)
    trained = learner.start(start, fresh_key)

    @jax.jit
    def loss_of(trained, x, y):
        logits = learner.logits(trained, frozen, x)
        if y.ndim == 2:
            asked = y >= 0
            nats = -jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(y, 0)[..., None], axis=-1)[..., 0]
            return jnp.mean(jnp.sum(nats * asked, axis=1) / asked.sum(axis=1))
        if jnp.issubdtype(y.dtype, jnp.floating):
            return jnp.mean((logits[:, 0] - y) ** 2)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(y)), y])

    rates = optax.linear_schedule(task.spec.learning_rate, 0.0, steps)
    optimizer = optax.adamw(rates, weight_decay=0.0)
    state, losses = optimizer.init(trained), []
    gradient_of = jax.jit(jax.value_and_grad(loss_of))
    length = np.asarray(sets.train_length)
    per_epoch, rows = len(length) // 8, None
    for step in range(steps):
        epoch, place = divmod(step, per_epoch)
        if place == 0:
            key = jax.random.fold_in(order_key, epoch)
            if not learner.by_length:
                rows = np.asarray(jax.random.permutation(key, len(length)))[: 8 * per_epoch].reshape(-1, 8)
            else:
                rows_key, batches_key = jax.random.split(key)
                order = np.asarray(jax.random.permutation(rows_key, len(length)))[: 8 * per_epoch]
                order = order[np.argsort(length[order], kind="stable")]
                rows = np.asarray(jax.random.permutation(batches_key, order.reshape(-1, 8)))
        x, y = jax.tree.map(lambda a, some=rows[place]: a[some], (sets.train_x, sets.train_y))
        _, gradient = gradient_of(trained, x, y)
        updates, state = optimizer.update(gradient, state, trained)
        trained = optax.apply_updates(trained, updates)
        if step + 1 in task.spec.depths:
            judged = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[sets.probe], (sets.judged_x, sets.judged_y))
            each = [loss_of(trained, *jax.tree.map(lambda a, i=i: a[i : i + 1], judged)) for i in range(45)]
            losses.append(np.mean(each))
    return losses


CASES = [
    ("bert", "class", Adapter(kind="full")),
    ("bert", "class", Adapter(kind="full", layers=1)),
    ("roberta", "class", Adapter(kind="lora", layers=1, rank=2, modules=("query", "value", "up"))),
    ("distilbert", "number", Adapter(kind="lora", rank=2)),
    ("bert", "class", Adapter(kind="head")),
    ("qwen3", "answer", Adapter(kind="lora", layers=1, rank=2, modules=("key", "gate"))),
    ("gpt2", "answer", Adapter(kind="full")),
    ("qwen2", "class", Adapter(kind="head")),
]


@pytest.mark.parametrize(("variant", "kind", "adapter"), CASES)
def test_a_run_equals_a_plain_training_loop(variant, kind, adapter, tiny_model):
    asked = spec(tiny_model(variant), kind, adapter=adapter)
    runs = probe(asked, [3], progress=False)["t"]
    np.testing.assert_allclose(runs.values["loss"][0], in_a_loop(prepare(asked), 3), rtol=2e-4)
    assert np.ptp(runs.values["loss"][0]) > 1e-5
    np.testing.assert_allclose(runs.values["learning_rate"][0], 3e-3 * (1 - (asked.depths - 1) / 9), rtol=1e-6)
    examples = runs.outcome_examples
    assert examples.shape == (1, 45) and runs.outcome[0] == pytest.approx(examples.mean(dtype=np.float64), rel=1e-6)
    assert runs.higher_is_better == (kind == "class") and examples.dtype == (bool if kind == "class" else np.float32)


@pytest.mark.parametrize(
    ("variant", "kind"), [("bert", "class"), ("qwen3", "answer")], ids=["encoder", "language model"]
)
def test_what_is_kept_of_lower_layers_changes_nothing(variant, kind, tiny_model, monkeypatch):
    """With dropout, too: it begins where training does."""
    monkeypatch.setattr(text_task, "LENGTHS", 1)
    asked = spec(tiny_model(variant), kind, adapter=Adapter(kind="lora", layers=1, rank=2, dropout=0.1), dropout=0.1)
    kept = probe(asked, 2, progress=False)["t"]
    monkeypatch.setattr(text_task, "CACHE_BYTES", 0)
    again = probe(asked, 2, progress=False)["t"]
    assert prepare(asked).place(jax.devices()[0], 1)[0].learner.stage == "tokens"
    np.testing.assert_allclose(kept.values["loss"], again.values["loss"], rtol=1e-4)


def test_frozen_parameters_are_those_of_the_checkpoint_and_only_those_needed_are_kept(tiny_model):
    task = prepare(spec(tiny_model("bert"), adapter=Adapter(kind="lora", layers=1, rank=2)))
    program, (start, frozen, *_) = task.place(jax.devices()[0], 1)
    assert not any(path.startswith("layers.0.") for path in frozen)
    assert {path.rpartition(".")[2] for path in program.learner.trained} == {"lora_a", "lora_b", "kernel", "bias"}
    assert set(program.learner.fresh) < set(program.learner.trained) == set(start)
    assert nested(frozen)["layers"][1]["attention"]["query"]["kernel"].shape == (16, 16)


def test_seeds_are_the_same_alone_and_in_company(tiny_model):
    asked = spec(tiny_model("bert"), adapter=Adapter(kind="lora", rank=2), dropout=None)
    company, alone = probe(asked, 3, progress=False)["t"], probe(asked, [2], progress=False)["t"]
    np.testing.assert_array_equal(company.values["loss"][2], alone.values["loss"][0])
    assert len({tuple(row) for row in company.values["loss"]}) == 3


def test_descriptors_are_recorded_and_stay_what_they_were(tiny_model, tmp_path, monkeypatch):
    asked = spec(tiny_model("bert"), adapter=Adapter(kind="lora", layers=1, rank=2))
    first = probe(asked, 1, store=tmp_path / "runs.db", progress=False)["t"].attributes
    found = {name.removeprefix("descriptor."): value for name, value in first.items() if "descriptor." in name}
    assert found["train_size"] == 60 and 2 <= found["length"] <= 15 and found["classes"] == 2
    assert 0.5 < found["label_entropy"] < 0.7 and found["gradient_norm"] > 0 and np.isfinite(found["logme"])
    monkeypatch.setattr("bayes_prehoc.probes.prepare.describe", None)
    assert probe(asked, 2, store=tmp_path / "runs.db", progress=False)["t"].attributes == first


def test_runs_are_stored_and_not_repeated(tiny_model, tmp_path, monkeypatch):
    folder = tiny_model("bert")
    first = probe(spec(folder, metric="f1"), 2, store=tmp_path / "runs.db", progress=False)["t"]
    assert first.outcome_examples is None and first.attributes["data.kind"] == "class"
    monkeypatch.setattr("bayes_prehoc.probes.execute.engine.run_group", None)
    again = probe(spec(folder, metric="f1"), 2, store=tmp_path / "runs.db", progress=False)["t"]
    np.testing.assert_array_equal(first.outcome, again.outcome)
    changed = spec(folder, metric="f1")
    changed = dataclasses.replace(changed, data=dataclasses.replace(changed.data, train=table(60, 5)))
    assert prepare(changed).digest != prepare(spec(folder, metric="f1")).digest


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"train_size": 61}, "train_size is 61, there are 60"),
        ({"outcome_size": 46}, "outcome_size is 46, there are 45"),
        ({"batch_size": 61}, "batch_size 61 exceeds the 60 examples"),
        ({"adapter": Adapter(layers=3)}, "3 layers are to be trained, the model has 2"),
        ({"metric": "exact_match"}, "not for data of kind 'class'"),
        ({"label_noise": 0.1}, "label noise is for the suite's data"),
        ({"pooling": "sum"}, "pooling is 'sum'"),
    ],
)
def test_impossible_probes_are_explained(changes, complaint, tiny_model):
    folder = tiny_model("bert")
    with pytest.raises(InputError, match=complaint):
        prepare(spec(folder, **changes))


def test_a_tied_head_alone_cannot_be_trained(tiny_model):
    with pytest.raises(InputError, match="nothing is trained"):
        prepare(spec(tiny_model("qwen2"), "answer", adapter=Adapter(kind="head")))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"kind": "prefix"}, "kind is 'prefix'"),
        ({"layers": 0}, "layers is 0"),
        ({"rank": 0}, "rank is 0"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"modules": ("q_proj",)}, "no module 'q_proj'.*query, key"),
        ({"modules": ()}, "no modules"),
    ],
)
def test_impossible_adapters_are_refused(changes, complaint):
    with pytest.raises(InputError, match=complaint):
        Adapter(**changes)
