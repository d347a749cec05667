"""Boxes of bitmaps in any layout, and lines without contours against OpenCV's drawing of contours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mmvm_data.cases import bitmaps

SHAPES = st.tuples(st.integers(1, 14), st.integers(1, 14))
LAYOUTS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "rows": np.ascontiguousarray,
    "columns": np.asfortranarray,
    "every other column": lambda mask: np.repeat(mask, 2, axis=1)[:, ::2],
    "mirrored": lambda mask: np.ascontiguousarray(mask[::-1, ::-1])[::-1, ::-1],
    "transposed part": lambda mask: np.pad(mask, 3).T.copy().T[3:-3, 3:-3],
}


def draw_contours(image: NDArray[Any], mask: NDArray[Any], color: Sequence[float]) -> None:
    contours, _ = cv2.findContours((mask != 0).astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(image, contours, -1, color=tuple(color), thickness=2)


@settings(max_examples=400)
@given(
    bitmap=arrays(np.uint8, SHAPES, elements=st.sampled_from([0, 1, 3])),
    edges=st.tuples(*[st.integers(0, 3)] * 4),
    color=st.tuples(*[st.floats(0, 255) | st.sampled_from([42.5, 127.5])] * 3),
    channels=st.sampled_from([1, 3, 4]),
)
def test_lines_are_those_of_opencv_at_any_place(
    bitmap: NDArray[np.uint8], edges: tuple[int, int, int, int], color: tuple[float, float, float], channels: int
) -> None:
    top, left, bottom, right = edges
    mask = np.pad(bitmap, ((top, bottom), (left, right)))
    image = np.random.default_rng(0).integers(0, 256, (*mask.shape, channels), dtype=np.uint8)
    expected = image.copy()
    draw_contours(expected, mask, color)
    bitmaps.draw_lines(image, bitmap, left, top, color)
    assert (image == expected).all()


@pytest.mark.parametrize("seed", range(6))
def test_lines_of_large_shapes_are_those_of_opencv(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((230, 310), np.uint8)
    mask[5:-7, 4:-9] = cv2.GaussianBlur(rng.random((218, 297)), (0, 0), 0.5 + seed) > 0.5
    cv2.ellipse(mask, (150, 110), (90, 40), 20 * seed, 0, 360, 1, -1)
    cv2.line(mask, (0, 0), (300, 220), 1)
    cv2.line(mask, (0, 229), (229, 0), 1)
    expected, image = (np.full((*mask.shape, 3), 7, np.uint8) for _ in range(2))
    draw_contours(expected, mask, (1, 2, 250))
    bitmaps.draw_lines(image, mask, 0, 0, (1, 2, 250))
    assert (image == expected).all()


@settings(max_examples=200)
@given(mask=arrays(np.uint8, SHAPES, elements=st.sampled_from([0, 0, 0, 0, 0, 0, 0, 1, 255])), data=st.data())
def test_a_crop_holds_the_object_wherever_it_lies(mask: NDArray[np.uint8], data: st.DataObject) -> None:
    mask = np.pad(mask, data.draw(st.tuples(*[st.tuples(st.integers(0, 40), st.integers(0, 40))] * 2)))
    dtype = data.draw(st.sampled_from([np.uint8, np.bool_, np.int64, np.float32]))
    stored = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))](mask.astype(dtype))
    assert (stored == mask.astype(dtype)).all()
    crop, x, y = bitmaps.crop(stored)
    found = np.zeros_like(mask, np.bool_)
    found[y : y + crop.shape[0], x : x + crop.shape[1]] = crop != 0
    assert (found == (mask != 0)).all()
    if mask.any():
        rows, columns = (np.flatnonzero(crop.any(axis=axis)) for axis in (1, 0))
        assert rows[0] == columns[0] == 0
        empty = sorted((crop.shape[0] - 1 - rows[-1], crop.shape[1] - 1 - columns[-1]))
        assert empty[0] == 0 and empty[1] < 8
    else:
        assert crop.shape == (0, 0)


def test_contours_that_are_long_for_their_box_are_told_from_others() -> None:
    noise = (np.random.default_rng(0).random((200, 300)) > 0.5).astype(np.uint8)
    assert bitmaps.is_ragged(noise, has_contours=True)
    assert bitmaps.is_ragged(noise, has_contours=False)
    for smooth in (np.ones((200, 300), np.uint8), np.ones((1, 1), np.uint8), np.zeros((0, 0), np.uint8)):
        assert not bitmaps.is_ragged(smooth, has_contours=True)
        assert not bitmaps.is_ragged(smooth, has_contours=False)
