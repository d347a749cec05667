"""Object embeddings: the tokens under each mask, averaged."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from colva.model.token_grid import THRESHOLD, full_image_grid

Keys = Literal["model", "adapter"]
"""Whose pooled embeddings objects are matched with in stage 1: the frozen multimodal encoder's (published), or the
adapter's own."""

# published: sum / (count + 1e-4)
EPSILON = 1e-4


def mask_pool(
    tokens: Tensor, masks: Tensor, grid: tuple[int, int], threshold: float = THRESHOLD
) -> tuple[Tensor, Tensor]:
    """Pool the tokens of one image under each of n masks (arXiv 2501.04670, section 4).

    A mask is sampled bilinearly (no align-corners) at the token grid and kept where it is above the threshold; an
    embedding is the sum of the kept tokens over their number plus 1e-4.

    Args:
        tokens: `[h*w, c]`, row by row.
        masks: `[n, H, W]`, any size; bool, integer (non-zero is the object) or float in 0..1.
        grid: (h, w).
        threshold: in 0..1.

    Returns:
        Embeddings `[n, c]` in the dtype of the tokens (zero where no token was kept), and valid `[n]` bool.

    Raises:
        ValueError: the tokens do not fill the grid, or the masks are not three-dimensional.
    """
    if tokens.ndim != 2 or tokens.shape[0] != grid[0] * grid[1]:
        raise ValueError(f"tokens of shape {list(tokens.shape)} for a grid of {grid[0]} x {grid[1]}")
    if masks.ndim != 3:
        raise ValueError(f"masks of shape {list(masks.shape)}: expected [n, H, W]")
    cells = full_image_grid((masks.shape[1], masks.shape[2]), grid).token_mask(masks, threshold)
    return pool_tokens(tokens, cells)


def pool_tokens(tokens: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Average tokens `[..., k, c]` over cells `[..., n, k]` (bool): embeddings `[..., n, c]` and valid `[..., n]`.

    One matrix product, without a tensor of size n * k * c. It accumulates in float32 for any dtype; autocast is off.
    """
    with torch.autocast(tokens.device.type, enabled=False):
        total = cells.to(tokens.dtype) @ tokens
    count = cells.sum(dim=-1, keepdim=True)
    return (total / (count + EPSILON)).to(tokens.dtype), count.squeeze(-1) > 0


def pool_objects(
    tokens: Tensor, cells: Tensor, images: Tensor, max_objects: int | None = None
) -> tuple[Tensor, Tensor]:
    """Pool the objects of many images at once.

    Args:
        tokens: `[i, k, c]`, the tokens of i images.
        cells: `[n, k]` bool, the tokens that each of n objects covers in its image.
        images: `[n]` int64, each object's image, in ascending order.
        max_objects: the largest number of objects in one image; None synchronizes with the device to find it.

    Returns:
        Embeddings `[n, c]` and valid `[n]`, in the order of the objects.
    """
    if len(cells) == 0:
        return tokens.new_zeros(0, tokens.shape[-1]), cells.new_zeros(0, dtype=torch.bool)
    # not bincount, which waits for the device
    counts = images.new_zeros(tokens.shape[0]).index_add_(0, images, torch.ones_like(images))
    if max_objects is None:
        max_objects = int(counts.max())
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(cells), device=cells.device) - first[images]
    slots = cells.new_zeros(tokens.shape[0], max_objects, tokens.shape[1])
    slots[images, rank] = cells
    embeddings, valid = pool_tokens(tokens, slots)
    return embeddings[images, rank], valid[images, rank]
