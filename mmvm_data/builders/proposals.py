"""Additional candidates for data sets with one object per video: masks from any segmenter, in a folder of their own.

``<folder>/<video id>/<frame>.png``, one PNG per frame, named as the frame's image: palette or gray, 0 background, every
other value a proposal (in 8 bits, 255 is void where there are other values). Proposals need no identity over the video.
In a data set of boxes the tight box of a mask is the candidate, so that the answer cannot be told by its shape.

A proposal that shares more than half of its area, or of the object's, with an object of the data set is that object, or
a part of it, and is dropped. The others have ``extra["proposal"] = true`` and a new id in each frame; they are used as
candidates only, and ``provenance.extra["proposals"]`` of a case counts them.
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
"""Largest intersection of a proposal with an object, as a share of the smaller of the two."""
_VOID = 255
_CACHE_SIZE = 8


def add_proposals(source: Source, folder: Path) -> Source:
    """Return the same source, its videos with the proposals in ``folder``.

    Args:
        source: any source whose frames are files.
        folder: a folder of masks, see above.

    Raises:
        UsageError: the folder does not exist.
    """
    if path_kind(folder) != "folder":
        raise UsageError(f"{folder}: proposals must be a folder")
    return replace(source, load=lambda video: _add_to_video(source.load(video), folder))


def _add_to_video(video: Video, folder: Path) -> Video:
    if video.order == "views":
        raise InputError(folder, f"proposals fit frames of a video; {video.source} gives views", field=video.id)
    masks_folder = safe_join(folder, video.id, folder)
    if path_kind(masks_folder) != "folder":
        raise InputError(masks_folder, "no proposals: the folder is missing")

    @lru_cache(_CACHE_SIZE)
    def read(position: int) -> tuple[Region, ...]:
        objects = video.regions(position)
        frame = video.frames[position]
        file = masks_folder / f"{Path(frame.path).stem}.png"
        if path_kind(file) == "nothing":
            return objects
        labels = read_labels(file, frame.width, frame.height).ids
        rles = masks.encode_labels(labels)
        if len(rles) > 1 and labels.dtype == np.uint8:
            rles.pop(_VOID, None)
        proposals = [_make_proposal(video, label, position, rle) for label, rle in rles.items()]
        size = (frame.height, frame.width)
        boxed = [[masks.region_mask(region, *size) for region in regions] for regions in (proposals, objects)]
        is_free = _not_overlapping(*boxed)
        return (*objects, *(region for region, free in zip(proposals, is_free, strict=True) if free))

    return video.with_regions_reader(read)


def _make_proposal(video: Video, label: int, position: int, rle: Rle) -> Region:
    name, extra = f"proposal {position}-{label}", {"proposal": True}
    if video.prompt == "box":
        return Region(id=name, box=masks.bbox(rle), extra=extra)
    return Region(id=name, mask=rle, extra=extra)


def _not_overlapping(proposals: list[Rle], objects: list[Rle]) -> list[bool]:
    """Return for each proposal whether it overlaps no object by more than MAX_OVERLAP."""
    if not objects:
        return [True] * len(proposals)
    shared = masks.intersections(proposals, objects)
    smaller = np.minimum(masks.areas(proposals)[:, None], masks.areas(objects)[None, :])
    return [bool(row.all()) for row in shared <= MAX_OVERLAP * smaller]
