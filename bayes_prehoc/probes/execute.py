"""`probe`: run tasks under many seeds, show how far it is, and keep what is finished.

Seeds run in groups of a width that suits the network and the memory (`widths`). Groups are filled up, so that a seed is
computed by the same program whoever its companions are. They are handed to the devices from threads, as many per CPU
as there are cores, and dealt to the processes of `jax.distributed` (`processes`): a seed's values depend on neither.
"""

import dataclasses
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import jax
import numpy as np
from tqdm.auto import tqdm

from bayes_prehoc._machine import cores
from bayes_prehoc.errors import InputError
from bayes_prehoc.probes import engine
from bayes_prehoc.probes.adapters import Adapter
from bayes_prehoc.probes.prepare import Prepared, prepare
from bayes_prehoc.probes.processes import agreed, everyones, own_share
from bayes_prehoc.probes.progress import expected_work, progress_bar
from bayes_prehoc.probes.spec import ProbeSpec, name_of
from bayes_prehoc.probes.suite import suite_task
from bayes_prehoc.probes.texts import TextData
from bayes_prehoc.probes.widths import choose_width
from bayes_prehoc.runs import RunStore, TaskRuns, Trajectories
from bayes_prehoc.runs.trajectories import BY_RUN, DESCRIPTOR

__all__ = ["probe"]


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
        Each group of seeds is written there as it finishes, in one transaction, so that a process that is killed loses
        the groups in flight and no more; runs that are there already, of the same specification, weights and data, are
        read, not run again.
    devices : sequence of jax devices, optional
        Default: the local ones, over all of which groups of seeds are spread. Processes of `jax.distributed` that make
        the same call share the seeds, and all return all runs; give them one store.
    progress : bool
        Show a bar on stderr. Its estimate counts arithmetic and compilations, not tasks.

    Returns
    -------
    Trajectories
        Per task, values "loss" (nats, or squared error) and the metric on the probe set, "train_loss" and
        "learning_rate" at the spec's depths, the outcome on the disjoint outcome set, and what each of its examples
        contributed where the metric is a mean; the spec's fields and static descriptors (`probes.descriptors`) as
        attributes. A run whose loss is not finite is kept: all its values are +inf from that depth on, and its
        outcome is +inf.

    Raises
    ------
    InputError
        For no, duplicate or impossible seeds, an unknown task, a missing backbone or missing data, or processes whose
        stores differ.
    """
    specs, seeds = _check_specs(spec_or_specs), _check_seeds(seeds)
    devices = list(devices) if devices is not None else jax.local_devices()
    if not devices:
        raise InputError("no devices", "devices", "Leave it out, or give some of jax.devices().")
    tasks = [prepare(spec) for spec in specs]
    # A mistake leaves no file behind.
    if isinstance(store, str | os.PathLike):
        with RunStore(store) as opened:
            return _probe(tasks, seeds, opened, devices, progress)
    return _probe(tasks, seeds, store, devices, progress)


def _probe(
    tasks: Sequence[Prepared], seeds: tuple[int, ...], store: RunStore | None, devices: list, progress: bool
) -> Trajectories:
    specs = [task.spec for task in tasks]
    hashes = [task.digest for task in tasks]
    there = [set(store.seeds(s.name, h)) if store else set() for s, h in zip(specs, hashes, strict=True)]
    missing = [tuple(s for s in seeds if s not in have) for have in there]
    # Runs of which the store would read another specification's are made again.
    stored = [
        _stored(store, spec.name, spec_hash, seeds) if len(todo) < len(seeds) else None
        for spec, spec_hash, todo in zip(specs, hashes, missing, strict=True)
    ]
    needed = [todo if runs else seeds for runs, todo in zip(stored, missing, strict=True)]
    # None writes before all have read. All see a difference and stop; one alone would leave the others waiting.
    if any(other != needed for other in everyones(needed)):
        raise InputError("the processes' stores hold different runs", "store", "Give all processes one store.")
    work = expected_work(tasks, [len(n) for n in needed], _workers(devices) * jax.process_count())
    done = []
    with progress_bar(work, progress) as bar:
        for i, task in enumerate(tasks):
            bar.set_description(task.spec.name)
            known = {} if stored[i] is None else stored[i].attributes
            compiling, own = work[i].compiling, []
            try:
                for group, result, found in _groups(task, needed[i], devices, known, progress):
                    own.append(_as_task_runs(task, group, result, found))
                    _keep(store, task, own[-1], missing[i])
                    bar.update(min(work[i].run * len(group) * jax.process_count() + compiling, bar.total - bar.n))
                    compiling = 0.0
            except KeyboardInterrupt:
                bar.close()
                sys.stderr.write(_how_to_resume(store, len(done), len(specs)) + "\n")
                raise
            made = [runs for each in everyones(own) for runs in each]
            done.append(_select(_join(*([stored[i]] if stored[i] else []), *made), seeds))
    return Trajectories(tuple(done))


def _groups(
    task: Prepared, seeds: tuple, devices: list, known: Mapping, show: bool
) -> Iterator[tuple[tuple, engine.RunResult, dict]]:
    """Groups of these seeds with their results, as they finish, and what was found out about the task.

    What depends on the machine in its last digits, and is already known, stays as it is.
    """
    if not seeds:
        return
    # Seeds that are computed together change each other's last digits.
    chosen = choose_width(task, devices[0], _workers(devices[:1]))
    width = int(known.get("width", agreed(np.array(chosen))))
    if show:
        together = "1 seed" if width == 1 else f"{width} seeds"
        tqdm.write(f"{task.spec.name}: {together} at a time, {_workers(devices)} times over", file=sys.stderr)
    described = {name: value for name, value in known.items() if name.startswith(DESCRIPTOR)}
    placed = [task.place(device, width, show) for device in devices]
    groups = own_share([seeds[i : i + width] for i in range(0, len(seeds), width)])

    def run(index: int) -> engine.RunResult:
        place, group = index % len(devices), groups[index]
        filled = np.resize(np.array(group, np.uint32), width)
        program, arguments = placed[place]
        result = engine.run_group(program, jax.device_put(filled, devices[place]), *arguments)
        return jax.tree.map(lambda a: np.asarray(a)[: len(group)], result)

    def describe() -> dict:
        return {"width": width} | (described or {DESCRIPTOR + k: v for k, v in task.describe(*placed[0]).items()})

    pool = ThreadPoolExecutor(_workers(devices))
    try:
        # While the first group compiles there is room for it.
        found = pool.submit(describe)
        # The first group of each device compiles for the others.
        for indices in (range(len(groups))[: len(devices)], range(len(groups))[len(devices) :]):
            futures = {pool.submit(run, index): groups[index] for index in indices}
            for future in as_completed(futures):
                yield futures[future], future.result(), found.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _keep(store: RunStore | None, task: Prepared, runs: TaskRuns, missing: tuple) -> None:
    """Write the runs that the store misses, in one transaction."""
    new = tuple(seed for seed in runs.seeds if seed in set(missing))
    if store and new:
        store.write(Trajectories((_select(runs, new),)), spec_hashes={runs.task: task.digest})


def _as_task_runs(task: Prepared, seeds: tuple, result: engine.RunResult, found: dict) -> TaskRuns:
    spec = task.spec
    diverged = np.maximum.accumulate(~(np.isfinite(result.loss) & np.isfinite(result.train_loss)), axis=1)
    ended = diverged[:, -1]
    examples = depth_examples = None
    if result.examples.shape[1]:
        # Of a run that diverged nothing is right, and no loss is finite.
        nothing = False if result.examples.dtype == bool else np.inf
        examples = np.where(ended[:, None], nothing, result.examples)
        if spec.keep_examples:
            depth_examples = np.where(diverged[:, :, None], nothing, result.depth_examples)
    # The mean of the examples, in double precision, where the outcome is one.
    outcome = result.outcome.astype(np.float64) if examples is None else examples.mean(axis=1, dtype=np.float64)
    rate = np.broadcast_to(engine.learning_rates(spec), result.loss.shape)
    values = {
        spec.metric_name: result.score,
        "loss": result.loss,
        "train_loss": result.train_loss,
        "learning_rate": rate,
    }
    forked = result.forked.astype(np.float64) if spec.branches else None
    return TaskRuns(
        task=spec.name,
        seeds=tuple(seeds),
        depths=spec.depths.astype(np.float64),
        values={name: np.where(diverged, np.inf, value.astype(np.float64)) for name, value in values.items()},
        outcome_metric=spec.metric_name,
        horizon=float(spec.steps),
        outcome=np.where(ended, np.inf, outcome),
        outcome_examples=examples,
        depth_examples=depth_examples,
        fork_depths=np.array(spec.fork_depths, np.float64) if spec.branches else None,
        forked=None if forked is None else np.where(np.isfinite(forked), forked, np.inf),
        depth_unit="step",
        higher_is_better=spec.metric != "loss" if spec.higher_is_better is None else spec.higher_is_better,
        attributes=_attributes(spec) | {"spec_hash": task.digest} | found,
        notes=task.notes,
    )


def _attributes(spec: ProbeSpec) -> dict:
    """The fields of a specification, as scalars; those of its data and its adapter with their name before."""
    found = {}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if isinstance(value, TextData):
            found |= {f"data.{name}": part for name, part in value.described.items()}
        elif isinstance(value, Adapter):
            parts = dataclasses.asdict(value) | {"modules": " ".join(value.modules)}
            found |= {f"adapter.{name}": part for name, part in parts.items()}
        elif field.name == "fork_depths":
            found[field.name] = " ".join(map(str, value)) or None
        elif callable(value):
            found[field.name] = name_of(value, field.name)
        elif field.name not in ("name", "description"):
            found[field.name] = value
    return {name: value for name, value in found.items() if value is not None}


def _stored(store: RunStore, task: str, spec_hash: str, seeds: tuple) -> TaskRuns | None:
    """Those of the stored runs that are asked for; None where the store would give another specification's."""
    runs = store.read([task])[task]
    if runs.attributes.get("spec_hash") != spec_hash:
        return None
    return _select(runs, tuple(s for s in seeds if s in set(runs.seeds)))


def _select(runs: TaskRuns, seeds: tuple) -> TaskRuns:
    return runs.taken([runs.seeds.index(seed) for seed in seeds])


def _join(*every: TaskRuns) -> TaskRuns:
    def joined(name):
        parts = [getattr(runs, name) for runs in every]
        return None if parts[0] is None else np.concatenate(parts)

    first = every[0]
    return dataclasses.replace(
        first,
        seeds=tuple(seed for runs in every for seed in runs.seeds),
        values={name: np.concatenate([runs.values[name] for runs in every]) for name in first.values},
        **{name: joined(name) for name in BY_RUN},
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


def _workers(devices: list) -> int:
    """Groups that run at a time."""
    return sum(cores() if device.platform == "cpu" else 1 for device in devices)


def _how_to_resume(store: RunStore | None, finished: int, asked: int) -> str:
    if store is None:
        return "Interrupted: nothing is kept. Give store=PATH, and finished tasks are not run again."
    return f"Interrupted: {finished} of {asked} tasks are complete in {store.path}. The same call goes on from there."
