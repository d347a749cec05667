"""BURST: one JSON a split over the videos of TAO, masks for some of their frames.

``sequences[] {width, height, dataset, seq_name, all_image_paths[], annotated_image_paths[], track_category_ids {track:
category}, segmentations[] {track: {rle, is_gt, score}}}`` and ``categories[] {id, name}``. ``segmentations`` has an
entry for each path of ``annotated_image_paths``; ``rle`` is COCO's compressed text, its size that of the sequence.
Identities are texts. Masks of the train split that no person drew have ``is_gt`` false; that and their score are kept.

Source of the format: ANNOTATION_FORMAT.md and burstapi/{dataset,video}.py of Ali2500/BURST-benchmark. Files
``first_frame_annotations.json`` mark an object in one frame only, and are not looked for.

Frames lie in ``frames/<split>/<dataset>/<seq_name>/`` or one of the other FRAMES. A video's id is ``dataset/seq_name``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mmvm_data.builders.common.annotation_index import AnnotationIndex, open_index, parse_id
from mmvm_data.builders.common.folders import relative_path, require_two_frames, trailing_number
from mmvm_data.builders.common.json_fields import parse_file_names, parse_side
from mmvm_data.builders.common.json_spans import JsonItem, iter_items, read_object
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
from mmvm_data.io.files import is_utf8, safe_parts

ANNOTATIONS = (
    "{split}/{split}.json",
    "{split}/all_classes.json",
    "annotations/{split}/{split}.json",
    "annotations/{split}/all_classes.json",
    "{split}.json",
    "annotations/{split}.json",
)
SPLITS = ("train", "val", "validation", "test")
FRAMES = ("frames/{split}", "images/{split}", "{split}/frames", "{split}", "frames", "images", "")
_KEPT = 8


def open_burst(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the first split that lies in the root, or the JSON file that the root is.

    Raises:
        InputError: no annotation file, one that is broken as a whole, or frames that cannot be found.
    """
    given = find_annotation_file(root, (pattern.format(split=split) for split in SPLITS for pattern in ANNOTATIONS))
    if given is None:
        raise InputError(root, "no annotation file such as train/train.json or val/all_classes.json lies here")
    file, bases = given
    index = open_index(file, cache, "burst", _build_index)
    split = next((part for part in reversed(file.with_suffix("").parts[-2:]) if part in SPLITS), "")
    folders = [pattern.format(split=split) for pattern in FRAMES]
    videos = (index.videos[k] for k in sample_positions(len(index.videos)))
    base, folder = find_frames_folder(bases, folders, videos, file, f"frames/{split or 'train'}", "folder")

    def load(video: str, k: int) -> Video:
        entry = read_object(file, *index.video_spans[k].tolist())
        if _sequence_name(entry) != video:
            raise InputError(file, "the file was changed after it was opened", field=f"video {video}")
        return _load_video(name, base, file, folder, index.categories, video, entry)

    return make_indexed_source(name, base, file, index, load)


def _build_index(file: Path) -> AnnotationIndex:
    """Where each sequence lies in the file, and what the categories are called."""
    videos: dict[str, tuple[int, int]] = {}
    categories: dict[str, str] = {}
    rejects: list[tuple[str, str, str]] = []
    seen = set()
    for item in iter_items(file):
        if item.place is None:
            if item.key in ("sequences", "categories") and not isinstance(item.value, list):
                raise InputError(file, f"a list is expected, found {type(item.value).__name__}", field=item.key)
            seen.add(item.key)
        elif item.key == "categories":
            _add_category(item, categories, rejects)
        elif item.key == "sequences":
            where = f"sequences[{item.place}]"
            video = _sequence_name(item.value)
            if video is None:
                rejects.append(("", "an object with dataset and seq_name is expected", where))
            elif video in videos:
                rejects.append((video, "two sequences have this name, the first is read", where))
            else:
                videos[video] = (item.offset, item.length)
    for key in ("sequences", "categories"):
        if key not in seen:
            raise InputError(file, f"the key {key!r} is missing")
    spans = np.array(list(videos.values()), np.int64).reshape(-1, 2)
    nothing = np.zeros((0, 2), np.int64)
    return AnnotationIndex(
        tuple(videos), spans, np.zeros(len(videos) + 1, np.int64), nothing, categories, tuple(rejects)
    )


def _add_category(item: JsonItem, categories: dict[str, str], rejects: list[tuple[str, str, str]]) -> None:
    value = item.value if isinstance(item.value, dict) else {}
    key, name = parse_id(value.get("id")), value.get("name")
    if key is None or not isinstance(name, str) or not name or not is_utf8(name):
        rejects.append(("", "an object with id and name is expected", f"categories[{item.place}]"))
    else:
        categories.setdefault(key, name)


def _sequence_name(entry: Any) -> str | None:
    """``dataset/seq_name``, both of which are names of folders."""
    if not isinstance(entry, dict):
        return None
    dataset, sequence = entry.get("dataset"), entry.get("seq_name")
    if not isinstance(dataset, str) or not isinstance(sequence, str) or not dataset or not sequence:
        return None
    return f"{dataset}/{sequence}" if is_utf8(dataset) and is_utf8(sequence) else None


def _load_video(
    name: str, root: Path, file: Path, folder: Path, categories: dict[str, str], video: str, entry: dict[str, Any]
) -> Video:
    where = f"sequence {video}"
    width, height = (parse_side(file, where, entry, key) for key in ("width", "height"))
    every, marked = (parse_file_names(file, where, entry, key) for key in ("all_image_paths", "annotated_image_paths"))
    place = {path: k for k, path in enumerate(every)}
    for k, path in enumerate(marked):
        if path not in place:
            raise InputError(
                file, f"{path[:200]!r} is not among all_image_paths", f"{where}, annotated_image_paths[{k}]"
            )
    segmentations = entry.get("segmentations")
    if not isinstance(segmentations, list) or len(segmentations) != len(marked):
        found = len(segmentations) if isinstance(segmentations, list) else type(segmentations).__name__
        reason = f"a list of {len(marked)} is expected, one for each annotated frame, found {found}"
        raise InputError(file, reason, field=f"{where}, segmentations")
    tracks = entry.get("track_category_ids")
    if not isinstance(tracks, dict):
        raise InputError(file, "an object of track: category is expected", field=f"{where}, track_category_ids")
    parts = [*safe_parts(relative_path(root, folder) or ".", file), *safe_parts(video, file, where)]
    numbers = [trailing_number(Path(path).stem) for path in every]
    if None in numbers or any(b <= a for a, b in pairwise(n for n in numbers if n is not None)):
        numbers = list(range(len(every)))
    frames = tuple(
        Frame(path="/".join([*parts, *safe_parts(path, file, where)]), index=n or 0, width=width, height=height)
        for path, n in zip(every, numbers, strict=True)
    )
    entries = {place[path]: (k, segmentations[k]) for k, path in enumerate(marked)}

    @lru_cache(_KEPT)
    def read(position: int) -> tuple[Region, ...]:
        k, objects = entries[position]
        field = f"{where}, segmentations[{k}]"
        if not isinstance(objects, dict):
            raise InputError(file, f"an object of track: mask is expected, found {type(objects).__name__}", field=field)
        found = (
            _parse_region(file, f"{field}.{t}", t, o, tracks, categories, (height, width)) for t, o in objects.items()
        )
        return tuple(region for region in found if region is not None)

    annotated = require_two_frames(file, tuple(sorted(entries)))
    return Video.lazy(read, id=video, source=name, root=root, frames=frames, annotated=annotated)


def _parse_region(
    file: Path,
    field: str,
    track: str,
    value: Any,
    tracks: dict[str, Any],
    categories: dict[str, str],
    size: tuple[int, int],
) -> Region | None:
    counts = value.get("rle") if isinstance(value, dict) else None
    if not isinstance(counts, str) or not track or not is_utf8(track):
        raise InputError(file, "a track with an rle in COCO's coding is expected", field=field[:200])
    category = parse_id(tracks.get(track))
    if category is None or category not in categories:
        raise InputError(file, "track_category_ids names no known category for this track", field=field[:200])
    try:
        rle = masks.from_counts(counts, size)
    except ValueError as error:
        raise InputError(file, str(error), field=f"{field}.rle") from error
    if not masks.area(rle):
        return None
    score = value.get("score")
    extra: dict[str, Any] = {}
    if value.get("is_gt") is False:
        extra["is_gt"] = False
        if isinstance(score, (int, float)) and not isinstance(score, bool) and math.isfinite(score):
            extra["score"] = score
    return Region(id=track, mask=rle, category=categories[category], extra=extra)
