"""The index of a YouTube-VIS-style file (see ``ytvis`` for the format and ``annotation_index`` for what is kept).

While the file is parsed, everything that spans several entries is checked: unique ids, unknown videos and categories,
one segmentation for each frame.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmvm_data.builders.common.annotation_index import AnnotationIndex, group_parts, parse_category, parse_id
from mmvm_data.builders.common.json_spans import JsonItem, iter_items
from mmvm_data.core.errors import InputError

KEYS = ("videos", "annotations", "categories")


def build_ytvis_index(file: Path) -> AnnotationIndex:
    """Parse the whole file once and return its index.

    Raises:
        InputError: not JSON, cut off, or without lists under ``videos``, ``annotations`` and ``categories``.
    """
    builder = _IndexBuilder()
    add = {"videos": builder.add_video, "annotations": builder.add_annotation, "categories": builder.add_category}
    keys = set()
    for item in iter_items(file):
        if item.key not in add:
            continue
        if item.position is not None:
            add[item.key](item)
            continue
        keys.add(item.key)
        if not isinstance(item.value, list):
            reason = f"a list is expected, found {type(item.value).__name__}"
            if item.key == "annotations" and item.value is None:
                reason += "; splits for a test server hold no annotations"
            raise InputError(file, reason, field=item.key)
    for key in KEYS:
        if key not in keys:
            raise InputError(file, f"the key {key!r} is missing; a video-level file has {', '.join(KEYS)}")
    return builder.finish()


@dataclass
class _IndexBuilder:
    """Entries read so far. Annotations may precede the videos and categories that they name."""

    videos: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Id -> offset, length, number of frames (-1: not known)."""
    categories: dict[str, str] = field(default_factory=dict)
    faults: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Video id -> reason and field of its first fault."""
    rejects: list[tuple[str, str, str]] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    """Ids that annotations use for a video or a category -> consecutive number."""
    rows: array[int] = field(default_factory=lambda: array("q"))
    """Six numbers per annotation: position in the list, video, category, offset, length, number of segmentations."""
    tracks: set[tuple[str, str]] = field(default_factory=set)

    def add_video(self, item: JsonItem) -> None:
        where = f"videos[{item.position}]"
        entry = item.value if isinstance(item.value, dict) else {}
        video = parse_id(entry.get("id"))
        if video is None:
            self.rejects.append(("", f"an object with an id is expected, found {_short_repr(item.value)}", where))
        elif video in self.videos:
            self.faults.setdefault(video, ("two videos have this id", f"{where}.id"))
        else:
            files = entry.get("file_names")
            self.videos[video] = (item.offset, item.length, len(files) if isinstance(files, list) else -1)

    def add_category(self, item: JsonItem) -> None:
        where = f"categories[{item.position}]"
        category = parse_category(item.value)
        if category is None:
            reason = f"an object with id and name is expected, found {_short_repr(item.value)}"
            self.rejects.append(("", reason, where))
            return
        key, name = category
        if self.categories.setdefault(key, name) != name:
            self.rejects.append(("", f"category {key} has two names, {self.categories[key]!r} is used", where))

    def add_annotation(self, item: JsonItem) -> None:
        where = f"annotations[{item.position}]"
        entry = item.value if isinstance(item.value, dict) else {}
        video = parse_id(entry.get("video_id"))
        if video is None:
            self.rejects.append(("", f"an object with a video_id is expected, found {_short_repr(item.value)}", where))
            return
        crowd, track, category = entry.get("iscrowd", 0), parse_id(entry.get("id")), parse_id(entry.get("category_id"))
        segmentations = entry.get("segmentations")
        if crowd not in (0, 1, None):
            self.faults.setdefault(video, (f"0 or 1 is expected, found {_short_repr(crowd)}", f"{where}.iscrowd"))
        elif crowd:
            return
        elif track is None:
            reason = f"an id is expected, found {_short_repr(entry.get('id'))}"
            self.faults.setdefault(video, (reason, f"{where}.id"))
        elif (video, track) in self.tracks:
            self.faults.setdefault(video, (f"track {track} occurs twice", f"{where}.id"))
        elif category is None:
            reason = f"a category is expected, found {_short_repr(entry.get('category_id'))}"
            self.faults.setdefault(video, (reason, f"{where}.category_id"))
        elif not isinstance(segmentations, list):
            reason = f"a list with one entry per frame is expected, found {type(segmentations).__name__}"
            self.faults.setdefault(video, (reason, f"{where}.segmentations"))
        else:
            self.tracks.add((video, track))
            numbers = (self.names.setdefault(name, len(self.names)) for name in (video, category))
            self.rows.extend((item.position or 0, *numbers, item.offset, item.length, len(segmentations)))

    def finish(self) -> AnnotationIndex:
        """Check what spans several entries, and return the index of the usable videos."""
        rows = np.frombuffer(self.rows, np.int64).reshape(-1, 6)
        names = list(self.names)
        unknown: dict[str, list[int]] = {}
        for position, video_number, category_number, _, _, count in rows.tolist():
            video, where = names[video_number], f"annotations[{position}]"
            frames = self.videos.get(video, (0, 0, -1))[2]
            if video not in self.videos:
                unknown.setdefault(video, []).append(position)
            elif frames not in (-1, count):
                reason = f"{count} segmentations for the {frames} frames of the video"
                self.faults.setdefault(video, (reason, f"{where}.segmentations"))
            elif names[category_number] not in self.categories:
                reason = f"category {names[category_number]} is not in the list of categories"
                self.faults.setdefault(video, (reason, f"{where}.category_id"))
        for video in self.faults.keys() - self.videos.keys():
            unknown.setdefault(video, [])
        self.rejects += [(video, *fault) for video, fault in self.faults.items() if video in self.videos]
        for video, positions in sorted(unknown.items()):
            where = f"annotations[{positions[0]}]" if positions else self.faults[video][1]
            self.rejects.append((video, f"annotations name video {video}, which is not in the list of videos", where))
        usable = {video: span[:2] for video, span in self.videos.items() if video not in self.faults}
        ids, spans, row_starts, order = group_parts(usable, names, rows[:, 1])
        part_spans = rows[order, 3:5].copy()
        return AnnotationIndex(ids, spans, row_starts, part_spans, self.categories, tuple(sorted(self.rejects)))


def _short_repr(value: Any) -> str:
    text = repr(value) if not isinstance(value, (dict, list)) else type(value).__name__
    return text if len(text) <= 40 else f"{text[:37]}..."
