"""Augmented views of one image with exact masks: two views stand for two frames of a video.

``published`` is the first training stage of CoLVA (arXiv 2501.04670) on SA-1B. All views of an image share these steps:
with p = 0.5 the short side is resized to one of 512, 544 … 864 (long side at most 1024) and a box with sides of 480 to
864 is cropped; the result is resized to fit 1024 x 1024; with p = 0.5 it is flipped horizontally. Each view has its own
rotation by up to 15 degrees about a center at 0.4 to 0.6 of each side, clipped at the borders. Right and bottom are
padded with 128. (The published code samples two angles, sorts them and reverses them half of the time, which equals two
independent samples.) So only the rotation distinguishes the views.

``strong`` samples each view independently: a box of 40 to 100 % of the area is cropped, resized so that its long side
is 60 to 100 % of 1024, flipped with p = 0.5 and rotated as above; colors and brightness change, with p = 0.3 it is
blurred, with p = 0.5 an occluder hides a part of it.

``cropped`` is ``strong`` without padding: a box of 50 to 100 % of the area is rotated about its center, and the view is
the largest upright rectangle of its shape that it covers. Its long side is 60 to 100 % of 1024, or of 1.5 times its
pixels in the image where these are fewer. Each view has its own size.

A pixel of a view belongs to an object when the image pixel that it lies in does and nothing hides it. Masks are never
interpolated; they follow the same map as the pixels.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.core import masks
from mmvm_data.core.types import Rle

ViewKind = Literal["published", "strong", "cropped"]
SIZE = 1024
"""Side of a padded view in pixels, and the longest side of a cropped one."""
PADDING = 128
_SHORT_SIDES = tuple(range(512, 865, 32))
_CROP_SIDES = (480, 864)
_MAX_DEGREES = 15.0
_CENTER_RANGE = (0.4, 0.6)
_MAX_ENLARGEMENT = 1.5
_MARGIN = 1  # pixels next to the rotated border, which are blended with the padding
_MAX_LAYERS = 8  # label images of an image's masks that are in memory together


@dataclass(frozen=True)
class PhotometricTransform:
    """Changes of the pixel values of a view; the defaults change nothing.

    Attributes:
        gain, bias: gray level -> gain * level + bias.
        saturation: factor on the distance from gray.
        hue: degrees, 0..360.
        blur: standard deviation in pixels of the view, 0 for none.
        occluder: corners x, y of a polygon that hides what lies under it, or empty.
        occluder_color: BGR of that polygon.
    """

    gain: float = 1.0
    bias: float = 0.0
    saturation: float = 1.0
    hue: float = 0.0
    blur: float = 0.0
    occluder: tuple[tuple[int, int], ...] = ()
    occluder_color: tuple[int, int, int] = (PADDING, PADDING, PADDING)


@dataclass(frozen=True)
class ViewTransform:
    """How a view is computed from an image.

    Attributes:
        image_size: width and height of the image in pixels.
        resize_to: width and height to which it is resized first.
        crop_box: x, y, width, height of the crop from the resized image.
        content_size: width and height to which the crop is resized; the rest of the view is padding.
        hflip: whether left and right are exchanged.
        degrees: counter-clockwise rotation about ``center``.
        center: x, y as fractions of the content.
        photometric: changes of the pixel values.
        window: x, y, width, height of the part of the content that the view consists of; None: all of it, padded to
            SIZE x SIZE.
    """

    image_size: tuple[int, int]
    resize_to: tuple[int, int]
    crop_box: tuple[int, int, int, int]
    content_size: tuple[int, int]
    hflip: bool = False
    degrees: float = 0.0
    center: tuple[float, float] = (0.5, 0.5)
    photometric: PhotometricTransform = PhotometricTransform()
    window: tuple[int, int, int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the view in pixels."""
        return (SIZE, SIZE) if self.window is None else self.window[2:]


def sample_views(kind: ViewKind, width: int, height: int, rng: random.Random, count: int = 2) -> list[ViewTransform]:
    """Sample the views of one image.

    Args:
        kind: see the module.
        width, height: size of the image in pixels.
        rng: the only source of randomness.
        count: number of views; any two of them form a pair.
    """
    if kind == "strong":
        return [_sample_strong_view(width, height, rng) for _ in range(count)]
    if kind == "cropped":
        return [_sample_cropped_view(width, height, rng) for _ in range(count)]
    resize_to, crop_box = (width, height), (0, 0, width, height)
    if rng.random() < 0.5:
        short = rng.choice(_SHORT_SIDES)
        scale = min(short / min(width, height), SIZE / max(width, height))
        resize_to = (max(round(width * scale), 1), max(round(height * scale), 1))
        w, h = (rng.randint(min(_CROP_SIDES[0], side), min(_CROP_SIDES[1], side)) for side in resize_to)
        crop_box = (rng.randint(0, resize_to[0] - w), rng.randint(0, resize_to[1] - h), w, h)
    content_size = _fit_long_side(crop_box[2], crop_box[3], SIZE)
    hflip = rng.random() < 0.5
    return [
        ViewTransform((width, height), resize_to, crop_box, content_size, hflip, *_sample_rotation(rng))
        for _ in range(count)
    ]


def render_view(view: ViewTransform, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the pixels of a view: uint8 [h, w, 3] of the view's size.

    Args:
        view: from ``sample_views``, for an image of this size.
        image: uint8 [h, w, 3]; BGR where the photometric transform changes saturation or hue.

    Raises:
        ValueError: the view belongs to an image of another size.
    """
    return render_views([view], image)[0]


def render_views(views: Sequence[ViewTransform], image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Return the pixels of several views of an image, see ``render_view``; steps that views share are done once."""
    contents: dict[tuple[Any, ...], NDArray[np.uint8]] = {}
    rendered = []
    for view in views:
        if (image.shape[1], image.shape[0]) != view.image_size:
            raise ValueError(
                f"the view belongs to an image of {view.image_size}, this one is {image.shape[1]} x {image.shape[0]}"
            )
        shared = (view.resize_to, view.crop_box, view.content_size, view.hflip)
        if shared not in contents:
            contents[shared] = _render_content(view, image)
        rendered.append(_render_own_steps(view, contents[shared]))
    return rendered


def _render_content(view: ViewTransform, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crop, resize and flip an image; the result may share its memory."""
    x, y, w, h = view.crop_box
    content = _resize(_resize(image, view.resize_to)[y : y + h, x : x + w], view.content_size)
    return _as_uint8(cv2.flip(content, 1)) if view.hflip else content


def _render_own_steps(view: ViewTransform, content: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Rotate, recolor and pad the content of a view, which is not changed."""
    if view.degrees:
        # the matrix maps pixel edges; OpenCV counts from the centers of pixels
        rotation = _rotation_matrix(view)
        shift = rotation[:, :2] @ (0.5, 0.5) + rotation[:, 2] - 0.5
        content = _as_uint8(
            cv2.warpAffine(
                content,
                np.column_stack((rotation[:, :2], shift)),
                view.content_size,
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=(PADDING, PADDING, PADDING),
            )
        )
    content = _apply_photometric(content, view.photometric)
    if view.window is not None:
        x, y, w, h = view.window
        rendered = content[y : y + h, x : x + w].copy()
    else:
        rendered = np.full((SIZE, SIZE, 3), PADDING, np.uint8)
        rendered[: view.content_size[1], : view.content_size[0]] = content
    if view.photometric.occluder:
        rendered[_occlusion_mask(view)] = view.photometric.occluder_color
    return rendered


def map_view_pixels(
    view: ViewTransform, rows: NDArray[Any] | None = None, columns: NDArray[Any] | None = None
) -> NDArray[np.int32]:
    """Return the image pixel that each pixel of a view lies in: int32 [h, w] of the view's size, row * width + column;
    -1 for padding and for what is hidden.

    Args:
        view: from ``sample_views``.
        rows, columns: of the view, to map only these rows and columns ([len(rows), len(columns)]).
    """
    width, height = view.content_size
    ys = np.arange(view.size[1]) if rows is None else np.asarray(rows)
    xs = np.arange(view.size[0]) if columns is None else np.asarray(columns)
    left, top = (0, 0) if view.window is None else view.window[:2]
    v, u = ys[:, None] + top + 0.5, xs[None, :] + left + 0.5
    inverse = _invert_rotation(_rotation_matrix(view))
    cx = inverse[0, 0] * u + inverse[0, 1] * v + inverse[0, 2]
    cy = inverse[1, 0] * u + inverse[1, 1] * v + inverse[1, 2]
    is_content = (cx >= 0) & (cx < width) & (cy >= 0) & (cy < height) & (u < width) & (v < height)
    if view.hflip:
        cx = width - cx
    x, y, w, h = view.crop_box
    column = np.floor((cx * (w / width) + x) * (view.image_size[0] / view.resize_to[0])).astype(np.int32)
    row = np.floor((cy * (h / height) + y) * (view.image_size[1] / view.resize_to[1])).astype(np.int32)
    indices = row.clip(0, view.image_size[1] - 1) * view.image_size[0] + column.clip(0, view.image_size[0] - 1)
    pixel_map: NDArray[np.int32] = np.where(is_content, indices, np.int32(-1))
    if view.photometric.occluder:
        pixel_map[_occlusion_mask(view)[ys[:, None], xs[None, :]]] = -1
    return pixel_map


def warp_masks(pixel_map: NDArray[np.int32], bitmaps: NDArray[Any]) -> NDArray[Any]:
    """Return masks of the image as they appear in a view.

    Args:
        pixel_map: from ``map_view_pixels``.
        bitmaps: bool or uint8 [n, h, w] of the image.

    Returns:
        the same dtype, [n, h, w] of the view's size.
    """
    flat = np.concatenate((bitmaps.reshape(len(bitmaps), -1), np.zeros((len(bitmaps), 1), bitmaps.dtype)), axis=1)
    warped: NDArray[Any] = flat[:, pixel_map]
    return warped


def warp_rles(pixel_map: NDArray[np.int32], rles: Sequence[Rle]) -> list[Rle]:
    """Return run-length encoded masks, all of the image's size, as they appear in a view.

    Masks that do not overlap share one label image, which is warped in one pass, so that the time depends on how deep
    masks are nested rather than on their number. What needs more than ``_MAX_LAYERS`` of them is warped mask by mask.
    """
    layers, leftover = _layer_masks(rles)
    warped: dict[int, Rle] = {}
    for layer in layers:
        warped |= masks.encode_labels(np.append(layer.ravel(), layer.dtype.type(0))[pixel_map])
    for label in leftover:
        flat = np.append(masks.decode(rles[label - 1]).ravel(), np.uint8(0))
        warped[label] = masks.encode(flat[pixel_map])
    hidden = masks.encode(np.zeros(pixel_map.shape, np.uint8))
    return [warped.get(label, hidden) for label in range(1, len(rles) + 1)]


def visible_share(view: ViewTransform, rle: Rle, warped: Rle) -> float:
    """Return the share (0..1) of an object of the image that a view shows; 0 where it shows none of it.

    Args:
        view: from ``sample_views``.
        rle: the object in the image.
        warped: the object in the view.
    """
    enlargement = 1.0
    for content, crop, resized, side in zip(
        view.content_size, view.crop_box[2:], view.resize_to, view.image_size, strict=True
    ):
        enlargement *= content / crop * resized / side
    return min(masks.area(warped) / (masks.area(rle) * enlargement), 1.0)


def _layer_masks(rles: Sequence[Rle]) -> tuple[list[NDArray[Any]], list[int]]:
    """Paint masks into label images in which none of them overlap; the label of a mask is its position from 1.

    Returns:
        at most ``_MAX_LAYERS`` label images of the masks' size, and the labels of the masks that fit in none of them.
    """
    dtype = np.uint16 if len(rles) < 1 << 16 else np.int32
    layers: list[NDArray[Any]] = []
    leftover = []
    for label, rle in enumerate(rles, start=1):
        bitmap, x, y = masks.crop(rle)
        is_inside, box = bitmap != 0, (slice(y, y + bitmap.shape[0]), slice(x, x + bitmap.shape[1]))
        layer = next((layer for layer in layers if not layer[box][is_inside].any()), None)
        if layer is None:
            if len(layers) == _MAX_LAYERS:
                leftover.append(label)
                continue
            layer = np.zeros(rle.size, dtype)
            layers.append(layer)
        layer[box][is_inside] = label
    return layers, leftover


def _sample_strong_view(width: int, height: int, rng: random.Random) -> ViewTransform:
    area, stretch = rng.uniform(0.4, 1.0), math.exp(rng.uniform(-0.2, 0.2))
    w = min(max(round(width * math.sqrt(area) * stretch), 1), width)
    h = min(max(round(height * math.sqrt(area) / stretch), 1), height)
    crop_box = (rng.randint(0, width - w), rng.randint(0, height - h), w, h)
    content_size = _fit_long_side(w, h, rng.randint(round(0.6 * SIZE), SIZE))
    hflip, (degrees, center) = rng.random() < 0.5, _sample_rotation(rng)
    photometric = _sample_photometric(content_size, rng)
    return ViewTransform((width, height), (width, height), crop_box, content_size, hflip, degrees, center, photometric)


def _sample_cropped_view(width: int, height: int, rng: random.Random) -> ViewTransform:
    area, stretch = rng.uniform(0.5, 1.0), math.exp(rng.uniform(-0.2, 0.2))
    w = min(max(round(width * math.sqrt(area) * stretch), 1), width)
    h = min(max(round(height * math.sqrt(area) / stretch), 1), height)
    crop_box = (rng.randint(0, width - w), rng.randint(0, height - h), w, h)
    hflip, degrees = rng.random() < 0.5, rng.uniform(-_MAX_DEGREES, _MAX_DEGREES)
    covered = max(_inscribed_size(w, h, degrees))
    long_side = min(_MAX_ENLARGEMENT * covered, SIZE) * rng.uniform(0.6, 1.0)
    content_size = max(round(w * long_side / covered), 1), max(round(h * long_side / covered), 1)
    inner = [math.floor(side / 2 - _MARGIN) for side in _inscribed_size(*content_size, degrees)]
    if min(inner) < 1:  # too small to be rotated
        degrees, window = 0.0, (0, 0, *content_size)
    else:
        x, y = (math.ceil(side / 2) - half for side, half in zip(content_size, inner, strict=True))
        window = (x, y, 2 * inner[0], 2 * inner[1])
    photometric = _sample_photometric(window[2:], rng)
    return ViewTransform(
        (width, height), (width, height), crop_box, content_size, hflip, degrees, (0.5, 0.5), photometric, window
    )


def _inscribed_size(width: int, height: int, degrees: float) -> tuple[float, float]:
    """Return width and height of the largest upright rectangle of the same shape inside a rectangle that is rotated
    about its center."""
    sin, cos = abs(math.sin(math.radians(degrees))), abs(math.cos(math.radians(degrees)))
    scale = min(width / (width * cos + height * sin), height / (height * cos + width * sin))
    return width * scale, height * scale


def _sample_photometric(size: tuple[int, int], rng: random.Random) -> PhotometricTransform:
    """Return changes of pixel values for a view of whose pixels ``size`` (width, height) can be occluded."""
    return PhotometricTransform(
        gain=rng.uniform(0.7, 1.3),
        bias=rng.uniform(-25, 25),
        saturation=rng.uniform(0.6, 1.4),
        hue=rng.uniform(-12, 12),
        blur=rng.uniform(0.5, 2.0) if rng.random() < 0.3 else 0.0,
        occluder=_sample_occluder(size, rng) if rng.random() < 0.5 else (),
        occluder_color=(rng.randrange(256), rng.randrange(256), rng.randrange(256)),
    )


def _sample_occluder(size: tuple[int, int], rng: random.Random) -> tuple[tuple[int, int], ...]:
    """Return a polygon of five corners around a point within ``size``; radius 10 to 20 % of the shorter side."""
    x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1])
    start, shorter = rng.uniform(0, 2 * math.pi), min(size)
    corners = []
    for k in range(5):
        radius, angle = shorter * rng.uniform(0.1, 0.2), start + 2 * math.pi * k / 5
        corners.append((round(x + radius * math.cos(angle)), round(y + radius * math.sin(angle))))
    return tuple(corners)


def _sample_rotation(rng: random.Random) -> tuple[float, tuple[float, float]]:
    """Return degrees and center."""
    return rng.uniform(-_MAX_DEGREES, _MAX_DEGREES), (rng.uniform(*_CENTER_RANGE), rng.uniform(*_CENTER_RANGE))


def _fit_long_side(width: int, height: int, long_side: int) -> tuple[int, int]:
    """Scale a size so that its longer side is ``long_side``."""
    scale = long_side / max(width, height)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _as_uint8(image: Any) -> NDArray[np.uint8]:
    """Return an array of OpenCV, whose stubs do not tell the dtype, as uint8."""
    return np.asarray(image, np.uint8)


def _resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize to (width, height); an image of that size is returned as it is."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    is_smaller = size[0] * size[1] < image.shape[0] * image.shape[1]
    return _as_uint8(cv2.resize(image, size, interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR))


def _rotation_matrix(view: ViewTransform) -> NDArray[np.float64]:
    """Return the rotation of the content as a matrix [2, 3] on coordinates of pixel edges."""
    width, height = view.content_size
    center = (view.center[0] * width, view.center[1] * height)
    return np.asarray(cv2.getRotationMatrix2D(center, view.degrees, 1.0), np.float64)


def _invert_rotation(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    transposed = matrix[:, :2].T
    return np.column_stack((transposed, -transposed @ matrix[:, 2]))


def _apply_photometric(image: NDArray[np.uint8], transform: PhotometricTransform) -> NDArray[np.uint8]:
    if transform == PhotometricTransform():
        return image
    if transform.saturation != 1 or transform.hue:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.float32)
        hsv[..., 0] = (hsv[..., 0] + transform.hue / 2) % 180  # OpenCV stores hue in steps of two degrees
        hsv[..., 1] = hsv[..., 1] * transform.saturation
        image = _as_uint8(cv2.cvtColor(np.clip(hsv, 0, 255).astype(np.uint8), cv2.COLOR_HSV2BGR))
    image = np.clip(image.astype(np.float32) * transform.gain + transform.bias, 0, 255).astype(np.uint8)
    if transform.blur:
        image = _as_uint8(cv2.GaussianBlur(image, (0, 0), transform.blur))
    return image


def _occlusion_mask(view: ViewTransform) -> NDArray[np.bool_]:
    """Return where the occluder hides the content: bool [h, w] of the view's size."""
    covered = np.zeros(view.size[::-1], np.uint8)
    if view.photometric.occluder:
        cv2.fillPoly(covered, [np.array(view.photometric.occluder, np.int32)], 1)
        if view.window is None:
            covered[view.content_size[1] :] = 0
            covered[:, view.content_size[0] :] = 0
    return covered.astype(bool)
