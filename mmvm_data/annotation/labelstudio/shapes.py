"""Regions of a case <-> the shapes that a person edits in Label Studio.

A mask is shown as a few polygons of moderate detail, because nobody can work with a handle at every corner of every
pixel. What the person changed is then transferred to the exact mask: the pixels that an edit added or removed. So an
object that nobody touched keeps every pixel, and of an edited one only the edited part moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.annotation.labelstudio import brush
from mmvm_data.annotation.labelstudio.polygon_fill import Ring, fill_rings, is_simple, simplify_ring
from mmvm_data.core import masks, polygons
from mmvm_data.core.types import Box, Region, Rle

Editor = Literal["polygon", "brush"]
Result = dict[str, Any]

_TOLERANCE: Final = 1.5  # pixels that a shown polygon may lie off the mask's edge, where that takes few handles
MAX_HANDLES: Final = 64
"""Corners of the polygons that stand for one mask, at most: more cannot be worked with."""
_MAX_HOLE_SHARE: Final = 0.05  # of the mask; a larger hole needs the brush
_MAX_PIECES: Final = 12
_MIN_PIECE_AREA: Final = 9  # pixels of a piece that is shown
_MIN_PERCENT: Final = 1e-6


class ObjectSlot(NamedTuple):
    """Where an object is shown on the page.

    Attributes:
        image: 1-based number of the image.
        label: of the object: "query" or the number of a candidate or a track.
        height, width: of the image, in pixels.
    """

    image: int
    label: str
    height: int
    width: int

    @property
    def id(self) -> str:
        """Start of the ids of the object's shapes."""
        return f"{self.label}-{self.image}"


def check_results(results: Any) -> list[Result]:
    """The result of an annotation, as the server gives it.

    Raises:
        ValueError: it is not a list of regions with values.
    """
    if not isinstance(results, list) or not all(
        isinstance(r, dict) and isinstance(r.get("value"), dict) for r in results
    ):
        raise ValueError("its result is no list of regions")
    return results


def region_to_results(region: Region, slot: ObjectSlot, editor: Editor = "polygon") -> list[Result]:
    """The results of a prediction that show one object on its image; none for an object without pixels.

    Args:
        region: a box, or a mask of the image's size.
        slot: where it is shown.
        editor: how masks are shown; a mask that polygons cannot hold is always shown as a brush.
    """
    if region.box is not None:
        x, y, w, h = region.box
        value = {"x": _to_percent(x, slot.width), "y": _to_percent(y, slot.height)}
        value |= {"width": _to_percent(w, slot.width), "height": _to_percent(h, slot.height), "rotation": 0}
        return _make_results(slot, f"{slot.id}-0", "rectangle", value)
    assert region.mask is not None  # a region has one of the two
    rings = None if editor == "brush" else mask_to_rings(region.mask)
    if rings is not None:
        results = []
        for number, ring in enumerate(rings):
            points = [[_to_percent(x, slot.width), _to_percent(y, slot.height)] for x, y in ring]
            results += _make_results(slot, f"{slot.id}-{number}", "polygon", {"points": points, "closed": True})
        return results
    if not masks.area(region.mask):
        return []
    return _make_results(slot, f"{slot.id}-0", "brush", {"format": "rle", "rle": brush.encode_brush(region.mask)})


def mask_to_rings(rle: Rle) -> list[list[tuple[float, float]]] | None:
    """The rings that stand for a mask in the editor, x and y in pixels; they do not cross themselves.

    Returns:
        None when polygons cannot hold the mask: a hole of 5 % of its pixels, more than 12 pieces, or nothing but
        specks. At most ``MAX_HANDLES`` points in all.
    """
    bitmap, x, y = masks.crop(rle)
    if not bitmap.size:
        return []
    contours, _ = cv2.findContours(bitmap, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(bitmap)
    cv2.drawContours(filled, contours, -1, 1, cv2.FILLED)
    pixels = int(bitmap.sum())
    num_labels, holes = cv2.connectedComponents(filled - bitmap, connectivity=4)
    if num_labels > 1 and np.bincount(holes.ravel())[1:].max() > _MAX_HOLE_SHARE * pixels:
        return None
    traced: list[NDArray[np.int32]] = [
        np.asarray(ring, np.int32).reshape(-1, 1, 2) for ring in polygons.trace_polygons(filled, x, y)
    ]
    traced = [corners for corners in traced if cv2.contourArea(corners) >= _MIN_PIECE_AREA]
    if not 0 < len(traced) <= _MAX_PIECES:
        return None
    simple = _simplify_rings(traced)
    return None if simple is None else [[(float(cx), float(cy)) for cx, cy in ring] for ring in simple]


def _simplify_rings(traced: list[NDArray[np.int32]]) -> list[NDArray[Any]] | None:
    """Rings [n, 1, 2] with at most MAX_HANDLES points in all, [m, 2] each; None when that cannot be reached.

    The tolerance grows until there are few enough points.
    """
    tolerance = _TOLERANCE
    while tolerance < max(int(np.ptp(corners)) for corners in traced):
        rings = [_simplify(corners, tolerance) for corners in traced]
        if sum(map(len, rings)) <= MAX_HANDLES:
            return rings
        tolerance *= 1.25
    return None


def _simplify(corners: NDArray[np.int32], tolerance: float) -> NDArray[Any]:
    """A ring [n, 1, 2] with fewer points, [m, 2]."""
    simple = cv2.approxPolyDP(corners, tolerance, True).reshape(-1, 2)
    # Douglas and Peucker's method may let a thin ring cross itself or lose its area; shapely's variant does not, and
    # takes longer
    if len(simple) >= 3 and is_simple(simple.ravel().tolist()):
        return simple
    return simplify_ring(corners.reshape(-1, 2), tolerance)


def apply_edits(region: Region, slot: ObjectSlot, results: Sequence[Result]) -> Region | None:
    """The object after a person's edits.

    Args:
        region: the object as it was shown.
        slot: where it was shown.
        results: the shapes of the annotation that carry its label on its image.

    Returns:
        ``region`` itself when nothing was changed; None when no shape, or no pixel, is left.

    Raises:
        ValueError: a shape is broken, or drawn on an image of another size.
    """
    shown = [r for r in region_to_results(region, slot) if "labels" not in r["value"]]
    _check_image_size(slot, results)
    if region.box is not None:
        return _edit_box(region, slot, results)
    assert region.mask is not None
    parts, rings = _split_shapes(slot, results)
    if rings:
        shown_rings = [_parse_ring(r, slot) for r in shown if r["type"] == "polygon"]
        parts.append(
            _transfer_edit(region.mask, shown_rings, rings, slot)
            if shown_rings
            else fill_rings(rings, slot.height, slot.width)
        )
    mask = _union(parts, slot)
    if not masks.area(mask):
        return region if not shown and not results else None
    return region if mask == region.mask else region.model_copy(update={"mask": mask})


def results_to_region(
    name: str, slot: ObjectSlot, results: Sequence[Result], category: str | None = None
) -> Region | None:
    """An object that a person drew where nothing was shown; None when its shapes hold no pixel.

    Args:
        name: identity of the object.
        slot: where it was drawn.
        results: its shapes: one rectangle, or brushes and polygons that are pieces of one mask.
        category: of the object.

    Raises:
        ValueError: a shape is broken or drawn on an image of another size, or a rectangle is not the only shape.
    """
    _check_image_size(slot, results)
    rectangles = [r for r in results if r["type"] == "rectangle"]
    if rectangles:
        if len(results) > 1:
            raise ValueError(f"is drawn {len(results)} times, one of them as a box")
        return Region(id=name, box=_round_box(_parse_box(rectangles[0], slot)), category=category)
    parts, rings = _split_shapes(slot, results)
    if rings:
        parts.append(fill_rings(rings, slot.height, slot.width))
    mask = _union(parts, slot)
    return Region(id=name, mask=mask, category=category) if masks.area(mask) else None


def _check_image_size(slot: ObjectSlot, results: Sequence[Result]) -> None:
    for result in results:
        size = result.get("original_height"), result.get("original_width")
        if size != (slot.height, slot.width):
            raise ValueError(
                f"drawn on an image of {size[1]} x {size[0]} pixels, expected {slot.width} x {slot.height}"
            )


def _split_shapes(slot: ObjectSlot, results: Sequence[Result]) -> tuple[list[Rle], list[Ring]]:
    """Masks of the brushes and rings of the polygons."""
    if others := [r["type"] for r in results if r["type"] not in ("brush", "polygon")]:
        raise ValueError(f"a {others[0]} cannot hold a mask")
    strokes = [r for r in results if r["type"] == "brush"]
    parts = [brush.decode_brush(r["value"].get("rle", ()), slot.height, slot.width) for r in strokes]
    return parts, [_parse_ring(r, slot) for r in results if r["type"] == "polygon"]


def _transfer_edit(mask: Rle, before: list[Ring], after: list[Ring], slot: ObjectSlot) -> Rle:
    """``mask`` with the pixels that the change of the rings adds or removes."""
    if len(before) == len(after) and all(
        _is_same_ring(a, b) for a, b in zip(sorted(before), sorted(after), strict=True)
    ):
        return mask
    exact = masks.decode(mask).astype(bool)
    was, now = (masks.decode(fill_rings(rings, slot.height, slot.width)).astype(bool) for rings in (before, after))
    return masks.encode((exact | (now & ~was)) & ~(was & ~now))


def _is_same_ring(a: Ring, b: Ring) -> bool:
    return len(a) == len(b) and bool(np.allclose(a, b, rtol=0, atol=0.01))


def _union(parts: Sequence[Rle], slot: ObjectSlot) -> Rle:
    if len(parts) == 1:
        return parts[0]
    union = np.zeros((slot.height, slot.width), bool)
    for part in parts:
        union |= masks.decode(part).astype(bool)
    return masks.encode(union)


def _parse_ring(result: Result, slot: ObjectSlot) -> Ring:
    value = result["value"]
    if value.get("closed") is False:  # the editor shows such an outline without a filling
        raise ValueError("polygon is not closed")
    try:
        points = np.asarray(value["points"], np.float64).reshape(-1, 2)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("polygon has no list of points") from error
    if len(points) < 3 or not np.isfinite(points).all():
        raise ValueError("polygon has fewer than three points")
    ring: Ring = (points * (slot.width / 100, slot.height / 100)).ravel().tolist()
    return ring


def _edit_box(region: Region, slot: ObjectSlot, results: Sequence[Result]) -> Region | None:
    if not results:
        return None
    if len(results) > 1 or results[0]["type"] != "rectangle":
        raise ValueError("expected one rectangle")
    box = _parse_box(results[0], slot)
    if np.allclose(box, region.box or (), rtol=0, atol=0.02):
        return region
    return region.model_copy(update={"box": _round_box(box)})


def _parse_box(result: Result, slot: ObjectSlot) -> Box:
    """x, y, width and height in pixels."""
    value = result["value"]
    try:
        x, y, width, height = (float(value[key]) for key in ("x", "y", "width", "height"))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("rectangle has no x, y, width and height") from error
    if value.get("rotation"):
        raise ValueError("rectangle is rotated, boxes are not")
    if width <= _MIN_PERCENT or height <= _MIN_PERCENT or not np.isfinite((x, y, width, height)).all():
        raise ValueError("rectangle has no area")
    return x * slot.width / 100, y * slot.height / 100, width * slot.width / 100, height * slot.height / 100


def _round_box(box: Box) -> Box:
    x, y, width, height = (round(value, 2) for value in box)
    return x, y, width, height


def _to_percent(pixels: float, size: int) -> float:
    """Per cent of the image's side, the unit of Label Studio."""
    return round(100 * pixels / size, 6)


def _make_results(slot: ObjectSlot, name: str, kind: str, value: dict[str, Any]) -> list[Result]:
    """A shape and its label, two results of one id."""
    common = {
        "id": name,
        "to_name": f"original{slot.image}",
        "original_width": slot.width,
        "original_height": slot.height,
        "image_rotation": 0,
    }
    return [
        common | {"from_name": f"{kind}{slot.image}", "type": kind, "value": value},
        common | {"from_name": f"object{slot.image}", "type": "labels", "value": value | {"labels": [slot.label]}},
    ]
