"""Pretrained backbones as files: a folder with `model.safetensors`, `config.json` and `card.md`.

Looked up by name in `$BAYES_PREHOC_MODELS/backbones`, then in the folder that the wheel carries, then in
`models/backbones` at the repository's root (editable installs).
"""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from bayes_prehoc.errors import InputError
from bayes_prehoc.probes.backbones.networks import NetworkConfig, config_from_dict
from bayes_prehoc.probes.backbones.paths import flat, nested

__all__ = ["Backbone", "find_backbone", "load_backbone", "save_backbone"]


@dataclasses.dataclass(frozen=True, eq=False)
class Backbone:
    """A pretrained network.

    Attributes
    ----------
    name : str
    config : NetworkConfig
    params : nested dict of float32 arrays
    reached : dict
        What pretraining reached: {"metric", "value", "on"}.
    digest : str
        sha256 of the weights file.
    """

    name: str
    config: NetworkConfig
    params: dict
    reached: dict
    digest: str


def find_backbone(name: str) -> Path:
    """Folder of a backbone.

    Raises
    ------
    InputError
        If no folder on the look-up path holds it.
    """
    package = Path(__file__).resolve().parents[2]
    named = os.environ.get("BAYES_PREHOC_MODELS")
    roots = ([Path(named)] if named else []) + [package / "_models", package.parent / "models"]
    for root in roots:
        folder = root / "backbones" / name
        if (folder / "model.safetensors").is_file():
            return folder
    looked = ", ".join(str(root / "backbones") for root in roots)
    raise InputError(
        f"no backbone {name!r} (looked in {looked})",
        "backbone",
        "Set BAYES_PREHOC_MODELS to a folder with backbones/<name>/model.safetensors, or install the package again.",
    )


def load_backbone(name: str) -> Backbone:
    """Read a backbone by name.

    Raises
    ------
    InputError
        If it is not found, or its files do not fit together.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    folder = find_backbone(name)
    raw = (folder / "model.safetensors").read_bytes()
    try:
        described = json.loads((folder / "config.json").read_text())
        read = load(raw)
        config, reached = config_from_dict(described["network"], str(folder / "config.json")), described["reached"]
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        remedy = "Make it again: python models/backbones/pretrain.py " + name
        raise InputError(f"the backbone cannot be read ({error})", str(folder), remedy) from None
    return Backbone(name, config, nested(read), reached, hashlib.sha256(raw).hexdigest())


def save_backbone(folder: str | Path, config: NetworkConfig, params: dict, reached: dict, card: str) -> None:
    """Write the three files of a backbone into a folder, which is made if it is not there."""
    from safetensors.numpy import save

    folder = Path(folder)
    arrays = {path: np.ascontiguousarray(value, np.float32) for path, value in sorted(flat(params).items())}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(save(arrays))
    described = {"schema": 1, "network": dataclasses.asdict(config), "reached": reached}
    (folder / "config.json").write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")
    (folder / "card.md").write_text(card)
