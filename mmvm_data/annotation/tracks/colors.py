"""Colors of an object, and where an image has them."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.core.types import Box

_BINS: Final = 8
_SEARCH_SIZE: Final = 320  # pixels on the longer side


def color_histogram(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Share of a mask's pixels in each of 8 x 8 x 8 bins of CIELAB; sums to 1, or to 0 for an empty mask."""
    pixels = image[mask][None] if mask.any() else np.zeros((1, 0, 3), np.uint8)
    counts = np.bincount(_color_bins(pixels).ravel(), minlength=_BINS**3).astype(np.float32)
    return counts / max(float(counts.sum()), 1.0)


def likely_boxes(
    image: NDArray[np.uint8], colors: NDArray[np.float32], area: int, sides: tuple[float, float], most: int = 4
) -> list[Box]:
    """Boxes of one size in which an image has most of an object's colors, the likeliest first.

    A color counts by how much more the object has of it than the image (Swain and Ballard, Color Indexing, 1991).

    Args:
        image: uint8 [h, w, 3], blue first.
        colors: of ``color_histogram``.
        area: of the object, in pixels.
        sides: width and height of the boxes.
        most: how many; they overlap by half of their sides at most.
    """
    height, width = image.shape[:2]
    scale = min(1.0, _SEARCH_SIZE / max(height, width))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
    bins = _color_bins(small)
    counts = np.bincount(bins.ravel(), minlength=_BINS**3) / scale**2
    ratios = np.minimum(colors * area / np.maximum(counts, 1.0), 1.0).astype(np.float32)
    kernel = max(1, round(sides[0] * scale)), max(1, round(sides[1] * scale))
    likely = cv2.boxFilter(ratios[bins], -1, kernel, normalize=False, borderType=cv2.BORDER_CONSTANT)
    boxes: list[Box] = []
    while len(boxes) < most:
        _, best, _, (column, row) = cv2.minMaxLoc(likely)
        if best <= 0:
            break
        left, top = (column + 0.5) / scale - sides[0] / 2, (row + 0.5) / scale - sides[1] / 2
        x, y = max(0.0, left), max(0.0, top)
        boxes.append((x, y, min(left + sides[0], width) - x, min(top + sides[1], height) - y))
        around = np.s_[max(0, row - kernel[1] // 2) : row + kernel[1] // 2 + 1]
        likely[around, max(0, column - kernel[0] // 2) : column + kernel[0] // 2 + 1] = 0
    return boxes


def _color_bins(image: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The bin of each pixel of an image, [h, w]."""
    if not image.size:
        return np.zeros(image.shape[:2], np.intp)
    lab = cv2.cvtColor(image, cv2.COLOR_BGR2LAB).astype(np.intp)
    # lightness covers 0..255, a and b mostly 96..160
    light = lab[..., 0] * _BINS // 256
    tones = np.clip((lab[..., 1:] - 96) * _BINS // 64, 0, _BINS - 1)
    bins: NDArray[np.intp] = (light * _BINS + tones[..., 0]) * _BINS + tones[..., 1]
    return bins
