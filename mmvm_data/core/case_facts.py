"""Facts about a case that are stored in more than one field of its record, for statistics and reports."""

from __future__ import annotations

from typing import Final

from mmvm_data.core import masks
from mmvm_data.core.types import Case, Region

UNKNOWN: Final = "(unknown)"
"""Placeholder for a source that a data set does not name."""


DIFFICULTIES: Final = ("easy", "medium", "hard")
"""Names of the difficulties, see ``difficulty_name``."""


def difficulty_name(look_alikes: int) -> str:
    """Return the difficulty of a case: 0, 1 to 2, 3 or more candidates of the query's category beside the answer."""
    return DIFFICULTIES[0 if not look_alikes else 1 if look_alikes <= 2 else 2]


def source_name(case: Case) -> str:
    """Return the name of the case's source, or ``(unknown)``."""
    name = case.provenance.source if case.provenance else case.extra.get("source")
    return str(name) if name else UNKNOWN


def video_id(case: Case) -> str | None:
    """Return the id of the case's video in its source, or None when it is not known."""
    name = case.provenance.video if case.provenance else case.extra.get("video")
    return str(name) if name else None


def answer_letter(case: Case) -> str | None:
    """Return the letter of the correct option, or None when no option stands for the answer."""
    return next((option.letter for option in case.options if option.number == case.answer), None)


def region_area(region: Region) -> int:
    """Return the number of pixels of a mask, or the rounded area of a box."""
    if region.mask is not None:
        return masks.area(region.mask)
    return round(region.box[2] * region.box[3]) if region.box else 0
