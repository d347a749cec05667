"""Bitmaps -> polygons along pixel edges that come back as the same bitmap.

The readers of the benchmark fill each polygon of an object by itself (pycocotools' ``frPyObjects``), then either clear
the pixels that two polygons cover (the published reader) or join them. Both give the exact mask when polygons have
whole-numbered corners on pixel edges, have no holes, and only touch each other. So every piece is traced as one ring;
a piece with holes is first cut by as few vertical lines as meet all its holes.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np


def trace(bitmap: np.ndarray, x: int = 0, y: int = 0) -> list[list[int]]:
    """Polygons of a bitmap, exact under both reading rules.

    Args:
        bitmap: uint8 or bool [h, w], non-zero inside, each side under 32,768; a tight crop is fastest.
        x, y: position of the bitmap's top left pixel in its frame.

    Returns:
        flat lists x0, y0, x1, y1 … of whole numbers, at least eight values each, without repeated or collinear
        corners, in a fixed order. Polygons share no pixel; each is a simple ring. Empty for an empty bitmap.
    """
    if not bitmap.size:
        return []
    bitmap = bitmap.view(np.uint8) if bitmap.dtype == np.bool_ else bitmap
    # At twice the size border pixels and pixel edges correspond one to one: border pixel 2k or 2k - 1 of the doubled
    # bitmap lies on edge k.
    doubled = cv2.resize(bitmap, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if len(contours) == 1:
        return _rings(contours[0], x, y)
    polygons: list[list[int]] = []
    labels = None
    for contour, (_, _, hole, parent) in zip(contours, hierarchy[0].tolist() if contours else (), strict=True):
        if parent >= 0:
            continue
        if hole < 0:
            polygons += _rings(contour, x, y)
            continue
        if labels is None:
            _, labels = cv2.connectedComponents(bitmap, connectivity=8)
        left, top, width, height = (v // 2 for v in cv2.boundingRect(contour))
        column, row = (contour[0, 0] >> 1).tolist()
        piece = (labels[top : top + height, left : left + width] == labels[row, column]).view(np.uint8)
        holes = []
        while hole >= 0:
            start, _, wide, _ = cv2.boundingRect(contours[hole])
            holes.append(((start + 1) // 2 - left, (start + wide) // 2 - left))
            hole = int(hierarchy[0, hole, 0])
        lines = [0, *_stab(holes), width]
        for low, high in pairwise(lines):
            if low < high:
                polygons += trace(np.ascontiguousarray(piece[:, low:high]), x + left + low, y + top)
    return polygons


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


def _rings(contour: np.ndarray, x: int, y: int) -> list[list[int]]:
    """A contour [n, 1, 2] of the doubled bitmap as rings along the pixel edges of the bitmap at (x, y)."""
    edges = (contour[:, 0, :] + 1) >> 1
    keys = _corners((edges[:, 0] << 16) | edges[:, 1])
    listed = keys.tolist()
    if len(set(listed)) == len(listed):
        return [_flat(keys, x, y)]
    return [_flat(_corners(np.array(loop, np.int32)), x, y) for loop in _loops(listed)]


def _corners(keys: np.ndarray) -> np.ndarray:
    """A closed ring of points x << 16 | y without repeated points and without points inside a straight edge."""
    before = np.concatenate((keys[-1:], keys[:-1]))
    moved = keys != before
    keys, before = keys[moved], before[moved]
    upright = (keys ^ before) < 1 << 16  # the way to this point keeps x
    return keys[upright != np.concatenate((upright[1:], upright[:1]))]


def _flat(keys: np.ndarray, x: int, y: int) -> list[int]:
    points = np.empty((len(keys), 2), np.int32)
    np.add(keys >> 16, x, out=points[:, 0])
    np.add(keys & 0xFFFF, y, out=points[:, 1])
    return points.ravel().tolist()


def _loops(ring: list[int]) -> list[list[int]]:
    """Split a ring that touches itself at corners (pixels that meet diagonally) into rings that do not."""
    loops: list[list[int]] = []
    path: list[int] = []
    seen: dict[int, int] = {}
    for corner in ring:
        if corner in seen:
            start = seen[corner]
            loops.append(path[start:])
            for left in path[start:]:
                del seen[left]
            del path[start:]
        seen[corner] = len(path)
        path.append(corner)
    return [*loops, path]
