"""BURST: one JSON file per split over the videos of TAO, masks for some of their frames.

``sequences[] {width, height, dataset, seq_name, all_image_paths[], annotated_image_paths[], track_category_ids {track:
category}, segmentations[] {track: {rle, is_gt, score}}}`` and ``categories[] {id, name}``. ``segmentations`` has one
entry for each path of ``annotated_image_paths``; ``rle`` is COCO's compressed text, its size that of the sequence.
Identities are texts. Masks of the train split that no person drew have ``is_gt`` false; that and their score are kept.

Source of the format: ANNOTATION_FORMAT.md and burstapi/{dataset,video}.py of Ali2500/BURST-benchmark. Files
``first_frame_annotations.json`` annotate an object in one frame only, and are not read.

Frames are in ``frames/<split>/<dataset>/<seq_name>/`` or one of the other FRAMES. A video's id is ``dataset/seq_name``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mmvm_data.builders.common.annotation_index import (
    AnnotationIndex,
    group_parts,
    open_index,
    parse_category,
    parse_id,
)
from mmvm_data.builders.common.folders import relative_path
from mmvm_data.builders.common.frames import number_paths, require_two_frames
from mmvm_data.builders.common.json_fields import parse_file_names, parse_side
from mmvm_data.builders.common.json_spans import iter_items, read_object
from mmvm_data.builders.common.segmentations import parse_counts
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
_CACHE_SIZE = 8


def open_burst(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the first split that exists in the root, or the JSON file that the root is.

    Raises:
        InputError: no annotation file, one that cannot be read as a whole, or frames that cannot be found.
    """
    location = find_annotation_file(root, (pattern.format(split=split) for split in SPLITS for pattern in ANNOTATIONS))
    if location is None:
        raise InputError(root, "no annotation file such as train/train.json or val/all_classes.json exists here")
    file, bases = location
    index = open_index(file, cache, "burst", _build_index)
    split = next((part for part in reversed(file.with_suffix("").parts[-2:]) if part in SPLITS), "")
    folders = [pattern.format(split=split) for pattern in FRAMES]
    videos = (index.ids[k] for k in sample_positions(len(index.ids)))
    base, folder = find_frames_folder(bases, folders, videos, file, f"frames/{split or 'train'}", "folder")

    def load(video: str, k: int) -> Video:
        entry = read_object(file, *index.entry_span(k))
        if _sequence_name(entry) != video:
            raise InputError(file, "the file was changed after it was opened", field=f"video {video}")
        return _load_video(name, base, file, folder, index.categories, video, entry)

    return make_indexed_source(name, base, file, index, load)


def _build_index(file: Path) -> AnnotationIndex:
    """Parse the file once; return the byte range of each sequence and the names of the categories."""
    videos: dict[str, tuple[int, int]] = {}
    categories: dict[str, str] = {}
    rejects: list[tuple[str, str, str]] = []
    keys = set()
    for key, position, offset, length, value in iter_items(file):
        field = f"{key}[{position}]"
        if position is None:
            if key in ("sequences", "categories") and not isinstance(value, list):
                raise InputError(file, f"a list is expected, found {type(value).__name__}", field=key)
            keys.add(key)
        elif key == "categories":
            category = parse_category(value)
            if category is None:
                rejects.append(("", "an object with id and name is expected", field))
            else:
                categories.setdefault(*category)
        elif key == "sequences":
            video = _sequence_name(value)
            if video is None:
                rejects.append(("", "an object with dataset and seq_name is expected", field))
            elif video in videos:
                rejects.append((video, "two sequences have this name, the first is read", field))
            else:
                videos[video] = (offset, length)
    for key in ("sequences", "categories"):
        if key not in keys:
            raise InputError(file, f"the key {key!r} is missing")
    ids, spans, row_starts, _ = group_parts(videos, [], np.zeros(0, np.int64))
    return AnnotationIndex(ids, spans, row_starts, np.zeros((0, 2), np.int64), categories, tuple(rejects))


def _sequence_name(entry: Any) -> str | None:
    """Return ``dataset/seq_name``, both of which are names of folders; None when one is missing."""
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
    paths = parse_file_names(file, where, entry, "all_image_paths")
    annotated_paths = parse_file_names(file, where, entry, "annotated_image_paths")
    positions = {path: k for k, path in enumerate(paths)}
    for k, path in enumerate(annotated_paths):
        if path not in positions:
            field = f"{where}, annotated_image_paths[{k}]"
            raise InputError(file, f"{path[:200]!r} is not among all_image_paths", field)
    segmentations = entry.get("segmentations")
    if not isinstance(segmentations, list) or len(segmentations) != len(annotated_paths):
        actual = len(segmentations) if isinstance(segmentations, list) else type(segmentations).__name__
        reason = f"a list of {len(annotated_paths)} is expected, one for each annotated frame, found {actual}"
        raise InputError(file, reason, field=f"{where}, segmentations")
    track_categories = entry.get("track_category_ids")
    if not isinstance(track_categories, dict):
        raise InputError(file, "an object of track: category is expected", field=f"{where}, track_category_ids")
    parts = [*safe_parts(relative_path(root, folder) or ".", file), *safe_parts(video, file, where)]
    frames = tuple(
        Frame(path="/".join([*parts, *safe_parts(path, file, where)]), index=n, width=width, height=height)
        for path, n in zip(paths, number_paths(paths), strict=True)
    )
    entries = {positions[path]: (k, segmentations[k]) for k, path in enumerate(annotated_paths)}

    @lru_cache(_CACHE_SIZE)
    def read(position: int) -> tuple[Region, ...]:
        k, objects = entries[position]
        field = f"{where}, segmentations[{k}]"
        if not isinstance(objects, dict):
            reason = f"an object of track: mask is expected, found {type(objects).__name__}"
            raise InputError(file, reason, field=field)
        size = (height, width)
        regions = (
            _parse_region(file, f"{field}.{track}", track, value, track_categories, categories, size)
            for track, value in objects.items()
        )
        return tuple(region for region in regions if region is not None)

    annotated = require_two_frames(file, tuple(sorted(entries)))
    return Video.lazy(read, id=video, source=name, root=root, frames=frames, annotated=annotated)


def _parse_region(
    file: Path,
    field: str,
    track: str,
    value: Any,
    track_categories: dict[str, Any],
    categories: dict[str, str],
    size: tuple[int, int],
) -> Region | None:
    counts = value.get("rle") if isinstance(value, dict) else None
    if not isinstance(counts, str) or not track or not is_utf8(track):
        raise InputError(file, "a track with a compressed COCO rle is expected", field=field[:200])
    category = parse_id(track_categories.get(track))
    if category is None or category not in categories:
        raise InputError(file, "track_category_ids has no known category for this track", field=field[:200])
    rle = parse_counts(file, f"{field}.rle", counts, size)
    if not masks.has_pixels(rle):
        return None
    score = value.get("score")
    extra: dict[str, Any] = {}
    if value.get("is_gt") is False:
        extra["is_gt"] = False
        if isinstance(score, (int, float)) and not isinstance(score, bool) and math.isfinite(score):
            extra["score"] = score
    return Region(id=track, mask=rle, category=categories[category], extra=extra)
