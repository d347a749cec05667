"""One segmentation of a YouTube-VIS-style file: kept in about its bytes in the file, made a mask when it is used."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Rle

_MAX_DISTANCE = 4


def compact_segmentation(part: Any, size: tuple[int, int]) -> Any:
    """A segmentation, as json gives it, in the form that ``parse_segmentation`` takes.

    Args:
        part: polygons, an RLE or null; anything else is returned as it is, and ``parse_segmentation`` reports it.
        size: height and width of the frame.

    Returns:
        an RLE of the frame's size as bytes (coded counts) or as an array of runs, polygons as a list of arrays.
    """
    if isinstance(part, dict) and part.get("size") == list(size):
        counts = part.get("counts")
        if isinstance(counts, str) and counts.isascii():
            return counts.encode("ascii")
        if isinstance(counts, list) and set(map(type, counts)) == {int}:
            return _to_array("I", counts) or part
    if isinstance(part, list) and part and all(_is_polygon(flat) for flat in part):
        outlines = [_to_array("i", flat) or _to_array("d", flat) for flat in part]
        return outlines if all(outlines) else part
    return part


def _to_array(code: str, values: list[Any]) -> array[Any] | None:
    """The numbers as C has them; None when some do not fit."""
    try:
        return array(code, values)
    except (TypeError, OverflowError):  # a fraction among whole numbers; a number that is too large or below 0
        return None


def _is_polygon(flat: Any) -> bool:
    whole = isinstance(flat, list) and len(flat) >= 6 and len(flat) % 2 == 0
    return whole and set(map(type, flat)) <= {int, float}


def parse_segmentation(file: Path, where: str, part: Any, size: tuple[int, int]) -> Rle | None:
    """The mask of one segmentation; None when it says that nothing is visible.

    Args:
        file, where: for the message.
        part: from ``compact_segmentation``.
        size: height and width of the frame.

    Raises:
        InputError: none of the forms of the format, or an RLE that is not of the frame's size.
    """
    if part is None or part == []:
        return None
    if isinstance(part, list):
        return masks.from_polygons([_check_polygon(file, where, flat, size) for flat in part], *size, rule="union")
    if isinstance(part, dict):
        if part.get("size") != list(size):
            reason = f"mask is of size {part.get('size')!r:.40}, its frame of {list(size)} (height, width)"
            raise InputError(file, reason, field=f"{where}.size")
        part = part.get("counts")
    if not isinstance(part, (bytes, array)):
        raise InputError(file, "polygons, an RLE of size and counts, or null is expected", field=where)
    try:
        return masks.from_counts(part, size)
    except ValueError as error:
        raise InputError(file, str(error), field=f"{where}.counts") from error


def _check_polygon(file: Path, where: str, flat: Any, size: tuple[int, int]) -> Sequence[float]:
    if not isinstance(flat, array) and not _is_polygon(flat):
        raise InputError(file, "a polygon is a list of three or more x, y", field=where)
    # pycocotools walks along every edge, so one far point would take minutes
    if not all(abs(v) <= _MAX_DISTANCE * max(size) for v in flat):
        raise InputError(file, "a polygon's point lies far outside the frame, or is not a number", field=where)
    return flat
