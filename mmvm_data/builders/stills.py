"""Stills with masks: views of one image stand for the frames of a video, a pseudo pair. SA-1B; for COCO see ``coco``.

SA-1B is ``sa_1.jpg`` beside ``sa_1.json``: ``image {width, height, file_name}`` and ``annotations[] {id, segmentation
{size, counts}}``.

A video is an image with VIEWS views (``mmvm_data.core.augment``), which its name and its source determine: ``strong``
for sa1b and coco, ``published`` for sa1b_published and coco_published. What a view cuts off, hides or leaves too small
is not visible in it. The frames' size is that of the views; their path is the image that all of them are made of.

Source: README of facebookresearch/segment-anything and ai.meta.com/datasets/segment-anything.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mmvm_data.builders.fields import side
from mmvm_data.builders.folders import read_any_json, rejected, relative, walk
from mmvm_data.builders.source import Source
from mmvm_data.builders.ytvis_index import label
from mmvm_data.builders.ytvis_masks import compact, mask
from mmvm_data.core import augment, masks
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Frame, Region, Rle, Video
from mmvm_data.io.files import is_utf8, list_names, printable_name
from mmvm_data.io.media import read_bgr

VIEWS = 4
"""Views of an image; any two make a pair."""
DEPTH = 2

Objects = list[tuple[str, str | None, Rle]]
"""Id, category and mask in the image."""


@dataclass(frozen=True)
class Still:
    """One image: where its pixels are, and its objects, which are read when they are asked for.

    Attributes:
        file: the annotation file, for messages.
        frame: with a path relative to the root of its set.
        objects: raises InputError when the annotation is broken.
    """

    file: Path
    frame: Frame
    objects: Callable[[], Objects]


@dataclass(frozen=True)
class Stills:
    """A set of images with masks, as ``Source`` is one of videos; ``load`` raises InputError."""

    name: str
    root: Path
    images: Sequence[str]
    load: Callable[[str], Still]
    rejects: tuple[Reject, ...] = ()


def open_sa1b(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open a folder of SA-1B, or of several of its archives; a video's id is the image's name.

    Raises:
        InputError: no such pair of files lies there.
    """
    return as_videos(sa1b_stills(name, root))


def sa1b_stills(name: str, root: Path) -> Stills:
    """The images of SA-1B by their names; see ``open_sa1b``.

    Raises:
        InputError: no such pair of files lies there.
    """
    rejects: list[Reject] = []
    found: dict[str, Path] = {}
    for folder in walk(name, root, DEPTH, rejects):
        try:
            listed = set(list_names(folder, (".json", ".jpg")))
        except InputError as error:
            rejects.append(rejected(name, root, folder.name, error))
            continue
        for file in sorted(listed):
            image, where = Path(file).stem, relative(root, folder / file)
            if not file.endswith(".json"):
                continue
            if not is_utf8(file):
                rejects.append(Reject(name, printable_name(image), -1, "the file's name is not UTF-8", where))
            elif f"{image}.jpg" not in listed:
                rejects.append(Reject(name, image, -1, f"masks without an image; {image}.jpg is expected", where))
            elif image in found:
                reason = f"two images have one name, {relative(root, found[image])} is read"
                rejects.append(Reject(name, image, -1, reason, where))
            else:
                found[image] = folder / file
    if not found and not rejects:
        raise InputError(root, "no image <name>.jpg beside <name>.json lies here")

    def load(image: str) -> Still:
        if image not in found:
            raise InputError(root, f"there is no usable image {printable_name(image)!r}")
        return sa1b_still(root, found[image])

    return Stills(name, root, sorted(found), load, tuple(sorted(rejects)))


def sa1b_still(root: Path, file: Path) -> Still:
    """One image of SA-1B.

    Args:
        root: folder that the frame's path is to be relative to.
        file: its JSON; the image lies beside it.

    Raises:
        InputError: unreadable, or not of SA-1B's form.
    """
    data = read_any_json(file)
    image = data.get("image") if isinstance(data, dict) else None
    annotations = data.get("annotations") if isinstance(data, dict) else None
    if not isinstance(image, dict) or not isinstance(annotations, list):
        raise InputError(file, "an object with image and annotations is expected")
    width, height = (side(file, "image", image, key) for key in ("width", "height"))
    objects: dict[str, tuple[str, str | None, Rle]] = {}
    for k, entry in enumerate(annotations):
        where = f"annotations[{k}]"
        track = label(entry.get("id")) if isinstance(entry, dict) else None
        if track is None or track in objects:
            raise InputError(file, "an object with an id of its own is expected", field=where)
        rle = mask_of(file, where, entry, (height, width))
        if rle is not None:
            objects[track] = track, None, rle
    path = relative(root, file.with_suffix(".jpg"))
    frame, known = Frame(path=path, index=0, width=width, height=height), list(objects.values())
    return Still(file, frame, lambda: known)


def mask_of(file: Path, where: str, entry: dict[str, Any], size: tuple[int, int]) -> Rle | None:
    """The mask of an annotation in COCO's form; None when it has no pixel.

    Args:
        file, where: for the message.
        entry: with a key ``segmentation``.
        size: height and width of the image.

    Raises:
        InputError: polygons or an RLE of that size are expected, and there is something else.
    """
    rle = mask(file, f"{where}, segmentation", compact(entry.get("segmentation"), size), size)
    return rle if rle is not None and masks.area(rle) else None


def as_videos(stills: Stills) -> Source:
    """The source whose videos are views of images."""

    def load(video: str) -> Video:
        still = stills.load(video)
        return views_of(stills.name, stills.root, video, still.frame, still.objects)

    return Source(stills.name, stills.root, stills.images, load, stills.rejects)


def views_of(name: str, root: Path, video: str, frame: Frame, objects: Callable[[], Objects]) -> Video:
    """The video that the views of an image make.

    Args:
        name, root: of the source; a name that ends in _published has views as published.
        video: id.
        frame: the image.
        objects: reads what is in it, called once and not before a view is asked for.
    """
    style: augment.Kind = "published" if name.endswith("_published") else "strong"
    seed = hashlib.sha256(f"{name}\0{video}".encode("utf-8", "surrogateescape")).digest()
    drawn = augment.draw_views(style, frame.width, frame.height, random.Random(int.from_bytes(seed, "big")), VIEWS)
    known = lru_cache(1)(objects)

    @lru_cache(1)
    def image() -> np.ndarray:
        return read_bgr(root, frame)

    @lru_cache(VIEWS)
    def read(position: int) -> tuple[Region, ...]:
        if not known():
            return ()
        moved = augment.follow_rles(augment.sources(drawn[position]), [rle for _, _, rle in known()])
        return tuple(
            Region(id=track, mask=rle, category=category)
            for (track, category, _), rle in zip(known(), moved, strict=True)
            if masks.area(rle)
        )

    size = {"width": augment.SIZE, "height": augment.SIZE}
    return Video.lazy(
        read,
        lambda position: augment.picture(drawn[position], image()),
        id=video,
        source=name,
        root=root,
        frames=tuple(frame.model_copy(update={"index": k, **size}) for k in range(VIEWS)),
        annotated=tuple(range(VIEWS)),
        order="views",
        note={"views": f"{style} augmentations of one image"},
    )
