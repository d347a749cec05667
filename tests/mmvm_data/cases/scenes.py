"""Scenes of colored rectangles, and color in CIELAB from its definition."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.cases.visibility import VisibleObject
from mmvm_data.core import masks
from mmvm_data.core.types import Region


def to_lab(bgr: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB (L 0..100, a, b) of a color, BGR in 0..255, from the definition: sRGB, white point D65."""
    rgb = np.asarray(bgr, float)[::-1] / 255
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    to_xyz = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    x, y, z = to_xyz @ linear / (0.950456, 1, 1.088754)
    fx, fy, fz = (np.cbrt(t) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def make_blobs(rng: np.random.Generator, height: int, width: int, count: int) -> list[NDArray[np.uint8]]:
    """Irregular objects, which may overlap: uint8 [h, w] of 0 and 1, none of them empty."""
    bitmaps = []
    for _ in range(count):
        bitmap = np.zeros((height, width), np.uint8)
        h, w = (int(v) for v in rng.integers(6, 30, 2))
        y, x = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
        bitmap[y : y + h, x : x + w] = cv2.GaussianBlur(rng.random((h, w)), (0, 0), 2) > 0.47
        bitmap[y, x] = 1
        bitmaps.append(bitmap)
    return bitmaps


def see(name: str, bitmap: NDArray[np.uint8], category: str | None = None) -> VisibleObject:
    """An object with this bitmap."""
    rle = masks.encode(bitmap)
    x, y, w, h = masks.bbox(rle)
    return VisibleObject(Region(id=name, mask=rle, category=category), rle, masks.area(rle), (x, y, w, h))
