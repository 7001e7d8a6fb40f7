"""Callbacks for other libraries, which decide by a `WatchTable`: transformers' Trainer and Optuna.

Nothing here needs JAX once there is a table. A name is loaded from its module when it is first used, since each needs a
library that may not be installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bayes_prehoc.integrations.optuna import WatchPruner
    from bayes_prehoc.integrations.transformers import WatchCallback

__all__ = ["WatchCallback", "WatchPruner"]

_PLACES = {"WatchCallback": "transformers", "WatchPruner": "optuna"}


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
