"""COCO: still images with masks; views of one image stand for the frames of a video (``common.image_views``).

``annotations/instances_<split>.json``: ``images[] {id, file_name, width, height}``, ``annotations[] {id, image_id,
category_id, iscrowd, segmentation}`` (polygons, or an RLE), ``categories[] {id, name}``. Images are in ``<split>/`` or
``images/<split>/``; or the root is the JSON file, and they are beside it. Crowds are skipped. Images of LVIS v1 have no
``file_name`` but ``coco_url``, whose last two parts are the path. Where no file has such a name, one of this form is
found by its content.

SA-Co/Gold and SA-Co/Silver: an entry of ``images`` is an image with a noun phrase, ``text_input``, which is the
category of its annotations.

Source: cocodataset.org, "Data format"; scripts/eval/gold/README.md of facebookresearch/sam3.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mmvm_data.builders.common.annotation_index import AnnotationIndex, parse_id
from mmvm_data.builders.common.coco_index import open_coco_index
from mmvm_data.builders.common.folders import relative_path
from mmvm_data.builders.common.image_views import check_not_boxes_only, open_image_views, parse_mask
from mmvm_data.builders.common.json_content import find_json_files
from mmvm_data.builders.common.json_fields import parse_file_name, parse_is_crowd, parse_side
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
    """Open the first split that exists in the root, or the JSON file that the root is; a video's id is the image's.

    Raises:
        InputError: no annotation file, one that cannot be read as a whole, or images that cannot be found.
    """
    names = [f"instances_{split}.json" for split in SPLITS] + [f"lvis_v1_{split}.json" for split in ("train", "val")]
    patterns = (f"{part}{file}" for file in names for part in ("annotations/", ""))
    location = find_annotation_file(root, patterns)
    if location is None:
        files = find_json_files(root, "coco")
        if not files:
            raise InputError(root, "no annotation file such as annotations/instances_train2017.json exists here")
        location = files[0], (root,)
    file, bases = location
    index = open_coco_index(file, cache, "images", "image_id", ("annotations",))
    match = re.search("|".join(SPLITS), file.stem)
    split = match.group() if match else ""
    entries = (read_object(file, *index.entry_span(k)) for k in sample_positions(len(index.ids)))
    folders = list_image_folders(split)
    paths = (_find_path(entry) for entry in entries)
    base, folder = find_frames_folder(bases, folders, paths, file, split or "images")

    def load_image(image: str, k: int) -> StillImage:
        entry, where = read_object(file, *index.entry_span(k)), f"image {image}"
        width, height = (parse_side(file, where, entry, key) for key in ("width", "height"))
        path = _find_path(entry) or parse_file_name(file, where, entry)
        parts = [*safe_parts(relative_path(base, folder) or ".", file), *safe_parts(path, file, where)]
        frame = Frame(path="/".join(parts), index=0, width=width, height=height)
        phrase = entry.get("text_input")
        category = phrase if isinstance(phrase, str) and phrase and is_utf8(phrase) else None
        return StillImage(frame, lambda: _read_objects(file, index, k, (height, width), category))

    images = make_indexed_entries(name, base, file, index, load_image)
    return open_image_views(name, base, index.ids, images.load, images.rejects)


def list_image_folders(split: str) -> list[str]:
    """Return the folders in which images may be, of a split or, if it is "", of any."""
    splits = [split] if split else ["", *SPLITS]
    return list(dict.fromkeys(pattern.format(split=name) for pattern in FOLDERS for name in splits))


def _find_path(entry: dict[str, Any]) -> str | None:
    """Return the path of an image; LVIS v1 names it in ``coco_url`` alone, whose last folder is COCO's split."""
    name, url = entry.get("file_name"), entry.get("coco_url")
    if name is None and isinstance(url, str):
        name = "/".join(urlsplit(url).path.split("/")[-2:]).strip("/") or None
    return name if isinstance(name, str) and is_utf8(name) else None


def _read_objects(
    file: Path, index: AnnotationIndex, k: int, size: tuple[int, int], phrase: str | None
) -> list[ImageObject]:
    objects: dict[str, ImageObject] = {}
    entries = []
    for span in index.parts_of(k):
        entry = read_object(file, *span)
        entries.append(entry)
        where = f"annotation {entry.get('id')!r:.40}"
        if parse_is_crowd(file, where, entry):
            continue
        track = parse_id(entry.get("id"))
        category = phrase or index.categories.get(parse_id(entry.get("category_id")) or "")
        if track is None or track in objects:
            raise InputError(file, "a unique id is expected", field=where)
        if category is None:
            raise InputError(file, "not in the list of categories", field=f"{where}, category_id")
        rle = parse_mask(file, where, entry, size)
        if rle is not None:
            objects[track] = ImageObject(track, category, rle)
    if not objects:
        check_not_boxes_only(file, f"image {index.ids[k]}", entries)
    return list(objects.values())
