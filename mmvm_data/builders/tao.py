"""TAO: boxes at one frame per second over videos of seven data sets. One JSON file per split.

``videos[] {id, name, width, height}``, ``images[] {id, video_id, file_name, width, height, frame_index}``, ``tracks[]
{id, category_id, video_id}``, ``annotations[] {image_id, track_id, bbox, video_id, category_id, iscrowd}``,
``categories[] {id, name}``. ``bbox`` is x, y, width, height in pixels. The listed images are the annotated ones. A
track's category is repeated in its annotations, and read there. Crowds are skipped.

Source of the format: tao/toolkit/tao/tao.py of TAO-Dataset/tao.

Files: ``annotations/<split>.json`` (or the root is the file); ``file_name`` is relative to ``frames/``.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from mmvm_data.builders.common.annotation_index import AnnotationIndex, parse_id
from mmvm_data.builders.common.coco_index import open_coco_index
from mmvm_data.builders.common.folders import relative_path
from mmvm_data.builders.common.frames import require_two_frames
from mmvm_data.builders.common.json_fields import parse_box, parse_file_name, parse_is_crowd, parse_side
from mmvm_data.builders.common.json_spans import read_object
from mmvm_data.builders.common.single_file import (
    find_annotation_file,
    find_frames_folder,
    make_indexed_source,
    sample_positions,
)
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame, Region, Video
from mmvm_data.io.files import safe_parts

ANNOTATIONS = tuple(
    f"{folder}{split}{suffix}.json"
    for folder in ("annotations/", "")
    for split in ("train", "validation", "val")
    for suffix in ("", "_with_freeform")
)
FRAMES = ("frames", "images", "")
_CACHE_SIZE = 8


def open_tao(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the first of ANNOTATIONS that exists in the root, or the file that the root is; a video's id is its number.

    Raises:
        InputError: no annotation file, one that cannot be read as a whole, or frames that cannot be found.
    """
    location = find_annotation_file(root, ANNOTATIONS)
    if location is None:
        raise InputError(root, "no annotation file such as annotations/train.json exists here")
    file, bases = location
    index = open_coco_index(file, cache, "videos", "video_id", ("images", "annotations"))
    image_lists = (_read_parts(file, index, k)[0] for k in sample_positions(len(index.ids)))
    paths = (images[0]["file_name"] for images in image_lists if images)
    base, folder = find_frames_folder(bases, FRAMES, paths, file, "frames")

    def load(video: str, k: int) -> Video:
        return _load_video(name, base, file, folder, index, video, k)

    return make_indexed_source(name, base, file, index, load)


def _read_parts(file: Path, index: AnnotationIndex, k: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the images and the annotations of a video."""
    entries = [read_object(file, *span) for span in index.parts_of(k)]
    images = [entry for entry in entries if "file_name" in entry]
    return images, [entry for entry in entries if "file_name" not in entry]


def _load_video(name: str, root: Path, file: Path, folder: Path, index: AnnotationIndex, video: str, k: int) -> Video:
    images, annotations = _read_parts(file, index, k)
    prefix = [part for part in relative_path(root, folder).split("/") if part]
    frames: dict[str, Frame] = {}
    for image in images:
        where = f"video {video}, image {image.get('id')!r:.40}"
        image_id, number = parse_id(image.get("id")), image.get("frame_index")
        if image_id is None or image_id in frames:
            raise InputError(file, "a unique id is expected", field=where)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 10**9:
            raise InputError(file, f"a frame number is expected, found {number!r:.40}", field=f"{where}, frame_index")
        name_in_file = parse_file_name(file, where, image)
        width, height = (parse_side(file, where, image, key) for key in ("width", "height"))
        path = "/".join([*prefix, *safe_parts(name_in_file, file, f"{where}, file_name")])
        frames[image_id] = Frame(path=path, index=number, width=width, height=height)
    ordered = sorted(frames, key=lambda image_id: frames[image_id].index)
    if len({frame.index for frame in frames.values()}) != len(frames):
        raise InputError(file, "two images have the same frame_index", field=f"video {video}")
    by_image: dict[str, list[dict[str, Any]]] = {}
    for entry in annotations:
        owner = parse_id(entry.get("image_id"))
        if owner is None or owner not in frames:
            where = f"video {video}, annotation {entry.get('id')!r:.40}, image_id"
            raise InputError(file, "not an image of this video", field=where)
        by_image.setdefault(owner, []).append(entry)

    @lru_cache(_CACHE_SIZE)
    def read(position: int) -> tuple[Region, ...]:
        regions: dict[str, Region] = {}
        for entry in by_image.get(ordered[position], ()):
            where = f"annotation {entry.get('id')!r:.40}"
            if parse_is_crowd(file, where, entry):
                continue
            region = _parse_region(file, where, entry, index.categories)
            if region.id in regions:
                raise InputError(file, f"track {region.id} occurs twice in one image", field=where)
            regions[region.id] = region
        return tuple(regions.values())

    return Video.lazy(
        read,
        id=video,
        source=name,
        root=root,
        frames=tuple(frames[image_id] for image_id in ordered),
        annotated=require_two_frames(file, tuple(range(len(ordered)))),
        prompt="box",
    )


def _parse_region(file: Path, where: str, entry: dict[str, Any], categories: dict[str, str]) -> Region:
    track, category = parse_id(entry.get("track_id")), parse_id(entry.get("category_id"))
    if track is None:
        raise InputError(file, "an id is expected", field=f"{where}, track_id")
    if category is None or category not in categories:
        raise InputError(file, "not in the list of categories", field=f"{where}, category_id")
    return Region(id=track, box=parse_box(file, where, entry), category=categories[category])
