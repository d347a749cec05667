"""Stage-1 data: pairs of frames as tensors, prepared by CPU workers without any weights.

Both encoders see the clean frames. A mask is needed only at the pixels that decide which tokens it covers, four per
token (`colva.model.token_grid`), so it is sampled there: through the view's map and the crop of its RLE. No mask is
ever decoded in full, warped or resized, and it follows its image exactly.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from colva.data.order import keyed_rng, shuffle_position
from colva.data.pairs import FramePair, FrameSample, PairReader, PairSource, open_pair_source
from colva.model.pooling import Keys
from colva.model.token_grid import THRESHOLD, Grid, bilinear_coverage
from colva.processing.image_processors.base import ImageProcessor
from colva.processing.tiling import expert_canvas
from mmvm_data.core import augment, masks
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.options import options
from mmvm_data.core.types import Rle
from mmvm_data.io import media

_SPLIT_SEED = 0  # of the held-out split, which must not depend on the training seed
_SHORT_SIDE = 1 << 15  # pixels; coordinates below fit into int16


@options
class PairOptions:
    """The data of stage 1.

    Attributes:
        sources: mixed in proportion to their sizes and `repeat`.
        held_out_share: share of each source's images, videos or cases that is held out for evaluation.
        max_held_out: upper limit of held-out names per source.
        image_options: options of the model family's image processor; the published InternVL runs have
            `{max_tiles: 6}`.
        max_objects: objects per frame, chosen at random; 0 uses all.
        cache_dir: folder for indexes of large annotation files.
    """

    _: KW_ONLY
    sources: Annotated[tuple[PairSource, ...], Field(min_length=1)]
    held_out_share: Annotated[float, Field(ge=0, lt=1)] = 0.02
    max_held_out: Annotated[int, Field(ge=1)] = 256
    image_options: dict[str, Any] = field(default_factory=dict)
    max_objects: Annotated[int, Field(ge=0)] = 0
    cache_dir: Path | None = None


@dataclass(frozen=True)
class EncoderSpec:
    """How images reach the two encoders.

    Attributes:
        image_processor: of the model family.
        side, stride: of the expert's canvas and of its tokens, in pixels.
        threshold: share of a token that an object must cover (see `Geometry.token_mask`).
        keys: whose tokens the keys are pooled from.
    """

    image_processor: ImageProcessor
    side: int
    stride: int
    threshold: float = THRESHOLD
    keys: Keys = "model"


@dataclass(frozen=True)
class FrameTensors:
    """One frame as tensors.

    Attributes:
        canvas: uint8 `[3, S, S]`, for the expert.
        pixels, grid: for the multimodal model, see `colva.processing.image_processors.base.PreparedImage`.
        expert_cells, key_cells: bool `[n, tokens]`, the tokens of the expert, and of the encoder of the keys, that
            each object covers.
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
    """A pair of frames with the name of its source and of its image, video or case."""

    name: str
    sides: tuple[FrameTensors, FrameTensors]


class PairDataset:
    """Pairs of frames by ordinal (see `colva.training.stage.TrainingData`).

    Args:
        readers: the sources.
        encoders: see `EncoderSpec`.
        seed: of order, choice of frames and augmentation.
        options: of the data; they decide the held-out split.
        held_out: select the held-out part, in a fixed order and with random numbers that do not depend on the seed.
    """

    def __init__(
        self,
        readers: Sequence[PairReader],
        encoders: EncoderSpec,
        seed: int,
        options: PairOptions,
        held_out: bool = False,
    ) -> None:
        self._readers = tuple(readers)
        self._encoders = encoders
        self._seed = _SPLIT_SEED if held_out else seed
        self._held_out = held_out
        self._max_objects = options.max_objects
        self._num_held_out = [
            min(int(len(reader.names) * options.held_out_share), options.max_held_out) for reader in self._readers
        ]
        sizes = [
            (num_held_out if held_out else len(reader.names) - num_held_out) * reader.source.repeat
            for reader, num_held_out in zip(self._readers, self._num_held_out, strict=True)
        ]
        self._ends = np.cumsum(sizes).tolist()

    def __len__(self) -> int:
        """Pairs in an epoch."""
        return int(self._ends[-1])

    def locate(self, ordinal: int) -> tuple[int, str]:
        """The source (by number) and the name that an ordinal stands for."""
        epoch, position = divmod(ordinal, len(self))
        index = position if self._held_out else shuffle_position(position, len(self), self._seed, epoch)
        number = int(np.searchsorted(self._ends, index, side="right"))
        names, num_held_out = self._readers[number].names, self._num_held_out[number]
        index -= self._ends[number - 1] if number else 0
        # the names have a fixed random order, of which the last ones are held out
        num_train = len(names) - num_held_out
        place = num_train + index % num_held_out if self._held_out else index % num_train
        return number, names[shuffle_position(place, len(names), _SPLIT_SEED)]

    def __getitem__(self, ordinal: int) -> PairItem | Reject:
        """The pair of an ordinal, or why there is none."""
        number, name = self.locate(ordinal)
        reader = self._readers[number]
        kind, root = reader.source.kind, reader.source.root
        rng = keyed_rng("stage 1", self._seed, ordinal)
        try:
            pair = reader.read_pair(name, rng)
            images = _render_samples(pair)
            crops: dict[Rle, masks.MaskCrop] = {}  # two views of an image have the same masks
            first, second = (
                self._make_tensors(sample, image, crops, rng) for sample, image in zip(pair, images, strict=True)
            )
            item = PairItem(f"{kind} {name}", (first, second))
            if not count_anchors(item):
                raise InputError(root / name, "no object covers a token in both frames")
        except InputError as error:
            return Reject(kind, name, -1, error.reason, error.file, error.field or "")
        except ValueError as error:  # an image that an encoder cannot process
            return Reject(kind, name, -1, str(error), str(root))
        return item

    def _make_tensors(
        self, sample: FrameSample, bgr: NDArray[np.uint8], crops: dict[Rle, masks.MaskCrop], rng: random.Random
    ) -> FrameTensors:
        """The tensors of a side, whose rendered image is `bgr`; the crops of its masks are added to `crops`."""
        rgb = media.bgr_to_rgb(bgr)
        canvas, expert = expert_canvas(rgb, self._encoders.side, self._encoders.stride)
        image = self._encoders.image_processor(rgb)
        ids, rles = sample.ids, sample.rles
        if self._max_objects and len(ids) > self._max_objects:
            chosen = sorted(rng.sample(range(len(ids)), self._max_objects))
            ids, rles = tuple(ids[k] for k in chosen), tuple(rles[k] for k in chosen)
        crops |= {rle: masks.crop(rle) for rle in rles if rle not in crops}
        cells = compute_token_masks(
            sample.view,
            [crops[rle] for rle in rles],
            sample.bgr.shape[1],
            (*expert.grids, *image.geometry.grids),
            self._encoders.threshold,
        )
        expert_cells, model_cells = cells[:, : expert.num_tokens], cells[:, expert.num_tokens :]
        key_cells = model_cells if self._encoders.keys == "model" else expert_cells
        return FrameTensors(canvas, image.pixels, image.grid, expert_cells, key_cells, ids)


def _render_samples(pair: FramePair) -> list[NDArray[np.uint8]]:
    """The pixels of both sides; two views of one image share what is the same for both."""
    first, second = pair
    if first.bgr is second.bgr and first.view is not None and second.view is not None:
        return augment.render_views([first.view, second.view], first.bgr)
    return [sample.bgr if sample.view is None else augment.render_view(sample.view, sample.bgr) for sample in pair]


def compute_token_masks(
    view: augment.ViewTransform | None,
    patches: Sequence[masks.MaskCrop],
    width: int,
    grids: Sequence[Grid],
    threshold: float,
) -> Tensor:
    """The tokens that objects cover, from the crops of their masks.

    Args:
        view: the view that the grids lie over; None when they lie over the image itself.
        patches: the crop of each object's mask in the image.
        width: of the image, in pixels.
        grids: the token grids, in the order of the tokens.
        threshold: see `Geometry.token_mask`.

    Returns:
        bool `[n, tokens]`, equal to `Geometry.token_mask` of the masks that `augment.warp_masks` returns.
    """
    corners = [(grid.rows.samples()[0].numpy(), grid.columns.samples()[0].numpy()) for grid in grids]
    if view is None:
        indices = [(y[:, None] * width + x[None, :]).ravel() for y, x in corners]
    else:
        indices = [augment.map_view_pixels(view, y, x).ravel() for y, x in corners]
    pixels = np.concatenate(indices)
    row, column = np.divmod(pixels, width)
    row[pixels < 0] = -1
    if max(int(row.max(initial=0)), width) < _SHORT_SIDE:  # two thirds of the time below
        row, column = row.astype(np.int16), column.astype(np.int16)
    samples = np.zeros((len(patches), len(pixels)), bool)
    for patch, out in zip(patches, samples, strict=True):
        patch_height, patch_width = patch.bitmap.shape
        # as unsigned numbers, coordinates before the crop are far beyond its end
        y, x = (row - patch.y).view(_unsigned_dtype(row)), (column - patch.x).view(_unsigned_dtype(column))
        inside = np.flatnonzero((y < patch_height) & (x < patch_width))
        out[inside] = patch.bitmap[y[inside], x[inside]]
    token_masks, start = [], 0
    for grid, (y, x) in zip(grids, corners, strict=True):
        stop = start + len(y) * len(x)
        piece = torch.from_numpy(samples[:, start:stop].reshape(len(patches), len(y), len(x)))
        token_masks.append(bilinear_coverage(piece, grid) > threshold)
        start = stop
    return torch.cat(token_masks, dim=1)


def _unsigned_dtype(values: NDArray[Any]) -> np.dtype[Any]:
    return np.dtype(f"u{values.dtype.itemsize}")


def count_anchors(item: PairItem) -> int:
    """Objects of a pair that count as anchors: covered by the expert, and by the model in the other frame."""
    count = 0
    for anchors, keys in (item.sides, item.sides[::-1]):
        key_ids = {name for name, kept in zip(keys.ids, keys.key_cells.any(dim=1).tolist(), strict=True) if kept}
        is_covered = anchors.expert_cells.any(dim=1).tolist()
        count += sum(kept and name in key_ids for name, kept in zip(anchors.ids, is_covered, strict=True))
    return count


def collate_pairs(items: Sequence[PairItem]) -> dict[str, Any]:
    """Join pairs into a batch.

    Returns:
        `canvases` uint8 `[2b, 3, S, S]`; `pixels` and `grid` `[2b, 3]` as the backbone expects them; `tokens`, a tuple
        of the number of image tokens of each frame; `expert_cells` and `key_cells` bool `[n, …]` (the latter padded to
        the longest); `frames` `[n]` ascending, each object's frame; `ids` `[n]`, equal for the same object of a pair
        and otherwise unique over the batch; `most`, the largest number of objects in a frame; `units`, the number of
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
        "units": sum(count_anchors(item) for item in items),
    }


def open_pair_sources(options: PairOptions) -> list[PairReader]:
    """Open all sources; raises what `open_pair_source` raises."""
    return [open_pair_source(source, options.cache_dir) for source in options.sources]
