"""The multimodal language models that CoLVA can stand on, by the `model_type` of their native configuration."""

from __future__ import annotations

from transformers import PretrainedConfig

from colva.model.backbones.base import Backbone
from colva.model.backbones.internvl import InternVLBackbone

BACKBONES: dict[str, type[Backbone]] = {
    "internvl": InternVLBackbone,
}


def backbone_class(config: PretrainedConfig) -> type[Backbone]:
    """The class for a native configuration; ValueError names the families when there is none."""
    found = BACKBONES.get(config.model_type)
    if found is None:
        raise ValueError(f"backbone {config.model_type!r} is not one of {', '.join(sorted(BACKBONES))}")
    return found
