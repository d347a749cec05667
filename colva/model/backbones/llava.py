"""LLaVA-1.5 on transformers' native class (arXiv 2310.03744).

CLIP encodes a square of 336 pixels as 24 x 24 tokens.

Packed samples: Llama finds restarts in positions `[b, t]` by itself when neither attention_mask nor a cache is given
(use_cache=False), with SDPA too; with any 2-D attention_mask it does not, and then a block-diagonal causal mask
`[b, 1, t, t]` (bool, True to attend) is needed.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedModel

from colva.model.backbones.base import Backbone, ImageFeatures


class LlavaBackbone(Backbone):
    """transformers' `LlavaForConditionalGeneration`."""

    family: ClassVar[str] = "llava"
    image_wrap: ClassVar[tuple[str, str, str]] = ("", "<image>", "")
    model: LlavaForConditionalGeneration

    def __init__(self, config: LlavaConfig) -> None:
        super().__init__(config)
        self.model = LlavaForConditionalGeneration(config)

    def encode(self, pixel_values: Tensor, image_grid: Tensor | None = None) -> ImageFeatures:
        """Return tokens `[n, tokens, d]` of squares `[n, 3, s, s]`, from the layers in the configuration."""
        return ImageFeatures(
            torch.stack(list(self.model.get_image_features(pixel_values=pixel_values.to(self.model.dtype))))
        )

    @property
    def language_model(self) -> PreTrainedModel:
        """The text model."""
        return self.model.model.language_model

    @property
    def frozen_parts(self) -> tuple[nn.Module, ...]:
        """CLIP and the projector."""
        return self.model.model.vision_tower, self.model.model.multi_modal_projector
