"""Plans in files: the posterior's own file, with the plan's arguments in an attribute beside it.

A plan is a function of the posterior and of what the user assumed, so nothing else is kept and reading makes it again.
"""

import json
from pathlib import Path

import h5py

from bayes_prehoc.errors import InputError
from bayes_prehoc.planning.arguments import Arguments
from bayes_prehoc.planning.planner import plan
from bayes_prehoc.planning.results import Plan

__all__ = ["load_plan", "save_plan"]

ATTRIBUTE = "bayes_prehoc_plan"
SCHEMA = 2


def load_plan(path) -> Plan:
    """Read a plan that `Plan.save` wrote.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    InputError
        No such file, a file of another kind, one that holds a posterior only, or one of a later version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("there is no such file", str(path), "Name a file that Plan.save or 'plan --out' wrote.")
    try:
        with h5py.File(path, "r") as file:
            stored = file.attrs.get(ATTRIBUTE)
    except OSError:
        raise InputError(
            "the file is not a saved plan", str(path), "Name a file that Plan.save or 'plan --out' wrote."
        ) from None
    if stored is None:
        raise InputError("the file holds no plan", str(path), "Load it with load_posterior and call plan.")
    content = json.loads(stored)
    if content["schema"] > SCHEMA:
        raise InputError(
            f"the plan has schema {content['schema']}, this version reads up to {SCHEMA}",
            str(path),
            "Update bayes-prehoc.",
        )
    from bayes_prehoc.hierarchy import load_posterior

    arguments = Arguments.from_dict(content["arguments"])
    return plan(
        load_posterior(path),
        cost=arguments.cost,
        gamma=arguments.gamma,
        tolerance=arguments.tolerance,
        c_cheap=arguments.c_cheap,
    )


def save_plan(made: Plan, path) -> None:
    """Write the posterior to `path` and the plan's arguments into the same file."""
    made.posterior.save(path)
    content = {"schema": SCHEMA, "arguments": made.arguments.to_dict()}
    with h5py.File(path, "r+") as file:
        file.attrs[ATTRIBUTE] = json.dumps(content, allow_nan=False)
