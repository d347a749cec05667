"""Read object numbers from annotation PNGs.

Palette images (DAVIS, MOSE, YouTube-VOS) contain one number per pixel: 0 is background, 254 and 255 are void. In images
of 16 bits, which these sets do not have, 254 and 255 are objects as any other number.
Grayscale images contain numbers too, or 0 and 255 with 255 as the only object, as in DAVIS 2016. Palette images that a
tool has saved as RGB still identify the object by its color: the colors of the PASCAL VOC map, which DAVIS uses, are
converted back to their numbers (white is 255, and 191 is read as 192, since one of the two common palettes uses it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Region
from mmvm_data.io import remote
from mmvm_data.io.media import IMAGE_ERRORS

VOID_IDS = (254, 255)
_CACHE_SIZE = 8
_MODES = ("P", "L", "1", "I;16", "I", "RGB", "RGBA", "LA")


class LabelImage(NamedTuple):
    """Object numbers, uint8 or int32 [h, w], and whether they were gray levels (rather than palette entries)."""

    ids: NDArray[Any]
    is_gray: bool


def read_png(path: Path, width: int, height: int, modes: tuple[str, ...], needed: str) -> tuple[NDArray[Any], str]:
    """Return the stored pixels of a PNG and its mode (in Pillow's terms).

    Args:
        path: the file.
        width, height: size of its frame in pixels.
        modes: accepted modes.
        needed: description of the accepted modes, for the message.

    Raises:
        InputError: the file is missing, truncated or damaged, or has another size than its frame or another mode.
    """
    remote.ensure_local(path)
    try:
        with Image.open(path, formats=["PNG"]) as image:
            size, mode = image.size, image.mode
            if size == (width, height) and mode in modes:
                image.load()
                array = np.asarray(image)
            else:
                array = np.zeros((0, 0), np.uint8)
    except IMAGE_ERRORS as error:
        reason = "file is missing" if isinstance(error, FileNotFoundError) else f"PNG is cut off or damaged: {error}"
        raise InputError(path, " ".join(reason.split())) from error
    if size != (width, height):
        raise InputError(path, f"mask is {size[0]} x {size[1]}, its frame is {width} x {height}")
    if mode not in modes:
        raise InputError(path, f"PNG of mode {mode} contains no object numbers; {needed} is needed")
    if array.shape[:2] != (height, width):
        raise InputError(path, "PNG is cut off or damaged: pixels are missing")
    return array, mode


def read_labels(path: Path, width: int, height: int) -> LabelImage:
    """Return the object numbers of an annotation PNG.

    Args:
        path: the file.
        width, height: size of its frame in pixels.

    Raises:
        InputError: the file is missing, truncated or damaged, has another size than its frame, or contains colors
            that identify no object.
    """
    array, mode = read_png(path, width, height, _MODES, "palette or grayscale")
    if mode == "P":
        return LabelImage(array, False)
    if array.ndim == 3:
        return _labels_from_colors(path, array)
    if array.dtype == bool:
        return LabelImage(array.view(np.uint8), True)
    return LabelImage(array if array.dtype == np.uint8 else array.astype(np.int32), True)


def make_regions_reader(
    paths: Mapping[int, Path],
    sizes: Callable[[int], tuple[int, int]],
    categories: Mapping[str, str] | None = None,
    single: bool = False,
) -> Callable[[int], tuple[Region, ...]]:
    """Return a function for ``Video.lazy`` that reads one PNG per frame and caches the most recent ones.

    Grayscale PNGs contain either 0 and 255, with 255 as the object, or numbers, with 255 as void. This is decided for a
    whole video by its first PNG that is not empty, independent of which frame is read.

    Args:
        paths: position -> PNG.
        sizes: position -> width and height of the frame.
        categories: object number as a string -> category.
        single: everything that is not background is the object "1" (DAVIS 2016).
    """

    @lru_cache(_CACHE_SIZE)
    def load_labels(position: int) -> LabelImage:
        return read_labels(paths[position], *sizes(position))

    @lru_cache(1)
    def is_binary() -> bool:
        for position in sorted(paths):
            try:
                ids, is_gray = load_labels(position)
            except InputError:  # reported when that frame itself is asked for
                continue
            present = np.unique(ids)
            if present.any():
                return is_gray and present[present != 0].tolist() == [255]
        return False

    @lru_cache(_CACHE_SIZE)
    def read(position: int) -> tuple[Region, ...]:
        ids, is_gray = load_labels(position)
        if single:
            return _read_single_object(paths[position], ids, is_gray)
        present = masks.encode_labels(ids)
        if is_gray and present and is_binary():
            if set(present) != {255}:
                values = ", ".join(str(v) for v in sorted(present))
                raise InputError(paths[position], f"the video's masks are 0 and 255, this one contains {values}")
            return (Region(id="1", mask=present[255], category=(categories or {}).get("1")),)
        return tuple(
            Region(id=str(label), mask=mask, category=(categories or {}).get(str(label)))
            for label, mask in present.items()
            if label not in VOID_IDS or ids.dtype != np.uint8
        )

    return read


def _read_single_object(path: Path, ids: NDArray[Any], is_gray: bool) -> tuple[Region, ...]:
    if is_gray:
        present = masks.encode_labels(ids)
        if len(present) > 1:
            values = ", ".join(str(v) for v in list(present)[:8])
            raise InputError(path, f"a mask of one object must contain 0 and 255; this one contains {values}")
        return tuple(Region(id="1", mask=mask) for mask in present.values())
    is_object = (ids != 0) & ~np.isin(ids, VOID_IDS)
    return (Region(id="1", mask=masks.encode(is_object)),) if is_object.any() else ()


def _labels_from_colors(path: Path, array: NDArray[Any]) -> LabelImage:
    if array.shape[2] in (2, 4):
        if (array[..., -1] != 255).any():
            raise InputError(path, "PNG has transparent pixels; palette or grayscale is needed")
        array = array[..., :-1]
    if array.shape[2] == 1:
        return LabelImage(np.ascontiguousarray(array[..., 0]), True)
    packed = array.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    colors, inverse = np.unique(packed, return_inverse=True)
    table = _davis_palette()
    known = [table.get(color) for color in colors.tolist()]
    if None not in known:
        ids = np.array(known, np.uint8)[inverse].reshape(packed.shape)
        return LabelImage(ids, set(known) <= {0, 255})
    if (array == array[..., :1]).all():
        return LabelImage(np.ascontiguousarray(array[..., 0]), True)
    unknown = f"#{colors[known.index(None)]:06x}"
    raise InputError(path, f"color {unknown} is not in the DAVIS palette, so it identifies no object")


@lru_cache(1)
def _davis_palette() -> dict[int, int]:
    """Return packed RGB -> number for the PASCAL VOC color map.

    The bits of the number are distributed to red, green and blue in turn, from the highest bit of each channel down
    (VOC devkit, VOCcolormap).
    """
    table = {}
    for number in range(256):
        channels = [0, 0, 0]
        for bit in range(8):
            channels[bit % 3] |= (number >> bit & 1) << (7 - bit // 3)
        table[channels[0] << 16 | channels[1] << 8 | channels[2]] = number
        if 192 in channels:
            other = [191 if c == 192 else c for c in channels]
            table[other[0] << 16 | other[1] << 8 | other[2]] = number
    table[0xFFFFFF] = 255
    return table
