"""Draws the marked images of a case from its clean ones."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.cases import render
from mmvm_data.core import masks, polygons
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case

QUALITY = 95
"""JPEG quality of drawn images, and of originals whose source is no JPEG."""


def draw_case_image(
    case: Case,
    position: int,
    bgr: NDArray[np.uint8],
    color: str = "cyan",
    palette: Sequence[tuple[float, float, float]] | None = None,
    magnify: float = 1.0,
    has_edges: bool = False,
) -> NDArray[np.uint8]:
    """One image of a case with its marks: the query, or in the last image the numbered candidates.

    Args:
        case: regions of the image's size.
        position: 0-based number of the image.
        bgr: the clean image, uint8 [h, w, 3], blue first; not changed.
        color: of the query, a name in ``render.COLORS``; the benchmark's is cyan.
        palette: RGB in 0..1 of the candidates in their order, and a spare; None: the benchmark's.
        magnify: how many times as thick as in the benchmark lines are, and as large the smallest numbers.
        has_edges: whether numbers get a dark edge, which the benchmark's have not.

    Returns:
        A drawn copy, blue first. A query that the image does not show (an empty mask) leaves no mark.

    Raises:
        InputError: a candidate has no pixels, or a mask is broken or not of the image's size.
    """
    height, width = bgr.shape[:2]
    drawn = bgr.copy()
    last = position == len(case.frames) - 1
    regions = [candidate.region for candidate in case.candidates] if last else [case.query[position]]
    rles = [masks.region_mask(region, height, width) for region in regions]
    for region, rle in zip(regions, rles, strict=True):
        if rle.size != (height, width):
            reason = f"mask of object {region.id!r} is {rle.size}, the image {(height, width)} (height, width)"
            raise InputError(case.id, reason, field=f"image {position + 1}")
    try:
        contours = [polygons.trace_contours(*masks.crop(rle)) for rle in rles]
    except ValueError as error:
        raise InputError(case.id, str(error), field=f"image {position + 1}") from error
    if not last:
        red, green, blue = render.COLORS[color]
        render.mark_query(drawn, contours[0], (blue, green, red), magnify=magnify)
        return drawn
    for candidate, found in zip(case.candidates, contours, strict=True):
        if not found:
            raise InputError(case.id, f"candidate {candidate.number} has no pixels", field=f"image {position + 1}")
    colors = render.distinct_colors(len(contours) + 1) if palette is None else palette
    numbers = [candidate.number for candidate in case.candidates]
    bgr_colors = [rgb[::-1] for rgb in colors]
    render.mark_candidates(drawn, contours, numbers, bgr_colors, magnify=magnify, has_edges=has_edges)
    return drawn


def encode_jpeg(bgr: NDArray[np.uint8], quality: int = QUALITY) -> bytes:
    """An image, uint8 [h, w, 3], blue first, as a JPEG file of a quality of 1..100."""
    _, coded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return coded.tobytes()
