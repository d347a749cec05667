"""Videos out of still images: augmented views of one image stand for the frames of a video.

A video consists of VIEWS views (``mmvm_data.core.augment``), which the names of the source and of the image determine:
augmentation ``published`` for sources whose name ends in ``_published``, ``cropped`` for all others. What a view cuts
off or hides is not visible in it; the share of an object that is left is in ``extra["visibility"]``. Frames have the
sizes of the views, and the path of the image.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvm_data.builders.common.segmentations import compact_segmentation, parse_segmentation
from mmvm_data.builders.source import Source, StillImage
from mmvm_data.core import augment, masks
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Region, Rle, Video
from mmvm_data.io.media import read_frame_bgr

VIEWS = 4
"""Views per image; any two of them make a pair."""


def open_image_views(
    name: str,
    root: Path,
    images: Sequence[str],
    load_image: Callable[[str], StillImage],
    rejects: tuple[Reject, ...] = (),
) -> Source:
    """Return the source whose videos are views of images.

    Args:
        name: of the source.
        root: folder that the images' paths are relative to.
        images: unique ids in a stable order.
        load_image: id -> image; raises InputError.
        rejects: images that cannot be used.
    """

    def load(video: str) -> Video:
        return make_view_video(name, root, video, load_image(video))

    return Source(name, root, images, load, rejects, load_image)


def make_view_video(name: str, root: Path, video: str, image: StillImage) -> Video:
    """Return the video whose frames are views of an image.

    Args:
        name, root: of the source; a name that ends in ``_published`` selects the published augmentation.
        video: id of the video.
        image: its objects are read once, when the first view is asked for.
    """
    style: augment.ViewKind = "published" if name.endswith("_published") else "cropped"
    frame = image.frame
    seed = hashlib.sha256(f"{name}\0{video}".encode("utf-8", "surrogateescape")).digest()
    views = augment.sample_views(style, frame.width, frame.height, random.Random(int.from_bytes(seed, "big")), VIEWS)
    read_objects = lru_cache(1)(image.read_objects)

    @lru_cache(1)
    def read_pixels() -> NDArray[np.uint8]:
        return read_frame_bgr(root, frame)

    @lru_cache(VIEWS)
    def read(position: int) -> tuple[Region, ...]:
        objects = read_objects()
        if not objects:
            return ()
        moved = augment.warp_rles(augment.map_view_pixels(views[position]), [item.mask for item in objects])
        return tuple(
            Region(id=item.id, mask=rle, category=item.category, extra={"visibility": round(share, 3)})
            for item, rle in zip(objects, moved, strict=True)
            if (share := augment.visible_share(views[position], item.mask, rle))
        )

    return Video.lazy(
        read,
        lambda position: augment.render_view(views[position], read_pixels()),
        id=video,
        source=name,
        root=root,
        frames=tuple(
            frame.model_copy(update={"index": k, "width": view.size[0], "height": view.size[1]})
            for k, view in enumerate(views)
        ),
        annotated=tuple(range(VIEWS)),
        order="views",
        note={"views": f"{style} augmentations of one image"},
    )


def parse_mask(file: Path, field: str, entry: dict[str, Any], size: tuple[int, int]) -> Rle | None:
    """Return the mask of an annotation in COCO's format; None when it has no pixel.

    Args:
        file, field: the annotation file and the entry in it, for the message.
        entry: with a key ``segmentation``.
        size: height and width of the image.

    Raises:
        InputError: neither polygons nor an RLE of that size.
    """
    rle = parse_segmentation(
        file, f"{field}, segmentation", compact_segmentation(entry.get("segmentation"), size), size
    )
    return rle if rle is not None and masks.has_pixels(rle) else None


def check_not_boxes_only(file: Path, field: str, entries: Sequence[dict[str, Any]]) -> None:
    """Raise InputError when annotations without any mask have boxes.

    Args:
        file, field: the annotation file and the image in it, for the message.
        entries: annotations of the image, none of which has a mask with a pixel.
    """
    if any(entry.get("bbox") and not entry.get("segmentation") for entry in entries):
        raise InputError(file, "annotations have boxes only (bbox without segmentation); masks are needed", field=field)
