"""How well an object shows, and how easily it is taken for another: numbers from pixels and masks."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import cv2
import numpy as np

from mmvm_data.cases.appearance import mean_lab
from mmvm_data.core import masks
from mmvm_data.core.errors import UsageError
from mmvm_data.core.types import Region, Rle

Likeness = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""First image, the query's bitmap, last image, bitmaps [n, h, w] of others -> cosines [n] of their features."""


class Shown(Protocol):
    """An object with its mask, as ``sampling.Seen``."""

    @property
    def region(self) -> Region: ...
    @property
    def rle(self) -> Rle: ...
    @property
    def area(self) -> int: ...
    @property
    def box(self) -> tuple[float, float, float, float]: ...


def sharpness(image: np.ndarray, box: Sequence[float]) -> float:
    """Variance of the Laplacian inside a box, in grey levels squared: near 0 where everything is blurred away
    (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000).

    Args:
        image: uint8 [h, w, 3], BGR.
        box: x, y, width, height in pixels, inside the image.
    """
    x, y, w, h = (int(v) for v in box)
    # every second line of a large object says the same at a quarter of the cost
    step = 2 if w * h > 40_000 else 1
    grey = cv2.cvtColor(image[max(y - 2, 0) : y + h + 2 : step, max(x - 2, 0) : x + w + 2], cv2.COLOR_BGR2GRAY)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey[:, ::step], cv2.CV_16S))
    return float(deviation[0, 0]) ** 2


@lru_cache(maxsize=1)
def likeness(expert: str) -> Likeness:
    """How alike objects look to a vision expert; ``colva`` has the networks, so that nothing here needs torch.

    Args:
        expert: ``mobilenetv2``, or a folder or file with weights; see ``colva.inference.region_features.open_expert``.

    Raises:
        UsageError: torch is not installed, or there is no such expert.
        InputError: its weights cannot be read.
    """
    try:
        looks = importlib.import_module("colva.inference.region_features")
    except ModuleNotFoundError as error:
        raise UsageError(
            f"embeddings of {expert} need {error.name}: pip install 'mmvm-data[train]', or leave --embeddings out"
        ) from error
    found: Likeness = looks.Ranker(expert)
    return found


def hardest(
    first: np.ndarray, query: Shown, last: np.ndarray, others: Sequence[Shown], expert: str | None = None
) -> list[int]:
    """Positions in ``others``, the most confusable with the query first.

    The score adds: same category 2, and from 0 to 1 each of similar colour (mean in CIELAB), shape (Hu moments),
    size (ratio of areas) and place (distance over the image's diagonal); with an expert, twice the cosine of the pooled
    features, where it is above 0. Ties go by id.

    Args:
        first, last: the two images, uint8 [h, w, 3], BGR.
        query: the query in the first image.
        others: candidates in the last image.
        expert: a vision model whose features count too, see ``likeness``.

    Raises:
        UsageError, InputError: see ``likeness``.
    """
    cosines = np.zeros(len(others))
    if expert is not None and others:
        bitmaps = [masks.decode(shown.rle) for shown in (query, *others)]
        cosines = likeness(expert)(first, bitmaps[0], last, np.stack(bitmaps[1:]))
    color, moments, center = _look(first, query)
    height, width = last.shape[:2]
    diagonal = float(np.hypot(height, width))
    scores = []
    for k, other in enumerate(others):
        other_color, other_moments, other_center = _look(last, other)
        score = 2.0 * (query.region.category is not None and other.region.category == query.region.category)
        score += 1 / (1 + float(np.linalg.norm(color - other_color)) / 20)  # 20: a difference that is plain to see
        score += 1 / (1 + float(np.abs(moments - other_moments).sum()))
        score += min(query.area, other.area) / max(query.area, other.area)
        score += 1 - float(np.hypot(*(center - other_center))) / diagonal
        score += 2 * max(0.0, float(cosines[k]))
        scores.append((-score, other.region.id, k))
    return [k for _, _, k in sorted(scores)]


def _look(image: np.ndarray, shown: Shown) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean CIELAB colour [3], log-scaled Hu moments [3] and centre [2] of an object."""
    patch = masks.crop(shown.rle)
    height, width = patch.bitmap.shape
    pixels = image[patch.y : patch.y + height, patch.x : patch.x + width]
    color = mean_lab(pixels, patch.bitmap)
    moments = cv2.moments(patch.bitmap, binaryImage=True)
    hu = cv2.HuMoments(moments)[:3, 0]
    scaled = np.sign(hu) * np.log10(np.maximum(np.abs(hu), 1e-12))
    center = np.array([patch.x + moments["m10"] / moments["m00"], patch.y + moments["m01"] / moments["m00"]])
    return color, scaled, center
