"""The image files of a case as bytes, for formats that carry them inside."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case, Frame
from mmvm_data.formats.drawing import draw, jpeg
from mmvm_data.formats.tsv import drawn_paths
from mmvm_data.io import media
from mmvm_data.io.files import path_kind, safe_join


class Picture(NamedTuple):
    """One image file: its bytes, its path in the benchmark, and its ending such as ".jpg"."""

    data: bytes
    path: str
    suffix: str


def clean(case: Case, root: Path) -> list[Picture]:
    """The images of a case as they were, byte for byte; frames of a video file as JPEG.

    Raises:
        InputError: one is missing, damaged or of another size.
    """
    return [_clean(frame, media.load_frame(root, frame), root) for frame in case.frames]


def both(case: Case, root: Path) -> tuple[list[Picture], list[Picture]]:
    """The images of a case as they were, and with their marks: the drawn files beside them, or drawn anew.

    Raises:
        InputError: a clean one is missing, damaged or of another size, or cannot be drawn upon.
    """
    pixels = [media.load_frame(root, frame) for frame in case.frames]
    originals = [_clean(frame, found, root) for frame, found in zip(case.frames, pixels, strict=True)]
    beside = drawn_paths(case)
    drawn = []
    for position, found in enumerate(pixels):
        path = safe_join(root, beside[position], case.id) if beside else None
        if path is not None and path_kind(path) == "file":
            drawn.append(Picture(media.read_bytes(path), beside[position], path.suffix.lower()))
        else:
            drawn.append(Picture(jpeg(draw(case, position, found.bgr)), f"{case.id}/marked{position}.jpg", ".jpg"))
    return originals, drawn


def root_of(case: Case, root: Path | None) -> Path:
    """Folder that the paths of a case's frames are relative to.

    Raises:
        InputError: neither the case nor the caller says.
    """
    found = root or case.root
    if found is None:
        raise InputError(case.id, "does not say in which folder its images lie")
    return Path(found)


def _clean(frame: Frame, pixels: media.Pixels, root: Path) -> Picture:
    if frame.video_frame is not None:
        return Picture(jpeg(pixels.bgr), f"{frame.path}.{frame.video_frame}.jpg", ".jpg")
    if pixels.jpeg is not None:
        return Picture(pixels.jpeg, frame.path, ".jpg")
    path = safe_join(root, frame.path, frame.path)
    return Picture(media.read_bytes(path), frame.path, path.suffix.lower())
