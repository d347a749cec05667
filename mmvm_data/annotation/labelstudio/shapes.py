"""Regions of a case <-> the shapes that a person edits in Label Studio.

A mask is shown as a few polygons of moderate detail, since a handle at every pixel's corner cannot be worked with. What
the person changed is then carried over to the exact mask: pixels that an edit added or took away. So an object that
nobody touched stays as it is to the last pixel, and of one that was edited only the edited part moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import cv2
import numpy as np

from mmvm_data.annotation.labelstudio import brush
from mmvm_data.core import masks, polygons
from mmvm_data.core.types import Region, Rle

Editor = Literal["polygon", "brush"]
Result = dict[str, Any]

_EPSILON: Final = 1.5  # pixels that a shown polygon may lie off the mask's edge
_HOLE_SHARE: Final = 0.05  # of the mask; a larger hole needs the brush
_MOST_PIECES: Final = 12
_LEAST: Final = 9  # pixels of a piece that is shown
_TINY: Final = 1e-6


class Place(NamedTuple):
    """An image of the page, by its 1-based number, and the label of the object: "query" or a candidate's number."""

    image: int
    label: str
    height: int
    width: int

    @property
    def id(self) -> str:
        """Start of the ids of the object's shapes."""
        return f"{self.label}-{self.image}"


def shown(region: Region, place: Place, editor: Editor = "polygon") -> list[Result]:
    """The results of a prediction that show one object on its clean image; none for an object without pixels.

    Args:
        region: a box, or a mask of the image's size.
        place: where.
        editor: how masks are shown; polygons are not used for a mask that they cannot hold.
    """
    if region.box is not None:
        x, y, w, h = region.box
        value = {"x": _share(x, place.width), "y": _share(y, place.height)}
        value |= {"width": _share(w, place.width), "height": _share(h, place.height), "rotation": 0}
        return _results(place, f"{place.id}-0", "rectangle", value)
    assert region.mask is not None  # a region has one of the two
    rings = None if editor == "brush" else rings_of(region.mask)
    if rings is not None:
        found = []
        for number, ring in enumerate(rings):
            points = [[_share(x, place.width), _share(y, place.height)] for x, y in ring]
            found += _results(place, f"{place.id}-{number}", "polygon", {"points": points, "closed": True})
        return found
    if not masks.area(region.mask):
        return []
    return _results(place, f"{place.id}-0", "brush", {"format": "rle", "rle": brush.to_brush(region.mask)})


def rings_of(rle: Rle) -> list[list[tuple[float, float]]] | None:
    """The rings that stand for a mask in the editor, x and y in pixels; None when polygons cannot hold the mask: a hole
    of 5 % of its pixels, more than 12 pieces, or nothing but specks."""
    bitmap, x, y = masks.crop(rle)
    if not bitmap.size:
        return []
    contours, _ = cv2.findContours(bitmap, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(bitmap)
    cv2.drawContours(filled, contours, -1, 1, cv2.FILLED)
    pixels = int(bitmap.sum())
    holes, parts = cv2.connectedComponents(filled - bitmap, connectivity=4)
    if holes > 1 and np.bincount(parts.ravel())[1:].max() > _HOLE_SHARE * pixels:
        return None
    rings = []
    for ring in polygons.trace_polygons(filled, x, y):
        corners = np.asarray(ring, np.int32).reshape(-1, 1, 2)
        if cv2.contourArea(corners) < _LEAST:
            continue
        simple = cv2.approxPolyDP(corners, _EPSILON, True).reshape(-1, 2)
        rings.append([(float(cx), float(cy)) for cx, cy in (simple if len(simple) > 2 else corners.reshape(-1, 2))])
    return rings if 0 < len(rings) <= _MOST_PIECES else None


def edited(region: Region, place: Place, results: Sequence[Result]) -> Region | None:
    """The object after a person's edits.

    Args:
        region: the object as it was shown.
        place: where it was shown.
        results: the shapes of the annotation that carry its label on its image.

    Returns:
        ``region`` itself when nothing was changed; None when no shape, or no pixel, is left.

    Raises:
        ValueError: a shape is broken, or drawn on an image of another size.
    """
    before = [r for r in shown(region, place) if "labels" not in r["value"]]
    _same_size(place, results)
    if region.box is not None:
        return _edited_box(region, place, results)
    assert region.mask is not None
    parts, new = _painted(place, results)
    if new:
        old = [_ring(r, place) for r in before if r["type"] == "polygon"]
        parts.append(_carried(region.mask, old, new, place) if old else _filled(new, place))
    mask = _union(parts, place)
    if not masks.area(mask):
        return region if not before and not results else None
    return region if mask == region.mask else region.model_copy(update={"mask": mask})


def drawn(name: str, place: Place, results: Sequence[Result], category: str | None = None) -> Region | None:
    """An object that a person drew where nothing was shown; None when its shapes hold no pixel.

    Args:
        name: identity of the object.
        place: where it was drawn.
        results: its shapes: one rectangle, or brushes and polygons that are pieces of one mask.
        category: of the object.

    Raises:
        ValueError: a shape is broken or drawn on an image of another size, or a rectangle is not the only shape.
    """
    _same_size(place, results)
    boxes = [r for r in results if r["type"] == "rectangle"]
    if boxes:
        if len(results) > 1:
            raise ValueError(f"is drawn {len(results)} times, one of them as a box")
        x, y, w, h = (round(v, 2) for v in _box(boxes[0], place))
        return Region(id=name, box=(x, y, w, h), category=category)
    parts, rings = _painted(place, results)
    if rings:
        parts.append(_filled(rings, place))
    mask = _union(parts, place)
    return Region(id=name, mask=mask, category=category) if masks.area(mask) else None


def _same_size(place: Place, results: Sequence[Result]) -> None:
    for result in results:
        size = result.get("original_height"), result.get("original_width")
        if size != (place.height, place.width):
            raise ValueError(
                f"drawn on an image of {size[1]} x {size[0]} pixels, expected {place.width} x {place.height}"
            )


def _painted(place: Place, results: Sequence[Result]) -> tuple[list[Rle], list[list[float]]]:
    """Masks of the brushes and rings of the polygons."""
    if strange := [r["type"] for r in results if r["type"] not in ("brush", "polygon")]:
        raise ValueError(f"a {strange[0]} cannot hold a mask")
    strokes = [r for r in results if r["type"] == "brush"]
    parts = [brush.from_brush(r["value"].get("rle", ()), place.height, place.width) for r in strokes]
    return parts, [_ring(r, place) for r in results if r["type"] == "polygon"]


def _carried(mask: Rle, old: list[list[float]], new: list[list[float]], place: Place) -> Rle:
    """``mask`` with the pixels that the new rings add or take away."""
    if len(old) == len(new) and all(_same(a, b) for a, b in zip(sorted(old), sorted(new), strict=True)):
        return mask
    exact, was, now = (masks.decode(m).astype(bool) for m in (mask, _filled(old, place), _filled(new, place)))
    return masks.encode((exact | (now & ~was)) & ~(was & ~now))


def _same(a: list[float], b: list[float]) -> bool:
    return len(a) == len(b) and bool(np.allclose(a, b, rtol=0, atol=0.01))


def _filled(rings: list[list[float]], place: Place) -> Rle:
    return masks.from_polygons(rings, place.height, place.width, rule="union")


def _union(parts: Sequence[Rle], place: Place) -> Rle:
    if len(parts) == 1:
        return parts[0]
    whole = np.zeros((place.height, place.width), bool)
    for part in parts:
        whole |= masks.decode(part).astype(bool)
    return masks.encode(whole)


def _ring(result: Result, place: Place) -> list[float]:
    try:
        points = np.asarray(result["value"]["points"], np.float64).reshape(-1, 2)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("polygon has no list of points") from error
    if len(points) < 3 or not np.isfinite(points).all():
        raise ValueError("polygon has fewer than three points")
    return (points * (place.width / 100, place.height / 100)).ravel().tolist()


def _edited_box(region: Region, place: Place, results: Sequence[Result]) -> Region | None:
    if not results:
        return None
    if len(results) > 1 or results[0]["type"] != "rectangle":
        raise ValueError("expected one rectangle")
    box = _box(results[0], place)
    if np.allclose(box, region.box or (), rtol=0, atol=0.02):
        return region
    return region.model_copy(update={"box": tuple(round(v, 2) for v in box)})


def _box(result: Result, place: Place) -> tuple[float, ...]:
    value = result["value"]
    try:
        shares = [float(value[key]) for key in ("x", "y", "width", "height")]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("rectangle has no x, y, width and height") from error
    if value.get("rotation"):
        raise ValueError("rectangle is turned, boxes are not")
    if shares[2] <= _TINY or shares[3] <= _TINY or not np.isfinite(shares).all():
        raise ValueError("rectangle has no area")
    return tuple(share * size / 100 for share, size in zip(shares, (place.width, place.height) * 2, strict=True))


def _share(pixels: float, size: int) -> float:
    """Per cent of the image's side, as Label Studio counts."""
    return round(100 * pixels / size, 6)


def _results(place: Place, name: str, kind: str, value: dict[str, Any]) -> list[Result]:
    common = {
        "id": name,
        "to_name": f"original{place.image}",
        "original_width": place.width,
        "original_height": place.height,
        "image_rotation": 0,
    }
    return [
        common | {"from_name": f"{kind}{place.image}", "type": kind, "value": value},
        common | {"from_name": f"object{place.image}", "type": "labels", "value": value | {"labels": [place.label]}},
    ]
