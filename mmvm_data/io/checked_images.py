"""Image files of a benchmark, checked before their bytes are embedded, sent or shown."""

from __future__ import annotations

from pathlib import Path

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame
from mmvm_data.io import media
from mmvm_data.io.files import path_kind, real_path, safe_join


def read_checked_image(root: Path, name: str, size: tuple[int, int] | None, where: str | Path | None = None) -> bytes:
    """Return the bytes of an image file: a regular file inside ``root`` that decodes and has the expected size.

    Args:
        root: folder that the file must stay in, whether or not it is a link; folders may be links.
        name: path relative to ``root``.
        size: width and height in pixels; None accepts any.
        where: the record that names the file, for messages about the path itself; None for the path.

    Raises:
        InputError: it is missing, no regular file, a link that leads out of ``root``, cut off, damaged, or of another
            size.
    """
    path = safe_join(root, name, where or name)
    if path_kind(path) == "nothing":
        raise InputError(path, "image is missing")
    if path.is_symlink():
        target = real_path(path)
        if not target.is_relative_to(real_path(root)):
            raise InputError(path, f"image is a link to {target}, which is outside of {root}")
    return media.read_checked_bytes(path, size or media.read_image_size(path))


def read_frame_image(root: Path, name: str, frame: Frame, where: str | Path | None = None) -> bytes:
    """Return the bytes of an image of a frame, the clean or the drawn one, checked as in ``read_checked_image``."""
    return read_checked_image(root, name, (frame.width, frame.height), where)
