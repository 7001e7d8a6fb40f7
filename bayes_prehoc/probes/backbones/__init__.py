"""Pretrained networks that probes start from."""

from bayes_prehoc.probes.backbones.files import Backbone, find_backbone, load_backbone, save_backbone
from bayes_prehoc.probes.backbones.networks import DecoderConfig, MLPConfig, NetworkConfig, build, forward, new_head
from bayes_prehoc.probes.backbones.pretrained import Pretrained, load_pretrained
from bayes_prehoc.probes.backbones.transformer import Classifier, LoRA, Network, Tokens, TransformerConfig

__all__ = [
    "Backbone",
    "Classifier",
    "DecoderConfig",
    "LoRA",
    "MLPConfig",
    "Network",
    "NetworkConfig",
    "Pretrained",
    "Tokens",
    "TransformerConfig",
    "build",
    "find_backbone",
    "forward",
    "load_backbone",
    "load_pretrained",
    "new_head",
    "save_backbone",
]
