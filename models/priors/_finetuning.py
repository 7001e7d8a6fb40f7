"""The fine-tuning tasks behind the card `finetuning`: sentences with an encoder, answers with a decoder.

SST-2, CoLA, MRPC, RTE and NoisyAG-News with a clean twin, each by the head of MiniLM alone and by LoRA on its last two
layers; the loss of answers of GSM8K and MBPP with a Llama of 260 thousand parameters, trained whole. A family is what
is trained: `head`, `lora` or `full`, which whoever loads the card knows of their own tasks.

Of each data set a fixed part is taken, so that a run is short. Of pairs of sentences those of up to `LONGEST` tokens
are; longer texts of news are cut there. CoLA is judged by accuracy: runs as short as these do not learn it, its usual
metric is then about 0, and a mean about 0 is no scale of risk.
"""

import csv
import functools
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from _recorded import minilm

import bayes_prehoc as bp

__all__ = ["Size", "specs"]

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 64
"""Tokens of a text, or of a pair of them."""
LONGEST_ANSWER = 128
"""Tokens of a prompt with its answer."""
SENTENCES = ("SST-2", "CoLA")
"""Data sets of which LoRA affords more steps, since their texts are short."""


class Size(NamedTuple):
    """How much of everything: examples of each set, and steps by family; of LoRA on sentences and on longer texts."""

    train: int
    probe: int
    outcome: int
    head: int
    lora: int
    lora_long: int
    full: int


def specs(size: Size, data: Path, scratch: Path) -> list[bp.ProbeSpec]:
    """All tasks, LoRA last, since it costs most.

    Parameters
    ----------
    size : Size
    data : Path
        Folder of `tasks` and `weights`.
    scratch : Path
        Where the Llama's folder is made, if it is not there.
    """
    encoder, heads, updates = str(minilm()), [], []
    for name, texts in _classified(data / "tasks", encoder).items():
        shared = {
            "data": texts, "backbone": encoder, "metric": "f1" if name == "MRPC" else "accuracy", "schedule": "linear",
            "train_size": size.train, "probe_size": size.probe, "outcome_size": size.outcome,
        }  # fmt: skip
        # Beside the probe set no more pairs are short enough.
        shared["outcome_size"] = min(size.outcome, {"MRPC": 160, "RTE": 90}.get(name, size.outcome))
        heads.append(
            bp.ProbeSpec(
                name=f"{name} head", family="head", adapter=bp.Adapter(kind="head"), steps=size.head, batch_size=16,
                learning_rate=1e-2, n_depths=10, **shared,
            )
        )  # fmt: skip
        updates.append(
            bp.ProbeSpec(
                name=f"{name} LoRA", family="lora", adapter=bp.Adapter(kind="lora", layers=2),
                steps=size.lora if name in SENTENCES else size.lora_long, batch_size=8, learning_rate=5e-3, n_depths=8,
                **shared,
            )
        )  # fmt: skip
    decoder = _decoder(data / "weights" / "stories260k", scratch)
    answers = [
        bp.ProbeSpec(
            name=name, family="full", data=texts, backbone=decoder, metric="loss", schedule="linear",
            train_size=min(size.train, 400), probe_size=size.probe // 2, outcome_size=size.outcome // 2,
            steps=size.full, batch_size=4, learning_rate=3e-3, n_depths=8,
        )
        for name, texts in _answered(data / "tasks").items()
    ]  # fmt: skip
    return [*heads, *answers, *updates]


def _classified(tasks, encoder):
    """Texts by name of the data set."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder)

    def short(path, *columns):
        table = pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE, encoding="utf-8-sig")
        tokens = tokenizer(*(table[column].tolist() for column in columns))["input_ids"]
        return table[[len(row) <= LONGEST for row in tokens]].reset_index(drop=True)

    def pairs(folder, label, *columns):
        train, dev = (short(tasks / "glue" / folder / f"{name}.tsv", *columns) for name in ("train", "dev"))
        return bp.TextData(train=train, evaluation=dev, text=columns[0], pair=columns[1], label=label)

    sst2, cola = tasks / "sst2_small", tasks / "glue" / "CoLA"
    return {
        "SST-2": bp.TextData(train=sst2 / "train.tsv", evaluation=sst2 / "dev.tsv", text=0, label=1),
        "CoLA": bp.TextData(train=cola / "train.tsv", evaluation=cola / "dev.tsv", text=3, label=1),
        "MRPC": pairs("MRPC", "Quality", "#1 String", "#2 String"),
        "RTE": pairs("RTE", "label", "sentence1", "sentence2"),
        "AG News noisy": _news(tasks / "noisyag_news", "label"),
        "AG News clean": _news(tasks / "noisyag_news", "gt"),
    }


def _news(folder, label):
    """Labels of the crowd, or true ones, in the training and probe sets; the outcome set has true ones."""
    table = pd.read_csv(folder / "samples10000valMed.csv").sample(frac=1.0, random_state=0).reset_index(drop=True)
    cut = 4 * len(table) // 5
    return bp.TextData(
        train=table[:cut], evaluation=table[cut:].reset_index(drop=True), outcome=folder / "samplesTest.csv",
        text="text", label=label, longest=LONGEST,
    )  # fmt: skip


def _answered(tasks):
    answer = functools.partial(bp.TextData, kind="answer", longest=LONGEST_ANSWER)
    mbpp = pd.read_json(tasks / "mbpp" / "mbpp.jsonl", lines=True)
    # The split of its authors: problems 11 to 510 are for tests.
    tests = mbpp["task_id"].between(11, 510)
    gsm8k = tasks / "gsm8k"
    return {
        "GSM8K": answer(
            train=gsm8k / "train.jsonl", evaluation=gsm8k / "test.jsonl", text="question", label="answer"
        ),
        "MBPP": answer(
            train=mbpp[mbpp["task_id"] > 510].reset_index(drop=True), evaluation=mbpp[tests].reset_index(drop=True),
            text="text", label="code",
        ),
    }  # fmt: skip


def _decoder(source, scratch):
    """Folder of the Llama, converted."""
    folder = scratch / "stories260k"
    if not (folder / "tokenizer_config.json").is_file():
        files = [source / "stories260K.bin", source / "tok512.bin", folder]
        subprocess.run([sys.executable, ROOT / "tools" / "convert-llama2c", *files], check=True)
    return str(folder)
