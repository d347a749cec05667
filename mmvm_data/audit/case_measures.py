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
from mmvm_data.core.types import Case, Region

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


def measure_case(case: Case, colors: CaseColors | None) -> CaseMeasures:
    """Measure a case.

    Args:
        case: with an option for its answer.
        colors: of its regions, None where its images are not opened.

    Raises:
        ValueError: there is no option for the answer.
    """
    visible = baselines.find_query(case)
    last = case.frames[-1]
    values: list[float] = []
    if visible is None:
        sides = (1, 1, last.width, last.height)
        values += (0, *(np.nan,) * (MEASURED_VALUES - 1))
    else:
        frame = case.frames[visible[1]]
        sides = (frame.width, frame.height, last.width, last.height)
        values += _measure_region(0, visible[0], colors.query if colors else None)
    for candidate in baselines.offered_candidates(case):
        color = colors.candidates.get(candidate.number) if colors else None
        values += _measure_region(candidate.number, candidate.region, color)
    return CaseMeasures(
        letters=tuple(option.letter for option in case.options),
        numbers=tuple(option.number for option in case.options),
        answer=case.letter,
        sides=sides,
        regions=np.array(values).reshape(-1, MEASURED_VALUES),
        has_colors=colors is not None,
    )


def _measure_region(number: int, region: Region, color: NDArray[np.float64] | None) -> tuple[float, ...]:
    size, box = baselines.measure_region(region)
    return (number, size, *box, *(_MISSING if color is None else color.tolist()))


class MeasuredCases:
    """The measures of many cases as arrays; candidates are padded to the largest number of any case.

    Attributes:
        cases: the measures.
        offered: number of offered candidates of each case, int64 [cases].
        is_offered: bool [cases, most candidates]: False for padding.
        numbers: of the candidates, int64 [cases, most candidates]; 0 for padding.
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
