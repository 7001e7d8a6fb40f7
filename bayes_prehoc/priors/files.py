"""Prior cards as folders: `prior.json`, `draws.safetensors`, `checks.json`, and `card.md` for people.

A card may come from a stranger. Only these four names are opened, in the folder itself and never through a link; each
has a largest size that is looked at before anything is read; JSON and safetensors are the only formats, so nothing is
executed; and everything that was read is validated before it is used: types, sizes, characters, finiteness,
covariances, the hashes of the other files, the log density that the card's maker found at a few points, computed again,
and the draws, which the mixture must be that of. `card.md` is never read.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

import numpy as np

from bayes_prehoc._files import share_as_usual
from bayes_prehoc.errors import InputError
from bayes_prehoc.priors import validate
from bayes_prehoc.priors.about import Calibration, Provenance, Scope, Units
from bayes_prehoc.priors.card import FINGERPRINT, PriorCard, Weak
from bayes_prehoc.priors.mixture import MOST, Gaussians
from bayes_prehoc.priors.text import card_text
from bayes_prehoc.priors.transforms import Site, Transform
from bayes_prehoc.priors.verify import Diagnostic

__all__ = [
    "CHECKS",
    "DRAWS",
    "FILES",
    "PRIOR",
    "SCHEMA_VERSION",
    "TEXT",
    "contents",
    "find_card",
    "load_card",
    "save_card",
]

SCHEMA_VERSION = 1
FORMAT = "bayes_prehoc prior card"
PRIOR, DRAWS, CHECKS, TEXT = "prior.json", "draws.safetensors", "checks.json", "card.md"
FILES = {PRIOR: 8 * 2**20, DRAWS: 32 * 2**20, CHECKS: 2**20, TEXT: 2**20}
"""The files of a card, with the most bytes that each may have."""
REFERENCES = 5
"""Draws at which the log density is recorded."""
EXACTNESS = 1e-8
MOST_PARAMETERS = 4
"""Of a transform."""
_REMEDY = "Make the card again, or fetch it again from where it comes."


def find_card(name: str) -> Path:
    """Folder of a card that is known by name.

    Looked up in `$BAYES_PREHOC_MODELS/priors`, then in the folder that the wheel carries, then in `models/priors` at
    the repository's root (editable installs).

    Raises
    ------
    InputError
        There is none of that name.
    """
    validate.short_name(name, "prior card")
    package = Path(__file__).resolve().parents[1]
    named = os.environ.get("BAYES_PREHOC_MODELS")
    roots = ([Path(named)] if named else []) + [package / "_models", package.parent / "models"]
    for root in roots:
        if (root / "priors" / name / PRIOR).is_file():
            return root / "priors" / name
    looked = ", ".join(str(root / "priors") for root in roots)
    raise InputError(
        f"there is no prior card {name!r} (looked in {looked})",
        "prior",
        "Give the folder of a card, or the name of one that is there.",
    )


def load_card(name_or_path) -> PriorCard:
    """Read a prior card.

    Parameters
    ----------
    name_or_path : str or path
        A folder; or the name of a card that ships with the package or lies in `$BAYES_PREHOC_MODELS/priors`, where
        there is no such folder.

    Raises
    ------
    InputError
        There is none, or anything in it is not as it must be (see the module's docstring); or a newer version wrote it.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise InputError(f"got a {type(name_or_path).__name__}", "load_card", "Give a card's name or its folder.")
    path = Path(name_or_path)
    try:
        folder = path if path.is_dir() else None
    except (OSError, ValueError):
        folder = None
    if folder is None:
        if path.name != str(name_or_path):
            raise InputError("there is no such folder", ascii(str(name_or_path))[:200], "Name the folder of a card.")
        folder = find_card(str(name_or_path))
    try:
        return _read_card(folder)
    except InputError as error:
        raise InputError(f"{error.where}: {error.what}", str(folder), error.remedy) from None


def save_card(card: PriorCard, path) -> None:
    """Write a card; `PriorCard.save` calls this. A card that is there already is replaced, anything else is not."""
    folder = Path(path)
    _check_place(folder)
    made = contents(card)
    try:
        # A folder beside its place, so that no half of a card is ever there.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            new, old = Path(temporary, "new"), Path(temporary, "old")
            new.mkdir()
            for name, content in made.items():
                (new / name).write_bytes(content)
                share_as_usual(new / name)
            if folder.exists():
                folder.rename(old)
            try:
                new.rename(folder)
            except OSError:
                if old.exists():
                    old.rename(folder)
                raise
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror})", str(folder), "Check the place and the disk."
        ) from None


def _check_place(folder):
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError("is no folder", str(folder), "Name another.")
    if folder.is_dir():
        others = sorted(file.name for file in folder.iterdir() if file.name not in FILES)
        if others:
            raise InputError(f"holds {others[0]!r}, which is no part of a card", str(folder), "Name a new folder.")
    if not folder.parent.is_dir():
        raise InputError(
            "the folder that it would lie in does not exist", str(folder), f"Create {folder.parent} first."
        )


def contents(card):
    """The bytes of each file."""
    from safetensors.numpy import save

    tensors = {"draws": card.draws, "fingerprints": card.fingerprints}
    draws = save({name: np.ascontiguousarray(part) for name, part in tensors.items()})
    checks = _as_json(
        {
            "diagnostics": [check._asdict() for check in card.diagnostics],
            "calibration": [dataclasses.asdict(figure) for figure in card.calibration],
            "equivalent_tasks": card.equivalent_tasks,
        }
    )
    points = card.draws[:REFERENCES]
    scope, about = dataclasses.asdict(card.scope), dataclasses.asdict(card.provenance)
    prior = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "provenance": about,
        "scope": scope,
        "sites": [dataclasses.asdict(site) for site in card.sites],
        "population": dict(card.population),
        "weak": {"mean": card.weak.mean.tolist(), "scale": card.weak.scale.tolist()},
        "mixture": {name: part.tolist() for name, part in card.mixture._asdict().items()},
        "reference": {"points": points.tolist(), "log_density": card.log_density(points).tolist()},
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in ((DRAWS, draws), (CHECKS, checks))},
    }
    return {PRIOR: _as_json(prior), DRAWS: draws, CHECKS: checks, TEXT: card_text(card).encode()}


def _as_json(content):
    return (json.dumps(content, indent=1, allow_nan=False, ensure_ascii=True) + "\n").encode()


def _read_card(folder):
    raw = {name: _read(folder, name) for name in (PRIOR, DRAWS, CHECKS)}
    document = _parsed(raw[PRIOR], PRIOR)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError("it is not that of a prior card", PRIOR, "Name the folder of a card.")
    version = validate.count(document.get("schema_version"), f"{PRIOR}, schema_version", least=1)
    if version > SCHEMA_VERSION:
        raise InputError(
            f"it has schema version {version}, this package reads up to {SCHEMA_VERSION}",
            PRIOR,
            "Update bayes-prehoc to read it.",
        )
    return _card_of_version_1(document, raw)


def _read(folder, name):
    """Bytes of one file of the folder: a plain file, no link, not too large."""
    path, most = folder / name, FILES[name]
    try:
        if path.is_symlink():
            raise InputError("it is a link", name, "Put the file itself into the folder.")
        # A pipe would be waited for; O_NOFOLLOW where the system has it, for a link made since.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InputError("it is no plain file", name, _REMEDY)
            content = b"" if status.st_size > most else file.read(most + 1)
    except FileNotFoundError:
        raise InputError("there is no such file", name, "A card is a folder with prior.json, draws.safetensors "
                         "and checks.json.") from None  # fmt: skip
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror})", name, "Check the folder.") from None
    if status.st_size > most or len(content) > most:
        raise InputError(f"it has more than {most} bytes", name, "A card is smaller than that.")
    return content


def _parsed(raw, where):
    """Strict JSON: no NaN, no key twice."""

    def unique(pairs):
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key is there twice")
        return found

    def refuse(constant):
        raise ValueError(f"{constant} is no number")

    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except RecursionError:
        raise InputError("it is nested too deeply", where, _REMEDY) from None
    except ValueError as error:
        raise InputError(f"it is not JSON ({ascii(str(error))[:200]})", where, _REMEDY) from None


def _card_of_version_1(document, raw):
    top = ("format", "schema_version", "provenance", "scope", "sites", "population", "weak", "mixture")
    document = _fields(document, (*top, "reference", "sha256"), PRIOR)
    _check_hashes(_fields(document["sha256"], (DRAWS, CHECKS), "sha256"), raw)
    provenance = _fields(document["provenance"], _names(Provenance), "provenance")
    scope = _fields(document["scope"], _names(Scope), "scope")
    sites = tuple(_site(site, f"site {place}") for place, site in enumerate(_list(document["sites"], "sites", 200)))
    size = sum(len(site.labels) for site in sites)
    mixture = _fields(document["mixture"], Gaussians._fields, "mixture")
    components = len(_list(mixture["weight"], "mixture, weight", MOST))
    shapes = {"weight": (components,), "mean": (components, size), "covariance": (components, size, size)}
    checks = _fields(_parsed(raw[CHECKS], CHECKS), ("diagnostics", "calibration", "equivalent_tasks"), CHECKS)
    diagnostics = _list(checks["diagnostics"], "diagnostics", 1000)
    calibration = _list(checks["calibration"], "calibration", 1000)
    weak = _fields(document["weak"], ("mean", "scale"), "weak")
    card = PriorCard(
        scope=Scope(
            **scope
            | {name: tuple(_list(scope[name], name)) for name in ("metric_kinds", "families")}
            | {"units": Units(**_fields(scope["units"], _names(Units), "units"))}
        ),
        provenance=Provenance(**provenance | {"task_names": _tuple_or_none(provenance["task_names"], "task_names")}),
        sites=sites,
        mixture=Gaussians(**{name: _array(mixture[name], shape, "mixture") for name, shape in shapes.items()}),
        weak=Weak(**{name: _array(weak[name], (size,), "weak") for name in weak}),
        population=_texts(document["population"], "population"),
        **_tensors(raw[DRAWS], size),
        diagnostics=tuple(Diagnostic(**_fields(check, Diagnostic._fields, "diagnostics")) for check in diagnostics),
        calibration=tuple(Calibration(**_fields(one, _names(Calibration), "calibration")) for one in calibration),
    )
    _check_reference(card, document["reference"], size)
    return card


def _site(content, where):
    fields = _fields(content, _names(Site), where)
    transform = _fields(fields["transform"], _names(Transform), where)
    if not isinstance(transform["kind"], str) or not isinstance(transform["parameters"], dict):
        raise InputError("its transform is no kind with parameters", where, _REMEDY)
    if len(transform["parameters"]) > MOST_PARAMETERS:
        raise InputError(f"it has {len(transform['parameters'])} parameters", where, _REMEDY)
    parameters = {
        validate.text(name, where): tuple(validate.number(value, where) for value in _list(values, where, 200))
        for name, values in transform["parameters"].items()
    }
    return Site(
        name=validate.text(fields["name"], where),
        shape=tuple(validate.count(part, where, least=1) for part in _list(fields["shape"], where)),
        transform=Transform(validate.text(transform["kind"], where), parameters),
        labels=validate.names(fields["labels"], where, 200),
        log_of=fields["log_of"] if fields["log_of"] is None else validate.text(fields["log_of"], where),
    )


def _tensors(raw, size):
    from safetensors import SafetensorError, deserialize

    try:
        found = dict(deserialize(raw))
    except SafetensorError as error:
        raise InputError(f"it is no safetensors file ({ascii(str(error))[:200]})", DRAWS, _REMEDY) from None
    wanted = {"draws": ("F64", np.float64, size), "fingerprints": ("U8", np.uint8, FINGERPRINT)}
    if set(found) != set(wanted):
        raise InputError(f"it holds {ascii(sorted(found))[:200]}", DRAWS, f"It must hold {sorted(wanted)}.")
    arrays = {}
    for name, (kind, dtype, columns) in wanted.items():
        tensor = found[name]
        shape = tuple(tensor["shape"])
        if tensor["dtype"] != kind or len(shape) != 2 or shape[1] != columns:
            raise InputError(
                f"{name} is {tensor['dtype']} of shape {shape}", DRAWS, f"It must be {kind} with {columns} columns."
            )
        arrays[name] = np.frombuffer(tensor["data"], np.dtype(dtype).newbyteorder("<")).reshape(shape).astype(dtype)
    return arrays


def _check_hashes(listed, raw):
    for name, digest in listed.items():
        if hashlib.sha256(raw[name]).hexdigest() != digest:
            raise InputError("it is not the file that prior.json was written with", name, _REMEDY)


def _check_reference(card, content, size):
    """The log density, computed again, against what the card's maker found."""
    reference = _fields(content, ("points", "log_density"), "reference")
    number = len(_list(reference["points"], "reference", 100))
    if not number:
        raise InputError("there is no point", "reference", _REMEDY)
    (points,) = validate.tuple_of_arrays(
        (_array(reference["points"], (number, size), "reference"),), ((number, size),), "reference"
    )
    recorded = _array(reference["log_density"], (number,), "reference")
    off = np.abs(card.log_density(points) - recorded)
    if not np.all(off <= EXACTNESS * np.maximum(1.0, np.abs(recorded))):
        raise InputError(
            f"the log density there is off by {off.max():.3g} from what was recorded", "reference", _REMEDY
        )


def _fields(content, names, where):
    if not isinstance(content, dict):
        raise InputError(f"it is a {type(content).__name__}, not an object", where, _REMEDY)
    odd = sorted(set(content) ^ set(names))
    if odd:
        state = "is missing" if odd[0] in names else "is unknown"
        raise InputError(f"the field {ascii(odd[0])[:80]} {state}", where, _REMEDY)
    return content


def _names(kind):
    return tuple(field.name for field in dataclasses.fields(kind))


def _list(content, where, most=20_000):
    if not isinstance(content, list):
        raise InputError(f"it is a {type(content).__name__}, not a list", where, _REMEDY)
    if len(content) > most:
        raise InputError(f"it has {len(content)} entries", where, f"At most {most} are allowed.")
    return content


def _tuple_or_none(content, where):
    return None if content is None else tuple(_list(content, where))


def _texts(content, where):
    if not isinstance(content, dict) or len(content) > 200:
        raise InputError("it is no object of at most 200 entries", where, _REMEDY)
    return {validate.text(name, where): validate.text(value, where) for name, value in content.items()}


def _array(content, shape, where):
    """A float64 array from nested lists, which must have the shape."""

    def flat(part, shape):
        if not shape:
            yield validate.number(part, where)
        elif len(_list(part, where)) != shape[0]:
            raise InputError(f"a list has {len(part)} entries, not {shape[0]}", where, _REMEDY)
        else:
            for entry in part:
                yield from flat(entry, shape[1:])

    return np.array(list(flat(content, shape)), np.float64).reshape(shape)
