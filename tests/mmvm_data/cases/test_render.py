"""Drawn images against those of the published code, to the pixel."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmvm_data.cases import render
from mmvm_data.core import masks, polygons

PIECE = np.pad(np.ones((3, 4), np.uint8), ((1, 3), (2, 1)))


def published(parity: Path) -> list[tuple[dict, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    arrays = np.load(parity / "render.npz")
    cases = []
    for i, facts in enumerate(json.loads((parity / "render.json").read_text())):
        shape = (facts["n"], facts["h"], facts["w"])
        bits = arrays[f"{i}_masks"]
        bitmaps = np.unpackbits(bits)[: np.prod(shape)].reshape(shape)
        cases.append(
            (facts, arrays[f"{i}_bgr"][:, :, ::-1], bitmaps, arrays[f"{i}_query_bgr"], arrays[f"{i}_cand_bgr"])
        )
    return cases


def test_marks_equal_the_published_ones(parity: Path) -> None:
    for facts, image, bitmaps, query_bgr, candidates_bgr in published(parity):
        before = image.copy()
        drawn = render.draw_candidates(image, list(bitmaps), facts["ids"], facts["palette_rgb"])
        assert (drawn[:, :, ::-1] == candidates_bgr).all()
        assert (render.draw_query(image, bitmaps[0])[:, :, ::-1] == query_bgr).all()
        assert (image == before).all()


def test_crops_draw_as_whole_masks_do(parity: Path) -> None:
    for facts, image, bitmaps, query_bgr, candidates_bgr in published(parity):
        contours = [found.contours for found in polygons.trace_outlines([masks.crop(masks.encode(b)) for b in bitmaps])]
        drawn = image[:, :, ::-1].copy()
        render.mark_candidates(drawn, contours, facts["ids"], [c[::-1] for c in facts["palette_rgb"]])
        assert (drawn == candidates_bgr).all()
        drawn = image[:, :, ::-1].copy()
        render.mark_query(drawn, contours[0], render.COLORS["cyan"][::-1])
        assert (drawn == query_bgr).all()


def test_marks_are_taken_back_to_the_pixel(parity: Path) -> None:
    for facts, image, bitmaps, *_ in published(parity):
        contours = [found.contours for found in polygons.trace_outlines([masks.crop(masks.encode(b)) for b in bitmaps])]
        drawn, kept = image.copy(), []
        render.mark_query(drawn, contours[0], (0, 255, 255), kept)
        render.mark_candidates(drawn, contours, facts["ids"], facts["palette_rgb"], kept)
        assert (drawn != image).any()
        render.restore(drawn, kept)
        assert (drawn == image).all()
        assert not kept


@pytest.mark.parametrize("seed", range(40))
def test_marks_at_edges_and_of_any_size_are_taken_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(v) for v in rng.integers(20, 400, 2))
    image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    patches = []
    for _ in range(int(rng.integers(1, 30))):
        h, w = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
        bitmap = (cv2.GaussianBlur(rng.random((h, w)), (0, 0), 3) > 0.45).astype(np.uint8)
        bitmap[0, 0] = 1
        patches.append((bitmap, int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))))
    contours = [found.contours for found in polygons.trace_outlines(patches)]
    drawn, kept = image.copy(), []
    render.mark_candidates(drawn, contours, range(1, len(patches) + 1), render.distinct_colors(len(patches) + 1), kept)
    render.restore(drawn, kept)
    assert (drawn == image).all()


def test_masks_that_touch_the_edge_draw_alike_from_crops() -> None:
    rng = np.random.default_rng(3)
    bitmap = (cv2.GaussianBlur(rng.random((60, 80)), (0, 0), 4) > 0.5).astype(np.uint8)
    image = np.full((60, 80, 3), 120, np.uint8)
    whole = render.draw_query(image, bitmap)
    crop = polygons.trace_outlines([masks.crop(masks.encode(bitmap))])[0]
    render.mark_query(image, crop.contours, render.COLORS["cyan"])
    assert (whole == image).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.int64, np.float32])
@pytest.mark.parametrize("seed", range(5))
def test_bitmaps_of_any_type_and_layout_draw_the_contours_of_the_whole_frame(dtype: type, seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(v) for v in rng.integers(30, 200, 2))
    bitmap = np.zeros((height, 2 * width), dtype)
    part = cv2.GaussianBlur(rng.random((height // 2, width)), (0, 0), 3) > 0.5
    bitmap[seed : seed + len(part), ::2] = part * (1 if dtype is np.bool_ else 3)
    mask = bitmap[:, ::2]  # not contiguous
    image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    expected = image.copy()
    contours, _ = cv2.findContours((mask != 0).astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(expected, contours, -1, render.COLORS["cyan"], 2)
    assert (render.draw_query(image, mask) == expected).all()


@pytest.mark.parametrize("seed", range(24))
def test_candidates_of_any_shape_are_drawn_along_the_contours_of_the_whole_frame(seed: int) -> None:
    """Ragged ones are drawn without contours; of pieces of one size the first counts, also where one holds others."""
    rng = np.random.default_rng(seed)
    height, width = (int(v) for v in rng.integers(60, 300, 2))
    image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)[:, :, ::-1]
    bitmaps = []
    for _ in range(int(rng.integers(1, 9))):
        bitmap = np.zeros((height, width), np.uint8)
        h, w = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
        y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        match int(rng.integers(0, 4)):
            case 0:
                bitmap[y : y + h, x : x + w] = 1
            case 1:
                bitmap[y : y + h, x : x + w] = cv2.GaussianBlur(rng.random((h, w)), (0, 0), 1.5) > 0.5
            case 2:  # pieces of one size
                bitmap[y : y + h, x : x + w] = np.kron(rng.random((h // 7 + 1, w // 7 + 1)) > 0.4, PIECE)[:h, :w]
            case _:  # rings in rings
                away = np.hypot(*np.ogrid[-h / 2 : h / 2, -w / 2 : w / 2])
                bitmap[y : y + h, x : x + w] = away[:h, :w] % 9 < 4
        bitmap[y, x] = 1
        bitmaps.append(np.asfortranarray(bitmap) if rng.random() < 0.3 else bitmap)
    ids, colors = list(range(1, len(bitmaps) + 1)), render.distinct_colors(len(bitmaps) + 1)
    contours = [cv2.findContours(np.ascontiguousarray(b), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0] for b in bitmaps]
    expected = np.ascontiguousarray(image)
    render.mark_candidates(expected, contours, ids, colors)
    assert (render.draw_candidates(image, bitmaps, ids, colors) == expected).all()


def test_colors_are_distinct_and_stable() -> None:
    many = render.distinct_colors(38)
    assert len(set(many)) == 38
    assert many[:5] == render.distinct_colors(5)
    assert not any(min(c) > 0.9 or max(c) < 0.5 for c in many)


@pytest.mark.parametrize(
    ("masks_shape", "ids", "colors"), [((5, 5), [1], 2), ((8, 9), [1, 2], 2), ((8, 9), [1], 1), ((8, 9), [1], 2)]
)
def test_disagreeing_arguments_are_named(masks_shape: tuple[int, int], ids: list[int], colors: int) -> None:
    image = np.zeros((8, 9, 3), np.uint8)
    empty = np.zeros(masks_shape, np.uint8)
    with pytest.raises(ValueError):
        render.draw_candidates(image, [empty], ids, render.distinct_colors(colors))


def test_unknown_color() -> None:
    with pytest.raises(ValueError, match="teal"):
        render.draw_query(np.zeros((4, 4, 3), np.uint8), np.ones((4, 4)), "teal")
