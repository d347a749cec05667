"""Qwen2-VL and Qwen2.5-VL on transformers' native classes (arXiv 2409.12191, 2502.13923).

A picture is resized to a multiple of two patches a side, cut into patches, and 2 x 2 patches become one token. Text
counts on all three rotary axes alike; the tokens of a picture share their time and differ in row and column; what
follows a picture goes on from the largest of its positions.

Packed samples (positions that begin anew): these text models look for restarts only in positions `[4, b, t]`, whose
first row counts 0.. within each sample, and only when neither attention_mask nor a cache is given (use_cache=False).
With `[3, b, t]` and SDPA a packed row attends over its borders unless a block-diagonal causal mask `[b, 1, t, t]` is
given (bool, True to attend).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
)
from transformers.image_utils import ChannelDimension
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor, smart_resize

from colva.model.backbones.base import Backbone, Encoded, Picture
from colva.model.token_grid import Geometry, Grid, Span
from colva.processing.tiling import check_picture


@dataclass(frozen=True)
class QwenPictures:
    """Patches by transformers' slow image processor, float32 `[patches, channels * time * patch * patch]`."""

    processor: Qwen2VLImageProcessor
    image_token_id: int

    def __call__(self, picture: np.ndarray) -> Picture:
        """Cut one RGB uint8 picture; ValueError when it is none, or longer than 200 times its short side."""
        check_picture(picture)
        made = self.processor(picture, input_data_format=ChannelDimension.LAST, return_tensors="np")
        time, rows, columns = (int(n) for n in made["image_grid_thw"][0])
        height, width = picture.shape[:2]
        patch, merge = self.processor.patch_size, self.processor.merge_size
        grid = Grid(Span(rows // merge, height, rows * patch), Span(columns // merge, width, columns * patch))
        pixels = torch.from_numpy(np.asarray(made["pixel_values"], np.float32))
        return Picture(pixels, (time, rows, columns), Geometry((height, width), (grid,) * time))

    def tokens_of(self, width: int, height: int) -> int:
        """Tokens after 2 x 2 patches are joined."""
        made = self.processor
        side = made.patch_size * made.merge_size
        tall, wide = smart_resize(height, width, side, made.size["shortest_edge"], made.size["longest_edge"])
        return (tall // side) * (wide // side)

    def positions(self, ids: Tensor, grids: Iterator[tuple[int, int, int]]) -> Tensor:
        """3-D rotary positions `[3, t]` (time, row, column) of one unpadded sample `[t]`.

        Raises:
            ValueError: fewer grids than pictures in the ids, or a picture whose tokens are not as many as its grid's.
        """
        merge = self.processor.merge_size
        places = (ids == self.image_token_id).nonzero().flatten()
        # each token's distance from the sample's begin, shortened for what pictures before it save
        positions = torch.arange(len(ids), dtype=torch.int64).expand(3, -1).clone()
        done = 0
        while done < len(places):
            shape = next(grids, None)
            if shape is None:
                raise ValueError(f"image tokens from token {int(places[done])} on, but no image_grid is left for them")
            time, rows, columns = shape[0], shape[1] // merge, shape[2] // merge
            count = time * rows * columns
            first = int(places[done])
            found = places[done : done + count]
            if len(found) < count or int(found[-1]) - first != count - 1:
                raise ValueError(
                    f"the picture at token {first}: expected {count} image tokens in a row for image_grid {list(shape)}"
                )
            axes = (torch.arange(time), torch.arange(rows), torch.arange(columns))
            start = int(positions[0, first])
            positions[:, first : first + count] = torch.cartesian_prod(*axes).T + start
            positions[:, first + count :] += max(time, rows, columns) - count
            done += count
        return positions


class QwenBackbone(Backbone):
    """What all Qwen-VL families share."""

    native: ClassVar[type[PreTrainedModel]]
    processor: ClassVar[dict[str, Any]] = {}
    """Fields of the published image processor that differ from transformers' defaults."""
    image_wrap: ClassVar[tuple[str, str, str]] = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.model = self.native(config)

    @classmethod
    def pictures(cls, config: PretrainedConfig, options: dict[str, Any]) -> QwenPictures:
        """Options: `min_pixels`, `max_pixels` of the resized picture."""
        unknown = set(options) - {"min_pixels", "max_pixels"}
        if unknown:
            raise ValueError(f"pictures: {', '.join(sorted(unknown))} unknown; expected min_pixels, max_pixels")
        vision = config.vision_config
        fields = {
            **cls.processor,
            **options,
            "patch_size": vision.patch_size,
            "temporal_patch_size": vision.temporal_patch_size,
            "merge_size": vision.spatial_merge_size,
        }
        return QwenPictures(Qwen2VLImageProcessor(**fields), config.image_token_id)

    def encode(self, pixel_values: Tensor, image_grid: Tensor | None) -> Encoded:
        """Patches and their grids `[pictures, 3]` to tokens `[tokens, d]`."""
        if image_grid is None:
            raise ValueError("pixel_values without image_grid: expected [pictures, 3] for a Qwen-VL model")
        return Encoded(torch.cat(list(self.model.get_image_features(pixel_values, image_grid))))

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
