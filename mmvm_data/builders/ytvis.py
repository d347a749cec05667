"""The YouTube-VIS family: YouTube-VIS 2019 and 2021, OVIS, LV-VIS, UVO. One JSON for all videos of a split.

``videos[] {id, file_names, width, height, length}``, ``categories[] {id, name}`` and ``annotations[] {id, video_id,
category_id, iscrowd, segmentations[]}``, a segmentation a frame: COCO polygons, an RLE (counts as text or as a list),
or null where the object is not visible. ``bboxes`` and ``areas`` follow from the masks and are not read. Annotations
with ``iscrowd`` 1 mark groups, which have no identity: they are left out. All frames count as annotated. (The authors
of LV-VIS say that not every object of its train split is annotated.)

Source of the format: github.com/youtubevos/cocoapi (PythonAPI/pycocotools/ytvos.py) and the sets' own pages; UVO's
README for its parts: VideoDenseSet is read, VideoSparseSet is not, since most of its masks were made by a model.

Where files lie: the first of ANNOTATIONS that exists, splits in the order train, valid, val; or the root is the JSON
file itself. Frames: the first of FRAMES, below the root (for a file: below its folder, or the folder above that), that
holds the first frame of a video; a few videos over the whole file are tried.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from mmvm_data.builders.common.annotation_index import AnnotationIndex, open_index, parse_id
from mmvm_data.builders.common.folders import relative_path, require_two_frames, trailing_number
from mmvm_data.builders.common.json_fields import parse_file_names, parse_side
from mmvm_data.builders.common.json_spans import iter_items, read_object
from mmvm_data.builders.common.segmentations import compact_segmentation, parse_segmentation
from mmvm_data.builders.common.single_file import (
    find_annotation_file,
    find_frames_folder,
    make_indexed_source,
    sample_positions,
)
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
    "",
)
_KEPT = 8
_BLOCK = 1 << 15
_SPLIT = re.compile(r"(?<![a-z])(train|valid|val)(?![a-z])")


@dataclass(frozen=True)
class Conventions:
    """What is particular to a set: frames a second of the numbers in its file names (None: the set does not say), and
    names of categories that stand for "any object"."""

    fps: float | None = None
    nameless: tuple[str, ...] = ()


CONVENTIONS = {
    "ytvis": Conventions(),
    "ytvis2021": Conventions(),
    "ovis": Conventions(),
    "lvvis": Conventions(),
    "uvo": Conventions(fps=30.0, nameless=("object", "other")),
}


@dataclass(frozen=True)
class _OpenedSet:
    """An opened set: where its parts lie."""

    name: str
    root: Path
    file: Path
    frames: Path
    index: AnnotationIndex


class _Track(NamedTuple):
    """One annotation, as small as it can be kept: an entry a frame, and OVIS's words for how much it is covered."""

    id: str
    category: str | None
    entries: list[Any]
    occlusion: list[str] | None


def open_ytvis(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open a set of the family.

    Args:
        name: ytvis, ytvis2021, ovis, lvvis or uvo.
        root: its folder, or one JSON file of it.
        cache: folder for the index of the JSON (see ``ytvis_index``), or None.

    Raises:
        InputError: no annotation file, one that cannot be read as a whole, or frames that cannot be found.
    """
    given = find_annotation_file(root, ())
    file, bases = given or (_find_annotations(root), (root,))
    index = open_index(file, cache)
    base, folder = _find_frames(bases, file, index)
    place = _OpenedSet(name, base, file, folder, index)
    return make_indexed_source(name, base, file, index, lambda video, k: _load_video(place, video, k))


def _find_annotations(root: Path) -> Path:
    for split in SPLITS:
        for pattern in ANNOTATIONS:
            file = root / pattern.format(split=split)
            if path_kind(file) == "file":
                return file
    found = list_names(root, (".json",))
    if "instances.json" in found:
        return root / "instances.json"
    if len(found) == 1:
        return root / found[0]
    if found:
        listed = ", ".join(printable_name(file) for file in found[:5])
        raise InputError(root, f"several JSON files and none named as published ({listed}); name one as the root")
    raise InputError(root, "no annotation file such as train.json or train/instances.json lies here")


def _find_frames(bases: tuple[Path, ...], file: Path, index: AnnotationIndex) -> tuple[Path, Path]:
    """The base that holds the frames, and the folder that ``parse_file_names`` are relative to."""
    found = _SPLIT.findall("/".join(file.parts[-2:]).lower())
    split = found[-1] if found else ""
    folders = [pattern.format(split=split) for pattern in FRAMES if split or "{split}" not in pattern]
    entries = (read_object(file, *index.video_spans[k].tolist()) for k in sample_positions(len(index.videos)))
    first = (next(iter(listed), None) for entry in entries if isinstance(listed := entry.get("file_names"), list))
    return find_frames_folder(bases, folders, first, file, f"{split or '.'}/JPEGImages")


def _load_video(place: _OpenedSet, video: str, k: int) -> Video:
    file = place.file
    entry = read_object(file, *place.index.video_spans[k].tolist())
    if parse_id(entry.get("id")) != video:
        raise InputError(file, "the file was changed after it was opened", field=f"video {video}")
    frames = _list_frames(place, video, entry)
    return Video.lazy(
        _make_reader(place, video, k, frames),
        id=video,
        source=place.name,
        root=place.root,
        frames=frames,
        annotated=require_two_frames(file, tuple(range(len(frames)))),
    )


def _list_frames(place: _OpenedSet, video: str, entry: dict[str, Any]) -> tuple[Frame, ...]:
    file, where = place.file, f"video {video}"
    size = [parse_side(file, where, entry, key) for key in ("width", "height")]
    listed = parse_file_names(file, where, entry, "file_names")
    length = entry.get("length", len(listed))
    if length != len(listed):
        raise InputError(file, f"length is {length!r:.40}, but there are {len(listed)} files", field=f"{where}, length")
    folder = [part for part in relative_path(place.root, place.frames).split("/") if part]
    paths = ["/".join(folder + safe_parts(name, file, f"{where}, file_names[{k}]")) for k, name in enumerate(listed)]
    found = [trailing_number(os.path.splitext(os.path.basename(path))[0]) for path in paths]
    numbers = [n for n in found if n is not None]
    if len(numbers) < len(paths) or any(b <= a for a, b in pairwise(numbers)):
        numbers = list(range(len(paths)))
    fps = CONVENTIONS.get(place.name, Conventions()).fps
    return tuple(
        Frame(path=path, index=n, width=size[0], height=size[1], time=n / fps if fps else None)
        for path, n in zip(paths, numbers, strict=True)
    )


def _make_reader(
    place: _OpenedSet, video: str, k: int, frames: tuple[Frame, ...]
) -> Callable[[int], tuple[Region, ...]]:
    """A function for ``Video.lazy``; the video's annotations are read when it is called first."""
    size = (frames[0].height, frames[0].width) if frames else (0, 0)

    @lru_cache(1)
    def tracks() -> list[_Track]:
        return list(_read_tracks(place, video, k, size))

    @lru_cache(_KEPT)
    def read(position: int) -> tuple[Region, ...]:
        found = []
        masks.prefetch_counts([t.entries[position] for t in tracks() if isinstance(t.entries[position], bytes)], size)
        for track in tracks():
            where = f"annotation {track.id}, segmentations[{position}]"
            rle = parse_segmentation(place.file, where, track.entries[position], size)
            if rle is not None and masks.area(rle):
                extra = {"occlusion": track.occlusion[position]} if track.occlusion else {}
                found.append(Region(id=track.id, mask=rle, category=track.category, extra=extra))
        return tuple(found)

    return read


def _read_tracks(place: _OpenedSet, video: str, k: int, size: tuple[int, int]) -> Iterator[_Track]:
    index = place.index
    nameless = CONVENTIONS.get(place.name, Conventions()).nameless
    for offset, length in index.annotation_spans[index.first[k] : index.first[k + 1]].tolist():
        values = _read_annotation(place.file, offset, length, size)
        track, entries = parse_id(values.get("id")), values.get("segmentations")
        if parse_id(values.get("video_id")) != video or track is None or not isinstance(entries, list):
            raise InputError(place.file, "the file was changed after it was opened", field=f"byte {offset}")
        name = index.categories.get(parse_id(values.get("category_id")) or "")
        words = _parse_occlusion(values.get("occlusion"), len(entries))
        yield _Track(track, None if name in nameless else name, entries, words)


def _read_annotation(file: Path, offset: int, length: int, size: tuple[int, int]) -> dict[str, Any]:
    """An annotation's fields, its masks compact. A large one is read item by item: masks as json gives them take up to
    five times their bytes in the file."""
    if length <= _BLOCK:
        values = read_object(file, offset, length)
        if isinstance(values.get("segmentations"), list):
            values["segmentations"] = [compact_segmentation(part, size) for part in values["segmentations"]]
        return values
    values = {}
    try:
        for item in iter_items(file, offset, length, _BLOCK):
            if item.place is None:
                values[item.key] = item.value
            elif item.key == "segmentations":
                values[item.key].append(compact_segmentation(item.value, size))
            elif item.key == "occlusion":
                values[item.key].append(item.value)
    except InputError as error:
        reason = f"{error.reason} (the file may have been changed after it was opened)"
        raise InputError(file, reason, field=error.field) from error
    return values


def _parse_occlusion(value: Any, length: int) -> list[str] | None:
    """OVIS's ``occlusion``, where it is a text a frame."""
    if not isinstance(value, list) or len(value) != length:
        return None
    return value if all(isinstance(word, str) and is_utf8(word) for word in value) else None
