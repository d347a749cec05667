"""COCO panoptic: still images with a PNG of segments each; views of one image stand for the frames of a video.

``annotations/panoptic_<split>.json``: ``images[] {id, file_name, width, height}``, ``annotations[] {image_id,
file_name, segments_info[] {id, category_id, iscrowd}}``, ``categories[] {id, name, isthing}``; and the PNGs in
``annotations/panoptic_<split>/`` or a folder beside the file that has its name. A pixel's segment is R + 256 G + 65536
B, 0 is unlabeled. Things are the objects; crowds are skipped. Any JSON file of this form is found by its content, and
the root may be the file.

Source: cocodataset.org, "Data format", and github.com/cocodataset/panopticapi.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmvm_data.builders.coco import SPLITS, list_image_folders
from mmvm_data.builders.common.annotation_index import AnnotationIndex, open_index, parse_category, parse_id
from mmvm_data.builders.common.coco_index import build_coco_index
from mmvm_data.builders.common.folders import relative_path
from mmvm_data.builders.common.image_views import open_image_views
from mmvm_data.builders.common.json_content import find_json_files
from mmvm_data.builders.common.json_fields import parse_file_name, parse_is_crowd, parse_side
from mmvm_data.builders.common.json_spans import iter_items, read_object
from mmvm_data.builders.common.single_file import (
    find_annotation_file,
    find_frames_folder,
    make_indexed_entries,
    sample_positions,
)
from mmvm_data.builders.source import ImageObject, Source, StillImage
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame
from mmvm_data.io.files import safe_join, safe_parts
from mmvm_data.io.png import read_png


def open_panoptic(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the first split that exists in the root, or the JSON file that the root is; a video's id is the image's.

    Raises:
        InputError: no annotation file, one that cannot be read as a whole, or images or PNGs that cannot be found.
    """
    location = find_annotation_file(root, (f"{part}panoptic_{s}.json" for s in SPLITS for part in ("annotations/", "")))
    if location is None:
        files = find_json_files(root, "panoptic")
        if not files:
            raise InputError(
                root, "no file of panoptic annotations such as annotations/panoptic_val2017.json exists here"
            )
        location = files[0], (root,)
    file, bases = location
    index = open_index(file, cache, "panoptic", _build_index)
    match = re.search("|".join(SPLITS), file.stem)
    split = match.group() if match else ""
    positions = sample_positions(len(index.ids))
    entries = [read_object(file, *index.entry_span(k)) for k in positions]
    names = (entry.get("file_name") for entry in entries)
    base, images = find_frames_folder(bases, list_image_folders(split), names, file, split or "images")
    parts = (read_object(file, *span) for k in positions for span in index.parts_of(k))
    png_names = (part.get("file_name") for part in parts)
    png_bases, png_folders = (file.parent, *bases), (file.stem, f"panoptic_{split}", f"annotations/{file.stem}", "")
    _, pngs = find_frames_folder(png_bases, png_folders, png_names, file, file.stem)

    def load_image(image: str, k: int) -> StillImage:
        entry, where = read_object(file, *index.entry_span(k)), f"image {image}"
        width, height = (parse_side(file, where, entry, key) for key in ("width", "height"))
        path = [*safe_parts(relative_path(base, images) or ".", file)]
        path += safe_parts(parse_file_name(file, where, entry), file, where)
        frame = Frame(path="/".join(path), index=0, width=width, height=height)
        return StillImage(frame, lambda: _read_objects(file, index, k, pngs, (width, height)))

    loaded = make_indexed_entries(name, base, file, index, load_image)
    return open_image_views(name, base, index.ids, loaded.load, loaded.rejects)


def _build_index(file: Path) -> AnnotationIndex:
    """Return the index of a file, with the categories of things only."""
    index = build_coco_index(file, "images", "image_id", ("annotations",))
    stuff = set()
    for item in iter_items(file):
        category = parse_category(item.value) if item.key == "categories" else None
        if category is not None and item.value.get("isthing", 1) in (0, False):
            stuff.add(category[0])
    return replace(index, categories={key: name for key, name in index.categories.items() if key not in stuff})


def _read_objects(file: Path, index: AnnotationIndex, k: int, pngs: Path, size: tuple[int, int]) -> list[ImageObject]:
    where = f"image {index.ids[k]}"
    entries = [read_object(file, *span) for span in index.parts_of(k)]
    if not entries:
        return []
    if len(entries) > 1:
        raise InputError(file, f"one annotation is expected, found {len(entries)}", field=where)
    segments = entries[0].get("segments_info")
    if not isinstance(segments, list):
        raise InputError(file, f"a list is expected, found {type(segments).__name__}", field=f"{where}, segments_info")
    wanted: dict[int, str] = {}
    for n, value in enumerate(segments):
        field = f"{where}, segments_info[{n}]"
        segment: dict[str, Any] = value if isinstance(value, dict) else {}
        number = segment.get("id")
        if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 1 << 24:
            raise InputError(file, f"an id from 1 to {(1 << 24) - 1} is expected, found {number!r:.40}", field=field)
        if number in wanted:
            raise InputError(file, f"segment {number} is listed twice", field=field)
        category = index.categories.get(parse_id(segment.get("category_id")) or "")
        if not parse_is_crowd(file, field, segment) and category is not None:
            wanted[number] = category
    path = safe_join(pngs, parse_file_name(file, where, entries[0]), file, where)
    pixels, _ = read_png(path, *size, ("RGB",), "RGB")
    numbers = pixels.astype(np.int64) @ np.array([1, 256, 65536])
    found = masks.encode_labels(numbers, wanted)
    return [ImageObject(str(number), wanted[number], rle) for number, rle in found.items() if masks.has_pixels(rle)]
