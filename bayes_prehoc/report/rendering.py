"""What every page is made of: the templates with their filters, the style, and a file that is never half written."""

import os
import tempfile
from collections.abc import Callable
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import jinja2
from markupsafe import Markup

from bayes_prehoc._files import share_as_usual
from bayes_prehoc.errors import InputError
from bayes_prehoc.report import text

__all__ = ["checked_path", "rendered", "replace", "resource"]

PAGES = (".html", ".htm")
_VERSIONS = ("bayes-prehoc", "jax", "numpyro", "arviz-stats", "numpy")


def checked_path(path: str | Path) -> tuple[Path, bool]:
    """The path of a report, and whether it is to be a page and not JSON.

    Raises
    ------
    InputError
        If the ending is another one, or the folder does not exist.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in (*PAGES, ".json"):
        raise InputError(f"{str(path)!r} has an unknown ending", "path", "Name a file in .html or .json.")
    if not path.parent.is_dir():
        raise InputError("its folder does not exist", str(path), f"Create {path.parent} first.")
    if path.is_dir():
        raise InputError("is a folder", str(path), "Name a file in it.")
    return path, ending in PAGES


def rendered(template: str, filters: dict[str, Callable] | None = None, **content) -> str:
    """A page from its template, with the style and the versions that wrote it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bayes_prehoc.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=text.number,
        interval=text.interval,
        probability=text.probability,
        stated=text.stated,
        units=text.depth_unit,
        squared=text.squared,
        key=text.regime_key,
        **(filters or {}),
    )
    versions = {name: version(name) for name in _VERSIONS}
    return environment.get_template(template).render(style=Markup(resource("style.css")), versions=versions, **content)


def resource(name: str) -> str:
    """The text of a file beside the templates."""
    return resources.files("bayes_prehoc.report").joinpath("templates", name).read_text(encoding="utf-8")


def replace(path: Path, content: str) -> None:
    """Write beside the file, then put it in its place: a reader never meets half a report."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            file.write(content)
        share_as_usual(file.name)
        os.replace(file.name, path)
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror})", str(path), "Choose a folder you may write to."
        ) from None
