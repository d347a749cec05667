"""One segmentation in COCO's format: held in about its size in the file, decoded to a mask when it is used."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Rle

_MAX_DISTANCE = 4
"""Largest coordinate of a polygon's point, in multiples of the frame's longer side."""


def compact_segmentation(value: Any, size: tuple[int, int]) -> Any:
    """Return a segmentation, as ``json`` parses it, in the compact form that ``parse_segmentation`` takes.

    Args:
        value: polygons, an RLE or null; anything else is returned as it is, and ``parse_segmentation`` reports it.
        size: height and width of the frame.

    Returns:
        an RLE of the frame's size as bytes (compressed counts) or as an array of run lengths; polygons as a list of
        arrays.
    """
    if isinstance(value, dict) and value.get("size") == list(size):
        counts = value.get("counts")
        if isinstance(counts, str) and counts.isascii():
            return counts.encode("ascii")
        if isinstance(counts, list) and set(map(type, counts)) == {int}:
            return _to_array("I", counts) or value
    if isinstance(value, list) and value and all(_is_polygon(flat) for flat in value):
        polygons = [_to_array("i", flat) or _to_array("d", flat) for flat in value]
        return polygons if all(polygons) else value
    return value


def parse_segmentation(file: Path, field: str, value: Any, size: tuple[int, int]) -> Rle | None:
    """Return the mask of one segmentation; None when it is empty or null, so that nothing is visible.

    Args:
        file, field: for the message.
        value: from ``compact_segmentation``.
        size: height and width of the frame.

    Raises:
        InputError: not in one of COCO's forms, or an RLE that is not of the frame's size.
    """
    if value is None or value == []:
        return None
    if isinstance(value, list):
        polygons = [_check_polygon(file, field, flat, size) for flat in value]
        return masks.from_polygons(polygons, *size, rule="union")
    if isinstance(value, dict):
        if value.get("size") != list(size):
            reason = f"mask is of size {value.get('size')!r:.40}, its frame of {list(size)} (height, width)"
            raise InputError(file, reason, field=f"{field}.size")
        value = value.get("counts")
    if not isinstance(value, (bytes, array)):
        raise InputError(file, "polygons, an RLE of size and counts, or null is expected", field=field)
    return parse_counts(file, f"{field}.counts", value, size)


def parse_counts(file: Path, field: str, counts: str | bytes | array[int], size: tuple[int, int]) -> Rle:
    """Return the mask of COCO's run lengths.

    Args:
        file, field: for the message.
        counts: compressed (text or bytes), or an array of run lengths.
        size: height and width of the frame.

    Raises:
        InputError: the counts are malformed or do not fill the frame.
    """
    try:
        return masks.from_counts(counts, size)
    except ValueError as error:
        raise InputError(file, str(error), field=field) from error


def _to_array(code: str, values: list[Any]) -> array[Any] | None:
    """Return the numbers as C integers or doubles; None when some do not fit."""
    try:
        return array(code, values)
    except (TypeError, OverflowError):  # a fraction among integers; a number that is too large or negative
        return None


def _is_polygon(flat: Any) -> bool:
    is_pairs = isinstance(flat, list) and len(flat) >= 6 and len(flat) % 2 == 0
    return is_pairs and set(map(type, flat)) <= {int, float}


def _check_polygon(file: Path, field: str, value: Any, size: tuple[int, int]) -> Sequence[float]:
    if not isinstance(value, array) and not _is_polygon(value):
        raise InputError(file, "a polygon is a list of three or more x, y", field=field)
    flat: Sequence[float] = value
    # pycocotools walks along every edge, so one far point would take minutes
    if not all(abs(v) <= _MAX_DISTANCE * max(size) for v in flat):
        raise InputError(file, "a polygon's point is far outside the frame, or is not a number", field=field)
    return flat
