"""Shapes of the editor: untouched ones give back the exact mask, edits move only what they touch."""

from __future__ import annotations

import copy

import cv2
import numpy as np
import pytest

from mmvm_data.annotation.labelstudio.brush import encode_brush
from mmvm_data.annotation.labelstudio.shapes import (
    MAX_HANDLES,
    ObjectSlot,
    apply_edits,
    mask_to_rings,
    region_to_results,
)
from mmvm_data.core import masks
from mmvm_data.core.types import Region

SLOT = ObjectSlot(2, "3", 120, 160)


def _blob(seed: int) -> Region:
    rng = np.random.default_rng(seed)
    field = cv2.GaussianBlur(rng.random((120, 160)).astype(np.float32), (0, 0), 9)
    return Region(id="t", mask=masks.encode((field > np.quantile(field, 0.8)).astype(np.uint8)))


def _square(hole: int = 0) -> Region:
    bitmap = np.zeros((120, 160), np.uint8)
    bitmap[30:70, 40:100] = 1
    bitmap[40 : 40 + hole, 50 : 50 + hole] = 0
    return Region(id="t", mask=masks.encode(bitmap))


def _shapes(region: Region, editor: str = "polygon") -> list[dict]:
    results = copy.deepcopy(region_to_results(region, SLOT, editor))  # type: ignore[arg-type]
    assert len(results) % 2 == 0
    assert all(r["value"]["labels"] == ["3"] for r in results if r["type"] == "labels")
    return [r for r in results if r["type"] != "labels"]


@pytest.mark.parametrize("editor", ["polygon", "brush"])
@pytest.mark.parametrize("seed", range(8))
def test_what_nobody_touched_is_the_same_object(seed: int, editor: str) -> None:
    region = _blob(seed)
    assert apply_edits(region, SLOT, _shapes(region, editor)) is region


def test_polygons_are_moderate_and_close() -> None:
    bitmap = np.zeros((480, 854), np.uint8)
    cv2.circle(bitmap, (400, 200), 120, 1, cv2.FILLED)
    region = Region(id="t", mask=masks.encode(bitmap))
    rings = mask_to_rings(region.mask)  # type: ignore[arg-type]
    assert rings is not None
    assert len(rings) == 1
    assert len(rings[0]) < 60
    again = masks.from_polygons([[v for point in rings[0] for v in point]], 480, 854)
    assert masks.iou([again], [region.mask])[0, 0] > 0.98  # type: ignore[list-item]


@pytest.mark.parametrize("seed", range(4))
def test_a_ragged_mask_has_few_handles_and_keeps_every_pixel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    radius = 300 + rng.uniform(-60, 60, 300)
    points = np.stack([640 + radius * np.cos(angle), 360 + radius * np.sin(angle)], axis=1).astype(np.int32)
    bitmap = np.zeros((720, 1280), np.uint8)
    cv2.fillPoly(bitmap, [points], 1)
    region = Region(id="t", mask=masks.encode(bitmap))
    rings = mask_to_rings(region.mask)  # type: ignore[arg-type]
    assert rings is not None
    assert sum(map(len, rings)) <= MAX_HANDLES
    shown = masks.from_polygons([[v for point in ring for v in point] for ring in rings], 720, 1280)
    assert masks.iou([shown], [region.mask])[0, 0] > 0.75  # type: ignore[list-item]
    slot = ObjectSlot(1, "3", 720, 1280)
    results = [r for r in region_to_results(region, slot) if r["type"] == "polygon"]
    assert apply_edits(region, slot, results) is region
    results[0]["value"]["points"].append([50.0, 50.0])  # some edit: what lies far from it stays ragged
    edited = apply_edits(region, slot, results)
    assert edited is not None and edited.mask != region.mask


def test_an_edit_moves_only_what_it_touches() -> None:
    region = _square(hole=3)  # too small a hole to be shown; it stays
    (shape,) = _shapes(region)
    corner = max(shape["value"]["points"])  # right, lower corner
    corner[0] = 100 * 120 / 160
    now = apply_edits(region, SLOT, [shape])
    assert now is not None
    before, after = masks.decode(region.mask), masks.decode(now.mask)  # type: ignore[arg-type]
    assert after.sum() > before.sum()
    assert np.array_equal(before[:, :99], after[:, :99] & before[:, :99])
    assert after[41, 51] == 0


def test_large_holes_and_many_pieces_get_a_brush() -> None:
    assert {s["type"] for s in _shapes(_square(hole=15))} == {"brush"}
    many = np.zeros((120, 160), np.uint8)
    many[::12, ::12] = 1
    many = cv2.dilate(many, np.ones((5, 5), np.uint8))
    assert {s["type"] for s in _shapes(Region(id="t", mask=masks.encode(many)))} == {"brush"}


def test_a_brush_adds_to_polygons_and_replaces_brushes() -> None:
    region, stroke = _square(), np.zeros((120, 160), np.uint8)
    stroke[60:90, 90:120] = 1
    added = _shapes(Region(id="t", mask=masks.encode(stroke)), "brush")
    now = apply_edits(region, SLOT, [*_shapes(region), *added])
    assert now is not None
    assert np.array_equal(masks.decode(now.mask), masks.decode(region.mask) | stroke)  # type: ignore[arg-type]
    alone = apply_edits(region, SLOT, added)
    assert alone is not None
    assert alone.mask == masks.encode(stroke)


def test_nothing_left_and_broken_shapes() -> None:
    region = _square()
    assert apply_edits(region, SLOT, []) is None
    shape = _shapes(region)[0]
    with pytest.raises(ValueError, match="expected 160 x 120"):
        apply_edits(region, SLOT, [shape | {"original_width": 99}])
    with pytest.raises(ValueError, match="three points"):
        apply_edits(region, SLOT, [shape | {"value": {"points": [[1, 2]]}}])
    empty = {"format": "rle", "rle": encode_brush(masks.encode(np.zeros((120, 160), np.uint8)))}
    assert apply_edits(region, SLOT, [shape | {"type": "brush", "value": empty}]) is None


def test_boxes() -> None:
    region = Region(id="t", box=(10.25, 20.5, 30.75, 40.0))
    (shape,) = _shapes(region)
    assert apply_edits(region, SLOT, [shape]) is region
    shape["value"]["width"] = 25.0
    assert apply_edits(region, SLOT, [shape]) == Region(id="t", box=(10.25, 20.5, 40.0, 40.0))
    shape["value"]["rotation"] = 3
    with pytest.raises(ValueError, match="rotated"):
        apply_edits(region, SLOT, [shape])
