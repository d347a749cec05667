"""Polygons as people draw them -> the pixels that they see filled.

Label Studio fills a polygon by the nonzero rule of the HTML canvas (Konva's ``Line`` with ``closed``): a pixel belongs
to it when the outline winds around it, however often. COCO's maskApi fills by the even-odd rule, which leaves out a
pixel that the outline winds around twice. The two agree for every ring that does not cross itself and for a bow tie,
not for a pentagram or a loop. For a ring that crosses itself, shapely finds the faces that the even-odd rule leaves
out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvm_data.core import masks
from mmvm_data.core.errors import UsageError
from mmvm_data.core.types import Rle

Ring = list[float]
"""Flat list x0, y0, x1, y1 … in pixels, not closed."""


def fill_rings(rings: list[Ring], height: int, width: int) -> Rle:
    """The pixels that any of several drawn rings covers, as the editor shows them.

    Args:
        rings: three points or more each; a ring without area covers nothing.
        height, width: pixels of the image; what lies outside it is cut off.

    Raises:
        UsageError: shapely is not installed.
    """
    filled = masks.from_polygons(rings, height, width, rule="union")
    faces = [face for ring in rings if not is_simple(ring) for face in doubly_wound_faces(ring)]
    if not faces:
        return filled
    bitmap = masks.decode(filled).astype(bool)
    for exterior, holes in faces:
        face = masks.decode(masks.from_polygons([exterior], height, width)).astype(bool)
        if holes:
            face &= ~masks.decode(masks.from_polygons(holes, height, width, rule="union")).astype(bool)
        bitmap |= face
    return masks.encode(bitmap)


def is_simple(ring: Ring) -> bool:
    """Whether a ring has an area and neither crosses nor touches itself."""
    shapely = _import_shapely()
    return bool(shapely.is_valid(shapely.Polygon(_points(ring))))


def doubly_wound_faces(ring: Ring) -> list[tuple[Ring, list[Ring]]]:
    """The faces of a ring that it winds around an even number of times, but not zero times.

    Returns:
        exterior and holes of each face; faces do not overlap.
    """
    shapely = _import_shapely()
    points = _points(ring)
    outline = shapely.LineString(np.vstack([points, points[:1]]))
    faces = []
    for face in shapely.get_parts(shapely.polygonize([*shapely.get_parts(shapely.node(outline))])):
        inner = face.representative_point()
        winding = winding_number(points, inner.x, inner.y)
        if winding and winding % 2 == 0:
            faces.append((_flatten(face.exterior), [_flatten(hole) for hole in face.interiors]))
    return faces


def winding_number(points: NDArray[np.float64], x: float, y: float) -> int:
    """How often a closed ring [n, 2] winds around a point that does not lie on it (Sunday, 2001)."""
    start, end = points, np.roll(points, -1, axis=0)
    # > 0 where the point lies left of the directed edge
    side = (end[:, 0] - start[:, 0]) * (y - start[:, 1]) - (x - start[:, 0]) * (end[:, 1] - start[:, 1])
    upward = (start[:, 1] <= y) & (end[:, 1] > y) & (side > 0)
    downward = (start[:, 1] > y) & (end[:, 1] <= y) & (side < 0)
    return int(upward.sum()) - int(downward.sum())


def simplify_ring(ring: NDArray[np.int32], tolerance: float) -> NDArray[np.float64]:
    """A ring [n, 2] that does not cross itself with fewer points, which does not cross itself either.

    Args:
        ring: corners along pixel edges.
        tolerance: pixels that the new ring may lie off the old one.
    """
    shapely = _import_shapely()
    simple = shapely.Polygon(ring).simplify(tolerance, preserve_topology=True)
    return np.asarray(simple.exterior.coords, np.float64)[:-1]


def _points(ring: Ring) -> NDArray[np.float64]:
    return np.asarray(ring, np.float64).reshape(-1, 2)


def _flatten(ring: Any) -> Ring:
    coordinates: Ring = np.asarray(ring.coords, np.float64)[:-1].ravel().tolist()
    return coordinates


def _import_shapely() -> Any:
    try:
        import shapely
    except ImportError as error:
        raise UsageError("drawn polygons need one more package: pip install 'mmvm-data[review]'") from error
    return shapely
