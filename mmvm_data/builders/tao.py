"""TAO: boxes at one frame a second over videos of seven sets. One JSON a split.

``videos[] {id, name, width, height}``, ``images[] {id, video_id, file_name, width, height, frame_index}``, ``tracks[]
{id, category_id, video_id}``, ``annotations[] {image_id, track_id, bbox, video_id, category_id, iscrowd}``,
``categories[] {id, name}``. ``bbox`` is x, y, width, height in pixels. The images that are listed are those that are
annotated. A track's category stands in its annotations too, and is read there. Crowds are left out.

Source of the format: tao/toolkit/tao/tao.py of TAO-Dataset/tao.

Files: ``annotations/<split>.json`` (or the root is the file); ``file_name`` is relative to ``frames/``.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from mmvm_data.builders.common.annotation_index import AnnotationIndex, parse_id
from mmvm_data.builders.common.coco_index import open_coco_index
from mmvm_data.builders.common.folders import relative_path, require_two_frames
from mmvm_data.builders.common.json_fields import parse_box, parse_side
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
from mmvm_data.io.files import is_utf8, safe_parts

ANNOTATIONS = tuple(
    f"{folder}{split}{ending}.json"
    for folder in ("annotations/", "")
    for split in ("train", "validation", "val")
    for ending in ("", "_with_freeform")
)
FRAMES = ("frames", "images", "")
_KEPT = 8


def open_tao(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the first of ANNOTATIONS that lies in the root, or the file that the root is; a video's id is its number.

    Raises:
        InputError: no annotation file, one that is broken as a whole, or frames that cannot be found.
    """
    given = find_annotation_file(root, ANNOTATIONS)
    if given is None:
        raise InputError(root, "no annotation file such as annotations/train.json lies here")
    file, bases = given
    index = open_coco_index(file, cache, "videos", "video_id", ("images", "annotations"))
    images = (_read_parts(file, index, k)[0] for k in sample_positions(len(index.videos)))
    base, folder = find_frames_folder(
        bases, FRAMES, (found[0]["file_name"] for found in images if found), file, "frames"
    )
    return make_indexed_source(
        name, base, file, index, lambda video, k: _load_video(name, base, file, folder, index, video, k)
    )


def _read_parts(file: Path, index: AnnotationIndex, k: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Images and annotations of a video."""
    entries = [
        read_object(file, *span) for span in index.annotation_spans[index.first[k] : index.first[k + 1]].tolist()
    ]
    images = [entry for entry in entries if "file_name" in entry]
    return images, [entry for entry in entries if "file_name" not in entry]


def _load_video(name: str, root: Path, file: Path, folder: Path, index: AnnotationIndex, video: str, k: int) -> Video:
    images, annotations = _read_parts(file, index, k)
    prefix = [part for part in relative_path(root, folder).split("/") if part]
    frames: dict[str, Frame] = {}
    for image in images:
        where = f"video {video}, image {image.get('id')!r:.40}"
        key, number, path = parse_id(image.get("id")), image.get("frame_index"), image["file_name"]
        if key is None or key in frames:
            raise InputError(file, "an id of its own is expected", field=where)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 10**9:
            raise InputError(file, f"a frame number is expected, found {number!r:.40}", field=f"{where}, frame_index")
        if not isinstance(path, str) or not is_utf8(path):
            raise InputError(file, "a file name is expected", field=f"{where}, file_name")
        width, height = (parse_side(file, where, image, key) for key in ("width", "height"))
        place = "/".join([*prefix, *safe_parts(path, file, f"{where}, file_name")])
        frames[key] = Frame(path=place, index=number, width=width, height=height)
    ordered = sorted(frames, key=lambda key: frames[key].index)
    if len({frame.index for frame in frames.values()}) != len(frames):
        raise InputError(file, "two images are of one frame", field=f"video {video}")
    by_image: dict[str, list[dict[str, Any]]] = {}
    for entry in annotations:
        owner = parse_id(entry.get("image_id"))
        if owner is None or owner not in frames:
            where = f"video {video}, annotation {entry.get('id')!r:.40}, image_id"
            raise InputError(file, "names no image of this video", field=where)
        by_image.setdefault(owner, []).append(entry)

    @lru_cache(_KEPT)
    def read(position: int) -> tuple[Region, ...]:
        found: dict[str, Region] = {}
        for entry in by_image.get(ordered[position], ()):
            where = f"annotation {entry.get('id')!r:.40}"
            region = _parse_region(file, where, entry, index.categories)
            if region is None:
                continue
            if region.id in found:
                raise InputError(file, f"track {region.id} is there twice in one image", field=where)
            found[region.id] = region
        return tuple(found.values())

    return Video.lazy(
        read,
        id=video,
        source=name,
        root=root,
        frames=tuple(frames[key] for key in ordered),
        annotated=require_two_frames(file, tuple(range(len(ordered)))),
        prompt="box",
    )


def _parse_region(file: Path, where: str, entry: dict[str, Any], categories: dict[str, str]) -> Region | None:
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise InputError(file, f"0 or 1 is expected, found {crowd!r:.40}", field=f"{where}, iscrowd")
    if crowd:
        return None
    track, category = parse_id(entry.get("track_id")), parse_id(entry.get("category_id"))
    if track is None:
        raise InputError(file, "an id is expected", field=f"{where}, track_id")
    if category is None or category not in categories:
        raise InputError(file, "names no known category", field=f"{where}, category_id")
    return Region(id=track, box=parse_box(file, where, entry), category=categories[category])
