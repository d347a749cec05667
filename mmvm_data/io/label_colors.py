"""Colors of annotation PNGs that stand for objects: the DAVIS palette, and palettes that differ between files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmvm_data.core.errors import InputError
from mmvm_data.io import remote
from mmvm_data.io.files import open_regular
from mmvm_data.io.pillow import IMAGE_ERRORS

Palette = tuple[int, ...]
"""The packed color (see ``pack_colors``) of each number of a palette image."""
MANY_COLORS = 64
_MIN_THIN_LABELS = 8


class PngHeader(NamedTuple):
    """How a PNG stores its pixels.

    Attributes:
        mode: in Pillow's terms.
        bits: of a gray level or a palette entry; 0 for other modes.
        palette: of a palette image, else empty.
    """

    mode: str
    bits: int
    palette: Palette


class PaletteConflict(NamedTuple):
    """The first PNG of a video in which a number has another color than in an earlier one, and the two colors."""

    path: Path
    number: int
    color: int
    earlier_path: Path
    earlier_color: int

    def describe(self) -> str:
        """Return the conflict as a clause for a message about ``path``."""
        return (
            f"number {self.number} of the palette is {format_color(self.color)}, in {self.earlier_path.name} it is "
            f"{format_color(self.earlier_color)}, as after a PNG optimizer"
        )


def pack_colors(colors: NDArray[Any]) -> NDArray[np.int32]:
    """Return each RGB color, [..., 3], as one number: red * 65536 + green * 256 + blue."""
    packed: NDArray[np.int32] = colors.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    return packed


def format_color(packed: int) -> str:
    """Return a packed color as #rrggbb."""
    return f"#{packed:06x}"


def header_of(image: Image.Image) -> PngHeader:
    """Return the header of a PNG that is open and not yet loaded."""
    tiles = getattr(image, "tile", ())  # of a file's image; Pillow's types do not declare it
    raw_mode = str(tiles[0][-1]) if tiles else image.mode
    bits = {"1": 1, "L": 8, "P": 8, "I": 16, "I;16": 16}.get(image.mode, 0)
    if image.mode in ("L", "P") and raw_mode.endswith((";1", ";2", ";4")):
        bits = int(raw_mode[-1])
    palette = np.array(image.getpalette("RGB") or [], np.int32) if image.mode == "P" else np.zeros(0, np.int32)
    return PngHeader(image.mode, bits, tuple(pack_colors(palette.reshape(-1, 3)).tolist()))


def read_header(path: Path) -> PngHeader | None:
    """Return the header of a PNG; None for one that cannot be read, which is reported when its pixels are."""
    remote.ensure_local(path)
    try:
        with open_regular(path) as file, Image.open(file, formats=["PNG"]) as image:
            return header_of(image)
    except IMAGE_ERRORS:
        return None


def find_palette_conflict(paths: Sequence[Path]) -> PaletteConflict | None:
    """Return the first palette image in which a number that its pixels use has another color than in an earlier one.

    Headers decide where all palettes begin alike; only otherwise are the pixels read.
    """
    palettes = {path: header.palette for path in paths if (header := read_header(path)) and header.mode == "P"}
    longest = max(palettes.values(), key=len, default=())
    if all(palette == longest[: len(palette)] for palette in palettes.values()):
        return None
    known: dict[int, tuple[int, Path]] = {}
    for path, palette in palettes.items():
        try:
            with open_regular(path) as file, Image.open(file, formats=["PNG"]) as image:
                used = np.unique(np.asarray(image)).tolist()
        except IMAGE_ERRORS:
            continue
        for number in used:
            color = palette[number] if number < len(palette) else 0
            earlier_color, earlier = known.setdefault(number, (color, path))
            if color != earlier_color:
                return PaletteConflict(path, number, color, earlier, earlier_color)
    return None


def is_davis_palette(palette: Palette, ids: NDArray[Any]) -> bool:
    """Return whether the numbers that ``ids`` contains have their colors of the DAVIS palette."""
    table = davis_palette()
    if all(table.get(color) == number for number, color in enumerate(palette)):
        return True
    used = np.flatnonzero(np.bincount(ids.ravel(), minlength=1)).tolist()
    return all(number < len(palette) and table.get(palette[number]) == number for number in used)


def labels_from_davis_colors(packed: NDArray[np.int32]) -> tuple[NDArray[np.uint8] | None, int]:
    """Return the numbers of colors of the DAVIS palette, uint8 [h, w].

    Returns:
        None and the first color that is not in the palette when there is one.
    """
    colors, inverse = np.unique(packed, return_inverse=True)
    table = davis_palette()
    known = [table.get(color) for color in colors.tolist()]
    if None not in known:
        return np.array(known, np.uint8)[inverse].reshape(packed.shape), 0
    return None, int(colors[known.index(None)])


def labels_from_names(
    path: Path, packed: NDArray[np.int32], names: dict[int, str] | None, named_in: str
) -> tuple[NDArray[np.int32], dict[int, str]]:
    """Return labels from 1 for the colors of an image, ascending by color, and the object's name of each; black is 0.

    Args:
        path: for the message.
        packed: packed colors, [h, w].
        names: color -> name, "" for background; None names each color #rrggbb.
        named_in: the file that ``names`` come from, for the message.

    Raises:
        InputError: a color without a name, or as many colors as an anti-aliased mask has.
    """
    colors, inverse = np.unique(packed, return_inverse=True)
    if len(colors) > MANY_COLORS and (names is None or not set(colors.tolist()) <= names.keys()):
        raise InputError(path, describe_many_colors(len(colors)))
    labels: dict[str, int] = {}
    table = np.zeros(len(colors), np.int32)
    for k, color in enumerate(colors.tolist()):
        name = ("" if color == 0 else format_color(color)) if names is None else names.get(color, None if color else "")
        if name is None:
            raise InputError(path, f"color {format_color(color)} is not in {named_in}")
        if name:
            table[k] = labels.setdefault(name, len(labels) + 1)
    return table[inverse].reshape(packed.shape), {label: name for name, label in labels.items()}


def describe_many_colors(count: int) -> str:
    """Return the reason for a mask of far more colors than objects."""
    return f"mask has {count} colors, as an anti-aliased or lossily compressed one; one color for each object is needed"


def check_not_anti_aliased(path: Path, ids: NDArray[Any]) -> None:
    """Raise InputError for labels as the edges of an anti-aliased mask have: many, most of them a pixel thin."""
    present = np.unique(ids)
    if len(present) <= _MIN_THIN_LABELS:
        return
    corner = ids[:-1, :-1]
    is_block = (corner == ids[1:, :-1]) & (corner == ids[:-1, 1:]) & (corner == ids[1:, 1:])
    num_thin = len(np.setdiff1d(present[present != 0], corner[is_block]))
    num_labels = int(np.count_nonzero(present))
    if num_thin >= _MIN_THIN_LABELS and 2 * num_thin > num_labels:
        reason = f"{num_thin} of {num_labels} values never fill 2 x 2 pixels, as at the edges of an anti-aliased or"
        raise InputError(path, f"{reason} lossily compressed mask; one value for each object is needed")


@lru_cache(1)
def davis_palette() -> dict[int, int]:
    """Return packed RGB -> number for the PASCAL VOC color map, which DAVIS uses.

    The bits of the number are distributed to red, green and blue in turn, from the highest bit of each channel down
    (VOC devkit, VOCcolormap). White is 255 too, and 191 is read as 192, since one of the two common palettes uses it.
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


@lru_cache(1)
def davis_gray_levels() -> frozenset[int]:
    """Return the gray levels above 0 that are colors of the DAVIS palette."""
    return frozenset(color & 0xFF for color in davis_palette() if color and color == (color & 0xFF) * 0x10101)


def build_label_palette() -> list[int]:
    """Return the palette of PASCAL VOC and DAVIS label images, 256 x red, green, blue: the bits of an id, assigned to
    the channels in turn, highest bit of the color first (VOC development kit, ``VOClabelcolormap``)."""
    colors = []
    for label in range(256):
        for channel in range(3):
            colors.append(sum((label >> (3 * k + channel) & 1) << (7 - k) for k in range(3)))
    return colors
