"""What tells look-alikes apart: hue, coat, a painted number or letter, a scarf; each by a little."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

Color = tuple[int, int, int]
COAT_SPAN = 2.5
"""Toy units that the side of a coat's picture covers."""
_SIDE = 320
_SIGNS = "0123456789ABCDEFHKLMNPRSTVXZ"


@dataclass(frozen=True)
class Look:
    """One toy's own appearance.

    Attributes:
        base, second, accent: RGB of the coat's ground, of its pattern, and of scarves, hats and trims.
        coat: uint8 [n, n, 3], the pattern that is painted on the body.
        marker: uint8 [m, m, 4], a plate with a number or letter, or None.
        sign: the text on the plate, "" for none.
        build: three numbers in -1..1 that bend proportions.
    """

    base: Color
    second: Color
    accent: Color
    coat: np.ndarray
    marker: np.ndarray | None
    sign: str
    build: tuple[float, float, float]


def look_alikes(count: int, random: np.random.Generator) -> list[Look]:
    """Looks of ``count`` toys of one category, easy to confuse but no two alike."""
    hue = float(random.random())
    saturation, value = float(random.uniform(0.45, 0.8)), float(random.uniform(0.72, 0.95))
    pattern = str(random.choice(sorted(COATS)))
    mixed = bool(random.random() < 0.35)
    plates = bool(random.random() < 0.55)
    signs = random.permutation(list(_SIGNS))[:count].tolist()
    build = random.uniform(-0.7, 0.7, 3)
    contrast = bool(random.random() < 0.5)
    looks = []
    for number in range(count):
        shift = (number - (count - 1) / 2) * float(random.uniform(0.012, 0.035))
        base = hsv(hue + shift, saturation, value)
        second = hsv(hue + shift + 0.5, 0.35, 0.95) if contrast else hsv(hue + shift, saturation * 0.8, value * 0.55)
        accent = hsv(hue + 0.33 + 0.17 * number, 0.75, 0.9)
        style = str(random.choice(sorted(COATS))) if mixed else pattern
        coat = COATS[style](base, second, random)
        sign = str(signs[number]) if plates else ""
        bend = tuple(np.clip(build + random.uniform(-0.3, 0.3, 3), -1, 1).tolist())
        looks.append(Look(base, second, accent, coat, _plate(sign, random) if sign else None, sign, bend))
    return looks


def hsv(hue: float, saturation: float, value: float) -> Color:
    """RGB 0..255 of a hue (turns, any real number), saturation and value (0..1)."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _plain(base: Color, second: Color, random: np.random.Generator) -> np.ndarray:
    grain = cv2.resize(random.normal(0, 1, (20, 20)).astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    return _mix(base, second, np.clip(0.12 + 0.1 * grain, 0, 0.4))


def _stripes(base: Color, second: Color, random: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:_SIDE, 0:_SIDE].astype(np.float32) / (_SIDE / COAT_SPAN)
    angle = random.uniform(-0.5, 0.5)
    wave = 0.05 * np.sin(y * random.uniform(4, 8) + random.uniform(0, 6))
    across = x * np.cos(angle) + y * np.sin(angle) + wave
    return _mix(base, second, _step(np.sin(across * 2 * np.pi / random.uniform(0.15, 0.24)) - 0.1, 0.35))


def _bands(base: Color, second: Color, random: np.random.Generator) -> np.ndarray:
    y = np.mgrid[0:_SIDE, 0:_SIDE][0].astype(np.float32) / (_SIDE / COAT_SPAN)
    return _mix(base, second, _step(np.sin(y * 2 * np.pi / random.uniform(0.2, 0.32)) - 0.2, 0.25))


def _spots(base: Color, second: Color, random: np.random.Generator) -> np.ndarray:
    weight = np.zeros((_SIDE, _SIDE), np.uint8)
    step = int(random.integers(26, 40))
    radius = step * random.uniform(0.22, 0.34)
    for row, y in enumerate(range(0, _SIDE + step, step)):
        for x in range(0, _SIDE + step, step):
            dx, dy = random.uniform(-0.22, 0.22, 2) * step
            place = round(x + dx + (row % 2) * step / 2), round(y + dy)
            cv2.circle(weight, place, round(radius * random.uniform(0.7, 1.15)), 255, -1, cv2.LINE_AA)
    return _mix(base, second, weight.astype(np.float32) / 255)


def _patches(base: Color, second: Color, random: np.random.Generator) -> np.ndarray:
    noise = random.normal(0, 1, (9, 9)).astype(np.float32)
    field = cv2.resize(noise, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    return _mix(base, second, _step(field - 0.25, 0.12))


def _checks(base: Color, second: Color, random: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:_SIDE, 0:_SIDE].astype(np.float32) / (_SIDE / COAT_SPAN)
    period = random.uniform(0.26, 0.4)
    field = np.sin(x * 2 * np.pi / period) * np.sin(y * 2 * np.pi / period)
    return _mix(base, second, 0.85 * _step(field, 0.12))


COATS: dict[str, Callable[[Color, Color, np.random.Generator], np.ndarray]] = {
    "bands": _bands,
    "checks": _checks,
    "patches": _patches,
    "plain": _plain,
    "spots": _spots,
    "stripes": _stripes,
}
"""Patterns by name: (ground colour, pattern colour, generator) -> uint8 [n, n, 3]."""


def _mix(base: Color, second: Color, weight: np.ndarray) -> np.ndarray:
    """Two colours blended by a weight [n, n] in 0..1 of the second."""
    share = weight[..., None].astype(np.float32)
    colors = np.asarray((base, second), np.float32)
    return np.rint(colors[0] * (1 - share) + colors[1] * share).astype(np.uint8)


def _step(field: np.ndarray, softness: float) -> np.ndarray:
    return np.clip(field / softness + 0.5, 0, 1)


def _plate(sign: str, random: np.random.Generator) -> np.ndarray:
    """A round white plate with dark text, uint8 [96, 96, 4]."""
    side = 96
    ink = hsv(float(random.random()), 0.7, 0.35)
    plate = np.zeros((side, side, 4), np.uint8)
    plate[..., :3] = ink
    cv2.circle(plate, (side // 2, side // 2), 44, (*ink, 255), -1, cv2.LINE_AA)
    cv2.circle(plate, (side // 2, side // 2), 39, (250, 248, 240, 255), -1, cv2.LINE_AA)
    (width, height), _ = cv2.getTextSize(sign, cv2.FONT_HERSHEY_DUPLEX, 2.0, 5)
    place = ((side - width) // 2, (side + height) // 2)
    cv2.putText(plate, sign, place, cv2.FONT_HERSHEY_DUPLEX, 2.0, (*ink, 255), 5, cv2.LINE_AA)
    return plate
