"""Trace bitmaps into contours to draw, and into polygons along pixel edges that reproduce the bitmap exactly.

Readers of the benchmark fill each polygon of an object separately (``frPyObjects`` of pycocotools), then either clear
the pixels that two polygons cover (the published reader) or take their union. Both reproduce the mask exactly when the
polygons have integer corners on pixel edges, have no holes, and only touch each other. So every connected component is
traced as one ring; a component with holes is first cut by the fewest vertical lines that meet all its holes.

OpenCV follows the borders. Rings are computed from the same border walks as the drawn contours, for all objects at
once: the number of pixel edges between two steps of a walk depends on how far the walk turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray


class Outline(NamedTuple):
    """Contours and polygons of one object.

    Attributes:
        contours: equal to ``cv2.findContours`` of the whole frame with tree retrieval and simple approximation, in
            that order; int32 [n, 1, 2] each, through pixel centers.
        polygons: flat lists x0, y0, x1, y1 … along pixel edges, at least eight integers each, without repeated or
            collinear corners, in a fixed order. They share no pixel; each is a simple ring.
    """

    contours: list[NDArray[Any]]
    polygons: list[list[int]]


PlacedBitmap = tuple[NDArray[np.uint8], int, int]
"""A bitmap, uint8 [h, w], non-zero inside, each side under 32,768, and x, y of its top left pixel in the frame."""

# Directions 0..7: E, NE, N, NW, W, SW, S, SE. Corners 0..3 of a pixel: top left, bottom left, bottom right, top right,
# the order in which a walk with the object on its left visits them; the edge after corner q has direction q.
_DIRECTION = np.array([3, 2, 1, 0, 4, 0, 0, 0, 5, 6, 7], np.uint8)  # by 4 * (dy + 1) + dx + 1
_ENTRY_CORNER = np.array(
    [1, 1, 2, 2, 3, 3, 0, 0], np.uint8
)  # the corner at which a step in a direction enters its pixel
_EXIT_CORNER = np.array([2, 3, 3, 0, 0, 1, 1, 2], np.uint8)  # the corner at which it leaves the previous pixel
# by 8 * incoming direction + outgoing direction: the first corner of a pixel, and its number of edges
_FIRST_CORNER = np.repeat(_ENTRY_CORNER, 8)
_NUM_EDGES = ((np.tile(_EXIT_CORNER, 8) - _FIRST_CORNER) % 4).astype(np.int64)
_NUM_EDGES[[8 * d + (d ^ 4) for d in (1, 3, 5, 7)]] = 4  # a diagonal step in and back visits all four edges
_IS_TURN = np.repeat(np.arange(8), 8) != np.tile(np.arange(8), 8)
_IS_DIAGONAL = np.repeat(np.arange(8) % 2 == 1, 8)
_CORNER_OFFSET = np.array([0, 1 << 32, (1 << 32) + 1, 1])  # as x + (y << 32)


def trace_outlines(bitmaps: Sequence[PlacedBitmap]) -> list[Outline]:
    """Return contours and polygons of several objects; tight crops are fastest.

    Args:
        bitmaps: the objects, in any order; an empty bitmap has an empty outline.
    """
    return _trace(bitmaps, with_contours=True)


def trace_contours(bitmap: NDArray[np.uint8], x: int = 0, y: int = 0) -> list[NDArray[Any]]:
    """Return the contours of one bitmap alone, see ``Outline``; a tenth of the time of ``trace_outlines``."""
    if not bitmap.size:
        return []
    return list(cv2.findContours(bitmap, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))[0])


def trace_polygons(bitmap: NDArray[np.uint8], x: int = 0, y: int = 0) -> list[list[int]]:
    """Return polygons of one bitmap, exact under both reading rules; see ``Outline``."""
    return trace_outlines([(bitmap, x, y)])[0].polygons


class _Walks(NamedTuple):
    """Closed walks over border pixels, concatenated.

    Attributes:
        points: x + (y << 32), x counted over all bitmaps, int64 [n].
        directions: 8 * direction into the pixel + direction out of it, uint8 [n].
        starts, ends: range of each walk in ``points``.
    """

    points: NDArray[np.int64]
    directions: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def _trace(bitmaps: Sequence[PlacedBitmap], with_contours: bool) -> list[Outline]:
    """Return the outlines of the bitmaps; their contours are empty unless ``with_contours``."""
    outlines = [Outline([], []) for _ in bitmaps]
    contours: list[NDArray[np.int32]] = []
    owners: list[int] = []  # of each contour: the index of its bitmap
    parents: list[int] = []  # of each contour: the contour around it, or -1
    for k, (bitmap, _, _) in enumerate(bitmaps):
        if not bitmap.size:
            continue
        traced, hierarchy = cv2.findContours(bitmap, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
        if not traced:
            continue
        offset = len(contours)
        parents += [parent + offset if parent >= 0 else -1 for parent in hierarchy[0, :, 3].tolist()]
        contours += [np.asarray(contour, np.int32) for contour in traced]
        owners += [k] * len(traced)
    if not contours:
        return outlines
    # as if the bitmaps lay side by side: no two of them share a point
    lefts = [0, *accumulate(bitmap.shape[1] + 1 for bitmap, _, _ in bitmaps)]
    walks = _build_walks(contours, np.array(lefts)[owners])
    shifts = np.array([x - left + (y << 32) for (_, x, y), left in zip(bitmaps, lefts, strict=False)])[owners]
    if with_contours:
        for owner, contour in zip(owners, _simplify_contours(walks, shifts), strict=True):
            outlines[owner].contours.append(contour)
    holes: list[list[int]] = [[] for _ in parents]  # of each component
    depths: list[int] = []
    for k, parent in enumerate(parents):
        depths.append(depths[parent] + 1 if parent >= 0 else 0)
        if depths[k] % 2:
            holes[parent].append(k)
    without_holes = [k for k, depth in enumerate(depths) if depth % 2 == 0 and not holes[k]]
    with_holes = [k for k, inner in enumerate(holes) if inner]
    rings = dict(zip(without_holes, _trace_rings(walks, np.array(without_holes, np.int64), shifts), strict=True))
    if with_holes:
        component_owners = [owners[k] for k in (*without_holes, *with_holes)]
        parts = [
            (k, part)
            for k in with_holes
            for part in _cut_holes(
                bitmaps[owners[k]],
                contours[k],
                [contours[hole] for hole in holes[k]],
                is_only_component=component_owners.count(owners[k]) == 1,
            )
        ]
        for (k, _), outline in zip(parts, _trace([part for _, part in parts], with_contours=False), strict=True):
            rings.setdefault(k, []).extend(outline.polygons)
    for k in sorted(rings):
        outlines[owners[k]].polygons.extend(rings[k])
    return outlines


def _build_walks(contours: Sequence[NDArray[np.int32]], lefts: NDArray[np.int64]) -> _Walks:
    lengths = np.array(list(map(len, contours)))
    ends = np.cumsum(lengths)
    starts = ends - lengths
    points = np.concatenate(contours).view(np.int64)[:, 0, 0] + np.repeat(lefts, lengths)
    following = np.concatenate((points[1:], points[:1]))
    following[ends - 1] = points[starts]
    step = following - points + ((1 << 32) + 1)
    out = _DIRECTION[(step >> 30 | step) & 15]
    into = np.concatenate((out[-1:], out[:-1]))
    into[starts] = out[ends - 1]
    return _Walks(points, into * np.uint8(8) + out, starts, ends)


def _simplify_contours(walks: _Walks, shifts: NDArray[np.int64]) -> Iterator[NDArray[np.int32]]:
    """Yield the walks as OpenCV's simple approximation: only the points where the direction changes."""
    is_turn = _IS_TURN[walks.directions]
    is_turn[walks.starts[walks.ends - walks.starts == 1]] = True
    ends = np.cumsum(is_turn)[walks.ends - 1]
    lengths = ends - np.concatenate(([0], ends[:-1]))
    points = (walks.points[is_turn] + np.repeat(shifts, lengths)).view(np.int32).reshape(-1, 1, 2)
    return (points[start:end] for start, end in pairwise([0, *ends.tolist()]))


def _trace_rings(walks: _Walks, chosen: NDArray[np.int64], shifts: NDArray[np.int64]) -> list[list[list[int]]]:
    """Return, for each chosen walk around a component without holes, the rings along its pixel edges."""
    if not len(chosen):
        return []
    starts, ends, points, directions = walks.starts, walks.ends, walks.points, walks.directions
    if len(chosen) < len(starts):
        lengths = (ends - starts)[chosen]
        ends = np.cumsum(lengths)
        pixel = np.arange(ends[-1]) + np.repeat(starts[chosen] - ends + lengths, lengths)
        starts, points, directions, shifts = ends - lengths, points[pixel], directions[pixel], shifts[chosen]
    edges, first = _NUM_EDGES[directions], _FIRST_CORNER[directions]
    single_pixels = starts[ends - starts == 1]
    edges[single_pixels] = 4
    edge_ends = np.cumsum(edges)
    # of each edge: its pixel, and the corner at which it begins
    corner = (np.arange(edge_ends[-1]) - np.repeat(edge_ends - edges - first, edges)) & 3
    last = edge_ends[ends - 1] - 1
    previous = np.concatenate((corner[:1], corner[:-1]))
    previous[np.concatenate(([0], last[:-1] + 1))] = corner[last]
    is_corner = corner != previous
    keys = np.repeat(points, edges)[is_corner] + _CORNER_OFFSET[corner[is_corner]]
    ends = np.cumsum(is_corner)[last]
    crossed = _find_crossed_rings(keys, ends, (points + _CORNER_OFFSET[first])[_IS_DIAGONAL[directions]])
    lengths = ends - np.concatenate(([0], ends[:-1]))
    flat = (keys + np.repeat(shifts, lengths)).view(np.int32).tolist()
    rings = []
    for k, (start, end) in enumerate(pairwise([0, *ends.tolist()])):
        ring = flat[2 * start : 2 * end]
        rings.append(_split_loops(ring) if k in crossed else [ring])
    return rings


def _find_crossed_rings(
    keys: NDArray[np.int64], ends: NDArray[np.int64], diagonal_corners: NDArray[np.int64]
) -> set[int]:
    """Return the rings that visit a corner twice; only corners of diagonal steps can be visited twice."""
    diagonal_corners.sort()
    twice = diagonal_corners[1:][diagonal_corners[1:] == diagonal_corners[:-1]]
    if not len(twice):
        return set()
    return set(np.searchsorted(ends, np.flatnonzero(np.isin(keys, twice)), side="right").tolist())


def _cut_holes(
    bitmap: PlacedBitmap, outer: NDArray[np.int32], holes: list[NDArray[np.int32]], is_only_component: bool
) -> list[PlacedBitmap]:
    """Cut a component with holes by vertical lines through all holes, so that no part has one.

    Args:
        bitmap: the object.
        outer, holes: contours of the component, in the bitmap.
        is_only_component: whether the object has no other component.
    """
    pixels, x, y = bitmap
    left, top, width, height = cv2.boundingRect(outer)
    component: NDArray[Any] = pixels[top : top + height, left : left + width]
    if not is_only_component:
        _, labels = cv2.connectedComponents(np.ascontiguousarray(component), connectivity=8)
        component = (labels == labels[outer[0, 0, 1] - top, outer[0, 0, 0] - left]).view(np.uint8)
    spans = []
    for hole in holes:  # the contour of a hole consists of the pixels around it
        start, _, hole_width, _ = cv2.boundingRect(hole)
        spans.append((start + 1 - left, start + hole_width - 1 - left))
    return [
        (component[:, low:high], x + left + low, y + top)
        for low, high in pairwise([0, *_fewest_cuts(spans), width])
        if low < high
    ]


def _fewest_cuts(intervals: list[tuple[int, int]]) -> list[int]:
    """Return the fewest positions that meet every interval [low, high], each in the middle of the common part."""
    lines: list[int] = []
    low = high = -1
    for start, end in sorted(intervals, key=lambda interval: interval[1]):
        if start > high:
            if high >= 0:
                lines.append((low + high) // 2)
            low, high = start, end
        else:
            low = max(low, start)
    return [*lines, (low + high) // 2]


def _split_loops(ring: list[int]) -> list[list[int]]:
    """Split a ring that touches itself at corners (pixels that meet diagonally) into rings that do not."""
    loops: list[list[int]] = []
    path: list[tuple[int, int]] = []
    seen: dict[tuple[int, int], int] = {}
    for corner in zip(ring[::2], ring[1::2], strict=True):
        if corner in seen:
            start = seen[corner]
            loops.append([value for point in path[start:] for value in point])
            for left in path[start:]:
                del seen[left]
            del path[start:]
        seen[corner] = len(path)
        path.append(corner)
    return [*loops, [value for point in path for value in point]]
