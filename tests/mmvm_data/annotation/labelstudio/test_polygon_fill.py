"""Drawn polygons against the nonzero rule of the canvas, which the editor fills by."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmvm_data.annotation.labelstudio.polygon_fill import fill_rings, is_simple, simplify_ring, winding_number
from mmvm_data.annotation.labelstudio.shapes import mask_to_rings
from mmvm_data.core import masks, polygons

shapely = pytest.importorskip("shapely")
SIZE = 40
SQUARE = [5.0, 5.0, 25.0, 5.0, 25.0, 25.0, 5.0, 25.0]


def pixels(*rings: list[float]) -> np.ndarray:
    return masks.decode(fill_rings([*rings], SIZE, SIZE)).astype(bool)


def even_odd(*rings: list[float]) -> np.ndarray:
    return masks.decode(masks.from_polygons([*rings], SIZE, SIZE, rule="union")).astype(bool)


@given(st.lists(st.tuples(st.floats(-5, 45), st.floats(-5, 45)), min_size=3, max_size=9, unique=True))
def test_any_ring_is_filled_where_it_winds_around_a_pixel(points: list[tuple[float, float]]) -> None:
    corners = np.array(points)
    filled = pixels(corners.ravel().tolist())
    outline = shapely.LineString([*points, points[0]])
    for y, x in np.argwhere(
        filled != [[winding_number(corners, x + 0.5, y + 0.5) != 0 for x in range(SIZE)] for y in range(SIZE)]
    ):
        # maskApi rounds outlines to a fifth of a pixel
        assert outline.distance(shapely.Point(x + 0.5, y + 0.5)) < 0.75


def test_simple_rings_and_bow_ties_are_filled_as_before() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
        radii = rng.uniform(4, 18, 12)
        ring = np.stack([20 + radii * np.cos(angles), 20 + radii * np.sin(angles)], axis=1).ravel().tolist()
        assert np.array_equal(pixels(ring), even_odd(ring))
    bow = [5.0, 5.0, 35.0, 35.0, 35.0, 5.0, 5.0, 35.0]
    assert not is_simple(bow)
    assert np.array_equal(pixels(bow), even_odd(bow))


def test_a_loop_and_a_ring_drawn_twice_have_no_hole() -> None:
    twice = SQUARE + SQUARE
    assert not even_odd(twice)[15, 15]
    assert np.array_equal(pixels(twice), even_odd(SQUARE))
    loop = [
        2.0,
        2.0,
        38.0,
        2.0,
        38.0,
        38.0,
        20.0,
        38.0,
        20.0,
        10.0,
        30.0,
        10.0,
        30.0,
        20.0,
        10.0,
        20.0,
        10.0,
        38.0,
        2.0,
        38.0,
    ]
    corners = np.array(loop).reshape(-1, 2)
    for x, y in ((25, 15), (15, 15), (34, 30), (15, 30)):
        assert pixels(loop)[y, x] == (winding_number(corners, x + 0.5, y + 0.5) != 0)


def test_a_hole_drawn_through_a_slit_stays_a_hole() -> None:
    ring = [
        5.0,
        5.0,
        35.0,
        5.0,
        35.0,
        35.0,
        5.0,
        35.0,
        5.0,
        5.0,
        12.0,
        12.0,
        12.0,
        28.0,
        28.0,
        28.0,
        28.0,
        12.0,
        12.0,
        12.0,
    ]
    assert pixels(ring)[8, 20]
    assert not pixels(ring)[20, 20]


def test_several_rings_are_joined_and_empty_ones_add_nothing() -> None:
    other = [20.0, 20.0, 38.0, 20.0, 38.0, 38.0]
    line = [1.0, 1.0, 9.0, 9.0, 20.0, 20.0]
    assert np.array_equal(pixels(SQUARE, other, line), even_odd(SQUARE) | even_odd(other))
    assert not pixels(line).any()


def test_shown_rings_never_cross_themselves() -> None:
    """Douglas and Peucker's method lets some thin rings cross themselves."""
    crossed = 0
    for seed in range(300):
        noise = cv2.GaussianBlur(np.random.default_rng(seed).random((120, 160)).astype(np.float32), (0, 0), 3)
        bitmap = (noise > np.quantile(noise, 0.75)).astype(np.uint8)
        for ring in polygons.trace_polygons(bitmap):
            corners = np.asarray(ring, np.int32).reshape(-1, 1, 2)
            simple = cv2.approxPolyDP(corners, 1.5, True).reshape(-1, 2)
            if cv2.contourArea(corners) < 9 or len(simple) < 3 or is_simple(simple.ravel().tolist()):
                continue
            crossed += 1
            assert is_simple(simplify_ring(corners.reshape(-1, 2), 1.5).ravel().tolist())
            piece = np.zeros((120, 160), np.uint8)
            cv2.fillPoly(piece, [corners], 1)
            rings = mask_to_rings(masks.encode(piece))
            assert rings is not None
            assert all(is_simple([v for point in shown for v in point]) for shown in rings)
    assert crossed
