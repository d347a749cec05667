"""Qwen3-VL on transformers' native class: as Qwen2-VL, with features of early vision layers in early text layers.

Those features (DeepStack, arXiv 2406.04334) are added to the hidden states of image tokens after the first decoder
layers. Positions are Qwen2-VL's.

Packed samples: this text model looks for restarts in the time axis too when it gets `[3, b, t]` without mask and
cache, and takes the tokens of an image for samples of one token each. So `decode` gives it a mask of ones then. For
packing give `[4, b, t]`, whose first row counts 0.. within each sample, no attention_mask and use_cache=False; or a
block-diagonal causal mask `[b, 1, t, t]` (bool, True to attend).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, Qwen3VLForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPast

from colva.model.backbones.base import Encoded
from colva.model.backbones.qwen2_vl import QwenBackbone


class Qwen3VLBackbone(QwenBackbone):
    """transformers' `Qwen3VLForConditionalGeneration`."""

    family: ClassVar[str] = "qwen3_vl"
    native: ClassVar[type[PreTrainedModel]] = Qwen3VLForConditionalGeneration

    def encode(self, pixel_values: Tensor, image_grid: Tensor | None) -> Encoded:
        """Patches and their grids `[images, 3]` to tokens `[tokens, d]`, and as many features for each deep layer."""
        if image_grid is None:
            raise ValueError("pixel_values without image_grid: expected [images, 3] for a Qwen-VL model")
        tokens, deep = self.model.get_image_features(pixel_values, image_grid)
        return Encoded(torch.cat(list(tokens)), tuple(deep))

    def decode(
        self, inputs_embeds: Tensor, image_tokens: Tensor | None = None, deep: tuple[Tensor, ...] = (), **given: Any
    ) -> BaseModelOutputWithPast:
        """Run the decoder; `deep` are added where `image_tokens` `[b, t]` is True."""
        positions = given.get("position_ids")
        packed = positions is not None and positions.ndim == 3 and len(positions) == 4
        if given.get("attention_mask") is None and given.get("past_key_values") is None and not packed:
            given["attention_mask"] = torch.ones(
                inputs_embeds.shape[:2], dtype=torch.int64, device=inputs_embeds.device
            )
        if deep:
            given.update(visual_pos_masks=image_tokens, deepstack_visual_embeds=list(deep))
        return self.language_model(inputs_embeds=inputs_embeds, **given)
