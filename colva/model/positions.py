"""Position ids of one unpadded sample, computed from its token ids alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

ImageGrid = tuple[int, int, int]
"""(time or tiles, rows, columns) of an image before its tokens are merged."""


def sequential_positions(ids: Tensor) -> Tensor:
    """Return 0 .. t-1 (int64 `[t]`) for ids `[t]`: positions of a family without rotary positions in space."""
    return torch.arange(ids.shape[-1], dtype=torch.int64)


def rotary_positions_3d(ids: Tensor, grids: Iterator[ImageGrid], image_token_id: int, merge_size: int) -> Tensor:
    """Return Qwen-VL's 3-D rotary positions, int64 `[3, t]` (time, row, column), of ids `[t]` (arXiv 2409.12191).

    Text counts on all three axes alike. The tokens of an image share their time and differ in row and column. Text
    after an image continues from the largest position of the image.

    Args:
        ids: token ids of one unpadded sample.
        grids: image grids; one is taken for each image in the ids.
        image_token_id: id of the image token.
        merge_size: patches a side that become one token.

    Raises:
        ValueError: fewer grids than images in the ids, or an image whose token count is not that of its grid.
    """
    image_positions = (ids == image_token_id).nonzero().flatten()
    # each token's distance from the start of the sample, minus what the images before it save
    positions = torch.arange(len(ids), dtype=torch.int64).expand(3, -1).clone()
    done = 0
    while done < len(image_positions):
        first = int(image_positions[done])
        shape = next(grids, None)
        if shape is None:
            raise ValueError(f"image tokens from token {first} on, but no image_grid is left for them")
        time, rows, columns = shape[0], shape[1] // merge_size, shape[2] // merge_size
        count = time * rows * columns
        tokens = image_positions[done : done + count]
        if len(tokens) < count or int(tokens[-1]) - first != count - 1:
            raise ValueError(
                f"the image at token {first}: expected {count} image tokens in a row for image_grid {list(shape)}"
            )
        axes = (torch.arange(time), torch.arange(rows), torch.arange(columns))
        start = int(positions[0, first])
        positions[:, first : first + count] = torch.cartesian_prod(*axes).T + start
        positions[:, first + count :] += max(time, rows, columns) - count
        done += count
    return positions
