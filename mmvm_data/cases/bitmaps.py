"""Bitmaps as they are drawn: the box of an object in a frame, and lines along its contours without following these.

``cv2.drawContours`` with a thickness of 2 fills a small polygon and a disc for each straight piece of a contour, which
takes 0.1 to 0.3 µs. What it covers is a cross of five pixels around each pixel of the contour, and, where the contour
takes a diagonal step, around both pixels beside that step. So the covered pixels follow from the bitmap by a few passes
over it, which take less time where contours are long for its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_SAMPLED_ROWS = 16
_MAX_EMPTY = 7
# A contour of n straight pieces takes 10 µs, 0.15 ns a pixel of the box and 65 ns a piece to be followed, and 185 ns a
# piece to be drawn; the passes take 20 µs, 0.7 ns a pixel and 50 ns a piece. There are 0.7 corners a piece.
_CORNERS, _PIXELS_A_CORNER = 35, 500
_CORNERS_BESIDE_CONTOURS, _PIXELS_A_CORNER_BESIDE_CONTOURS = 100, 270


def crop(mask: NDArray[Any]) -> tuple[NDArray[np.uint8], int, int]:
    """Return the box of an object in a mask, with up to seven empty rows, or columns, at its end.

    Args:
        mask: bool or numbers [h, w], row by row or column by column; anything but 0 is the object.

    Returns:
        uint8 [h, w], not 0 in the object, a view where possible; and x, y of its top left pixel. 0 x 0 without an
        object.
    """
    pixels = mask.view(np.uint8) if mask.dtype in (np.bool_, np.uint8) else (mask != 0).view(np.uint8)
    if pixels.strides[0] == 1 != pixels.strides[1]:  # column by column, as pycocotools decodes
        rows, y, x = _crop_rows(np.ascontiguousarray(pixels.T))
        return np.asarray(cv2.transpose(rows) if rows.size else rows, np.uint8), x, y
    return _crop_rows(np.ascontiguousarray(pixels))


def _crop_rows(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int, int]:
    """Do what ``crop`` does, of contiguous pixels; in a quarter to two thirds of the time of ``cv2.boundingRect``."""
    height, width = pixels.shape
    is_object = pixels.reshape(-1).view(np.bool_)
    start = int(is_object.argmax()) if is_object.size else 0
    if not is_object.size or not is_object[start]:
        return np.zeros((0, 0), np.uint8), 0, 0
    top = low = start // width
    while height - low > _MAX_EMPTY + 1:  # nothing from row `height` on
        middle = (low + height) // 2
        below = is_object[middle * width : height * width]
        if below[below.argmax()]:
            low = middle
        else:
            height = middle
    columns = np.bitwise_or.reduce(pixels[top:height], axis=0).view(np.bool_)
    left, right = int(columns.argmax()), width - int(columns[::-1].argmax())
    return pixels[top:height, left:right], left, top


def is_ragged(bitmap: NDArray[np.uint8], has_contours: bool) -> bool:
    """Return whether contours are so long for the size of their bitmap that ``draw_lines`` is faster: an estimate.

    Args:
        bitmap: uint8 [h, w], not 0 in the object; its box.
        has_contours: whether the contours are needed anyway.
    """
    step = max(1, len(bitmap) // _SAMPLED_ROWS)
    is_changed = bitmap[:-1:step] != bitmap[1::step]  # from one row to the next
    corners = step * np.count_nonzero(is_changed[:, 1:] > is_changed[:, :-1])
    if has_contours:
        return bool(corners > _CORNERS_BESIDE_CONTOURS + bitmap.size / _PIXELS_A_CORNER_BESIDE_CONTOURS)
    return bool(corners > _CORNERS + bitmap.size / _PIXELS_A_CORNER)


def draw_lines(image: NDArray[Any], bitmap: NDArray[np.uint8], x: int, y: int, color: Sequence[float]) -> None:
    """Draw what ``cv2.drawContours`` of all contours of a bitmap does with a thickness of 2.

    Args:
        image: contiguous [h, w, channels]; changed.
        bitmap: uint8 [h, w], not 0 in the object; inside the image.
        x, y: its top left pixel in the image.
        color: in the image's own order of channels.
    """
    brush = np.zeros((1, 1, *image.shape[2:]), image.dtype)
    cv2.rectangle(brush, (0, 0), (0, 0), tuple(color), cv2.FILLED)  # OpenCV rounds the color
    pixel = np.dtype(("V", brush.nbytes))
    is_line = find_line_pixels(bitmap)[max(0, 1 - y) :, max(0, 1 - x) :]
    patch = image.reshape(len(image), -1).view(pixel)[max(0, y - 1) :, max(0, x - 1) :]
    height, width = (min(sides) for sides in zip(patch.shape, is_line.shape, strict=True))
    np.copyto(patch[:height, :width], brush.reshape(-1).view(pixel)[0], where=is_line[:height, :width])


def find_line_pixels(bitmap: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which pixels the lines cover: bool [h + 2, w + 2], one pixel more at each side than the bitmap.

    Args:
        bitmap: uint8 [h, w], not 0 in the object.
    """
    height, width = bitmap.shape[0] + 2, bitmap.shape[1] + 2
    padded = np.zeros((height, width), np.uint8)
    np.not_equal(bitmap, 0, out=padded[1:-1, 1:-1].view(np.bool_))
    # Row after row in one array: the pixel beside one is a place away, the one below it a row. The first and the last
    # column are empty, so it does not matter that they lie beside each other.
    pixels = padded.reshape(-1)
    size = len(pixels) - 2 * width
    # contours pass the pixels that have a neighbor outside the object, above, below, left or right
    inner = pixels[:size] & pixels[2 * width :]
    inner &= pixels[width - 1 : width - 1 + size]
    inner &= pixels[width + 1 : width + 1 + size]
    lines = np.zeros(size + 4 * width, np.uint8)
    line = lines[2 * width : -2 * width]
    inner &= pixels[width:-width]
    np.bitwise_xor(pixels[width:-width], inner, out=line)
    # and take a diagonal of two by two pixels, where these do not all belong to the object
    step = pixels[: -width - 1] & pixels[width + 1 :]
    step ^= pixels[1:-width] & pixels[width:-1]
    steps = step[width:] | step[:-width]
    line[:-1] |= steps
    line[1:] |= steps
    covered = lines[width:-width] | lines[: -2 * width]
    covered |= lines[2 * width :]
    covered |= lines[width - 1 : -width - 1]
    covered |= lines[width + 1 : 1 - width]
    return covered.view(np.bool_).reshape(height, width)
