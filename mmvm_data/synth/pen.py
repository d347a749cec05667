"""Draws one toy at any size: flat polygons on a canvas larger than the image, so that edges are antialiased.

Toys are drawn in their own coordinates: x to the right (the direction they face), y up from the ground at 0, one unit
about as high as a dog. The pen's matrix maps these to pixels of the canvas.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.synth.style import COAT_SPAN, Style

Point = tuple[float, float]
Color = tuple[int, int, int]
_SHIFT = 4  # fractional bits of OpenCV's polygon corners


@dataclass
class Pen:
    """A canvas, and the transform of a toy onto it.

    Attributes:
        rgb: uint8 [h, w, 3], black where nothing is painted.
        alpha: uint8 [h, w], 255 where painted.
        matrix: float [2, 3], toy units -> canvas pixels.
        unit: canvas pixels in one toy unit.
        style: colors, coat and marker.
        phase: radians; steps of legs, turns of wheels.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    matrix: NDArray[np.float64]
    unit: float
    style: Style
    phase: float
    _coat: NDArray[np.uint8] | None = field(default=None, repr=False)

    def fill(self, *outlines: Sequence[Point], color: Color | None = None, edge: float = 0.018) -> None:
        """Paint the inside of closed outlines (even-odd: an outline inside another is a hole).

        Args:
            outlines: corners in toy units.
            color: RGB; None paints the coat.
            edge: width of the darker line around it, in units; 0 for none.
        """
        corners = [self._to_pixels(outline) for outline in outlines]
        part = self._bounding_slices(corners)
        mask = np.zeros_like(self.alpha[part])
        origin = (-part[1].start, -part[0].start)
        cv2.fillPoly(
            mask, [c + np.multiply(origin, 1 << _SHIFT, dtype=np.int32) for c in corners], 255, cv2.LINE_8, _SHIFT
        )
        rgb = self.rgb[part]
        if color is None:
            cv2.copyTo(self._warped_coat()[part], mask, rgb)
        else:
            cv2.copyTo(np.full_like(rgb, color), mask, rgb)
        np.maximum(self.alpha[part], mask, out=self.alpha[part])
        if edge > 0:
            self._draw_edges(corners, _darken(color or self.style.base), edge, closed=True)

    def cut(self, *outlines: Sequence[Point]) -> None:
        """Cut holes, through which the background is visible."""
        corners = [self._to_pixels(outline) for outline in outlines]
        cv2.fillPoly(self.alpha, corners, 0, cv2.LINE_8, _SHIFT)
        cv2.fillPoly(self.rgb, corners, (0, 0, 0), cv2.LINE_8, _SHIFT)

    def draw_line(self, points: Sequence[Point], color: Color, width: float) -> None:
        """Draw an open line; ``width`` in units."""
        self._draw_edges([self._to_pixels(points)], color, width, closed=False)

    def stamp(self, image: NDArray[np.uint8], x: float, y: float, height: float) -> None:
        """Paint an RGBA image, never mirrored, over the parts of the toy that are painted already.

        Args:
            image: uint8 [n, n, 4].
            x, y: center in units.
            height: in units.
        """
        side = image.shape[0]
        scale = height * self.unit / side
        turn = self.matrix[:, :2] / self.unit
        if np.linalg.det(turn) > 0:  # facing left: mirror back, so that text stays readable
            turn = turn @ np.diag((-1.0, 1.0))
        turn = turn @ np.diag((scale, -scale))
        center = self.matrix[:, :2] @ (x, y) + self.matrix[:, 2]
        move = np.column_stack((turn, center - turn @ (side / 2, side / 2)))
        size = self.alpha.shape[::-1]
        warped = cv2.warpAffine(image, move, size, flags=cv2.INTER_LINEAR)
        cover = cv2.min(warped[..., 3], self.alpha)
        weight = cover[..., None].astype(np.float32) / 255
        self.rgb[:] = np.rint(self.rgb * (1 - weight) + warped[..., :3] * weight).astype(np.uint8)

    def _to_pixels(self, outline: Iterable[Point]) -> NDArray[np.int32]:
        points = np.asarray(list(outline), np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]
        return np.rint(points * (1 << _SHIFT)).astype(np.int32).reshape(-1, 1, 2)

    def _bounding_slices(self, corners: list[NDArray[np.int32]]) -> tuple[slice, slice]:
        """Slices of the canvas that hold the outlines; never empty."""
        points = np.concatenate(corners)[:, 0] >> _SHIFT
        height, width = self.alpha.shape
        x0, y0 = np.clip(points.min(axis=0) - 1, 0, (width - 1, height - 1)).tolist()
        x1, y1 = np.clip(points.max(axis=0) + 2, 1, (width, height)).tolist()
        return slice(y0, y1), slice(x0, x1)

    def _draw_edges(self, corners: list[NDArray[np.int32]], color: Color, width: float, closed: bool) -> None:
        thickness = max(1, round(width * self.unit))
        cv2.polylines(self.rgb, corners, closed, color, thickness, cv2.LINE_8, _SHIFT)
        cv2.polylines(self.alpha, corners, closed, 255, thickness, cv2.LINE_8, _SHIFT)

    def _warped_coat(self) -> NDArray[np.uint8]:
        if self._coat is None:
            coat = self.style.coat
            side = coat.shape[0]
            per_unit = side / COAT_SPAN
            to_units = np.array([[1 / per_unit, 0, -COAT_SPAN / 2], [0, -1 / per_unit, COAT_SPAN * 0.9], [0, 0, 1]])
            move = np.vstack((self.matrix, (0, 0, 1))) @ to_units
            size = self.alpha.shape[::-1]
            warped = cv2.warpAffine(coat, move[:2], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            self._coat = warped.astype(np.uint8, copy=False)
        return self._coat


def ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0, corners: int = 36) -> list[Point]:
    """Outline of an ellipse; ``tilt`` in radians, counterclockwise."""
    angles = np.linspace(0, 2 * math.pi, corners, endpoint=False)
    px, py = rx * np.cos(angles), ry * np.sin(angles)
    c, s = math.cos(tilt), math.sin(tilt)
    return list(zip((x + c * px - s * py).tolist(), (y + s * px + c * py).tolist(), strict=True))


def limb(x0: float, y0: float, x1: float, y1: float, w0: float, w1: float) -> list[Point]:
    """Outline of a rounded limb from one point to another, ``w0`` and ``w1`` wide at its ends."""
    along = math.atan2(y1 - y0, x1 - x0)
    back = np.linspace(along + math.pi / 2, along + 3 * math.pi / 2, 8)
    front = np.linspace(along - math.pi / 2, along + math.pi / 2, 8)
    ends = [(x0 + w0 / 2 * math.cos(a), y0 + w0 / 2 * math.sin(a)) for a in back.tolist()]
    return ends + [(x1 + w1 / 2 * math.cos(a), y1 + w1 / 2 * math.sin(a)) for a in front.tolist()]


def smooth(points: Sequence[Point], rounds: int = 3) -> list[Point]:
    """A closed outline with its corners rounded by repeated corner cutting (Chaikin 1974)."""
    outline = np.asarray(points, np.float64)
    for _ in range(rounds):
        following = np.roll(outline, -1, axis=0)
        outline = np.stack((0.75 * outline + 0.25 * following, 0.25 * outline + 0.75 * following), 1).reshape(-1, 2)
    return [(float(x), float(y)) for x, y in outline]


def box(x: float, y: float, width: float, height: float, radius: float = 0.06) -> list[Point]:
    """Outline of a rectangle with round corners; (x, y) is its lower left corner."""
    r = min(radius, width / 2, height / 2)
    outline = []
    for cx, cy, start in (
        (x + width - r, y + height - r, 0),
        (x + r, y + height - r, 1),
        (x + r, y + r, 2),
        (x + width - r, y + r, 3),
    ):
        angles = np.linspace(start * math.pi / 2, (start + 1) * math.pi / 2, 6)
        outline += [(cx + r * math.cos(a), cy + r * math.sin(a)) for a in angles.tolist()]
    return outline


def _darken(color: Color) -> Color:
    return tuple(int(value * 0.55) for value in color)  # type: ignore[return-value]
