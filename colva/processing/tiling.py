"""Pictures cut to what an encoder takes: InternVL's tiles, and the experts' padded canvas.

Pictures are RGB uint8 `[H, W, 3]` arrays; what comes out stays uint8 (normalising is the encoder's first step, on its
own device), and how its tokens lie over the picture goes with it as a `Geometry`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from colva.model.token_grid import Geometry, Grid, Span

# a picture smaller than a few tokens holds no object, and a very large one is a mistake or an attack
SMALLEST = 16
LARGEST = 16384
# longest over shortest side; beyond, the short side of a canvas would come to less than a pixel
STEEPEST = 200


def check_image(picture: np.ndarray, what: str = "image") -> None:
    """Refuse what no encoder here can take: wrong shape or dtype, or sides out of range (ValueError)."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"{what}: {picture.dtype} of shape {list(picture.shape)}; expected uint8 [height, width, 3]")
    height, width = picture.shape[:2]
    if min(height, width) < SMALLEST or max(height, width) > LARGEST:
        raise ValueError(f"{what}: {width} x {height} pixels; expected sides of {SMALLEST} to {LARGEST}")
    if max(height, width) > STEEPEST * min(height, width):
        raise ValueError(f"{what}: {width} x {height} pixels; expected sides within {STEEPEST} to 1")


@lru_cache(maxsize=64)
def _arrangements(max_tiles: int, min_tiles: int) -> tuple[tuple[int, int], ...]:
    """All (columns, rows) of min to max tiles, fewest tiles first."""
    found = [
        (columns, rows)
        for columns in range(1, max_tiles + 1)
        for rows in range(1, max_tiles + 1)
        if min_tiles <= columns * rows <= max_tiles
    ]
    return tuple(sorted(found, key=lambda pair: pair[0] * pair[1]))


@lru_cache(maxsize=4096)
def tile_grid(width: int, height: int, max_tiles: int, min_tiles: int = 1, tile: int = 448) -> tuple[int, int]:
    """The (columns, rows) whose ratio is nearest to the picture's, as InternVL chooses them (arXiv 2404.16821).

    Of arrangements with the same ratio the larger is taken only when the picture has more pixels than half of the
    tiles' area. The thumbnail is not counted.

    Raises:
        ValueError: no arrangement has between min and max tiles, or a side is not positive.
    """
    if width < 1 or height < 1 or not 1 <= min_tiles <= max_tiles or tile < 1:
        raise ValueError(f"no tiles for {width} x {height} pixels with {min_tiles} to {max_tiles} tiles of {tile}")
    ratio = width / height
    best, nearest = (1, 1), float("inf")
    for columns, rows in _arrangements(max_tiles, min_tiles):
        distance = abs(ratio - columns / rows)
        if distance < nearest:
            best, nearest = (columns, rows), distance
        elif distance == nearest and width * height > 0.5 * tile * tile * columns * rows:
            best = (columns, rows)
    return best


def tile_image(
    picture: np.ndarray, max_tiles: int, cells: int, min_tiles: int = 1, tile: int = 448, thumbnail: bool = True
) -> tuple[Tensor, Geometry]:
    """Cut a picture into tiles: uint8 `[tiles, 3, tile, tile]`, row by row, the thumbnail last when there is one.

    Resized bicubically with anti-aliasing, as published. `cells` is a tile's tokens a side (16 for 448 pixels). A
    picture of a single tile gets no thumbnail.

    Raises:
        ValueError: the picture is not one (see `check_image`).
    """
    check_image(picture)
    height, width = picture.shape[:2]
    columns, rows = tile_grid(width, height, max_tiles, min_tiles, tile)
    full = Image.fromarray(picture)
    sheet = np.asarray(full.resize((columns * tile, rows * tile), Image.Resampling.BICUBIC))
    tiles = sheet.reshape(rows, tile, columns, tile, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, tile, tile)
    grids = [
        Grid(
            Span(cells, height, rows * tile, row * tile, tile), Span(cells, width, columns * tile, column * tile, tile)
        )
        for row in range(rows)
        for column in range(columns)
    ]
    if thumbnail and len(tiles) > 1:
        small = np.asarray(full.resize((tile, tile), Image.Resampling.BICUBIC))
        tiles = np.concatenate([tiles, small.transpose(2, 0, 1)[None]])
        grids.append(Grid(Span(cells, height, tile), Span(cells, width, tile)))
    return torch.from_numpy(np.ascontiguousarray(tiles)), Geometry((height, width), tuple(grids))


def expert_canvas(picture: np.ndarray, side: int, stride: int) -> tuple[Tensor, Geometry]:
    """A picture on the experts' square canvas: uint8 `[3, side, side]`, its long side `side`, white right and below.

    Resized bicubically with anti-aliasing. The geometry is one grid of (side / stride)² tokens; padding belongs to no
    object.

    Raises:
        ValueError: the picture is not one, or the side is no multiple of the stride.
    """
    check_image(picture)
    if side < stride or side % stride:
        raise ValueError(f"canvas of {side} pixels for tokens of {stride}: expected a multiple")
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    canvas = np.full((side, side, 3), 255, np.uint8)
    if (new_height, new_width) == (height, width):
        canvas[:height, :width] = picture
    else:
        resized = Image.fromarray(picture).resize((new_width, new_height), Image.Resampling.BICUBIC)
        canvas[:new_height, :new_width] = np.asarray(resized)
    cells = side // stride
    grid = Grid(Span(cells, height, new_height, 0, side), Span(cells, width, new_width, 0, side))
    return torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1))), Geometry((height, width), (grid,))
