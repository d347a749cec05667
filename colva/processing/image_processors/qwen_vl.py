"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: images of any size as patches (arXiv 2409.12191, 2502.13923).

An image is resized to a multiple of two patches a side and cut into patches; 2 x 2 patches become one token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PretrainedConfig
from transformers.image_utils import ChannelDimension
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor, smart_resize

from colva.model.positions import ImageGrid, rotary_positions_3d, sequential_positions
from colva.model.token_grid import Geometry, Grid, Span
from colva.processing.image_processors.base import PreparedImage, check_image_options
from colva.processing.published_eval import round_down_size, square_grid
from colva.processing.tiling import check_image, check_image_size, paste_on_square

PUBLISHED_FIELDS: dict[str, dict[str, Any]] = {
    "qwen3_vl": {
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "min_pixels": 65536,
        "max_pixels": 16777216,
    },
}
"""Fields of a published preprocessor_config.json that differ from transformers' defaults, by `model_type`."""


@dataclass(frozen=True)
class QwenImageProcessor:
    """Cuts an image into patches with transformers' slow processor, float32 `[patches, channels * time * patch²]`.

    Attributes:
        processor: transformers' own.
        image_token_id: id of the image token, for the positions.
        square: side in pixels of the black square that an image is padded to first, as in the published evaluation,
            which also counts positions as in text; 0 for none.
    """

    processor: Qwen2VLImageProcessor
    image_token_id: int
    square: int = 0

    def __call__(self, image: NDArray[np.uint8]) -> PreparedImage:
        """Cut one RGB uint8 `[H, W, 3]` image; ValueError too when its long side is over 200 times its short side."""
        check_image(image)
        height, width = image.shape[:2]
        resized = (height, width)
        if self.square:
            resized = round_down_size(height, width, self.square)
            image = paste_on_square(image, resized, self.square, 0)
        processed = self.processor(image, input_data_format=ChannelDimension.LAST, return_tensors="np")
        time, rows, columns = (int(n) for n in processed["image_grid_thw"][0])
        patch, merge = self.processor.patch_size, self.processor.merge_size
        if self.square:
            grid = square_grid((height, width), resized, self.square, rows // merge)
        else:
            grid = Grid(Span(rows // merge, height, rows * patch), Span(columns // merge, width, columns * patch))
        pixels = torch.from_numpy(np.asarray(processed["pixel_values"], np.float32))
        return PreparedImage(pixels, (time, rows, columns), Geometry((height, width), (grid,) * time))

    def count_tokens(self, width: int, height: int) -> int:
        """Return the number of tokens after 2 x 2 patches are merged."""
        check_image_size(width, height)
        if self.square:
            width = height = self.square
        sizes = self.processor.size
        side = self.processor.patch_size * self.processor.merge_size
        tall, wide = smart_resize(height, width, side, sizes["shortest_edge"], sizes["longest_edge"])
        return int(tall // side) * int(wide // side)

    def position_ids(self, ids: Tensor, grids: Iterator[ImageGrid]) -> Tensor:
        """Return 3-D rotary positions `[3, t]`; see `colva.model.positions.rotary_positions_3d`."""
        if self.square:
            return sequential_positions(ids).expand(3, -1)
        return rotary_positions_3d(ids, grids, self.image_token_id, int(self.processor.merge_size))


def build_qwen_processor(config: PretrainedConfig, options: dict[str, Any]) -> QwenImageProcessor:
    """Build the processor of a native configuration; options: `min_pixels`, `max_pixels` of the resized image.

    Raises:
        OptionError: an unknown option, or a value of another type.
    """
    check_image_options(options, {"min_pixels": int, "max_pixels": int})
    vision = config.vision_config
    fields = {
        **PUBLISHED_FIELDS.get(config.model_type, {}),
        **options,
        "patch_size": vision.patch_size,
        "temporal_patch_size": vision.temporal_patch_size,
        "merge_size": vision.spatial_merge_size,
    }
    return QwenImageProcessor(Qwen2VLImageProcessor(**fields), config.image_token_id)
