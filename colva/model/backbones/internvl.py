"""InternVL2, 2.5, 3 and 3.5 on transformers' native InternVL, with any text model that it can carry.

Tiles of 448 pixels and a thumbnail, each 32 x 32 patches, pixel-shuffled to 16 x 16 tokens (arXiv 2404.16821).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import InternVLConfig, InternVLForConditionalGeneration, PretrainedConfig, PreTrainedModel

from colva.model.backbones.base import Backbone, Encoded, Picture, plain_positions
from colva.model.experts.base import imagenet_normalise, in_unit
from colva.processing.tiling import tile_grid, tile_picture


@dataclass(frozen=True)
class InternVLPictures:
    """Tiles by the closest aspect ratio, uint8; the model normalises them."""

    tile: int
    cells: int
    max_tiles: int = 12
    min_tiles: int = 1
    thumbnail: bool = True

    def __call__(self, picture: np.ndarray) -> Picture:
        """Cut one picture."""
        tiles, geometry = tile_picture(picture, self.max_tiles, self.cells, self.min_tiles, self.tile, self.thumbnail)
        return Picture(tiles, (len(tiles), self.cells, self.cells), geometry)

    def tokens_of(self, width: int, height: int) -> int:
        """Tokens of all tiles and the thumbnail."""
        columns, rows = tile_grid(width, height, self.max_tiles, self.min_tiles, self.tile)
        tiles = columns * rows
        return (tiles + (self.thumbnail and tiles > 1)) * self.cells**2

    def positions(self, ids: Tensor, grids: Iterator[tuple[int, int, int]]) -> Tensor:
        """0 .. t-1."""
        return plain_positions(ids)


class InternVLBackbone(Backbone):
    """transformers' `InternVLForConditionalGeneration`."""

    family: ClassVar[str] = "internvl"
    image_wrap: ClassVar[tuple[str, str, str]] = ("<img>", "<IMG_CONTEXT>", "</img>")
    model: InternVLForConditionalGeneration

    def __init__(self, config: InternVLConfig) -> None:
        super().__init__(config)
        self.model = InternVLForConditionalGeneration(config)

    @classmethod
    def pictures(cls, config: PretrainedConfig, options: dict[str, Any]) -> InternVLPictures:
        """Options: `max_tiles`, `min_tiles`, `thumbnail`."""
        vision = config.vision_config
        tile, patch = int(vision.image_size[0]), int(vision.patch_size[0])
        return InternVLPictures(tile, int(tile // patch * config.downsample_ratio), **options)

    def encode(self, pixel_values: Tensor, image_grid: Tensor | None = None) -> Encoded:
        """Tiles `[n, 3, s, s]` (uint8, or floats that are already normalised) to tokens `[n, 256, d]`."""
        if pixel_values.dtype == torch.uint8:
            pixel_values = imagenet_normalise(in_unit(pixel_values), self.model.dtype)
        return Encoded(self.model.get_image_features(pixel_values=pixel_values))

    @property
    def language_model(self) -> PreTrainedModel:
        """The text model."""
        return self.model.model.language_model

    @property
    def frozen_parts(self) -> tuple[nn.Module, ...]:
        """InternViT and `mlp1`."""
        return self.model.model.vision_tower, self.model.model.multi_modal_projector
