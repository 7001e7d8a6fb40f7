"""Pretrained networks that probes start from."""

from bayes_prehoc.probes.backbones.files import Backbone, find_backbone, load_backbone, save_backbone
from bayes_prehoc.probes.backbones.networks import DecoderConfig, MLPConfig, NetworkConfig, build, forward, new_head

__all__ = [
    "Backbone",
    "DecoderConfig",
    "MLPConfig",
    "NetworkConfig",
    "build",
    "find_backbone",
    "forward",
    "load_backbone",
    "new_head",
    "save_backbone",
]
