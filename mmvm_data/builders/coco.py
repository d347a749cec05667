"""COCO: still images with masks; views of one image stand for the frames of a video (``common.image_views``).

``annotations/instances_<split>.json``: ``images[] {id, file_name, width, height}``, ``annotations[] {id, image_id,
category_id, iscrowd, segmentation}`` (polygons, or an RLE), ``categories[] {id, name}``. Images lie in ``<split>/`` or
``images/<split>/``; or the root is the JSON file, and they lie beside it. Crowds are left out.

Source: cocodataset.org, "Data format".
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mmvm_data.builders.common.annotation_index import AnnotationIndex, parse_id
from mmvm_data.builders.common.coco_index import open_coco_index
from mmvm_data.builders.common.folders import relative_path
from mmvm_data.builders.common.image_views import open_image_views, parse_mask
from mmvm_data.builders.common.json_fields import parse_side
from mmvm_data.builders.common.json_spans import read_object
from mmvm_data.builders.common.single_file import (
    find_annotation_file,
    find_frames_folder,
    make_indexed_entries,
    sample_positions,
)
from mmvm_data.builders.source import ImageObject, Source, StillImage
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame
from mmvm_data.io.files import is_utf8, safe_parts

SPLITS = ("train2017", "val2017", "train2014", "val2014", "train", "val")
FOLDERS = ("{split}", "images/{split}", "images", "input_images", "")


def open_coco(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the first split that lies in the root, or the JSON file that the root is; a video's id is the image's.

    Raises:
        InputError: no annotation file, one that is broken as a whole, or images that cannot be found.
    """
    patterns = (f"{part}instances_{split}.json" for split in SPLITS for part in ("annotations/", ""))
    given = find_annotation_file(root, patterns)
    if given is None:
        raise InputError(root, "no annotation file such as annotations/instances_train2017.json lies here")
    file, bases = given
    index = open_coco_index(file, cache, "images", "image_id", ("annotations",))
    told = re.search("|".join(SPLITS), file.stem)
    split = told.group() if told else ""
    entries = (read_object(file, *index.video_spans[k].tolist()) for k in sample_positions(len(index.videos)))
    folders = [pattern.format(split=split) for pattern in FOLDERS]
    base, folder = find_frames_folder(bases, folders, (e.get("file_name") for e in entries), file, split or "images")

    def load(image: str, k: int) -> StillImage:
        entry, where = read_object(file, *index.video_spans[k].tolist()), f"image {image}"
        width, height = (parse_side(file, where, entry, key) for key in ("width", "height"))
        parts = [
            *safe_parts(relative_path(base, folder) or ".", file),
            *safe_parts(_parse_file_name(file, where, entry), file, where),
        ]
        frame = Frame(path="/".join(parts), index=0, width=width, height=height)
        return StillImage(frame, lambda: _read_objects(file, index, k, (height, width)))

    found = make_indexed_entries(name, base, file, index, load)
    return open_image_views(name, base, index.videos, found.load, found.rejects)


def _read_objects(file: Path, index: AnnotationIndex, k: int, size: tuple[int, int]) -> list[ImageObject]:
    objects: dict[str, ImageObject] = {}
    for span in index.annotation_spans[index.first[k] : index.first[k + 1]].tolist():
        entry = read_object(file, *span)
        where = f"annotation {entry.get('id')!r:.40}"
        crowd, track = entry.get("iscrowd", 0), parse_id(entry.get("id"))
        category = index.categories.get(parse_id(entry.get("category_id")) or "")
        if crowd not in (0, 1):
            raise InputError(file, f"0 or 1 is expected, found {crowd!r:.40}", field=f"{where}, iscrowd")
        if crowd:
            continue
        if track is None or track in objects:
            raise InputError(file, "an id of its own is expected", field=where)
        if category is None:
            raise InputError(file, "names no known category", field=f"{where}, category_id")
        rle = parse_mask(file, where, entry, size)
        if rle is not None:
            objects[track] = ImageObject(track, category, rle)
    return list(objects.values())


def _parse_file_name(file: Path, where: str, entry: dict[str, Any]) -> str:
    value = entry.get("file_name")
    if not isinstance(value, str) or not is_utf8(value):
        raise InputError(file, "a file name is expected", field=f"{where}, file_name")
    return value
