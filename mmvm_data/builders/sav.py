"""SA-V: masklets at 6 frames per second over videos of 24, so every fourth frame is annotated.

Train: ``<video>_manual.json`` (or ``_auto.json``) with ``masklet[k][object]``, compressed RLE of frame 4k, empty where
the object is absent, beside ``<video>.mp4`` or, when the frames were extracted, ``<video>/`` or
``JPEGImages_24fps/<video>/`` with images numbered from 0 at 24 per second. ``masklet_first_appeared_frame`` (which may
be a float) and all sizes in the file except those of the RLEs are not needed, and not read.

Val and test: ``JPEGImages_24fps/<video>/00000.jpg`` and ``Annotations_6fps/<video>/<object>/00000.png``, one PNG per
object, since objects may overlap.

Source of the format: README of ``sav_dataset`` in facebookresearch/sam2, and a published pair of files.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from mmvm_data.builders.common.folders import list_subfolders, reject_from_error, relative_path, walk_folders
from mmvm_data.builders.common.frames import list_frames, list_video_frames, match_annotations, require_two_frames
from mmvm_data.builders.common.json_files import read_json_without_frames
from mmvm_data.builders.common.segmentations import parse_counts
from mmvm_data.builders.source import Source
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Frame, Region, Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name
from mmvm_data.io.media import IMAGE_SUFFIXES
from mmvm_data.io.png import read_labels

STRIDE = 4
"""Frames of the video per annotated frame."""
FPS = 24.0
DEPTH = 3
"""Levels below the root that are searched for annotations."""
_CACHE_SIZE = 8


def open_sav(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the manual masklets of SA-V train, or SA-V val or test if ``Annotations_6fps`` exists in the root.

    Raises:
        InputError: the root cannot be read, or contains no annotations.
    """
    for part in ("", "sav_val", "sav_test"):
        if path_kind(root / part / "Annotations_6fps") == "folder":
            return _open_folders(name, root, root / part)
    return _open_train(name, root, "_manual.json", "", cache)


def open_sav_auto(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the automatic masklets of SA-V train; identities are ``auto-<id>``, distinct from the manual ones.

    Raises:
        InputError: the root cannot be read, or contains no annotations.
    """
    return _open_train(name, root, "_auto.json", "auto-", cache)


def _open_train(name: str, root: Path, suffix: str, prefix: str, cache: Path | None) -> Source:
    rejects: list[Reject] = []
    files: dict[str, Path] = {}
    for folder in walk_folders(name, root, DEPTH, rejects, _may_hold_annotations):
        for file in list_names(folder, (suffix,)):
            video, path = file[: -len(suffix)], relative_path(root, folder / file)
            if not is_utf8(file):
                rejects.append(Reject(name, printable_name(video), -1, "the file's name is not UTF-8", path))
            elif video in files:
                reason = f"two files have the same name, {relative_path(root, files[video])} is read"
                rejects.append(Reject(name, video, -1, reason, path))
            else:
                try:
                    media = _find_media(root, folder, video)
                except InputError as error:
                    rejects.append(reject_from_error(name, root, video, error))
                    continue
                if media:
                    files[video] = folder / file
                    continue
                reason = f"annotations without frames; {video}.mp4 or a folder {video} of images is expected"
                rejects.append(Reject(name, video, -1, reason, path))
    if not files and not rejects:
        raise InputError(root, f"no file <video>{suffix} and no folder Annotations_6fps exists here")

    def load(video: str) -> Video:
        if video not in files:
            raise InputError(root, f"there is no video {printable_name(video)!r}")
        return _load_train(name, root, video, files[video], prefix, cache)

    return Source(name, root, sorted(files), load, tuple(sorted(rejects)))


def _may_hold_annotations(folder: Path) -> bool:
    """Return whether a folder is worth searching: one with annotations of its name beside it holds frames."""
    if folder.name == "JPEGImages_24fps":
        return False
    return not any(os.path.exists(f"{folder}_{method}.json") for method in ("manual", "auto"))


def _find_media(root: Path, folder: Path, video: str) -> Path | None:
    """Return the video file or the folder of frames of the annotations in ``folder``; None when there is neither."""
    if path_kind(folder / f"{video}.mp4") == "file":
        return folder / f"{video}.mp4"
    for candidate in (folder / video, folder / "JPEGImages_24fps" / video, root / "JPEGImages_24fps" / video):
        if path_kind(candidate) == "folder" and list_names(candidate, IMAGE_SUFFIXES):
            return candidate
    return None


def _load_train(name: str, root: Path, video: str, file: Path, prefix: str, cache: Path | None) -> Video:
    media = _find_media(root, file.parent, video)
    if media is None:
        raise InputError(file, f"{video}.mp4 or a folder {video} of images is expected beside it")
    is_file = media.suffix == ".mp4"
    frames = list_video_frames(root, media, cache) if is_file else _list_numbered_frames(root, media)
    annotated = tuple(p for p, frame in enumerate(frames) if frame.index % STRIDE == 0)
    return Video.lazy(
        _make_reader(file, frames, prefix),
        id=video,
        source=name,
        root=root,
        frames=frames,
        annotated=require_two_frames(media, annotated),
    )


def _list_numbered_frames(root: Path, folder: Path) -> tuple[Frame, ...]:
    frames = list_frames(root, folder, FPS)
    if frames[0].index != 0:
        raise InputError(folder, f"frames are numbered from {frames[0].index}; 0 is expected")
    return frames


def _make_reader(file: Path, frames: tuple[Frame, ...], prefix: str) -> Callable[[int], tuple[Region, ...]]:
    """Return the function for ``Video.lazy``; the file is parsed on its first call, once even when it is broken."""

    @lru_cache(1)
    def load_content() -> tuple[list[Any], tuple[str, ...]] | InputError:
        try:
            return parse_content()
        except InputError as error:
            return error

    def parse_content() -> tuple[list[Any], tuple[str, ...]]:
        data = read_json_without_frames(file)
        if not isinstance(data, dict):
            raise InputError(file, f"an object is expected, found {type(data).__name__}")
        ids = _require_list(file, data.get("masklet_id"), "masklet_id")
        for k, value in enumerate(ids):
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(file, f"an integer is expected, found {value!r}", field=f"masklet_id[{k}]")
        if len(set(ids)) != len(ids):
            raise InputError(file, "an id occurs twice", field="masklet_id")
        lists = _require_list(file, data.get("masklet"), "masklet")
        if len(lists) == len(frames) > 1 and frames[-1].index == len(frames) - 1:
            reason = f"{len(lists)} lists for {len(frames)} frames: frames must keep their numbers at 24 per second"
            raise InputError(file, reason, field="masklet")
        return lists, tuple(f"{prefix}{value}" for value in ids)

    @lru_cache(_CACHE_SIZE)
    def read(position: int) -> tuple[Region, ...]:
        content = load_content()
        if isinstance(content, InputError):
            raise content.with_traceback(None)
        lists, ids = content
        frame = frames[position]
        row = frame.index // STRIDE
        field = f"masklet[{row}]"
        if row >= len(lists):
            reason = f"frame {frame.index} has no masks: there are {len(lists)} lists, one per {STRIDE}th frame"
            raise InputError(file, reason, field=field)
        entries = _require_list(file, lists[row], field)
        if len(entries) != len(ids):
            raise InputError(file, f"{len(ids)} masks are expected, one for each id, found {len(entries)}", field=field)
        regions = (
            _parse_region(file, f"{field}[{k}]", entry, frame, track)
            for k, (entry, track) in enumerate(zip(entries, ids, strict=True))
        )
        return tuple(region for region in regions if region is not None)

    return read


def _parse_region(file: Path, field: str, entry: Any, frame: Frame, track: str) -> Region | None:
    size = entry.get("size") if isinstance(entry, dict) else None
    counts = entry.get("counts") if isinstance(entry, dict) else None
    if not isinstance(counts, str) or not counts.isascii() or not isinstance(size, list):
        raise InputError(file, "an RLE of size and counts is expected", field=field)
    if size != [frame.height, frame.width]:
        reason = f"mask is of size {size}, its frame of [{frame.height}, {frame.width}] (height, width)"
        raise InputError(file, reason, field=field)
    rle = parse_counts(file, f"{field}.counts", counts, (frame.height, frame.width))
    return Region(id=track, mask=rle) if masks.has_pixels(rle) else None


def _require_list(file: Path, value: Any, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(file, f"a list is expected, found {type(value).__name__}", field=field)
    return value


def _open_folders(name: str, root: Path, part: Path) -> Source:
    annotations, images = part / "Annotations_6fps", part / "JPEGImages_24fps"
    videos, rejects = list_subfolders(name, root, annotations)
    usable_videos = []
    for video in videos:
        if path_kind(images / video) == "folder":
            usable_videos.append(video)
        else:
            rejects.append(Reject(name, video, -1, "masks without frames", relative_path(root, annotations / video)))
    load = partial(_load_folders, name, root, annotations, images)
    return Source(name, root, usable_videos, load, tuple(sorted(rejects)))


def _load_folders(name: str, root: Path, annotations: Path, images: Path, video: str) -> Video:
    folder = annotations / video
    frames = _list_numbered_frames(root, images / video)
    objects = list_names(folder)
    for track in objects:
        if not is_utf8(track):
            raise InputError(printable_name(folder / track), "the folder's name is not UTF-8")
    # an object without a PNG may still be visible in the frame, so only frames for which every object has one count
    files = {track: match_annotations(folder / track, frames) for track in objects}
    annotated = tuple(
        p for p in range(len(frames)) if files and all(p in by_position for by_position in files.values())
    )

    @lru_cache(_CACHE_SIZE)
    def read(position: int) -> tuple[Region, ...]:
        frame, regions = frames[position], []
        for track, by_position in files.items():
            labels = read_labels(by_position[position], frame.width, frame.height)
            if labels.ids.any():
                regions.append(Region(id=track, mask=masks.encode(labels.ids)))
        return tuple(regions)

    return Video.lazy(
        read, id=video, source=name, root=root, frames=frames, annotated=require_two_frames(folder, annotated)
    )
