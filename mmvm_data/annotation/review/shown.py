"""Images of cases for the screen: the clean ones, with marks as thick and large as the page's scale asks for.

A browser makes a large image smaller, and its numbers with it. Here they are drawn larger by the same ratio, so that
they are as large on the screen as in an image that fits. Digits get a dark edge, since the seventh, the ninth and some
later colors are almost white. The benchmark's own files stay as they are; these lie in ``annotation/shown``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

from mmvm_data.annotation.labelstudio.history import FOLDER
from mmvm_data.cases.render import distinct_colors, is_faint
from mmvm_data.core.errors import OutputError
from mmvm_data.core.types import Case
from mmvm_data.formats.drawing import draw_case_image, encode_jpeg
from mmvm_data.io import media
from mmvm_data.io.files import atomic_write, list_names, path_kind, safe_join

SHOWN: Final = f"{FOLDER}/shown"


class PageSizes(NamedTuple):
    """How large the page shows images at most in a window of 1366 x 768: width and height in pixels.

    Attributes:
        query: of the images with the query.
        candidates: of the last image.
    """

    query: tuple[int, int]
    candidates: tuple[int, int]


PAGE: Final = PageSizes((380, 288), (830, 578))
_LEAST_LINE: Final = 2.5
"""From this ratio of an image's size to the page's on, a line of two pixels is fainter than one."""
_LEAST_NUMBER: Final = 1.25
"""From this ratio on, the smallest numbers (11 pixels high) are hard to read."""


def find_magnification(size: tuple[int, int], page: PageSizes, candidates: int = 0) -> float | None:
    """How many times as large the marks of an image have to be; None when the benchmark's can be seen.

    Args:
        size: width and height of the image, in pixels.
        page: at which size it is shown.
        candidates: how many are numbered in it; 0 for an image with the query.
    """
    ratio = max(side / most for side, most in zip(size, page.candidates if candidates else page.query, strict=True))
    if ratio >= (_LEAST_NUMBER if candidates else _LEAST_LINE):
        return round(ratio, 2)
    return 1.0 if any(is_faint(color) for color in distinct_colors(candidates)) else None


def create_folder(directory: Path) -> Path:
    """Create the folder of these images in a benchmark and return it: a server refuses a storage that is not there.

    Raises:
        OutputError: it cannot be created.
    """
    folder = directory / SHOWN
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(error.filename or folder, error) from error
    return folder


def draw_shown_images(directory: Path, case: Case, page: PageSizes) -> dict[int, str]:
    """Draw the images of a case whose marks are too small or too faint, unless they are there already.

    Args:
        directory: the benchmark.
        case: one whose images can be read.
        page: at which size they are shown.

    Returns:
        position of the image -> path relative to ``directory``; without images for which the benchmark's are shown.

    Raises:
        InputError: an image or a mask cannot be read.
        OutputError: the folder cannot be written.
    """
    shown = {}
    for position, frame in enumerate(case.frames):
        is_last = position == len(case.frames) - 1
        magnify = find_magnification((frame.width, frame.height), page, len(case.candidates) if is_last else 0)
        if magnify is None:
            continue
        regions = [c.region for c in case.candidates] if is_last else [case.query[position]]
        facts = "".join(region.model_dump_json() for region in regions)
        facts += f"{[c.number for c in case.candidates]} {magnify} edges {frame.model_dump_json()}"
        name = f"{SHOWN}/{case.id}/{position}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}.jpg"
        path = safe_join(directory, name, case.id, "id")
        if path_kind(path) != "file":
            image = media.read_frame_bgr(directory, frame)
            drawn = draw_case_image(case, position, image, magnify=magnify, has_edges=True)
            _replace(path, f"{position}-", encode_jpeg(drawn))
        shown[position] = name
    return shown


def _replace(path: Path, start: str, content: bytes) -> None:
    """Write an image in place of those of earlier states of the case."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, "wb", sync=False) as out:
            out.write(content)
        for name in list_names(path.parent, (".jpg",)):
            if name.startswith(start) and name != path.name:
                (path.parent / name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(error.filename or path, error) from error
