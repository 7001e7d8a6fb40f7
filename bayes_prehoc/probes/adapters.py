"""What of a pretrained transformer a probe trains."""

import dataclasses

from bayes_prehoc.errors import InputError
from bayes_prehoc.probes.backbones.layers import LowRank
from bayes_prehoc.probes.backbones.transformer import MODULES, LoRA, TransformerConfig

__all__ = ["Adapter"]

KINDS = ("full", "lora", "head")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapter:
    """What is trained: everything, updates of low rank, or the head alone. The head is always trained.

    Attributes
    ----------
    kind : str
        "full", "lora" (Hu et al. 2022, arXiv 2106.09685) or "head".
    layers : int, optional
        The last so many layers; default all, with the embeddings if the kind is "full". What lies below them is in
        evaluation mode, so that it need not be computed again for every seed and step.
    rank : int
    alpha : float
        Updates are scaled by alpha / rank.
    dropout : float
        Of what updates read.
    modules : tuple of str
        Linear maps that carry an update: of query, key, value, output, gate, up and down.

    Raises
    ------
    InputError
        If a value is impossible.
    """

    kind: str = "full"
    layers: int | None = None
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    modules: tuple[str, ...] = ("query", "value")

    def __post_init__(self):
        if self.kind not in KINDS:
            raise InputError(f"kind is {self.kind!r}", "Adapter, kind", f"Use one of {', '.join(KINDS)}.")
        if self.layers is not None and not _whole(self.layers, 1):
            raise InputError(f"layers is {self.layers!r}", "Adapter, layers", "Give a whole number of at least 1.")
        if not _whole(self.rank, 1):
            raise InputError(f"rank is {self.rank!r}", "Adapter, rank", "Give a whole number of at least 1.")
        if not self.alpha > 0.0:
            raise InputError(f"alpha is {self.alpha!r}", "Adapter, alpha", "Give a positive number.")
        if not 0.0 <= self.dropout < 1.0:
            raise InputError(
                f"dropout is {self.dropout!r}", "Adapter, dropout", "Give a share, at least 0 and below 1."
            )
        unknown = [name for name in self.modules if name not in MODULES]
        if unknown or not self.modules:
            what = f"there is no module {unknown[0]!r}" if unknown else "no modules"
            raise InputError(what, "Adapter, modules", f"Give some of {', '.join(MODULES)}.")

    def first_layer(self, config: TransformerConfig) -> int:
        """The first layer that is trained; the number of layers where none is.

        Raises
        ------
        InputError
            If the network has fewer layers than are to be trained, or none of the modules.
        """
        if self.kind == "head":
            return config.blocks
        if self.layers is not None and self.layers > config.blocks:
            raise InputError(
                f"{self.layers} layers are to be trained, the model has {config.blocks}",
                "Adapter, layers",
                "Give a smaller number.",
            )
        if self.kind == "lora" and self.modules == ("gate",) and not config.gated:
            raise InputError(f"{config.family} has no gates", "Adapter, modules", "Name other modules.")
        return 0 if self.layers is None else config.blocks - self.layers

    def lora(self, config: TransformerConfig) -> LoRA | None:
        """The updates of low rank, if there are any."""
        if self.kind != "lora":
            return None
        return LoRA(LowRank(self.rank, float(self.alpha), float(self.dropout)), self.modules, self.first_layer(config))


def _whole(value, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
