"""Draws the marks that models see: the query's contour, the candidates' contours and numbers.

The drawing equals that of the published code (CoLVA, ``contour_rendering``) pixel for pixel, with OpenCV below version
5: later versions draw Hershey fonts differently. A box is drawn as the contour of its filled rectangle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.cases import bitmaps
from mmvm_data.core import polygons

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (255, 0, 0),
    "yellow": (255, 255, 0),
    "blue": (0, 0, 255),
    "green": (0, 128, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
}
"""Names that questions use for the query's contour -> RGB. The benchmark always uses cyan."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LINE_WIDTH = 2
_EDGE = (40, 40, 40)
_LEAST_CONTRAST = 1.3
_MARGIN = 5  # pixels that lines and digits may reach beyond their points; lines are at most 2 thick
_SMALL_SIDE = 25  # a piece whose longer side is under this many pixels gets thin digits
_MAX_LABEL_SHARE = 0.15  # of the piece's width and height that the number may take
_SCALES = [tenths / 10 for tenths in range(5, 60)]


def draw_query(image: NDArray[np.uint8], mask: NDArray[Any], color: str = "cyan") -> NDArray[np.uint8]:
    """Draw the first image of a case: all contours of the query, 2 px wide.

    Args:
        image: uint8 [h, w, 3], RGB; not changed.
        mask: bool or 0/1 [h, w].
        color: a name in COLORS.

    Returns:
        a drawn copy, uint8 [h, w, 3], RGB.

    Raises:
        ValueError: mask and image differ in size, or the color has no name.
    """
    if color not in COLORS:
        raise ValueError(f"color {color!r} is not one of {', '.join(COLORS)}")
    drawn = np.array(image, order="C")
    bitmap, x, y = _crop(mask, image)
    if bitmaps.is_ragged(bitmap, has_contours=False):
        bitmaps.draw_lines(drawn, bitmap, x, y, COLORS[color])
    else:
        mark_query(drawn, polygons.trace_contours(bitmap, x, y), COLORS[color])
    return drawn


def draw_candidates(
    image: NDArray[np.uint8], masks: Sequence[NDArray[Any]], ids: Sequence[int], colors: Sequence[Sequence[float]]
) -> NDArray[np.uint8]:
    """Draw the last image of a case: each candidate's contours in its color, its number in white on that color.

    Args:
        image: uint8 [h, w, 3], RGB; not changed.
        masks: bool or 0/1 [h, w], none of them empty, drawn in this order.
        ids: the numbers to draw.
        colors: RGB in 0..1, one more than masks; the last is the spare for near-white ones.

    Returns:
        a drawn copy, uint8 [h, w, 3], RGB.

    Raises:
        ValueError: lengths or sizes disagree, or a mask is empty.
    """
    _check_counts(len(masks), ids, colors)
    drawn = np.array(image, order="C")
    labels = []
    for mask, number, color in zip(masks, ids, _paints(colors), strict=True):
        bitmap, x, y = _crop(mask, image)
        is_ragged = bitmaps.is_ragged(bitmap, has_contours=True)
        contours = polygons.trace_contours(bitmap, x, y, outermost=is_ragged)  # one of these is the largest
        labels.append(_place_label(contours, str(number), color))
        if is_ragged:
            bitmaps.draw_lines(drawn, bitmap, x, y, color)
        else:
            cv2.drawContours(drawn, contours, -1, color=color, thickness=_LINE_WIDTH)
    _draw_numbers(drawn, labels)
    return drawn


class _Label(NamedTuple):
    """A number to draw: its color's background, its left end and baseline, and the largest scale that fits."""

    text: str
    color: tuple[float, float, float]
    x: int
    y: int
    thickness: int
    scale: float


class SavedPatch(NamedTuple):
    """A part of an image before something was drawn on it: uint8 [h, w, 3], and its top left pixel."""

    pixels: NDArray[np.uint8]
    x: int
    y: int


def mark_query(
    image: NDArray[np.uint8],
    contours: Sequence[NDArray[Any]],
    color: tuple[int, int, int],
    saved: list[SavedPatch] | None = None,
    magnify: float = 1.0,
) -> None:
    """Draw the query into ``image`` (uint8 [h, w, 3]); ``color`` in the image's own order of channels.

    Args:
        contours: of ``polygons.trace_contours``.
        saved: what is drawn over is added here, for ``restore``; of lines that are not magnified.
        magnify: how many times as thick as in the benchmark.
    """
    if saved is not None:
        _save_patch(saved, image, *_bounding_box(contours))
    cv2.drawContours(image, contours, -1, color=color, thickness=round(_LINE_WIDTH * magnify))


def mark_candidates(
    image: NDArray[np.uint8],
    contours_of_each: Sequence[Sequence[NDArray[Any]]],
    ids: Sequence[int],
    colors: Sequence[Sequence[float]],
    saved: list[SavedPatch] | None = None,
    magnify: float = 1.0,
    has_edges: bool = False,
) -> None:
    """Draw the candidates into ``image`` (uint8 [h, w, 3]).

    Args:
        contours_of_each: of ``polygons.trace_contours``, one list for each candidate.
        ids, colors: as for ``draw_candidates``; colors in the image's own order of channels.
        saved: what is drawn over is added here, for ``restore``; of marks that are not magnified.
        magnify: how many times as thick as in the benchmark lines are, and as large the smallest numbers.
        has_edges: whether digits get a dark edge, which the benchmark's have not; see ``is_faint``.
    """
    _check_counts(len(contours_of_each), ids, colors)
    labels = []
    for contours, number, color in zip(contours_of_each, ids, _paints(colors), strict=True):
        labels.append(_place_label(contours, str(number), color, magnify))
        if saved is not None:
            _save_patch(saved, image, *_bounding_box(contours))
        cv2.drawContours(image, contours, -1, color=color, thickness=round(_LINE_WIDTH * magnify))
    _draw_numbers(image, labels, saved, magnify, has_edges)


def _check_counts(count: int, ids: Sequence[int], colors: Sequence[Sequence[float]]) -> None:
    if len(ids) != count or len(colors) != count + 1:
        raise ValueError(f"{count} masks need as many ids and one color more, got {len(ids)} and {len(colors)}")


def _paints(colors: Sequence[Sequence[float]]) -> Iterator[tuple[float, float, float]]:
    """Yield the color of each candidate in 0..255, where near-white ones are the spare."""
    for color in colors[:-1]:
        red, green, blue = colors[-1] if min(color) > 0.9 else color
        yield red * 255, green * 255, blue * 255


def _draw_numbers(
    image: NDArray[np.uint8],
    labels: Sequence[_Label],
    saved: list[SavedPatch] | None = None,
    magnify: float = 1.0,
    has_edges: bool = False,
) -> None:
    """Draw numbers in white, all of one scale; the other arguments are those of ``mark_candidates``."""
    scale = min((label.scale for label in labels), default=_SCALES[0])
    for text, color, x, y, thickness, _ in labels:
        (width, height), below = cv2.getTextSize(text, _FONT, scale, thickness)
        if saved is not None:
            _save_patch(saved, image, x, y - height - below, x + width, y + below)
        corner = (x, int(y - height - below / 2))
        cv2.rectangle(image, corner, (x + width, int(y + below / 2)), color, -1, 8)
        if has_edges:
            cv2.putText(image, text, (x, y), _FONT, scale, _EDGE, thickness + 2 * round(magnify))
        cv2.putText(image, text, (x, y), _FONT, scale, (255, 255, 255), thickness)


def is_faint(color: Sequence[float]) -> bool:
    """Whether white on a color, RGB in 0..1, can hardly be read: a contrast under 1.3, as WCAG 2.1 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 1.05 / (luminance + 0.05) < _LEAST_CONTRAST


def restore(image: NDArray[np.uint8], saved: list[SavedPatch]) -> None:
    """Undo what was drawn into ``image``, in reverse order. Takes a tenth of the time of reading a frame again."""
    for pixels, x, y in reversed(saved):
        image[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    saved.clear()


def _save_patch(
    saved: list[SavedPatch], image: NDArray[np.uint8], left: int, top: int, right: int, bottom: int
) -> None:
    left, top = max(left - _MARGIN, 0), max(top - _MARGIN, 0)
    saved.append(SavedPatch(image[top : max(bottom + _MARGIN, 0), left : max(right + _MARGIN, 0)].copy(), left, top))


def _bounding_box(contours: Sequence[NDArray[Any]]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of all contours, in pixels."""
    boxes = [cv2.boundingRect(contour) for contour in contours]
    sides = [(x, y, x + width, y + height) for x, y, width, height in boxes] or [(0, 0, 0, 0)]
    lefts, tops, rights, bottoms = zip(*sides, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def distinct_colors(count: int) -> list[tuple[float, float, float]]:
    """Colors that are easy to tell apart; always the same ones.

    Farthest-point choice: each color is the one of a grid in RGB farthest from black, white and all before it, by the
    "redmean" distance (a low-cost approximation of perceived difference, compuphase.com/cmetric.htm). The first n
    of ``distinct_colors(m)`` are ``distinct_colors(n)``.

    Args:
        count: how many; up to 300.

    Returns:
        RGB in 0..1.
    """
    return list(_palette(max(64, count))[:count])


@lru_cache(maxsize=4)
def _palette(count: int) -> tuple[tuple[float, float, float], ...]:
    levels = np.arange(0, 1.01, 1 / 6) if count <= 300 else np.linspace(0, 1, math.ceil(count ** (1 / 3)) + 1)
    grid = np.array([(r, g, b) for r in levels for g in levels for b in levels])
    grid = grid[grid.max(axis=1) >= 0.5]  # dark colors are hard to see
    nearest = np.minimum(_redmean_distance(grid, np.zeros(3)), _redmean_distance(grid, np.ones(3)))
    chosen = []
    for _ in range(min(count, len(grid))):
        best = int(nearest.argmax())
        chosen.append((float(grid[best, 0]), float(grid[best, 1]), float(grid[best, 2])))
        nearest = np.minimum(nearest, _redmean_distance(grid, grid[best]))
    return tuple(chosen)


def _redmean_distance(colors: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared redmean distance of colors [n, 3] to one color [3], float [n]."""
    mean_red = (colors[:, 0] + other[0]) / 2
    weights = np.stack((2 + mean_red, np.full(len(colors), 4.0), 3 - mean_red), axis=1)
    distances: NDArray[np.float64] = (weights * (colors - other) ** 2).sum(axis=1)
    return distances


def _crop(mask: NDArray[Any], image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int, int]:
    if mask.shape != image.shape[:2]:
        raise ValueError(f"mask of {mask.shape} on an image of {image.shape[:2]} (height, width)")
    return bitmaps.crop(mask)


def _place_label(
    contours: Sequence[NDArray[Any]], text: str, color: tuple[float, float, float], magnify: float = 1.0
) -> _Label:
    """Place a number on the largest piece."""
    if not contours:
        raise ValueError(f"candidate {text} has no pixels to draw")
    largest = contours[0] if len(contours) == 1 else max(contours, key=cv2.contourArea)
    moments = cv2.moments(largest)
    x, y, width, height = cv2.boundingRect(largest)
    center: tuple[float, float]
    if moments["m00"] > 0:
        center = int(moments["m10"] / moments["m00"]), int(moments["m01"] / moments["m00"])
    else:
        center = x + width / 2, y + height / 2
    thickness = round((1 if max(width, height) < _SMALL_SIDE * magnify else 2) * magnify)
    scale = _SCALES[0] * magnify
    for candidate, text_width, text_height in _text_sizes(text, thickness):
        if candidate <= scale:
            break
        if text_height / height <= _MAX_LABEL_SHARE and text_width / width <= _MAX_LABEL_SHARE:
            scale = candidate
            break
    (text_width, text_height), below = cv2.getTextSize(text, _FONT, scale, thickness)
    left, baseline = int(center[0] - text_width / 2), int(center[1] + (text_height + below) / 2)
    return _Label(text, color, left, baseline, thickness, scale)


@lru_cache(maxsize=512)
def _text_sizes(text: str, thickness: int) -> list[tuple[float, int, int]]:
    """Scale, width and height of a text, the largest first."""
    sizes = []
    for scale in reversed(_SCALES):
        width, height = cv2.getTextSize(text, _FONT, scale, thickness)[0]
        sizes.append((scale, width, height))
    return sizes
