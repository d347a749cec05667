"""What can be known of each option of a case without understanding its images: numbers for a learned baseline.

One row an option, one column a feature. Places and sizes are shares of the image, colors are means in CIELAB. Ranks
count the candidates of the same case, from 0. What an option does not have (a place for "none of the above", colors
where images are not opened) is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmvm_data.audit.baseline_answers import compare_colors, compare_places
from mmvm_data.audit.case_measures import MeasuredCases, Regions

FEATURE_GROUPS: dict[str, tuple[str, ...]] = {
    "number and letter": ("number", "letter", "is_none", "options", "candidates"),
    "query's place": ("query_x", "query_y"),
    "query's size and shape": ("query_width", "query_height", "query_area", "query_fill"),
    "query's color": ("query_lightness", "query_a", "query_b"),
    "candidate's place": ("x", "y", "from_center", "rank_left", "rank_top", "rank_center"),
    "candidate's size and shape": ("width", "height", "area", "fill", "rank_area"),
    "candidate's color": ("lightness", "a", "b"),
    "distance to the query's place": (
        "shift_x",
        "shift_y",
        "shift",
        "overlap",
        "rank_shift",
        "shift_over_nearest",
        "nearest_shift",
    ),
    "difference to the query's size and shape": (
        "area_ratio",
        "aspect_ratio",
        "size_difference",
        "rank_size_difference",
        "size_difference_over_nearest",
        "nearest_size_difference",
    ),
    "difference to the query's color": (
        "color_difference",
        "rank_color_difference",
        "color_difference_over_nearest",
        "nearest_color_difference",
    ),
}
"""Words for a group of features -> its columns, in their order."""
COLUMNS: tuple[str, ...] = tuple(name for names in FEATURE_GROUPS.values() for name in names)

_PLACES = {name: place for place, name in enumerate(COLUMNS)}
_REGION = ("x", "y", "width", "height", "area", "fill", "lightness", "a", "b")
_DIFFERENCES = ("shift", "size_difference", "color_difference")
_MAX_COMPARED = 1 << 20  # pairs of candidates that are compared at a time


def measure_options(measured: MeasuredCases) -> NDArray[np.float32]:
    """The features of the options of all cases: float32 [options, columns]; columns as in COLUMNS."""
    query, candidates = measured.query, measured.candidates
    options = np.array([len(case.letters) for case in measured.cases])
    start = np.cumsum(options) - options
    owner = np.repeat(np.arange(len(options)), options)
    numbers = np.array([number or 0 for case in measured.cases for number in case.numbers])
    is_none = np.array([number is None for case in measured.cases for number in case.numbers])
    features = np.full((len(owner), len(COLUMNS)), np.nan)
    shared = {"options": options, "candidates": measured.offered}
    shared |= {f"query_{name}": values for name, values in _describe_regions(query).items()}
    own = _describe_regions(candidates) | {"from_center": candidates.from_center}
    differences = _compare_regions(measured, own)
    own |= differences
    ranked = {"left": own["x"], "top": own["y"], "center": own["from_center"], "area": -own["area"]}
    for name in _DIFFERENCES:
        nearest = np.fmin.reduce(own[name], axis=1, initial=np.nan)
        shared[f"nearest_{name}"] = nearest
        own[f"{name}_over_nearest"] = own[name] - nearest[:, None]
        ranked[name] = own[name]
    own |= {f"rank_{name}": _rank(values) for name, values in ranked.items()}
    for name, values in shared.items():
        features[:, _PLACES[name]] = values[owner]
    features[:, _PLACES["letter"]] = np.arange(len(owner)) - start[owner]
    features[:, _PLACES["is_none"]] = is_none
    features[~is_none, _PLACES["number"]] = numbers[~is_none]
    is_same = (measured.numbers[owner] == numbers[:, None]) & measured.is_offered[owner]
    rows, places = np.nonzero(is_same)
    for name, values in own.items():
        if name in _PLACES:
            features[rows, _PLACES[name]] = values[owner[rows], places]
    result = features.astype(np.float32)
    result[~np.isfinite(result)] = np.nan
    return result


def _describe_regions(regions: Regions) -> dict[str, NDArray[np.float64]]:
    pixels = np.maximum(regions.width * regions.height, 1)
    lightness, a, b = np.moveaxis(regions.color, -1, 0)
    values = (
        regions.center_x,
        regions.center_y,
        regions.relative_width,
        regions.relative_height,
        np.log(regions.share),
        regions.size / pixels,
        lightness,
        a,
        b,
    )
    return dict(zip(_REGION, values, strict=True))


def _compare_regions(measured: MeasuredCases, own: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """The candidates beside the query, float [cases, most candidates]."""
    query, candidates = measured.query, measured.candidates
    shift_x, shift_y = compare_places(measured)
    width, height = query.relative_width[:, None], query.relative_height[:, None]
    common = _overlap(width, candidates.relative_width, shift_x) * _overlap(height, candidates.relative_height, shift_y)
    union = width * height + candidates.relative_width * candidates.relative_height - common
    area_ratio = own["area"] - np.log(query.share)[:, None]
    return {
        "shift_x": shift_x,
        "shift_y": shift_y,
        "shift": np.hypot(shift_x, shift_y),
        "overlap": np.divide(common, union, out=np.zeros_like(union), where=~(union <= 0)),
        "area_ratio": area_ratio,
        "aspect_ratio": _log_aspect(candidates) - _log_aspect(query)[:, None],
        "size_difference": np.abs(area_ratio),
        "color_difference": compare_colors(measured),
    }


def _overlap(query: NDArray[np.float64], side: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """The common part of two intervals, by their lengths and the distance of their centers."""
    common = (query + side) / 2 - np.maximum(np.abs(shift), np.abs(query - side) / 2)
    result: NDArray[np.float64] = np.maximum(common, 0.0)
    return result


def _log_aspect(regions: Regions) -> NDArray[np.float64]:
    aspect: NDArray[np.float64] = np.log(np.maximum(regions.width, 1) / np.maximum(regions.height, 1))
    return aspect


def _rank(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many candidates of the case have a lower value, float [cases, most candidates]; NaN has no rank."""
    ranks = np.empty(values.shape)
    step = max(1, _MAX_COMPARED // max(values.shape[1], 1) ** 2)
    for first in range(0, len(values), step):
        part = values[first : first + step]
        ranks[first : first + step] = (part[:, None, :] < part[:, :, None]).sum(axis=2)
    return np.where(np.isnan(values), np.nan, ranks)
