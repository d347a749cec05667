"""Renders a toy at one place, size and rotation: antialiased pixels, lit from the top left."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.synth.pen import Pen
from mmvm_data.synth.style import Style
from mmvm_data.synth.toys import Toy


class Sprite(NamedTuple):
    """A rendered toy.

    Attributes:
        rgb: RGB times coverage, float32 [h, w, 3] in 0..255.
        cover: coverage of each pixel, float32 [h, w] in 0..1.
        x, y: pixel of the image at which the top left corner lies; may be outside.
    """

    rgb: NDArray[np.float32]
    cover: NDArray[np.floating[Any]]
    x: int
    y: int


class Pose(NamedTuple):
    """Place, size and rotation of a toy in the image.

    Attributes:
        x, y: pixels of the point on the ground (or under the basket).
        unit: pixels in one toy unit.
        facing: 1 to the right, -1 to the left, in between while it turns; never 0.
        tilt: radians, counterclockwise.
        phase: radians of its legs or wheels.
    """

    x: float
    y: float
    unit: float
    facing: float
    tilt: float
    phase: float


def paint_sprite(toy: Toy, style: Style, pose: Pose) -> Sprite:
    """Render a toy, on a canvas of two or three times the image's resolution that is then averaged over pixels."""
    scale = 2 if pose.unit > 90 else 3
    tilt = pose.tilt - (pose.phase if toy.rolls else 0)
    cos, sin = math.cos(tilt), math.sin(tilt)
    rotation = np.array([[cos * pose.facing, -sin], [-sin * pose.facing, -cos]]) * pose.unit
    corners = np.array([(x, y) for x in (-toy.half_width, toy.half_width) for y in (-0.06, toy.height)])
    hub = np.array((0.0, toy.rolls))
    offset = np.array((pose.x, pose.y - toy.rolls * pose.unit)) - rotation @ hub
    canvas_corners = corners @ rotation.T + offset
    x0, y0 = np.floor(canvas_corners.min(axis=0)).astype(int) - 1
    x1, y1 = np.ceil(canvas_corners.max(axis=0)).astype(int) + 1
    width, height = int(x1 - x0), int(y1 - y0)
    matrix = np.column_stack((rotation, offset - (x0, y0))) * scale
    shape = (height * scale, width * scale)
    pen = Pen(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8), matrix, pose.unit * scale, style, pose.phase)
    toy.draw(pen)
    rgb = cv2.resize(pen.rgb, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    cover = cv2.resize(pen.alpha, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return Sprite(_shade(rgb, cover, pose.unit), cover, int(x0), int(y0))


def _shade(rgb: NDArray[np.float32], cover: NDArray[np.floating[Any]], unit: float) -> NDArray[np.float32]:
    """The RGB of a sprite, brighter towards the light at the top left and darker away from it, as if it were padded."""
    reach = max(1.0, unit * 0.07)
    soft = cv2.GaussianBlur(cover, (0, 0), reach, borderType=cv2.BORDER_CONSTANT)
    step = max(1, round(reach))
    slope = np.zeros_like(soft)
    slope[step:-step, step:-step] = (
        soft[2 * step :, step:-step]
        - soft[: -2 * step, step:-step]
        + 0.6 * (soft[step:-step, 2 * step :] - soft[step:-step, : -2 * step])
    )
    light = np.clip(1.0 + 0.34 * slope, 0.66, 1.3)[..., None]
    shaded: NDArray[np.float32] = np.minimum(rgb * light, 255 * cover[..., None])
    return shaded
