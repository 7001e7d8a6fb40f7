"""The command line on real fine-tuning data with real pretrained models, a few steps of each."""

import numpy as np
import pytest

from bayes_prehoc import read_runs
from bayes_prehoc.cli import main

CLASSIFIED = {
    "SST-2": "sst2_small/train.tsv sst2_small/dev.tsv --text 0 --label 1",
    "CoLA": "glue/CoLA/train.tsv glue/CoLA/dev.tsv --text 3 --label 1 --metric matthews",
    "MRPC": "glue/MRPC/train.tsv glue/MRPC/dev.tsv --text #1~String --pair #2~String --label Quality --metric f1",
    "RTE": "glue/RTE/train.tsv glue/RTE/dev.tsv --text sentence1 --pair sentence2 --label label",
    "NoisyAG-News": "noisyag_news/samples10000valMed.csv noisyag_news/samplesTest.csv --text text --label label",
}
ANSWERED = {
    "gsm8k": "gsm8k/train.jsonl gsm8k/test.jsonl --text question --label answer",
    "mbpp": "mbpp/mbpp.jsonl mbpp/mbpp.jsonl --text text --label code",
}
FEW = "--seeds 2 --steps 4 --batch-size 8 --train-size 64 --probe-size 32 --outcome-size 32"


def probed(model, given, data_folder, store, *more):
    """Runs of a line of the tables above."""
    train, evaluation, *rest = (part.replace("~", " ") for part in given.split(" "))
    folder = data_folder / "tasks"
    files = ["--model", model, "--data", folder / train, "--eval", folder / evaluation, "--store", store]
    with pytest.raises(SystemExit) as ended:
        main([str(part) for part in ("probe", *files, *rest, *more, *FEW.split())])
    assert ended.value.code == 0
    (runs,) = read_runs(store)
    assert runs.seeds == (0, 1) and np.isfinite(runs.outcome).all() and len(runs.depths) == 4
    assert runs.outcome[0] != runs.outcome[1] or runs.values["loss"][0, -1] != runs.values["loss"][1, -1]
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("task", CLASSIFIED)
def test_an_encoder_by_lora(task, minilm_folder, data_folder, tmp_path):
    runs = probed(
        minilm_folder, CLASSIFIED[task], data_folder, tmp_path / "runs.db", "--adapter", "lora", "--layers", "2"
    )
    assert runs.attributes["descriptor.classes"] == (4 if task == "NoisyAG-News" else 2)


@pytest.mark.slow
@pytest.mark.parametrize("task", ANSWERED)
def test_a_decoder_on_answers(task, stories_folder, data_folder, tmp_path):
    more = "--kind", "answer", "--longest", "256", "--metric", "loss"
    runs = probed(stories_folder, ANSWERED[task], data_folder, tmp_path / "runs.db", *more)
    assert runs.outcome_metric == "loss" and not runs.higher_is_better
