"""Augmented views of one image with exact masks: two of them stand for two frames of a video.

``published``, the first training stage of CoLVA (arXiv 2501.04670) on SA-1B. Shared by all views of an image: with
p = 0.5 the short side is resized to one of 512, 544 … 864 (long side at most 1024) and a box of 480 to 864 a side is
cut out; the result is resized to fit 1024 x 1024; with p = 0.5 it is mirrored. Own to each view: a rotation by up to 15
degrees about a centre at 0.4 to 0.6 of each side, cut at the old edges. Right and bottom are padded with 128. (The
published code draws two angles, sorts them and reverses them half of the time, which is two independent draws.) So only
the rotation tells the views apart.

``strong``, each view by itself: a box of 40 to 100 % of the area is cut out, resized so that its long side is 60 to
100 % of 1024, mirrored with p = 0.5, rotated as above; colours and light change, with p = 0.3 it is blurred, with
p = 0.5 something of its own hides a part.

A pixel of a view belongs to an object when the pixel of the image that it lies in does, and nothing hides it: masks are
never interpolated, and follow the same map as the picture.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from mmvm_data.core import masks
from mmvm_data.core.types import Rle

ViewKind = Literal["published", "strong"]
SIZE = 1024
"""Pixels of a side of a view."""
PADDING = 128
_SHORT_SIDES = tuple(range(512, 865, 32))
_CROP = (480, 864)
_DEGREES = 15.0
_CENTRE = (0.4, 0.6)


@dataclass(frozen=True)
class PhotometricTransform:
    """Changes of the pixels of a view; the defaults change nothing.

    Attributes:
        gain, bias: grey level -> gain * level + bias.
        saturation: factor on the distance from grey.
        hue: degrees, 0..360.
        blur: standard deviation in pixels of the view, 0 for none.
        cover: corners x, y of a polygon that hides what lies under it, or nothing.
        paint: BGR of that polygon.
    """

    gain: float = 1.0
    bias: float = 0.0
    saturation: float = 1.0
    hue: float = 0.0
    blur: float = 0.0
    cover: tuple[tuple[int, int], ...] = ()
    paint: tuple[int, int, int] = (PADDING, PADDING, PADDING)


@dataclass(frozen=True)
class ViewTransform:
    """How a view is made of an image.

    Attributes:
        image: width and height of the image in pixels.
        resized: width and height to which it is resized first.
        box: x, y, width, height of what is cut out then.
        content: width and height to which that is resized; the rest of the view is padding.
        mirrored: whether left and right change places.
        degrees: turned counter-clockwise about ``centre``.
        centre: x, y as shares of the content.
        look: what else happens to its pixels.
    """

    image: tuple[int, int]
    resized: tuple[int, int]
    box: tuple[int, int, int, int]
    content: tuple[int, int]
    mirrored: bool = False
    degrees: float = 0.0
    centre: tuple[float, float] = (0.5, 0.5)
    look: PhotometricTransform = PhotometricTransform()


def sample_views(kind: ViewKind, width: int, height: int, rng: random.Random, count: int = 2) -> list[ViewTransform]:
    """Draw the views of one image.

    Args:
        kind: see above.
        width, height: of the image, in pixels.
        rng: where chance comes from; its state alone decides.
        count: views; any two of them are a pair as published.
    """
    if kind == "strong":
        return [_strong(width, height, rng) for _ in range(count)]
    resized, box = (width, height), (0, 0, width, height)
    if rng.random() < 0.5:
        short = rng.choice(_SHORT_SIDES)
        scale = min(short / min(width, height), SIZE / max(width, height))
        resized = (max(round(width * scale), 1), max(round(height * scale), 1))
        w, h = (rng.randint(min(_CROP[0], side), min(_CROP[1], side)) for side in resized)
        box = (rng.randint(0, resized[0] - w), rng.randint(0, resized[1] - h), w, h)
    content = _fitted(box[2], box[3], SIZE)
    mirrored = rng.random() < 0.5
    return [ViewTransform((width, height), resized, box, content, mirrored, *_turn(rng)) for _ in range(count)]


def render_view(view: ViewTransform, image: np.ndarray) -> np.ndarray:
    """The pixels of a view: uint8 [SIZE, SIZE, 3].

    Args:
        view: from ``draw_views``, for an image of this size.
        image: uint8 [h, w, 3]; BGR where the look changes saturation or hue.

    Raises:
        ValueError: the view is of an image of another size.
    """
    if (image.shape[1], image.shape[0]) != view.image:
        raise ValueError(f"the view is of an image of {view.image}, this one is {image.shape[1]} x {image.shape[0]}")
    x, y, w, h = view.box
    cut = _resize(image, view.resized)[y : y + h, x : x + w]
    content = _resize(cut, view.content)
    if view.mirrored:
        content = np.ascontiguousarray(content[:, ::-1])
    if view.degrees:
        # the matrix is of pixel edges; OpenCV counts from the centres of pixels
        turn = _turned(view)
        shift = turn[:, :2] @ (0.5, 0.5) + turn[:, 2] - 0.5
        content = cv2.warpAffine(
            content,
            np.column_stack((turn[:, :2], shift)),
            view.content,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(PADDING, PADDING, PADDING),
        )
    content = _looked(content, view.look)
    padded = np.full((SIZE, SIZE, 3), PADDING, np.uint8)
    padded[: view.content[1], : view.content[0]] = content
    padded[_hidden(view)] = view.look.paint
    return padded


def map_view_pixels(
    view: ViewTransform, rows: np.ndarray | None = None, columns: np.ndarray | None = None
) -> np.ndarray:
    """The pixel of the image that each pixel of a view lies in: int32 [SIZE, SIZE], row * width + column, and -1 for
    padding and for what is hidden.

    Args:
        view: from ``draw_views``.
        rows, columns: whole numbers in 0..SIZE-1, for these rows and columns alone ([len(rows), len(columns)]).
    """
    width, height = view.content
    ys = np.arange(SIZE) if rows is None else np.asarray(rows)
    xs = np.arange(SIZE) if columns is None else np.asarray(columns)
    v, u = ys[:, None] + 0.5, xs[None, :] + 0.5
    back = _inverse(_turned(view))
    cx = back[0, 0] * u + back[0, 1] * v + back[0, 2]
    cy = back[1, 0] * u + back[1, 1] * v + back[1, 2]
    inside = (cx >= 0) & (cx < width) & (cy >= 0) & (cy < height) & (u < width) & (v < height)
    if view.mirrored:
        cx = width - cx
    x, y, w, h = view.box
    column = np.floor((cx * (w / width) + x) * (view.image[0] / view.resized[0])).astype(np.int32)
    row = np.floor((cy * (h / height) + y) * (view.image[1] / view.resized[1])).astype(np.int32)
    at = row.clip(0, view.image[1] - 1) * view.image[0] + column.clip(0, view.image[0] - 1)
    found = np.where(inside, at, np.int32(-1))
    if view.look.cover:
        found[_hidden(view)[ys[:, None], xs[None, :]]] = -1
    return found


def warp_masks(view_sources: np.ndarray, bitmaps: np.ndarray) -> np.ndarray:
    """Masks of the image as they are in a view.

    Args:
        view_sources: from ``sources``.
        bitmaps: bool or uint8 [n, h, w] of the image.

    Returns:
        the same type, [n, SIZE, SIZE].
    """
    flat = np.concatenate((bitmaps.reshape(len(bitmaps), -1), np.zeros((len(bitmaps), 1), bitmaps.dtype)), axis=1)
    return flat[:, view_sources]


def warp_rles(view_sources: np.ndarray, rles: Sequence[Rle]) -> list[Rle]:
    """The same for run lengths, one at a time."""
    found = []
    for rle in rles:
        flat = np.append(masks.decode(rle).ravel(), np.uint8(0))
        found.append(masks.encode(flat[view_sources]))
    return found


def _strong(width: int, height: int, rng: random.Random) -> ViewTransform:
    share, stretch = rng.uniform(0.4, 1.0), math.exp(rng.uniform(-0.2, 0.2))
    w = min(max(round(width * math.sqrt(share) * stretch), 1), width)
    h = min(max(round(height * math.sqrt(share) / stretch), 1), height)
    box = (rng.randint(0, width - w), rng.randint(0, height - h), w, h)
    content = _fitted(w, h, rng.randint(round(0.6 * SIZE), SIZE))
    mirrored, (degrees, centre) = rng.random() < 0.5, _turn(rng)
    look = PhotometricTransform(
        gain=rng.uniform(0.7, 1.3),
        bias=rng.uniform(-25, 25),
        saturation=rng.uniform(0.6, 1.4),
        hue=rng.uniform(-12, 12),
        blur=rng.uniform(0.5, 2.0) if rng.random() < 0.3 else 0.0,
        cover=_cover(content, rng) if rng.random() < 0.5 else (),
        paint=(rng.randrange(256), rng.randrange(256), rng.randrange(256)),
    )
    return ViewTransform((width, height), (width, height), box, content, mirrored, degrees, centre, look)


def _cover(content: tuple[int, int], rng: random.Random) -> tuple[tuple[int, int], ...]:
    """A polygon of five corners around a point of the content, 10 to 20 % of its shorter side in radius."""
    x, y = rng.uniform(0, content[0]), rng.uniform(0, content[1])
    start, size = rng.uniform(0, 2 * math.pi), min(content)
    corners = []
    for k in range(5):
        radius, angle = size * rng.uniform(0.1, 0.2), start + 2 * math.pi * k / 5
        corners.append((round(x + radius * math.cos(angle)), round(y + radius * math.sin(angle))))
    return tuple(corners)


def _turn(rng: random.Random) -> tuple[float, tuple[float, float]]:
    return rng.uniform(-_DEGREES, _DEGREES), (rng.uniform(*_CENTRE), rng.uniform(*_CENTRE))


def _fitted(width: int, height: int, long: int) -> tuple[int, int]:
    """The size with its longer side made ``long``, its shape kept."""
    scale = long / max(width, height)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if (image.shape[1], image.shape[0]) == size:
        return image.copy()
    smaller = size[0] * size[1] < image.shape[0] * image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def _turned(view: ViewTransform) -> np.ndarray:
    """The rotation of the content as a matrix [2, 3] on coordinates of pixel edges."""
    width, height = view.content
    return cv2.getRotationMatrix2D((view.centre[0] * width, view.centre[1] * height), view.degrees, 1.0)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    turned = matrix[:, :2].T
    return np.column_stack((turned, -turned @ matrix[:, 2]))


def _looked(image: np.ndarray, look: PhotometricTransform) -> np.ndarray:
    if look == PhotometricTransform():
        return image
    if look.saturation != 1 or look.hue:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.float32)
        hsv[..., 0] = (hsv[..., 0] + look.hue / 2) % 180  # OpenCV counts hue in steps of two degrees
        hsv[..., 1] = hsv[..., 1] * look.saturation
        image = cv2.cvtColor(np.clip(hsv, 0, 255).astype(np.uint8), cv2.COLOR_HSV2BGR)
    image = np.clip(image.astype(np.float32) * look.gain + look.bias, 0, 255).astype(np.uint8)
    if look.blur:
        image = cv2.GaussianBlur(image, (0, 0), look.blur)
    return image


def _hidden(view: ViewTransform) -> np.ndarray:
    """What is covered of the content: bool [SIZE, SIZE]."""
    covered = np.zeros((SIZE, SIZE), np.uint8)
    if view.look.cover:
        cv2.fillPoly(covered, [np.array(view.look.cover, np.int32)], 1)
        covered[view.content[1] :] = 0
        covered[:, view.content[0] :] = 0
    return covered.astype(bool)
