"""A toy at one place, size and turn, as pixels with soft edges and a little light from above left."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from mmvm_data.synth.pen import Pen
from mmvm_data.synth.style import Look
from mmvm_data.synth.toys import Toy


class Sprite(NamedTuple):
    """Part of a picture: RGB times its coverage as float32 [h, w, 3] in 0..255, coverage float32 [h, w] in 0..1, and
    the picture's pixel of the top left corner (may lie outside)."""

    rgb: np.ndarray
    cover: np.ndarray
    x: int
    y: int


class Pose(NamedTuple):
    """Where and how a toy stands in the picture.

    Attributes:
        x, y: pixels of the point on the ground (or under the basket).
        unit: pixels in one toy unit.
        facing: 1 to the right, -1 to the left, between while it turns; never 0.
        tilt: radians, against the clock.
        phase: radians of its legs or wheels.
    """

    x: float
    y: float
    unit: float
    facing: float
    tilt: float
    phase: float


def sprite(toy: Toy, look: Look, pose: Pose) -> Sprite:
    """Paint a toy. The canvas is two or three times the picture's resolution, then averaged over whole pixels."""
    over = 2 if pose.unit > 90 else 3
    tilt = pose.tilt - (pose.phase if toy.rolls else 0)
    cos, sin = math.cos(tilt), math.sin(tilt)
    turn = np.array([[cos * pose.facing, -sin], [-sin * pose.facing, -cos]]) * pose.unit
    corners = np.array([(x, y) for x in (-toy.half_width, toy.half_width) for y in (-0.06, toy.height)])
    hub = np.array((0.0, toy.rolls))
    offset = np.array((pose.x, pose.y - toy.rolls * pose.unit)) - turn @ hub
    placed = corners @ turn.T + offset
    x0, y0 = np.floor(placed.min(axis=0)).astype(int) - 1
    x1, y1 = np.ceil(placed.max(axis=0)).astype(int) + 1
    width, height = int(x1 - x0), int(y1 - y0)
    matrix = np.column_stack((turn, offset - (x0, y0))) * over
    shape = (height * over, width * over)
    pen = Pen(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8), matrix, pose.unit * over, look, pose.phase)
    toy.draw(pen)
    rgb = cv2.resize(pen.rgb, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    cover = cv2.resize(pen.alpha, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return Sprite(_lit(rgb, cover, pose.unit), cover, int(x0), int(y0))


def _lit(rgb: np.ndarray, cover: np.ndarray, unit: float) -> np.ndarray:
    """Brighter towards the light at the top left, darker away from it, as if the toy were padded."""
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
    return np.minimum(rgb * light, 255 * cover[..., None])
