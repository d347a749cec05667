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

from mmvm_data import masks
from mmvm_data.builders.fields import file_names, side
from mmvm_data.builders.folders import at_least_two, number, relative
from mmvm_data.builders.jsonspans import Item, items, read_object
from mmvm_data.builders.source import Source
from mmvm_data.builders.ytvis_index import Index, label, open_index
from mmvm_data.errors import InputError, Reject
from mmvm_data.files import inside, is_utf8, kind, printable, steps
from mmvm_data.types import Frame, Region, Video

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
    if kind(root) == "file":
        file = root.absolute()
        bases: tuple[Path, ...] = (file.parent, file.parent.parent)
    else:
        file, bases = _annotation_file(root), (root,)
    index = open_index(file, cache, "burst", _index)
    base, folder = _frames_folder(bases, file, index)
    inner = relative(base, file) if file.is_relative_to(base) else printable(file.name)
    rejects = tuple(sorted(Reject(name, video, -1, reason, inner, field) for video, reason, field in index.rejects))
    numbers = {video: k for k, video in enumerate(index.videos)}

    def load(video: str) -> Video:
        if video not in numbers:
            raise InputError(file, f"there is no usable video {printable(video)!r}")
        entry = read_object(file, *index.video_spans[numbers[video]].tolist())
        if _name(entry) != video:
            raise InputError(file, "the file was changed after it was opened", field=f"video {video}")
        return _load(name, base, file, folder, index.categories, video, entry)

    return Source(name, base, index.videos, load, rejects)


def _annotation_file(root: Path) -> Path:
    for split in SPLITS:
        for pattern in ANNOTATIONS:
            file = root / pattern.format(split=split)
            if kind(file) == "file":
                return file
    raise InputError(root, "no annotation file such as train/train.json or val/all_classes.json lies here")


def _index(file: Path) -> Index:
    """Where each sequence lies in the file, and what the categories are called."""
    videos: dict[str, tuple[int, int]] = {}
    categories: dict[str, str] = {}
    rejects: list[tuple[str, str, str]] = []
    seen = set()
    for item in items(file):
        if item.place is None:
            if item.key in ("sequences", "categories") and not isinstance(item.value, list):
                raise InputError(file, f"a list is expected, found {type(item.value).__name__}", field=item.key)
            seen.add(item.key)
        elif item.key == "categories":
            _category(item, categories, rejects)
        elif item.key == "sequences":
            where = f"sequences[{item.place}]"
            video = _name(item.value)
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
    return Index(tuple(videos), spans, np.zeros(len(videos) + 1, np.int64), nothing, categories, tuple(rejects))


def _category(item: Item, categories: dict[str, str], rejects: list[tuple[str, str, str]]) -> None:
    value = item.value if isinstance(item.value, dict) else {}
    key, name = label(value.get("id")), value.get("name")
    if key is None or not isinstance(name, str) or not name or not is_utf8(name):
        rejects.append(("", "an object with id and name is expected", f"categories[{item.place}]"))
    else:
        categories.setdefault(key, name)


def _name(entry: Any) -> str | None:
    """``dataset/seq_name``, both of which are names of folders."""
    if not isinstance(entry, dict):
        return None
    dataset, sequence = entry.get("dataset"), entry.get("seq_name")
    if not isinstance(dataset, str) or not isinstance(sequence, str) or not dataset or not sequence:
        return None
    return f"{dataset}/{sequence}" if is_utf8(dataset) and is_utf8(sequence) else None


def _frames_folder(bases: tuple[Path, ...], file: Path, index: Index) -> tuple[Path, Path]:
    """The base that holds the frames, and the folder that the videos' folders lie in. A few videos are looked for: a
    set need not be there whole."""
    split = next((part for part in reversed(file.with_suffix("").parts[-2:]) if part in SPLITS), "")
    missing = None
    for k in np.unique(np.linspace(0, max(len(index.videos) - 1, 0), 20, dtype=int)) if index.videos else ():
        for base in bases:
            for pattern in FRAMES:
                folder = base / pattern.format(split=split)
                try:
                    if kind(inside(folder, index.videos[k], file)) == "folder":
                        return base, folder
                except InputError:
                    continue
        missing = missing or index.videos[k]
    if missing is None:
        return bases[0], bases[0]
    raise InputError(bases[0], f"frames not found: no folder such as frames/{split or 'train'} holds {missing[:200]}")


def _load(
    name: str, root: Path, file: Path, folder: Path, categories: dict[str, str], video: str, entry: dict[str, Any]
) -> Video:
    where = f"sequence {video}"
    width, height = (side(file, where, entry, key) for key in ("width", "height"))
    every, marked = (file_names(file, where, entry, key) for key in ("all_image_paths", "annotated_image_paths"))
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
    parts = [*steps(relative(root, folder) or ".", file), *steps(video, file, where)]
    numbers = [number(Path(path).stem) for path in every]
    if None in numbers or any(b <= a for a, b in pairwise(n for n in numbers if n is not None)):
        numbers = list(range(len(every)))
    frames = tuple(
        Frame(path="/".join([*parts, *steps(path, file, where)]), index=n or 0, width=width, height=height)
        for path, n in zip(every, numbers, strict=True)
    )
    entries = {place[path]: (k, segmentations[k]) for k, path in enumerate(marked)}

    @lru_cache(_KEPT)
    def read(position: int) -> tuple[Region, ...]:
        k, objects = entries[position]
        field = f"{where}, segmentations[{k}]"
        if not isinstance(objects, dict):
            raise InputError(file, f"an object of track: mask is expected, found {type(objects).__name__}", field=field)
        found = (_region(file, f"{field}.{t}", t, o, tracks, categories, (height, width)) for t, o in objects.items())
        return tuple(region for region in found if region is not None)

    annotated = at_least_two(file, tuple(sorted(entries)))
    return Video.lazy(read, id=video, source=name, root=root, frames=frames, annotated=annotated)


def _region(
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
    category = label(tracks.get(track))
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
