"""Bitmaps -> contours to draw, and polygons along pixel edges that come back as the same bitmap.

The readers of the benchmark fill each polygon of an object by itself (pycocotools' ``frPyObjects``), then either clear
the pixels that two polygons cover (the published reader) or join them. Both give the exact mask when polygons have
whole-numbered corners on pixel edges, have no holes, and only touch each other. So every piece is traced as one ring;
a piece with holes is first cut by as few vertical lines as meet all its holes.

All objects of an image are laid side by side and followed by OpenCV in one call. Rings come from the same walk as the
drawn contours: between two steps of a walk over border pixels lie as many pixel edges as the walk turns.
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


Placed = tuple[np.ndarray, int, int]
"""A bitmap, uint8 [h, w], non-zero inside, each side under 32,768, and x, y of its top left pixel in its frame."""

_SHEET = 1 << 22  # pixels that are followed in one call, unless one bitmap alone has more
_LONGEST = 1 << 15

# Directions 0..7: E, NE, N, NW, W, SW, S, SE. Corners 0..3 of a pixel: top left, bottom left, bottom right, top right,
# the order in which a walk with the object on its left passes them; the edge after corner q has direction q.
_DIRECTION = np.array([3, 2, 1, 4, 0, 0, 5, 6, 7])  # by 3 * (dy + 1) + dx + 1
_CORNER_X, _CORNER_Y = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0])
_ENTRY = np.array([1, 1, 2, 2, 3, 3, 0, 0])  # the corner at which a step of a direction reaches its pixel
_EXIT = np.array([2, 3, 3, 0, 0, 1, 1, 2])  # the corner at which it leaves the pixel before
_EDGES = (_EXIT[None, :] - _ENTRY[:, None]) % 4  # of a pixel, by directions into and out of it
_EDGES[[1, 3, 5, 7], [5, 7, 1, 3]] = 4  # a diagonal way in and back again goes all around


def outlines(patches: Sequence[Placed]) -> list[Outline]:
    """Contours and polygons of several objects; tight crops are fastest.

    Args:
        patches: the objects, in any order; an empty bitmap has an empty outline.
    """
    found: list[Outline] = []
    for sheet in _sheets(patches):
        found += _follow(sheet)
    return found


def trace(bitmap: np.ndarray, x: int = 0, y: int = 0) -> list[list[int]]:
    """Polygons of one bitmap, exact under both reading rules; see ``outlines``."""
    return outlines([(bitmap, x, y)])[0].polygons


def _sheets(patches: Sequence[Placed]) -> Iterator[list[Placed]]:
    """Consecutive patches that fit side by side into one image of moderate size."""
    sheet: list[Placed] = []
    width = height = 0
    for patch in patches:
        rows, columns = patch[0].shape
        if sheet and (max(height, rows) * (width + columns) > _SHEET or width + columns > _LONGEST):
            yield sheet
            sheet, width, height = [], 0, 0
        sheet.append(patch)
        width, height = width + columns + 1, max(height, rows)
    if sheet:
        yield sheet


class _Walks(NamedTuple):
    """Closed walks over border pixels, one after the other: points int32 [n, 2], the directions into and out of each,
    and where each walk starts; ``starts`` ends with n."""

    points: np.ndarray
    into: np.ndarray
    out: np.ndarray
    starts: np.ndarray


def _follow(sheet: list[Placed]) -> list[Outline]:
    lefts = [0, *accumulate(patch[0].shape[1] + 1 for patch in sheet)]
    pixels = np.zeros((max(patch[0].shape[0] for patch in sheet), lefts.pop()), np.uint8)
    for (bitmap, _, _), left in zip(sheet, lefts, strict=True):
        pixels[: bitmap.shape[0], left : left + bitmap.shape[1]] = bitmap
    found = [Outline([], []) for _ in sheet]
    contours, hierarchy = (
        cv2.findContours(pixels, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE) if pixels.size else ((), np.zeros((1, 0, 4)))
    )
    if not contours:
        return found
    walks = _walks(contours)
    owners = np.searchsorted(lefts, walks.points[walks.starts[:-1], 0], side="right") - 1
    moves = np.array([(x - left, y) for (_, x, y), left in zip(sheet, lefts, strict=True)])[owners]
    turns = walks.into != walks.out  # where the simple approximation keeps a point
    turns[walks.starts[:-1][np.diff(walks.starts) == 1]] = True
    drawn = walks.points[turns] + np.repeat(moves, np.add.reduceat(turns, walks.starts[:-1]), axis=0)
    ends = np.cumsum(turns)[walks.starts[1:] - 1].tolist()
    places = owners.tolist()
    for owner, (start, end) in zip(places, pairwise([0, *ends]), strict=True):
        found[owner].contours.append(drawn[start:end, None].astype(np.int32))
    parents = hierarchy[0, :, 3].tolist()
    holes: list[list[int]] = [[] for _ in parents]  # of each piece
    depth: list[int] = []
    for k, parent in enumerate(parents):
        depth.append(depth[parent] + 1 if parent >= 0 else 0)
        if depth[k] % 2:
            holes[parent].append(k)
    whole = [k for k, deep in enumerate(depth) if deep % 2 == 0 and not holes[k]]
    rings = dict(zip(whole, _rings(walks, np.array(whole, np.int64), moves), strict=True))
    labels = None
    for k, owner in enumerate(places):
        if k in rings:
            found[owner].polygons.extend(rings[k])
        elif holes[k]:
            if labels is None:
                _, labels = cv2.connectedComponents(pixels, connectivity=8)
            found[owner].polygons.extend(_cut(labels, contours[k], [contours[h] for h in holes[k]], moves[k]))
    return found


def _walks(contours: Sequence[np.ndarray]) -> _Walks:
    points = np.concatenate(contours)[:, 0]
    starts = np.array([0, *accumulate(map(len, contours))])
    following = np.arange(1, len(points) + 1)
    following[starts[1:] - 1] = starts[:-1]
    step = points[following] - points
    out = _DIRECTION[3 * step[:, 1] + step[:, 0] + 4]
    into = np.empty_like(out)
    into[following] = out
    return _Walks(points, into, out, starts)


def _rings(walks: _Walks, chosen: np.ndarray, moves: np.ndarray) -> list[list[list[int]]]:
    """For each chosen walk around a piece without holes, the rings along its pixel edges."""
    if not len(chosen):
        return []
    lengths = np.diff(walks.starts)[chosen]
    ends = np.cumsum(lengths)
    pixel = np.repeat(walks.starts[chosen] - ends + lengths, lengths) + np.arange(ends[-1])
    edges = _EDGES[walks.into[pixel], walks.out[pixel]]
    alone = lengths == 1
    if alone.any():
        edges[(ends - 1)[alone]] = 4
    past = np.cumsum(edges)
    corner = (np.repeat(_ENTRY[walks.into[pixel]] - past + edges, edges) + np.arange(past[-1])) & 3
    if alone.any():
        corner[np.repeat(np.repeat(alone, lengths), edges)] = np.tile(np.arange(4), int(alone.sum()))
    pixel = np.repeat(pixel, edges)
    ends = past[ends - 1]
    starts = np.concatenate(([0], ends[:-1]))
    before = np.concatenate((corner[:1], corner[:-1]))
    before[starts] = corner[ends - 1]
    kept = corner != before
    x = (walks.points[pixel, 0] + _CORNER_X[corner])[kept]
    y = (walks.points[pixel, 1] + _CORNER_Y[corner])[kept]
    ends = np.cumsum(kept)[ends - 1]
    keys = (x.astype(np.int64) << 32) | y
    ordered = np.argsort(keys, kind="stable")
    twice = ordered[1:][np.diff(keys[ordered]) == 0]  # corners that a ring meets again
    crossed = set(np.searchsorted(ends, twice, side="right").tolist())
    moved = np.stack((x, y), axis=1) + np.repeat(moves[chosen], np.diff(ends, prepend=0), axis=0)
    flat = moved.ravel().tolist()
    rings = []
    for k, (start, end) in enumerate(pairwise([0, *ends.tolist()])):
        ring = flat[2 * start : 2 * end]
        rings.append(_loops(ring) if k in crossed else [ring])
    return rings


def _cut(labels: np.ndarray, outer: np.ndarray, holes: list[np.ndarray], move: np.ndarray) -> list[list[int]]:
    """Polygons of a piece with holes: it is cut by vertical lines through all of them, each part traced for itself."""
    left, top, width, height = cv2.boundingRect(outer)
    label = labels[outer[0, 0, 1], outer[0, 0, 0]]
    piece = (labels[top : top + height, left : left + width] == label).view(np.uint8)
    spans = []
    for hole in holes:  # given by the pixels around it
        start, _, wide, _ = cv2.boundingRect(hole)
        spans.append((start + 1 - left, start + wide - 1 - left))
    parts = [
        (piece[:, low:high], int(move[0]) + left + low, int(move[1]) + top)
        for low, high in pairwise([0, *_stab(spans), width])
        if low < high
    ]
    return [polygon for part in outlines(parts) for polygon in part.polygons]


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
