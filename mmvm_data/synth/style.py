"""Styles of toys. Look-alikes differ a little in hue, coat, a painted number or letter, and accents such as a scarf."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]
COAT_SPAN = 2.5
"""Toy units that the side of a coat's image covers."""
_SIDE = 320
_EVEN_PATTERNS = (
    "bands",
    "checks",
    "spots",
    "stripes",
)  # any part of such a coat has about the mean color of all of it
_MEAN_RANGE = (105.0, 150.0)  # of a coat's mean red, green and blue
_SWING = (70.0, 95.0)  # by which the colors of a coat differ from the mean
_CONTRASTS = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))  # light, and hues: directions in RGB
_SHIFTS = 3  # of a coat's color towards a mean; each makes good what clipping took from the one before
_SAMPLED = 4  # every fourth pixel of each fourth row decides the shift
_SIGNS = "0123456789ABCDEFHKLMNPRSTVXZ"


@dataclass(frozen=True)
class Style:
    """The appearance of one toy.

    Attributes:
        base, second, accent: RGB of the coat's ground, of its pattern, and of scarves, hats and trims.
        coat: uint8 [n, n, 3], the pattern that is painted on the body.
        marker: uint8 [m, m, 4], RGBA, a plate with a number or letter, or None.
        sign: the text on the plate, "" for none.
        build: three numbers in -1..1 that vary proportions.
    """

    base: Color
    second: Color
    accent: Color
    coat: NDArray[np.uint8]
    marker: NDArray[np.uint8] | None
    sign: str
    build: tuple[float, float, float]


def draw_similar_styles(count: int, random: np.random.Generator) -> list[Style]:
    """Styles of ``count`` toys of one category, easy to confuse but no two equal."""
    hue = float(random.random())
    saturation, value = float(random.uniform(0.45, 0.8)), float(random.uniform(0.72, 0.95))
    pattern = str(random.choice(sorted(COAT_PATTERNS)))
    mixed = bool(random.random() < 0.35)
    plates = bool(random.random() < 0.55)
    signs = random.permutation(list(_SIGNS))[:count].tolist()
    build = random.uniform(-0.7, 0.7, 3)
    contrast = bool(random.random() < 0.5)
    styles = []
    for number in range(count):
        shift = (number - (count - 1) / 2) * float(random.uniform(0.012, 0.035))
        base = hsv_to_rgb(hue + shift, saturation, value)
        second = (
            hsv_to_rgb(hue + shift + 0.5, 0.35, 0.95)
            if contrast
            else hsv_to_rgb(hue + shift, saturation * 0.8, value * 0.55)
        )
        accent = hsv_to_rgb(hue + 0.33 + 0.17 * number, 0.75, 0.9)
        coat_pattern = str(random.choice(sorted(COAT_PATTERNS))) if mixed else pattern
        coat = COAT_PATTERNS[coat_pattern](base, second, random)
        sign = str(signs[number]) if plates else ""
        varied = tuple(np.clip(build + random.uniform(-0.3, 0.3, 3), -1, 1).tolist())
        marker = _paint_plate(sign, random) if sign else None
        styles.append(Style(base, second, accent, coat, marker, sign, varied))
    return styles


def draw_patterned_styles(count: int, random: np.random.Generator) -> list[Style]:
    """Styles of ``count`` toys of one category with equal proportions, whose coats have other patterns in other colors,
    but all the same mean color.

    The two colors of a coat lie on opposite sides of that mean. Where there are more toys than patterns, a pattern
    repeats in other colors.
    """
    first = draw_similar_styles(1, random)[0]
    mean = random.uniform(*_MEAN_RANGE, 3)
    patterns = _repeat_shuffled(_EVEN_PATTERNS, count, random)
    contrasts = _repeat_shuffled(_CONTRASTS, count, random)
    plates = bool(random.random() < 0.55)
    signs = random.permutation(list(_SIGNS))[:count].tolist()
    styles = []
    for pattern, contrast, sign in zip(patterns, contrasts, signs, strict=True):
        swing = np.multiply(contrast, random.choice([-1, 1])) * random.uniform(*_SWING)
        base, second = (tuple(np.rint(mean + side * swing).astype(int).tolist()) for side in (1, -1))
        coat = _shift_to_mean(COAT_PATTERNS[pattern](base, second, random), mean)
        text = str(sign) if plates else ""
        marker = _paint_plate(text, random) if text else None
        styles.append(replace(first, coat=coat, marker=marker, sign=text))
    return styles


def _repeat_shuffled(items: Sequence[Any], count: int, random: np.random.Generator) -> list[Any]:
    """``count`` of the items, each once in an order that is drawn, then each once again, and so on."""
    rounds = range(-(-count // len(items)))
    return [item for _ in rounds for item in random.permutation(items).tolist()][:count]


def hsv_to_rgb(hue: float, saturation: float, value: float) -> Color:
    """RGB 0..255 of a hue (turns, any real number), saturation and value (0..1)."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _paint_plain(base: Color, second: Color, random: np.random.Generator) -> NDArray[np.uint8]:
    grain = cv2.resize(random.normal(0, 1, (20, 20)).astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    return _blend_colors(base, second, np.clip(0.12 + 0.1 * grain, 0, 0.4))


def _paint_stripes(base: Color, second: Color, random: np.random.Generator) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:_SIDE, 0:_SIDE].astype(np.float32) / (_SIDE / COAT_SPAN)
    angle = random.uniform(-0.5, 0.5)
    wave = 0.05 * np.sin(y * random.uniform(4, 8) + random.uniform(0, 6))
    across = x * np.cos(angle) + y * np.sin(angle) + wave
    return _blend_colors(
        base, second, _soft_threshold(np.sin(across * 2 * np.pi / random.uniform(0.15, 0.24)) - 0.1, 0.35)
    )


def _paint_bands(base: Color, second: Color, random: np.random.Generator) -> NDArray[np.uint8]:
    y = np.mgrid[0:_SIDE, 0:_SIDE][0].astype(np.float32) / (_SIDE / COAT_SPAN)
    return _blend_colors(base, second, _soft_threshold(np.sin(y * 2 * np.pi / random.uniform(0.2, 0.32)) - 0.2, 0.25))


def _paint_spots(base: Color, second: Color, random: np.random.Generator) -> NDArray[np.uint8]:
    weight = np.zeros((_SIDE, _SIDE), np.uint8)
    step = int(random.integers(26, 40))
    radius = step * random.uniform(0.22, 0.34)
    for row, y in enumerate(range(0, _SIDE + step, step)):
        for x in range(0, _SIDE + step, step):
            dx, dy = random.uniform(-0.22, 0.22, 2) * step
            place = round(x + dx + (row % 2) * step / 2), round(y + dy)
            cv2.circle(weight, place, round(radius * random.uniform(0.7, 1.15)), 255, -1, cv2.LINE_AA)
    return _blend_colors(base, second, weight.astype(np.float32) / 255)


def _paint_patches(base: Color, second: Color, random: np.random.Generator) -> NDArray[np.uint8]:
    noise = random.normal(0, 1, (9, 9)).astype(np.float32)
    field = cv2.resize(noise, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    return _blend_colors(base, second, _soft_threshold(field - 0.25, 0.12))


def _paint_checks(base: Color, second: Color, random: np.random.Generator) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:_SIDE, 0:_SIDE].astype(np.float32) / (_SIDE / COAT_SPAN)
    period = random.uniform(0.26, 0.4)
    field = np.sin(x * 2 * np.pi / period) * np.sin(y * 2 * np.pi / period)
    return _blend_colors(base, second, 0.85 * _soft_threshold(field, 0.12))


COAT_PATTERNS: dict[str, Callable[[Color, Color, np.random.Generator], NDArray[np.uint8]]] = {
    "bands": _paint_bands,
    "checks": _paint_checks,
    "patches": _paint_patches,
    "plain": _paint_plain,
    "spots": _paint_spots,
    "stripes": _paint_stripes,
}
"""Patterns by name: (ground color, pattern color, generator) -> uint8 [n, n, 3]."""


def _blend_colors(base: Color, second: Color, weight: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Two colors blended by a weight [n, n] in 0..1 of the second."""
    share = weight[..., None].astype(np.float32)
    colors = np.asarray((base, second), np.float32)
    blended: NDArray[np.uint8] = np.rint(colors[0] * (1 - share) + colors[1] * share).astype(np.uint8)
    return blended


def _shift_to_mean(coat: NDArray[np.uint8], mean: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A coat with another mean color (RGB [3]); what is out of the range of RGB is clipped."""
    sample = coat[::_SAMPLED, ::_SAMPLED].astype(np.float64)
    shift = np.zeros(3)
    for _ in range(_SHIFTS):
        shift += mean - np.clip(sample + shift, 0, 255).mean(axis=(0, 1))
    shifted: NDArray[np.uint8] = np.clip(np.rint(coat + shift), 0, 255).astype(np.uint8)
    return shifted


def _soft_threshold(field: NDArray[np.floating[Any]], softness: float) -> NDArray[np.floating[Any]]:
    """0 where a field is negative, 1 where it is positive, with a linear ramp of width ``softness`` in between."""
    weight: NDArray[np.floating[Any]] = np.clip(field / softness + 0.5, 0, 1)
    return weight


def _paint_plate(sign: str, random: np.random.Generator) -> NDArray[np.uint8]:
    """A round white plate with dark text, uint8 [96, 96, 4]."""
    side = 96
    ink = hsv_to_rgb(float(random.random()), 0.7, 0.35)
    plate = np.zeros((side, side, 4), np.uint8)
    plate[..., :3] = ink
    cv2.circle(plate, (side // 2, side // 2), 44, (*ink, 255), -1, cv2.LINE_AA)
    cv2.circle(plate, (side // 2, side // 2), 39, (250, 248, 240, 255), -1, cv2.LINE_AA)
    (width, height), _ = cv2.getTextSize(sign, cv2.FONT_HERSHEY_DUPLEX, 2.0, 5)
    place = ((side - width) // 2, (side + height) // 2)
    cv2.putText(plate, sign, place, cv2.FONT_HERSHEY_DUPLEX, 2.0, (*ink, 255), 5, cv2.LINE_AA)
    return plate
