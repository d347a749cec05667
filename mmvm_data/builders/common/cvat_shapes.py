"""Shapes of CVAT's tracks between their keyframes, by CVAT's rule.

Between two shapes of a track, the first of which is not outside, boxes and ellipses move linearly, and turn along the
shorter arc. Points of polygons are paired along the outlines: both are walked from their first points, each point of
the first is paired with the point of the second that is nearest in the share of the outline that was walked, points of
the second that are left over with the nearest of the first, and pairs move linearly. Where several points have one
partner, points that come closer together than half of their mean distance are dropped. So outlines must start at the
same corner and run in the same direction, as CVAT's manual says. After its last shape an object stays as it is. Masks,
and shapes of two kinds, are not interpolated.

Source: docs.cvat.ai, "Track mode with polygons"; github.com/cvat-ai/cvat/pull/1571 for how points are paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from mmvm_data.builders.common.cvat_xml import SHAPE_FIELDS, Shape
from mmvm_data.builders.common.text_files import MAX_COORDINATE, parse_finite
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Box, Rle

MOVING = ("box", "polygon", "ellipse")
"""Kinds of shapes that are interpolated."""
_ELLIPSE_CORNERS = 64
_MAX_POINTS = 10_000
"""Of an outline; pairing points takes time in proportion to the product of two numbers."""

Point = tuple[float, float]
Geometry = list[Point]
"""Points of a polygon; of a box its two corners and (rotation, 0); of an ellipse center, radii, (rotation, 0)."""


def parse_geometry(file: Path, field: str, shape: Shape) -> Geometry:
    """Return the coordinates of a box, polygon or ellipse.

    Args:
        file, field: file and shape in it, for the message.
        shape: of a kind of MOVING.

    Raises:
        InputError: missing or unusable numbers.
    """
    if shape.kind == "polygon":
        texts = [pair.split(",") for pair in shape.values[0].split(";")]
        if len(texts) < 3 or any(len(pair) != 2 for pair in texts) or len(texts) > _MAX_POINTS:
            reason = f"3 to {_MAX_POINTS} points x,y;x,y;x,y are expected, found {shape.values[0][:40]!r}"
            raise InputError(file, reason, field=f"{field}, points")
        return [(_parse(file, field, "points", x), _parse(file, field, "points", y)) for x, y in texts]
    names = SHAPE_FIELDS[shape.kind]
    texts_by_name = zip(names, shape.values, strict=True)
    a, b, c, d, rotation = (
        _parse(file, field, name, text if text or name != "rotation" else "0") for name, text in texts_by_name
    )
    if (c < a or d < b) if shape.kind == "box" else (c < 0 or d < 0):
        raise InputError(file, f"{names[2]} and {names[3]} are too small: {c:g}, {d:g}", field=field)
    return [(a, b), (c, d), (rotation, 0.0)]


def _parse(file: Path, field: str, name: str, text: str) -> float:
    value = parse_finite(text)
    if value is None or abs(value) > MAX_COORDINATE:
        raise InputError(file, f"a number is expected, found {text[:40]!r}", field=f"{field}, {name}")
    return value


def interpolate(kind: str, left: Geometry, right: Geometry, share: float) -> Geometry:
    """Return the shape between two shapes of one kind, at a share (0 to 1) of the time between them."""
    if kind == "polygon":
        return interpolate_polygon(left, right, share)
    turn = (right[2][0] - left[2][0] + 180) % 360 - 180
    return [
        *(_between(p, q, share) for p, q in zip(left[:2], right[:2], strict=True)),
        (left[2][0] + turn * share, 0.0),
    ]


def interpolate_polygon(left: Sequence[Point], right: Sequence[Point], share: float) -> Geometry:
    """Return the polygon between two polygons; see the module for the rule."""
    left, right = [*left, left[0]], [*right, right[0]]  # closed
    partners = _pair_points(left, right)
    moved = [[_between(point, right[k], share) for k in ks] for point, ks in zip(left, partners, strict=True)]
    result: Geometry = []
    start = 0
    while start < len(left):
        stop = start + 1
        if len(partners[start]) > 1:
            first, last = partners[start][0], partners[start][-1]
            run, outline = moved[start], right[first : last + 1]
        else:
            while stop < len(left) and partners[stop] == partners[start]:
                stop += 1
            run, outline = [points[0] for points in moved[start:stop]], left[start:stop]
        result += _drop_close_points(run, outline)
        start = stop
    return result[:-1]


def _between(p: Point, q: Point, share: float) -> Point:
    return p[0] + (q[0] - p[0]) * share, p[1] + (q[1] - p[1]) * share


def _distance(p: Point, q: Point) -> float:
    return math.sqrt((q[0] - p[0]) ** 2 + (q[1] - p[1]) ** 2)


def _walked_shares(points: Sequence[Point]) -> list[float]:
    """Return the share of the outline's length at which each point lies."""
    lengths = [0.0]
    for p, q in pairwise(points):
        lengths.append(lengths[-1] + _distance(p, q))
    return [length / lengths[-1] if lengths[-1] else 0.0 for length in lengths]


def _pair_points(left: Sequence[Point], right: Sequence[Point]) -> list[list[int]]:
    """Return for each point of the left outline the positions of its partners in the right one, ascending."""
    shares, other_shares = np.array(_walked_shares(left)), np.array(_walked_shares(right))
    partners = [[int(np.abs(other_shares - share).argmin())] for share in shares]
    taken = {k for ks in partners for k in ks}
    for k in range(len(right)):
        if k not in taken:
            partners[int(np.abs(shares - other_shares[k]).argmin())].append(k)
    return [sorted(ks) for ks in partners]


def _drop_close_points(points: Geometry, outline: Sequence[Point]) -> Geometry:
    """Return the points of a run without those that are close to the one before; first and last stay, or their mean.

    Args:
        points: the run, between the two outlines.
        outline: its points on the outline that has several of them.
    """
    if len(points) == 1:
        return points
    limit = sum(_distance(p, q) for p, q in pairwise(outline)) / (2 * len(outline))
    kept = [points[0]]
    for point in points[1:-1]:
        if _distance(kept[-1], point) >= limit:
            kept.append(point)
    if len(kept) == 1 and _distance(points[0], points[-1]) < limit:
        return [_between(points[0], points[-1], 0.5)]
    return [*kept, points[-1]]


def to_box(kind: str, geometry: Geometry) -> Box | None:
    """Return the box around a box, polygon or ellipse; None when it has no area."""
    points = geometry if kind == "polygon" else _outline(kind, geometry)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x, y, width, height = min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
    return (x, y, width, height) if width > 0 and height > 0 else None


def _outline(kind: str, geometry: Geometry) -> Geometry:
    """Return the corners of a box that may be turned, or points on an ellipse."""
    (a, b), (c, d), (rotation, _) = geometry
    if kind == "box":
        if not rotation:
            return [(a, b), (c, d)]
        x, y, half = (a + c) / 2, (b + d) / 2, ((c - a) / 2, (d - b) / 2)
        offsets = [(i * half[0], j * half[1]) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    else:
        x, y = a, b
        angles = [2 * math.pi * k / _ELLIPSE_CORNERS for k in range(_ELLIPSE_CORNERS)]
        offsets = [(c * math.cos(angle), d * math.sin(angle)) for angle in angles]
    cos, sin = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    return [(x + i * cos - j * sin, y + i * sin + j * cos) for i, j in offsets]


def to_mask(file: Path, field: str, kind: str, geometry: Geometry, size: tuple[int, int]) -> Rle:
    """Return the mask of a polygon or ellipse in a frame of ``size`` (height, width).

    Raises:
        InputError: a point is far outside the frame, where filling it would take minutes.
    """
    points = geometry if kind == "polygon" else _outline(kind, geometry)
    flat = [value for point in points for value in point]
    if any(abs(value) > 4 * max(size) for value in flat):
        raise InputError(file, "a point is far outside the frame", field=field)
    return masks.from_polygons([flat], *size, rule="union")


def parse_mask(file: Path, field: str, shape: Shape, size: tuple[int, int]) -> Rle:
    """Return the mask of a ``mask`` element: runs row by row in the box left, top, width, height, zeros first.

    Args:
        file, field: file and shape in it, for the message.
        shape: the element.
        size: height and width of the frame.

    Raises:
        InputError: no such numbers, runs that do not fill the box, or a box outside the frame.
    """
    text, *sides = shape.values
    left, top, width, height = (_parse(file, field, n, t) for n, t in zip(SHAPE_FIELDS["mask"][1:], sides, strict=True))
    fits = left >= 0 and top >= 0 and width > 0 and height > 0 and left + width <= size[1] and top + height <= size[0]
    if not fits or not all(value.is_integer() for value in (left, top, width, height)):
        reason = f"a box of whole pixels in the frame is expected, found {left:g}, {top:g}, {width:g}, {height:g}"
        raise InputError(file, reason, field=f"{field}, left, top, width, height")
    try:
        runs = np.array(text.split(","), dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise InputError(file, "runs separated by commas are expected", field=f"{field}, rle") from error
    area = int(width * height)
    if (runs < 0).any() or (runs > area).any() or runs.sum() != area:
        raise InputError(file, f"runs from 0 that sum up to {area} are expected", field=f"{field}, rle")
    values = np.repeat(np.arange(len(runs), dtype=np.uint8) % 2, runs).reshape(int(height), int(width))
    bitmap = np.zeros(size, np.uint8)
    bitmap[int(top) : int(top + height), int(left) : int(left + width)] = values
    return masks.encode(bitmap)
