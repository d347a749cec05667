"""Candidates for sets that follow one object a video: masks that the user names, beside the set's own tracks.

``<folder>/<video id>/<frame>.png``, one PNG for a frame, named as the frame's image: palette or grey numbers, 0
background, every other number a proposal (255 is void where there are other numbers). Such masks come from any
segmenter; they need no identity over the video. In a set of boxes the tight box of a mask is the candidate, so that
the answer does not show by its shape.

A proposal that shares more than half of itself, or of the object, with an object of the set is that object, or a part
of it, and left out. What is kept has ``extra["proposal"] = true`` and an id of its own in each frame; it is offered as
a candidate only, and ``provenance.extra["proposals"]`` of a case counts them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from mmvm_data.builders.source import Source
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import Region, Rle, Video
from mmvm_data.io.files import path_kind, safe_join
from mmvm_data.io.png import read_labels

MAX_OVERLAP = 0.5
"""Largest share of a proposal, or of an object, that the two may have in common."""
_VOID = 255
_KEPT = 8


def add_proposals(source: Source, folder: Path) -> Source:
    """The same source, its videos with the proposals that lie in ``folder``.

    Args:
        source: any source whose frames are files.
        folder: a folder of masks, see above.

    Raises:
        UsageError: there is no such folder.
    """
    if path_kind(folder) != "folder":
        raise UsageError(f"{folder}: no folder of proposals lies here")
    return replace(source, load=lambda video: _add_to_video(source.load(video), folder))


def _add_to_video(video: Video, folder: Path) -> Video:
    if video.order == "views":
        raise InputError(folder, f"proposals fit frames of a video; {video.source} gives views", field=video.id)
    place = safe_join(folder, video.id, folder)
    if path_kind(place) != "folder":
        raise InputError(place, "no proposals: the folder is missing")

    @lru_cache(_KEPT)
    def read(position: int) -> tuple[Region, ...]:
        tracked = video.regions(position)
        frame = video.frames[position]
        file = place / f"{Path(frame.path).stem}.png"
        if path_kind(file) == "nothing":
            return tracked
        found = masks.encode_labels(read_labels(file, frame.width, frame.height).ids)
        if len(found) > 1:
            found.pop(_VOID, None)
        shapes = {label: _make_proposal(video, label, position, rle) for label, rle in found.items()}
        size = (frame.height, frame.width)
        kept = _not_overlapping(
            [_region_rle(r, size) for r in shapes.values()], [_region_rle(r, size) for r in tracked]
        )
        return (*tracked, *(region for region, free in zip(shapes.values(), kept, strict=True) if free))

    return video.with_regions_reader(read)


def _make_proposal(video: Video, label: int, position: int, rle: Rle) -> Region:
    name, extra = f"proposal {position}-{label}", {"proposal": True}
    if video.prompt == "box":
        return Region(id=name, box=masks.bbox(rle), extra=extra)
    return Region(id=name, mask=rle, extra=extra)


def _region_rle(region: Region, size: tuple[int, int]) -> Rle:
    if region.mask is not None:
        return region.mask
    assert region.box is not None  # a region has one of the two
    return masks.from_box(region.box, *size)


def _not_overlapping(proposals: list[Rle], objects: list[Rle]) -> list[bool]:
    """Of each proposal, whether it is none of the objects."""
    if not objects:
        return [True] * len(proposals)
    shared = masks.intersections(proposals, objects)
    smaller = np.minimum(masks.areas(proposals)[:, None], masks.areas(objects)[None, :])
    return [bool(row.all()) for row in shared <= MAX_OVERLAP * smaller]
