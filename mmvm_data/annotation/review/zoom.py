"""The zoom of a review page: one key enlarges the query and the candidate that is looked at, by the same factor.

Label Studio's own zoom knows one image and no objects. A task knows where its objects lie, so it brings their places as
custom properties of CSS, in the first of its options, whose ``html`` is the one thing in a task's data that may bring
a style; the page's style moves its images by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mmvm_data.cases.baselines import region_box
from mmvm_data.core.types import Case, Frame, Region

_MAX_OPTIONS: Final = 38
"""Options that can be looked at: 37 candidates, and none of them."""
_FILLED: Final = 0.5
"""Share of the image's side that the larger one of the two objects takes."""
_FACTORS: Final = (1.5, 8.0)

_STYLE: Final = """
.mmvm { --near: var(--zoom0, 1); --far: 1; --far-x: 50%; --far-y: 50%; }
.mmvm:has(ZOOMED) .mmvm-marks .lsf-image { overflow: hidden; }
.mmvm:has(ZOOMED) .mmvm-marks .lsf-image canvas, .mmvm:has(ZOOMED) .mmvm-marks .konvajs-content { visibility: hidden; }
.mmvm:has(ZOOMED) .mmvm-marks .lsf-image img {
    width: 100% !important; height: 100% !important; clip: auto !important; transform: none !important;
    scale: var(--by);
    translate: clamp(100% * (1 - var(--by)), 50% - var(--by) * var(--x), 0%)
        clamp(100% * (1 - var(--by)), 50% - var(--by) * var(--y), 0%);
}
"""
"""``--near`` is the factor of images with the query, ``--far`` that of the last one, which stays as it is while no
candidate is looked at. An image leaves no part of its frame empty. The editor draws images on a canvas, in as many
pixels as they have on the screen, over an ``img`` that has all of them: that one is enlarged, and the canvas hidden."""


def write_zoom_style(num_images: int, zoomed: str, options: str) -> str:
    """The rules of a page, CSS.

    Args:
        num_images: of the page.
        zoomed: selector of what the page has while it is zoomed.
        options: selector of the element that holds the options.
    """
    rules = [_STYLE.replace("ZOOMED", zoomed).strip()]
    rules += [
        f".mmvm-marks .mmvm-side:nth-child({k}) {{ --by: var(--by{k}, var(--far)); "
        f"--x: var(--query-x{k}, var(--far-x)); --y: var(--query-y{k}, var(--far-y)); }}"
        for k in range(1, num_images + 1)
    ]
    for state in (" input:checked", ":hover input"):  # the pointer goes before what is ticked
        rules += [
            f".mmvm:has({options} .lsf-choice:nth-child({n}){state}) {{ --near: var(--zoom{n}, var(--zoom0, 1)); "
            f"--far: var(--zoom{n}, 1); --far-x: var(--x{n}, 50%); --far-y: var(--y{n}, 50%); }}"
            for n in range(1, _MAX_OPTIONS + 1)
        ]
    return "\n".join(rules)


def write_zoom_places(case: Case) -> str:
    """What a case's page zooms to, CSS: the place of the query in each of its images, and of each candidate.

    Objects without pixels have no place.
    """
    last = len(case.frames) - 1
    properties, shares = [], []
    for k, (region, frame) in enumerate(zip(case.query, case.frames[:last], strict=False), start=1):
        if place := _find_place(region, frame):
            x, y, share = place
            properties += [f"--query-x{k}:{x}%", f"--query-y{k}:{y}%", f"--by{k}:var(--near)"]
            shares.append(share)
    properties.append(f"--zoom0:{_find_factor(shares)}")
    regions = {candidate.number: candidate.region for candidate in case.candidates}
    for n, option in enumerate(case.options, start=1):
        if option.number in regions and (place := _find_place(regions[option.number], case.frames[last])):
            x, y, share = place
            properties += [f"--zoom{n}:{_find_factor([*shares, share])}", f"--x{n}:{x}%", f"--y{n}:{y}%"]
    return f".mmvm{{{';'.join(properties)}}}"


def _find_place(region: Region, frame: Frame) -> tuple[float, float, float] | None:
    """Center of an object in per cent of the image's sides, and the larger share of them that it takes."""
    x, y, width, height = region_box(region)
    if width <= 0 or height <= 0:
        return None
    center = 100 * (x + width / 2) / frame.width, 100 * (y + height / 2) / frame.height
    return round(center[0], 1), round(center[1], 1), max(width / frame.width, height / frame.height)


def _find_factor(shares: Sequence[float]) -> float:
    """By how much images are enlarged so that objects which take these shares of them can be seen whole."""
    least, most = _FACTORS
    return round(min(max(_FILLED / max(shares, default=1.0), least), most), 2)
