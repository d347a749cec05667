"""Changes of color and sharpness of a view, against their definition."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest

from mmvm_data.core import augment
from mmvm_data.core.augment import PhotometricTransform, ViewTransform


def change(image: np.ndarray, **changes: Any) -> np.ndarray:
    view = ViewTransform((64, 64), (64, 64), (0, 0, 64, 64), (64, 64), photometric=PhotometricTransform(**changes))
    return augment.render_view(view, image)[:64, :64]


def test_gain_and_bias_change_gray_levels() -> None:
    levels = np.arange(64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    assert (change(levels, gain=1.5, bias=-10.0) == np.clip(levels * 1.5 - 10, 0, 255).astype(np.uint8)).all()
    assert (change(levels, gain=0.5) == levels // 2).all()
    assert (change(levels, bias=25.0) == np.minimum(levels.astype(int) + 25, 255)).all()


@pytest.mark.parametrize("color", [(200, 20, 20), (20, 180, 60), (90, 40, 220), (130, 130, 130), (255, 0, 40)])
@pytest.mark.parametrize(("saturation", "hue"), [(0.6, 0.0), (1.3, 0.0), (1.0, -12.0), (1.0, 120.0), (0.7, 350.0)])
def test_saturation_and_hue(color: tuple[int, int, int], saturation: float, hue: float) -> None:
    h, s, v = colorsys.rgb_to_hsv(*(value / 255 for value in color))
    expected = np.multiply(colorsys.hsv_to_rgb((h + hue / 360) % 1, min(s * saturation, 1), v), 255)
    changed = change(np.full((64, 64, 3), color[::-1], np.uint8), saturation=saturation, hue=hue)
    assert np.abs(changed[..., ::-1] - expected).max() <= 5  # OpenCV stores hues in steps of two degrees
    assert (changed == changed[0, 0]).all()


@pytest.mark.parametrize("blur", [0.5, 2.0])
def test_blur_is_gaussian(blur: float) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = 240
    weights = np.exp(-(np.arange(-31, 32) ** 2) / 2 / blur**2)
    expected = np.convolve(np.pad([0.0] * 32 + [240.0] * 32, 31, "edge"), weights / weights.sum(), "valid")
    difference = change(image, blur=blur)[..., 0] - expected
    assert np.abs(difference).max() <= 1.5
    assert (difference == difference[0]).all()
