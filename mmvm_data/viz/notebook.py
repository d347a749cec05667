"""Cases and videos as HTML for notebooks; ``Case._repr_html_`` and ``Video._repr_html_`` call this module."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmvm_data.cases import render
from mmvm_data.core import masks, polygons
from mmvm_data.core.case_facts import source_name
from mmvm_data.core.errors import InputError
from mmvm_data.core.plurals import pluralize
from mmvm_data.core.types import MATCH_TYPES, Case, Option, Video
from mmvm_data.formats.drawing import draw_case_image
from mmvm_data.io import media, pages
from mmvm_data.io.thumbnails import encode_webp, webp_thumbnail
from mmvm_data.viz.case_images import image_paths

MAX_SIZE = (520, 390)
"""Width and height of an image in pixels, at most."""
MAX_FRAMES = 3
"""Frames of a video that are shown."""


class _Image(NamedTuple):
    """A WebP as base64 text, None when the image cannot be shown; and its caption."""

    data: str | None
    caption: str


class _Choice(NamedTuple):
    """An option, and whether it is the correct one."""

    option: Option
    is_right: bool


def case_html(case: Case) -> str:
    """Return the images of a case with their marks, the question, and the options with the correct one marked.

    The drawn image files are used; where there are none, the clean images are drawn. An image that cannot be read, or a
    case without a ``root``, shows as "image not available".
    """
    images = []
    for position in range(len(case.frames)):
        is_last = position == len(case.frames) - 1
        name = "candidates" if is_last else "query"
        images.append(_Image(_case_image(case, position), f"image {position + 1}: {name}"))
    return pages.render(
        "mmvm_data.viz/notebook_case.html",
        case=case,
        source=source_name(case),
        images=images,
        choices=[_Choice(option, option.number == case.answer) for option in case.options],
        match_types=[MATCH_TYPES[number] for number in sorted(set(case.match_types))],
    )


def video_html(video: Video) -> str:
    """Return the first, the middle and the last annotated frame of a video with the outlines of their objects.

    A frame that cannot be read shows as "image not available".
    """
    annotated = video.annotated
    steps = min(MAX_FRAMES, len(annotated))
    positions = [annotated[k * (len(annotated) - 1) // max(steps - 1, 1)] for k in range(steps)]
    images = [_video_image(video, position) for position in positions]
    return pages.render("mmvm_data.viz/notebook_video.html", video=video, images=images)


def _case_image(case: Case, position: int) -> str | None:
    if case.root is None:
        return None
    frame = case.frames[position]
    try:
        drawn, _ = image_paths(case)[position]
        data = webp_thumbnail(case.root / drawn, frame.width, frame.height, MAX_SIZE)
        if data is None:
            bgr = np.asarray(media.read_frame_bgr(case.root, frame), np.uint8)
            data = encode_webp(draw_case_image(case, position, bgr), MAX_SIZE)
    except (InputError, OSError):
        return None
    return data


def _video_image(video: Video, position: int) -> _Image:
    frame = video.frames[position]
    caption = f"frame {frame.index}"
    try:
        regions = video.regions(position)
        pixels = video.render_frame(position)
        bgr = np.asarray(media.read_frame_bgr(video.root, frame) if pixels is None else pixels, np.uint8).copy()
        crops = [masks.crop(masks.region_mask(region, *bgr.shape[:2])) for region in regions]
        _mark_objects(bgr, [polygons.trace_contours(*crop) for crop in crops])
    except (InputError, OSError, ValueError):
        return _Image(None, caption)
    return _Image(encode_webp(bgr, MAX_SIZE), f"{caption}: {pluralize(len(regions), 'object')}")


def _mark_objects(bgr: NDArray[np.uint8], outlines: list[list[NDArray[Any]]]) -> None:
    """Draw the outlines of objects and their numbers; an object without pixels is skipped."""
    visible = [contours for contours in outlines if contours]
    colors = [color[::-1] for color in render.distinct_colors(len(visible) + 1)]
    render.mark_candidates(bgr, visible, range(1, len(visible) + 1), colors)
