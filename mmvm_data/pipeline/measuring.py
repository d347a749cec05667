"""What a build measures of its cases for those who choose some of them; see ``BuildOptions.measurer_factory``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mmvm_data.cases.baselines import REDUCED_SIDE
from mmvm_data.cases.sampling import CaseDraft
from mmvm_data.core.masks import MaskCrop
from mmvm_data.core.types import Case, Rle
from mmvm_data.pipeline.case_writer import FrameCache

CaseMeasurer = Callable[[Case, bytes, Callable[[int], NDArray[np.uint8]], Callable[[Rle], MaskCrop]], bytes]
"""A case, its record as a line of JSON, a function that returns its clean images by their 0-based number as
``baselines.read_reduced_image`` does, and one that crops a mask as ``masks.crop`` does -> its line in the file
``tsv.MEASURES``, without the end. The id of the case is not final."""
MeasurerFactory = Callable[[], CaseMeasurer]
"""Returns what measures the cases of one video, in their order."""


def measure_case(
    measurer: CaseMeasurer, case: Case, line: bytes, draft: CaseDraft, frames: FrameCache, quality: int
) -> bytes:
    """Return what is measured of a case.

    Called before the case is written, so that what is encoded or cropped here is not encoded or cropped again.

    Args:
        measurer: of the case's video.
        case, line, draft: the case, its record, and the draft that it was made of.
        frames: of the video.
        quality: JPEG quality of originals whose source is no JPEG.
    """
    positions = (draft.first_position, draft.last_position)
    return measurer(case, line, lambda number: frames.reduced(positions[number], REDUCED_SIDE, quality), frames.crop)
