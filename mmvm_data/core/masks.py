"""Masks in COCO's run-length encoding (RLE): areas, boxes and overlaps without decoding, crops, polygons.

Run lengths are column-major, background first, in the compressed string encoding of COCO's maskApi.c. ``pycocotools``
encodes and computes set operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from mmvm_data.core import acceleration, polygons
from mmvm_data.core import rle as rle_codec
from mmvm_data.core.limits import check_pixels
from mmvm_data.core.types import Box, Region, Rle

_AREA_CHUNK = 255
_OVERLAP_ROWS = 256  # masks that are compared with all others at a time


class MaskCrop(NamedTuple):
    """The tight crop of a mask: uint8 [h, w] of 0 and 1, contiguous, and x, y of its top left pixel in the frame."""

    bitmap: NDArray[np.uint8]
    x: int
    y: int


def encode(bitmap: NDArray[Any]) -> Rle:
    """Encode a bitmap [h, w], non-zero inside."""
    return _from_coco(coco_mask.encode(np.asfortranarray(bitmap != 0, dtype=np.uint8)))


def encode_labels(labels: NDArray[Any], ids: Iterable[int] | None = None) -> dict[int, Rle]:
    """Encode the masks of a label image in one pass.

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
    order = np.argsort(values, kind="stable")
    starts, ends = starts[order], ends[order]
    present, firsts = np.unique(values[order], return_index=True)
    lasts = np.append(firsts[1:], len(order))
    is_kept = present != 0 if ids is None else np.isin(present, list(ids))
    return {
        label: _encode_spans(starts[first:last].copy(), ends[first:last].copy(), labels.shape)
        for label, first, last in zip(
            present[is_kept].tolist(), firsts[is_kept].tolist(), lasts[is_kept].tolist(), strict=True
        )
    }


def decode(rle: Rle) -> NDArray[np.uint8]:
    """Return the bitmap: uint8 [h, w] of 0 and 1, C-contiguous.

    Raises:
        ValueError: the counts are not in COCO's encoding, or do not add up to the size.
    """
    tight, x, y = crop(rle)
    height, width = tight.shape
    bitmap = np.zeros(rle.size, np.uint8)  # the memory outside of the box is not touched
    bitmap[y : y + height, x : x + width] = tight
    return bitmap


def crop(rle: Rle) -> MaskCrop:
    """Decode only the tight box of a mask; much faster than ``decode`` for a small object in a large frame.

    Returns:
        a crop of height and width 0 at (0, 0) for an empty mask.
    """
    height = rle.size[0]
    starts, ends = spans(rle)
    if not len(starts):
        return MaskCrop(np.zeros((0, 0), np.uint8), 0, 0)
    runs = ends - starts
    columns = starts // height
    rows = starts - columns * height
    x, last = int(columns[0]), int(ends[-1] - 1) // height
    top, bottom = int(rows.min()), int((rows + runs).max())
    if bottom > height:
        top, bottom = 0, height
    # map each run to the crop, whose columns are shorter; a run over two columns leaves them at full height
    shifted = rows + (columns - x) * (bottom - top) - top
    lengths = np.empty(2 * len(starts) + 1, np.int64)
    lengths[0] = shifted[0]
    lengths[1::2] = runs
    lengths[2:-1:2] = shifted[1:] - shifted[:-1] - runs[:-1]
    lengths[-1] = (last + 1 - x) * (bottom - top) - shifted[-1] - lengths[-2]
    values = np.zeros(len(lengths), np.uint8)
    values[1::2] = 1
    return MaskCrop(_transpose(np.repeat(values, lengths).reshape(-1, bottom - top)), x, top)


def spans(rle: Rle) -> rle_codec.Spans:
    """Return start and (exclusive) end of each run of the mask, as column-major pixel positions (int64, ascending).

    Raises:
        ValueError: the counts are not in COCO's encoding, or do not add up to the size.
    """
    return rle_codec.decode_spans(rle.counts, *rle.size)


def prefetch_counts(counts: Sequence[bytes], size: Sequence[int]) -> None:
    """Decode the compressed counts of the masks of one frame together, so that ``from_counts`` of each is fast.

    Args:
        counts: compressed counts; broken ones are reported by ``from_counts``.
        size: (height, width).
    """
    rle_codec.prefetch_spans(counts, int(size[0]), int(size[1]))


def from_counts(counts: str | bytes | Sequence[int], size: Sequence[int]) -> Rle:
    """Return a mask from COCO counts, compressed (str or bytes) or uncompressed (list), checked against its size.

    Args:
        counts: the run lengths.
        size: (height, width).

    Raises:
        ValueError: not COCO's encoding, negative runs, runs that do not add up to height x width, or more pixels than
            the limit.
    """
    if len(size) != 2 or any(isinstance(v, bool) or v != int(v) or v < 1 for v in size):
        raise ValueError(f"size {size} must be two integers of at least 1, height and width")
    height, width = int(size[0]), int(size[1])
    if isinstance(counts, (str, bytes)):
        text = counts if isinstance(counts, str) else counts.decode("ascii", "replace")
        try:
            rle = Rle(size=(height, width), counts=text)
        except ValueError:
            check_pixels(width, height, "mask")
            raise ValueError("counts are not in COCO's run-length encoding") from None
        spans(rle)
        return rle
    check_pixels(width, height, "mask")
    lengths = np.asarray(counts)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 0).any():
        raise ValueError("counts must be a list of integers of at least 0")
    if lengths.sum() != height * width:
        raise ValueError(f"runs cover {lengths.sum()} pixels, size {(height, width)} has {height * width}")
    return _from_coco(coco_mask.frPyObjects({"size": [height, width], "counts": lengths.tolist()}, height, width))


def from_box(box: Box, height: int, width: int) -> Rle:
    """Return the pixels of a box: edges rounded to integers (half up), clipped to the frame.

    A box that overlaps the frame covers at least one pixel.

    Raises:
        ValueError: the frame has more pixels than the limit.
    """
    check_pixels(width, height, "mask")
    x0, x1 = _pixel_range(box[0], box[2], width)
    y0, y1 = _pixel_range(box[1], box[3], height)
    starts = np.arange(x0, x1, dtype=np.int64) * height + y0
    return _encode_spans(*_merge_adjacent(starts, starts + (y1 - y0)), (height, width))


def region_mask(region: Region, height: int, width: int) -> Rle:
    """Return the pixels of a region: its mask, or its box as ``from_box`` fills it."""
    if region.mask is not None:
        return region.mask
    assert region.box is not None  # a region has one of the two
    return from_box(region.box, height, width)


def from_polygons(
    outlines: Sequence[Sequence[float]], height: int, width: int, rule: Literal["original", "union"] = "original"
) -> Rle:
    """Return the mask of polygons.

    Args:
        outlines: flat lists of x, y.
        height, width: pixels of the frame.
        rule: "original" follows the published evaluator of MMVM (CoLVA, ``polygons_to_bitmask``): polygons of odd
            length or with fewer than six values are skipped, each of the others is filled separately, and pixels that
            two or more cover are cleared. "union" follows COCO: pixels that any polygon covers.

    Raises:
        ValueError: the frame has more pixels than the limit.
    """
    check_pixels(width, height, "mask")
    usable = [np.asarray(o, np.float64) for o in outlines if len(o) % 2 == 0 and len(o) >= 6]
    if not usable:
        return encode(np.zeros((height, width), np.uint8))
    pieces = coco_mask.frPyObjects(usable, height, width)
    if rule == "union" or len(pieces) == 1:
        return _from_coco(coco_mask.merge(pieces))
    decoded = rle_codec.decode_all([piece["counts"] for piece in pieces], height, width)
    starts, ends = (np.concatenate(side) for side in zip(*decoded, strict=True))
    return _encode_spans(*_merge_adjacent(*_covered_once(starts, ends)), (height, width))


def to_polygons(rle: Rle) -> list[list[int]]:
    """Return polygons along pixel edges that both rules of ``from_polygons`` convert back to exactly this mask.

    Returns:
        flat lists of integers x, y, eight values or more; see ``polygons.trace_polygons``.
    """
    return polygons.trace_polygons(*crop(rle))


def trace_outlines(rles: Sequence[Rle], crop_mask: Callable[[Rle], MaskCrop] = crop) -> list[polygons.Outline]:
    """Return contours and polygons of masks; see ``polygons.trace_outlines``.

    Args:
        rles: the masks, which may be of several frames.
        crop_mask: what makes their crops, which compiled loops do not need.
    """
    kernels = acceleration.loaded_kernels()
    if kernels is None or not rles:
        return polygons.trace_outlines([crop_mask(rle) for rle in rles])
    starts, ends = zip(*map(spans, rles), strict=True)
    offsets = np.array([0, *accumulate(map(len, starts))], np.int64)
    heights = np.array([rle.size[0] for rle in rles], np.int64)
    points, contour_ends, contours_before, corners, ring_ends, rings_before = kernels.trace(
        np.concatenate(starts), np.concatenate(ends), offsets, heights
    )
    points = points.astype(np.int32).reshape(-1, 1, 2)
    contours = [points[first:last] for first, last in pairwise([0, *contour_ends.tolist()])]
    flat = corners.tolist()
    rings = [flat[2 * first : 2 * last] for first, last in pairwise([0, *ring_ends.tolist()])]
    contour_ranges = pairwise([*contours_before.tolist(), len(contours)])
    ring_ranges = pairwise([*rings_before.tolist(), len(rings)])
    return [
        polygons.Outline(contours[slice(*contour_range)], rings[slice(*ring_range)])
        for contour_range, ring_range in zip(contour_ranges, ring_ranges, strict=True)
    ]


def measure_overlaps(rles: Sequence[Rle]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Measure the masks of one frame.

    Returns:
        ``areas``: int64 [n]; ``bboxes``: float64 [n, 4]; and the most pixels that another mask shares with each: int64
        [n].
    """
    kernels = acceleration.loaded_kernels()
    if kernels is not None and rles:
        counts = [rle.counts.encode("ascii") for rle in rles]
        status, *measured = kernels.measure(*rle_codec.join_counts(counts), *rles[0].size)
        if status == 0:  # not of masks with empty runs, whose boxes and overlaps pycocotools computes differently
            return measured[0], measured[1], measured[2]
    pixels = areas(rles)
    shared = np.zeros(len(rles), np.int64)
    num_compared = len(rles) if len(rles) > 1 else 0
    for start in range(0, num_compared, _OVERLAP_ROWS):  # thousands of masks have millions of pairs
        rows = np.arange(start, min(start + _OVERLAP_ROWS, len(rles)))
        of_rows = intersections(rles[start : start + _OVERLAP_ROWS], rles, pixels[rows])
        of_rows[rows - start, rows] = 0
        shared[rows] = of_rows.max(axis=1)
    return pixels, bboxes(rles), shared


def area(rle: Rle) -> int:
    """Return the number of pixels."""
    return int(coco_mask.area(_to_coco(rle)))


def has_pixels(rle: Rle) -> bool:
    """Return whether a mask has at least one pixel; a tenth of the time of ``area`` after ``from_counts``."""
    cached = rle_codec.find_cached_spans(rle.counts, *rle.size)
    return area(rle) > 0 if cached is None else len(cached[0]) > 0


def bbox(rle: Rle) -> tuple[int, int, int, int]:
    """Return the tight box x, y, width, height in pixels; zeros for an empty mask."""
    x, y, w, h = coco_mask.toBbox(_to_coco(rle)).astype(int).tolist()
    return (x, y, w, h) if w else (0, 0, 0, 0)


def areas(rles: Sequence[Rle]) -> NDArray[np.int64]:
    """Return the number of pixels of each mask: int64 [n]."""
    encoded = [_to_coco(r) for r in rles]
    # with NumPy 2, pycocotools' area raises OverflowError for a list of 256 masks or more
    chunks = [coco_mask.area(encoded[k : k + _AREA_CHUNK]) for k in range(0, len(encoded), _AREA_CHUNK)]
    counts: NDArray[np.int64] = np.concatenate([np.zeros(0, np.int64), *chunks]).astype(np.int64)
    return counts


def bboxes(rles: Sequence[Rle]) -> NDArray[np.float64]:
    """Return the tight box x, y, width, height of each mask: float64 [n, 4]."""
    return np.array(coco_mask.toBbox([_to_coco(r) for r in rles])) if rles else np.zeros((0, 4))


def iou(a: Sequence[Rle], b: Sequence[Rle]) -> NDArray[np.float64]:
    """Return the intersection over union of every pair: float64 [n, m] in 0..1, computed without decoding."""
    if not a or not b:
        return np.zeros((len(a), len(b)))
    return np.asarray(coco_mask.iou([_to_coco(r) for r in a], [_to_coco(r) for r in b], [0] * len(b)))


def intersections(
    a: Sequence[Rle], b: Sequence[Rle], areas_of_a: NDArray[np.integer] | None = None
) -> NDArray[np.int64]:
    """Return the number of pixels that every pair shares: int64 [n, m], computed without decoding.

    Args:
        a, b: n and m masks of one size.
        areas_of_a: of ``areas(a)`` where the caller has them, int [n].
    """
    if not a or not b:
        return np.zeros((len(a), len(b)), np.int64)
    # with iscrowd the denominator is the area of a alone
    shares = coco_mask.iou([_to_coco(r) for r in a], [_to_coco(r) for r in b], [1] * len(b))
    pixels = areas(a) if areas_of_a is None else areas_of_a
    shared: NDArray[np.int64] = np.rint(np.asarray(shares) * pixels[:, None]).astype(np.int64)
    return shared


def _transpose(columns: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a bitmap [h, w] from its columns [w, h], not empty; OpenCV copies in blocks, NumPy does not."""
    return np.asarray(cv2.transpose(columns), np.uint8)


def _to_coco(rle: Rle) -> dict[str, Any]:
    return {"size": list(rle.size), "counts": rle.counts.encode("ascii")}


def _from_coco(encoded: dict[str, Any]) -> Rle:
    return Rle(size=tuple(encoded["size"]), counts=encoded["counts"].decode("ascii"))


def _encode_spans(starts: NDArray[np.int64], ends: NDArray[np.int64], size: tuple[int, ...]) -> Rle:
    height, width = int(size[0]), int(size[1])
    edges = np.empty(2 * len(starts) + 2, np.int64)
    edges[0], edges[-1] = 0, height * width
    edges[1:-1:2], edges[2:-1:2] = starts, ends
    lengths = np.diff(edges).tolist()
    if len(lengths) > 1 and lengths[-1] == 0:
        lengths.pop()
    rle = _from_coco(coco_mask.frPyObjects({"size": [height, width], "counts": lengths}, height, width))
    rle_codec.cache_spans(rle.counts, height, width, starts, ends)
    return rle


def _covered_once(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> rle_codec.Spans:
    """Return the parts of spans, in any order, that exactly one span covers."""
    edges = np.concatenate((starts, ends))
    steps = np.ones(len(edges), np.int64)
    steps[len(starts) :] = -1
    order = np.argsort(edges, kind="stable")
    edges = edges[order]
    covered = np.cumsum(steps[order])[:-1] == 1
    return edges[:-1][covered], edges[1:][covered]


def _merge_adjacent(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> rle_codec.Spans:
    """Merge spans that follow each other without a gap, and drop empty ones."""
    is_run = ends > starts
    starts, ends = starts[is_run], ends[is_run]
    if len(starts) < 2:
        return starts, ends
    gap = starts[1:] > ends[:-1]
    return starts[np.concatenate(([True], gap))], ends[np.concatenate((gap, [True]))]


def _pixel_range(start: float, length: float, size: int) -> tuple[int, int]:
    """Return the first and the (exclusive) last pixel of an interval, clipped to 0..size."""
    low, high = max(start, 0.0), min(start + length, float(size))
    if low >= high:
        return 0, 0
    first = min(math.floor(low + 0.5), size - 1)
    return first, max(math.floor(high + 0.5), first + 1)
