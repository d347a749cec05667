"""What can be known of each option of a case without understanding its images: numbers for a learned baseline.

One row an option, one column a feature. Places and sizes are shares of the image, colors are means in CIELAB. Ranks
count the candidates of the same case, from 0. What an option does not have (a place for "none of the above", colors
where images are not opened) is NaN.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from mmvm_data.cases import baselines
from mmvm_data.cases.baselines import CaseColors, CaseGeometry, RegionGeometry
from mmvm_data.core.types import Case

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

_MISSING = dict.fromkeys(COLUMNS, math.nan)
_in_order = itemgetter(*COLUMNS)
_QUERY = ("x", "y", "width", "height", "area", "fill", "lightness", "a", "b")
_RANKS: dict[str, Callable[[dict[str, float]], float]] = {
    "rank_left": lambda row: row["x"],
    "rank_top": lambda row: row["y"],
    "rank_center": lambda row: row["from_center"],
    "rank_area": lambda row: -row["area"],
}
_DIFFERENCES = ("shift", "size_difference", "color_difference")


def measure_options(case: Case, colors: CaseColors | None, geometry: CaseGeometry | None = None) -> NDArray[np.float32]:
    """The features of each option.

    Args:
        case: of any kind.
        colors: of its regions, None where its images are not opened.
        geometry: of the case, where it was measured already.

    Returns:
        float32 [options, columns]; columns as in COLUMNS.
    """
    geometry = geometry or baselines.measure_geometry(case)
    shared: dict[str, float] = {"options": len(case.options), "candidates": len(geometry.numbers)}
    query: dict[str, float] = {}
    if geometry.query is not None:
        query = _measure_region(geometry.query, colors.query if colors else None)
        shared |= {f"query_{name}": query[name] for name in _QUERY}
    rows = {}
    for number, candidate in zip(geometry.numbers, geometry.candidates, strict=True):
        row = _measure_region(candidate, colors.candidates.get(number) if colors else None)
        rows[number] = row | (_compare_regions(query, row) if query else {})
    _add_ranks(list(rows.values()), shared)
    lines = []
    for k, option in enumerate(case.options):
        row = {**_MISSING, "letter": k, "is_none": option.number is None, **shared}
        if option.number is not None:
            row |= {"number": option.number} | rows.get(option.number, {})
        lines.append(_in_order(row))
    features = np.array(lines, np.float32).reshape(-1, len(COLUMNS))
    features[~np.isfinite(features)] = np.nan
    return features


def _measure_region(region: RegionGeometry, color: NDArray[np.float64] | None) -> dict[str, float]:
    _, _, width, height = region.box
    lightness, a, b = (math.nan,) * 3 if color is None else color.tolist()
    return {
        "x": region.center[0],
        "y": region.center[1],
        "width": region.sides[0],
        "height": region.sides[1],
        "aspect": math.log(max(width, 1) / max(height, 1)),
        "area": math.log(region.share),
        "fill": region.size / max(width * height, 1),
        "from_center": math.dist(region.center, (0.5, 0.5)),
        "lightness": lightness,
        "a": a,
        "b": b,
    }


def _compare_regions(query: dict[str, float], row: dict[str, float]) -> dict[str, float]:
    """A candidate beside the query."""
    shift_x, shift_y = row["x"] - query["x"], row["y"] - query["y"]
    common = math.prod(
        max(0.0, (query[side] + row[side]) / 2 - max(abs(shift), abs(query[side] - row[side]) / 2))
        for side, shift in (("width", shift_x), ("height", shift_y))
    )
    union = query["width"] * query["height"] + row["width"] * row["height"] - common
    return {
        "shift_x": shift_x,
        "shift_y": shift_y,
        "shift": math.hypot(shift_x, shift_y),
        "overlap": common / union if union > 0 else 0.0,
        "area_ratio": row["area"] - query["area"],
        "aspect_ratio": row["aspect"] - query["aspect"],
        "size_difference": abs(row["area"] - query["area"]),
        "color_difference": math.dist(*([r["lightness"], r["a"], r["b"]] for r in (query, row))),
    }


def _add_ranks(rows: Sequence[dict[str, float]], shared: dict[str, float]) -> None:
    """Add the ranks among the candidates to ``rows``, and the lowest differences to what all options share."""
    for name, key in _RANKS.items():
        _add_rank(rows, name, [key(row) for row in rows])
    for name in _DIFFERENCES:
        values = [row.get(name, math.nan) for row in rows]
        known = [value for value in values if not math.isnan(value)]
        if not known:
            continue
        shared[f"nearest_{name}"] = min(known)
        _add_rank(rows, f"rank_{name}", values)
        for row, value in zip(rows, values, strict=True):
            row[f"{name}_over_nearest"] = value - min(known)


def _add_rank(rows: Sequence[dict[str, float]], name: str, values: Sequence[float]) -> None:
    """Add how many candidates have a lower value; a candidate without a value has no rank."""
    ascending = sorted(value for value in values if not math.isnan(value))
    for row, value in zip(rows, values, strict=True):
        row[name] = math.nan if math.isnan(value) else bisect_left(ascending, value)
