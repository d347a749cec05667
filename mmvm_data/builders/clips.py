"""Video files with a folder of annotation PNGs each.

For ``<stem>.mp4`` the PNGs lie in one of these, looked for beside the file and in each folder above it up to the root:
``Annotations/<stem>``, ``Annotations/<resolution>/<stem>``, ``masks/<stem>``, ``<stem>_masks``, ``<stem>_mask``,
``<stem>``. The number at the end of a PNG's name is the 0-based frame of the video. Numbers in the PNGs are as
``png`` says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from mmvm_data.builders.common.folders import (
    reject_from_error,
    relative_path,
    require_two_frames,
    trailing_number,
    walk_folders,
)
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Frame, Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name
from mmvm_data.io.media import VIDEO_SUFFIXES, read_video_info
from mmvm_data.io.png import make_regions_reader

DEPTH = 4
"""Levels below the root that are searched for video files."""


def open_clips(name: str, root: Path, cache: Path | None = None) -> Source:
    """Video files under ``root`` that have a folder of masks; a video's id is its path without the ending."""
    rejects: list[Reject] = []
    clips: dict[str, tuple[Path, Path]] = {}
    resolutions = lru_cache(maxsize=None)(_list_resolutions)
    for folder in walk_folders(name, root, DEPTH, rejects, _may_hold_videos):
        for file in list_names(folder, VIDEO_SUFFIXES):
            path = folder / file
            if not is_utf8(file):
                reason = "the file's name is not UTF-8"
                rejects.append(Reject(name, printable_name(path.stem), -1, reason, relative_path(root, path)))
                continue
            video = relative_path(root, path.with_suffix(""))
            try:
                masks = _find_masks(root, folder, path.stem, resolutions)
            except InputError as error:
                rejects.append(reject_from_error(name, root, video, error))
                continue
            if video in clips:
                reason = f"two videos have one name, {clips[video][0].name} is read"
                rejects.append(Reject(name, video, -1, reason, relative_path(root, path)))
            elif masks is None:
                reason = f"no folder of masks; {path.stem}_masks or Annotations/{path.stem} is expected"
                rejects.append(Reject(name, video, -1, reason, relative_path(root, path)))
            else:
                clips[video] = (path, masks)
    if not clips and not rejects:
        raise InputError(root, f"no video file ({', '.join(VIDEO_SUFFIXES)}) lies here")

    def load(video: str) -> Video:
        if video not in clips:
            raise InputError(root, f"there is no video {printable_name(video)!r}")
        return _load_video(name, root, video, *clips[video])

    return Source(name, root, sorted(clips), load, tuple(sorted(rejects)))


def list_video_frames(root: Path, path: Path) -> tuple[Frame, ...]:
    """Every frame of a video file, numbered from 0, with its time when the rate is known.

    Raises:
        InputError: the file is missing or has no frames.
    """
    info = read_video_info(path)
    where = relative_path(root, path)
    return tuple(
        Frame(
            path=where,
            index=position,
            width=info.width,
            height=info.height,
            video_frame=position,
            time=position / info.fps if info.fps else None,
        )
        for position in range(info.frames)
    )


def _may_hold_videos(folder: Path) -> bool:
    """Whether a folder is worth entering; folders of frames and masks are many, and long."""
    if folder.name in ("Annotations", "masks", "JPEGImages") or folder.name.endswith(("_masks", "_mask")):
        return False
    return not any(os.path.exists(f"{folder}{suffix}") for suffix in VIDEO_SUFFIXES)


def _find_masks(root: Path, folder: Path, stem: str, resolutions: Callable[[Path], list[Path]]) -> Path | None:
    while True:
        for place in _iter_mask_folders(folder, stem, resolutions):
            if path_kind(place) == "folder" and list_names(place, (".png",)):
                return place
        if folder == root:
            return None
        folder = folder.parent


def _iter_mask_folders(folder: Path, stem: str, resolutions: Callable[[Path], list[Path]]) -> Iterator[Path]:
    """Where masks may lie below ``folder``. One by one: to find resolutions, every folder of masks is listed."""
    yield folder / "Annotations" / stem
    yield from (resolution / stem for resolution in resolutions(folder / "Annotations"))
    yield folder / "masks" / stem
    yield from (folder / f"{stem}{ending}" for ending in ("_masks", "_mask", ""))


def _list_resolutions(annotations: Path) -> list[Path]:
    """Folders of ``annotations`` that hold no PNGs themselves."""
    if path_kind(annotations) != "folder":
        return []
    return [annotations / name for name in list_names(annotations) if not list_names(annotations / name, (".png",))]


def _load_video(name: str, root: Path, video: str, path: Path, masks: Path) -> Video:
    frames = list_video_frames(root, path)
    paths: dict[int, Path] = {}
    for file in list_names(masks, (".png",)):
        position = trailing_number(Path(file).stem)
        if not is_utf8(file) or position is None:
            raise InputError(printable_name(masks / file), "the name of a mask must end in the number of its frame")
        if position >= len(frames):
            raise InputError(masks / file, f"{path.name} has no frame {position}, it has {len(frames)}")
        if position in paths:
            raise InputError(masks / file, f"{paths[position].name} is a mask of frame {position} too")
        paths[position] = masks / file
    size = (frames[0].width, frames[0].height)
    return Video.lazy(
        make_regions_reader(paths, lambda _: size),
        id=video,
        source=name,
        root=root,
        frames=frames,
        annotated=require_two_frames(masks, tuple(sorted(paths))),
    )
