"""Contours and polygons of masks, see ``polygons``, which makes the same from bitmaps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mmvm_data.core.kernels.borders import (
    IN_COMPONENT,
    VISITED,
    Borders,
    Order,
    allocate_bitmap,
    draw_box,
    find_borders,
    mark_component,
    order_borders,
)
from mmvm_data.core.kernels.compiling import INTS, Bitmap, Ints, compile_entry, compile_helper, enlarge

# Corners 0..3 of a pixel: top left, bottom left, bottom right, top right; by the direction into it and out of it
_CORNER_X = np.array([0, 0, 1, 1])
_CORNER_Y = np.array([0, 1, 1, 0])
_ENTRY_CORNER = np.array([1, 1, 2, 2, 3, 3, 0, 0])
_EXIT_CORNER = np.array([2, 3, 3, 0, 0, 1, 1, 2])


class _Paths(NamedTuple):
    """Contours or rings that were found so far: ``size`` points x, y, and the end of each of ``num_paths`` paths."""

    points: Ints
    ends: Ints
    size: int
    num_paths: int


@compile_helper
def _add_contour(contours: _Paths, borders: Borders, k: int, x: int, y: int) -> _Paths:
    """Append a border: only the points where its direction changes. x and y are the place of the bitmap."""
    first, end = borders.firsts[k], borders.firsts[k + 1]
    size = contours.size
    points = enlarge(contours.points, 2 * (size + end - first))
    ends = enlarge(contours.ends, contours.num_paths + 1)
    into = borders.directions[end - 1]
    for step in range(first, end):
        out = borders.directions[step]
        if out != into or end - first == 1:
            points[2 * size], points[2 * size + 1] = x + borders.xs[step], y + borders.ys[step]
            size += 1
        into = out
    ends[contours.num_paths] = size
    return _Paths(points, ends, size, contours.num_paths + 1)


@compile_helper
def _add_rings(rings: _Paths, borders: Borders, k: int, x: int, y: int, stride: int) -> _Paths:
    """Append the rings along the pixel edges of an outer border without holes; one that touches itself is split there.

    Args:
        x, y: place of the bitmap.
        stride: of its rows.
    """
    xs, ys, length, is_crossed = _trace_ring(borders, k, stride)
    flags = borders.flags
    size, count = rings.size, rings.num_paths
    points, ends = enlarge(rings.points, 2 * (size + length)), enlarge(rings.ends, count + length + 1)
    kept = length
    if is_crossed:
        kept = 0
        places = np.empty(len(flags), np.int64)  # of visited corners, in the ring
        for number in range(length):
            corner_x, corner_y = xs[number], ys[number]
            corner = corner_y * stride + corner_x
            if flags[corner] & VISITED:
                begin = places[corner]
                for place in range(begin, kept):
                    points[2 * size], points[2 * size + 1] = x + xs[place], y + ys[place]
                    size += 1
                    flags[ys[place] * stride + xs[place]] ^= VISITED
                ends[count] = size
                count += 1
                kept = begin
            xs[kept], ys[kept], places[corner] = corner_x, corner_y, kept
            kept += 1
            flags[corner] |= VISITED
        for place in range(kept):
            flags[ys[place] * stride + xs[place]] ^= VISITED
    for place in range(kept):
        points[2 * size], points[2 * size + 1] = x + xs[place], y + ys[place]
        size += 1
    ends[count] = size
    return _Paths(points, ends, size, count + 1)


@compile_helper
def _trace_ring(borders: Borders, k: int, stride: int) -> tuple[Ints, Ints, int, bool]:
    """Return the corners along the pixel edges of a border, xs and ys, int64 [n or more]; n; and whether it visits one
    twice."""
    first, end = borders.firsts[k], borders.firsts[k + 1]
    directions, flags = borders.directions, borders.flags
    xs, ys = np.empty(4 * (end - first), np.int64), np.empty(4 * (end - first), np.int64)
    last_edge = 0
    step = end - 1
    while end - first > 1:  # the last edge, which the first one may continue; a pixel may have none
        first_edge, num_edges = _find_edges(directions[step - 1 if step > first else end - 1], directions[step])
        if num_edges:
            last_edge = (first_edge + num_edges - 1) & 3
            break
        step -= 1
    size = 0
    is_crossed = False
    into = directions[end - 1]
    for step in range(first, end):
        first_edge, num_edges = _find_edges(into, directions[step])
        if end - first == 1:
            first_edge, num_edges = 1, 4
        into = directions[step]
        for edge in range(first_edge, first_edge + num_edges):
            if edge == last_edge and edge == first_edge:
                continue  # no corner: it continues the edge before
            xs[size] = borders.xs[step] + _CORNER_X[edge & 3]
            ys[size] = borders.ys[step] + _CORNER_Y[edge & 3]
            corner = ys[size] * stride + xs[size]
            size += 1
            is_crossed |= flags[corner] & VISITED != 0
            flags[corner] |= VISITED
        if num_edges:
            last_edge = (first_edge + num_edges - 1) & 3
    for number in range(size):
        flags[ys[number] * stride + xs[number]] &= ~VISITED & 255
    return xs, ys, size, is_crossed


@compile_helper
def _find_edges(into: int, out: int) -> tuple[int, int]:
    """Return the first edge of a pixel between two steps of a border, and how many there are. Edge n is the one after
    corner n."""
    first = _ENTRY_CORNER[into]
    if into == out ^ 4 and into & 1:  # a diagonal step in and back
        return first, 4
    return first, (_EXIT_CORNER[out] - first) & 3


@compile_helper
def _add_parts(
    rings: _Paths, image: Bitmap, is_alone: bool, stride: int, borders: Borders, order: Order, k: int, x: int, y: int
) -> _Paths:
    """Append the rings of a component with holes, cut by the fewest vertical lines that meet all of them.

    Args:
        image: the bitmap.
        is_alone: whether the bitmap has no other component.
        stride: of its rows.
        k: the outer border of the component.
        x, y: place of the bitmap.
    """
    first, end = borders.firsts[k], borders.firsts[k + 1]
    left, top, right, bottom = borders.xs[first], borders.ys[first], 0, 0
    for step in range(first, end):
        left, right = min(left, borders.xs[step]), max(right, borders.xs[step])
        top, bottom = min(top, borders.ys[step]), max(bottom, borders.ys[step])
    cuts = _find_cuts(borders, order, k, left, right - left + 1)
    width, height = right - left + len(cuts) - 1, bottom - top + 1
    flags = borders.flags
    if not is_alone:
        mark_component(image, flags, stride, (borders.ys[first] + 1) * stride + borders.xs[first] + 1)
    parts = allocate_bitmap(width, height)
    part_at = np.zeros(width, np.int64)
    for part in range(len(cuts) - 1):
        low, high = cuts[part], cuts[part + 1]
        part_at[low + part : high + part] = part
        for row in range(height):
            place, target = (top + row + 1) * stride + left + 1, (row + 1) * (width + 2) + part + 1
            if is_alone:
                source, copy = image[place + low : place + high], parts[target + low : target + high]
                for column in range(len(copy)):  # from 0 on, so that the compiler copies many at once
                    copy[column] = source[column]
                continue
            for column in range(low, high):
                if flags[place + column] & IN_COMPONENT:
                    flags[place + column] ^= IN_COMPONENT
                    parts[target + column] = 1
    traced = find_borders(parts, width, height)
    # part by part, and within each in OpenCV's order, which is the reverse here
    heads = np.full(len(cuts) - 1, -1, np.int64)
    following = np.empty(traced.num_borders, np.int64)
    for number in range(traced.num_borders):
        part = part_at[traced.xs[traced.firsts[number]]]
        following[number] = heads[part]
        heads[part] = number
    for part in range(len(cuts) - 1):
        number = heads[part]
        while number >= 0:
            rings = _add_rings(rings, traced, number, x + left - part, y + top, width + 2)
            number = following[number]
    return rings


@compile_helper
def _find_cuts(borders: Borders, order: Order, k: int, left: int, width: int) -> Ints:
    """Return 0, the columns at which a component is cut, and its width; see ``polygons._fewest_cuts``."""
    # the holes by the last column at which they can be cut, of one such column in OpenCV's order
    lows, following = np.empty(borders.num_borders, np.int64), np.empty(borders.num_borders, np.int64)
    heads, tails = np.full(width + 1, -1, np.int64), np.full(width + 1, -1, np.int64)
    hole = order.heads[k + 1]
    num_holes = 0
    while hole >= 0:
        low, high = width, 0
        for step in range(borders.firsts[hole], borders.firsts[hole + 1]):
            low, high = min(low, borders.xs[step] + 1 - left), max(high, borders.xs[step] - left)
        lows[hole], following[hole] = low, -1
        if heads[high] < 0:
            heads[high] = hole
        else:
            following[tails[high]] = hole
        tails[high] = hole
        num_holes += 1
        hole = order.following[hole]
    cuts = np.zeros(num_holes + 2, np.int64)
    count = 1
    low = common = -1  # the columns from low to common meet all holes since the last cut
    for high in range(width + 1):
        hole = heads[high]
        while hole >= 0:
            if lows[hole] > common:
                if common >= 0:
                    cuts[count] = (low + common) // 2
                    count += 1
                low, common = lows[hole], high
            else:
                low = max(low, lows[hole])
            hole = following[hole]
    cuts[count], cuts[count + 1] = (low + common) // 2, width
    return cuts[: count + 2]


@compile_entry(INTS, INTS, INTS, INTS)
def trace(starts: Ints, ends: Ints, offsets: Ints, heights: Ints) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
    """Return what ``polygons.trace_outlines`` does of the bitmaps of masks.

    Args:
        starts, ends: the runs of all masks, as column-major positions in the mask's frame, int64 [n].
        offsets: where the runs of each mask begin, and the end of the last.
        heights: of the frame of each mask.

    Returns:
        x, y of the points of all contours, flat; where each contour ends, in points; how many contours come before
        each mask; and the same three of the corners of polygons. All int64.
    """
    contours = _Paths(np.empty(2048, np.int64), np.empty(64, np.int64), 0, 0)
    rings = _Paths(np.empty(2048, np.int64), np.empty(64, np.int64), 0, 0)
    num_masks = len(offsets) - 1
    contours_before, rings_before = np.zeros(num_masks, np.int64), np.zeros(num_masks, np.int64)
    for mask in range(num_masks):
        contours_before[mask], rings_before[mask] = contours.num_paths, rings.num_paths
        first, end = offsets[mask], offsets[mask + 1]
        if first == end:
            continue
        image, x, y, width, rows = draw_box(starts[first:end], ends[first:end], heights[mask])
        borders = find_borders(image, width, rows)
        order = order_borders(borders)
        num_components = borders.num_borders - borders.is_hole[: borders.num_borders].sum()
        for k in order.sequence:
            contours = _add_contour(contours, borders, k, x, y)
            if borders.is_hole[k]:
                continue
            if order.heads[k + 1] < 0:
                rings = _add_rings(rings, borders, k, x, y, width + 2)
            else:
                rings = _add_parts(rings, image, num_components == 1, width + 2, borders, order, k, x, y)
    return (
        contours.points[: 2 * contours.size],
        contours.ends[: contours.num_paths],
        contours_before,
        rings.points[: 2 * rings.size],
        rings.ends[: rings.num_paths],
        rings_before,
    )
