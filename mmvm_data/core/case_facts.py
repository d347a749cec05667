"""Facts about a case that its record states in more than one place, as statistics and reports use them."""

from __future__ import annotations

from typing import Final

from mmvm_data.core import masks
from mmvm_data.core.types import Case, Region

UNKNOWN: Final = "(unknown)"
"""Stands for a source that a set does not name."""


def source_name(case: Case) -> str:
    """Name of the case's source, ``(unknown)`` when the set does not say."""
    name = case.provenance.source if case.provenance else case.extra.get("source")
    return str(name) if name else UNKNOWN


def video_id(case: Case) -> str | None:
    """Id of the case's video in its source, None when the set does not say."""
    name = case.provenance.video if case.provenance else case.extra.get("video")
    return str(name) if name else None


def answer_letter(case: Case) -> str | None:
    """Letter of the right option, None when no option stands for the answer."""
    return next((option.letter for option in case.options if option.number == case.answer), None)


def region_area(region: Region) -> int:
    """Pixels of a mask, or width x height of a box, rounded."""
    if region.mask is not None:
        return masks.area(region.mask)
    return round(region.box[2] * region.box[3]) if region.box else 0
