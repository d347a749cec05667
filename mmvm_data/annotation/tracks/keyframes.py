"""Pictures between those that were drawn on: boxes are interpolated, everything else is that of the picture before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmvm_data.core.types import Box, Region


def fill_pictures(drawn: Mapping[int, Region], numbers: Sequence[int]) -> dict[int, Region]:
    """An object in each picture from the first one that it is drawn in.

    Between two pictures with boxes, each side of the box moves evenly with the number of the frame. A mask, and what
    comes after the last picture, is that of the picture before.

    Args:
        drawn: position in the shot -> the object there; one or more.
        numbers: of the frames in the clip, ascending, by position.

    Returns:
        by position; those of ``drawn`` as they are.
    """
    filled: dict[int, Region] = {}
    keyframes = sorted(drawn)
    for position in range(keyframes[0], len(numbers)):
        if position in drawn:
            filled[position] = drawn[position]
            continue
        before = max(key for key in keyframes if key < position)
        after = min((key for key in keyframes if key > position), default=None)
        start, end = drawn[before], None if after is None else drawn[after]
        if start.box is not None and end is not None and end.box is not None and after is not None:
            share = (numbers[position] - numbers[before]) / (numbers[after] - numbers[before])
            filled[position] = start.model_copy(update={"box": interpolate_box(start.box, end.box, share)})
        else:
            filled[position] = start
    return filled


def interpolate_box(start: Box, end: Box, share: float) -> Box:
    """The box (x, y, width, height) at a share, 0..1, of the way between two."""
    x, y, width, height = (round(a + share * (b - a), 2) for a, b in zip(start, end, strict=True))
    return x, y, width, height
