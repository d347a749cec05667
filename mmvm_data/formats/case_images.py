"""The image files of a case as bytes, for formats that embed them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from mmvm_data.core.case_facts import check_masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case, Frame
from mmvm_data.formats.drawing import draw_case_image, encode_jpeg
from mmvm_data.formats.tsv import drawn_paths
from mmvm_data.io import media
from mmvm_data.io.checked_images import read_frame_image
from mmvm_data.io.files import safe_join


class CaseImage(NamedTuple):
    """One image file: its bytes, its path in the benchmark, and its ending such as ".jpg"."""

    data: bytes
    path: str
    suffix: str


def load_clean_image(case: Case, root: Path) -> list[CaseImage]:
    """The clean images of a case, byte for byte but for their orientation tag; frames of a video file as JPEG.

    Raises:
        InputError: one is missing, damaged or of another size.
    """
    return [_clean_image(frame, media.load_frame(root, frame), root) for frame in case.frames]


def load_clean_and_marked(case: Case, root: Path) -> tuple[list[CaseImage], list[CaseImage]]:
    """The clean images of a case, and the marked ones: the files beside them, or drawn again.

    Raises:
        InputError: a clean one is missing; one is damaged, of another size, or a link out of ``root``; a clean one
            cannot be drawn on; or a mask is broken or not of its image's size.
    """
    check_masks(case)
    frames = [media.load_frame(root, frame) for frame in case.frames]
    clean = [_clean_image(frame, pixels, root) for frame, pixels in zip(case.frames, frames, strict=True)]
    marked_paths = drawn_paths(case)
    marked = []
    for position, pixels in enumerate(frames):
        path = safe_join(root, marked_paths[position], case.id) if marked_paths else None
        if path is not None and os.path.lexists(path):
            data = read_frame_image(root, marked_paths[position], case.frames[position], case.id)
            marked.append(CaseImage(data, marked_paths[position], path.suffix.lower()))
        else:
            jpeg = encode_jpeg(draw_case_image(case, position, pixels.bgr))
            marked.append(CaseImage(jpeg, f"{case.id}/marked{position}.jpg", ".jpg"))
    return clean, marked


def check_orientation(file: Path, name: str, field: str | None = None) -> None:
    """Check that an image that others show from its file asks them for no rotation, which its masks do not follow.

    Args:
        file: the image.
        name, field: what the message names.

    Raises:
        InputError: it does, or it cannot be read.
    """
    if media.has_orientation(file):
        reason = "its orientation tag asks for a rotation, which its masks do not follow"
        raise InputError(name, f"{reason}; mmvm-data export --to bench writes a copy without such tags", field)


def require_root(case: Case, root: Path | None) -> Path:
    """Folder that the paths of a case's frames are relative to.

    Raises:
        InputError: neither the case nor the caller names it.
    """
    folder = root or case.root
    if folder is None:
        raise InputError(case.id, "does not say in which folder its images lie")
    return Path(folder)


def _clean_image(frame: Frame, pixels: media.Pixels, root: Path) -> CaseImage:
    if frame.video_frame is not None:
        return CaseImage(encode_jpeg(pixels.bgr), f"{frame.path}.{frame.video_frame}.jpg", ".jpg")
    if pixels.jpeg is not None:
        return CaseImage(pixels.jpeg, frame.path, ".jpg")
    path = safe_join(root, frame.path, frame.path)
    return CaseImage(media.read_image_bytes(path), frame.path, path.suffix.lower())
