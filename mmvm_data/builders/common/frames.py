"""Frames of a folder of images or of a video file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from mmvm_data.builders.common.folders import relative_path
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name
from mmvm_data.io.media import IMAGE_SUFFIXES, read_image_size, read_video_info

_NUMBER = re.compile(r"(\d+)$", re.ASCII)


def list_frames(root: Path, folder: Path, fps: float | None = None) -> tuple[Frame, ...]:
    """Return the image files of a folder as frames, in time order.

    Names that end in distinct numbers are ordered by them, and the numbers become ``Frame.index``; other names are
    ordered as text and counted from 0. Width and height are those of the first image; another size is reported when the
    image is decoded.

    Args:
        root: folder that the paths are relative to.
        folder: folder of the images, inside ``root``.
        fps: frame numbers per second, for ``Frame.time``.

    Raises:
        InputError: no folder, no images, a name that is not UTF-8, two images with the same stem, or a first image
            without a readable header.
    """
    if path_kind(folder) != "folder":
        raise InputError(folder, "no frames: the folder is missing")
    files = list_names(folder, IMAGE_SUFFIXES)
    if not files:
        raise InputError(folder, "the folder holds no images")
    by_stem: dict[str, str] = {}
    for file in files:
        if not is_utf8(file):
            raise InputError(printable_name(folder / file), "the file's name is not UTF-8")
        other = by_stem.setdefault(Path(file).stem, file)
        if other != file:
            raise InputError(folder, f"two images have the same name: {other} and {file}")
    numbers = [trailing_number(stem) for stem in by_stem]
    if None in numbers or len(set(numbers)) != len(numbers):
        ordered = list(enumerate(files))
    else:
        ordered = sorted((n, file) for n, file in zip(numbers, by_stem.values(), strict=True) if n is not None)
    width, height = read_image_size(folder / ordered[0][1])
    prefix = relative_path(root, folder)
    return tuple(
        Frame(
            path=f"{prefix}/{file}" if prefix else file,
            index=index,
            width=width,
            height=height,
            time=index / fps if fps else None,
        )
        for index, file in ordered
    )


def list_video_frames(root: Path, file: Path, cache: Path | None = None) -> tuple[Frame, ...]:
    """Return every frame of a video file, numbered from 0, with its time when the frame rate is known.

    Args:
        root: folder that the paths are relative to.
        file: video file, inside ``root``.
        cache: folder that keeps the index of the file's frames; None: no such folder.

    Raises:
        InputError: the file is missing, has no frames, or its frames cannot be numbered.
    """
    info = read_video_info(file, cache)
    path = relative_path(root, file)
    return tuple(
        Frame(
            path=path,
            index=position,
            width=info.width,
            height=info.height,
            video_frame=position,
            time=position / info.fps if info.fps else None,
        )
        for position in range(info.frames)
    )


def match_annotations(folder: Path, frames: Sequence[Frame]) -> dict[int, Path]:
    """Return the PNG of each frame whose image has one with the same stem: position in ``frames`` -> file in
    ``folder``."""
    files = {Path(file).stem: folder / file for file in list_names(folder, (".png",))}
    stems = [Path(frame.path).stem for frame in frames]
    return {position: files[stem] for position, stem in enumerate(stems) if stem in files}


def find_lines_without_frames(file: Path, lines: Iterable[int], frames: Sequence[Frame]) -> list[InputError]:
    """Return a problem for the annotated frame numbers that no image has; none when all have one.

    Args:
        file: the annotation file.
        lines: the frame numbers in it.
        frames: of the video.
    """
    missing = sorted(set(lines) - {frame.index for frame in frames})
    if not missing:
        return []
    examples = ", ".join(map(str, missing[:3])) + (" …" if len(missing) > 3 else "")
    noun = "frame has" if len(missing) == 1 else "frames have"
    return [InputError(file, f"{len(missing)} annotated {noun} no image: {examples}", field="column frame")]


def find_masks_without_frames(folder: Path, frames: Sequence[Frame]) -> list[InputError]:
    """Return a problem for the PNGs of a folder that have the name of no frame; none when all have one."""
    stems = {Path(frame.path).stem for frame in frames}
    extra = [file for file in list_names(folder, (".png",)) if Path(file).stem not in stems]
    if not extra:
        return []
    examples = ", ".join(map(printable_name, extra[:3])) + (" …" if len(extra) > 3 else "")
    noun = "PNG has" if len(extra) == 1 else "PNGs have"
    return [InputError(folder, f"{len(extra)} {noun} the name of no frame: {examples}")]


def number_paths(paths: Sequence[str]) -> list[int]:
    """Return the number at the end of each path's stem; 0, 1, 2 … when one has none or they do not ascend."""
    stems = (os.path.splitext(os.path.basename(path))[0] for path in paths)
    numbers = [n for stem in stems if (n := trailing_number(stem)) is not None]
    if len(numbers) < len(paths) or any(b <= a for a, b in pairwise(numbers)):
        return list(range(len(paths)))
    return numbers


def trailing_number(stem: str) -> int | None:
    """Return the number that a file name (without its suffix) ends in; None when it has none."""
    match = _NUMBER.search(stem)
    return int(match.group()) if match and len(match.group()) < 16 else None


def require_two_frames(file: Path, annotated: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``annotated`` unchanged.

    Args:
        file: file or folder of the annotation, for the message.
        annotated: positions of the annotated frames.

    Raises:
        InputError: fewer than two annotated frames; a case needs two.
    """
    if len(annotated) < 2:
        raise InputError(file, f"only {len(annotated)} annotated frame(s); two are needed")
    return annotated
