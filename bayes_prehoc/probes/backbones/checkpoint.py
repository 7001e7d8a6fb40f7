"""Tensors of a checkpoint: safetensors in one file or several, whatever floating-point type, read one at a time.

Nothing but safetensors is read: other formats execute code.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes  # noqa: F401  (its types are what bfloat16 tensors are read as)
import numpy as np

from bayes_prehoc.errors import InputError

__all__ = ["digest_of", "parts_of", "tensors_of"]

ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


def parts_of(folder: Path) -> dict[str, tuple[str, ...] | None]:
    """Files that hold a checkpoint's tensors, with the names that its index lists in each (None: all of the file).

    Raises
    ------
    InputError
        If there is none, or the index cannot be read or names files elsewhere.
    """
    if (folder / ONE_FILE).is_file():
        return {ONE_FILE: None}
    index = folder / INDEX
    if not index.is_file():
        others = sorted(path.name for pattern in ("*.bin", "*.pt", "*.h5", "*.gguf") for path in folder.glob(pattern))
        found = f" (there is {', '.join(others)}, which we do not read)" if others else ""
        raise InputError(
            f"no {ONE_FILE} and no {INDEX}{found}", str(folder), "Save the model as safetensors, then try again."
        )
    try:
        where = json.loads(index.read_text())["weight_map"]
        names = {str(file): [] for file in where.values()}
        for name, file in where.items():
            names[file].append(name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"the index cannot be read ({error!r})", str(index), "Download the model again.") from None
    for file in names:
        if Path(file).name != file or not (folder / file).is_file():
            raise InputError(f"the index names {file!r}, which is not there", str(index), "Download the model again.")
    return {file: tuple(listed) for file, listed in sorted(names.items())}


def tensors_of(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Names and tensors, in single precision.

    Raises
    ------
    InputError
        If a file cannot be read, or lacks a tensor that the index lists.
    """
    from safetensors import SafetensorError, safe_open

    for file, listed in parts_of(folder).items():
        try:
            with safe_open(folder / file, "numpy") as opened:
                for name in listed or opened.keys():
                    yield name, np.asarray(opened.get_tensor(name), np.float32)
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot be read ({error})", str(folder / file), "Download the model again.") from None


def digest_of(folder: Path) -> str:
    """sha256 over the files that hold the tensors, in the order of their names."""
    digest = hashlib.sha256()
    for file in parts_of(folder):
        with (folder / file).open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
