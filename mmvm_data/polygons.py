"""Bitmaps -> polygons along pixel edges that come back as the same bitmap.

The readers of the benchmark fill each polygon of an object by itself (pycocotools' ``frPyObjects``), then either clear
the pixels that two polygons cover (the published reader) or join them. Both give the exact mask when polygons have
whole-numbered corners on pixel edges, have no holes, and only touch each other. So:

- a piece without holes is one ring, traced by OpenCV on the bitmap at twice its size, where border pixels and pixel
  edges correspond one to one;
- anything with a hole is cut into as few hole-free parts as a greedy pass finds (``_cut``).
"""

from __future__ import annotations

import cv2
import numpy as np

Ring = list[tuple[int, int]]


def trace(bitmap: np.ndarray, x: int = 0, y: int = 0) -> list[list[int]]:
    """Polygons of a bitmap, exact under both reading rules.

    Args:
        bitmap: uint8 or bool [h, w], non-zero inside; a tight crop is fastest.
        x, y: position of the bitmap's top left pixel in its frame.

    Returns:
        flat lists x0, y0, x1, y1 … of whole numbers, at least eight values each, without repeated or collinear
        corners, in a fixed order. Polygons share no pixel; each is free of holes. Empty for an empty bitmap.
    """
    if not bitmap.size:
        return []
    doubled = cv2.resize(bitmap.astype(np.uint8, copy=False), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return []
    if hierarchy[0, :, 2].max() >= 0:  # some outer contour has a hole
        return [_flat(_corners(np.array(ring)), x, y) for ring in _cut(bitmap)]
    polygons = []
    for contour in contours:
        # border pixel 2k or 2k + 1 of the doubled bitmap lies on the edge k or k + 1 of the bitmap
        corners = _corners((contour[:, 0, :] + 1) >> 1)
        keys = corners[:, 0].astype(np.int64) << 32 | corners[:, 1]
        loops = [corners] if len(set(keys.tolist())) == len(keys) else _loops(corners)
        polygons.extend(_flat(loop, x, y) for loop in loops)
    return polygons


def _corners(ring: np.ndarray) -> np.ndarray:
    """The ring [n, 2] without repeated points and without points in the middle of a straight edge."""
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
    step = ring != np.roll(ring, 1, axis=0)  # which coordinate changes on the way here; exactly one does
    return ring[step[:, 0] != np.roll(step[:, 0], -1)]


def _flat(ring: np.ndarray, x: int, y: int) -> list[int]:
    return (ring + (x, y)).ravel().tolist()


def _loops(ring: np.ndarray) -> list[np.ndarray]:
    """Split a ring that touches itself at corners (pixels that meet diagonally) into rings that do not."""
    loops: list[np.ndarray] = []
    path: Ring = []
    seen: dict[tuple[int, int], int] = {}
    for corner in map(tuple, ring.tolist()):
        if corner in seen:
            start = seen[corner]
            loops.append(_corners(np.array(path[start:])))
            for left in path[start:]:
                del seen[left]
            del path[start:]
        seen[corner] = len(path)
        path.append(corner)
    loops.append(_corners(np.array(path)))
    return loops


def _cut(bitmap: np.ndarray) -> list[Ring]:
    """Hole-free rings of a bitmap with holes.

    Columns of pixels are joined to strips as long as one run follows one run. Strips that touch are joined to one
    ring, unless that would close a circle around a hole: a group of strips whose contacts form a tree has no hole.
    """
    strips, contacts = _strips(bitmap)
    group = _forest(len(strips), contacts)
    ports: list[tuple[list[int], list[int]]] = [([], []) for _ in strips]  # left and right neighbours of the same group
    for left, right in contacts:
        if group[left] == group[right]:
            ports[left][1].append(right)
            ports[right][0].append(left)
    tops = [strip[1] for strip in strips]
    rings, done = [], set()
    for first in range(len(strips)):
        if group[first] in done:
            continue
        done.add(group[first])
        rings.append(_walk(first, strips, ports, tops))
    return rings


Strip = tuple[int, list[int], list[int]]
"""First column, then top and (exclusive) bottom row of each column."""


def _strips(bitmap: np.ndarray) -> tuple[list[Strip], list[tuple[int, int]]]:
    """Strips of a bitmap, and the pairs (left, right) of strips that touch along a piece of a column's edge."""
    padded = np.zeros((bitmap.shape[1], bitmap.shape[0] + 2), np.int8)
    padded[:, 1:-1] = bitmap.T != 0
    edges = np.diff(padded, axis=1)
    columns, tops = np.nonzero(edges == 1)
    bottoms = np.nonzero(edges == -1)[1]
    strips: list[Strip] = []
    contacts: list[tuple[int, int]] = []
    before: list[tuple[int, int, int]] = []  # runs of the column before: top, bottom, strip
    bounds = np.searchsorted(columns, np.arange(bitmap.shape[1] + 1)).tolist()
    tops, bottoms = tops.tolist(), bottoms.tolist()
    for x in range(bitmap.shape[1]):
        runs = list(zip(tops[bounds[x] : bounds[x + 1]], bottoms[bounds[x] : bounds[x + 1]], strict=True))
        touching = [[p for p in before if p[0] < bottom and top < p[1]] for top, bottom in runs]
        uses: dict[int, int] = {}
        for found in touching:
            for _, _, strip in found:
                uses[strip] = uses.get(strip, 0) + 1
        now = []
        for (top, bottom), found in zip(runs, touching, strict=True):
            if len(found) == 1 and uses[found[0][2]] == 1:
                strip = found[0][2]
                strips[strip][1].append(top)
                strips[strip][2].append(bottom)
            else:
                strip = len(strips)
                strips.append((x, [top], [bottom]))
                contacts.extend((p[2], strip) for p in found)
            now.append((top, bottom, strip))
        before = now
    return strips, contacts


def _forest(count: int, contacts: list[tuple[int, int]]) -> list[int]:
    """Group of each strip, such that the contacts inside a group form a tree."""
    group = list(range(count))
    members = [[strip] for strip in range(count)]
    around: list[dict[int, int]] = [{} for _ in range(count)]  # group -> contacts with it
    for a, b in contacts:
        around[a][b] = around[a].get(b, 0) + 1
        around[b][a] = around[b].get(a, 0) + 1
    for a, b in contacts:
        keep, gone = group[a], group[b]
        if keep == gone or around[keep][gone] != 1:
            continue
        if len(around[keep]) < len(around[gone]):
            keep, gone = gone, keep
        for strip in members[gone]:
            group[strip] = keep
        members[keep] += members[gone]
        del around[keep][gone], around[gone][keep]
        for other, contact in around[gone].items():
            around[keep][other] = around[keep].get(other, 0) + contact
            around[other][keep] = around[keep][other]
            del around[other][gone]
    return group


def _walk(first: int, strips: list[Strip], ports: list[tuple[list[int], list[int]]], tops: list[list[int]]) -> Ring:
    """Outline of the tree of strips that ``first`` belongs to, clockwise on the screen."""
    ring: Ring = []
    stack = [iter(_outline(first, None, strips, ports, tops))]
    while stack:
        for item in stack[-1]:
            if isinstance(item, tuple):
                ring.append(item)
            else:
                strip, came_from = divmod(item, len(strips))
                stack.append(iter(_outline(strip, came_from, strips, ports, tops)))
                break
        else:
            stack.pop()
    return ring


def _outline(
    strip: int, came_from: int | None, strips: list[Strip], ports: list[tuple[list[int], list[int]]], tops: list[list[int]]
) -> list[tuple[int, int] | int]:
    """Corners of one strip clockwise, and between them, as ``neighbour * count + strip``, the strips to visit.

    Starts just after the neighbour ``came_from``, and leaves it out.
    """
    x, top, bottom = strips[strip]
    count = len(strips)
    items: list[tuple[int, int] | int] = []
    for i, row in enumerate(top):
        items += [(x + i, row), (x + i + 1, row)]
    items += [right * count + strip for right in sorted(ports[strip][1], key=lambda s: tops[s][0])]
    for i in range(len(bottom) - 1, -1, -1):
        items += [(x + i + 1, bottom[i]), (x + i, bottom[i])]
    items += [left * count + strip for left in sorted(ports[strip][0], key=lambda s: -tops[s][-1])]
    if came_from is None:
        return items
    door = items.index(came_from * count + strip)
    return items[door + 1 :] + items[:door]
