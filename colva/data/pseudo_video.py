"""Stage-1 data: pairs of frames as tensors, made by CPU workers without any weights.

Both encoders see the clean frames. A mask is needed only at the pixels that decide which tokens it covers, four a
token (`colva.model.token_grid`), so it is read there: through the view's map and the crop of its run lengths. No
mask is ever drawn in full, warped or resized, and it follows its picture exactly.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from colva.data.order import chance, shuffled
from colva.data.pairs import Opened, PairSource, Shot, open_pairs
from colva.model.token_grid import THRESHOLD, Grid, bilinear_coverage
from colva.processing.image_processors.base import ImageProcessor
from colva.processing.tiling import expert_canvas
from mmvm_data.core import augment, masks
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.io import media

_SPLIT = 0  # seed of the held-out part: another training seed must not move it


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """What stage 1 trains on.

    Attributes:
        sources: mixed in proportion to their sizes and `repeat`.
        held_out: share of each source's images, videos or cases that is kept for evaluation.
        most_held_out: of each source, at most so many.
        pictures: options of the family's picture preparation; the published runs have `{max_tiles: 6}` for InternVL.
        max_objects: of a frame, a random choice; 0 takes all.
        cache: folder for indexes of large annotation files.
    """

    sources: Annotated[tuple[PairSource, ...], Field(min_length=1)]
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.02
    most_held_out: Annotated[int, Field(ge=1)] = 256
    pictures: dict[str, Any] = field(default_factory=dict)
    max_objects: Annotated[int, Field(ge=0)] = 0
    cache: Path | None = None


@dataclass(frozen=True)
class Encoders:
    """How pictures reach the two encoders.

    Attributes:
        image_processor: the family's.
        side, stride: the expert's canvas and token, in pixels.
        threshold: of masks (see `Geometry.token_mask`).
    """

    image_processor: ImageProcessor
    side: int
    stride: int
    threshold: float = THRESHOLD


@dataclass(frozen=True)
class Side:
    """One frame as tensors.

    Attributes:
        canvas: uint8 `[3, S, S]`, for the expert.
        pixels, grid: for the multimodal model, see `colva.processing.image_processors.base.PreparedImage`.
        expert_cells, key_cells: bool `[n, tokens]`, the tokens of each encoder that each object covers.
        ids: identity of each object.
    """

    canvas: Tensor
    pixels: Tensor
    grid: tuple[int, int, int]
    expert_cells: Tensor
    key_cells: Tensor
    ids: tuple[str, ...]


@dataclass(frozen=True)
class PairItem:
    """A pair of frames and what it is called."""

    name: str
    sides: tuple[Side, Side]


class Pairs:
    """Pairs of frames by ordinal (see `colva.training.stage.Data`).

    Args:
        opened: the sources.
        encoders: see there.
        seed: of order, choice of frames and augmentation.
        options: of the data; `held_out` and `most_held_out` say which part is which.
        held_out: the part for evaluation, in its order and with the same chance whatever the seed.
    """

    def __init__(
        self, opened: Sequence[Opened], encoders: Encoders, seed: int, options: PairOptions, held_out: bool = False
    ) -> None:
        self._opened = tuple(opened)
        self._encoders = encoders
        self._seed = _SPLIT if held_out else seed
        self._held_out = held_out
        self._most = options.max_objects
        self._kept = [min(int(len(one.names) * options.held_out), options.most_held_out) for one in self._opened]
        sizes = [
            (kept if held_out else len(one.names) - kept) * one.source.repeat
            for one, kept in zip(self._opened, self._kept, strict=True)
        ]
        self._ends = np.cumsum(sizes).tolist()

    def __len__(self) -> int:
        """Pairs in an epoch."""
        return int(self._ends[-1])

    def place(self, ordinal: int) -> tuple[int, str]:
        """The source (by number) and the name that an ordinal stands for."""
        epoch, position = divmod(ordinal, len(self))
        at = position if self._held_out else shuffled(position, len(self), self._seed, epoch)
        which = int(np.searchsorted(self._ends, at, side="right"))
        opened, kept = self._opened[which], self._kept[which]
        at -= self._ends[which - 1] if which else 0
        # a fixed random order of the names, whose last ones are held out
        place = len(opened.names) - kept + at % kept if self._held_out else at % (len(opened.names) - kept)
        return which, opened.names[shuffled(place, len(opened.names), _SPLIT)]

    def __getitem__(self, ordinal: int) -> PairItem | Reject:
        """The pair of an ordinal, or why there is none."""
        which, name = self.place(ordinal)
        opened = self._opened[which]
        rng = chance("stage 1", self._seed, ordinal)
        try:
            pair = opened.pair(name, rng)
            first, second = (self._side(shot, rng) for shot in pair)
            item = PairItem(f"{opened.source.kind} {name}", (first, second))
            if not anchors_of(item):
                raise InputError(opened.source.root / name, "no object covers a token in both frames")
        except InputError as error:
            return Reject(opened.source.kind, name, -1, error.reason, error.file, error.field or "")
        except ValueError as error:  # a picture that no encoder can take
            return Reject(opened.source.kind, name, -1, str(error), str(opened.source.root))
        return item

    def _side(self, shot: Shot, rng: random.Random) -> Side:
        picture = shot.bgr if shot.view is None else augment.render_view(shot.view, shot.bgr)
        rgb = media.bgr_to_rgb(picture)
        canvas, expert = expert_canvas(rgb, self._encoders.side, self._encoders.stride)
        seen = self._encoders.image_processor(rgb)
        ids, rles = shot.ids, shot.rles
        if self._most and len(ids) > self._most:
            chosen = sorted(rng.sample(range(len(ids)), self._most))
            ids, rles = tuple(ids[k] for k in chosen), tuple(rles[k] for k in chosen)
        grids = (*expert.grids, *seen.geometry.grids)
        cells = cells_of(
            shot.view, [masks.crop(rle) for rle in rles], shot.bgr.shape[1], grids, self._encoders.threshold
        )
        cut = expert.num_tokens
        return Side(canvas, seen.pixels, seen.grid, cells[:, :cut], cells[:, cut:], ids)


def cells_of(
    view: augment.ViewTransform | None,
    patches: Sequence[masks.MaskCrop],
    width: int,
    grids: Sequence[Grid],
    threshold: float,
) -> Tensor:
    """The tokens that objects cover, from the crops of their masks.

    Args:
        view: that the grids lie over; None when they lie over the picture itself.
        patches: the crop of each object's mask in the picture.
        width: of the picture, in pixels.
        grids: the token grids, in the order of the tokens.
        threshold: see `Geometry.token_mask`.

    Returns:
        bool `[n, tokens]`; what `Geometry.token_mask` gives for the masks of `views.follow`.
    """
    corners = [(grid.rows.samples()[0].numpy(), grid.columns.samples()[0].numpy()) for grid in grids]
    if view is None:
        places = [(y[:, None] * width + x[None, :]).ravel() for y, x in corners]
    else:
        places = [augment.map_view_pixels(view, y, x).ravel() for y, x in corners]
    at = np.concatenate(places)
    row, column = np.divmod(at, width)
    row[at < 0] = -1
    taken = np.zeros((len(patches), len(at)), bool)
    for patch, out in zip(patches, taken, strict=True):
        height, breadth = patch.bitmap.shape
        # as unsigned numbers what lies before the crop is far behind it
        y, x = (row - patch.y).view(_unsigned(row)), (column - patch.x).view(_unsigned(column))
        inside = np.flatnonzero((y < height) & (x < breadth))
        out[inside] = patch.bitmap[y[inside], x[inside]]
    found, start = [], 0
    for grid, (y, x) in zip(grids, corners, strict=True):
        stop = start + len(y) * len(x)
        piece = torch.from_numpy(taken[:, start:stop].reshape(len(patches), len(y), len(x)))
        found.append(bilinear_coverage(piece, grid) > threshold)
        start = stop
    return torch.cat(found, dim=1)


def _unsigned(values: np.ndarray) -> np.dtype[Any]:
    return np.dtype(f"u{values.dtype.itemsize}")


def anchors_of(item: PairItem) -> int:
    """How many objects of a pair count as anchors: seen by the expert, and by the model in the other frame."""
    count = 0
    for here, there in (item.sides, item.sides[::-1]):
        keys = {name for name, kept in zip(there.ids, there.key_cells.any(dim=1).tolist(), strict=True) if kept}
        seen = here.expert_cells.any(dim=1).tolist()
        count += sum(kept and name in keys for name, kept in zip(here.ids, seen, strict=True))
    return count


def collate(items: Sequence[PairItem]) -> dict[str, Any]:
    """Join pairs.

    Returns:
        `canvases` uint8 `[2b, 3, S, S]`; `pixels` and `grid` `[2b, 3]` as the backbone takes them; `tokens`, a tuple
        of the image tokens of each frame; `expert_cells` and `key_cells` bool `[n, …]` (the latter padded to the
        longest); `frames` `[n]` ascending, each object's frame; `ids` `[n]`, the same number for the same object of a
        pair and unique over the batch; `most`, the largest number of objects of a frame; `units`, the number of
        anchors.
    """
    sides = [side for item in items for side in item.sides]
    counts = torch.tensor([len(side.ids) for side in sides])
    longest = max(side.key_cells.shape[1] for side in sides)
    key_cells = torch.zeros(int(counts.sum()), longest, dtype=torch.bool)
    ids: list[int] = []
    start = 0
    for item in items:
        numbers: dict[str, int] = {}
        base = len(ids)
        for side in item.sides:
            key_cells[start : start + len(side.ids), : side.key_cells.shape[1]] = side.key_cells
            start += len(side.ids)
            ids += [base + numbers.setdefault(name, len(numbers)) for name in side.ids]
    return {
        "canvases": torch.stack([side.canvas for side in sides]),
        "pixels": torch.cat([side.pixels for side in sides]),
        "grid": torch.tensor([side.grid for side in sides]),
        "tokens": tuple(side.key_cells.shape[1] for side in sides),
        "expert_cells": torch.cat([side.expert_cells for side in sides]),
        "key_cells": key_cells,
        "frames": torch.repeat_interleave(torch.arange(len(sides)), counts),
        "ids": torch.tensor(ids, dtype=torch.int64),
        "most": int(counts.max()),
        "units": sum(anchors_of(item) for item in items),
    }


def open_all(options: PairOptions) -> list[Opened]:
    """Every source of the mixture; see `open_pairs` for what is raised."""
    return [open_pairs(source, options.cache) for source in options.sources]
