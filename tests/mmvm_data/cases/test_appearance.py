"""Measured appearances against their definitions."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from mmvm_data.cases import appearance
from mmvm_data.core import masks
from tests.mmvm_data.cases.scenes import make_blobs, to_lab

HEIGHT, WIDTH = 90, 120


def measure(bitmap: np.ndarray, image: np.ndarray | None = None) -> appearance.Appearance:
    measured = appearance.measure_appearance(
        np.zeros((*bitmap.shape, 3), np.uint8) if image is None else image, masks.encode(bitmap)
    )
    assert measured is not None
    return measured


def fill(y: int, x: int, h: int, w: int) -> np.ndarray:
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8)
    bitmap[y : y + h, x : x + w] = 1
    return bitmap


@pytest.mark.parametrize(("h", "w", "angle"), [(10, 40, 0), (40, 10, 90), (1, 30, 0), (12, 12, 0)])
def test_a_rectangle(h: int, w: int, angle: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    measured = measure(fill(30, 20, h, w), image)
    assert measured.center == pytest.approx((20 + (w - 1) / 2, 30 + (h - 1) / 2))
    assert (measured.bottom, measured.area) == (30 + h, h * w)
    assert measured.angle == pytest.approx(angle)
    assert measured.elongation == pytest.approx(max(h, w) / min(h, w))
    assert (measured.pixels == image[30 : 30 + h, 20 : 20 + w]).all()
    assert measured.bitmap.tolist() == [[1] * w] * h
    assert measured.rle == masks.encode(fill(30, 20, h, w))


def test_diagonal_axes() -> None:
    line = np.zeros((HEIGHT, WIDTH), np.uint8)
    for k in range(40):
        line[10 + k, 20 + k : 24 + k] = 1
    assert measure(line).angle == pytest.approx(45, abs=2)  # y points down
    assert measure(line[:, ::-1]).angle == pytest.approx(135, abs=2)
    assert measure(np.eye(50, dtype=np.uint8)).angle == pytest.approx(45)


@pytest.mark.parametrize("seed", range(5))
def test_moments_from_their_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    compared = 0
    for bitmap in make_blobs(rng, HEIGHT, WIDTH, 4):
        measured = measure(bitmap, image)
        ys, xs = np.nonzero(bitmap)
        n, dx, dy = len(xs), xs - xs.mean(), ys - ys.mean()

        def eta(p: int, q: int, dx: np.ndarray = dx, dy: np.ndarray = dy, n: int = n) -> float:
            return float((dx**p * dy**q).sum() / n ** (1 + (p + q) / 2))

        hu = [
            eta(2, 0) + eta(0, 2),
            (eta(2, 0) - eta(0, 2)) ** 2 + 4 * eta(1, 1) ** 2,
            (eta(3, 0) - 3 * eta(1, 2)) ** 2 + (3 * eta(2, 1) - eta(0, 3)) ** 2,
        ]
        if min(map(abs, hu)) > 1e-10:  # symmetric shapes differ by rounding
            expected = [math.copysign(1, v) * math.log10(abs(v)) for v in hu]
            assert measured.hu == pytest.approx(expected, abs=1e-6)
            compared += 1
        assert measured.center == pytest.approx((xs.mean(), ys.mean()))
        spread = np.cov(np.stack((dx, dy)), bias=True) + np.eye(2) / 12  # of the pixels' areas
        small, large = np.linalg.eigvalsh(spread)
        assert measured.elongation == pytest.approx(math.sqrt(large / max(small, 1 / 12)))
        vectors = np.linalg.eigh(spread)[1][:, 1]
        degrees = math.degrees(math.atan2(vectors[1], vectors[0])) % 180
        assert appearance.axis_angle(measured.angle, degrees) == pytest.approx(0, abs=1e-6)
        assert measured.color == pytest.approx(to_lab(image[bitmap == 1].mean(axis=0)), abs=0.3)
    assert compared


def test_masks_that_cannot_be_measured() -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert appearance.measure_appearance(image, masks.encode(fill(0, 0, 0, 0))) is None
    with pytest.raises(ValueError) as caught:
        appearance.measure_appearance(image, masks.encode(np.ones((5, 7))))
    assert str(caught.value) == "mask of (5, 7) on an image of (90, 120) (height, width)"


def test_log_hu_moments_keep_the_sign_and_have_a_floor() -> None:
    moments = dict.fromkeys(cv2.moments(np.ones((3, 3), np.uint8)), 0.0)
    assert appearance.log_hu_moments(moments).tolist() == [0, 0, 0]  # type: ignore[arg-type]
    seen = appearance.log_hu_moments(moments | {"nu20": -0.01, "nu30": 1e-7})  # type: ignore[arg-type]
    assert seen == pytest.approx([2, -4, -12])


@pytest.mark.parametrize(
    ("a", "b", "angle"), [(10, 40, 30), (40, 10, 30), (5, 175, 10), (0, 90, 90), (90, 180, 90), (179, 1, 2), (7, 7, 0)]
)
def test_angle_between_axes(a: float, b: float, angle: float) -> None:
    assert appearance.axis_angle(a, b) == angle


@pytest.mark.parametrize(
    ("lab", "name"),
    [
        ((19.9, 0, 0), "black"),
        ((20, 5, 5), "dark grey"),
        ((41.9, 0, -8.9), "dark grey"),
        ((42, 0, 0), "grey"),
        ((67.9, 0, 0), "grey"),
        ((68, 0, 0), "light grey"),
        ((50, 9, 0), "pink"),
        ((60, 50, 18), "pink"),  # 19.8 degrees
        ((60, 50, 19), "red"),  # 20.8
        ((60, 50, 59), "red"),  # 49.7
        ((60, 50, 60), "orange"),  # 50.2
        ((60, 13, 48), "orange"),  # 74.8
        ((60, 12, 48), "yellow"),  # 76.0
        ((60, -17, 48), "yellow"),  # 109.5
        ((60, -18, 48), "green"),  # 110.6
        ((60, -48, 9), "green"),  # 169.4
        ((60, -48, 8), "cyan"),  # 170.5
        ((60, -30, -42), "cyan"),  # 234.5
        ((60, -29, -42), "blue"),  # 235.4
        ((60, 24, -42), "blue"),  # 299.7
        ((60, 25, -42), "purple"),  # 300.8
        ((60, 50, -1), "purple"),  # 358.9
        ((49.9, 20, 20), "brown"),
        ((50, 20, 20), "red"),
        ((49.9, 30, 30), "red"),  # a chroma of 42
        ((49.9, 8, 38), "brown"),  # 38.8
        ((34.9, 20, 20), "dark brown"),
        ((34.9, 0, -30), "dark blue"),
        ((35, 0, -30), "blue"),
        ((75, 0, -30), "blue"),
        ((75.1, 0, -30), "light blue"),
        ((40, -20, 20), "green"),
    ],
)
def test_names_of_colors(lab: tuple[float, float, float], name: str) -> None:
    assert appearance.color_name(np.array(lab, float)) == name


def with_descriptors(values: list[list[float]] | None) -> appearance.Appearance:
    measured = measure(fill(0, 0, 5, 5))
    measured.__dict__["sift_descriptors"] = None if values is None else np.array(values, np.float32)
    return measured


def test_matches_are_clear_and_counted_once() -> None:
    target = with_descriptors([[0, 0], [100, 0], [0, 100]])
    for points, matches in (
        ([[1, 0], [99, 0], [0, 99]], 3),
        ([[1, 0], [2, 0]], 1),  # both match the first
        ([[50, 0]], 0),  # as near to one as to another
        ([[42, 0]], 1),  # 42 < 0.75 * 58
        ([[43, 0]], 0),  # 43 > 0.75 * 57
    ):
        assert appearance.count_pattern_matches(with_descriptors(points), target) == matches
    assert appearance.count_pattern_matches(target, with_descriptors([[0, 0], [9, 9]])) == 1
    for a, b in ((None, [[0, 0], [9, 9]]), ([[0, 0]], None), ([[0, 0]], [[0, 0]])):
        assert appearance.count_pattern_matches(with_descriptors(a), with_descriptors(b)) == 0


def test_descriptors_are_of_the_object_alone() -> None:
    rng = np.random.default_rng(0)
    for side in (30, 100):  # the smaller one is enlarged
        image = np.full((120, 240, 3), 128, np.uint8)
        texture = cv2.resize(rng.integers(0, 255, (10, 10, 3), np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)
        image[10 : 10 + side, 10 : 10 + side] = texture
        bitmap = np.zeros(image.shape[:2], np.uint8)
        bitmap[10 : 10 + side, 10 : 10 + side] = 1
        descriptors = measure(bitmap, image).sift_descriptors
        assert descriptors is not None
        assert (descriptors.dtype, descriptors.shape[1]) == (np.float32, 128)
        assert len(descriptors) > 20
        shifted = np.roll(bitmap, 120, axis=1)
        assert measure(shifted, image).sift_descriptors is None
        bitmap[10 : 10 + side, 10 : 10 + side // 2] = 0
        bitmap[10, 10] = 1  # the same box
        half = measure(bitmap, image).sift_descriptors
        assert half is not None
        assert len(half) < 0.8 * len(descriptors)
