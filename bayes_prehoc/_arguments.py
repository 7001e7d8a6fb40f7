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
    "Budget",
    "CCheap",
    "Column",
    "CostCurrency",
    "CostDoubling",
    "CostFixed",
    "CostPerUnit",
    "CostPower",
    "CostPrice",
    "CostTable",
    "CostUnit",
    "Data",
    "DepthUnit",
    "Evaluation",
    "FalseStart",
    "Gamma",
    "Groups",
    "HigherIsBetter",
    "Horizon",
    "Json",
    "Kind",
    "Longest",
    "MaxDepth",
    "MinDepth",
    "Missed",
    "Model",
    "Outcome",
    "OutcomeData",
    "Posteriors",
    "PriorCards",
    "Proxy",
    "RiskMetric",
    "RunsFile",
    "Seed",
    "Seeds",
    "Step",
    "Threshold",
    "Tolerance",
    "Weights",
    "check_output",
    "check_together",
    "parse_column",
    "parse_cost",
    "parse_groups",
    "parse_loss",
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
PriorCards = Annotated[
    list[str] | None,
    typer.Option(
        "--prior",
        metavar="CARD",
        help="Prior card, by its folder or name; several are combined. Default: the weak prior alone.",
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
CostPrice = Annotated[
    float | None, typer.Option(metavar="X", help="Price of one unit of the cost, to count costs in money.")
]
CostCurrency = Annotated[str | None, typer.Option(metavar="NAME", help="Currency of --cost-price, such as EUR.")]
CostDoubling = Annotated[
    float | None,
    typer.Option(metavar="DEPTH", help="Cost grows faster with depth, to twice --cost-per-unit for a run of DEPTH."),
]
CostPower = Annotated[float | None, typer.Option(metavar="P", help="Power with which it then grows. Default: 2.")]
CostTable = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Measured costs: CSV with the columns depth and cost, and task where they differ."
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="Outcome that a full run should reach; with --false-start and --missed instead of --gamma."
    ),
]
FalseStart = Annotated[
    float | None, typer.Option(metavar="X", help="What it costs to start a full run that misses --threshold.")
]
Missed = Annotated[
    float | None, typer.Option(metavar="X", help="What it costs to forgo one that would have reached it.")
]
Budget = Annotated[float, typer.Option(metavar="X", help="What all probes may cost together.")]
Weights = Annotated[
    list[str] | None,
    typer.Option("--weight", metavar="TASK=X", help="Price of one unit of squared error; may be repeated. Default: 1."),
]
MinDepth = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DEPTH or TASK=DEPTH", help="Least depth of a probe. Default: the shallowest that was fitted."
    ),
]
MaxDepth = Annotated[
    list[str] | None, typer.Option(metavar="DEPTH or TASK=DEPTH", help="Greatest depth. Default: the horizon.")
]
Step = Annotated[
    list[str] | None,
    typer.Option(metavar="DEPTH or TASK=DEPTH", help="Depths are whole multiples of it. Default: any depth."),
]
Groups = Annotated[
    list[str] | None,
    typer.Option("--group", metavar="TASK,TASK,...", help="Tasks that are probed all or not at all; may be repeated."),
]
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


def parse_cost(
    per_unit: float | None,
    fixed: float | None,
    unit: str | None,
    price: float | None = None,
    currency: str | None = None,
    doubling: float | None = None,
    power: float | None = None,
    table: Path | None = None,
):
    """A cost or, from a table that names tasks, one for each; None where nothing was said about costs."""
    from bayes_prehoc.planning import ConvexCost, LinearCost

    counted = _stated(unit=unit, price=price, currency=currency)
    linear, convex = _stated(per_unit=per_unit, fixed=fixed), _stated(doubling=doubling, power=power)
    if table is not None:
        for name, value in (linear | convex).items():
            raise InputError(f"given as {value!r} beside --cost-table", _option("cost", name), "Give one or the other.")
        return _read_costs(table, counted)
    if per_unit is None:
        for name, value in (linear | counted | convex).items():
            raise InputError(
                f"given as {value!r} without --cost-per-unit", _option("cost", name), "Give --cost-per-unit too."
            )
        return None
    if power is not None and doubling is None:
        raise InputError(f"given as {power!r} without --cost-doubling", "--cost-power", "Give --cost-doubling too.")
    return (ConvexCost if convex else LinearCost)(**linear, **convex, **counted)


def parse_loss(gamma: float | None, threshold: float | None, false_start: float | None, missed: float | None):
    """A price of error, the loss that it follows from, or None where nothing was said about either."""
    from bayes_prehoc.planning import ThresholdLoss

    stated = _stated(threshold=threshold, false_start=false_start, missed=missed)
    if not stated:
        return gamma
    if gamma is not None:
        raise InputError(f"given as {gamma!r} beside --threshold", "--gamma", "Give one or the other.")
    for name in ("threshold", "false_start", "missed"):
        if name not in stated:
            raise InputError("not given", _option("", name), "Give --threshold, --false-start and --missed together.")
    return ThresholdLoss(**stated)


def parse_groups(given: list[str] | None) -> dict[str, list[str]] | None:
    """Groups by their text, as lists of tasks."""
    return {text: [task.strip() for task in text.split(",")] for text in given} if given else None


def _stated(**options):
    return {name: value for name, value in options.items() if value is not None}


def _option(prefix, name):
    return "--" + "-".join([*filter(None, [prefix]), *name.split("_")])


def _read_costs(path, counted):
    import pandas as pd

    from bayes_prehoc.planning import TableCost

    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot be read ({reason})", str(path), "Give a CSV file with the columns depth, cost."
        ) from None
    missing = [name for name in ("depth", "cost") if name not in frame]
    if missing:
        raise InputError(f"no column {missing[0]!r}", str(path), "Give a CSV file with the columns depth, cost.")
    try:
        if "task" not in frame:
            return TableCost(frame["depth"], frame["cost"], **counted)
        # Names of tasks are text, also where they look like numbers.
        by_task = frame.groupby(frame["task"].astype(str), sort=False)
        return {task: TableCost(own["depth"], own["cost"], **counted) for task, own in by_task}
    except InputError as error:
        raise InputError(error.what, str(path), error.remedy) from None


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
