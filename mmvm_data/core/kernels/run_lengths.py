"""Run lengths of masks: decoding, sizes and overlaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmvm_data.core.kernels.compiling import BYTES, INT, INTS, Ints, compile_entry, compile_helper, find_box

_MAX_RUN = 2**40
_MAX_CHARS = 12


@compile_helper
def _decode_runs(codes: NDArray[np.uint8], stops: Ints, num_pixels: int) -> tuple[int, Ints, Ints, Ints]:
    """Do what ``decode`` does."""
    starts, ends = np.empty(len(codes), np.int64), np.empty(len(codes), np.int64)
    offsets = np.zeros(len(stops) + 1, np.int64)
    status = size = place = 0
    for mask in range(len(stops)):
        position = number = 0
        before = last = 0  # the lengths of the run two before and of the one before
        while place < stops[mask]:
            length = chars = 0
            while True:
                code = int(codes[place]) - 48
                if code < 0 or code > 63 or chars == _MAX_CHARS:
                    return -1, starts, ends, offsets
                length |= (code & 31) << (5 * chars)
                place += 1
                chars += 1
                if not code & 32:
                    break
                if place == stops[mask]:
                    return -1, starts, ends, offsets
            if code & 16:
                length -= 1 << (5 * chars)
            if number > 2:
                length += before
            if length < 0 or length > _MAX_RUN:
                return -1, starts, ends, offsets
            if not length and number:
                status = 1
            elif number & 1:
                starts[size], ends[size] = position, position + length
                size += 1
            position += length
            before, last = last, length
            number += 1
        if position != num_pixels:
            return -1, starts, ends, offsets
        offsets[mask + 1] = size
    return status, starts[:size], ends[:size], offsets


@compile_helper
def _count_shared(starts: Ints, ends: Ints, first: int, end: int, other: int, other_end: int) -> int:
    """Return how many pixels two masks share, whose runs are the given ranges."""
    shared = 0
    while first < end and other < other_end:
        low, high = max(starts[first], starts[other]), min(ends[first], ends[other])
        if high > low:
            shared += high - low
        if ends[first] < ends[other]:
            first += 1
        else:
            other += 1
    return shared


@compile_entry(BYTES, INTS, INT)
def decode(codes: NDArray[np.uint8], stops: Ints, num_pixels: int) -> tuple[int, Ints, Ints, Ints]:
    """Return what ``rle.decode_all`` does.

    Args:
        codes: the compressed counts of all masks, concatenated.
        stops: where the counts of each mask end.
        num_pixels: of the frame.

    Returns:
        A status: 0, or 1 where a mask has an empty run beside its first, or -1 where counts are broken and the rest
        has no meaning; start and end of the runs of all masks; and where those of each mask begin, with the end of the
        last.
    """
    return _decode_runs(codes, stops, num_pixels)


@compile_entry(BYTES, INTS, INT, INT)
def measure(
    codes: NDArray[np.uint8], stops: Ints, height: int, width: int
) -> tuple[int, Ints, NDArray[np.float64], Ints]:
    """Measure masks of one frame.

    Args:
        codes, stops: as for ``decode``.
        height, width: of the frame.

    Returns:
        The status of ``decode``; and if that is 0, area and tight box (x, y, width, height) of each mask, and the most
        pixels that it shares with another one.
    """
    status, starts, ends, offsets = _decode_runs(codes, stops, height * width)
    count = len(stops)
    areas, shared, boxes = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros((count, 4), np.float64)
    if status != 0:
        return status, areas, boxes, shared
    lefts, tops = np.zeros(count, np.int64), np.zeros(count, np.int64)
    rights, bottoms = np.zeros(count, np.int64), np.zeros(count, np.int64)  # exclusive
    for mask in range(count):
        first, end = offsets[mask], offsets[mask + 1]
        if first == end:
            continue
        for k in range(first, end):
            areas[mask] += ends[k] - starts[k]
        left, top, right, bottom = find_box(starts, ends, first, end, height)
        lefts[mask], tops[mask], rights[mask], bottoms[mask] = left, top, right, bottom
        boxes[mask, 0], boxes[mask, 1], boxes[mask, 2], boxes[mask, 3] = left, top, right - left, bottom - top
    for mask in range(count):
        for other in range(mask + 1, count):
            if (
                min(rights[mask], rights[other]) > max(lefts[mask], lefts[other])
                and min(bottoms[mask], bottoms[other]) > max(tops[mask], tops[other])
            ):  # fmt: skip
                pixels = _count_shared(
                    starts, ends, offsets[mask], offsets[mask + 1], offsets[other], offsets[other + 1]
                )
                shared[mask], shared[other] = max(shared[mask], pixels), max(shared[other], pixels)
    return status, areas, boxes, shared
