"""What a card says to people: `card.md`, a model card as the Hugging Face hub reads it.

Texts that somebody else wrote are shown as they are: what HTML or Markdown would take for markup is escaped.
"""

import json
import re

from bayes_prehoc.priors.card import PriorCard
from bayes_prehoc.priors.verify import MOST_DISTANCE

__all__ = ["card_text", "escaped"]

HUB_LICENCES = {
    "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "cc0-1.0", "gpl-3.0",
    "mit", "odbl", "pddl", "unknown",
}  # fmt: skip
"""Licences that the hub knows by these names; of others it is told the name."""
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
_AS_TEXT = str.maketrans({sign: f"\\{sign}" for sign in r"\`*_{}[]()#+-.!|~:@$"} | _ENTITIES)


def escaped(text: str) -> str:
    """A text in which nothing is markup, in one line."""
    return " ".join(text.split()).translate(_AS_TEXT)


def card_text(card: PriorCard) -> str:
    """The whole document, with its header of metadata."""
    about, scope = card.provenance, card.scope
    lines = [
        "---",
        *_header(card),
        "---",
        "",
        f"# Prior card {escaped(about.name)}",
        "",
        *([_paragraphs(about.description), ""] if about.description.strip() else []),
        "What one project learned of how the risk of fine-tuning runs falls with depth, as a prior for the next: a "
        "density of hyperparameters, not of any task.",
        "",
        "    import bayes_prehoc as bp",
        "",
        '    posterior = bp.fit(estimates, prior="FOLDER OF THIS CARD")',
        "",
        "| | |",
        "| --- | --- |",
        f"| proxy | {escaped(scope.proxy)} |",
        f"| kinds of metric | {_listed(scope.metric_kinds)} |",
        f"| families | {_listed(scope.families) or 'none'} |",
        f"| behind it | {about.tasks} tasks, {about.runs} runs"
        + (f", {about.projects} projects" if about.projects > 1 else "")
        + " |",
        f"| worth | {_worth(card)} |",
        f"| reference depth | {scope.reference_depth:g} of the horizon |",
        f"| unit of depth | {scope.units.depth:g} horizons |",
        f"| unit of risk | {scope.units.risk:g} squared outcome scales |",
        f"| fitted under | {escaped(about.fitted_under)} |",
        f"| made by | {escaped(about.made_by)}, {escaped(about.created)} |",
        f"| licence | {escaped(about.licence)} |",
        *([f"| tasks | {_listed(about.task_names)} |"] if about.task_names else []),
        "",
        "## Hyperparameters",
        "",
        "Medians and 90% intervals, and how many times narrower the card is than the weak prior.",
        "",
        "| | median | 90% interval | narrower |",
        "| --- | --- | --- | --- |",
        *(
            f"| {escaped(label)} | {row.median:.3g} | {row.lower:.3g} to {row.upper:.3g} | {row.narrowing:.2g} |"
            for label, row in zip(card.labels, card.summary().itertuples(), strict=True)
        ),
        "",
        "## Checks",
        "",
        f"The density is a mixture of normals in unconstrained coordinates ({len(card.mixture.weight)} of them). No "
        f"probability may differ from that of the draws by more than {MOST_DISTANCE:g}.",
        "",
        "| check | value | threshold | worst |",
        "| --- | --- | --- | --- |",
        *(
            f"| {escaped(check.name)} | {check.value:.3g} | {check.threshold:g} | {escaped(check.worst)} |"
            for check in card.diagnostics
        ),
    ]
    if card.calibration:
        lines += ["", "## Calibration", "", "| figure | value | unit | target |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {escaped(one.name)} | {one.value:.3g} | {escaped(one.unit)} | {escaped(one.target)} |"
            for one in card.calibration
        ]
    if about.citation.strip():
        lines += ["", "## How to cite", "", *(f"    {line}" for line in about.citation.splitlines())]
    return "\n".join(lines) + "\n"


def _header(card):
    """Metadata in YAML; strings as JSON writes them are strings of YAML too."""
    licence = card.provenance.licence.lower()
    known = licence in HUB_LICENCES
    yield f"license: {licence if known else 'other'}"
    if not known:
        yield f"license_name: {json.dumps(card.provenance.licence)}"
    yield "library_name: bayes-prehoc"
    yield "tags:"
    yield from (f"- {json.dumps(tag)}" for tag in ("bayes-prehoc", "prior-card", card.scope.proxy))


def _paragraphs(text):
    return "\n\n".join(escaped(part) for part in re.split(r"\n\s*\n", text.strip()))


def _listed(names):
    return ", ".join(escaped(name) for name in names)


def _worth(card):
    worth = card.equivalent_tasks
    if not worth:
        return "not known"
    return "; ".join(f"{escaped(label)} {value:.3g}" for label, value in worth.items()) + " tasks with known curves"
