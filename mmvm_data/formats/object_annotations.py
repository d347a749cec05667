"""The annotation file of an image: a JSON list of its objects in COCO's style."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Region, Rle
from mmvm_data.formats.tsv import shorten
from mmvm_data.io.files import read_regular
from mmvm_data.io.json_files import parse_json


class AnnotatedObject(NamedTuple):
    """One object of an annotation file.

    Attributes:
        id: what the file says under ``id``.
        height, width: pixels of the image.
        polygons: as the file has them.
        region: ``bbox`` when its pixels are the object's, else the mask: ``rle``, or what the published reader sees.
        rle: ``rle`` of the file.
        skipped: polygons that the published reader skips.
    """

    id: Any
    height: int
    width: int
    polygons: list[list[float]]
    region: Region
    rle: Rle | None
    skipped: int


def read_objects(path: Path, name: str) -> list[AnnotatedObject]:
    """The objects of an annotation file.

    Args:
        path: the file.
        name: its name in messages.

    Raises:
        InputError: the file is missing, is no list of objects, or an object lacks its size or shape.
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise InputError(name, f"file cannot be read: {error.strerror or error}") from error
    content = parse_json(data, name)
    if not isinstance(content, list):
        raise InputError(name, f"expected a list of objects, found {type(content).__name__}")
    return [_parse_object(item, f"{name}: object {number}") for number, item in enumerate(content)]


def require_polygons(value: Any) -> list[list[float]]:
    """Return a list of polygons unchanged: lists of numbers whose absolute value is below a million.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, list) or not all(isinstance(p, list) and _is_finite(p) for p in value):
        raise ValueError("expected a list of polygons, each a list of numbers")
    return value


def _parse_object(item: Any, where: str) -> AnnotatedObject:
    if not isinstance(item, dict):
        raise InputError(where, f"expected an object, found {type(item).__name__}")
    height, width = (_parse_size(item.get(key), where, key) for key in ("height", "width"))
    try:
        polygons = require_polygons(item.get("segmentation", []))
    except ValueError as error:
        raise InputError(where, str(error), field="segmentation") from error
    skipped = sum(len(p) % 2 == 1 or len(p) < 6 for p in polygons)
    rle = None
    if "rle" in item:
        rle = _parse_rle(item["rle"], (height, width), where)
    mask = masks.from_polygons(polygons, height, width) if rle is None else rle
    category = item.get("category")
    track = item.get("track", "")
    try:
        region = Region(id=str(track), category=category, mask=mask)
        if "bbox" in item:
            # annotations in COCO's style give a mask's tight box too; a box prompt is one that the pixels fill
            boxed = Region(id=str(track), category=category, box=item["bbox"])
            filled = masks.region_mask(boxed, height, width)
            if mask == filled or not (rle or polygons):
                region = boxed
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(where, first["msg"], field=".".join(map(str, first["loc"])) or None) from error
    return AnnotatedObject(item.get("id"), height, width, polygons, region, rle, skipped)


def _parse_rle(value: Any, size: tuple[int, int], where: str) -> Rle:
    if not isinstance(value, dict) or not isinstance(value.get("counts"), (str, list)):
        raise InputError(where, "expected size and counts", field="rle")
    try:
        if not str(value["counts"]).isascii():
            raise ValueError("counts are not in COCO's run-length encoding")
        rle = masks.from_counts(value["counts"], value.get("size", ()))
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(where, str(error), field="rle") from error
    if rle.size != size:
        raise InputError(where, f"size {rle.size} differs from height and width {size}", field="rle")
    return rle


def _parse_size(value: Any, where: str, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**16:
        raise InputError(where, f"expected a number of pixels, found {shorten(value)}", field=key)
    return value


def _is_finite(values: list[Any]) -> bool:
    # on whole lists, since a case has thousands of corners
    if not values or not set(map(type, values)) <= {int, float}:
        return not values
    return min(values) > -1e6 and max(values) < 1e6 and not math.isnan(sum(values))
