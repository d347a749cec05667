"""Multimodal language models that CoLVA can use, by the `model_type` of their native configuration."""

from __future__ import annotations

from transformers import PretrainedConfig

from colva.model.backbones.base import Backbone
from colva.model.backbones.internvl import InternVLBackbone
from colva.model.backbones.llava import LlavaBackbone
from colva.model.backbones.llava_onevision import LlavaOnevisionBackbone
from colva.model.backbones.qwen2_vl import Qwen2VLBackbone, Qwen25VLBackbone
from colva.model.backbones.qwen3_vl import Qwen3VLBackbone

BACKBONES: dict[str, type[Backbone]] = {
    "internvl": InternVLBackbone,
    "llava": LlavaBackbone,
    "llava_onevision": LlavaOnevisionBackbone,
    "qwen2_5_vl": Qwen25VLBackbone,
    "qwen2_vl": Qwen2VLBackbone,
    "qwen3_vl": Qwen3VLBackbone,
}


def backbone_class(config: PretrainedConfig) -> type[Backbone]:
    """Return the class for a native configuration; ValueError lists the families when there is none."""
    backbone = BACKBONES.get(config.model_type)
    if backbone is None:
        raise ValueError(f"backbone {config.model_type!r} is not one of {', '.join(sorted(BACKBONES))}")
    return backbone
