"""Read object numbers from annotation PNGs.

Palette images (DAVIS, MOSE, YouTube-VOS) contain one number per pixel: 0 is background, 254 and 255 are void. In videos
with images of 16 bits, which these sets do not have, 254 and 255 are objects as any other number. Grayscale images
contain numbers too, as they are stored, or 0 and 255 with 255 as the only object, as in DAVIS 2016.

PNG optimizers renumber the palette of each file and keep its colors. Where the palettes of a video disagree, and in
palette images that a tool has saved as RGB, the color identifies the object: colors of the DAVIS palette are converted
back to their numbers (see ``label_colors``). A video whose palettes disagree in other colors is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Region
from mmvm_data.io import label_colors, remote
from mmvm_data.io.files import open_regular
from mmvm_data.io.image_header import check_file_pixels
from mmvm_data.io.label_colors import PngHeader, pack_colors
from mmvm_data.io.pillow import IMAGE_ERRORS

VOID_IDS = (254, 255)
_CACHE_SIZE = 8
_LEVEL_STEPS = {2: 85, 4: 17}
"""Bits of a gray level -> distance of two levels after Pillow has scaled them to 0..255."""
_MODES = ("P", "L", "1", "I;16", "I", "RGB", "RGBA", "LA")


class LabelImage(NamedTuple):
    """The objects of an annotation PNG.

    Attributes:
        ids: object numbers, uint8 or int32 [h, w].
        is_gray: whether they were gray levels (rather than palette entries or colors).
        header: how the file stores them.
        names: label -> the object's id where colors have names; None where the numbers themselves are the ids.
    """

    ids: NDArray[Any]
    is_gray: bool
    header: PngHeader = PngHeader("", 0, ())
    names: Mapping[int, str] | None = None


@dataclass(frozen=True)
class ColorNames:
    """Objects by color, as a label map names them.

    Attributes:
        names: packed RGB -> id and category of the object, "" for background; None: each color is an object, its id
            #rrggbb.
        file: the label map, for messages.
    """

    names: dict[int, str] | None = None
    file: str = ""


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
    array, header = _read_pixels(path, width, height, modes, needed)
    return array, header.mode


def _read_pixels(
    path: Path, width: int, height: int, modes: tuple[str, ...], needed: str, as_rgb: bool = False
) -> tuple[NDArray[Any], PngHeader]:
    remote.ensure_local(path)
    check_file_pixels(path, (width, height))
    header = PngHeader("", 0, ())
    try:
        with open_regular(path) as file, Image.open(file, formats=["PNG"]) as image:
            size, mode = image.size, image.mode
            if size == (width, height) and mode in modes:
                header = label_colors.header_of(image)
                image.load()
                array = np.asarray(image.convert("RGB") if as_rgb else image)
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
    return array, header


def read_labels(path: Path, width: int, height: int) -> LabelImage:
    """Return the object numbers of an annotation PNG.

    Args:
        path: the file.
        width, height: size of its frame in pixels.

    Raises:
        InputError: the file is missing, truncated or damaged, has another size than its frame, or contains colors
            that identify no object.
    """
    array, header = _read_pixels(path, width, height, _MODES, "palette or grayscale")
    if header.mode == "P":
        return LabelImage(array, False, header)
    if array.ndim == 3:
        return _labels_from_channels(path, array, header)
    if array.dtype == bool:
        return LabelImage(np.where(array, np.uint8(255), np.uint8(0)), True, header)
    if header.bits in _LEVEL_STEPS:  # Pillow scales the levels to 255
        array = array // np.uint8(_LEVEL_STEPS[header.bits])
    return LabelImage(array if array.dtype == np.uint8 else array.astype(np.int32), True, header)


def make_regions_reader(
    paths: Mapping[int, Path],
    sizes: Callable[[int], tuple[int, int]],
    categories: Mapping[str, str] | None = None,
    single: bool = False,
    colors: ColorNames | None = None,
) -> Callable[[int], tuple[Region, ...]]:
    """Return a function for ``Video.lazy`` that reads one PNG per frame and caches the most recent ones.

    What a number means is decided for a whole video, independent of which frame is read: whether 255 is the object of
    grayscale masks, by the first PNG that is not empty; whether colors identify the objects, by all palettes.

    Args:
        paths: position -> PNG.
        sizes: position -> width and height of the frame.
        categories: object number as a string -> category.
        single: everything that is not background is the object "1" (DAVIS 2016).
        colors: names of colors. With names, every PNG is read by color; without (``names`` None), RGB images whose
            colors are not those of the DAVIS palette are. None: such images are refused.
    """
    video = VideoLabels(paths, sizes, colors)

    @lru_cache(_CACHE_SIZE)
    def read(position: int) -> tuple[Region, ...]:
        labels = video.load(position)
        if single:
            return _read_single_object(paths[position], labels.ids, labels.is_gray)
        if labels.names is not None:
            named = masks.encode_labels(labels.ids)
            is_map = colors is not None and colors.names is not None
            return tuple(
                Region(id=labels.names[label], mask=mask, category=labels.names[label] if is_map else None)
                for label, mask in named.items()
            )
        present = masks.encode_labels(labels.ids)
        if labels.is_gray and present and video.is_binary:
            if set(present) != {255}:
                values = ", ".join(str(v) for v in sorted(present))
                raise InputError(paths[position], f"the video's masks are 0 and 255, this one contains {values}")
            return (Region(id="1", mask=present[255], category=(categories or {}).get("1")),)
        void = VOID_IDS if labels.ids.dtype == np.uint8 and not present.keys().isdisjoint(VOID_IDS) else ()
        if void and labels.is_gray and video.has_wide_numbers():
            void = ()
        return tuple(
            Region(id=str(label), mask=mask, category=(categories or {}).get(str(label)))
            for label, mask in present.items()
            if label not in void
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


def _labels_from_channels(path: Path, array: NDArray[Any], header: PngHeader) -> LabelImage:
    array = _drop_alpha(path, array)
    if array.shape[2] == 1:
        return LabelImage(np.ascontiguousarray(array[..., 0]), True, header)
    packed = pack_colors(array)
    ids, unknown = label_colors.labels_from_davis_colors(packed)
    if ids is not None:
        return LabelImage(ids, set(np.unique(ids).tolist()) <= {0, 255}, header)
    if (array == array[..., :1]).all():
        return LabelImage(np.ascontiguousarray(array[..., 0]), True, header)
    if (count := len(np.unique(packed))) > label_colors.MANY_COLORS:
        raise InputError(path, label_colors.describe_many_colors(count))
    reason = f"color {label_colors.format_color(unknown)} is not in the DAVIS palette, so it identifies no object"
    raise InputError(path, reason)


def _drop_alpha(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    if array.shape[2] in (2, 4):
        if (array[..., -1] != 255).any():
            raise InputError(path, "PNG has transparent pixels; palette or grayscale is needed")
        return array[..., :-1]
    return array


class VideoLabels:
    """The label images of one video, the most recent ones cached, and what is decided for all of them together."""

    def __init__(
        self,
        paths: Mapping[int, Path],
        sizes: Callable[[int], tuple[int, int]],
        colors: ColorNames | None = None,
    ) -> None:
        """Arguments as for ``make_regions_reader``."""
        self._paths = paths
        self._sizes = sizes
        self._colors = colors
        # no `lru_cache` of bound methods: it refers to the object that holds it, so that images of videos that are
        # done with would stay until the garbage collector looks for such cycles
        self._loaded: dict[int, LabelImage] = {}

    def load(self, position: int) -> LabelImage:
        """Return the label image at a position, one of the most recent ones without reading it again."""
        if position not in self._loaded:
            labels = self._load(position)
            while len(self._loaded) >= _CACHE_SIZE:
                del self._loaded[next(iter(self._loaded))]
            self._loaded[position] = labels
        return self._loaded[position]

    def has_wide_numbers(self) -> bool:
        """Return whether some PNG has 16 bits, so that an optimizer may have stored the others in 8."""
        return any(header.bits == 16 for header in self.headers)

    def _load(self, position: int) -> LabelImage:
        path = self._paths[position]
        size = self._sizes(position)
        if self._colors is not None and self._colors.names is not None:
            return self._load_named(path, size, self._colors)
        if self._colors is not None and self._has_other_colors:
            return self._load_named(path, size, self._colors)
        labels = read_labels(path, *size)
        if self._may_be_renumbered(labels) and self._palette_conflict:
            return self._load_davis_colors(path, size)
        if labels.is_gray and labels.header.bits in _LEVEL_STEPS and labels.ids.any():
            self._check_one_depth(path, labels.header.bits)
        elif labels.is_gray and labels.header.bits == 1 and any(h.bits in _LEVEL_STEPS for h in self.headers):
            labels = labels._replace(ids=labels.ids // np.uint8(255))  # 1 of numbers, rather than white
        label_colors.check_not_anti_aliased(path, labels.ids)
        return labels

    def _load_named(self, path: Path, size: tuple[int, int], colors: ColorNames) -> LabelImage:
        array, header = _read_pixels(path, *size, (*_MODES,), "palette, grayscale or RGB", as_rgb=True)
        ids, names = label_colors.labels_from_names(path, pack_colors(array), colors.names, colors.file)
        label_colors.check_not_anti_aliased(path, ids)
        return LabelImage(ids, False, header, names)

    def _load_davis_colors(self, path: Path, size: tuple[int, int]) -> LabelImage:
        array, header = _read_pixels(path, *size, _MODES, "palette or grayscale", as_rgb=True)
        ids, unknown = label_colors.labels_from_davis_colors(pack_colors(array))
        if ids is None:
            conflict = self._palette_conflict
            assert conflict is not None  # the caller found one
            where = f"color {label_colors.format_color(unknown)} in {path.name} is not of the DAVIS palette"
            raise InputError(conflict.path, f"{conflict.describe()}; objects cannot be told by number, and {where}")
        return LabelImage(ids, False, header)

    def _may_be_renumbered(self, labels: LabelImage) -> bool:
        """Return whether numbers may not be identities: another palette than that of DAVIS, or only its grays."""
        if labels.header.mode == "P":
            return not label_colors.is_davis_palette(labels.header.palette, labels.ids)
        if not labels.is_gray or labels.ids.dtype != np.uint8 or labels.ids.ndim != 2:
            return False
        levels = np.flatnonzero(np.bincount(labels.ids.ravel(), minlength=2)[1:]) + 1
        step = _LEVEL_STEPS.get(labels.header.bits, 1)
        grays = label_colors.davis_gray_levels()
        return len(levels) > 0 and all(level * step in grays for level in levels.tolist())

    def _check_one_depth(self, path: Path, bits: int) -> None:
        if any(header.bits >= 8 and header.mode in ("L", "I", "I;16") for header in self.headers):
            reason = f"gray levels of {bits} bits beside PNGs of 8 bits: they may be numbers or shades of 255"
            raise InputError(path, f"{reason}; one bit depth for all PNGs of a video is needed")

    @cached_property
    def is_binary(self) -> bool:
        """Whether the first PNG that is not empty is gray with the one value 255."""
        for position in sorted(self._paths):
            try:
                labels = self.load(position)
            except InputError:  # reported when that frame itself is asked for
                continue
            present = np.unique(labels.ids)
            if present.any():
                return labels.is_gray and present[present != 0].tolist() == [255]
        return False

    @cached_property
    def headers(self) -> list[PngHeader]:
        """The headers of those PNGs that have one."""
        headers = (label_colors.read_header(self._paths[position]) for position in sorted(self._paths))
        return [header for header in headers if header is not None]

    @cached_property
    def _palette_conflict(self) -> label_colors.PaletteConflict | None:
        return label_colors.find_palette_conflict([self._paths[position] for position in sorted(self._paths)])

    @cached_property
    def _has_other_colors(self) -> bool:
        """Whether some RGB image has a color that is neither of the DAVIS palette nor gray."""
        table = label_colors.davis_palette()
        for position in sorted(self._paths):
            header = label_colors.read_header(self._paths[position])
            if header is None or header.mode not in ("RGB", "RGBA"):
                continue
            try:
                array, _ = read_png(self._paths[position], *self._sizes(position), ("RGB", "RGBA"), "RGB")
                array = _drop_alpha(self._paths[position], array)
            except InputError:  # reported when that frame itself is asked for
                continue
            colors = set(np.unique(pack_colors(array)).tolist())
            if any(color not in table and color != (color & 0xFF) * 0x10101 for color in colors):
                return True
        return False
