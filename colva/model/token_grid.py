"""Token grids over an image, and the tokens that an object covers.

Every encoder has one or more token grids over an image: one over a padded canvas (the experts), one over a resized
image (Qwen-VL, LLaVA), or one for each tile and the thumbnail (InternVL). A mask is mapped to a grid in two steps, as
published: nearest-exact to the encoder's pixels, then bilinearly (no align-corners) to the grid. Both are separable and
read four pixels a token, so masks are sampled at these pixels and never resized.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

THRESHOLD = 0.55
"""A token belongs to an object when the mask's bilinear sample is above this (arXiv 2501.04670)."""


@dataclass(frozen=True)
class Span:
    """One axis of a token grid over one axis of an image.

    The image's `length` pixels are resized to `resized` pixels; the grid's `cells` tokens cover `window` of them (None:
    all), from `start`. A window may reach outside the resized image; no object covers that part.
    """

    cells: int
    length: int
    resized: int
    start: int = 0
    window: int | None = None

    @lru_cache(maxsize=4096)  # noqa: B019 (small, and spans repeat)
    def samples(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return source pixels `[2 * cells]` (low neighbors, then high ones), their weights, and which are inside.

        Weights are float32 as in torch's interpolate; pixels outside have index 0 and weight 0. The tensors are cached:
        do not write to them.
        """
        window = self.resized if self.window is None else self.window
        scale = torch.tensor(window / self.cells, dtype=torch.float32)
        position = ((torch.arange(self.cells, dtype=torch.float32) + 0.5) * scale - 0.5).clamp(min=0)
        low = position.to(torch.int64).clamp(max=window - 1)
        high = (low + 1).clamp(max=window - 1)
        fraction = position - low
        pixel = torch.cat([low, high]) + self.start
        weight = torch.cat([1 - fraction, fraction])
        inside = (pixel >= 0) & (pixel < self.resized)
        # nearest-exact: the source pixel under the center of the resized one, in integers so that nothing rounds
        source = ((2 * pixel + 1) * self.length).div(2 * self.resized, rounding_mode="floor")
        source = torch.where(inside, source.clamp(0, self.length - 1), 0)
        return source, torch.where(inside, weight, 0.0), inside

    def cell_of(self, pixels: Tensor) -> Tensor:
        """Return the cell that each pixel of the image (int64) lies in; -1 for those outside the window."""
        window = self.resized if self.window is None else self.window
        position = ((2 * pixels + 1) * self.resized).div(2 * self.length, rounding_mode="floor") - self.start
        cell = (position * self.cells).div(window, rounding_mode="floor")
        return torch.where((position >= 0) & (position < window), cell, -1)

    def visible_pixels(self) -> slice:
        """Return the slice of the image's pixels under the window."""
        window = self.resized if self.window is None else self.window
        first = max(0, self.start) * self.length // self.resized
        last = -(-min(self.resized, self.start + window) * self.length // self.resized)
        return slice(first, max(first, last))


@dataclass(frozen=True)
class Grid:
    """One token grid: the spans of its rows and of its columns."""

    rows: Span
    columns: Span

    @property
    def num_tokens(self) -> int:
        """Number of tokens of the grid."""
        return self.rows.cells * self.columns.cells


@dataclass(frozen=True)
class Geometry:
    """All token grids of one image, in the order of its tokens (row by row inside each).

    `size` is (height, width) of the image and of its masks, in pixels.
    """

    size: tuple[int, int]
    grids: tuple[Grid, ...] = field(default=())

    @property
    def num_tokens(self) -> int:
        """Number of tokens of the image."""
        return sum(grid.num_tokens for grid in self.grids)

    def token_mask(self, masks: Tensor, threshold: float = THRESHOLD, fill_empty: bool = False) -> Tensor:
        """Return the tokens that objects cover, bool `[n, tokens]`.

        Args:
            masks: `[n, H, W]`; bool, integer (non-zero is the object) or float in 0..1.
            threshold: of the bilinear sample, in 0..1.
            fill_empty: an object that covers no token by the threshold gets the one that most of its pixels lie in.

        Raises:
            ValueError: the masks have another size than the image.
        """
        if masks.ndim != 3 or tuple(masks.shape[1:]) != self.size:
            raise ValueError(
                f"masks of shape {list(masks.shape)} for an image of {self.size[1]} x {self.size[0]}: "
                f"expected [n, {self.size[0]}, {self.size[1]}]"
            )
        if not self.grids:
            return torch.zeros(len(masks), 0, dtype=torch.bool, device=masks.device)
        tokens = torch.cat([mask_coverage(masks, grid) > threshold for grid in self.grids], dim=1)
        if fill_empty:
            for number in (~tokens.any(dim=1)).nonzero()[:, 0].tolist():
                counts = self._count_pixels(masks[number])
                if counts.any():
                    tokens[number, counts.argmax()] = True
        return tokens

    def _count_pixels(self, mask: Tensor) -> Tensor:
        """Return how many pixels of a mask `[H, W]` lie in each token, int64 `[tokens]`."""
        y, x = (mask != 0).nonzero(as_tuple=True)
        counts = []
        for grid in self.grids:
            row, column = grid.rows.cell_of(y), grid.columns.cell_of(x)
            cell = (row * grid.columns.cells + column)[(row >= 0) & (column >= 0)]
            counts.append(torch.bincount(cell, minlength=grid.num_tokens))
        return torch.cat(counts)

    def is_out_of_view(self, masks: Tensor) -> Tensor:
        """Return which masks `[n, H, W]` have no pixel under any grid (empty, or cropped away): bool `[n]`."""
        is_visible = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
        for grid in self.grids:
            is_visible |= (
                masks[:, grid.rows.visible_pixels(), grid.columns.visible_pixels()].flatten(1).any(dim=1).bool()
            )
        return ~is_visible


def mask_coverage(masks: Tensor, grid: Grid) -> Tensor:
    """Return the bilinear sample of masks `[n, H, W]` at each token of a grid: float32 `[n, tokens]` in 0..1."""
    y, x = grid.rows.samples()[0], grid.columns.samples()[0]
    return bilinear_coverage(masks[:, y.to(masks.device)[:, None], x.to(masks.device)[None, :]], grid)


def bilinear_coverage(samples: Tensor, grid: Grid) -> Tensor:
    """Return `mask_coverage` of masks given only at the grid's source pixels, `[n, 2 * rows, 2 * columns]`."""
    device = samples.device
    x_weight, y_weight = grid.columns.samples()[1], grid.rows.samples()[1]
    # integers are 0 and 1, or 0 and 255: an object is wherever the mask is not 0
    weighted = samples.float() if samples.is_floating_point() else (samples != 0).float()
    weighted = weighted * x_weight.to(device)
    weighted = weighted[:, :, : grid.columns.cells] + weighted[:, :, grid.columns.cells :]
    weighted = weighted * y_weight.to(device)[:, None]
    return (weighted[:, : grid.rows.cells] + weighted[:, grid.rows.cells :]).flatten(1)


def full_image_grid(size: tuple[int, int], grid: tuple[int, int]) -> Geometry:
    """Return the geometry of one grid of (h, w) tokens over an image of (height, width) pixels without resizing."""
    return Geometry(size, (Grid(Span(grid[0], size[0], size[0]), Span(grid[1], size[1], size[1])),))
