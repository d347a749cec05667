"""Qwen3-VL on transformers' native class: as Qwen2-VL, with features of vision layers added to early text layers.

Those features (DeepStack, arXiv 2406.04334) are added to the hidden states of image tokens after the first decoder
layers. Positions are Qwen2-VL's.

Packed samples: for positions `[3, b, t]` without mask and cache, this text model also looks for restarts in the time
axis, and takes each token of an image for a sample. `decode` passes a mask of ones in that case. For packing, pass
positions `[4, b, t]`, whose first row counts 0.. within each sample, no attention_mask and use_cache=False; or a
block-diagonal causal mask `[b, 1, t, t]` (bool, True to attend).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, Qwen3VLForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPast

from colva.model.backbones.base import ImageFeatures
from colva.model.backbones.qwen2_vl import QwenBackbone


class Qwen3VLBackbone(QwenBackbone):
    """transformers' `Qwen3VLForConditionalGeneration`."""

    family: ClassVar[str] = "qwen3_vl"
    native: ClassVar[type[PreTrainedModel]] = Qwen3VLForConditionalGeneration

    def encode(self, pixel_values: Tensor, image_grid: Tensor | None) -> ImageFeatures:
        """Return tokens `[tokens, d]` of patches and their grids `[images, 3]`, and as many features a layer."""
        if image_grid is None:
            raise ValueError("pixel_values without image_grid: expected [images, 3] for a Qwen-VL model")
        tokens, features = self.model.get_image_features(pixel_values, image_grid)
        return ImageFeatures(torch.cat(list(tokens)), tuple(features))

    def decode(
        self,
        inputs_embeds: Tensor,
        is_image_token: Tensor | None = None,
        deep_features: tuple[Tensor, ...] = (),
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Run the decoder; `deep_features` are added where `is_image_token` `[b, t]` is True."""
        positions = kwargs.get("position_ids")
        is_packed = positions is not None and positions.ndim == 3 and len(positions) == 4
        if kwargs.get("attention_mask") is None and kwargs.get("past_key_values") is None and not is_packed:
            kwargs["attention_mask"] = torch.ones(
                inputs_embeds.shape[:2], dtype=torch.int64, device=inputs_embeds.device
            )
        if deep_features:
            kwargs.update(visual_pos_masks=is_image_token, deepstack_visual_embeds=list(deep_features))
        return self.language_model(inputs_embeds=inputs_embeds, **kwargs)
