"""LLaVA-1.5 on transformers' native class (arXiv 2310.03744).

A picture is padded to a square with the mean colour, as published, or its middle square is cropped; CLIP encodes it
at 336 pixels, 24 x 24 tokens.

Packed samples: Llama finds restarts in positions `[b, t]` by itself when neither attention_mask nor a cache is given
(use_cache=False), with SDPA too; with any 2-D attention_mask it does not, and then a block-diagonal causal mask
`[b, 1, t, t]` (bool, True to attend) is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlavaConfig, LlavaForConditionalGeneration, PretrainedConfig, PreTrainedModel
from transformers.image_utils import ChannelDimension
from transformers.models.clip.image_processing_clip import CLIPImageProcessor

from colva.model.backbones.base import Backbone, Encoded, Picture, plain_positions
from colva.model.token_grid import Geometry, Grid, Span
from colva.processing.tiling import check_picture

FITS = ("pad", "crop")


@dataclass(frozen=True)
class LlavaPictures:
    """One square a picture by transformers' slow CLIP processor, float32 `[1, 3, side, side]`."""

    processor: CLIPImageProcessor
    side: int
    cells: int
    class_token: bool
    fit: str = "pad"

    def __call__(self, picture: np.ndarray) -> Picture:
        """Prepare one RGB uint8 picture; ValueError when it is none."""
        check_picture(picture)
        height, width = picture.shape[:2]
        if self.fit == "pad":
            square = max(height, width)
            top, left = (square - height) // 2, (square - width) // 2
            # truncated, as LLaVA's expand2square has it
            colour = [int(mean * 255) for mean in self.processor.image_mean]
            canvas = np.full((square, square, 3), colour, np.uint8)
            canvas[top : top + height, left : left + width] = picture
            # in the picture's own pixels, so that no rounding moves its borders
            grid = Grid(Span(self.cells, height, height, -top, square), Span(self.cells, width, width, -left, square))
        else:
            canvas = picture
            short = min(height, width)
            tall, wide = int(self.side * height / short), int(self.side * width / short)
            grid = Grid(
                Span(self.cells, height, tall, (tall - self.side) // 2, self.side),
                Span(self.cells, width, wide, (wide - self.side) // 2, self.side),
            )
        made = self.processor(canvas, input_data_format=ChannelDimension.LAST, return_tensors="np")
        # the class token stands for no part of the picture: one cell that lies outside
        outside = Grid(Span(1, height, height, -1, 1), Span(1, width, width, -1, 1))
        grids = (outside, grid) if self.class_token else (grid,)
        pixels = torch.from_numpy(np.asarray(made["pixel_values"], np.float32))
        return Picture(pixels, (1, self.cells, self.cells), Geometry((height, width), grids))

    def tokens_of(self, width: int, height: int) -> int:
        """The same for every picture."""
        return self.cells**2 + self.class_token

    def positions(self, ids: Tensor, grids: Iterator[tuple[int, int, int]]) -> Tensor:
        """0 .. t-1."""
        return plain_positions(ids)


class LlavaBackbone(Backbone):
    """transformers' `LlavaForConditionalGeneration`."""

    family: ClassVar[str] = "llava"
    image_wrap: ClassVar[tuple[str, str, str]] = ("", "<image>", "")
    model: LlavaForConditionalGeneration

    def __init__(self, config: LlavaConfig) -> None:
        super().__init__(config)
        self.model = LlavaForConditionalGeneration(config)

    @classmethod
    def pictures(cls, config: PretrainedConfig, options: dict[str, Any]) -> LlavaPictures:
        """Options: `fit`, `pad` (default) or `crop`."""
        fit = options.get("fit", "pad")
        if set(options) - {"fit"} or fit not in FITS:
            raise ValueError(f"pictures: {options}; expected fit, one of {', '.join(FITS)}")
        vision = config.vision_config
        if vision.model_type != "clip_vision_model":
            raise ValueError(f"vision_config.model_type: {vision.model_type!r}; expected clip_vision_model")
        side, patch = int(vision.image_size), int(vision.patch_size)
        if side % patch:
            raise ValueError(f"vision_config.image_size: {side}; expected a multiple of patch_size {patch}")
        processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        return LlavaPictures(processor, side, side // patch, config.vision_feature_select_strategy == "full", fit)

    def encode(self, pixel_values: Tensor, image_grid: Tensor | None = None) -> Encoded:
        """Squares `[n, 3, s, s]` to tokens `[n, tokens, d]`, of the layers that the configuration names."""
        return Encoded(torch.stack(list(self.model.get_image_features(pixel_values=pixel_values.to(self.model.dtype)))))

    @property
    def language_model(self) -> PreTrainedModel:
        """The text model."""
        return self.model.model.language_model

    @property
    def frozen_parts(self) -> tuple[nn.Module, ...]:
        """CLIP and the projector."""
        return self.model.model.vision_tower, self.model.model.multi_modal_projector
