"""Parameters by path: nested dicts, as networks take them, and flat ones, as files and optimizers do."""

from collections.abc import Mapping
from typing import Any

from flax import traverse_util

__all__ = ["flat", "nested"]


def flat(params: dict) -> dict[str, Any]:
    """Parameters by path, its parts joined by dots."""
    return {".".join(map(str, path)): leaf for path, leaf in traverse_util.flatten_dict(params).items()}


def nested(params: Mapping[str, Any]) -> dict:
    """The inverse of `flat`; a part that is a number is one again."""
    split = {tuple(int(part) if part.isdigit() else part for part in path.split(".")): a for path, a in params.items()}
    return traverse_util.unflatten_dict(split)
