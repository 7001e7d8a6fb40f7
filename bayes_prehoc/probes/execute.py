"""`probe`: run tasks under many seeds, show how far it is, and keep what is finished.

Seeds run in groups of a width that suits the network: perceptrons gain from a wide `vmap`, decoders on a CPU lose
by it. The width is fixed per kind of network and device, and groups are filled up, so a seed is computed by the same
program whoever its companions are. Groups are handed to the devices from threads, as many per CPU device as there are
cores.
"""

import dataclasses
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import jax
import numpy as np

from bayes_prehoc._machine import cores
from bayes_prehoc.errors import InputError
from bayes_prehoc.probes import engine
from bayes_prehoc.probes.backbones import Backbone, MLPConfig, load_backbone
from bayes_prehoc.probes.progress import Work, expected_work, progress_bar
from bayes_prehoc.probes.spec import ProbeSpec
from bayes_prehoc.probes.suite import suite_task
from bayes_prehoc.probes.suite.data import SOURCES, TaskArrays, load_data
from bayes_prehoc.runs import RunStore, TaskRuns, Trajectories

__all__ = ["probe"]

_CPU_WIDTHS = {"mlp": 16, "decoder": 1}
_ACCELERATOR_WIDTH = 64


def probe(
    spec_or_specs: ProbeSpec | str | Iterable[ProbeSpec | str],
    seeds: int | Sequence[int] = 64,
    *,
    store: str | os.PathLike | RunStore | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: bool = True,
) -> Trajectories:
    """Fine-tune each task once per seed and record the trajectories and outcomes.

    Parameters
    ----------
    spec_or_specs : ProbeSpec, or name of a suite task, or several
    seeds : int or sequence of int
        n means 0 to n - 1. A run is a function of its seed and its task, whatever else is run.
    store : path or RunStore, optional
        Each finished task is written there at once, and what is finished of a task when it is interrupted; runs
        that are there already, of the same specification and backbone, are read, not run again.
    devices : sequence of jax devices, optional
        Default: the local ones.
    progress : bool
        Show a bar on stderr. Its estimate counts arithmetic and compilations, not tasks.

    Returns
    -------
    Trajectories
        Per task, values "loss" and "train_loss" (nats) and the metric (on the probe set) at the spec's depths,
        the outcome on the disjoint outcome set, and its per-example results. A run whose loss is not finite is
        kept: all its values are +inf from that depth on, and its outcome is +inf.

    Raises
    ------
    InputError
        For no, duplicate or impossible seeds, an unknown task, a missing backbone or missing data.
    """
    specs, seeds = _check_specs(spec_or_specs), _check_seeds(seeds)
    if isinstance(store, str | os.PathLike):
        with RunStore(store) as opened:
            return probe(specs, seeds, store=opened, devices=devices, progress=progress)
    devices = list(devices) if devices is not None else jax.local_devices()
    if not devices:
        raise InputError("no devices", "devices", "Leave it out, or give some of jax.devices().")

    backbones = [load_backbone(spec.backbone) for spec in specs]
    hashes = [_runs_hash(spec, backbone) for spec, backbone in zip(specs, backbones, strict=True)]
    there = [set(store.seeds(s.name, h)) if store else set() for s, h in zip(specs, hashes, strict=True)]
    missing = [tuple(s for s in seeds if s not in have) for have in there]
    # Runs of which the store would read another specification's are made again.
    stored = [
        _stored(store, spec.name, spec_hash, seeds) if len(todo) < len(seeds) else None
        for spec, spec_hash, todo in zip(specs, hashes, missing, strict=True)
    ]
    needed = [todo if runs else seeds for runs, todo in zip(stored, missing, strict=True)]
    work = expected_work(specs, backbones, [len(n) for n in needed], _workers(devices))
    done = []
    with progress_bar(work, progress) as bar:
        for i, (spec, backbone) in enumerate(zip(specs, backbones, strict=True)):
            bar.set_description(spec.name)
            groups = {}
            try:
                _run_groups(spec, backbone, needed[i], devices, groups, work[i], bar.update)
            except KeyboardInterrupt:
                bar.close()
                _keep(store, spec, hashes[i], groups, missing[i])
                sys.stderr.write(_how_to_resume(store, len(done), len(specs)) + "\n")
                raise
            fresh = _keep(store, spec, hashes[i], groups, missing[i])
            done.append(_select(_join(*(part for part in (stored[i], fresh) if part is not None)), seeds))
    return Trajectories(tuple(done))


def _run_groups(
    spec: ProbeSpec,
    backbone: Backbone,
    seeds: tuple,
    devices: list,
    done: dict[tuple, engine.RunResult],
    work: Work,
    update: Callable[[float], object],
) -> None:
    """Run these seeds and put the results into `done`, group by group as they finish."""
    if not seeds:
        return
    data = load_data(spec)
    outputs = _check_fit(spec, backbone, data)
    program = engine.program_of(spec, backbone.config, outputs)
    hyper = engine.Hyper(np.float32(spec.learning_rate), np.float32(spec.weight_decay), np.float32(spec.steps))
    shared = (backbone.params, data, hyper, spec.depths.astype(np.int32))
    placed = [jax.device_put(shared, device) for device in devices]
    on_cpu = devices[0].platform == "cpu"
    width = _CPU_WIDTHS[backbone.config.kind] if on_cpu else _ACCELERATOR_WIDTH
    groups = [seeds[i : i + width] for i in range(0, len(seeds), width)]

    def run(index: int) -> engine.RunResult:
        place, group = index % len(devices), groups[index]
        filled = np.resize(np.array(group, np.uint32), width)
        result = engine.run_group(program, jax.device_put(filled, devices[place]), *placed[place])
        return jax.tree.map(lambda a: np.asarray(a)[: len(group)], result)

    pool = ThreadPoolExecutor(_workers(devices))
    try:
        # The first group of each device compiles for the others.
        for indices in (range(len(groups))[: len(devices)], range(len(groups))[len(devices) :]):
            futures = {pool.submit(run, index): groups[index] for index in indices}
            for future in as_completed(futures):
                group = futures[future]
                done[group] = future.result()
                update(work.run * len(group) + (work.compiling if len(done) == 1 else 0.0))
    finally:
        pool.shutdown(cancel_futures=True)


def _keep(
    store: RunStore | None, spec: ProbeSpec, spec_hash: str, groups: dict[tuple, engine.RunResult], missing: tuple
) -> TaskRuns | None:
    """The runs of these groups, after writing those that the store misses; None for none."""
    if not groups:
        return None
    seeds = tuple(seed for group in groups for seed in group)
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), *groups.values())
    runs = _as_task_runs(spec, spec_hash, seeds, joined)
    new = tuple(seed for seed in seeds if seed in set(missing))
    if store and new:
        store.write(Trajectories((_select(runs, new),)), spec_hashes={spec.name: spec_hash})
    return runs


def _as_task_runs(spec: ProbeSpec, spec_hash: str, seeds: tuple, result: engine.RunResult) -> TaskRuns:
    diverged = np.maximum.accumulate(~(np.isfinite(result.loss) & np.isfinite(result.train_loss)), axis=1)
    values = {spec.metric: result.score, "loss": result.loss, "train_loss": result.train_loss}
    right = result.right & ~diverged[:, -1:]
    attributes = dataclasses.asdict(spec) | {"spec_hash": spec_hash}
    del attributes["name"], attributes["description"]
    return TaskRuns(
        task=spec.name,
        seeds=tuple(seeds),
        depths=spec.depths.astype(np.float64),
        values={name: np.where(diverged, np.inf, value.astype(np.float64)) for name, value in values.items()},
        outcome_metric=spec.metric,
        horizon=float(spec.steps),
        outcome=np.where(diverged[:, -1], np.inf, right.mean(axis=1)),
        outcome_examples=right,
        depth_unit="step",
        higher_is_better=True,
        attributes=attributes,
    )


def _stored(store: RunStore, task: str, spec_hash: str, seeds: tuple) -> TaskRuns | None:
    """Those of the stored runs that are asked for; None where the store would give another specification's."""
    runs = store.read([task])[task]
    if runs.attributes.get("spec_hash") != spec_hash:
        return None
    return _select(runs, tuple(s for s in seeds if s in set(runs.seeds)))


def _select(runs: TaskRuns, seeds: tuple) -> TaskRuns:
    rows = [runs.seeds.index(seed) for seed in seeds]
    return dataclasses.replace(
        runs,
        seeds=tuple(seeds),
        values={name: value[rows] for name, value in runs.values.items()},
        outcome=runs.outcome[rows],
        outcome_examples=runs.outcome_examples[rows],
    )


def _join(first: TaskRuns, *others: TaskRuns) -> TaskRuns:
    every = (first, *others)
    return dataclasses.replace(
        first,
        seeds=tuple(seed for runs in every for seed in runs.seeds),
        values={name: np.concatenate([runs.values[name] for runs in every]) for name in first.values},
        outcome=np.concatenate([runs.outcome for runs in every]),
        outcome_examples=np.concatenate([runs.outcome_examples for runs in every]),
    )


def _check_specs(given) -> tuple[ProbeSpec, ...]:
    given = [given] if isinstance(given, ProbeSpec | str) else list(given)
    if not given:
        raise InputError("no tasks", "probe", "Give a ProbeSpec, the name of a suite task, or several.")
    specs = []
    for one in given:
        if not isinstance(one, ProbeSpec | str):
            raise InputError(f"{one!r} is no task", "probe", "Give a ProbeSpec, or the name of a suite task.")
        specs.append(suite_task(one) if isinstance(one, str) else one)
    names = [spec.name for spec in specs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"task {twice[0]!r} is given twice", "probe", "Give each task once, or rename one.")
    return tuple(specs)


def _check_seeds(seeds) -> tuple[int, ...]:
    if isinstance(seeds, int | np.integer) and not isinstance(seeds, bool):
        if seeds < 1:
            raise InputError(f"seeds is {seeds}", "seeds", "Ask for at least one, or name them in a list.")
        return tuple(range(int(seeds)))
    try:
        listed = list(seeds)
    except TypeError:
        listed = [None]
    if not listed:
        raise InputError("no seeds", "seeds", "Ask for at least one.")
    for seed in listed:
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise InputError(
                f"{seed!r} cannot be a seed", "seeds", "Give a count, or whole numbers from 0 to 2**32 - 1."
            )
    listed = [int(seed) for seed in listed]
    if len(set(listed)) != len(listed):
        twice = next(seed for seed in listed if listed.count(seed) > 1)
        raise InputError(f"seed {twice} is given twice", "seeds", "Give each seed once.")
    return tuple(listed)


def _check_fit(spec: ProbeSpec, backbone: Backbone, data: TaskArrays) -> int:
    """Outputs that the task needs, after checking that the network can read and answer it."""
    config, outputs = backbone.config, SOURCES[spec.data].outputs
    wanted = config.inputs if isinstance(config, MLPConfig) else config.context
    if data.train_x.shape[1] != wanted or (spec.head == "kept" and config.outputs != outputs):
        raise InputError(
            f"the data have {data.train_x.shape[1]} inputs and {outputs} outputs, "
            f"backbone {spec.backbone!r} {wanted} and {config.outputs}",
            f"task {spec.name!r}",
            "Use a backbone that was pretrained on such inputs, and a new head if the outputs differ.",
        )
    return outputs


def _runs_hash(spec: ProbeSpec, backbone: Backbone) -> str:
    """What identifies stored runs: the specification and the weights they start from."""
    return hashlib.sha256(f"{spec.hash}/{backbone.digest}".encode()).hexdigest()


def _workers(devices: list) -> int:
    """Groups that run at a time."""
    return sum(cores() if device.platform == "cpu" else 1 for device in devices)


def _how_to_resume(store: RunStore | None, finished: int, asked: int) -> str:
    if store is None:
        return "Interrupted: nothing is kept. Give store=PATH, and finished tasks are not run again."
    return f"Interrupted: {finished} of {asked} tasks are complete in {store.path}. The same call goes on from there."
