"""The command line: every command is a thin layer over the function of the same name.

Standard output is data, standard error is progress; with `--json` standard output is one JSON document. The exit codes
are in `bayes_prehoc._console`.
"""

import dataclasses
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

import bayes_prehoc as bp
from bayes_prehoc._arguments import (
    METRIC_HELP,
    RATE_HELP,
    AdapterKind,
    Column,
    Data,
    DepthUnit,
    Evaluation,
    HigherIsBetter,
    Horizon,
    Json,
    Kind,
    Longest,
    Model,
    Outcome,
    OutcomeData,
    PriorCards,
    Proxy,
    RiskMetric,
    RunsFile,
    Seed,
    Seeds,
    check_output,
    check_together,
    parse_column,
    parse_seeds,
)
from bayes_prehoc._console import (
    ANSWERED,
    INTERRUPTED,
    WITHHELD,
    as_document,
    as_records,
    exit_code,
    patiently,
    print_out,
    say,
)
from bayes_prehoc._planning_commands import allocate, exit_for, plan, report, say_what_failed
from bayes_prehoc._prior_commands import prior
from bayes_prehoc._programs import keep_programs
from bayes_prehoc._terminal import comparison_text, fit_text, listing, plan_text, set_aside_lines
from bayes_prehoc.errors import InputError

__all__ = ["main"]

DEMO_TOLERANCE = 0.01
DEFAULT_RATES = {"full": 5e-5, "lora": 1e-3, "head": 1e-2}
DEFAULT_METRICS = {"class": "accuracy", "number": "loss", "answer": "loss"}

app = typer.Typer(
    name="bayes-prehoc",
    add_completion=False,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.add_typer(prior, name="prior")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
):
    """How uncertain is the outcome of a fine-tuning run, and how much of that would a short probe remove?

    \b
    See it work on the built-in tasks (a few minutes):
      bayes-prehoc demo --out out
    \b
    With runs of your own (columns task, seed, step, metric, value):
      bayes-prehoc fit runs.csv --out post.nc
      bayes-prehoc plan post.nc --tolerance 0.01
      bayes-prehoc report post.nc --out report.html
    \b
    Exit codes: 0 answered, 1 the answer is withheld, 2 a mistake in what was asked.
    Each command explains itself: bayes-prehoc COMMAND --help.
    """
    if version:
        print_out(f"bayes-prehoc {bp.__version__}")
        raise typer.Exit(ANSWERED)


@app.command()
def probe(
    tasks: Annotated[list[str] | None, typer.Argument(metavar="TASK", help="Default: the whole suite.")] = None,
    seeds: Seeds = "64",
    store: Annotated[Path, typer.Option(metavar="FILE", help="Run store to add the runs to.")] = Path("runs.db"),
    list_: Annotated[bool, typer.Option("--list", help="List the built-in tasks and exit.")] = False,
    model: Model = None,
    data: Data = None,
    evaluation: Evaluation = None,
    text: Column = None,
    label: Column = None,
    pair: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of a second text.")] = None,
    kind: Kind = "class",
    outcome_data: OutcomeData = None,
    longest: Longest = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the task. Default: made of model and data.")
    ] = None,
    adapter: AdapterKind = "full",
    layers: Annotated[int | None, typer.Option(metavar="N", help="Train the last N layers only.")] = None,
    rank: Annotated[int, typer.Option(metavar="N", help="Rank of LoRA's updates.")] = 8,
    alpha: Annotated[float, typer.Option(metavar="X", help="LoRA's updates are scaled by alpha / rank.")] = 16.0,
    modules: Annotated[str, typer.Option(metavar="A,B,...", help="Linear maps that LoRA updates.")] = "query,value",
    steps: Annotated[int, typer.Option(metavar="N", help="Optimizer steps of a full run.")] = 300,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Examples of a step.")] = 16,
    learning_rate: Annotated[float | None, typer.Option(metavar="X", help=RATE_HELP)] = None,
    schedule: Annotated[str, typer.Option(metavar="NAME", help="constant, cosine or linear.")] = "linear",
    metric: Annotated[str | None, typer.Option(metavar="NAME", help=METRIC_HELP)] = None,
    train_size: Annotated[int | None, typer.Option(metavar="N", help="Examples of training. Default: all.")] = None,
    probe_size: Annotated[
        int | None, typer.Option(metavar="N", help="Examples that trajectories are measured on. Default: all.")
    ] = None,
    outcome_size: Annotated[
        int | None, typer.Option(metavar="N", help="Examples that outcomes are measured on. Default: all.")
    ] = None,
    branches: Annotated[
        int, typer.Option(metavar="N", help="Continuations of each run from each depth, for the proxy branching.")
    ] = 0,
    as_json: Json = False,
):
    """Run tasks under many seeds and store the runs: built-in ones, or a pretrained model on your data.

    Built-in tasks fine-tune small pretrained networks; `--list` says which there are. With `--model`, `--data`,
    `--eval`, `--text` and `--label` a pretrained transformer is fine-tuned on your texts. Runs that the store already
    has are not repeated, so an interrupted call can be repeated as it is.

    \b
    Examples:
      bayes-prehoc probe --list
      bayes-prehoc probe --seeds 64 --store runs.db
      bayes-prehoc probe TASK --seeds 64:128 --store runs.db
      bayes-prehoc probe --model FOLDER --data train.tsv --eval dev.tsv --text sentence --label label \\
        --adapter lora --layers 2 --steps 300 --seeds 64 --store runs.db
    """
    if list_:
        fields = ("metric", "steps", "backbone", "hash", "description")
        rows = [{"task": spec.name} | {field: getattr(spec, field) for field in fields} for spec in bp.suite()]
        lines = (f"{row['task']} ({row['metric']}, {row['steps']} steps)\n  {row['description']}" for row in rows)
        print_out(as_document({"tasks": rows}) if as_json else "\n".join(lines))
        return
    given = {"--model": model, "--data": data, "--eval": evaluation, "--text": text, "--label": label}
    if not any(value is not None for value in given.values()):
        by_name = {spec.name: dataclasses.replace(spec, branches=branches) for spec in bp.suite()}
        # `probe` complains of names that it does not know.
        chosen = [by_name.get(name, name) for name in tasks or by_name]
        _show_runs(_probe(chosen, parse_seeds(seeds), store), store, as_json)
        return
    check_together(given, tasks)
    texts = bp.TextData(
        train=data,
        evaluation=evaluation,
        text=parse_column(text),
        label=parse_column(label),
        pair=parse_column(pair),
        kind=kind,
        outcome=outcome_data,
        longest=longest,
    )
    trained = bp.Adapter(
        kind=adapter, layers=layers, rank=rank, alpha=alpha, modules=tuple(part.strip() for part in modules.split(","))
    )
    spec = bp.ProbeSpec(
        name=name or f"{Path(model).name}:{Path(data).parent.name}/{Path(data).name.partition('.')[0]}:{adapter}",
        data=texts,
        backbone=model,
        adapter=trained,
        steps=steps,
        batch_size=batch_size,
        learning_rate=DEFAULT_RATES.get(adapter, 1e-3) if learning_rate is None else learning_rate,
        schedule=schedule,
        metric=metric or DEFAULT_METRICS.get(kind, "loss"),
        train_size=train_size,
        probe_size=probe_size,
        outcome_size=outcome_size,
        branches=branches,
    )
    _show_runs(_probe([spec], parse_seeds(seeds), store), store, as_json)


@app.command()
def ingest(
    runs_file: RunsFile,
    store: Annotated[Path, typer.Option(metavar="FILE", help="Run store to add the runs to.")],
    outcome: Outcome = None,
    attributes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Table of what is known about each task, with a column 'task'.")
    ] = None,
    depth_unit: DepthUnit = "step",
    horizon: Horizon = None,
    higher_is_better: HigherIsBetter = None,
    as_json: Json = False,
):
    """Read recorded runs into a run store.

    RUNS is a table with the columns task, seed, step, metric, value, one row per evaluation; other columns are kept as
    attributes of the task. What cannot be used is listed with the reason.

    \b
    Examples:
      bayes-prehoc ingest runs.csv --store runs.db --depth-unit epoch
      bayes-prehoc ingest runs.csv --store runs.db --attributes configs.csv
    """
    from bayes_prehoc.runs import with_attributes

    check_output(store)
    runs = bp.read_runs(
        runs_file, outcome=outcome, depth_unit=depth_unit, horizon=horizon, higher_is_better=higher_is_better
    )
    if attributes is not None:
        runs = with_attributes(runs, attributes)
    with bp.RunStore(store) as opened:
        opened.write(runs)
    _show_runs(runs, store, as_json)


@app.command()
def estimate(
    runs_file: RunsFile,
    out: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="proxies.html or proxies.json, by its ending; may be repeated."),
    ] = None,
    outcome: Outcome = None,
    metric: RiskMetric = None,
    permutations: Annotated[
        int, typer.Option(metavar="N", help="Of the test whether watching tells anything; 19 or more.")
    ] = 199,
    depth_unit: DepthUnit = "step",
    horizon: Horizon = None,
    higher_is_better: HigherIsBetter = None,
    seed: Seed = 0,
    as_json: Json = False,
):
    """Estimate the risk at each depth by every proxy that the runs allow, and say where they agree.

    Nothing is fitted: these are the estimates that 'fit' takes its own from, and beside them what watching a run tells
    of its outcome, with a permutation test.

    \b
    Examples:
      bayes-prehoc estimate runs.db
      bayes-prehoc estimate runs.csv --outcome accuracy --out proxies.html
    """
    from bayes_prehoc.risk import compare_proxies

    for file in out or ():
        check_output(file, ".html", ".json")
    runs = bp.read_runs(
        runs_file, outcome=outcome, depth_unit=depth_unit, horizon=horizon, higher_is_better=higher_is_better
    )
    options = {"metric": metric, "permutations": permutations, "seed": seed}
    found = patiently("still estimating", lambda: compare_proxies(runs, **options))
    for file in out or ():
        bp.write_report(found, file)
        say(f"written: {file}")
    print_out(as_document(found.to_dict()) if as_json else comparison_text(found))


@app.command()
def fit(
    runs_file: RunsFile,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to save the posterior, such as post.nc.")],
    outcome: Outcome = None,
    metric: RiskMetric = None,
    proxy: Proxy = "auto",
    prior: PriorCards = None,
    depth_unit: DepthUnit = "step",
    horizon: Horizon = None,
    higher_is_better: HigherIsBetter = None,
    seed: Seed = 0,
    as_json: Json = False,
):
    """Estimate the risk at each depth and fit the hierarchical model to it.

    RUNS is a table with the columns task, seed, step, metric, value (others are kept as attributes), or a run store.
    Exit code 1: the fit failed its convergence gate; the posterior is saved for inspection, but a plan made from it
    withholds its answers.

    With --prior the posterior is mixed of one under the card and one under the weak prior, by how well each foretold
    the runs; where the card did so worse than it does for runs of its own kind, a warning says so.

    \b
    Examples:
      bayes-prehoc fit runs.csv --out post.nc
      bayes-prehoc fit runs.csv --out post.nc --outcome accuracy --depth-unit epoch --horizon 20
      bayes-prehoc fit runs.csv --out post.nc --prior cards/bert
    """
    check_output(out)
    cards = [bp.load_card(name) for name in prior or ()]
    runs = bp.read_runs(
        runs_file, outcome=outcome, depth_unit=depth_unit, horizon=horizon, higher_is_better=higher_is_better
    )
    (posterior,) = _fit(bp.estimate_risk(runs, proxy=proxy, metric=metric, seed=seed), seed=seed, prior=cards or None)
    _show_posterior(posterior, out, as_json)


@app.command()
def update(
    posterior_file: Annotated[Path, typer.Argument(metavar="POSTERIOR", help="A posterior saved by 'fit'.")],
    runs_file: RunsFile,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to save the updated posterior, such as new.nc.")],
    outcome: Outcome = None,
    metric: RiskMetric = None,
    depth_unit: DepthUnit = "step",
    horizon: Horizon = None,
    higher_is_better: HigherIsBetter = None,
    seed: Seed = 0,
    as_json: Json = False,
):
    """Say of new tasks, or of more runs of tasks that were fitted, what a posterior knows, without another fit.

    RUNS is what 'fit' takes. Each task is weighed by itself: what several new tasks say together of the others needs a
    fit. The updated posterior holds the tasks of RUNS alone; a plan and a report are made from it as from any other.

    \b
    Examples:
      bayes-prehoc update post.nc more.csv --out new.nc
      bayes-prehoc plan new.nc --tolerance 0.01
    """
    check_output(out)
    before = bp.load_posterior(posterior_file)
    runs = bp.read_runs(
        runs_file, outcome=outcome, depth_unit=depth_unit, horizon=horizon, higher_is_better=higher_is_better
    )
    estimates = bp.estimate_risk(runs, proxy=before.proxy, metric=metric, seed=seed)
    _show_posterior(patiently("still updating", lambda: before.update(estimates, seed=seed)), out, as_json)


# Between the others, in the order of the work.
for _command in (plan, allocate, report):
    app.command()(_command)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the results.")] = Path("out"),
    seeds: Seeds = "64",
    as_json: Json = False,
):
    """Do the whole job on the built-in tasks: probe, fit, plan, report.

    Writes runs.db, report.html and report.json into the folder, and prints the table of tasks. Runs that are already in
    the folder's store are not repeated.

    \b
    Examples:
      bayes-prehoc demo --out out
      bayes-prehoc demo --out out2 --seeds 64:128
    """
    wanted = parse_seeds(seeds)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be created ({error.strerror})", str(out), "Name another folder.") from None
    say(f"tolerance: an error of {DEMO_TOLERANCE:g} (RMSE), the same for every task, fixed beforehand")
    runs = _probe(bp.suite(), wanted, out / "runs.db")
    estimates = [bp.estimate_risk(runs)]
    if estimates[0].proxy != "run_to_run":
        estimates.append(bp.estimate_risk(runs, proxy="run_to_run"))
    posterior, *spread = _fit(*estimates)
    made = bp.plan(posterior, tolerance=DEMO_TOLERANCE)
    for file in (out / "report.html", out / "report.json"):
        bp.write_report(made, file, compare=spread)
        say(f"written: {file}")
    print_out(as_document(made.to_dict()) if as_json else plan_text(made))
    exit_for(made)


def main(arguments: Iterable[str] | None = None) -> None:
    """Run the command line and exit with its code.

    Parameters
    ----------
    arguments : iterable of str, optional
        Default: those of the process.

    Raises
    ------
    SystemExit
        Always; the codes are in `bayes_prehoc._console`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    keep_programs()
    sys.exit(exit_code(lambda: app(given, prog_name="bayes-prehoc", standalone_mode=False)))


def _probe(tasks, seeds, store):
    check_output(store)
    start = time.monotonic()
    try:
        runs = bp.probe(tasks, seeds, store=store)
    except KeyboardInterrupt:
        # `probe` has said how to go on.
        sys.exit(INTERRUPTED)
    say(f"{sum(t.n_runs for t in runs)} runs of {len(runs)} tasks in {store}: {time.monotonic() - start:.0f} s")
    return runs


def _fit(*several, seed=0, prior=None):
    """Posteriors of one set of estimates or of several at a time: while one is compiled another can be sampled."""

    def one(estimates):
        what = f"{len(estimates)} tasks, proxy {estimates.proxy}"
        say(f"fitting {what} ({len(estimates.set_aside)} set aside); this takes up to a few minutes")
        start = time.monotonic()
        posterior = bp.fit(estimates, prior=prior, seed=seed)
        state = "passed the gate" if posterior.converged else "FAILED the gate"
        say(f"fitted {what}, {state}: {time.monotonic() - start:.0f} s")
        return posterior

    with ThreadPoolExecutor(len(several)) as pool:
        return patiently("still fitting", lambda: list(pool.map(one, several)))


def _show_posterior(posterior, out, as_json):
    """Save it and print its tasks; exit code 1 if it did not converge."""
    posterior.save(out)
    say(f"posterior saved: {out}")
    if as_json:
        set_aside = [{"task": s.task, "reason": s.reason} for s in posterior.estimates.set_aside]
        document = {"posterior": str(out), "proxy": posterior.proxy, "converged": posterior.converged}
        document |= {"prior": posterior.prior, "card": None if posterior.card is None else posterior.card.to_dict()}
        document |= {"tasks": as_records(posterior.summary().reset_index()), "set_aside": set_aside}
        print_out(as_document(document | {"checks": as_records(posterior.checks().reset_index())}))
    else:
        print_out(fit_text(posterior))
    if posterior.converged and posterior.card is not None and not posterior.card.check.passed:
        known = "" if posterior.card.conflict else " is not known"
        say(f"Prior-data conflict{known}: {posterior.card.check.advice}")
    if not posterior.converged:
        say_what_failed(posterior)
        raise typer.Exit(WITHHELD)


def _show_runs(runs, store, as_json):
    summary = runs.summary().reset_index()
    if as_json:
        set_aside = [{"task": s.task, "reason": s.reason} for s in runs.set_aside]
        print_out(as_document({"store": str(store), "tasks": as_records(summary), "set_aside": set_aside}))
        return
    print_out(listing(summary.drop(columns="notes").to_dict("records"), summary.columns.drop("notes")))
    noted = zip(summary["task"], summary["notes"], strict=True)
    print_out("\n".join([f"{task}: {notes}" for task, notes in noted if notes] + set_aside_lines(runs.set_aside)))
