"""The commands `plan`, `allocate` and `report`: what follows from a posterior, under costs that they share."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

import bayes_prehoc as bp
from bayes_prehoc._arguments import (
    Budget,
    CCheap,
    CostCurrency,
    CostDoubling,
    CostFixed,
    CostPerUnit,
    CostPower,
    CostPrice,
    CostTable,
    CostUnit,
    FalseStart,
    Gamma,
    Groups,
    Json,
    MaxDepth,
    MinDepth,
    Missed,
    Posteriors,
    Step,
    Threshold,
    Tolerance,
    Weights,
    check_output,
    parse_cost,
    parse_groups,
    parse_loss,
    parse_numbers,
)
from bayes_prehoc._console import WITHHELD, as_document, print_out, say
from bayes_prehoc._terminal import allocation_text, plan_text
from bayes_prehoc.errors import InputError

__all__ = ["allocate", "exit_for", "plan", "report", "say_what_failed"]

NOTHING_IDENTIFIED = "Answer withheld: no task's data can tell alpha from L_int. Observe more seeds, or deeper ones."


def plan(
    posterior_file: Annotated[Path, typer.Argument(metavar="POSTERIOR", help="A posterior saved by 'fit'.")],
    tolerance: Tolerance = None,
    gamma: Gamma = None,
    threshold: Threshold = None,
    false_start: FalseStart = None,
    missed: Missed = None,
    c_cheap: CCheap = None,
    cost_per_unit: CostPerUnit = None,
    cost_fixed: CostFixed = None,
    cost_unit: CostUnit = None,
    cost_price: CostPrice = None,
    cost_currency: CostCurrency = None,
    cost_doubling: CostDoubling = None,
    cost_power: CostPower = None,
    cost_table: CostTable = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the plan, such as plan.nc.")] = None,
    as_json: Json = False,
):
    """Say for each task which regime it is in and how deep a probe is worth its cost.

    Exit code 1: no answer is given, because the fit did not converge or no task's data can tell; the reason and the
    remedy are printed.

    \b
    Examples:
      bayes-prehoc plan post.nc --tolerance 0.01
      bayes-prehoc plan post.nc --tolerance cola=0.02 --tolerance rte=0.03 --json
      bayes-prehoc plan post.nc --cost-per-unit 0.4 --cost-fixed 2 --cost-unit 'GPU hour' --gamma 5000
      bayes-prehoc plan post.nc --cost-per-unit 0.4 --cost-unit 'GPU hour' --cost-price 2.5 --cost-currency EUR
      bayes-prehoc plan post.nc --cost-table costs.csv --threshold 0.9 --false-start 40 --missed 25
    """
    if out is not None:
        check_output(out)
    loss = parse_loss(gamma, threshold, false_start, missed)
    how = (cost_per_unit, cost_fixed, cost_unit, cost_price, cost_currency, cost_doubling, cost_power, cost_table)
    arguments = _plan_arguments(tolerance, loss, c_cheap, parse_cost(*how))
    made = bp.plan(bp.load_posterior(posterior_file), **arguments)
    if out is not None:
        made.save(out)
        say(f"plan saved: {out}")
    print_out(as_document(made.to_dict()) if as_json else plan_text(made))
    exit_for(made)


def allocate(
    posterior_file: Annotated[Path, typer.Argument(metavar="POSTERIOR", help="A posterior saved by 'fit'.")],
    budget: Budget,
    weights: Weights = None,
    min_depth: MinDepth = None,
    max_depth: MaxDepth = None,
    step: Step = None,
    groups: Groups = None,
    cost_per_unit: CostPerUnit = None,
    cost_fixed: CostFixed = None,
    cost_unit: CostUnit = None,
    cost_price: CostPrice = None,
    cost_currency: CostCurrency = None,
    cost_doubling: CostDoubling = None,
    cost_power: CostPower = None,
    cost_table: CostTable = None,
    as_json: Json = False,
):
    """Spread one budget for probing over all tasks.

    Each task gets the depth at which one more unit of budget takes as much off the weighted expected risk as anywhere
    else. Tasks of a group are probed all or not at all, a task in no group in any case.

    \b
    Examples:
      bayes-prehoc allocate post.nc --budget 3
      bayes-prehoc allocate post.nc --budget 500 --cost-per-unit 0.4 --cost-unit 'GPU hour' --step 50 --group cola,rte
    """
    how = (cost_per_unit, cost_fixed, cost_unit, cost_price, cost_currency, cost_doubling, cost_power, cost_table)
    given = {
        "cost": parse_cost(*how),
        "weights": parse_numbers("--weight", weights),
        "min_depth": parse_numbers("--min-depth", min_depth),
        "max_depth": parse_numbers("--max-depth", max_depth),
        "step": parse_numbers("--step", step),
        "groups": parse_groups(groups),
    }
    posterior = bp.load_posterior(posterior_file)
    exit_unless_answered(posterior, any(posterior.status(task) == "ok" for task in posterior.tasks))
    found = bp.allocate(posterior, budget, **given)
    print_out(as_document(found.to_dict()) if as_json else allocation_text(found))


def report(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A posterior or a plan, saved by 'fit' or 'plan'.")],
    out: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="report.html or report.json, by its ending; may be repeated."),
    ] = None,
    compare: Posteriors = None,
    tolerance: Tolerance = None,
    gamma: Gamma = None,
    threshold: Threshold = None,
    false_start: FalseStart = None,
    missed: Missed = None,
    c_cheap: CCheap = None,
    cost_per_unit: CostPerUnit = None,
    cost_fixed: CostFixed = None,
    cost_unit: CostUnit = None,
    cost_price: CostPrice = None,
    cost_currency: CostCurrency = None,
    cost_doubling: CostDoubling = None,
    cost_power: CostPower = None,
    cost_table: CostTable = None,
    as_json: Json = False,
):
    """Write the report: one HTML file that works offline, or the same numbers as JSON.

    A saved plan keeps its assumptions; give any of them here and the plan is made anew from its posterior. With --json
    the numbers are printed, and files are written only where --out asks for them.

    \b
    Examples:
      bayes-prehoc report post.nc --out report.html
      bayes-prehoc report plan.nc --out report.html --out report.json
    """
    files = out or ([] if as_json else [Path("report.html")])
    for file in files:
        check_output(file, ".html", ".json")
    loss = parse_loss(gamma, threshold, false_start, missed)
    how = (cost_per_unit, cost_fixed, cost_unit, cost_price, cost_currency, cost_doubling, cost_power, cost_table)
    arguments = _plan_arguments(tolerance, loss, c_cheap, parse_cost(*how))
    made = _load_plan(source, arguments)
    beside = tuple(bp.load_posterior(path) for path in compare or ())
    for file in files:
        bp.write_report(made, file, compare=beside)
        say(f"written: {file}")
    if as_json:
        print_out(as_document(made.to_dict()))
    exit_for(made)


def exit_for(made):
    """Exit code 1 where a plan answers for no task, with the reason."""
    exit_unless_answered(made.posterior, any(t.answered for t in made.tasks))


def exit_unless_answered(posterior, any_task):
    """Exit code 1 where the fit did not converge, or there is an answer for no task, with the reason."""
    if not posterior.converged:
        say_what_failed(posterior)
    elif not any_task:
        say(NOTHING_IDENTIFIED)
    else:
        return
    raise typer.Exit(WITHHELD)


def say_what_failed(posterior):
    """The checks of the gate that were not passed, with what to do."""
    checks = posterior.checks()
    say("Answer withheld: the fit failed its convergence gate.")
    for name, check in checks[checks["gate"] & ~checks["passed"]].iterrows():
        say(f"  {name}: {check['value']:.3g}, wanted {check['threshold']:.3g}. {check['advice']}")


def _plan_arguments(tolerance, gamma, c_cheap, cost):
    """What the options say to `plan`; what they do not say is left to its defaults."""
    arguments = {
        "cost": cost,
        "gamma": gamma,
        "tolerance": parse_numbers("--tolerance", tolerance),
        "c_cheap": parse_numbers("--c-cheap", c_cheap),
    }
    return {name: value for name, value in arguments.items() if value is not None}


def _load_plan(source, given):
    """The plan in a file with its own assumptions, save for those given now; or one made from a posterior."""
    try:
        kept = bp.load_plan(source)
    except InputError as error:
        posterior = bp.load_posterior(source)
        if "holds no plan" not in error.what:
            raise
        return bp.plan(posterior, **given)
    if not given:
        return kept
    return bp.plan(kept.posterior, **{**_fields(kept.arguments), **given})


def _fields(arguments):
    return {field.name: getattr(arguments, field.name) for field in dataclasses.fields(arguments)}
