"""The command `prior`: cards of priors made from posteriors, shown, checked, combined, and shared by the hub."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

import bayes_prehoc as bp
from bayes_prehoc._arguments import DepthUnit, HigherIsBetter, Horizon, Json, Outcome, Seed
from bayes_prehoc._console import WITHHELD, as_document, as_records, patiently, print_out, say
from bayes_prehoc._terminal import listing
from bayes_prehoc.errors import InputError

__all__ = ["prior"]

prior = typer.Typer(
    help="Prior cards: what one project learned, for the next. A card is a folder that can be shared in any way.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Card = Annotated[str, typer.Argument(metavar="CARD", help="Folder of a card, or the name of one that ships.")]
Out = Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to write the card to; a card there is replaced.")]
Name = Annotated[str, typer.Option(metavar="NAME", help="Of the card: letters, digits, '.', '-' and '_'.")]
Description = Annotated[str, typer.Option(metavar="TEXT", help="What the runs behind it were.")]
Licence = Annotated[str | None, typer.Option(metavar="NAME", help="Under which others may use it, such as CC0-1.0.")]
Citation = Annotated[str | None, typer.Option(metavar="TEXT", help="How to cite it.")]
Repository = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hugging Face hub.")]
Revision = Annotated[str | None, typer.Option(metavar="NAME", help="Branch, or when pulling a tag or commit too.")]


@prior.command()
def export(
    posterior_file: Annotated[Path, typer.Argument(metavar="POSTERIOR", help="A posterior saved by 'fit'.")],
    out: Out,
    name: Name,
    description: Description = "",
    licence: Licence = None,
    citation: Citation = None,
    families: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Family of the tasks; may be repeated. Else as they say.")
    ] = None,
    task_names: Annotated[bool, typer.Option("--task-names", help="Name the tasks in the card.")] = False,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Figures of calibration that a benchmark wrote with --json.")
    ] = None,
    as_json: Json = False,
):
    """Make a card of what a posterior knows of the hyperparameters.

    The card holds no figures of any task, and names of tasks only with --task-names. Of each run it holds a
    fingerprint, so that it is never used on the data that it was made from.

    \b
    Example:
      bayes-prehoc prior export post.nc --out cards/bert --name bert --licence CC0-1.0
    """
    from bayes_prehoc.hierarchy.cards import card_of

    _check_folder(out)
    figures = () if calibration is None else _calibration(calibration)
    card = card_of(
        bp.load_posterior(posterior_file),
        name,
        description=description,
        licence=licence or "unknown",
        citation=citation or "",
        families=families,
        task_names=task_names,
        calibration=figures,
    )
    _save(card, out, as_json)


@prior.command()
def show(card: Card, as_json: Json = False):
    """Say what a card is of and what it knows.

    \b
    Example:
      bayes-prehoc prior show cards/bert
    """
    _show(bp.load_card(card), as_json)


@prior.command()
def check(
    card: Card,
    runs_file: Annotated[
        str | None, typer.Argument(metavar="RUNS", help="Runs that the card is meant for: was it made from any?")
    ] = None,
    outcome: Outcome = None,
    depth_unit: DepthUnit = "step",
    horizon: Horizon = None,
    higher_is_better: HigherIsBetter = None,
    as_json: Json = False,
):
    """Validate every file of a card, and say whether it has seen these runs.

    Exit code 1: it has seen some, so a fit of them would refuse the card.

    \b
    Examples:
      bayes-prehoc prior check cards/bert
      bayes-prehoc prior check cards/bert runs.csv
    """
    found = bp.load_card(card)
    twice = {}
    if runs_file is not None:
        runs = bp.read_runs(
            runs_file, outcome=outcome, depth_unit=depth_unit, horizon=horizon, higher_is_better=higher_is_better
        )
        seen = {task.task: len(found.seen(task.run_hashes())) for task in runs}
        twice = {task: number for task, number in seen.items() if number}
    if as_json:
        checks = [check._asdict() for check in found.diagnostics]
        print_out(as_document({"card": found.name, "sound": True, "checks": checks, "runs_seen": twice}))
    else:
        print_out(f"{found}\n\n{_checks_text(found)}\n\nThe card is sound.")
    if twice:
        tasks = ", ".join(f"{task} ({number})" for task, number in twice.items())
        say(f"It was made from runs of these tasks, which would count twice: {tasks}.")
        raise typer.Exit(WITHHELD)


@prior.command()
def combine(
    cards: Annotated[list[str], typer.Argument(metavar="CARD", help="Two cards or more, each of one project.")],
    out: Out,
    name: Name,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="Default: the names of the cards.")] = None,
    licence: Licence = None,
    citation: Citation = None,
    seed: Seed = 0,
    as_json: Json = False,
):
    """Make the prior of a new project from the cards of others, as far as projects are alike.

    How much projects differ is estimated too, so that the new card is wider than each of the cards.

    \b
    Example:
      bayes-prehoc prior combine cards/bert cards/lora --out cards/both --name both
    """
    from bayes_prehoc.priors import combine as combined

    _check_folder(out)
    about = {"description": description, "licence": licence, "citation": citation}
    loaded = [bp.load_card(card) for card in cards]
    found = patiently("still combining", lambda: combined(loaded, name, seed=seed, **about))
    between = found.heterogeneity.reset_index(names="of")
    if not as_json:
        rows = [
            {"of": row["of"]} | {k: f"{row[k]:.3g}" for k in ("median", "lower", "upper")}
            for _, row in between.iterrows()
        ]
        print_out("Standard deviation between projects, median and 90% interval, in coordinates\n")
        print_out(listing(rows, ("of", "median", "lower", "upper")) + "\n")
    _save(found.card, out, as_json, {"heterogeneity": as_records(between)})


@prior.command()
def push(
    card: Card,
    repository: Repository,
    private: Annotated[bool, typer.Option("--private", help="Make the repository a private one.")] = False,
    revision: Revision = None,
    as_json: Json = False,
):
    """Put a card on the Hugging Face hub (extra 'hub'), as the account that is logged in there.

    \b
    Example:
      bayes-prehoc prior push cards/bert somebody/bert-prior
    """
    from bayes_prehoc.priors.hub import push_card

    found = bp.load_card(card)
    address = push_card(found, repository, private=private, revision=revision)
    print_out(as_document({"card": found.name, "commit": address}) if as_json else address)


@prior.command()
def pull(repository: Repository, out: Out, revision: Revision = None, as_json: Json = False):
    """Fetch a card from the Hugging Face hub (extra 'hub'), validated as any stranger's.

    \b
    Example:
      bayes-prehoc prior pull somebody/bert-prior --out cards/bert
    """
    from bayes_prehoc.priors.hub import pull_card

    _check_folder(out)
    _save(pull_card(repository, revision=revision), out, as_json)


def _check_folder(out):
    """Complain about a place that cannot be written to before the work is done."""
    if not out.absolute().parent.is_dir():
        raise InputError("the folder that it would lie in does not exist", str(out), f"Create {out.parent} first.")


def _save(card, out, as_json, more=None):
    card.save(out)
    say(f"card saved: {out}")
    _show(card, as_json, more)


def _show(card, as_json, more=None):
    about, scope = dataclasses.asdict(card.provenance), dataclasses.asdict(card.scope)
    summary = card.summary().reset_index()
    if as_json:
        document = {"provenance": about, "scope": scope, "hyperparameters": as_records(summary)}
        document |= {"equivalent_tasks": card.equivalent_tasks}
        document |= {"checks": [check._asdict() for check in card.diagnostics]}
        document |= {"calibration": [dataclasses.asdict(figure) for figure in card.calibration]}
        print_out(as_document(document | (more or {})))
        return
    worth = "; ".join(f"{label} {value:.3g}" for label, value in card.equivalent_tasks.items())
    lines = [
        str(card),
        *([about["description"]] if about["description"] else []),
        f"kinds of metric: {', '.join(scope['metric_kinds'])}; families: {', '.join(scope['families']) or 'none'}",
        f"reference depth: {scope['reference_depth']:g} of the horizon; fitted under: {about['fitted_under']}",
        f"worth, in tasks whose curves are known: {worth or 'not known'}",
        f"licence: {about['licence']}; made by {about['made_by']}, {about['created']}",
        "",
        "Medians and 90% intervals; narrowing is the weak prior's width over the card's",
        "",
    ]
    columns = ("median", "lower", "upper", "narrowing")
    rows = [{"of": row["of"]} | {name: f"{row[name]:.3g}" for name in columns} for _, row in summary.iterrows()]
    print_out("\n".join(lines) + listing(rows, ("of", *columns)))


def _checks_text(card):
    rows = [
        {"check": c.name, "value": f"{c.value:.3g}", "threshold": f"{c.threshold:g}", "worst": c.worst}
        for c in card.diagnostics
    ]
    return listing(rows, ("check", "value", "threshold", "worst"))


def _calibration(file):
    """Figures from what a benchmark wrote: a list of {name, value, unit, target, met}."""
    from bayes_prehoc.priors import Calibration

    try:
        return tuple(
            Calibration(
                one["name"],
                one["value"],
                one.get("unit") or "",
                "" if one.get("target") is None else str(one["target"]),
                one.get("met"),
            )
            for one in json.loads(file.read_text(encoding="utf-8"))
        )
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"it is no list of figures ({error!r})", str(file), "Give what a benchmark wrote with --json."
        ) from None
