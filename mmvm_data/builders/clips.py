"""Video files with a folder of annotation PNGs each.

For ``<stem>.mp4`` the PNGs are in one of these folders, searched beside the file and in each folder above it up to the
root: ``Annotations/<stem>``, ``Annotations/<resolution>/<stem>``, ``masks/<stem>``, ``<stem>_masks``, ``<stem>_mask``,
``<stem>``. The number at the end of a PNG's name is the 0-based frame of the video. Pixel values are interpreted as in
``mmvm_data.io.png``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from mmvm_data.builders.common.folders import reject_from_error, relative_path, walk_folders
from mmvm_data.builders.common.frames import list_video_frames, require_two_frames, trailing_number
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name
from mmvm_data.io.media import VIDEO_SUFFIXES
from mmvm_data.io.png import make_regions_reader

DEPTH = 4
"""Levels below the root that are searched for video files."""


def open_clips(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the video files under ``root`` that have a folder of masks; a video's id is its path without the suffix.

    Raises:
        InputError: the root cannot be read, or contains no video file.
    """
    rejects: list[Reject] = []
    clips: dict[str, tuple[Path, Path]] = {}
    list_resolutions = lru_cache(maxsize=None)(_list_resolutions)
    for folder in walk_folders(name, root, DEPTH, rejects, _may_contain_videos):
        for file in list_names(folder, VIDEO_SUFFIXES):
            path = folder / file
            if not is_utf8(file):
                reason = "the file's name is not UTF-8"
                rejects.append(Reject(name, printable_name(path.stem), -1, reason, relative_path(root, path)))
                continue
            video = relative_path(root, path.with_suffix(""))
            try:
                masks = _find_masks(root, folder, path.stem, list_resolutions)
            except InputError as error:
                rejects.append(reject_from_error(name, root, video, error))
                continue
            if video in clips:
                reason = f"two videos have the same name, {clips[video][0].name} is read"
                rejects.append(Reject(name, video, -1, reason, relative_path(root, path)))
            elif masks is None:
                reason = f"no folder of masks; {path.stem}_masks or Annotations/{path.stem} is expected"
                rejects.append(Reject(name, video, -1, reason, relative_path(root, path)))
            else:
                clips[video] = (path, masks)
    if not clips and not rejects:
        raise InputError(root, f"no video file ({', '.join(VIDEO_SUFFIXES)}) exists here")

    def load(video: str) -> Video:
        if video not in clips:
            raise InputError(root, f"there is no video {printable_name(video)!r}")
        return _load_video(name, root, video, *clips[video], cache)

    return Source(name, root, sorted(clips), load, tuple(sorted(rejects)))


def _may_contain_videos(folder: Path) -> bool:
    """Return whether a folder is worth searching; folders of frames and masks are numerous and large."""
    if folder.name in ("Annotations", "masks", "JPEGImages") or folder.name.endswith(("_masks", "_mask")):
        return False
    return not any(os.path.exists(f"{folder}{suffix}") for suffix in VIDEO_SUFFIXES)


def _find_masks(root: Path, folder: Path, stem: str, list_resolutions: Callable[[Path], list[Path]]) -> Path | None:
    """Return the folder of PNGs of a video file in ``folder``; None when there is none."""
    while True:
        for candidate in _iter_mask_folders(folder, stem, list_resolutions):
            if path_kind(candidate) == "folder" and list_names(candidate, (".png",)):
                return candidate
        if folder == root:
            return None
        folder = folder.parent


def _iter_mask_folders(folder: Path, stem: str, list_resolutions: Callable[[Path], list[Path]]) -> Iterator[Path]:
    """Yield the possible folders of masks below ``folder``; lazily, since finding resolutions lists every folder."""
    yield folder / "Annotations" / stem
    yield from (resolution / stem for resolution in list_resolutions(folder / "Annotations"))
    yield folder / "masks" / stem
    yield from (folder / f"{stem}{suffix}" for suffix in ("_masks", "_mask", ""))


def _list_resolutions(annotations: Path) -> list[Path]:
    """Return the folders in ``annotations`` that contain no PNGs themselves."""
    if path_kind(annotations) != "folder":
        return []
    return [annotations / name for name in list_names(annotations) if not list_names(annotations / name, (".png",))]


def _load_video(name: str, root: Path, video: str, path: Path, masks: Path, cache: Path | None) -> Video:
    frames = list_video_frames(root, path, cache)
    files: dict[int, Path] = {}
    for file in list_names(masks, (".png",)):
        position = trailing_number(Path(file).stem)
        if not is_utf8(file) or position is None:
            raise InputError(printable_name(masks / file), "the name of a mask must end in the number of its frame")
        if position >= len(frames):
            raise InputError(masks / file, f"{path.name} has no frame {position}, it has {len(frames)}")
        if position in files:
            raise InputError(masks / file, f"{files[position].name} is a mask of frame {position} too")
        files[position] = masks / file
    size = (frames[0].width, frames[0].height)
    return Video.lazy(
        make_regions_reader(files, lambda _: size),
        id=video,
        source=name,
        root=root,
        frames=frames,
        annotated=require_two_frames(masks, tuple(sorted(files))),
    )
