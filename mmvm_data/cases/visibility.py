"""The objects of a frame that are large, thick and unoccluded enough to be used in a case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame, Region, Rle


@dataclass(frozen=True)
class VisibleObject:
    """An object of a frame with its mask.

    Attributes:
        region: the object as the source annotates it.
        rle: its mask, of the frame's size; for a box, the filled rectangle.
        area: pixels of the mask.
        box: x, y, width, height of the mask, in pixels.
    """

    region: Region
    rle: Rle
    area: int
    box: tuple[float, float, float, float]


def find_visible_objects(
    regions: Sequence[Region], frame: Frame, options: SamplingOptions
) -> tuple[list[VisibleObject], frozenset[str]]:
    """The objects of a frame that can be used in a case, and the ids of all that have at least one pixel.

    An object is usable when its area, its shorter side, its thickness and its occlusion are within ``options``.

    Raises:
        InputError: a mask is not of the frame's size.
    """
    size = (frame.height, frame.width)
    for region in regions:
        if region.mask is not None and region.mask.size != size:
            raise InputError(
                frame.path,
                f"mask of {region.mask.size[1]} x {region.mask.size[0]} on a frame of {size[1]} x {size[0]}",
                field=f"object {region.id}",
            )
    rles = [masks.region_mask(region, *size) for region in regions]
    areas, boxes, shared = masks.measure_overlaps(rles)
    occlusion = shared / np.maximum(areas, 1)  # the largest share that one other object covers
    usable, present = [], []
    # as Python's numbers, which are faster one by one
    numbers = zip(regions, rles, areas.tolist(), boxes.tolist(), occlusion.tolist(), strict=True)
    for region, rle, area, (x, y, width, height), covered in numbers:
        if area:
            present.append(region.id)
        if (
            area >= options.min_area
            and min(width, height) >= options.min_side
            and area >= max(width, height) * options.min_side / 2
            and covered <= options.max_occlusion
            and 1 - float(region.extra.get("visibility", 1.0)) <= options.max_occlusion
        ):
            usable.append(VisibleObject(region, rle, area, (x, y, width, height)))
    return usable, frozenset(present)


def is_proposal(region: Region) -> bool:
    """Whether a region is a proposal (see ``builders.proposals``). A proposal can be a candidate but not the query,
    since it has no identity over the video."""
    return region.extra.get("proposal") is True
