"""Borders of a bitmap as ``cv2.findContours`` follows them (Suzuki and Abe 1985), and in its order.

A bitmap is uint8, 0 and 1, row by row in one array, with a border of zeros around it. Directions
0..7 are E, NE, N, NW, W, SW, S, SE.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mmvm_data.core.kernels.compiling import Bitmap, Ints, Labels, compile_helper, enlarge, find_box

_NONE = -1
_EIGHT_ONES, _EIGHT_ZEROS = np.uint64(0x0101010101010101), np.uint64(0)
# flags of a pixel: a border passes it, a border passes between it and the pixel to its right, it is of the component in
# question; and of the corner at its top left: a ring visits it
PASSED, PASSED_RIGHT, IN_COMPONENT, VISITED = 1, 2, 4, 8
_STEP_X = np.array([1, 1, 0, -1, -1, -1, 0, 1])
_STEP_Y = np.array([0, -1, -1, -1, 0, 1, 1, 1])
_STEPS_AT_ONCE = 256


class Borders(NamedTuple):
    """All borders of a bitmap in the order in which they are found.

    Attributes:
        num_borders: how many.
        firsts: where the pixels of each begin, and the end of the last: int64 [num_borders + 1 or more].
        is_hole: whether the border is that of a hole, 0 or 1: int64 [num_borders or more].
        parents: the border around it, or -1: int64 [num_borders or more].
        xs, ys: its pixels, one for each step: int64 [n or more].
        directions: of the step to the next pixel; 0 for a border of one pixel: int64 [n or more].
        flags: of the pixels and corners of the bitmap, see ``PASSED``: uint8, as long as the bitmap.
    """

    num_borders: int
    firsts: Ints
    is_hole: Ints
    parents: Ints
    xs: Ints
    ys: Ints
    directions: Ints
    flags: Bitmap


class Order(NamedTuple):
    """OpenCV's order of borders: a border comes before those that it holds, of which the last found come first.

    Attributes:
        sequence: all borders, int64 [n].
        heads: the first border that each holds, or -1, shifted by one: the first one that nothing holds is at 0;
            int64 [n + 1].
        following: the next border within the same one, or -1: int64 [n].
    """

    sequence: Ints
    heads: Ints
    following: Ints


@compile_helper
def allocate_bitmap(width: int, height: int) -> Bitmap:
    """Return an empty bitmap with its border; eight pixels can be read at each multiple of eight."""
    return np.zeros(((width + 2) * (height + 2) + 7) // 8 * 8, np.uint8)


@compile_helper
def draw_box(starts: Ints, ends: Ints, height: int) -> tuple[Bitmap, int, int, int, int]:
    """Return the bitmap of a mask's tight box, and the box: x, y, width, height.

    Args:
        starts, ends: of the runs, at least one; column-major positions in a frame of this height.
    """
    left, top, right, bottom = find_box(starts, ends, 0, len(starts), height)
    image = allocate_bitmap(right - left, bottom - top)
    stride = right - left + 2
    for k in range(len(starts)):
        column = starts[k] // height
        row = starts[k] - column * height
        place = (row - top + 1) * stride + column - left + 1
        for _ in range(ends[k] - starts[k]):
            if row == height:
                row, column = 0, column + 1
                place = stride + column - left + 1
            image[place] = 1
            row += 1
            place += stride
    return image, left, top, right - left, bottom - top


@compile_helper
def find_borders(image: Bitmap, width: int, height: int) -> Borders:
    """Return all borders of a bitmap, which is not changed."""
    stride = width + 2
    # of pixels that are passed: the last border that does, or the one to its right
    labels = np.empty(len(image), np.int32)
    borders = Borders(
        0, np.zeros(16, np.int64), np.empty(16, np.int64), np.empty(16, np.int64),
        np.empty(1024, np.int64), np.empty(1024, np.int64), np.empty(1024, np.int64), np.zeros(len(image), np.uint8),
    )  # fmt: skip
    flags = borders.flags
    previous = np.uint8(0)
    words = image.view(np.uint64)
    for word in range(len(words)):
        if words[word] == (_EIGHT_ONES if previous else _EIGHT_ZEROS):
            continue
        for place in range(8 * word, 8 * word + 8):
            if image[place] == previous:
                continue
            previous = image[place]
            if previous and not flags[place] & PASSED:
                borders = _follow(image, labels, stride, place, 0, borders)
            elif not previous and not flags[place - 1] & PASSED_RIGHT:
                borders = _follow(image, labels, stride, place - 1, 1, borders)
    return borders


@compile_helper
def _follow(image: Bitmap, labels: Labels, stride: int, begin: int, is_hole: int, borders: Borders) -> Borders:
    """Append the border that begins at a pixel, and label its pixels."""
    count, flags = borders.num_borders, borders.flags
    firsts, holes = enlarge(borders.firsts, count + 2), enlarge(borders.is_hole, count + 1)
    parents = enlarge(borders.parents, count + 1)
    xs, ys, directions = borders.xs, borders.ys, borders.directions
    row = begin // stride
    # the border that lies last before it in its row is the one around it, or that one's neighbor
    place = begin - 1 + is_hole
    while place > row * stride and not flags[place] & PASSED:
        place -= 1
    last = labels[place] if place > row * stride else _NONE
    parents[count] = parents[last] if last >= 0 and holes[last] == is_hole else last
    holes[count] = is_hole
    size = firsts[count]
    x, y = begin - row * stride - 1, row - 1
    s = 0 if is_hole else 4  # the direction in which a pixel outside is
    before = begin
    for turned in range(1, 8):
        s_before = (s - turned) & 7
        before = begin + _STEP_Y[s_before] * stride + _STEP_X[s_before]
        if image[before]:
            s = s_before
            break
        before = begin
    if before == begin:  # it is alone
        xs, ys, directions = enlarge(xs, size + 1), enlarge(ys, size + 1), enlarge(directions, size + 1)
        xs[size], ys[size], directions[size] = x, y, 0
        labels[begin] = count
        flags[begin] |= PASSED | PASSED_RIGHT
        firsts[count + 1] = size + 1
        return Borders(count + 1, firsts, holes, parents, xs, ys, directions, flags)
    pixel = begin
    is_closed = False
    while not is_closed:
        room = size + _STEPS_AT_ONCE
        xs, ys, directions = enlarge(xs, room), enlarge(ys, room), enlarge(directions, room)
        size, pixel, s, x, y, is_closed = _take_steps(
            image, flags, labels, stride, count, begin, before, pixel, s, x, y, xs, ys, directions, size
        )
    firsts[count + 1] = size
    return Borders(count + 1, firsts, holes, parents, xs, ys, directions, flags)


@compile_helper
def _take_steps(
    image: Bitmap, flags: Bitmap, labels: Labels, stride: int, label: int, begin: int, before: int,
    pixel: int, s: int, x: int, y: int, xs: Ints, ys: Ints, directions: Ints, size: int
) -> tuple[int, int, int, int, int, bool]:  # fmt: skip
    """Follow a border for some steps; arrays that are not replaced in the loop make it twice as fast.

    Args:
        label: number of the border.
        begin, before: its first and its last pixel.
        pixel, s, x, y: where it goes on, and the direction of the pixel before.
        xs, ys, directions, size: what is appended to, with room for as many steps, and how long it is.

    Returns:
        ``size``, ``pixel``, ``s``, ``x`` and ``y`` afterwards, and whether the border is closed.
    """
    offsets = np.empty(16, np.int64)  # two turns
    for k in range(16):
        offsets[k] = _STEP_Y[k & 7] * stride + _STEP_X[k & 7]
    for _ in range(_STEPS_AT_ONCE):
        into = s
        following = pixel
        while True:
            s += 1
            following = pixel + offsets[s]
            if image[following]:
                break
        s &= 7
        flag = flags[pixel]
        if 0 < s <= into:  # the search passed the pixel to the right
            flags[pixel] = flag | PASSED | PASSED_RIGHT
            labels[pixel] = label
        elif not flag & PASSED:
            flags[pixel] = flag | PASSED
            labels[pixel] = label
        xs[size], ys[size], directions[size] = x, y, s
        size += 1
        if following == begin and pixel == before:
            return size, pixel, s, x, y, True
        x += _STEP_X[s]
        y += _STEP_Y[s]
        pixel = following
        s = (s + 4) & 7
    return size, pixel, s, x, y, False


@compile_helper
def order_borders(borders: Borders) -> Order:
    """Return the order of borders in which OpenCV lists them."""
    count, parents = borders.num_borders, borders.parents
    heads = np.full(count + 1, _NONE, np.int64)
    following = np.empty(count, np.int64)
    for k in range(count):
        following[k] = heads[parents[k] + 1]
        heads[parents[k] + 1] = k
    sequence = np.empty(count, np.int64)
    k = heads[0]
    for position in range(count):
        sequence[position] = k
        if heads[k + 1] != _NONE:
            k = heads[k + 1]
            continue
        while k != _NONE and following[k] == _NONE:
            k = parents[k]
        if k != _NONE:
            k = following[k]
    return Order(sequence, heads, following)


@compile_helper
def mark_component(image: Bitmap, flags: Bitmap, stride: int, start: int) -> None:
    """Flag the pixels of a bitmap that are connected with one of them."""
    waiting: Ints = np.empty(512, np.int64)
    waiting[0] = start
    flags[start] |= IN_COMPONENT
    size = 1
    while size:
        size -= 1
        place = waiting[size]
        waiting = enlarge(waiting, size + 8)
        for s in range(8):
            neighbor = place + _STEP_Y[s] * stride + _STEP_X[s]
            if image[neighbor] and not flags[neighbor] & IN_COMPONENT:
                flags[neighbor] |= IN_COMPONENT
                waiting[size] = neighbor
                size += 1
