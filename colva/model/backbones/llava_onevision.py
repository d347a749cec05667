"""LLaVA-OneVision on transformers' native class (arXiv 2408.03326): SigLIP, a projector and Qwen2.

Images are prepared as the published model does in conversations with several: one square each, whose tokens end with a
learned newline (see `colva.processing.image_processors.llava_onevision`).

Packed samples: as in `colva.model.backbones.llava`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration, PreTrainedModel

from colva.model.backbones.base import Backbone, ImageFeatures


class LlavaOnevisionBackbone(Backbone):
    """transformers' `LlavaOnevisionForConditionalGeneration`."""

    family: ClassVar[str] = "llava_onevision"
    image_wrap: ClassVar[tuple[str, str, str]] = ("", "<image>", "")
    model: LlavaOnevisionForConditionalGeneration

    def __init__(self, config: LlavaOnevisionConfig) -> None:
        super().__init__(config)
        self.model = LlavaOnevisionForConditionalGeneration(config)

    def encode(self, pixel_values: Tensor, image_grid: Tensor | None = None) -> ImageFeatures:
        """Return tokens `[n, tokens + 1, d]` of squares `[n, 3, s, s]`, each with the newline as its last."""
        model = self.model.model
        layers = self.config.vision_feature_layer
        hidden = model.vision_tower(pixel_values.to(model.vision_tower.dtype), output_hidden_states=True).hidden_states
        chosen = [hidden[layer] for layer in ([layers] if isinstance(layers, int) else layers)]
        tokens = model.multi_modal_projector(torch.cat(chosen, dim=-1))
        newline = model.image_newline.to(tokens.dtype).expand(len(tokens), 1, -1)
        return ImageFeatures(torch.cat([tokens, newline], dim=1))

    @property
    def language_model(self) -> PreTrainedModel:
        """The text model."""
        return self.model.model.language_model

    @property
    def frozen_parts(self) -> tuple[nn.Module, ...]:
        """SigLIP and the projector."""
        return self.model.model.vision_tower, self.model.model.multi_modal_projector
