"""What the commands accept: their options, and how the text of an option becomes the argument of a function.

An option bears the name of the parameter it sets. What a function checks by itself (ranges, unknown names) is not
checked here.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from bayes_prehoc.errors import InputError

__all__ = [
    "METRIC_HELP",
    "RATE_HELP",
    "AdapterKind",
    "CCheap",
    "Column",
    "CostFixed",
    "CostPerUnit",
    "CostUnit",
    "Data",
    "DepthUnit",
    "Evaluation",
    "Gamma",
    "HigherIsBetter",
    "Horizon",
    "Json",
    "Kind",
    "Longest",
    "Model",
    "Outcome",
    "OutcomeData",
    "Posteriors",
    "Proxy",
    "RiskMetric",
    "RunsFile",
    "Seed",
    "Seeds",
    "Tolerance",
    "check_output",
    "check_together",
    "parse_column",
    "parse_cost",
    "parse_numbers",
    "parse_seeds",
]

Model = Annotated[
    str | None, typer.Option(metavar="FOLDER or NAME", help="Pretrained transformer: a folder, or a name on the hub.")
]
Data = Annotated[str | None, typer.Option(metavar="FILE", help="Table to train on: CSV, TSV, JSON lines or Parquet.")]
Evaluation = Annotated[
    str | None,
    typer.Option("--eval", metavar="FILE", help="Table to evaluate on, half as probe set, half as outcome set."),
]
OutcomeData = Annotated[
    str | None,
    typer.Option("--outcome-data", metavar="FILE", help="Outcome set of its own, instead of half of --eval."),
]
Column = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Column, by name, or by position from 0 in a file without a header."),
]
Kind = Annotated[
    str, typer.Option(metavar="NAME", help="What labels are: class, number, or answer (a text to be written).")
]
Longest = Annotated[
    int | None, typer.Option(metavar="N", help="Cut texts to N tokens. Default: texts that are too long are an error.")
]
AdapterKind = Annotated[str, typer.Option(metavar="NAME", help="What is trained: full, lora, or head.")]
RATE_HELP = "Default: 5e-5 for full, 1e-3 for lora, 1e-2 for head."
METRIC_HELP = "accuracy, f1, matthews, exact_match or loss. Default: accuracy of classes, else loss."
RunsFile = Annotated[str, typer.Argument(metavar="RUNS", help="Runs: a CSV, TSV, Parquet file or a run store (.db).")]
Outcome = Annotated[str | None, typer.Option(metavar="METRIC", help="The metric that a full run is judged by.")]
RiskMetric = Annotated[
    str | None,
    typer.Option("--metric", metavar="METRIC", help="The metric whose risk is estimated. Default: the outcome's."),
]
DepthUnit = Annotated[str, typer.Option(metavar="UNIT", help="Unit of the column 'step': step, epoch, sample, token.")]
Horizon = Annotated[
    float | None, typer.Option(metavar="DEPTH", help="Depth at which a full run ends. Default: the deepest seen.")
]
HigherIsBetter = Annotated[
    bool | None,
    typer.Option("--higher-is-better/--lower-is-better", help="Of the outcome. Default: by the metric's name."),
]
Seeds = Annotated[str, typer.Option(metavar="N or A:B", help="How many seeds (0 to N-1), or seeds A to B-1.")]
Seed = Annotated[int, typer.Option(help="Seed of the computation's own random numbers.")]
Proxy = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="What estimates the risk: conditional, branching, run_to_run, or auto (first possible)."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
Tolerance = Annotated[
    list[str] | None,
    typer.Option(
        metavar="X or TASK=X",
        help="Error of prediction you can live with (RMSE, in the metric's unit); TASK=X may be repeated. "
        "Default: 0.01 for accuracies, none for other metrics.",
    ),
]
Gamma = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="Price of one unit of squared error. Default: removing all of the risk is worth a full run."
    ),
]
CCheap = Annotated[
    list[str] | None,
    typer.Option(
        "--c-cheap", metavar="DEPTH or TASK=DEPTH", help="Depth that counts as cheap. Default: 5% of a full run."
    ),
]
CostPerUnit = Annotated[
    float | None, typer.Option(metavar="X", help="Cost of one unit of depth. Default: a full run costs 1.")
]
CostFixed = Annotated[float | None, typer.Option(metavar="X", help="Cost of a probe before its first step.")]
CostUnit = Annotated[str | None, typer.Option(metavar="NAME", help="Unit of the cost, such as 'GPU hour'.")]
Posteriors = Annotated[
    list[Path] | None,
    typer.Option(metavar="POSTERIOR", help="Posterior of another proxy to show beside; may be repeated."),
]


def parse_seeds(text: str) -> int | range:
    """Seeds from "64" (the first 64) or "64:128" (64 to 127)."""
    first, colon, last = text.partition(":")
    numbers = (first, last) if colon else ("0", first)
    if all(part.isascii() and part.isdecimal() for part in numbers):
        start, stop = map(int, numbers)
        if start < stop:
            return range(start, stop) if colon else stop
    raise InputError(
        f"{text!r} names no seeds", "--seeds", "Give a number such as 64, or a range such as 64:128 (64 to 127)."
    )


def parse_numbers(option: str, given: list[str] | None) -> float | dict[str, float] | None:
    """One number for all tasks, or {task: number} from TASK=X pairs; `plan` checks the range."""
    if not given:
        return None
    # The last "=" separates: a task's name may contain others.
    pairs = [item.rpartition("=") for item in given]
    tasks = [task for task, equals, _ in pairs if equals]
    if not tasks and len(given) == 1:
        return _number(given[0], option)
    if len(tasks) < len(given) or len(set(tasks)) < len(tasks):
        raise InputError(
            f"{' and '.join(given)} do not go together", option, "Give one number, or TASK=X once per task."
        )
    return {task: _number(value, f"{option} {task}") for task, _, value in pairs}


def parse_cost(per_unit: float | None, fixed: float | None, unit: str | None):
    """A `LinearCost`, or None where nothing was said about costs."""
    from bayes_prehoc.planning import LinearCost

    if per_unit is None:
        for option, value in (("--cost-fixed", fixed), ("--cost-unit", unit)):
            if value is not None:
                raise InputError(f"given as {value!r} without --cost-per-unit", option, "Give --cost-per-unit too.")
        return None
    stated = {"fixed": fixed, "unit": unit}
    return LinearCost(per_unit, **{name: value for name, value in stated.items() if value is not None})


def check_output(path: Path, *endings: str) -> None:
    """Complain about a file that cannot be written before the work is done, not after."""
    if endings and path.suffix.lower() not in endings:
        raise InputError(
            f"{str(path)!r} has an unknown ending", "--out", f"Name a file that ends in {' or '.join(endings)}."
        )
    if path.is_dir():
        raise InputError("is a folder", str(path), "Name a file in it.")
    if not path.parent.is_dir():
        raise InputError("its folder does not exist", str(path), f"Create {path.parent} first.")
    if not os.access(path.parent, os.W_OK):
        raise InputError("its folder cannot be written to", str(path), "Name a file in another folder.")


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{text!r} is no number", where, "Give a number such as 0.01, or TASK=0.01.") from None


def parse_column(text: str | None) -> str | int | None:
    """A column's position if it is a number, else its name."""
    return int(text) if text is not None and text.isdigit() else text


def check_together(given: dict[str, str | None], tasks: list[str] | None) -> None:
    """Refuse some of the options that describe a task without the others, or beside built-in tasks."""
    missing = [option for option, value in given.items() if value is None]
    if missing:
        there = ", ".join(option for option in given if option not in missing)
        raise InputError(f"{', '.join(missing)} missing", f"probe with {there}", "Give all five, or none of them.")
    if tasks:
        raise InputError(f"task {tasks[0]!r} and --model", "probe", "Give built-in tasks, or a model with data.")
