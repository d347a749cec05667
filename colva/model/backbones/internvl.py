"""InternVL2, 2.5, 3 and 3.5 on transformers' native InternVL, with any text model that it can carry.

Tiles of 448 pixels and a thumbnail, each 32 x 32 patches, pixel-shuffled to 16 x 16 tokens (arXiv 2404.16821).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import InternVLConfig, InternVLForConditionalGeneration, PreTrainedModel

from colva.model.backbones.base import Backbone, ImageFeatures
from colva.model.experts.base import imagenet_normalize, to_unit_range


class InternVLBackbone(Backbone):
    """transformers' `InternVLForConditionalGeneration`."""

    family: ClassVar[str] = "internvl"
    image_wrap: ClassVar[tuple[str, str, str]] = ("<img>", "<IMG_CONTEXT>", "</img>")
    model: InternVLForConditionalGeneration

    def __init__(self, config: InternVLConfig) -> None:
        super().__init__(config)
        self.model = InternVLForConditionalGeneration(config)

    def encode(self, pixel_values: Tensor, image_grid: Tensor | None = None) -> ImageFeatures:
        """Return tokens `[n, 256, d]` of tiles `[n, 3, s, s]` (uint8, or floats that are already normalized)."""
        if pixel_values.dtype == torch.uint8:
            pixel_values = imagenet_normalize(to_unit_range(pixel_values), self.model.dtype)
        return ImageFeatures(self.model.get_image_features(pixel_values=pixel_values))

    @property
    def language_model(self) -> PreTrainedModel:
        """The text model."""
        return self.model.model.language_model

    @property
    def frozen_parts(self) -> tuple[nn.Module, ...]:
        """InternViT and `mlp1`."""
        return self.model.model.vision_tower, self.model.model.multi_modal_projector
