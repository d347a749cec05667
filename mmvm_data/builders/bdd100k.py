"""BDD100K, box tracking (5 frames a second) and segmentation tracking.

    box tracking           images/track/<split>/<video>/<video>-0000001.jpg
                           labels/box_track_20/<split>/<video>.json (labels-20/box-track in the older release)
    segmentation tracking  images/seg_track_20/<split>/<video>/<video>-0000001.jpg
                           labels/seg_track_20/bitmasks/<split>/<video>/<video>-0000001.png, or
                           labels/seg_track_20/rles/<split>/<video>.json

A JSON file is a list of frames ``{name, labels[] {id, category, attributes {occluded, truncated, crowd}, box2d {x1, y1,
x2, y2} or rle {size, counts}}}`` (or an object with that list under ``frames``); x2 and y2 are the last pixel inside. A
bitmask is an RGBA PNG: R category (from 1, 0 background), G flags truncated 8, occluded 4, crowd 2, ignore 1, and
B * 256 + A the identity. Eight categories are tracked; others, crowds and what is to be ignored are left out.

Source: doc/source/{format,download}.rst of bdd100k/bdd100k; box2d_to_bbox of scalabel for x2 and y2.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mmvm_data import masks
from mmvm_data.builders.folders import at_least_two, list_frames, read_any_json, rejected, relative, subfolders
from mmvm_data.builders.png import read_array
from mmvm_data.builders.source import Source
from mmvm_data.builders.text import FAR
from mmvm_data.builders.ytvis_index import label
from mmvm_data.errors import InputError, Reject
from mmvm_data.files import is_utf8, kind, names, printable
from mmvm_data.types import Frame, Region, Video

CATEGORIES = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
"""In the order of their numbers, which count from 1."""
ALIASES = {"person": "pedestrian", "motor": "motorcycle", "bike": "bicycle"}
SPLITS = ("train", "val")
_BOXES = (("images/track", "labels/box_track_20"), ("images/track", "labels-20/box-track"))
_MASKS = (
    ("images/seg_track_20", "labels/seg_track_20/bitmasks"),
    ("images/seg_track_20", "labels/seg_track_20/rles"),
)
_TRUNCATED, _OCCLUDED, _LEFT_OUT = 8, 4, 3
_KEPT = 8


def open_bdd100k(name: str, root: Path, cache: Path | None = None) -> Source:
    """Box tracking: every split that has labels; a video's id is its name.

    Raises:
        InputError: no such folders.
    """
    return _open(name, root, _BOXES)


def open_bdd100k_seg(name: str, root: Path, cache: Path | None = None) -> Source:
    """Segmentation tracking, from bitmasks where they are there, else from run lengths."""
    return _open(name, root, _MASKS)


def _open(name: str, root: Path, pairs: tuple[tuple[str, str], ...]) -> Source:
    places = [(b / i, b / m) for b in (root, root / "bdd100k") for i, m in pairs]
    places = [(images, marks) for images, marks in places if kind(images) == kind(marks) == "folder"]
    if not places:
        raise InputError(root, f"folders {pairs[0][0]} and {pairs[0][1]} are expected here")
    images, marks = places[0]
    rejects: list[Reject] = []
    found: dict[str, tuple[Path, Path]] = {}
    for split in SPLITS:
        if kind(marks / split) == "folder":
            _add(name, root, images / split, marks / split, found, rejects)

    def load(video: str) -> Video:
        if video not in found:
            raise InputError(root, f"there is no usable video {printable(video)!r}")
        frames_in, labels_in = found[video]
        if kind(frames_in) != "folder":
            raise InputError(frames_in, "no frames: the folder is missing")
        read = _from_bitmasks if kind(labels_in) == "folder" else _from_json
        return read(name, root, video, list_frames(root, frames_in), labels_in)

    return Source(name, root, sorted(found), load, tuple(sorted(rejects)))


def _add(
    name: str, root: Path, images: Path, marks: Path, found: dict[str, tuple[Path, Path]], rejects: list[Reject]
) -> None:
    """The videos of one split."""
    try:
        if marks.parent.name == "bitmasks":
            videos, more = subfolders(name, root, marks)
            rejects += more
            files = {video: marks / video for video in videos}
        else:
            listed = names(marks, (".json",))
            files = {Path(file).stem: marks / file for file in listed if is_utf8(file)}
            for file in (file for file in listed if not is_utf8(file)):
                reason = "the file's name is not UTF-8"
                rejects.append(Reject(name, printable(Path(file).stem), -1, reason, relative(root, marks / file)))
    except InputError as error:
        rejects.append(rejected(name, root, marks.name, error))
        return
    for video, place in files.items():
        if video in found:
            reason = f"two videos have one name, {relative(root, found[video][1])} is read"
            rejects.append(Reject(name, video, -1, reason, relative(root, place)))
        else:
            found[video] = images / video, place


def _from_json(name: str, root: Path, video: str, frames: tuple[Frame, ...], file: Path) -> Video:
    data = read_any_json(file)
    entries = data.get("frames") if isinstance(data, dict) else data
    if not isinstance(entries, list):
        raise InputError(file, f"a list of frames is expected, found {type(entries).__name__}")
    place = {Path(frame.path).stem: p for p, frame in enumerate(frames)}
    labels: dict[int, tuple[int, Any]] = {}
    for k, entry in enumerate(entries):
        title = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(title, str):
            raise InputError(file, "a frame with a name is expected", field=f"[{k}]")
        position = place.get(Path(title).stem if title.endswith((".jpg", ".png")) else title)
        if position is None:
            raise InputError(file, f"there is no frame {title[:100]!r}", field=f"[{k}].name")
        if position in labels:
            raise InputError(file, "a frame is there twice", field=f"[{k}].name")
        labels[position] = k, entry.get("labels")

    @lru_cache(_KEPT)
    def read(position: int) -> tuple[Region, ...]:
        k, listed = labels[position]
        if not isinstance(listed, list) and listed is not None:
            raise InputError(file, f"a list is expected, found {type(listed).__name__}", field=f"[{k}].labels")
        found: dict[str, Region] = {}
        for m, entry in enumerate(listed or ()):
            region = _labelled(file, f"[{k}].labels[{m}]", entry, frames[position])
            if region is None:
                continue
            if region.id in found:
                raise InputError(file, f"object {region.id} is there twice in one frame", field=f"[{k}].labels[{m}]")
            found[region.id] = region
        return tuple(found.values())

    return Video.lazy(
        read,
        id=video,
        source=name,
        root=root,
        frames=frames,
        annotated=at_least_two(file, tuple(sorted(labels))),
        prompt="mask" if file.parent.parent.name == "rles" else "box",
    )


def _labelled(file: Path, where: str, entry: Any, frame: Frame) -> Region | None:
    """The object of a label; None for what is not tracked."""
    if not isinstance(entry, dict):
        raise InputError(file, "an object is expected", field=where)
    track, title = label(entry.get("id")), entry.get("category")
    if track is None or not isinstance(title, str):
        raise InputError(file, "an object with id and category is expected", field=where)
    flags = entry.get("attributes") or {}
    if not isinstance(flags, dict):
        raise InputError(file, "an object is expected", field=f"{where}.attributes")
    lowered = {key.lower(): value for key, value in flags.items()}
    category = ALIASES.get(title, title)
    if category not in CATEGORIES or any(lowered.get(key) is True for key in ("crowd", "ignored", "ignore")):
        return None
    extra = {key: True for key in ("occluded", "truncated") if lowered.get(key) is True}
    if entry.get("rle") is not None:
        rle = _rle(file, f"{where}.rle", entry["rle"], frame)
        return Region(id=track, mask=rle, category=category, extra=extra) if masks.area(rle) else None
    corners = entry.get("box2d")
    values: list[Any] = [corners.get(key) for key in ("x1", "y1", "x2", "y2")] if isinstance(corners, dict) else []
    if not values or not all(type(v) in (int, float) and abs(v) < FAR for v in values):
        raise InputError(file, "a box of x1, y1, x2, y2 is expected", field=f"{where}.box2d")
    x1, y1, x2, y2 = values
    if x2 < x1 or y2 < y1:
        raise InputError(file, f"x2, y2 ({x2:g}, {y2:g}) lie before x1, y1 ({x1:g}, {y1:g})", field=f"{where}.box2d")
    return Region(id=track, box=(x1, y1, x2 - x1 + 1, y2 - y1 + 1), category=category, extra=extra)


def _rle(file: Path, where: str, value: Any, frame: Frame) -> Any:
    counts = value.get("counts") if isinstance(value, dict) else None
    if not isinstance(counts, str) or value.get("size") != [frame.height, frame.width]:
        reason = f"counts as text and a size of [{frame.height}, {frame.width}] (height, width) are expected"
        raise InputError(file, reason, field=where)
    try:
        return masks.from_counts(counts, (frame.height, frame.width))
    except ValueError as error:
        raise InputError(file, str(error), field=where) from error


def _from_bitmasks(name: str, root: Path, video: str, frames: tuple[Frame, ...], folder: Path) -> Video:
    marked = {Path(file).stem: folder / file for file in names(folder, (".png",))}
    files = {p: marked[stem] for p, frame in enumerate(frames) if (stem := Path(frame.path).stem) in marked}

    @lru_cache(_KEPT)
    def read(position: int) -> tuple[Region, ...]:
        file, frame = files[position], frames[position]
        pixels, _ = read_array(file, frame.width, frame.height, ("RGBA",), "RGBA")
        packed = pixels.astype(np.int64) @ np.array([1 << 24, 1 << 16, 1 << 8, 1])
        found: dict[str, Region] = {}
        for value, rle in masks.encode_labels(packed).items():
            number, flags, track = value >> 24, value >> 16 & 255, str(value & 65535)
            if number == 0 or flags & _LEFT_OUT:
                continue
            if number > len(CATEGORIES):
                raise InputError(file, f"there is no category {number}")
            if track in found:
                raise InputError(file, f"object {track} has two categories or two sets of flags")
            extra = {"occluded": True} if flags & _OCCLUDED else {}
            extra |= {"truncated": True} if flags & _TRUNCATED else {}
            found[track] = Region(id=track, mask=rle, category=CATEGORIES[number - 1], extra=extra)
        return tuple(found.values())

    annotated = at_least_two(folder, tuple(files))
    return Video.lazy(read, id=video, source=name, root=root, frames=frames, annotated=annotated)
