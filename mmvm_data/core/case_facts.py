"""Facts about a case that are stored in more than one field of its record, and whether its masks are whole."""

from __future__ import annotations

from typing import Final

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case, Region, Rle

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


def list_image_regions(case: Case, position: int) -> list[Region]:
    """Return the regions of an image: the query's, or in the last image those of the candidates in their order."""
    if position < len(case.frames) - 1:
        return [case.query[position]]
    return [candidate.region for candidate in case.candidates]


def check_masks(case: Case, position: int | None = None) -> None:
    """Check that the masks of an image, or of all, can be decoded and have the size of their image.

    Reading a record checks only the characters of its masks, which takes a tenth of the time.

    Args:
        case: a record.
        position: of the image; None for all.

    Raises:
        InputError: a mask is of another size than its image, or its runs do not add up to that size.
    """
    rles: list[tuple[str, str, Rle]] = []
    for k in range(len(case.frames)) if position is None else (position,):
        size, where = (case.frames[k].height, case.frames[k].width), f"image {k + 1}"
        for region in list_image_regions(case, k):
            if region.mask is not None and region.mask.size != size:
                reason = f"mask of object {region.id!r} is {region.mask.size}, the image {size} (height, width)"
                raise InputError(case.id, reason, where)
            if region.mask is not None:
                rles.append((where, region.id, region.mask))
    for size in {rle.size for _, _, rle in rles}:
        masks.prefetch_counts([rle.counts.encode("ascii") for _, _, rle in rles if rle.size == size], size)
    for where, name, rle in rles:
        try:
            masks.spans(rle)
        except ValueError as error:
            raise InputError(case.id, f"mask of object {name!r}: {error}", where) from error
