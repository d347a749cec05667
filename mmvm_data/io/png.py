"""Object numbers out of annotation PNGs.

Palette images (DAVIS, MOSE, YouTube-VOS) hold one number a pixel: 0 background, 254 and 255 void. Grey images do the
same, or are 0 and 255 with 255 the one object, as in DAVIS 2016. Palette images that a tool has stored again as RGB
still name the object by its colour: the colours of the PASCAL VOC map, which DAVIS uses, are turned back into their
numbers (white is 255, and 191 counts as 192, as one of the two palettes in use has it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Region
from mmvm_data.io import remote
from mmvm_data.io.media import IMAGE_ERRORS

VOID_IDS = (254, 255)
_KEPT = 8
_MODES = ("P", "L", "1", "I;16", "I", "RGB", "RGBA", "LA")


class LabelImage(NamedTuple):
    """Object numbers, uint8 or int32 [h, w], and whether they were grey levels (not palette entries)."""

    ids: np.ndarray
    grey: bool


def read_png(path: Path, width: int, height: int, modes: tuple[str, ...], needed: str) -> tuple[np.ndarray, str]:
    """The pixels of a PNG as they are stored, and its mode in Pillow's names.

    Args:
        path: the file.
        width, height: pixels of its frame.
        modes: those that can hold what is looked for.
        needed: the same in words.

    Raises:
        InputError: missing, cut or damaged, of another size than its frame, or of another mode.
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
        raise InputError(path, f"PNG of mode {mode} holds no object numbers; {needed} is needed")
    if array.shape[:2] != (height, width):
        raise InputError(path, "PNG is cut off or damaged: pixels are missing")
    return array, mode


def read_labels(path: Path, width: int, height: int) -> LabelImage:
    """The object numbers of an annotation PNG.

    Args:
        path: the file.
        width, height: pixels of its frame.

    Raises:
        InputError: missing, cut or damaged, of another size than its frame, or colours that name no object.
    """
    array, mode = read_png(path, width, height, _MODES, "palette or grey")
    if mode == "P":
        return LabelImage(array, False)
    if array.ndim == 3:
        return _from_colours(path, array)
    if array.dtype == bool:
        return LabelImage(array.view(np.uint8), True)
    return LabelImage(array if array.dtype == np.uint8 else array.astype(np.int32), True)


def make_regions_reader(
    paths: Mapping[int, Path],
    sizes: Callable[[int], tuple[int, int]],
    categories: Mapping[str, str] | None = None,
    single: bool = False,
) -> Callable[[int], tuple[Region, ...]]:
    """A function for ``Video.lazy`` that reads one PNG a frame and keeps the last few.

    Whether grey PNGs are 0 and 255 with 255 the object, or numbers with 255 void, is one answer for a whole video:
    its first PNG with anything in it decides, whichever frame is asked for.

    Args:
        paths: position -> PNG.
        sizes: position -> width and height of the frame.
        categories: object number as text -> category.
        single: all that is not background is the one object "1" (DAVIS 2016).
    """

    @lru_cache(_KEPT)
    def labels(position: int) -> LabelImage:
        return read_labels(paths[position], *sizes(position))

    @lru_cache(1)
    def binary() -> bool:
        for position in sorted(paths):
            try:
                ids, grey = labels(position)
            except InputError:  # reported when that frame itself is asked for
                continue
            present = np.unique(ids)
            if present.any():
                return grey and present[present != 0].tolist() == [255]
        return False

    @lru_cache(_KEPT)
    def read(position: int) -> tuple[Region, ...]:
        ids, grey = labels(position)
        if single:
            return _one(paths[position], ids, grey)
        present = masks.encode_labels(ids)
        if grey and present and binary():
            if set(present) != {255}:
                found = ", ".join(str(v) for v in sorted(present))
                raise InputError(paths[position], f"the video's masks are 0 and 255, this one holds {found}")
            return (Region(id="1", mask=present[255], category=(categories or {}).get("1")),)
        return tuple(
            Region(id=str(label), mask=mask, category=(categories or {}).get(str(label)))
            for label, mask in present.items()
            if label not in VOID_IDS
        )

    return read


def _one(path: Path, ids: np.ndarray, grey: bool) -> tuple[Region, ...]:
    if grey:
        present = masks.encode_labels(ids)
        if len(present) > 1:
            found = ", ".join(str(v) for v in list(present)[:8])
            raise InputError(path, f"a mask of one object holds 0 and 255; this one holds {found}")
        return tuple(Region(id="1", mask=mask) for mask in present.values())
    inside = (ids != 0) & ~np.isin(ids, VOID_IDS)
    return (Region(id="1", mask=masks.encode(inside)),) if inside.any() else ()


def _from_colours(path: Path, array: np.ndarray) -> LabelImage:
    if array.shape[2] in (2, 4):
        if (array[..., -1] != 255).any():
            raise InputError(path, "PNG has transparent pixels; palette or grey is needed")
        array = array[..., :-1]
    if array.shape[2] == 1:
        return LabelImage(np.ascontiguousarray(array[..., 0]), True)
    packed = array.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    colours, places = np.unique(packed, return_inverse=True)
    table = _palette()
    known = [table.get(colour) for colour in colours.tolist()]
    if None not in known:
        ids = np.array(known, np.uint8)[places].reshape(packed.shape)
        return LabelImage(ids, set(known) <= {0, 255})
    if (array == array[..., :1]).all():
        return LabelImage(np.ascontiguousarray(array[..., 0]), True)
    unknown = f"#{colours[known.index(None)]:06x}"
    raise InputError(path, f"colour {unknown} is not in the DAVIS palette, so it names no object")


@lru_cache(1)
def _palette() -> dict[int, int]:
    """Packed RGB -> number: the PASCAL VOC colour map, the bits of the number dealt out to red, green and blue from
    the highest down, three at a time (VOC devkit, VOCcolormap)."""
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
