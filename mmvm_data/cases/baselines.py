"""Blind baselines: rules that answer a case without understanding it. Their score is what a benchmark gives away.

Each baseline is a function of one case that returns the letter of an option. They choose among the candidates that are
offered; only ``random`` can also choose "none of the above". Ties go to the lower number. Where no image shows the
query, baselines that measure it choose the first option.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from mmvm_data.cases.appearance import mean_lab
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Box, Candidate, Case, Frame, Region, Rle
from mmvm_data.io import media

Baseline = Callable[[Case], str]
REDUCED_SIDE = 480
"""Images whose colors are measured are decoded at a fraction of their size (1/2, 1/4, 1/8) that leaves this many pixels
a side or more; a JPEG decodes much faster so."""


@dataclass(frozen=True)
class CaseColors:
    """Mean colors (CIELAB, float [3]) of the query, in the latest image that shows it, and of the offered candidates by
    number; None for an empty region."""

    query: NDArray[np.float64] | None
    candidates: dict[int, NDArray[np.float64] | None]


def choose_random(case: Case, seed: int = 0) -> str:
    """Any option, "none of the above" included; a function of the seed and the id of the case."""
    return random_letter(case.id, [option.letter for option in case.options], seed)


def random_letter(case_id: str, letters: Sequence[str], seed: int = 0) -> str:
    """The answer of ``choose_random`` to a case of which only the id and the letters of its options are known."""
    number = hashlib.sha256(f"{seed}\0{case_id}".encode()).digest()
    return letters[int.from_bytes(number, "big") % len(letters)]


def choose_first(case: Case) -> str:
    """The first option."""
    return case.options[0].letter


def choose_largest(case: Case) -> str:
    """The candidate with the most pixels."""
    return _find_largest(measure_geometry(case))


def choose_nearest_place(case: Case) -> str:
    """The candidate whose box center is nearest to the query's, both as shares of their image's sides."""
    return _find_nearest_place(measure_geometry(case))


def choose_same_size(case: Case) -> str:
    """The candidate whose share of its image is nearest to the query's, by ratio."""
    return _find_same_size(measure_geometry(case))


def choose_nearest_color(case: Case, images: Mapping[int, NDArray[np.uint8]] | None = None) -> str:
    """The candidate whose mean color (CIELAB) is nearest to the query's.

    Args:
        case: with its ``root``.
        images: position -> that image as ``read_reduced_image`` returns it, for images that have been read already.

    Raises:
        InputError: an image cannot be read.
    """

    def image_at(position: int) -> NDArray[np.uint8]:
        return images[position] if images is not None and position in images else read_reduced_image(case, position)

    colors, geometry = measure_colors(case, image_at), measure_geometry(case)
    if geometry.query is None:
        return geometry.first
    return geometry.find_lowest([color_distance(colors.query, colors.candidates[n]) for n in geometry.numbers])


BASELINES: dict[str, Baseline] = {
    "random": choose_random,
    "first": choose_first,
    "largest": choose_largest,
    "nearest_place": choose_nearest_place,
    "nearest_color": choose_nearest_color,
    "same_size": choose_same_size,
}
"""Name -> baseline."""


def read_reduced_image(case: Case, position: int) -> NDArray[np.uint8]:
    """A clean image of a case at a fraction of its size (see REDUCED_SIDE): uint8 [h, w, 3], BGR.

    Raises:
        InputError: it cannot be read, or the case does not say where its images are.
    """
    if case.root is None:
        raise InputError(case.id, "does not say in which folder its images lie")
    return media.load_reduced_frame(Path(case.root), case.frames[position], REDUCED_SIDE)


def offered_candidates(case: Case) -> list[Candidate]:
    """The candidates that have an option, by number."""
    numbers = {option.number for option in case.options}
    return sorted((c for c in case.candidates if c.number in numbers), key=lambda c: c.number)


ReadImage = Callable[[int], NDArray[np.uint8]]
"""0-based number of an image of a case -> its clean pixels as ``read_reduced_image`` returns them."""
CropMask = Callable[[Rle], masks.MaskCrop]
"""``masks.crop``, or one that remembers crops."""


def measure_colors(case: Case, read_image: ReadImage) -> CaseColors:
    """The mean colors of the query and of the offered candidates; see ``choose_nearest_color``.

    Args:
        case: any case.
        read_image: returns its images.

    Raises:
        InputError: ``read_image`` raises it.
    """
    visible = find_query(case)
    if visible is None:
        return CaseColors(None, {})
    (region, position), last = visible, len(case.frames) - 1

    def color_at(index: int, region: Region) -> NDArray[np.float64] | None:
        return measure_in_image(read_image(index), region, case.frames[index])[2]

    return CaseColors(
        color_at(position, region), {c.number: color_at(last, c.region) for c in offered_candidates(case)}
    )


def measure_in_image(
    image: NDArray[np.uint8], region: Region, frame: Frame, crop: CropMask = masks.crop
) -> tuple[float, Box, NDArray[np.float64] | None]:
    """``measure_region``, and the mean CIELAB color of a region, float [3], None if it is empty.

    Args:
        image: uint8 [h, w, 3], BGR, at a fraction of the frame's size.
        region: in the frame.
        frame: of the image.
        crop: crops masks.
    """
    patch = crop(masks.region_mask(region, frame.height, frame.width))
    if region.mask is None:
        return (*measure_region(region), _patch_color(image, patch, frame))
    height, width = patch.bitmap.shape
    box = (float(patch.x), float(patch.y), float(width), float(height))
    return float(cv2.countNonZero(patch.bitmap)) if height else 0.0, box, _patch_color(image, patch, frame)


def region_size(region: Region) -> float:
    """Pixels of a mask, or width x height of a box, not rounded."""
    return measure_region(region)[0]


def box_center(region: Region) -> tuple[float, float]:
    """x, y of the center of a region's box, in pixels."""
    x, y, width, height = region_box(region)
    return x + width / 2, y + height / 2


def region_box(region: Region) -> Box:
    """x, y, width, height of a region in pixels."""
    return measure_region(region)[1]


def measure_region(region: Region) -> tuple[float, Box]:
    """``region_size`` and ``region_box``."""
    if region.mask is not None:
        return _measure_mask(_HashedMask(region.mask))
    assert region.box is not None  # a region has a mask or a box
    return region.box[2] * region.box[3], region.box


class _HashedMask:
    """A mask as the key of a cache; text has its hash at hand, a model computes it each time."""

    __slots__ = ("rle",)

    def __init__(self, rle: Rle) -> None:
        self.rle = rle

    def __hash__(self) -> int:
        return hash(self.rle.counts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _HashedMask):
            return NotImplemented
        return self.rle is other.rle or (self.rle.counts == other.rle.counts and self.rle.size == other.rle.size)


@lru_cache(maxsize=512)
def _measure_mask(mask: _HashedMask) -> tuple[float, Box]:
    """Pixels and box of a mask; each baseline asks for them."""
    x, y, width, height = masks.bbox(mask.rle)
    return float(masks.area(mask.rle)), (float(x), float(y), float(width), float(height))


def option_letter(case: Case, number: int | None) -> str | None:
    """Letter of the option for a candidate's number (None: "none of the above"), or None if there is no such option."""
    return next((option.letter for option in case.options if option.number == number), None)


def _find_largest(geometry: CaseGeometry) -> str:
    return geometry.find_lowest([-candidate.size for candidate in geometry.candidates])


def _find_nearest_place(geometry: CaseGeometry) -> str:
    if (query := geometry.query) is None:
        return geometry.first
    center = query.center
    return geometry.find_lowest([math.dist(center, candidate.center) for candidate in geometry.candidates])


def _find_same_size(geometry: CaseGeometry) -> str:
    if (query := geometry.query) is None:
        return geometry.first
    return geometry.find_lowest([abs(math.log(candidate.share / query.share)) for candidate in geometry.candidates])


def find_query(case: Case) -> tuple[Region, int] | None:
    """The query in the latest image that shows it, and the position of that image; None if no image shows it."""
    for position in reversed(range(len(case.query))):
        if region_size(case.query[position]):
            return case.query[position], position
    return None


def relative_center(region: Region, frame: Frame) -> tuple[float, float]:
    """x, y of the center of a region's box, as shares of its image's sides."""
    x, y = box_center(region)
    return x / frame.width, y / frame.height


def relative_size(region: Region, frame: Frame) -> float:
    """The share of its image that a region covers, at least one pixel's."""
    return max(region_size(region), 1.0) / (frame.width * frame.height)


class RegionGeometry(NamedTuple):
    """The measures of a region.

    Attributes:
        size: see ``region_size``.
        center: see ``relative_center``.
        share: see ``relative_size``.
    """

    size: float
    center: tuple[float, float]
    share: float

    @classmethod
    def from_region(cls, region: Region, frame: Frame) -> Self:
        """Measure a region of a frame."""
        return cls(region_size(region), relative_center(region, frame), relative_size(region, frame))


class CaseGeometry(NamedTuple):
    """What the baselines that see no colors know of a case.

    Attributes:
        query: in the latest image that shows it; None if no image does.
        numbers, letters, candidates: of the offered candidates, by number.
        first: letter of the first option.
    """

    query: RegionGeometry | None
    numbers: list[int]
    letters: list[str]
    candidates: list[RegionGeometry]
    first: str

    def find_lowest(self, distances: Sequence[float]) -> str:
        """Letter of the candidate with the lowest distance; the first option where none is offered."""
        return self.letters[distances.index(min(distances))] if distances else self.first


def measure_geometry(case: Case) -> CaseGeometry:
    """Measure the query and the offered candidates of a case."""
    visible = find_query(case)
    letters: dict[int | None, str] = {}
    for option in case.options:
        letters.setdefault(option.number, option.letter)
    offered, last = offered_candidates(case), case.frames[-1]
    return CaseGeometry(
        query=None if visible is None else RegionGeometry.from_region(visible[0], case.frames[visible[1]]),
        numbers=[candidate.number for candidate in offered],
        letters=[letters[candidate.number] for candidate in offered],
        candidates=[RegionGeometry.from_region(candidate.region, last) for candidate in offered],
        first=choose_first(case),
    )


def _patch_color(image: NDArray[np.uint8], patch: masks.MaskCrop, frame: Frame) -> NDArray[np.float64] | None:
    if not patch.bitmap.size:
        return None
    step = round(frame.height / image.shape[0])
    # the corner pixel of each cell stands for the cell; a region too thin to hold any is measured at its middle pixel
    top, left = -patch.y % step, -patch.x % step
    bitmap = patch.bitmap if step == 1 else np.ascontiguousarray(patch.bitmap[top::step, left::step])
    if step > 1 and not bitmap.any():
        rows, columns = np.nonzero(patch.bitmap)
        middle = len(rows) // 2
        y, x = (patch.y + rows[middle]) // step, (patch.x + columns[middle]) // step
        return mean_lab(image[y : y + 1, x : x + 1], np.ones((1, 1), np.uint8))
    y, x = (patch.y + top) // step, (patch.x + left) // step
    height, width = bitmap.shape
    return mean_lab(image[y : y + height, x : x + width], bitmap)


def color_distance(a: NDArray[np.float64] | None, b: NDArray[np.float64] | None) -> float:
    """Distance of two CIELAB colors; infinite where one is missing."""
    return math.inf if a is None or b is None else float(np.linalg.norm(a - b))
