"""Players that answer without understanding: what they score is what a benchmark gives away.

Each is a function of one case and returns the letter of an option. They choose among the candidates that are offered;
``random`` alone may also say "none of the above". Ties go to the lower number. Where the query shows in none of its
images, players that measure it take the first option.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mmvm_data.cases.appearance import mean_lab
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Candidate, Case, Frame, Region
from mmvm_data.io import media

Player = Callable[[Case], str]
SMALL_SIDE = 480
"""Images of which colours are measured are decoded at a fraction (1/2, 1/4, 1/8) that leaves this many pixels a side,
which a JPEG gives for little."""


def random_letter(case: Case, seed: int = 0) -> str:
    """Any option, "none of the above" included; the same for a seed and a case's id each time."""
    number = hashlib.sha256(f"{seed}\0{case.id}".encode()).digest()
    return case.options[int.from_bytes(number, "big") % len(case.options)].letter


def first(case: Case) -> str:
    """The first option."""
    return case.options[0].letter


def largest(case: Case) -> str:
    """The candidate with the most pixels."""
    return _best(case, lambda candidate: -area(candidate.region))


def nearest_place(case: Case) -> str:
    """The candidate whose box's centre is nearest to the query's, both as shares of their image's sides."""
    seen = _query(case)
    if seen is None:
        return first(case)
    region, position = seen
    at = _center(region, case.frames[position])
    return _best(case, lambda candidate: math.dist(at, _center(candidate.region, case.frames[-1])))


def same_size(case: Case) -> str:
    """The candidate whose share of its image is nearest to the query's, by ratio."""
    seen = _query(case)
    if seen is None:
        return first(case)
    region, position = seen
    size = _share(region, case.frames[position])
    return _best(case, lambda candidate: abs(math.log(_share(candidate.region, case.frames[-1]) / size)))


def nearest_colour(case: Case, small: Mapping[int, np.ndarray] | None = None) -> str:
    """The candidate whose mean colour (CIELAB) is nearest to the query's.

    Args:
        case: with its ``root``.
        small: position -> that image as ``small_image`` gives it, where it has been read already.

    Raises:
        InputError: an image cannot be read.
    """
    seen = _query(case)
    if seen is None:
        return first(case)
    region, position = seen

    def image(at: int) -> np.ndarray:
        return small[at] if small is not None and at in small else small_image(case, at)

    color = _color(image(position), region, case.frames[position])
    last = image(len(case.frames) - 1)
    return _best(case, lambda candidate: _apart(color, _color(last, candidate.region, case.frames[-1])))


PLAYERS: dict[str, Player] = {
    "random": random_letter,
    "first": first,
    "largest": largest,
    "nearest_place": nearest_place,
    "nearest_colour": nearest_colour,
    "same_size": same_size,
}
"""Name -> player."""


def small_image(case: Case, position: int) -> np.ndarray:
    """A clean image of a case at a fraction of its size (see SMALL_SIDE): uint8 [h, w, 3], blue first.

    Raises:
        InputError: it cannot be read, or the case does not say where its images are.
    """
    if case.root is None:
        raise InputError(case.id, "does not say in which folder its images lie")
    return media.load_reduced_frame(Path(case.root), case.frames[position], SMALL_SIDE)


def offered(case: Case) -> list[Candidate]:
    """The candidates that an option stands for, by number."""
    numbers = {option.number for option in case.options}
    return sorted((c for c in case.candidates if c.number in numbers), key=lambda c: c.number)


def area(region: Region) -> float:
    """Pixels of a mask, or width x height of a box."""
    if region.mask is not None:
        return float(masks.area(region.mask))
    assert region.box is not None  # a region has one of the two
    return region.box[2] * region.box[3]


def box_center(region: Region) -> tuple[float, float]:
    """x, y in pixels of the middle of a region's box."""
    x, y, width, height = masks.bbox(region.mask) if region.mask is not None else region.box or (0, 0, 0, 0)
    return x + width / 2, y + height / 2


def letter_for(case: Case, number: int | None) -> str | None:
    """Letter of the option that stands for a number (None: "none of the above"), or None without one."""
    return next((option.letter for option in case.options if option.number == number), None)


def _best(case: Case, badness: Callable[[Candidate], float]) -> str:
    choice = min(((badness(c), c.number) for c in offered(case)), default=None)
    return first(case) if choice is None else letter_for(case, choice[1]) or first(case)


def _query(case: Case) -> tuple[Region, int] | None:
    """The query in the latest image that shows it, and that image's position."""
    for position in reversed(range(len(case.query))):
        if area(case.query[position]):
            return case.query[position], position
    return None


def _center(region: Region, frame: Frame) -> tuple[float, float]:
    x, y = box_center(region)
    return x / frame.width, y / frame.height


def _share(region: Region, frame: Frame) -> float:
    return max(area(region), 1.0) / (frame.width * frame.height)


def _color(small: np.ndarray, region: Region, frame: Frame) -> np.ndarray | None:
    """Mean CIELAB colour of a region, float [3], from an image of a fraction of the frame's size."""
    step = round(frame.height / small.shape[0])
    patch = masks.crop(region.mask or masks.from_box(region.box or (0, 0, 0, 0), frame.height, frame.width))
    if not patch.bitmap.size:
        return None
    # the pixel of each cell's corner stands for the cell; a region too thin for any has its middle pixel
    top, left = -patch.y % step, -patch.x % step
    bitmap = np.ascontiguousarray(patch.bitmap[top::step, left::step])
    if not bitmap.any():
        rows, columns = np.nonzero(patch.bitmap)
        middle = len(rows) // 2
        y, x = (patch.y + rows[middle]) // step, (patch.x + columns[middle]) // step
        return mean_lab(small[y : y + 1, x : x + 1], np.ones((1, 1), np.uint8))
    y, x = (patch.y + top) // step, (patch.x + left) // step
    height, width = bitmap.shape
    return mean_lab(small[y : y + height, x : x + width], bitmap)


def _apart(a: np.ndarray | None, b: np.ndarray | None) -> float:
    return math.inf if a is None or b is None else float(np.linalg.norm(a - b))
