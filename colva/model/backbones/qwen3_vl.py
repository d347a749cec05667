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
from transformers import PretrainedConfig, PreTrainedModel, Qwen3VLForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPast

from colva.model.backbones.base import ImageFeatures
from colva.model.backbones.qwen2_vl import QwenBackbone


class Qwen3VLBackbone(QwenBackbone):
    """transformers' `Qwen3VLForConditionalGeneration`."""

    family: ClassVar[str] = "qwen3_vl"
    native: ClassVar[type[PreTrainedModel]] = Qwen3VLForConditionalGeneration

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        # transformers indexes with a mask here, for which it waits for the device in each layer
        self.language_model._deepstack_process = _add_deep_features

    def encode(self, pixel_values: Tensor, image_grid: Tensor | None) -> ImageFeatures:
        """Return tokens `[tokens, d]` of patches and their grids `[images, 3]`, and as many features a layer."""
        if image_grid is None:
            raise ValueError("pixel_values without image_grid: expected [images, 3] for a Qwen-VL model")
        tokens, features = self.model.get_image_features(pixel_values, image_grid)
        return ImageFeatures(torch.cat(list(tokens)), tuple(features))

    def decode(
        self,
        inputs_embeds: Tensor,
        image_positions: Tensor | None = None,
        deep_features: tuple[Tensor, ...] = (),
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Run the decoder; `deep_features` are added at `image_positions` `[n]`, counted row after row."""
        positions = kwargs.get("position_ids")
        is_packed = positions is not None and positions.ndim == 3 and len(positions) == 4
        if kwargs.get("attention_mask") is None and kwargs.get("past_key_values") is None and not is_packed:
            kwargs["attention_mask"] = torch.ones(
                inputs_embeds.shape[:2], dtype=torch.int64, device=inputs_embeds.device
            )
        if deep_features:
            kwargs.update(visual_pos_masks=image_positions, deepstack_visual_embeds=list(deep_features))
        return self.language_model(inputs_embeds=inputs_embeds, **kwargs)


def _add_deep_features(hidden: Tensor, positions: Tensor, features: Tensor) -> Tensor:
    """Return hidden states `[b, t, d]` with features `[n, d]` added at positions `[n]`, or where a mask is true."""
    if positions.dtype == torch.bool:  # from transformers' own model
        positions = positions.flatten().nonzero().flatten()
    return hidden.flatten(0, 1).index_add(0, positions, features.to(hidden.dtype)).view_as(hidden)
