"""Masks as COCO run lengths: areas, boxes and overlaps without decoding, crops for pixels, polygons for files.

Run lengths are column-major, background first, in the printable coding of COCO's maskApi.c; ``pycocotools`` does the
coding and the set operations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from pycocotools import mask as coco

from mmvm_data.core import polygons
from mmvm_data.core import rle as runs
from mmvm_data.core.types import Box, Rle


class MaskCrop(NamedTuple):
    """The part of a frame that a mask fills: uint8 [h, w] of 0 and 1, contiguous, and its top left pixel."""

    bitmap: np.ndarray
    x: int
    y: int


def encode(bitmap: np.ndarray) -> Rle:
    """A bitmap [h, w], non-zero inside, as run lengths."""
    return _rle(coco.encode(np.asfortranarray(bitmap != 0, dtype=np.uint8)))


def encode_labels(labels: np.ndarray, ids: Iterable[int] | None = None) -> dict[int, Rle]:
    """Masks of a label image in one pass.

    Args:
        labels: integers [h, w].
        ids: labels to keep; None keeps all but 0.

    Returns:
        label -> mask, ascending, only labels that occur.
    """
    flat = labels.T.ravel()
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    present = np.unique(values)
    wanted = present[present != 0] if ids is None else present[np.isin(present, list(ids))]
    found = {}
    for label in wanted.tolist():
        mine = values == label
        found[label] = _from_spans(starts[mine], ends[mine], labels.shape)
    return found


def decode(rle: Rle) -> np.ndarray:
    """The whole bitmap: uint8 [h, w] of 0 and 1, C-contiguous."""
    return np.ascontiguousarray(coco.decode(_dict(rle)))


def crop(rle: Rle) -> MaskCrop:
    """The tight box of a mask as pixels; much cheaper than ``decode`` for a small object in a large frame.

    Returns:
        a patch of height or width 0 at (0, 0) for an empty mask.
    """
    height = rle.size[0]
    starts, ends = spans(rle)
    if not len(starts):
        return MaskCrop(np.zeros((0, 0), np.uint8), 0, 0)
    x, last = int(starts[0]) // height, int(ends[-1] - 1) // height
    top, bottom = _rows(starts, ends, height)
    # each run at its place in the crop, whose columns are shorter; a run over two columns leaves them at full height
    columns = starts // height
    moved = starts - columns * (height - (bottom - top)) - (x * (bottom - top) + top)
    lengths = np.empty(2 * len(starts) + 1, np.int64)
    lengths[0] = moved[0]
    lengths[1::2] = ends - starts
    lengths[2:-1:2] = moved[1:] - moved[:-1] - lengths[1:-2:2]
    lengths[-1] = (last + 1 - x) * (bottom - top) - moved[-1] - lengths[-2]
    values = np.zeros(len(lengths), np.uint8)
    values[1::2] = 1
    bitmap = np.repeat(values, lengths).reshape(-1, bottom - top).T
    return MaskCrop(np.ascontiguousarray(bitmap), x, top)


def spans(rle: Rle) -> tuple[np.ndarray, np.ndarray]:
    """Start and (exclusive) end of each run of the mask, as column-major pixel positions (int64, ascending).

    Raises:
        ValueError: the counts are not COCO's coding, or do not add up to the size.
    """
    return runs.decode_spans(rle.counts, *rle.size)


def prefetch_counts(counts: Sequence[bytes], size: Sequence[int]) -> None:
    """Read the compressed counts of the masks of one frame together; the ``from_counts`` of each then costs little.

    Args:
        counts: COCO's coding; broken ones are left for ``from_counts`` to name.
        size: (height, width).
    """
    runs.prefetch_spans(counts, int(size[0]), int(size[1]))


def from_counts(counts: str | bytes | Sequence[int], size: Sequence[int]) -> Rle:
    """A mask from COCO run lengths, compressed (str or bytes) or plain (list), checked against its size.

    Args:
        counts: the runs.
        size: (height, width).

    Raises:
        ValueError: not COCO's coding, negative runs, or runs that do not add up to height x width.
    """
    if len(size) != 2 or any(isinstance(v, bool) or v != int(v) or v < 1 for v in size):
        raise ValueError(f"size {size} must be two whole numbers, height and width, from 1")
    height, width = int(size[0]), int(size[1])
    if isinstance(counts, (str, bytes)):
        if not counts.isascii():
            raise ValueError("counts are not in COCO's run-length coding")
        text = counts if isinstance(counts, str) else counts.decode("ascii")
        rle = Rle(size=(height, width), counts=text)
        spans(rle)
        return rle
    lengths = np.asarray(counts)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 0).any():
        raise ValueError("counts must be a list of whole numbers from 0")
    if lengths.sum() != height * width:
        raise ValueError(f"runs cover {lengths.sum()} pixels, size {(height, width)} has {height * width}")
    return _rle(coco.frPyObjects({"size": [height, width], "counts": lengths.tolist()}, height, width))


def from_box(box: Box, height: int, width: int) -> Rle:
    """The pixels of a box: edges rounded to whole pixels (half up), clipped to the frame; at least one pixel of a box
    that reaches into the frame."""
    x0, x1 = _interval(box[0], box[2], width)
    y0, y1 = _interval(box[1], box[3], height)
    starts = np.arange(x0, x1, dtype=np.int64) * height + y0
    return _from_spans(*_joined(starts, starts + (y1 - y0)), (height, width))


def from_polygons(
    outlines: Sequence[Sequence[float]], height: int, width: int, rule: Literal["original", "union"] = "original"
) -> Rle:
    """The mask that a reader of polygons sees.

    Args:
        outlines: flat lists of x, y.
        height, width: pixels of the frame.
        rule: "original", as the published evaluator of MMVM reads (CoLVA, ``polygons_to_bitmask``): polygons of odd
            length or under six values are skipped, each of the rest is filled by itself, pixels that two or more
            cover are cleared. "union", as COCO reads: pixels that any polygon covers.
    """
    usable = [np.asarray(o, np.float64) for o in outlines if len(o) % 2 == 0 and len(o) >= 6]
    if not usable:
        return encode(np.zeros((height, width), np.uint8))
    pieces = coco.frPyObjects(usable, height, width)
    if rule == "union" or len(pieces) == 1:
        return _rle(coco.merge(pieces))
    found = runs.decode_all([piece["counts"] for piece in pieces], height, width)
    starts, ends = (np.concatenate(side) for side in zip(*found, strict=True))
    return _from_spans(*_joined(*_once(starts, ends)), (height, width))


def to_polygons(rle: Rle) -> list[list[int]]:
    """Polygons along pixel edges that both rules of ``from_polygons`` turn back into exactly this mask.

    Returns:
        flat lists of whole numbers x, y, eight values or more; see ``polygons.trace``.
    """
    return polygons.trace_polygons(*crop(rle))


def area(rle: Rle) -> int:
    """Number of pixels."""
    return int(coco.area(_dict(rle)))


def bbox(rle: Rle) -> tuple[int, int, int, int]:
    """Tight box x, y, width, height in pixels; zeros for an empty mask."""
    x, y, w, h = coco.toBbox(_dict(rle)).astype(int).tolist()
    return (x, y, w, h) if w else (0, 0, 0, 0)


def areas(rles: Sequence[Rle]) -> np.ndarray:
    """Number of pixels of each: int64 [n]."""
    return np.array(coco.area([_dict(r) for r in rles]), np.int64) if rles else np.zeros(0, np.int64)


def bboxes(rles: Sequence[Rle]) -> np.ndarray:
    """Tight boxes x, y, width, height of each: float64 [n, 4]."""
    return np.array(coco.toBbox([_dict(r) for r in rles])) if rles else np.zeros((0, 4))


def iou(a: Sequence[Rle], b: Sequence[Rle]) -> np.ndarray:
    """Intersection over union of every pair, float64 [n, m] in 0..1, without decoding."""
    if not a or not b:
        return np.zeros((len(a), len(b)))
    return np.asarray(coco.iou([_dict(r) for r in a], [_dict(r) for r in b], [0] * len(b)))


def intersections(a: Sequence[Rle], b: Sequence[Rle]) -> np.ndarray:
    """Number of pixels that every pair shares, int64 [n, m], without decoding."""
    if not a or not b:
        return np.zeros((len(a), len(b)), np.int64)
    # with iscrowd the denominator is the area of a alone
    shares = coco.iou([_dict(r) for r in a], [_dict(r) for r in b], [1] * len(b))
    return np.rint(np.asarray(shares) * areas(a)[:, None]).astype(np.int64)


def _dict(rle: Rle) -> dict[str, Any]:
    return {"size": list(rle.size), "counts": rle.counts.encode("ascii")}


def _rle(coded: dict[str, Any]) -> Rle:
    return Rle(size=tuple(coded["size"]), counts=coded["counts"].decode("ascii"))


def _from_spans(starts: np.ndarray, ends: np.ndarray, size: tuple[int, ...]) -> Rle:
    height, width = int(size[0]), int(size[1])
    edges = np.empty(2 * len(starts) + 2, np.int64)
    edges[0], edges[-1] = 0, height * width
    edges[1:-1:2], edges[2:-1:2] = starts, ends
    lengths = np.diff(edges).tolist()
    if len(lengths) > 1 and lengths[-1] == 0:
        lengths.pop()
    rle = _rle(coco.frPyObjects({"size": [height, width], "counts": lengths}, height, width))
    runs.cache_spans(rle.counts, height, width, starts, ends)
    return rle


def _once(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The parts of spans, given in any order, that no other span covers."""
    edges = np.concatenate((starts, ends))
    steps = np.ones(len(edges), np.int64)
    steps[len(starts) :] = -1
    order = np.argsort(edges, kind="stable")
    edges = edges[order]
    covered = np.cumsum(steps[order])[:-1] == 1
    return edges[:-1][covered], edges[1:][covered]


def _joined(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spans with those that follow each other without a gap made one; empty ones left out."""
    real = ends > starts
    starts, ends = starts[real], ends[real]
    if len(starts) < 2:
        return starts, ends
    gap = starts[1:] > ends[:-1]
    return starts[np.concatenate(([True], gap))], ends[np.concatenate((gap, [True]))]


def _rows(starts: np.ndarray, ends: np.ndarray, height: int) -> tuple[int, int]:
    """First and (exclusive) last row of a mask that is given by its spans."""
    first, last = starts % height, (ends - 1) % height
    if (starts // height != (ends - 1) // height).any():
        return 0, height
    return int(first.min()), int(last.max()) + 1


def _interval(start: float, length: float, size: int) -> tuple[int, int]:
    low, high = max(start, 0.0), min(start + length, float(size))
    if low >= high:
        return 0, 0
    first = min(math.floor(low + 0.5), size - 1)
    return first, max(math.floor(high + 0.5), first + 1)
