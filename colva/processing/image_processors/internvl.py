"""InternVL: tiles of 448 pixels by the closest aspect ratio, and a thumbnail (arXiv 2404.16821)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PretrainedConfig

from colva.model.positions import ImageGrid, sequential_positions
from colva.processing.image_processors.base import PreparedImage, check_image_options
from colva.processing.tiling import check_image_size, tile_grid, tile_image


@dataclass(frozen=True)
class InternVLImageProcessor:
    """Cuts an image into uint8 tiles; the model normalizes them.

    Attributes:
        tile: pixels a side of a tile.
        cells: tokens a side of a tile.
        max_tiles, min_tiles: bounds of the number of tiles, the thumbnail not counted.
        thumbnail: append the whole image as one more tile when there are several.
    """

    tile: int
    cells: int
    max_tiles: int = 12
    min_tiles: int = 1
    thumbnail: bool = True

    def __call__(self, image: NDArray[np.uint8]) -> PreparedImage:
        """Cut one RGB uint8 `[H, W, 3]` image."""
        tiles, geometry = tile_image(image, self.max_tiles, self.cells, self.min_tiles, self.tile, self.thumbnail)
        return PreparedImage(tiles, (len(tiles), self.cells, self.cells), geometry)

    def count_tokens(self, width: int, height: int) -> int:
        """Return the number of tokens of all tiles and the thumbnail."""
        check_image_size(width, height)
        columns, rows = tile_grid(width, height, self.max_tiles, self.min_tiles, self.tile)
        tiles = columns * rows
        return (tiles + (self.thumbnail and tiles > 1)) * self.cells**2

    def position_ids(self, ids: Tensor, grids: Iterator[ImageGrid]) -> Tensor:
        """Return 0 .. t-1."""
        return sequential_positions(ids)


def build_internvl_processor(config: PretrainedConfig, options: dict[str, Any]) -> InternVLImageProcessor:
    """Build the processor of a native configuration; options: `max_tiles`, `min_tiles`, `thumbnail`.

    Raises:
        OptionError: an unknown option, or a value of another type.
    """
    check_image_options(options, {"max_tiles": int, "min_tiles": int, "thumbnail": bool})
    vision = config.vision_config
    tile, patch = int(vision.image_size[0]), int(vision.patch_size[0])
    return InternVLImageProcessor(tile, int(tile // patch * config.downsample_ratio), **options)
