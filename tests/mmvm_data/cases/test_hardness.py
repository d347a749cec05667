"""Sharpness and the ranking of candidates, against their formulas."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mmvm_data.cases.appearance import measure_appearance
from mmvm_data.cases.hardness import measure_contrast, measure_sharpness, rank_candidates
from mmvm_data.cases.visibility import VisibleObject
from mmvm_data.core import masks
from tests.mmvm_data.cases.scenes import make_blobs, see

HEIGHT, WIDTH = 90, 120


def laplacian_variance(gray: np.ndarray) -> float:
    """Of the four neighbors; the border is mirrored at its pixels' centers."""
    padded = np.pad(gray.astype(float), 1, "reflect")
    center = padded[1:-1, 1:-1]
    return float((padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * center).var())


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((50, 40, 30, 20), slice(38, 62), slice(48, 82)),
        ((0, 1, 30, 20), slice(0, 23), slice(0, 32)),
        ((390.9, 290.9, 10, 10), slice(288, 300), slice(388, 400)),
        ((100, 50, 200, 200), slice(48, 252), slice(98, 302)),
        ((100, 50, 201, 200), slice(48, 252, 2), slice(98, 303, 2)),
    ],
)
def test_sharpness_is_the_variance_of_the_laplacian(box: tuple[float, ...], rows: slice, columns: slice) -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    assert measure_sharpness(image, box) == pytest.approx(laplacian_variance(gray[rows, columns]))


def _disc(radius: int, x: int = 60, y: int = 45) -> np.ndarray:
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(bitmap, (x, y), radius, 1, -1)
    return bitmap


def test_contrast_is_the_color_difference_across_the_outline() -> None:
    bitmap = _disc(20)
    shape = see("a", bitmap)
    image = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    assert measure_contrast(image, shape) == pytest.approx(0, abs=1e-3)
    image[bitmap == 1] = 160
    lab = cv2.cvtColor(np.float32([[[100, 100, 100], [160, 160, 160]]]) / 255, cv2.COLOR_BGR2LAB)
    expected = float(np.linalg.norm(lab[0, 0] - lab[0, 1]))
    assert measure_contrast(image, shape) == pytest.approx(expected, rel=0.05)
    image[_disc(10) == 1] = 0  # what lies far inside does not count much
    assert measure_contrast(image, shape) == pytest.approx(expected, rel=0.2)
    image[:, :60] = 130  # half of the outline is gone
    assert 0.3 * expected < measure_contrast(image, shape) < 0.75 * expected
    assert measure_contrast(image, see("b", np.ones((HEIGHT, WIDTH), np.uint8))) >= 0


def rank_by_formula(
    first: np.ndarray,
    query: VisibleObject,
    last: np.ndarray,
    candidates: list[VisibleObject],
    cosines: np.ndarray | None = None,
) -> list[int]:
    mine = measure_appearance(first, query.rle)
    assert mine is not None
    scores = {}
    for k, candidate in enumerate(candidates):
        other = measure_appearance(last, candidate.rle)
        assert other is not None
        category = query.region.category
        scores[k] = 2 * (category is not None and category == candidate.region.category)
        scores[k] += 1 / (1 + np.linalg.norm(mine.color - other.color) / 20)
        scores[k] += 1 / (1 + np.abs(mine.hu - other.hu).sum())
        scores[k] += min(mine.area / other.area, other.area / mine.area)
        scores[k] += 1 - np.hypot(*np.subtract(mine.center, other.center)) / np.hypot(*last.shape[:2])
        scores[k] += 2 * max(cosines[k], 0) if cosines is not None else 0
    return sorted(scores, key=lambda k: (-scores[k], candidates[k].region.id))


def paint(rng: np.random.Generator, bitmaps: list[np.ndarray]) -> np.ndarray:
    image = rng.integers(100, 140, (*bitmaps[0].shape, 3), np.uint8)
    for bitmap in bitmaps:
        image[bitmap == 1] = rng.integers(60, 200, 3)
    return image


class CheckedRanker:
    """Returns its cosines for the expected images and bitmaps only."""

    def __init__(self, expected: tuple[np.ndarray, ...], cosines: np.ndarray) -> None:
        self.expected, self.cosines = expected, cosines

    def __call__(self, *arguments: np.ndarray) -> np.ndarray:
        for value, expected in zip(arguments, self.expected, strict=True):
            assert (value == expected).all()
        return self.cosines


def test_order_of_candidates_follows_the_formula() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        bitmaps = make_blobs(rng, HEIGHT, WIDTH, 9)
        categories = rng.choice(["dog", "cat", ""], 9).tolist()
        query, *candidates = [
            see(str(k), b, c or None) for k, (b, c) in enumerate(zip(bitmaps, categories, strict=True))
        ]
        first, last = paint(rng, bitmaps), paint(rng, bitmaps)
        assert rank_candidates(first, query, last, candidates) == rank_by_formula(first, query, last, candidates)
        cosines = rng.uniform(-1, 1, len(candidates))

        ranker = CheckedRanker((first, bitmaps[0], last, np.stack(bitmaps[1:])), cosines)
        by_formula = rank_by_formula(first, query, last, candidates, cosines)
        assert rank_candidates(first, query, last, candidates, ranker) == by_formula


def test_ties_go_by_id_and_nothing_is_ranked_without_candidates() -> None:
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8)
    bitmap[3:9, 4:20] = 1
    image = np.full((HEIGHT, WIDTH, 3), 77, np.uint8)
    twins = [see(name, bitmap) for name in ("b", "c", "a")]
    assert rank_candidates(image, see("q", bitmap), image, twins) == [2, 0, 1]

    def never(*_: np.ndarray) -> np.ndarray:
        raise AssertionError

    assert rank_candidates(image, see("q", bitmap), image, [], never) == []
    assert masks.area(twins[0].rle) == 96
