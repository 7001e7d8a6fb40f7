"""Pretrained transformers: a local folder in the format of Hugging Face, or the name of a repository on its hub.

The configuration and the tokenizer are read by transformers, without torch; the weights are read by `checkpoint` and
put in place by the tables of `families`. A tensor that no table knows and a parameter that no tensor fills are errors:
a network that is only partly the pretrained one gives runs that look like any others.
"""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from bayes_prehoc.errors import InputError
from bayes_prehoc.probes.backbones.checkpoint import INDEX, ONE_FILE, digest_of, tensors_of
from bayes_prehoc.probes.backbones.families import Family, family_of
from bayes_prehoc.probes.backbones.paths import flat, nested
from bayes_prehoc.probes.backbones.transformer import Classifier, Network, TransformerConfig

__all__ = ["Pretrained", "load_pretrained"]

FILES = (ONE_FILE, INDEX, "model-*.safetensors", "*.json", "*.txt", "*.model", "1_Pooling/config.json")
"""What is downloaded from the hub."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained:
    """A pretrained transformer.

    Attributes
    ----------
    name : str
        As it was asked for.
    folder : Path
    config : TransformerConfig
    tensors : dict from path to float32 array
        What the checkpoint holds of a network, a head among it if it has one.
    digest : str
        sha256 of its weights.
    pooling, dense, head_bias : str, str or None, bool
        Of the classifier that it is usually given: its pooling as sentence encoders record it, else its family's.
    """

    name: str
    folder: Path
    config: TransformerConfig
    tensors: dict[str, np.ndarray]
    digest: str
    pooling: str
    dense: str | None
    head_bias: bool

    def classifier(self, outputs: int, pooling: str | None = None, dropout: float = 0.0) -> Classifier:
        """The usual head, or a plain one on another pooling than the usual."""
        usual = pooling in (None, self.pooling)
        return Classifier(outputs, pooling or self.pooling, self.dense if usual else None, self.head_bias, dropout)

    def params(self, network: Network, head: str = "new") -> tuple[dict, tuple[str, ...]]:
        """Parameters of a network, as nested dicts, and the paths of those that each run draws afresh.

        Fresh are updates of low rank, a classifier's output layer unless the head is "kept", and what the checkpoint
        does not hold of a new head. Their values here are zero.

        Raises
        ------
        InputError
            If another parameter is not in the checkpoint, or has another shape there.
        """
        shapes = flat(network.shapes())
        fresh = tuple(sorted(path for path in shapes if self._is_fresh(path, network, head)))
        missing = sorted(shapes.keys() - self.tensors.keys() - set(fresh))
        if missing:
            raise InputError(
                f"the checkpoint does not fill {_listed(missing)}", str(self.folder), "Use a complete checkpoint."
            )
        filled = {}
        for path, leaf in shapes.items():
            value = np.zeros(leaf.shape, np.float32) if path in fresh else self.tensors[path]
            if value.shape != leaf.shape:
                raise InputError(
                    f"{path} has shape {value.shape}, its config.json asks for {leaf.shape}",
                    str(self.folder),
                    "Use a checkpoint with its own config.json.",
                )
            filled[path] = value
        return nested(filled), fresh

    def _is_fresh(self, path: str, network: Network, head: str) -> bool:
        if path.endswith(("lora_a", "lora_b")):
            return True
        new = network.classifier is not None and head == "new"
        return new and path.startswith("head.") and (path.startswith("head.out.") or path not in self.tensors)

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, by transformers."""
        try:
            return _transformers().AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"the tokenizer cannot be read ({_first_line(error)})", str(self.folder), "Add tokenizer.json."
            ) from None


def load_pretrained(name: str | Path) -> Pretrained:
    """Read a pretrained transformer.

    Parameters
    ----------
    name : str or path
        A folder with config.json and safetensors, or a repository of the Hugging Face hub, which is downloaded once.

    Raises
    ------
    InputError
        If it cannot be found or read, its family is not supported, or it has tensors that are not known.
    """
    folder = _folder_of(name)
    family, config = _described(folder / "config.json")
    tensors = _tensors(folder, family)
    pooling, dense = family.pooling, family.dense
    recorded = _recorded_pooling(folder)
    if recorded not in (None, pooling):
        pooling, dense = recorded, None
    return Pretrained(str(name), folder, config, tensors, digest_of(folder), pooling, dense, family.head_bias)


def _described(file: Path) -> tuple[Family, TransformerConfig]:
    """The family, and the configuration as transformers reads it, once the family is known to be one of ours."""
    transformers = _transformers()
    from huggingface_hub.errors import StrictDataclassError

    try:
        family = family_of(json.loads(file.read_text())["model_type"], str(file))
        return family, family.config(transformers.AutoConfig.from_pretrained(file.parent, local_files_only=True))
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, StrictDataclassError) as error:
        reason = _first_line(error)
        raise InputError(f"cannot be read ({reason})", str(file), "Give the config.json of a model.") from None


def _tensors(folder: Path, family: Family) -> dict[str, np.ndarray]:
    found, unknown = {}, []
    for name, tensor in tensors_of(folder):
        parts = family.parameters(name, tensor)
        if parts is None:
            unknown.append(name)
        else:
            found |= parts
    if unknown:
        raise InputError(
            f"the checkpoint has tensors that are not known: {_listed(unknown)}",
            str(folder),
            "Use a checkpoint of the plain model, without adapters and quantisation.",
        )
    return found


def _recorded_pooling(folder: Path) -> str | None:
    """Of a sentence encoder."""
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        return None
    try:
        modes = json.loads(file.read_text())
        named = {
            "pooling_mode_mean_tokens": "mean",
            "pooling_mode_cls_token": "first",
            "pooling_mode_lasttoken": "last",
        }
        return next((pooling for mode, pooling in named.items() if modes.get(mode)), None)
    except (OSError, ValueError, AttributeError):
        raise InputError("cannot be read", str(file), "Download the model again, or remove the folder.") from None


def _folder_of(name: str | Path) -> Path:
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError("no config.json", str(folder), "Give the folder of a pretrained model.")
        return folder
    if isinstance(name, Path) or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise InputError("no such folder", str(name), "Give the folder of a pretrained model.")
    _transformers()
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, ValueError) as error:
        raise InputError(
            f"neither a folder nor a repository that can be downloaded ({_first_line(error)})",
            f"model {name!r}",
            "Check the name and the connection, or download the model and give its folder.",
        ) from None


def _transformers():
    try:
        import transformers
    except ImportError:
        raise InputError(
            "transformers is not installed", "pretrained models", "pip install 'bayes-prehoc[models]'"
        ) from None
    return transformers


def _listed(names) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
