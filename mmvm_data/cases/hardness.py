"""How sharp an object is, and how easily it is confused with another: numbers from pixels and masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.cases.appearance import log_hu_moments, mean_lab
from mmvm_data.cases.visibility import VisibleObject
from mmvm_data.core import masks

_OUTLINE_REACH = 0.15  # of the square root of an object's area: how far from its outline colors count

EmbeddingRanker = Callable[
    [NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float64]
]
"""A vision model that compares the query with other objects.

Called with the first image, uint8 [h, w, 3] BGR, the bitmap of the query, uint8 [h, w], the last image, and the bitmaps
of the other objects, uint8 [n, h, w]; returns the cosine similarity (-1..1) of the query's features with each object's,
float [n]. Must be deterministic, so that builds can be reproduced."""

EmbeddingRankerFactory = Callable[[str], EmbeddingRanker]
"""Opens a ranker by the name of its model; raises UsageError or InputError for a model that cannot be opened.

Picklable, such as a function at the top of a module, since each worker opens its own."""


def measure_sharpness(image: NDArray[np.uint8], box: Sequence[float]) -> float:
    """Variance of the Laplacian inside a box, in gray levels squared; near 0 where everything is blurred.

    Source: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.

    Args:
        image: uint8 [h, w, 3], BGR.
        box: x, y, width, height in pixels, inside the image.
    """
    x, y, w, h = (int(v) for v in box)
    # in a large object, every second row and column gives about the same value at a quarter of the cost
    step = 2 if w * h > 40_000 else 1
    gray = cv2.cvtColor(image[max(y - 2, 0) : y + h + 2 : step, max(x - 2, 0) : x + w + 2], cv2.COLOR_BGR2GRAY)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(gray[:, ::step], cv2.CV_16S))
    return float(deviation[0, 0]) ** 2


def measure_contrast(image: NDArray[np.uint8], visible: VisibleObject) -> float:
    """Mean difference of the colors (CIELAB) on both sides of an object's outline; low where it fades into what is
    around it. 0 where no outline lies inside the image.

    Args:
        image: uint8 [h, w, 3], BGR.
        visible: an object of the image.
    """
    patch = masks.crop(visible.rle)
    reach = max(2, round(_OUTLINE_REACH * float(np.sqrt(visible.area))))
    top, left = max(patch.y - reach, 0), max(patch.x - reach, 0)
    height, width = patch.bitmap.shape
    pixels = image[top : patch.y + height + reach, left : patch.x + width + reach]
    inside = np.zeros(pixels.shape[:2], np.float32)
    inside[patch.y - top :, patch.x - left :][:height, :width] = patch.bitmap
    step = max(1, reach // 4)  # means over a neighborhood vary slowly
    size = (max(1, pixels.shape[1] // step), max(1, pixels.shape[0] // step))
    inside = np.asarray(cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST), np.float32)
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.float32) / 255
    lab = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2LAB), np.float32)
    kernel = (2 * (reach // step) + 1,) * 2
    means = []
    for weight in (inside, 1 - inside):
        total = np.asarray(cv2.boxFilter(weight, -1, kernel, borderType=cv2.BORDER_CONSTANT))
        color = np.asarray(cv2.boxFilter(lab * weight[..., None], -1, kernel, borderType=cv2.BORDER_CONSTANT))
        means.append(color / np.maximum(total, 1e-6)[..., None])
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    outline = (inside > 0) & (np.asarray(cv2.dilate(1 - inside, cross, borderType=cv2.BORDER_CONSTANT)) > 0)
    if not outline.any():
        return 0.0
    return float(np.linalg.norm(means[0] - means[1], axis=2)[outline].mean())


def rank_candidates(
    first_image: NDArray[np.uint8],
    query: VisibleObject,
    last_image: NDArray[np.uint8],
    candidates: Sequence[VisibleObject],
    embedding_ranker: EmbeddingRanker | None = None,
) -> list[int]:
    """Indices into ``candidates``, the one most easily confused with the query first.

    The score adds: 2 for the same category, and from 0 to 1 each for similar color (mean in CIELAB), shape (Hu
    moments), size (ratio of areas) and place (distance over the image's diagonal); with a ranker, twice the cosine
    similarity of the features where it is above 0. Ties go by id.

    Args:
        first_image, last_image: uint8 [h, w, 3], BGR.
        query: the query in the first image.
        candidates: objects of the last image.
        embedding_ranker: a vision model whose features count too.
    """
    cosines: NDArray[np.float64] = np.zeros(len(candidates))
    if embedding_ranker is not None and candidates:
        query_bitmap, *bitmaps = [masks.decode(visible.rle) for visible in (query, *candidates)]
        cosines = embedding_ranker(first_image, query_bitmap, last_image, np.stack(bitmaps))
    color, moments, center = _describe_object(first_image, query)
    height, width = last_image.shape[:2]
    diagonal = float(np.hypot(height, width))
    scores = []
    for k, candidate in enumerate(candidates):
        other_color, other_moments, other_center = _describe_object(last_image, candidate)
        score = 2.0 * (query.region.category is not None and candidate.region.category == query.region.category)
        score += 1 / (1 + float(np.linalg.norm(color - other_color)) / 20)  # 20: a difference that is plain to see
        score += 1 / (1 + float(np.abs(moments - other_moments).sum()))
        score += min(query.area, candidate.area) / max(query.area, candidate.area)
        score += 1 - float(np.hypot(*(center - other_center))) / diagonal
        score += 2 * max(0.0, float(cosines[k]))
        scores.append((-score, candidate.region.id, k))
    return [k for _, _, k in sorted(scores)]


def _describe_object(
    image: NDArray[np.uint8], visible: VisibleObject
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean CIELAB color [3], log-scaled Hu moments [3] and center [2] of an object."""
    patch = masks.crop(visible.rle)
    height, width = patch.bitmap.shape
    pixels = image[patch.y : patch.y + height, patch.x : patch.x + width]
    color = mean_lab(pixels, patch.bitmap)
    moments = cv2.moments(patch.bitmap, binaryImage=True)
    center = np.array([patch.x + moments["m10"] / moments["m00"], patch.y + moments["m01"] / moments["m00"]])
    return color, log_hu_moments(moments), center
