"""Images cut and padded for an encoder: InternVL's tiles, and the experts' canvas.

Images are RGB uint8 `[H, W, 3]` arrays. Results stay uint8 (normalization is the encoder's first step, on its device)
and come with a `Geometry`, which describes how the tokens lie over the image.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from colva.model.token_grid import Geometry, Grid, Span
from colva.processing.published_eval import EvaluatorGeometry, round_down_size, square_grid

# pixels; an image smaller than a few tokens holds no object, and a very large one is a mistake or an attack
MIN_SIDE = 16
MAX_SIDE = 16384
# longest over shortest side; beyond, the short side of a canvas would come to less than a pixel
MAX_ASPECT = 200


def check_image(image: NDArray[np.uint8], name: str = "image") -> None:
    """Raise ValueError unless an image is uint8 `[H, W, 3]` with sides in range; `name` is for the message."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"{name}: {image.dtype} of shape {list(image.shape)}; expected uint8 [height, width, 3]")
    check_image_size(image.shape[1], image.shape[0], name)


def check_image_size(width: int, height: int, name: str = "image") -> None:
    """Raise ValueError unless the sides of an image, in pixels, and their ratio are in range."""
    if min(height, width) < MIN_SIDE or max(height, width) > MAX_SIDE:
        raise ValueError(f"{name}: {width} x {height} pixels; expected sides of {MIN_SIDE} to {MAX_SIDE}")
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f"{name}: {width} x {height} pixels; expected sides within {MAX_ASPECT} to 1")


@lru_cache(maxsize=64)
def _tile_grids(max_tiles: int, min_tiles: int) -> tuple[tuple[int, int], ...]:
    """Return all (columns, rows) of min to max tiles, fewest tiles first."""
    grids = [
        (columns, rows)
        for columns in range(1, max_tiles + 1)
        for rows in range(1, max_tiles + 1)
        if min_tiles <= columns * rows <= max_tiles
    ]
    return tuple(sorted(grids, key=lambda pair: pair[0] * pair[1]))


@lru_cache(maxsize=4096)
def tile_grid(width: int, height: int, max_tiles: int, min_tiles: int = 1, tile: int = 448) -> tuple[int, int]:
    """Return the (columns, rows) whose ratio is nearest to the image's, as InternVL chooses them (arXiv 2404.16821).

    Of grids with the same ratio the larger is taken only when the image has more pixels than half of the
    tiles' area. The thumbnail is not counted.

    Raises:
        ValueError: no grid has between min and max tiles, or a side is not positive.
    """
    if width < 1 or height < 1 or not 1 <= min_tiles <= max_tiles or tile < 1:
        raise ValueError(f"no tiles for {width} x {height} pixels with {min_tiles} to {max_tiles} tiles of {tile}")
    ratio = width / height
    best, nearest = (1, 1), float("inf")
    for columns, rows in _tile_grids(max_tiles, min_tiles):
        distance = abs(ratio - columns / rows)
        if distance < nearest:
            best, nearest = (columns, rows), distance
        elif distance == nearest and width * height > 0.5 * tile * tile * columns * rows:
            best = (columns, rows)
    return best


def tile_image(
    image: NDArray[np.uint8], max_tiles: int, cells: int, min_tiles: int = 1, tile: int = 448, thumbnail: bool = True
) -> tuple[Tensor, Geometry]:
    """Cut an image into tiles: uint8 `[tiles, 3, tile, tile]`, row by row, the thumbnail last when there is one.

    Resized bicubically with anti-aliasing, as published. `cells` is a tile's tokens a side (16 for 448 pixels). A
    image of a single tile gets no thumbnail.

    Raises:
        ValueError: see `check_image`.
    """
    check_image(image)
    height, width = image.shape[:2]
    columns, rows = tile_grid(width, height, max_tiles, min_tiles, tile)
    count = columns * rows
    has_thumbnail = thumbnail and count > 1
    tiles = np.empty((count + has_thumbnail, 3, tile, tile), np.uint8)
    cut = tiles[:count].reshape(rows, columns, 3, tile, tile)
    for channel, sheet in enumerate(cv2.split(_resize(image, columns * tile, rows * tile))):
        cut[:, :, channel] = sheet.reshape(rows, tile, columns, tile).transpose(0, 2, 1, 3)
    grids = [
        Grid(
            Span(cells, height, rows * tile, row * tile, tile), Span(cells, width, columns * tile, column * tile, tile)
        )
        for row in range(rows)
        for column in range(columns)
    ]
    if has_thumbnail:
        tiles[count] = cv2.split(_resize(image, tile, tile))
        grids.append(Grid(Span(cells, height, tile), Span(cells, width, tile)))
    return torch.from_numpy(tiles), Geometry((height, width), tuple(grids))


def _resize(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Return an image resized bicubically with anti-aliasing: uint8 `[height, width, 3]`."""
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def expert_canvas(image: NDArray[np.uint8], side: int, stride: int, published: bool = False) -> tuple[Tensor, Geometry]:
    """Return an image on the experts' canvas: uint8 `[3, side, side]`, its long side `side`, white right and below.

    Resized bicubically with anti-aliasing. The geometry is one grid of (side / stride)² tokens; padding belongs to no
    object. `published`: to the pixel as `colva.processing.published_eval` describes it.

    Raises:
        ValueError: see `check_image`; or the side is not a multiple of the stride.
    """
    check_image(image)
    if side < stride or side % stride:
        raise ValueError(f"canvas of {side} pixels for tokens of {stride}: expected a multiple")
    height, width = image.shape[:2]
    scale = side / max(height, width)
    resized = max(1, round(height * scale)), max(1, round(width * scale))
    if published:
        resized = round_down_size(height, width, side)
    canvas = np.full((3, side, side), 255, np.uint8)
    canvas[:, : resized[0], : resized[1]] = cv2.split(_resize(image, resized[1], resized[0]))
    grid = square_grid((height, width), resized, side, side // stride)
    geometry = EvaluatorGeometry if published else Geometry
    return torch.from_numpy(canvas), geometry((height, width), (grid,))


def paste_on_square(image: NDArray[np.uint8], resized: tuple[int, int], side: int, fill: int) -> NDArray[np.uint8]:
    """Return an image resized to (height, width) pixels, bicubically, in the upper left of a square of one gray."""
    canvas = np.full((side, side, 3), fill, np.uint8)
    height, width = resized
    canvas[:height, :width] = _resize(image, width, height)
    return canvas
