"""Trace bitmaps into contours to draw, and into polygons along pixel edges that reproduce the bitmap exactly.

Readers of the benchmark fill each polygon of an object separately (``frPyObjects`` of pycocotools), then either clear
the pixels that two polygons cover (the published reader) or take their union. Both reproduce the mask exactly when the
polygons have integer corners on pixel edges, have no holes, and only touch each other. So every connected component is
traced as one ring; a component with holes is first cut by the fewest vertical lines that meet all its holes.

OpenCV follows the borders. Rings are computed from the same border walks as the drawn contours, for all objects at
once: the number of pixel edges between two steps of a walk depends on how far the walk turns.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
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
_NUM_EDGES = (np.tile(_EXIT_CORNER, 8) - _FIRST_CORNER) % 4
_NUM_EDGES[[8 * d + (d ^ 4) for d in (1, 3, 5, 7)]] = 4  # a diagonal step in and back visits all four edges
_LAST_EDGE = (_FIRST_CORNER + _NUM_EDGES - 1) % 4
_IS_TURN = np.repeat(np.arange(8), 8) != np.tile(np.arange(8), 8)
_IS_DIAGONAL = np.repeat(np.arange(8) % 2 == 1, 8)
_CORNER_OFFSET = np.array([0, 1 << 32, (1 << 32) + 1, 1])  # as x + (y << 32)


def trace_outlines(bitmaps: Sequence[PlacedBitmap]) -> list[Outline]:
    """Return contours and polygons of several objects; tight crops are fastest.

    Args:
        bitmaps: the objects, in any order; an empty bitmap has an empty outline.
    """
    outlines = [Outline([], []) for _ in bitmaps]
    border = _follow_borders(bitmaps)
    holes = _find_holes(border.parents)
    # contours that are only drawn, then those that are drawn and become rings, then parts, which only become rings
    solid = [k for k, inner in holes.items() if not inner]
    order = [*(k for component, inner in holes.items() if inner for k in (component, *inner)), *solid]
    if not order:
        return outlines
    parts, components = _trace_parts(border, bitmaps, holes)
    contours = [*map(border.contours.__getitem__, order), *parts]
    walks = _build_walks([contour.points for contour in contours], np.array([contour.left for contour in contours]))
    shifts = np.array([contour.shift for contour in contours])
    simple = dict(zip(order, _simplify_contours(walks, shifts, len(order)), strict=True))
    for k, contour in enumerate(border.contours):
        outlines[contour.owner].contours.append(simple[k])
    rings: dict[int, list[list[int]]] = {}
    loops = _trace_rings(walks, shifts, len(order) - len(solid))
    for component, found in zip((*solid, *components), loops, strict=True):
        rings.setdefault(component, []).extend(found)
    for component in sorted(rings):
        outlines[border.contours[component].owner].polygons.extend(rings[component])
    return outlines


def trace_contours(bitmap: NDArray[np.uint8], x: int = 0, y: int = 0, outermost: bool = False) -> list[NDArray[Any]]:
    """Return the contours of one bitmap alone, see ``Outline``; a tenth of the time of ``trace_outlines``.

    Args:
        bitmap: uint8 [h, w].
        x, y: its top left pixel in the frame.
        outermost: leave out holes and what lies in them, in the same order.
    """
    if not bitmap.size:
        return []
    mode = cv2.RETR_EXTERNAL if outermost else cv2.RETR_TREE
    return list(cv2.findContours(bitmap, mode, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))[0])


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


class _Contour(NamedTuple):
    """One contour as OpenCV follows it, with every pixel.

    Attributes:
        points: int32 [n, 1, 2], in its bitmap.
        owner: number of the object.
        left: where the bitmap begins when all of them lie side by side, with a column between them: no two share a
            point or a corner then.
        shift: from there to the place in the frame, as x + (y << 32).
    """

    points: NDArray[Any]
    owner: int
    left: int
    shift: int


class _Borders(NamedTuple):
    """All contours of all objects, of each the contour around it or -1, and the first column to the right of all."""

    contours: list[_Contour]
    parents: list[int]
    right: int


def _follow_borders(bitmaps: Sequence[PlacedBitmap]) -> _Borders:
    contours: list[_Contour] = []
    parents: list[int] = []
    left = 0
    for owner, (bitmap, x, y) in enumerate(bitmaps):
        if bitmap.size:
            traced, hierarchy = cv2.findContours(bitmap, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
            if traced:
                offset = len(contours)
                parents += [parent + offset if parent >= 0 else -1 for parent in hierarchy[0, :, 3].tolist()]
                contours += [_Contour(points, owner, left, x - left + (y << 32)) for points in traced]
        left += bitmap.shape[1] + 1
    return _Borders(contours, parents, left)


def _find_holes(parents: Sequence[int]) -> dict[int, list[int]]:
    """Return the contours of holes by the outer contour of their component; components without holes have none."""
    holes: dict[int, list[int]] = {}
    for k, parent in enumerate(parents):  # a parent comes before what it holds
        if parent in holes:
            holes[parent].append(k)
        else:
            holes[k] = []
    return holes


def _trace_parts(
    border: _Borders, bitmaps: Sequence[PlacedBitmap], holes: Mapping[int, list[int]]
) -> tuple[list[_Contour], list[int]]:
    """Cut the components with holes, and return the contours of the parts, which have none, and their components."""
    left = border.right
    contours: list[_Contour] = []
    components: list[int] = []
    num_components = Counter(border.contours[k].owner for k in holes)
    for component, inner in holes.items():
        if not inner:
            continue
        outer = border.contours[component]
        parts, starts, x, y = _cut_holes(
            bitmaps[outer.owner],
            outer.points,
            [border.contours[hole].points for hole in inner],
            is_only_component=num_components[outer.owner] == 1,
            holds_others=not set(inner).isdisjoint(border.parents),
        )
        traced, _ = cv2.findContours(parts, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
        numbers = [bisect_right(starts, int(points[0, 0, 0])) - 1 for points in traced]
        for number, points in sorted(zip(numbers, traced, strict=True), key=itemgetter(0)):
            contours.append(_Contour(points, outer.owner, left, x - number - left + (y << 32)))
        components += [component] * len(traced)
        left += parts.shape[1] + 1
    return contours, components


def _build_walks(contours: Sequence[NDArray[Any]], lefts: NDArray[np.int64]) -> _Walks:
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


def _simplify_contours(walks: _Walks, shifts: NDArray[np.int64], count: int) -> Iterator[NDArray[np.int32]]:
    """Yield the first walks as OpenCV's simple approximation: only the points where the direction changes."""
    starts, ends, shifts = walks.starts[:count], walks.ends[:count], shifts[:count]
    is_turn = _IS_TURN[walks.directions[: ends[-1]]]
    is_turn[starts[ends - starts == 1]] = True
    ends = np.cumsum(is_turn)[ends - 1]
    lengths = ends - np.concatenate(([0], ends[:-1]))
    points = (walks.points[: len(is_turn)][is_turn] + np.repeat(shifts, lengths)).view(np.int32).reshape(-1, 1, 2)
    return (points[start:end] for start, end in pairwise([0, *ends.tolist()]))


def _trace_rings(walks: _Walks, shifts: NDArray[np.int64], first: int) -> list[list[list[int]]]:
    """Return, for each walk from number ``first`` on, the rings along its pixel edges; none has a hole inside."""
    if first == len(walks.starts):
        return []
    offset = walks.starts[first]
    starts, ends, shifts = walks.starts[first:] - offset, walks.ends[first:] - offset, shifts[first:]
    points, directions = walks.points[offset:], walks.directions[offset:]
    num_edges, first_edge, last_edge = _NUM_EDGES[directions], _FIRST_CORNER[directions], _LAST_EDGE[directions]
    single_pixels = starts[ends - starts == 1]
    num_edges[single_pixels], last_edge[single_pixels] = 4, (first_edge[single_pixels] + 3) % 4
    diagonal_corners = (points + _CORNER_OFFSET[first_edge])[_IS_DIAGONAL[directions]]
    pixels = np.flatnonzero(num_edges)  # a walk that turns inwards passes some pixels without an edge
    starts, ends = np.searchsorted(pixels, starts), np.searchsorted(pixels, ends)
    num_edges, first_edge, last_edge = num_edges[pixels], first_edge[pixels], last_edge[pixels]
    previous = np.concatenate((last_edge[:1], last_edge[:-1]))
    previous[starts] = last_edge[ends - 1]
    # edges of one pixel meet at corners of the ring; its first edge may continue the edge before it
    continues = first_edge == previous
    num_corners = num_edges - continues
    corner_ends = np.cumsum(num_corners, dtype=np.int64)
    turning = np.flatnonzero(num_corners)
    counts = num_corners[turning]
    corner = np.arange(corner_ends[-1]) - np.repeat(
        corner_ends[turning] - counts - first_edge[turning] - continues[turning], counts
    )
    keys = np.repeat(points[pixels[turning]], counts) + _CORNER_OFFSET[corner & 3]
    ends = corner_ends[ends - 1]
    crossed = _find_crossed_rings(keys, ends, diagonal_corners)
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
    bitmap: PlacedBitmap, outer: NDArray[Any], holes: list[NDArray[Any]], is_only_component: bool, holds_others: bool
) -> tuple[NDArray[np.uint8], list[int], int, int]:
    """Cut a component with holes by vertical lines through all holes, so that no part has one.

    Args:
        bitmap: the object.
        outer, holes: contours of the component, in the bitmap.
        is_only_component: whether the object has no other component.
        holds_others: whether another one lies in its holes.

    Returns:
        the parts side by side with an empty column between them, the column at which each begins, and the place of
        the component in the frame: x and y of its top left pixel.
    """
    pixels, x, y = bitmap
    left, top, width, height = cv2.boundingRect(outer)
    component: NDArray[Any] = pixels[top : top + height, left : left + width]
    if not is_only_component and not holds_others:
        filled = np.zeros((height, width), np.uint8)
        cv2.drawContours(filled, [outer], -1, 1, cv2.FILLED, offset=(-left, -top))
        component = (component != 0) & filled
    elif not is_only_component:
        _, labels = cv2.connectedComponents(np.ascontiguousarray(component), connectivity=8)
        component = (labels == labels[outer[0, 0, 1] - top, outer[0, 0, 0] - left]).view(np.uint8)
    spans = []
    for hole in holes:  # the contour of a hole consists of the pixels around it
        start, _, hole_width, _ = cv2.boundingRect(hole)
        spans.append((start + 1 - left, start + hole_width - 1 - left))
    cuts = [0, *_fewest_cuts(spans), width]
    parts = np.zeros((height, width + len(cuts) - 2), np.uint8)
    for number, (low, high) in enumerate(pairwise(cuts)):
        parts[:, low + number : high + number] = component[:, low:high]
    return parts, [low + number for number, low in enumerate(cuts[:-1])], x + left, y + top


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
