"""The labels of one video of BDD100K: a JSON file of boxes or RLEs, or a folder of bitmasks; see ``bdd100k``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mmvm_data.builders.common.annotation_index import parse_id
from mmvm_data.builders.common.frames import match_annotations, require_two_frames
from mmvm_data.builders.common.json_files import read_json
from mmvm_data.builders.common.segmentations import parse_counts
from mmvm_data.builders.common.text_files import MAX_COORDINATE
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame, Region, Rle, Video
from mmvm_data.io.png import read_png

CATEGORIES = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
"""In the order of their numbers, which start at 1."""
ALIASES = {"person": "pedestrian", "motor": "motorcycle", "bike": "bicycle"}
_TRUNCATED, _OCCLUDED, _CROWD_OR_IGNORED = 8, 4, 3
_CACHE_SIZE = 8


def load_json_labels(name: str, root: Path, video: str, frames: tuple[Frame, ...], file: Path) -> Video:
    """Return the video whose labels are in a JSON file.

    Raises:
        InputError: no list of frames, or an entry whose image does not exist or occurs twice.
    """
    data = read_json(file)
    entries = data.get("frames") if isinstance(data, dict) else data
    if not isinstance(entries, list):
        raise InputError(file, f"a list of frames is expected, found {type(entries).__name__}")
    positions = {Path(frame.path).stem: p for p, frame in enumerate(frames)}
    labels: dict[int, tuple[int, Any]] = {}
    for k, entry in enumerate(entries):
        frame_name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(frame_name, str):
            raise InputError(file, "a frame with a name is expected", field=f"[{k}]")
        position = positions.get(Path(frame_name).stem if frame_name.endswith((".jpg", ".png")) else frame_name)
        if position is None:
            raise InputError(file, f"there is no frame {frame_name[:100]!r}", field=f"[{k}].name")
        if position in labels:
            raise InputError(file, "a frame occurs twice", field=f"[{k}].name")
        labels[position] = k, entry.get("labels")

    @lru_cache(_CACHE_SIZE)
    def read(position: int) -> tuple[Region, ...]:
        k, entries = labels[position]
        if not isinstance(entries, list) and entries is not None:
            raise InputError(file, f"a list is expected, found {type(entries).__name__}", field=f"[{k}].labels")
        regions: dict[str, Region] = {}
        for m, entry in enumerate(entries or ()):
            region = _parse_label(file, f"[{k}].labels[{m}]", entry, frames[position])
            if region is None:
                continue
            if region.id in regions:
                raise InputError(file, f"object {region.id} occurs twice in one frame", field=f"[{k}].labels[{m}]")
            regions[region.id] = region
        return tuple(regions.values())

    return Video.lazy(
        read,
        id=video,
        source=name,
        root=root,
        frames=frames,
        annotated=require_two_frames(file, tuple(sorted(labels))),
        prompt="mask" if file.parent.parent.name == "rles" else "box",
    )


def _parse_label(file: Path, field: str, entry: Any, frame: Frame) -> Region | None:
    """Return the object of a label; None when it is not tracked."""
    if not isinstance(entry, dict):
        raise InputError(file, "an object is expected", field=field)
    track, category = parse_id(entry.get("id")), entry.get("category")
    if track is None or not isinstance(category, str):
        raise InputError(file, "an object with id and category is expected", field=field)
    attributes = entry.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise InputError(file, "an object is expected", field=f"{field}.attributes")
    flags = {key.lower() for key, value in attributes.items() if value is True}
    category = ALIASES.get(category, category)
    if category not in CATEGORIES or flags & {"crowd", "ignored", "ignore"}:
        return None
    extra = {key: True for key in ("occluded", "truncated") if key in flags}
    if entry.get("rle") is not None:
        rle = _parse_rle(file, f"{field}.rle", entry["rle"], frame)
        return Region(id=track, mask=rle, category=category, extra=extra) if masks.has_pixels(rle) else None
    corners = entry.get("box2d")
    values: list[Any] = [corners.get(key) for key in ("x1", "y1", "x2", "y2")] if isinstance(corners, dict) else []
    if not values or not all(type(v) in (int, float) and abs(v) < MAX_COORDINATE for v in values):
        raise InputError(file, "a box of x1, y1, x2, y2 is expected", field=f"{field}.box2d")
    x1, y1, x2, y2 = values
    if x2 < x1 or y2 < y1:
        raise InputError(file, f"x2, y2 ({x2:g}, {y2:g}) are below x1, y1 ({x1:g}, {y1:g})", field=f"{field}.box2d")
    return Region(id=track, box=(x1, y1, x2 - x1 + 1, y2 - y1 + 1), category=category, extra=extra)


def _parse_rle(file: Path, field: str, value: Any, frame: Frame) -> Rle:
    counts = value.get("counts") if isinstance(value, dict) else None
    if not isinstance(counts, str) or value.get("size") != [frame.height, frame.width]:
        reason = f"counts as text and a size of [{frame.height}, {frame.width}] (height, width) are expected"
        raise InputError(file, reason, field=field)
    return parse_counts(file, field, counts, (frame.height, frame.width))


def load_bitmask_labels(name: str, root: Path, video: str, frames: tuple[Frame, ...], folder: Path) -> Video:
    """Return the video whose labels are bitmasks.

    Raises:
        InputError: fewer than two frames have one.
    """
    files = match_annotations(folder, frames)

    @lru_cache(_CACHE_SIZE)
    def read(position: int) -> tuple[Region, ...]:
        file, frame = files[position], frames[position]
        pixels, _ = read_png(file, frame.width, frame.height, ("RGBA",), "RGBA")
        packed = pixels.astype(np.int64) @ np.array([1 << 24, 1 << 16, 1 << 8, 1])
        regions: dict[str, Region] = {}
        for value, rle in masks.encode_labels(packed).items():
            number, flags, track = value >> 24, value >> 16 & 255, str(value & 65535)
            if number == 0 or flags & _CROWD_OR_IGNORED:
                continue
            if number > len(CATEGORIES):
                raise InputError(file, f"there is no category {number}")
            if track in regions:
                raise InputError(file, f"object {track} has two categories or two sets of flags")
            extra = {"occluded": True} if flags & _OCCLUDED else {}
            extra |= {"truncated": True} if flags & _TRUNCATED else {}
            regions[track] = Region(id=track, mask=rle, category=CATEGORIES[number - 1], extra=extra)
        return tuple(regions.values())

    annotated = require_two_frames(folder, tuple(files))
    return Video.lazy(read, id=video, source=name, root=root, frames=frames, annotated=annotated)
