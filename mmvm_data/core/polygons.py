"""Bitmaps -> contours to draw, and polygons along pixel edges that come back as the same bitmap.

The readers of the benchmark fill each polygon of an object by itself (pycocotools' ``frPyObjects``), then either clear
the pixels that two polygons cover (the published reader) or join them. Both give the exact mask when polygons have
whole-numbered corners on pixel edges, have no holes, and only touch each other. So every piece is traced as one ring;
a piece with holes is first cut by as few vertical lines as meet all its holes.

OpenCV follows the borders. Rings come from the same walks as the drawn contours, those of all objects at once: between
two steps of a walk over border pixels lie as many pixel edges as the walk turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import cv2
import numpy as np


class Outline(NamedTuple):
    """One object.

    Attributes:
        contours: what ``cv2.findContours`` gives for the whole frame with tree retrieval and simple approximation,
            in that order; int32 [n, 1, 2] each, through pixel centres.
        polygons: flat lists x0, y0, x1, y1 … along pixel edges, whole numbers, at least eight each, without repeated
            or collinear corners, in a fixed order. They share no pixel; each is a simple ring.
    """

    contours: list[np.ndarray]
    polygons: list[list[int]]


PlacedBitmap = tuple[np.ndarray, int, int]
"""A bitmap, uint8 [h, w], non-zero inside, each side under 32,768, and x, y of its top left pixel in its frame."""

# Directions 0..7: E, NE, N, NW, W, SW, S, SE. Corners 0..3 of a pixel: top left, bottom left, bottom right, top right,
# the order in which a walk with the object on its left passes them; the edge after corner q has direction q.
_DIRECTION = np.array([3, 2, 1, 0, 4, 0, 0, 0, 5, 6, 7], np.uint8)  # by 4 * (dy + 1) + dx + 1
_ENTRY = np.array([1, 1, 2, 2, 3, 3, 0, 0], np.uint8)  # the corner at which a step of a direction reaches its pixel
_EXIT = np.array([2, 3, 3, 0, 0, 1, 1, 2], np.uint8)  # the corner at which it leaves the pixel before
# by 8 * direction in + direction out: the first corner of a pixel, and its number of edges
_FIRST = np.repeat(_ENTRY, 8)
_EDGES = ((np.tile(_EXIT, 8) - _FIRST) % 4).astype(np.int64)
_EDGES[[8 * d + (d ^ 4) for d in (1, 3, 5, 7)]] = 4  # a diagonal way in and back again goes all around
_TURNS = np.repeat(np.arange(8), 8) != np.tile(np.arange(8), 8)
_DIAGONAL = np.repeat(np.arange(8) % 2 == 1, 8)
_OFFSET = np.array([0, 1 << 32, (1 << 32) + 1, 1])  # of a corner, as x + (y << 32)


def trace_outlines(patches: Sequence[PlacedBitmap]) -> list[Outline]:
    """Contours and polygons of several objects; tight crops are fastest.

    Args:
        patches: the objects, in any order; an empty bitmap has an empty outline.
    """
    return _outlines(patches, draw=True)


def trace_polygons(bitmap: np.ndarray, x: int = 0, y: int = 0) -> list[list[int]]:
    """Polygons of one bitmap, exact under both reading rules; see ``outlines``."""
    return trace_outlines([(bitmap, x, y)])[0].polygons


class _Walks(NamedTuple):
    """Closed walks over border pixels, one after the other.

    Attributes:
        points: x + (y << 32), x counted over all patches, int64 [n].
        ways: 8 * direction into the pixel + direction out of it, uint8 [n].
        starts, ends: of each walk in ``points``.
    """

    points: np.ndarray
    ways: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def _outlines(patches: Sequence[PlacedBitmap], draw: bool) -> list[Outline]:
    """Outlines of the patches; without their contours unless ``draw``."""
    found = [Outline([], []) for _ in patches]
    contours: list[np.ndarray] = []
    owners: list[int] = []  # of each contour: its patch
    parents: list[int] = []  # and the contour around it, or -1
    for k, (bitmap, _, _) in enumerate(patches):
        if not bitmap.size:
            continue
        traced, hierarchy = cv2.findContours(bitmap, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
        if not traced:
            continue
        before = len(contours)
        parents += [parent + before if parent >= 0 else -1 for parent in hierarchy[0, :, 3].tolist()]
        contours += traced
        owners += [k] * len(traced)
    if not contours:
        return found
    # as if the patches lay side by side: no two of them share a point
    lefts = [0, *accumulate(bitmap.shape[1] + 1 for bitmap, _, _ in patches)]
    walks = _walks(contours, np.array(lefts)[owners])
    moves = np.array([x - left + (y << 32) for (_, x, y), left in zip(patches, lefts, strict=False)])[owners]
    if draw:
        for owner, contour in zip(owners, _drawn(walks, moves), strict=True):
            found[owner].contours.append(contour)
    holes: list[list[int]] = [[] for _ in parents]  # of each piece
    depth: list[int] = []
    for k, parent in enumerate(parents):
        depth.append(depth[parent] + 1 if parent >= 0 else 0)
        if depth[k] % 2:
            holes[parent].append(k)
    whole = [k for k, deep in enumerate(depth) if deep % 2 == 0 and not holes[k]]
    pieces = [k for k, mine in enumerate(holes) if mine]
    rings = dict(zip(whole, _rings(walks, np.array(whole, np.int64), moves), strict=True))
    if pieces:
        outer = [owners[k] for k in (*whole, *pieces)]
        parts = [
            (k, part)
            for k in pieces
            for part in _cut(
                patches[owners[k]], contours[k], [contours[h] for h in holes[k]], outer.count(owners[k]) == 1
            )
        ]
        for (k, _), outline in zip(parts, _outlines([part for _, part in parts], draw=False), strict=True):
            rings.setdefault(k, []).extend(outline.polygons)
    for k in sorted(rings):
        found[owners[k]].polygons.extend(rings[k])
    return found


def _walks(contours: Sequence[np.ndarray], lefts: np.ndarray) -> _Walks:
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


def _drawn(walks: _Walks, moves: np.ndarray) -> Iterator[np.ndarray]:
    """The walks as the simple approximation gives them: it keeps a point where the direction changes."""
    turns = _TURNS[walks.ways]
    turns[walks.starts[walks.ends - walks.starts == 1]] = True
    ends = np.cumsum(turns)[walks.ends - 1]
    lengths = ends - np.concatenate(([0], ends[:-1]))
    points = (walks.points[turns] + np.repeat(moves, lengths)).view(np.int32).reshape(-1, 1, 2)
    return (points[start:end] for start, end in pairwise([0, *ends.tolist()]))


def _rings(walks: _Walks, chosen: np.ndarray, moves: np.ndarray) -> list[list[list[int]]]:
    """For each chosen walk around a piece without holes, the rings along its pixel edges."""
    if not len(chosen):
        return []
    starts, ends, points, ways = walks.starts, walks.ends, walks.points, walks.ways
    if len(chosen) < len(starts):
        lengths = (ends - starts)[chosen]
        ends = np.cumsum(lengths)
        pixel = np.arange(ends[-1]) + np.repeat(starts[chosen] - ends + lengths, lengths)
        starts, points, ways, moves = ends - lengths, points[pixel], ways[pixel], moves[chosen]
    edges, first = _EDGES[ways], _FIRST[ways]
    alone = starts[ends - starts == 1]
    edges[alone] = 4
    past = np.cumsum(edges)
    # of each edge: its pixel, and the corner it begins at
    corner = (np.arange(past[-1]) - np.repeat(past - edges - first, edges)) & 3
    last = past[ends - 1] - 1
    before = np.concatenate((corner[:1], corner[:-1]))
    before[np.concatenate(([0], last[:-1] + 1))] = corner[last]
    kept = corner != before
    keys = np.repeat(points, edges)[kept] + _OFFSET[corner[kept]]
    ends = np.cumsum(kept)[last]
    crossed = _crossed(keys, ends, (points + _OFFSET[first])[_DIAGONAL[ways]])
    lengths = ends - np.concatenate(([0], ends[:-1]))
    flat = (keys + np.repeat(moves, lengths)).view(np.int32).tolist()
    rings = []
    for k, (start, end) in enumerate(pairwise([0, *ends.tolist()])):
        ring = flat[2 * start : 2 * end]
        rings.append(_loops(ring) if k in crossed else [ring])
    return rings


def _crossed(keys: np.ndarray, ends: np.ndarray, suspects: np.ndarray) -> set[int]:
    """Rings that meet one of their corners again; only a corner that a diagonal step goes through can be one."""
    suspects.sort()
    twice = suspects[1:][suspects[1:] == suspects[:-1]]
    if not len(twice):
        return set()
    return set(np.searchsorted(ends, np.flatnonzero(np.isin(keys, twice)), side="right").tolist())


def _cut(patch: PlacedBitmap, outer: np.ndarray, holes: list[np.ndarray], alone: bool) -> list[PlacedBitmap]:
    """A piece with holes, cut by vertical lines through all of them, so that no part has one.

    Args:
        patch: the object.
        outer, holes: contours of the piece, in the patch.
        alone: whether the object has no other piece.
    """
    pixels, x, y = patch
    left, top, width, height = cv2.boundingRect(outer)
    piece = pixels[top : top + height, left : left + width]
    if not alone:
        _, labels = cv2.connectedComponents(np.ascontiguousarray(piece), connectivity=8)
        piece = (labels == labels[outer[0, 0, 1] - top, outer[0, 0, 0] - left]).view(np.uint8)
    spans = []
    for hole in holes:  # given by the pixels around it
        start, _, wide, _ = cv2.boundingRect(hole)
        spans.append((start + 1 - left, start + wide - 1 - left))
    return [
        (piece[:, low:high], x + left + low, y + top) for low, high in pairwise([0, *_stab(spans), width]) if low < high
    ]


def _stab(intervals: list[tuple[int, int]]) -> list[int]:
    """The fewest lines that meet every interval [low, high], each in the middle of what its intervals share."""
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


def _loops(ring: list[int]) -> list[list[int]]:
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
