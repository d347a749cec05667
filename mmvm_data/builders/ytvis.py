"""The YouTube-VIS family: YouTube-VIS 2019 and 2021, OVIS, LV-VIS, UVO. One JSON file for all videos of a split.

``videos[] {id, file_names, width, height, length}``, ``categories[] {id, name}`` and ``annotations[] {id, video_id,
category_id, iscrowd, segmentations[]}``, one segmentation per frame: COCO polygons, an RLE (counts as text or as a
list), or null where the object is not visible. ``bboxes`` and ``areas`` follow from the masks and are not read.
Annotations with ``iscrowd`` 1 are groups, which have no identity: they are skipped. All frames count as annotated. (The
authors of LV-VIS say that not every object of its train split is annotated.)

Source of the format: github.com/youtubevos/cocoapi (PythonAPI/pycocotools/ytvos.py) and the sets' own pages; UVO's
README for its parts: VideoDenseSet is read, VideoSparseSet is not, since most of its masks were predicted by a model.

Annotation file: the first of ANNOTATIONS that exists, splits in the order train, valid, val; else the only JSON file of
this form (SA-Co/VEval has it, with noun phrases as categories); or the root is the JSON file itself. Frames: the first
of FRAMES, below the root (for a file: below its folder, or that folder's parent), that holds the first frame of a
video; a few videos spread over the file are tried.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from mmvm_data.builders.common.annotation_index import AnnotationIndex, open_index, parse_id
from mmvm_data.builders.common.folders import relative_path
from mmvm_data.builders.common.frames import number_paths, require_two_frames
from mmvm_data.builders.common.json_content import find_json_files
from mmvm_data.builders.common.json_fields import parse_file_names, parse_side
from mmvm_data.builders.common.json_spans import iter_items, read_object
from mmvm_data.builders.common.segmentations import compact_segmentation, parse_segmentation
from mmvm_data.builders.common.single_file import (
    find_annotation_file,
    find_frames_folder,
    make_indexed_source,
    sample_positions,
)
from mmvm_data.builders.common.ytvis_index import build_ytvis_index
from mmvm_data.builders.source import Source
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame, Region, Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name, safe_parts

SPLITS = ("train", "valid", "val")
ANNOTATIONS = (
    "{split}.json",
    "{split}/instances.json",
    "{split}/{split}.json",
    "{split}_instances.json",
    "instances_{split}.json",
    "annotations_{split}.json",
    "annotations/{split}.json",
    "annotations/instances_{split}.json",
    "annotations/annotations_{split}.json",
    "annotations/{split}_instances.json",
    "annotations/youtube_vis_2019_{split}.json",
    "annotations/youtube_vis_2021_{split}.json",
    "VideoDenseSet/UVO_video_{split}_dense_with_label.json",
    "VideoDenseSet/UVO_video_{split}_dense.json",
)
FRAMES = (
    "{split}/JPEGImages",
    "JPEGImages/{split}",
    "Images/{split}",
    "{split}",
    "uvo_videos_dense_frames",
    "uvo_videos_frames",
    "JPEGImages",
    "Images",
    "frames",
    "media/saco_sav/JPEGImages_24fps",
    "media/saco_sg/JPEGImages_6fps",
    "media/saco_yt1b/JPEGImages_6fps",
    "",
)
_CACHE_SIZE = 8
_BLOCK_SIZE = 1 << 15
"""Bytes; a larger annotation is read item by item."""
_SPLIT = re.compile(r"(?<![a-z])(train|valid|val)(?![a-z])")


@dataclass(frozen=True)
class Conventions:
    """Conventions of one data set.

    Attributes:
        fps: numbers in its file names per second; None: not known.
        generic_categories: names of categories that mean "any object".
    """

    fps: float | None = None
    generic_categories: tuple[str, ...] = ()


CONVENTIONS = {
    "ytvis": Conventions(),
    "ytvis2021": Conventions(),
    "ovis": Conventions(),
    "lvvis": Conventions(),
    "uvo": Conventions(fps=30.0, generic_categories=("object", "other")),
}


@dataclass(frozen=True)
class _OpenedSet:
    """Paths and index of an opened data set."""

    name: str
    root: Path
    file: Path
    frames: Path
    index: AnnotationIndex


class _Track(NamedTuple):
    """One annotation in compact form.

    Attributes:
        id: identity in the video.
        category: name, or None.
        segmentations: one compact segmentation per frame.
        occlusion: one word of OVIS per frame for the degree of occlusion, or None.
        has_boxes: whether ``bboxes`` has a box in some frame.
    """

    id: str
    category: str | None
    segmentations: list[Any]
    occlusion: list[str] | None
    has_boxes: bool


def open_ytvis(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open a data set of the family.

    Args:
        name: ytvis, ytvis2021, ovis, lvvis or uvo.
        root: its folder, or one JSON file of it.
        cache: folder for the index of the JSON file (see ``common.annotation_index``), or None.

    Raises:
        InputError: no annotation file, one that cannot be read as a whole, or frames that cannot be found.
    """
    location = find_annotation_file(root, ())
    file, bases = location or (_find_annotations(root), (root,))
    index = open_index(file, cache, "ytvis", build_ytvis_index)
    base, folder = _find_frames(bases, file, index)
    opened = _OpenedSet(name, base, file, folder, index)
    return make_indexed_source(name, base, file, index, lambda video, k: _load_video(opened, video, k))


def _find_annotations(root: Path) -> Path:
    for split in SPLITS:
        for pattern in ANNOTATIONS:
            file = root / pattern.format(split=split)
            if path_kind(file) == "file":
                return file
    files = list_names(root, (".json",))
    if "instances.json" in files:
        return root / "instances.json"
    if len(files) == 1:
        return root / files[0]
    by_content = find_json_files(root, "ytvis")
    if len(by_content) == 1:
        return by_content[0]
    if by_content:
        files = [printable_name(relative_path(root, file)) for file in by_content]
    if files:
        examples = ", ".join(printable_name(name) for name in files[:5])
        raise InputError(
            root, f"several JSON files and none named as published ({examples}); use one of them as the root"
        )
    raise InputError(root, "no annotation file such as train.json or train/instances.json exists here")


def _find_frames(bases: tuple[Path, ...], file: Path, index: AnnotationIndex) -> tuple[Path, Path]:
    """Return the base that holds the frames, and the folder that ``file_names`` are relative to."""
    splits = _SPLIT.findall("/".join(file.parts[-2:]).lower())
    split = splits[-1] if splits else ""
    splits = [split] if split else list(SPLITS)
    folders = list(dict.fromkeys(pattern.format(split=name) for pattern in FRAMES for name in splits))
    entries = (read_object(file, *index.entry_span(k)) for k in sample_positions(len(index.ids)))
    first_files = (next(iter(files), None) for entry in entries if isinstance(files := entry.get("file_names"), list))
    return find_frames_folder(bases, folders, first_files, file, f"{split or '.'}/JPEGImages")


def _load_video(opened: _OpenedSet, video: str, k: int) -> Video:
    file = opened.file
    entry = read_object(file, *opened.index.entry_span(k))
    if parse_id(entry.get("id")) != video:
        raise InputError(file, "the file was changed after it was opened", field=f"video {video}")
    frames = _list_frames(opened, video, entry)
    return Video.lazy(
        _make_reader(opened, video, k, frames),
        id=video,
        source=opened.name,
        root=opened.root,
        frames=frames,
        annotated=require_two_frames(file, tuple(range(len(frames)))),
    )


def _list_frames(opened: _OpenedSet, video: str, entry: dict[str, Any]) -> tuple[Frame, ...]:
    file, where = opened.file, f"video {video}"
    size = [parse_side(file, where, entry, key) for key in ("width", "height")]
    files = parse_file_names(file, where, entry, "file_names")
    length = entry.get("length", len(files))
    if length != len(files):
        raise InputError(file, f"length is {length!r:.40}, but there are {len(files)} files", field=f"{where}, length")
    folder = [part for part in relative_path(opened.root, opened.frames).split("/") if part]
    paths = ["/".join(folder + safe_parts(name, file, f"{where}, file_names[{k}]")) for k, name in enumerate(files)]
    fps = CONVENTIONS.get(opened.name, Conventions()).fps
    return tuple(
        Frame(path=path, index=n, width=size[0], height=size[1], time=n / fps if fps else None)
        for path, n in zip(paths, number_paths(paths), strict=True)
    )


def _make_reader(
    opened: _OpenedSet, video: str, k: int, frames: tuple[Frame, ...]
) -> Callable[[int], tuple[Region, ...]]:
    """Return the function for ``Video.lazy``; the video's annotations are read on its first call."""
    size = (frames[0].height, frames[0].width) if frames else (0, 0)

    @lru_cache(1)
    def load_tracks() -> list[_Track]:
        tracks = list(_read_tracks(opened, video, k, size))
        if any(track.has_boxes for track in tracks) and not any(any(track.segmentations) for track in tracks):
            reason = "annotations have boxes only (bboxes without segmentations); masks are needed"
            raise InputError(opened.file, reason, field=f"video {video}")
        return tracks

    @lru_cache(_CACHE_SIZE)
    def read(position: int) -> tuple[Region, ...]:
        regions, tracks = [], load_tracks()
        segmentations = [track.segmentations[position] for track in tracks]
        masks.prefetch_counts([value for value in segmentations if isinstance(value, bytes)], size)
        for track in tracks:
            where = f"annotation {track.id}, segmentations[{position}]"
            rle = parse_segmentation(opened.file, where, track.segmentations[position], size)
            if rle is not None and masks.has_pixels(rle):
                extra = {"occlusion": track.occlusion[position]} if track.occlusion else {}
                regions.append(Region(id=track.id, mask=rle, category=track.category, extra=extra))
        return tuple(regions)

    return read


def _read_tracks(opened: _OpenedSet, video: str, k: int, size: tuple[int, int]) -> Iterator[_Track]:
    index = opened.index
    generic = CONVENTIONS.get(opened.name, Conventions()).generic_categories
    for offset, length in index.parts_of(k):
        values = _read_annotation(opened.file, offset, length, size)
        track, segmentations = parse_id(values.get("id")), values.get("segmentations")
        if parse_id(values.get("video_id")) != video or track is None or not isinstance(segmentations, list):
            raise InputError(opened.file, "the file was changed after it was opened", field=f"byte {offset}")
        name = index.categories.get(parse_id(values.get("category_id")) or "")
        occlusion = _parse_occlusion(values.get("occlusion"), len(segmentations))
        boxes = values.get("bboxes")
        has_boxes = isinstance(boxes, list) and any(boxes)
        yield _Track(track, None if name in generic else name, segmentations, occlusion, has_boxes)


def _read_annotation(file: Path, offset: int, length: int, size: tuple[int, int]) -> dict[str, Any]:
    """Return the fields of an annotation, with compact masks.

    A large one is read item by item: masks as ``json`` parses them take up to five times their bytes in the file.
    """
    if length <= _BLOCK_SIZE:
        values = read_object(file, offset, length)
        if isinstance(values.get("segmentations"), list):
            values["segmentations"] = [compact_segmentation(value, size) for value in values["segmentations"]]
        return values
    values = {}
    try:
        for item in iter_items(file, offset, length, _BLOCK_SIZE):
            if item.position is None:
                values[item.key] = item.value
            elif item.key == "segmentations":
                values[item.key].append(compact_segmentation(item.value, size))
            elif item.key == "occlusion" or (item.key == "bboxes" and item.value and not values[item.key]):
                values[item.key].append(item.value)
    except InputError as error:
        reason = f"{error.reason} (the file may have been changed after it was opened)"
        raise InputError(file, reason, field=error.field) from error
    return values


def _parse_occlusion(value: Any, length: int) -> list[str] | None:
    """Return ``occlusion`` of OVIS; None when it is not one text per frame."""
    if not isinstance(value, list) or len(value) != length:
        return None
    return value if all(isinstance(word, str) and is_utf8(word) for word in value) else None
