"""The appearance of one object in numbers: color, shape, place, orientation, and keypoints of its pattern."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.core import masks
from mmvm_data.core.types import Rle

_KEYPOINT_SIDE = 96  # pixels to which a small object is enlarged before keypoints are detected
_MATCH_RATIO = 0.75  # of the two nearest descriptors' distances (Lowe, IJCV 2004, section 7.1)
_HUES = ((20, "pink"), (50, "red"), (75, "orange"), (110, "yellow"), (170, "green"), (235, "cyan"), (300, "blue"))


@dataclass(frozen=True)
class Appearance:
    """An object in an image, measured.

    Attributes:
        rle: its mask, of the image's size.
        pixels: uint8 [h, w, 3], BGR, of its tight box.
        bitmap: uint8 [h, w] of 0 and 1.
        color: mean in CIELAB (L 0..100), float [3].
        hu: the first three Hu moments as sign * log10, float [3].
        center: x, y of its centroid in pixels; ``bottom``: y of its lower edge.
        area: pixels.
        angle: of its long axis in degrees, 0..180; ``elongation``: long over short axis, 1 or more.
    """

    rle: Rle
    pixels: NDArray[np.uint8]
    bitmap: NDArray[np.uint8]
    color: NDArray[np.float64]
    hu: NDArray[np.float64]
    center: tuple[float, float]
    bottom: float
    area: int
    angle: float
    elongation: float

    @cached_property
    def sift_descriptors(self) -> NDArray[np.float32] | None:
        """SIFT descriptors of the keypoints inside the object, float32 [n, 128]; None if there are none."""
        scale = max(1.0, _KEYPOINT_SIDE / max(self.bitmap.shape))
        gray = cv2.cvtColor(self.pixels, cv2.COLOR_BGR2GRAY)
        bitmap = self.bitmap
        if scale > 1:
            gray = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
            bitmap = cv2.resize(bitmap, gray.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(np.uint8, copy=False)
        _, descriptors = _sift().detectAndCompute(gray, bitmap * 255)
        return None if descriptors is None else descriptors.astype(np.float32, copy=False)


def measure_appearance(image: NDArray[np.uint8], rle: Rle) -> Appearance | None:
    """Measure the appearance of an object.

    Args:
        image: uint8 [h, w, 3], BGR.
        rle: its mask, of the image's size.

    Returns:
        None for an empty mask.

    Raises:
        ValueError: the mask is broken or of another size.
    """
    if rle.size != image.shape[:2]:
        raise ValueError(f"mask of {rle.size} on an image of {image.shape[:2]} (height, width)")
    patch = masks.crop(rle)
    height, width = patch.bitmap.shape
    if not height or not width:
        return None
    pixels = image[patch.y : patch.y + height, patch.x : patch.x + width]
    moments = cv2.moments(patch.bitmap, binaryImage=True)
    area = moments["m00"]
    # half the difference and half the sum of the second moments along the two axes; a pixel itself adds 1/12
    spread = math.hypot((moments["mu20"] - moments["mu02"]) / 2, moments["mu11"])
    middle = (moments["mu20"] + moments["mu02"]) / 2 + area / 12
    return Appearance(
        rle=rle,
        pixels=pixels,
        bitmap=patch.bitmap,
        color=mean_lab(pixels, patch.bitmap),
        hu=log_hu_moments(moments),
        center=(patch.x + moments["m10"] / area, patch.y + moments["m01"] / area),
        bottom=float(patch.y + height),
        area=int(area),
        angle=math.degrees(0.5 * math.atan2(2 * moments["mu11"], moments["mu20"] - moments["mu02"])) % 180,
        elongation=math.sqrt((middle + spread) / max(middle - spread, area / 12)),
    )


def mean_lab(pixels: NDArray[np.uint8], bitmap: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean color in CIELAB (L 0..100, a, b), float [3], of the pixels, uint8 [h, w, 3] BGR, where ``bitmap`` is not 0.

    The mean is computed in BGR, then converted.
    """
    mean = np.asarray(cv2.mean(pixels, mask=bitmap), np.float32)[None, None, :3] / 255
    lab: NDArray[np.float64] = cv2.cvtColor(mean, cv2.COLOR_BGR2LAB)[0, 0].astype(np.float64)
    return lab


def log_hu_moments(moments: cv2.typing.Moments) -> NDArray[np.float64]:
    """The first three Hu moments of a shape as sign * log10, float [3]; ``moments`` of ``cv2.moments``."""
    hu = cv2.HuMoments(moments)[:3, 0]
    scaled: NDArray[np.float64] = np.sign(hu) * np.log10(np.maximum(np.abs(hu), 1e-12))
    return scaled


def axis_angle(a: float, b: float) -> float:
    """Angle between two axes, in degrees, 0..90."""
    return abs((a - b + 90) % 180 - 90)


def count_pattern_matches(a: Appearance, b: Appearance) -> int:
    """Number of keypoints of ``a`` with one clear match in ``b`` (SIFT with Lowe's ratio test)."""
    if a.sift_descriptors is None or b.sift_descriptors is None or len(b.sift_descriptors) < 2:
        return 0
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(a.sift_descriptors, b.sift_descriptors, k=2)
    matched = {near.trainIdx for near, far in pairs if near.distance < _MATCH_RATIO * far.distance}
    return len(matched)


def color_name(lab: NDArray[np.float64]) -> str:
    """A color of CIELAB (L 0..100, a, b) in words: a gray below a chroma of 9, else light or dark and a hue.

    The words are part of the evidence of cues, which sets store, so "grey" stays spelled as it is.
    """
    light, a, b = (float(v) for v in lab)
    chroma, hue = math.hypot(a, b), math.degrees(math.atan2(b, a)) % 360
    if chroma < 9:
        return "black" if light < 20 else "dark grey" if light < 42 else "grey" if light < 68 else "light grey"
    name = next((name for limit, name in _HUES if hue < limit), "purple")
    if name in ("red", "orange", "yellow") and light < 50 and chroma < 40:
        name = "brown"
    return f"{'dark ' if light < 35 else 'light ' if light > 75 else ''}{name}"


@lru_cache(maxsize=1)
def _sift() -> cv2.SIFT:
    return cv2.SIFT.create(nfeatures=100)
