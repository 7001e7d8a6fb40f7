"""The recorded run files of the data folder, with what is known about each."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.runs import RunStore, read_attributes, read_runs, shared_depths, summarise_left_out, with_attributes

DATA = Path(os.environ.get("BAYES_PREHOC_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data")
RUNS = DATA / "runs"

pytestmark = pytest.mark.skipif(
    not RUNS.is_dir(), reason=f"no run files in {RUNS}; set BAYES_PREHOC_DATA to the folder that holds runs/"
)

DEEPOBS = {
    "deepobs_cifar10_3c3d.csv": (4, 100),
    "deepobs_fmnist_2c2d.csv": (4, 100),
    "deepobs_fmnist_vae.csv": (2, 100),
    "deepobs_mnist_vae.csv": (2, 50),
    "deepobs_quadratic_deep.csv": (2, 100),
}


@pytest.mark.parametrize("name", DEEPOBS)
def test_deepobs_runs_are_complete(name):
    n_metrics, horizon = DEEPOBS[name]
    runs = read_runs(RUNS / name, depth_unit="epoch")
    assert len(runs) == 3 and not runs.set_aside
    for task in runs:
        assert task.n_runs == 10 and len(task.metrics) == n_metrics and task.outcome_metric is None
        assert task.depths.tolist() == list(range(horizon + 1))
        assert task.horizon == horizon and not task.horizon_assumed and not task.censored.any()
    assert all(t.outcome_metric == "test_loss" for t in read_runs(RUNS / name, outcome="test_loss"))


def test_deepobs_depths_where_all_seeds_agree_are_left_out():
    runs = read_runs(RUNS / "deepobs_fmnist_2c2d.csv")
    agreed = {}
    for task in runs:
        for metric in task.metrics:
            usable, left_out = shared_depths(task, metric)
            agree = task.values[metric].max(axis=0) == task.values[metric].min(axis=0)
            np.testing.assert_array_equal(usable, ~agree & (task.depths > 0))
            agreed[task.task, metric] = sum("zero variance" in reason for _, reason in left_out)
    assert sum(agreed.values()) > 0
    assert all(metric == "train_accuracy" for (_, metric), count in agreed.items() if count)


def test_lora_tasks_are_all_usable_and_informatively_censored():
    runs = read_runs(RUNS / "mlperf_llama2_70b_lora.csv", depth_unit="sample")
    assert len(runs) == 99 and not runs.set_aside
    for task in runs:
        assert task.outcome_metric == "eval_loss" and task.higher_is_better is False
        assert shared_depths(task, "eval_loss")[0].sum() >= 2
        assert task.horizon_assumed == bool(task.censored.any())
        assert any("seed_logged" in note for note in task.notes)
    assert len(runs.frame) == 5766


def test_bert_tasks_are_set_aside_for_two_reasons():
    runs = read_runs(RUNS / "mlperf_bert.csv", depth_unit="sample")
    assert len(runs) == 75 and len(runs.set_aside) == 70
    reasons = {s.task: s.reason for s in runs.set_aside}
    assert Counter(reason.split(":")[0].split(" (")[0] for reason in reasons.values()) == {
        "conflicting duplicates": 4,
        "fewer than two usable depths": 66,
    }
    conflicting = {task for task, reason in reasons.items() if reason.startswith("conflicting")}
    assert conflicting == {f"bert:v2.0:{number}" for number in ("005", "008", "051", "052")}
    assert all("at step 1" in reasons[task] for task in conflicting)
    assert all(len(reason) < 160 for reason in reasons.values())
    for task in runs:
        usable, left_out = shared_depths(task, "eval_accuracy")
        assert usable.sum() >= 2 and len(left_out) == (~usable).sum()
        assert len(summarise_left_out(left_out)) < 160


@pytest.mark.parametrize("name", ["mlperf_llama2_70b_lora.csv", "mlperf_bert.csv"])
def test_shared_depths_agree_with_a_count_by_hand(name):
    frame = pd.read_csv(RUNS / name)
    for task in read_runs(RUNS / name):
        rows = frame[frame["task"] == task.task]
        (metric,) = task.metrics
        by_step = rows.groupby("step")
        expected = (by_step["seed"].nunique() >= 0.9 * rows["seed"].nunique()) & (by_step["value"].nunique() > 1)
        assert task.depths[shared_depths(task, metric)[0]].tolist() == [float(s) for s in expected.index[expected]]


def test_attributes_are_refused_as_runs_and_joined_to_them():
    configs = RUNS / "mlperf_configs.csv"
    with pytest.raises(InputError, match="no columns 'seed', 'step', 'metric', 'value'.*with_attributes"):
        read_runs(configs)
    attributes = read_attributes(configs)
    assert attributes.shape == (244, 25)
    for name in ("mlperf_llama2_70b_lora.csv", "mlperf_bert.csv"):
        joined = with_attributes(read_runs(RUNS / name), configs)
        for task in joined:
            assert task.attributes["global_batch_size"] == attributes.at[task.task, "global_batch_size"]
            assert not any("does not name" in note for note in task.notes)


@pytest.mark.parametrize("name", [*DEEPOBS, "mlperf_llama2_70b_lora.csv", "mlperf_bert.csv"])
def test_files_pass_through_a_store_unchanged(tmp_path, name):
    runs = read_runs(RUNS / name, depth_unit="epoch")
    with RunStore(tmp_path / "runs.db") as store:
        store.write(runs)
    stored = read_runs(tmp_path / "runs.db")
    pd.testing.assert_frame_equal(stored.frame, runs.frame)
    pd.testing.assert_frame_equal(stored.summary(), runs.summary())
    assert stored.set_aside == runs.set_aside
    for before, after in zip(runs, stored, strict=True):
        assert after.attributes == before.attributes and after.run_hashes() == before.run_hashes()
