"""SA-1B and COCO: one image with masks; views of it stand for the frames of a video, a pseudo pair.

    SA-1B  sa_1.jpg beside sa_1.json: image {width, height, file_name}, annotations[] {id, segmentation {size, counts}}
    COCO   annotations/instances_<split>.json: images[] {id, file_name, width, height}, annotations[] {id, image_id,
           category_id, iscrowd, segmentation (polygons, or an RLE)}, categories[] {id, name}; images in <split>/ or
           images/<split>/ (or the root is the JSON file, and the images lie beside it). Crowds are left out

A video is an image with VIEWS views (``mmvm_data.views``), which its name and its source determine: ``strong`` for sa1b
and coco, ``published`` for sa1b_published and coco_published. What a view cuts off, hides or leaves too small is not
visible in it. The frames' size is that of the views; their path is the image that all of them are made of.

Source: README of facebookresearch/segment-anything and ai.meta.com/datasets/segment-anything; cocodataset.org, "Data
format".
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mmvm_data import masks, views
from mmvm_data.builders.fields import side
from mmvm_data.builders.folders import read_any_json, rejected, relative, walk
from mmvm_data.builders.jsonspans import read_object
from mmvm_data.builders.linked import open_linked
from mmvm_data.builders.source import Source
from mmvm_data.builders.ytvis_index import Index, label
from mmvm_data.builders.ytvis_masks import compact, mask
from mmvm_data.errors import InputError, Reject
from mmvm_data.files import inside, is_utf8, kind, names, printable, steps
from mmvm_data.media import read_bgr
from mmvm_data.types import Frame, Region, Rle, Video

VIEWS = 4
"""Views of an image; any two make a pair."""
DEPTH = 2
SPLITS = ("train2017", "val2017", "train2014", "val2014", "train", "val")
_FRAMES = ("{split}", "images/{split}", "images", "input_images", "")

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
    return _as_videos(sa1b_stills(name, root))


def sa1b_stills(name: str, root: Path) -> Stills:
    """The images of SA-1B by their names; see ``open_sa1b``.

    Raises:
        InputError: no such pair of files lies there.
    """
    rejects: list[Reject] = []
    found: dict[str, Path] = {}
    for folder in walk(name, root, DEPTH, rejects):
        try:
            listed = set(names(folder, (".json", ".jpg")))
        except InputError as error:
            rejects.append(rejected(name, root, folder.name, error))
            continue
        for file in sorted(listed):
            image, where = Path(file).stem, relative(root, folder / file)
            if not file.endswith(".json"):
                continue
            if not is_utf8(file):
                rejects.append(Reject(name, printable(image), -1, "the file's name is not UTF-8", where))
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
            raise InputError(root, f"there is no usable image {printable(image)!r}")
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
        rle = _mask(file, where, entry, (height, width))
        if rle is not None:
            objects[track] = track, None, rle
    path = relative(root, file.with_suffix(".jpg"))
    frame, known = Frame(path=path, index=0, width=width, height=height), list(objects.values())
    return Still(file, frame, lambda: known)


def open_coco(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the first split that lies in the root, or the JSON file that the root is; a video's id is the image's.

    Raises:
        InputError: no annotation file, one that is broken as a whole, or images that cannot be found.
    """
    return _as_videos(coco_stills(name, root, cache))


def coco_stills(name: str, root: Path, cache: Path | None = None) -> Stills:
    """The images of COCO by their ids; see ``open_coco``."""
    if kind(root) == "file":
        file = root.absolute()
        bases: tuple[Path, ...] = (file.parent, file.parent.parent)
    else:
        files = [root / part / f"instances_{s}.json" for s in SPLITS for part in ("annotations", "")]
        present = [f for f in files if kind(f) == "file"]
        if not present:
            raise InputError(root, "no annotation file such as annotations/instances_train2017.json lies here")
        file, bases = present[0], (root,)
    index = open_linked(file, cache, "images", "image_id", ("annotations",))
    base, folder = _images_folder(bases, file, index)
    inner = relative(base, file) if file.is_relative_to(base) else printable(file.name)
    rejects = tuple(sorted(Reject(name, video, -1, reason, inner, field) for video, reason, field in index.rejects))
    numbers = {video: k for k, video in enumerate(index.videos)}

    def load(image: str) -> Still:
        if image not in numbers:
            raise InputError(file, f"there is no usable image {printable(image)!r}")
        k = numbers[image]
        entry, where = read_object(file, *index.video_spans[k].tolist()), f"image {image}"
        width, height = (side(file, where, entry, key) for key in ("width", "height"))
        parts = [*steps(relative(base, folder) or ".", file), *steps(_file_name(file, where, entry), file, where)]
        frame = Frame(path="/".join(parts), index=0, width=width, height=height)
        return Still(file, frame, lambda: _coco(file, index, k, (height, width)))

    return Stills(name, base, index.videos, load, rejects)


def _coco(file: Path, index: Index, k: int, size: tuple[int, int]) -> Objects:
    objects: dict[str, tuple[str, str | None, Rle]] = {}
    for span in index.annotation_spans[index.first[k] : index.first[k + 1]].tolist():
        entry = read_object(file, *span)
        where = f"annotation {entry.get('id')!r:.40}"
        crowd, track = entry.get("iscrowd", 0), label(entry.get("id"))
        category = index.categories.get(label(entry.get("category_id")) or "")
        if crowd not in (0, 1):
            raise InputError(file, f"0 or 1 is expected, found {crowd!r:.40}", field=f"{where}, iscrowd")
        if crowd:
            continue
        if track is None or track in objects:
            raise InputError(file, "an id of its own is expected", field=where)
        if category is None:
            raise InputError(file, "names no known category", field=f"{where}, category_id")
        rle = _mask(file, where, entry, size)
        if rle is not None:
            objects[track] = track, category, rle
    return list(objects.values())


def _file_name(file: Path, where: str, entry: dict[str, Any]) -> str:
    value = entry.get("file_name")
    if not isinstance(value, str) or not is_utf8(value):
        raise InputError(file, "a file name is expected", field=f"{where}, file_name")
    return value


def _images_folder(bases: tuple[Path, ...], file: Path, index: Index) -> tuple[Path, Path]:
    """The base that holds the images, and the folder that file names are relative to; the first images are tried."""
    found = re.search("|".join(SPLITS), file.stem)
    split, missing = found.group() if found else "", None
    for k in range(min(len(index.videos), 20)):
        value = read_object(file, *index.video_spans[k].tolist()).get("file_name")
        if not isinstance(value, str) or not is_utf8(value):
            continue
        for base in bases:
            for pattern in _FRAMES:
                try:
                    if kind(inside(base / pattern.format(split=split), value, file)) == "file":
                        return base, base / pattern.format(split=split)
                except InputError:
                    continue
        missing = missing or value
    if missing is None:
        return bases[0], bases[0]
    raise InputError(bases[0], f"images not found: no folder such as {split or 'images'} holds {missing[:200]}")


def _mask(file: Path, where: str, entry: dict[str, Any], size: tuple[int, int]) -> Rle | None:
    rle = mask(file, f"{where}, segmentation", compact(entry.get("segmentation"), size), size)
    return rle if rle is not None and masks.area(rle) else None


def _as_videos(stills: Stills) -> Source:
    def load(video: str) -> Video:
        still = stills.load(video)
        return _views(stills.name, stills.root, video, still.frame, still.objects)

    return Source(stills.name, stills.root, stills.images, load, stills.rejects)


def _views(name: str, root: Path, video: str, frame: Frame, objects: Callable[[], Objects]) -> Video:
    style: views.Kind = "published" if name.endswith("_published") else "strong"
    seed = hashlib.sha256(f"{name}\0{video}".encode("utf-8", "surrogateescape")).digest()
    drawn = views.draw_views(style, frame.width, frame.height, random.Random(int.from_bytes(seed, "big")), VIEWS)
    known = lru_cache(1)(objects)

    @lru_cache(1)
    def image() -> np.ndarray:
        return read_bgr(root, frame)

    @lru_cache(VIEWS)
    def read(position: int) -> tuple[Region, ...]:
        if not known():
            return ()
        moved = views.follow_rles(views.sources(drawn[position]), [rle for _, _, rle in known()])
        return tuple(
            Region(id=track, mask=rle, category=category)
            for (track, category, _), rle in zip(known(), moved, strict=True)
            if masks.area(rle)
        )

    size = {"width": views.SIZE, "height": views.SIZE}
    return Video.lazy(
        read,
        lambda position: views.picture(drawn[position], image()),
        id=video,
        source=name,
        root=root,
        frames=tuple(frame.model_copy(update={"index": k, **size}) for k in range(VIEWS)),
        annotated=tuple(range(VIEWS)),
        order="views",
        note={"views": f"{style} augmentations of one image"},
    )
