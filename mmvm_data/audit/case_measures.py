"""The numbers of a case from which its answers by blind baselines and the features of its options follow.

They are measured case by case, while a benchmark is built or read; answers and features of many cases are then computed
together, see ``MeasuredCases``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmvm_data.cases import baselines
from mmvm_data.cases.baselines import CaseColors
from mmvm_data.core import masks
from mmvm_data.core.types import Box, Candidate, Case, Region

MEASURED_VALUES: Final = 9
"""Numbers of a region; see ``CaseMeasures.regions``."""
_MISSING: Final = (np.nan,) * 3


class CaseMeasures(NamedTuple):
    """What is measured of a case.

    Attributes:
        letters, numbers: of the options; the number of "none of the above" is None.
        answer: the right letter.
        sides: width and height in pixels of the image of the query, then of that of the candidates.
        regions: float64 [1 + offered candidates, 9]: number (0 for the query), size (see ``baselines.region_size``),
            x, y, width and height of the box in pixels, L, a and b of the mean color. The first row is the query in the
            latest image that shows it, the others are by number. What is not known is NaN.
        has_colors: whether images were opened.
    """

    letters: tuple[str, ...]
    numbers: tuple[int | None, ...]
    answer: str
    sides: tuple[int, int, int, int]
    regions: NDArray[np.float64]
    has_colors: bool

    @property
    def none(self) -> str:
        """The letter of "none of the above", "" without one."""
        return self.letters[self.numbers.index(None)] if None in self.numbers else ""


RegionRow = tuple[float, ...]
"""A row of ``CaseMeasures.regions`` without the number."""
RegionRows = dict[tuple[object, str | Box | None], RegionRow]
"""A frame and the counts of an object's mask in it, or its box -> its row."""


def measure_case(case: Case, colors: CaseColors | None = None) -> CaseMeasures:
    """Measure a case.

    Args:
        case: with an option for its answer.
        colors: of its regions, None where its images are not opened.

    Raises:
        ValueError: there is no option for the answer.
    """
    visible, offered = baselines.find_query(case), baselines.offered_candidates(case)
    query = None if visible is None else _join(*baselines.measure_region(visible[0]), colors.query if colors else None)
    rows = [
        _join(*baselines.measure_region(c.region), colors.candidates.get(c.number) if colors else None) for c in offered
    ]
    return _collect(case, visible[1] if visible else None, query, offered, rows, colors is not None)


def measure_with_images(
    case: Case,
    read_image: baselines.ReadImage,
    rows: RegionRows,
    frame_keys: Sequence[object],
    crop: baselines.CropMask = masks.crop,
) -> CaseMeasures:
    """As ``measure_case``, with the colors of ``baselines.measure_colors``; each object of a frame is measured once.

    Args:
        case: with an option for its answer.
        read_image: returns its images.
        rows: keeps what was measured for further cases with the same frames.
        frame_keys: the name of each frame in ``rows``.
        crop: crops masks.

    Raises:
        ValueError: there is no option for the answer.
        InputError: ``read_image`` raises it.
    """

    def measure(index: int, region: Region) -> RegionRow:
        key = frame_keys[index], region.mask.counts if region.mask else region.box
        row = rows.get(key)
        if row is None:
            measured = baselines.measure_in_image(read_image(index), region, case.frames[index], crop)
            row = rows[key] = _join(*measured)
        return row

    offered, last = baselines.offered_candidates(case), len(case.frames) - 1
    for position in reversed(range(len(case.query))):
        query = measure(position, case.query[position])
        if query[0]:
            return _collect(case, position, query, offered, [measure(last, c.region) for c in offered], True)
    without = [_join(*baselines.measure_region(candidate.region), None) for candidate in offered]
    return _collect(case, None, None, offered, without, True)


def _collect(
    case: Case,
    position: int | None,
    query: RegionRow | None,
    offered: Sequence[Candidate],
    rows: Sequence[RegionRow],
    has_colors: bool,
) -> CaseMeasures:
    """The measures of a case from the number of the image that shows its query, None without one, and the rows."""
    shown, last = case.frames[-1 if position is None else position], case.frames[-1]
    regions = np.empty((1 + len(rows), MEASURED_VALUES))
    regions[0, 0], regions[0, 1:] = 0, np.nan if query is None else query
    if rows:
        regions[1:, 0], regions[1:, 1:] = [candidate.number for candidate in offered], rows
    return CaseMeasures(
        letters=tuple([option.letter for option in case.options]),
        numbers=tuple([option.number for option in case.options]),
        answer=case.letter,
        sides=(*((1, 1) if position is None else (shown.width, shown.height)), last.width, last.height),
        regions=regions,
        has_colors=has_colors,
    )


def _join(size: float, box: Box, color: NDArray[np.float64] | None) -> RegionRow:
    return (size, *box, *(_MISSING if color is None else color.tolist()))


class MeasuredCases:
    """The measures of many cases as arrays; candidates are padded to the largest number of any case.

    Attributes:
        cases: the measures.
        offered: number of offered candidates of each case, int64 [cases].
        is_offered: bool [cases, most candidates]: False for padding.
        numbers: of the candidates, int64 [cases, most candidates]; 0 for padding.
        first: letters of the first options, str [cases].
        letters: of the candidates, str [cases, most candidates + 1]; the first option's for padding and in the last
            column.
        query, candidates: see ``Regions``; [cases], and [cases, most candidates], NaN for padding.
    """

    def __init__(self, cases: Sequence[CaseMeasures]) -> None:
        """
        Args:
            cases: at least one.
        """
        self.cases = cases
        self.offered = np.array([len(case.regions) - 1 for case in cases])
        most = int(self.offered.max())
        self.is_offered = np.arange(most) < self.offered[:, None]
        values = np.concatenate([case.regions for case in cases])
        is_query = np.zeros(len(values), bool)
        is_query[np.cumsum(self.offered + 1) - self.offered - 1] = True
        padded = np.full((len(cases), most, MEASURED_VALUES), np.nan)
        padded[self.is_offered] = values[~is_query]
        self.numbers = np.where(self.is_offered, padded[..., 0], 0).astype(np.int64)
        self.first = np.array([case.letters[0] for case in cases])
        self.letters = np.array([_candidate_letters(case, most) for case in cases])
        sides = np.array([case.sides for case in cases], np.float64)
        self.query = Regions(values[is_query], sides[:, :2])
        self.candidates = Regions(padded, sides[:, None, 2:])

    def pick_letters(self, places: NDArray[np.int64]) -> NDArray[np.str_]:
        """The letters of the candidates at some places of each case, int64 [cases, picks]."""
        return np.take_along_axis(self.letters, places, axis=1)


def _candidate_letters(case: CaseMeasures, most: int) -> list[str]:
    letters = [case.letters[case.numbers.index(number)] for number in case.regions[1:, 0].tolist()]
    return letters + [case.letters[0]] * (most + 1 - len(letters))


class Regions:
    """The measures of regions as arrays.

    Attributes:
        size: see ``baselines.region_size``.
        left, top, width, height: of the box, in pixels.
        center_x, center_y: of the box, as shares of the image's sides.
        share: of the image, at least one pixel's.
        color: float [..., 3], CIELAB.
    """

    def __init__(self, values: NDArray[np.float64], sides: NDArray[np.float64]) -> None:
        """
        Args:
            values: rows of ``CaseMeasures.regions``, float [..., 9].
            sides: width and height of the image, float [..., 2].
        """
        self.size, self.left, self.top, self.width, self.height = np.moveaxis(values[..., 1:6], -1, 0)
        self.color = values[..., 6:]
        image_width, image_height = sides[..., 0], sides[..., 1]
        self.center_x = (self.left + self.width / 2) / image_width
        self.center_y = (self.top + self.height / 2) / image_height
        self.relative_width, self.relative_height = self.width / image_width, self.height / image_height
        self.share = np.maximum(self.size, 1.0) / (image_width * image_height)

    @property
    def from_center(self) -> NDArray[np.float64]:
        """Distance of the box's center to the image's, as shares of its sides."""
        distances: NDArray[np.float64] = np.hypot(self.center_x - 0.5, self.center_y - 0.5)
        return distances
