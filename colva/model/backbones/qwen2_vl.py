"""Qwen2-VL and Qwen2.5-VL on transformers' native classes (arXiv 2409.12191, 2502.13923).

Positions are 3-D, see `colva.model.positions.rotary_positions_3d`.

Packed samples (positions that restart): these text models look for restarts only in positions `[4, b, t]`, whose
first row counts 0.. within each sample, and only when neither attention_mask nor a cache is given (use_cache=False).
With `[3, b, t]` and SDPA a packed row attends over its borders unless a block-diagonal causal mask `[b, 1, t, t]` is
given (bool, True to attend).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
)

from colva.model.backbones.base import Backbone, ImageFeatures
from colva.model.positions import ImageGrid, rotary_positions_3d


class QwenBackbone(Backbone):
    """The common part of all Qwen-VL families."""

    native: ClassVar[type[PreTrainedModel]]
    image_wrap: ClassVar[tuple[str, str, str]] = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.model = self.native(config)

    def encode(self, pixel_values: Tensor, image_grid: Tensor | None) -> ImageFeatures:
        """Return tokens `[tokens, d]` of patches and their grids `[images, 3]`."""
        if image_grid is None:
            raise ValueError("pixel_values without image_grid: expected [images, 3] for a Qwen-VL model")
        return ImageFeatures(torch.cat(list(self.model.get_image_features(pixel_values, image_grid))))

    def position_ids(self, ids: Tensor, grids: Iterator[ImageGrid]) -> Tensor:
        """Return 3-D rotary positions `[3, t]`; see `rotary_positions_3d`."""
        merge_size = int(self.config.vision_config.spatial_merge_size)
        return rotary_positions_3d(ids, grids, self.config.image_token_id, merge_size)

    @property
    def language_model(self) -> PreTrainedModel:
        """The text model."""
        return self.model.model.language_model

    @property
    def frozen_parts(self) -> tuple[nn.Module, ...]:
        """The vision tower; its last part is the projector."""
        return (self.model.model.visual,)


class Qwen2VLBackbone(QwenBackbone):
    """transformers' `Qwen2VLForConditionalGeneration`."""

    family: ClassVar[str] = "qwen2_vl"
    native: ClassVar[type[PreTrainedModel]] = Qwen2VLForConditionalGeneration


class Qwen25VLBackbone(QwenBackbone):
    """transformers' `Qwen2_5_VLForConditionalGeneration`."""

    family: ClassVar[str] = "qwen2_5_vl"
    native: ClassVar[type[PreTrainedModel]] = Qwen2_5_VLForConditionalGeneration
