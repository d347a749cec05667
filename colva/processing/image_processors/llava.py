"""LLaVA-1.5: one square an image, 336 pixels, 24 x 24 tokens by CLIP (arXiv 2310.03744).

An image is padded to a square with the mean color, as published, or its middle square is cropped.
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
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.siglip.image_processing_siglip import SiglipImageProcessor

from colva.model.experts.base import IMAGENET_MEAN, IMAGENET_STD
from colva.model.positions import ImageGrid, sequential_positions
from colva.model.token_grid import Geometry, Grid, Span
from colva.model.vision_tower import ExpertTowerConfig
from colva.processing.image_processors.base import PreparedImage, check_image_options
from colva.processing.tiling import check_image, check_image_size
from mmvm_data.core.options import OptionError

FITS = ("pad", "crop")


@dataclass(frozen=True)
class LlavaImageProcessor:
    """Prepares one square an image with transformers' slow processors, float32 `[1, 3, side, side]`.

    Attributes:
        processor: transformers' own, of the vision tower.
        side: pixels a side of the square.
        cells: tokens a side of the square.
        class_token: whether CLIP's class token is one of the image tokens, the first.
        fit: `pad` or `crop`, how an image becomes a square.
        covered: pixels a side that the tokens cover, from the top left; None for the whole square.
        newline: whether a newline is one of the image tokens, the last.
    """

    processor: CLIPImageProcessor | SiglipImageProcessor
    side: int
    cells: int
    class_token: bool
    fit: str = "pad"
    covered: int | None = None
    newline: bool = False

    def __call__(self, image: NDArray[np.uint8]) -> PreparedImage:
        """Prepare one RGB uint8 `[H, W, 3]` image."""
        check_image(image)
        height, width = image.shape[:2]
        if self.fit == "pad":
            square = max(height, width)
            top, left = (square - height) // 2, (square - width) // 2
            # truncated, as in LLaVA's expand2square
            color = [int(mean * 255) for mean in self.processor.image_mean]
            canvas: NDArray[np.uint8] = np.full((square, square, 3), color, np.uint8)
            canvas[top : top + height, left : left + width] = image
            # in the image's own pixels, so that no rounding moves its borders
            window = square if self.covered is None else round(square * self.covered / self.side)
            grid = Grid(Span(self.cells, height, height, -top, window), Span(self.cells, width, width, -left, window))
        else:
            canvas = image
            short = min(height, width)
            tall, wide = int(self.side * height / short), int(self.side * width / short)
            grid = Grid(
                Span(self.cells, height, tall, (tall - self.side) // 2, self.side),
                Span(self.cells, width, wide, (wide - self.side) // 2, self.side),
            )
        processed = self.processor(canvas, input_data_format=ChannelDimension.LAST, return_tensors="np")
        # class token and newline stand for no part of the image: one cell that lies outside
        outside = Grid(Span(1, height, height, -1, 1), Span(1, width, width, -1, 1))
        grids = (outside,) * self.class_token + (grid,) + (outside,) * self.newline
        pixels = torch.from_numpy(np.asarray(processed["pixel_values"], np.float32))
        return PreparedImage(pixels, (1, self.cells, self.cells), Geometry((height, width), grids))

    def count_tokens(self, width: int, height: int) -> int:
        """Return the number of tokens, the same for every image."""
        check_image_size(width, height)
        return self.cells**2 + self.class_token + self.newline

    def position_ids(self, ids: Tensor, grids: Iterator[ImageGrid]) -> Tensor:
        """Return 0 .. t-1."""
        return sequential_positions(ids)


def build_llava_processor(config: PretrainedConfig, options: dict[str, Any]) -> LlavaImageProcessor:
    """Build the processor of a native configuration; option: `fit`, `pad` (default) or `crop`.

    Raises:
        OptionError: an unknown option or value.
        ValueError: a vision tower other than CLIP or a vision expert's network, or an image size that is not a multiple
            of the patch size.
    """
    check_image_options(options, {"fit": str})
    fit = options.get("fit", "pad")
    if fit not in FITS:
        raise OptionError("pictures", f"must be fit, one of {', '.join(FITS)}; got {options}")
    vision = config.vision_config
    towers = ("clip_vision_model", ExpertTowerConfig.model_type)
    if vision.model_type not in towers:
        raise ValueError(f"vision_config.model_type: {vision.model_type!r}; expected {' or '.join(towers)}")
    is_clip = vision.model_type == towers[0]
    side, patch = (int(size if isinstance(size, int) else size[0]) for size in (vision.image_size, vision.patch_size))
    if side % patch:
        raise ValueError(f"vision_config.image_size: {side}; expected a multiple of patch_size {patch}")
    colors = {} if is_clip else {"image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)}
    processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}, **colors)
    class_token = is_clip and config.vision_feature_select_strategy == "full"
    return LlavaImageProcessor(processor, side, side // patch, class_token, fit)
