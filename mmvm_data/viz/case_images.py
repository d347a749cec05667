"""Where the images of a case lie, drawn and clean."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case
from mmvm_data.io.files import safe_join


def image_paths(case: Case) -> list[tuple[str, str]]:
    """Return (drawn, original) paths of a case's images, relative to the benchmark's folder.

    The original of X is its first seven characters + ``_ORI`` + the extension; the last drawn image is X + ``_CAND``.

    Raises:
        InputError: a path leaves the folder or names no file.
    """
    pairs = []
    for position, frame in enumerate(case.frames):
        safe_join(Path(), frame.path, f"{case.id}: frame {position}")
        path = PurePosixPath(frame.path)
        if not path.name:
            raise InputError(f"{case.id}: frame {position}", f"path {frame.path!r} names no file")
        suffix = "_CAND" if position == len(case.frames) - 1 else ""
        pairs.append((str(path.with_name(f"{path.name[:7]}{suffix}{path.suffix}")), frame.path))
    return pairs


def image_files(folder: Path, case: Case) -> list[tuple[Path, int, int]]:
    """Return file, width and height (pixels) of each image: the drawn one, or the clean one without it.

    Raises:
        InputError: a path leaves the folder or names no file.
    """
    files = []
    for frame, (drawn, original) in zip(case.frames, image_paths(case), strict=True):
        path = folder / drawn
        files.append((path if path.is_file() else folder / original, frame.width, frame.height))
    return files
