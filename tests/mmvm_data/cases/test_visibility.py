"""Which objects of a frame can be used, at the limits of each option."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmvm_data.cases import visibility
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame, Region

HEIGHT, WIDTH = 60, 80
FRAME = Frame(path="a/00007.jpg", index=7, width=WIDTH, height=HEIGHT)
ALL = SamplingOptions(min_area=1, min_side=1, max_occlusion=1.0)


def box(name: str, x: int, y: int, w: int, h: int, **extra: Any) -> Region:
    return Region(id=name, mask=masks.from_box((x, y, w, h), HEIGHT, WIDTH), extra=extra)


def usable(regions: list[Region], **options: Any) -> list[str]:
    fields = {"min_area": 1, "min_side": 1, "max_occlusion": 1.0} | options
    return [v.region.id for v in visibility.find_visible_objects(regions, FRAME, SamplingOptions(**fields))[0]]


def test_each_limit_is_inclusive() -> None:
    one = [box("a", 10, 10, 12, 8)]
    assert (usable(one, min_area=96), usable(one, min_area=97)) == (["a"], [])
    assert (usable(one, min_side=8), usable(one, min_side=9)) == (["a"], [])
    two = [box("a", 0, 0, 10, 10), box("b", 6, 0, 20, 10)]
    assert (usable(two, max_occlusion=0.4), usable(two, max_occlusion=0.39)) == (["a", "b"], ["b"])
    assert (usable(two, max_occlusion=0.2), usable(two, max_occlusion=0.19)) == (["b"], [])
    partly = [box("a", 0, 0, 9, 9, visibility=0.25)]
    assert (usable(partly, max_occlusion=0.75), usable(partly, max_occlusion=0.74)) == (["a"], [])
    assert usable([box("a", 0, 0, 9, 9)], max_occlusion=0.0) == ["a"]


def test_thin_shapes_with_large_boxes_are_left_out() -> None:
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8)
    bitmap[5, 10:50] = bitmap[5:45, 10] = 1  # an L, one pixel thick, in a box of 40 x 40
    bitmap[6, 11:12] = 1
    region = [Region(id="L", mask=masks.encode(bitmap))]
    assert int(bitmap.sum()) == 80
    assert (usable(region, min_side=4), usable(region, min_side=5)) == (["L"], [])


def test_fields_of_a_visible_object() -> None:
    regions = [box("a", 10, 20, 12, 8), Region(id="b", box=(-4.0, 50.0, 10.0, 30.0)), box("c", 0, 0, 0, 0)]
    found, present = visibility.find_visible_objects(regions, FRAME, ALL)
    assert present == {"a", "b"}
    assert [(v.region, v.area, v.box) for v in found] == [
        (regions[0], 96, (10, 20, 12, 8)),
        (regions[1], 60, (0, 50, 6, 10)),
    ]
    assert [v.rle for v in found] == [regions[0].mask, masks.from_box((0, 50, 6, 10), HEIGHT, WIDTH)]
    assert visibility.find_visible_objects([], FRAME, ALL) == ([], frozenset())


def test_mask_of_another_size_is_an_error_with_its_file_and_object() -> None:
    wrong = Region(id="x", mask=masks.encode(np.ones((5, 7))))
    with pytest.raises(InputError) as caught:
        visibility.find_visible_objects([box("a", 0, 0, 3, 3), wrong], FRAME, ALL)
    assert str(caught.value) == "a/00007.jpg: object x: mask of 7 x 5 on a frame of 80 x 60"


@pytest.mark.parametrize("rows", [1, 2, 256])
def test_occlusion_is_the_largest_share_that_one_other_object_covers(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "_OVERLAP_ROWS", rows)
    rng = np.random.default_rng(rows)
    for count in (0, 1, 2, 5):
        bitmaps = rng.random((count, HEIGHT, WIDTH)) < 0.4
        if count > 2:
            bitmaps[1] = False
        expected = [
            max([(a & b).sum() / max(a.sum(), 1) for m, b in enumerate(bitmaps) if m != k], default=0.0)
            for k, a in enumerate(bitmaps)
        ]
        rles = [masks.encode(bitmap) for bitmap in bitmaps]
        areas, _, shared = masks.measure_overlaps(rles)
        occlusion = shared / np.maximum(areas, 1)
        assert (occlusion.dtype, occlusion.shape) == (np.float64, (count,))
        assert occlusion == pytest.approx(np.array(expected))


@pytest.mark.parametrize(("extra", "expected"), [({"proposal": True}, True), ({"proposal": 1}, False), ({}, False)])
def test_proposals(extra: dict[str, Any], expected: bool) -> None:
    assert visibility.is_proposal(box("a", 0, 0, 3, 3, **extra)) is expected
