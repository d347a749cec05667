"""Outlines of many objects at once, against OpenCV on whole frames and shapely."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from shapely.geometry import Polygon

from mmvm_data.core import masks, polygons

SIZE = 60
BITMAPS = hnp.arrays(np.uint8, st.tuples(st.integers(0, 14), st.integers(0, 14)), elements=st.integers(0, 1))
PLACED = st.tuples(BITMAPS, st.integers(0, SIZE - 14), st.integers(0, SIZE - 14))


def check(patches: list[polygons.PlacedBitmap], size: int = SIZE) -> None:
    found = polygons.trace_outlines(patches)
    assert len(found) == len(patches)
    for (bitmap, x, y), outline in zip(patches, found, strict=True):
        frame = np.zeros((size, size), np.uint8)
        frame[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap
        expected, _ = cv2.findContours(frame, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        assert [c.tolist() for c in outline.contours] == [c.tolist() for c in expected]
        assert [c.tolist() for c in polygons.trace_contours(bitmap, x, y)] == [c.tolist() for c in expected]
        for rule in ("original", "union"):
            assert (masks.decode(masks.from_polygons(outline.polygons, size, size, rule)) == frame).all()
        for flat in outline.polygons:
            ring = np.reshape(flat, (-1, 2))
            assert Polygon(ring).is_valid
            steps = np.roll(ring, -1, axis=0) - ring
            assert (np.count_nonzero(steps, axis=1) == 1).all()  # along pixel edges, no point twice
            assert ((steps[:, 0] != 0) != (np.roll(steps, -1, axis=0)[:, 0] != 0)).all()  # every corner turns


@given(st.lists(PLACED, max_size=5))
def test_several_objects_at_once(patches: list[polygons.PlacedBitmap]) -> None:
    check(patches)


@given(hnp.arrays(np.uint8, (31, 37), elements=st.sampled_from([0, 1, 1, 1])))
def test_components_inside_holes(bitmap: np.ndarray) -> None:
    bitmap[8:24, 8:24] = 0
    bitmap[11:20, 11:20] = 1
    bitmap[14:16, 14:16] = 0
    check([(bitmap, 3, 5), (bitmap[:, :20].copy(), 0, 0)])


def test_outline_does_not_depend_on_other_objects() -> None:
    rng = np.random.default_rng(0)
    patches = [((rng.random((9 + k, 30 - k)) < 0.7).astype(np.uint8), k, 2 * k) for k in range(12)]
    together = polygons.trace_outlines(patches)
    apart = [polygons.trace_outlines([patch])[0] for patch in patches]
    assert [o.polygons for o in together] == [o.polygons for o in apart]
    assert [[c.tolist() for c in o.contours] for o in together] == [[c.tolist() for c in o.contours] for o in apart]


def test_wide_frames() -> None:
    wide = np.ones((3, 20_000), np.uint8)
    wide[1, 5::7] = 0
    for outline in polygons.trace_outlines([(wide, 0, 0), (wide, 0, 0)]):
        assert (masks.decode(masks.from_polygons(outline.polygons, 3, 20_000)) == wide).all()
