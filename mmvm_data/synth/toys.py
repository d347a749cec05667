"""The toys: animals and vehicles drawn from a few parts each, with legs that step and wheels that turn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from mmvm_data.synth.pen import Color, Pen, box, ellipse, limb, smooth

_INK: Color = (38, 34, 40)
_TIRE: Color = (58, 56, 62)
_METAL: Color = (196, 200, 206)
_CREAM: Color = (246, 238, 220)
_GLASS: Color = (190, 224, 238)
_BEAK: Color = (240, 150, 50)


@dataclass(frozen=True)
class Toy:
    """One category.

    Attributes:
        draw: draws it with a pen.
        size: meters of the toy world in one toy unit.
        half_width, height: extent of the drawing, in toy units.
        flies: lowest and highest height over the ground in meters, or None.
        faces: whether it has a front and turns to the direction of travel.
        rolls: radius in toy units of a toy that rolls as it moves, else 0.
    """

    draw: Callable[[Pen], None]
    size: float
    half_width: float
    height: float
    flies: tuple[float, float] | None = None
    faces: bool = True
    rolls: float = 0.0


def _draw_eye(pen: Pen, x: float, y: float, radius: float = 0.045) -> None:
    pen.fill(ellipse(x, y, radius, radius * 1.15), color=(252, 252, 250), edge=0.008)
    pen.fill(ellipse(x + radius * 0.3, y, radius * 0.55, radius * 0.7), color=_INK, edge=0)


def _stamp_marker(pen: Pen, x: float, y: float, height: float) -> None:
    if pen.style.marker is not None:
        pen.stamp(pen.style.marker, x, y, height)


def _draw_legs(pen: Pen, places: tuple[float, ...], top: float, width: float, far: bool) -> None:
    for number, x in enumerate(places):
        swing = 0.16 * top * math.sin(pen.phase + math.pi * (number + far))
        lift = max(0.0, 0.1 * top * math.cos(pen.phase + math.pi * (number + far)))
        color = tuple(int(v * 0.62) for v in pen.style.base) if far else None
        pen.fill(limb(x, top, x + swing, lift + width * 0.5, width * 1.25, width), color=color)  # type: ignore[arg-type]
        pen.fill(box(x + swing - width * 0.55, lift, width * 1.25, width * 0.6), color=_INK, edge=0)


def _draw_quadruped(pen: Pen, long: float, leg: float, neck: float, thick: float, head: float) -> None:
    """Body from -long/2 to long/2, on legs; the neck rises forward."""
    b0, b1, _ = pen.style.build
    leg, thick = leg * (1 + 0.12 * b0), thick * (1 + 0.12 * b1)
    back, front = -long * 0.36, long * 0.36
    y = leg + thick * 0.4
    _draw_legs(pen, (back + 0.07, front + 0.05), leg + 0.08, 0.1, far=True)
    wag = 0.12 * math.sin(pen.phase * 2)
    pen.fill(limb(-long * 0.46, y + 0.08, -long * 0.46 - 0.2, y + 0.22 + wag, 0.09, 0.05))
    _draw_legs(pen, (back - 0.03, front - 0.05), leg + 0.08, 0.11, far=False)
    nx, ny = front + 0.06 + neck * 0.35, y + thick * 0.3 + neck
    pen.fill(limb(front - 0.02, y + 0.04, nx, ny, thick * 0.62, head * 0.72))
    pen.fill(ellipse(0, y, long / 2, thick / 2))
    pen.fill(ellipse(nx - 0.02, ny + head * 0.42, 0.05, 0.11, 0.5), color=pen.style.second)
    pen.fill(ellipse(nx + head * 0.25, ny + 0.02, head * 0.62, head * 0.46, -0.15))
    pen.fill(ellipse(nx + head * 0.66, ny - head * 0.12, head * 0.28, head * 0.23), color=_CREAM)
    pen.fill(ellipse(nx + head * 0.86, ny - head * 0.08, 0.035, 0.03), color=_INK, edge=0)
    pen.fill(ellipse(nx - head * 0.1, ny + head * 0.2, head * 0.16, head * 0.36, 0.35), color=pen.style.second)
    _draw_eye(pen, nx + head * 0.34, ny + head * 0.14)
    pen.draw_line([(nx - head * 0.42, ny - head * 0.28), (nx + head * 0.16, ny - head * 0.5)], pen.style.accent, 0.07)
    _stamp_marker(pen, -long * 0.08, y, thick * 0.74)


def _draw_dog(pen: Pen) -> None:
    _draw_quadruped(pen, long=0.86, leg=0.3, neck=0.16, thick=0.4, head=0.3)


def _draw_llama(pen: Pen) -> None:
    _draw_quadruped(pen, long=0.96, leg=0.46, neck=0.34, thick=0.42, head=0.28)


def _draw_giraffe(pen: Pen) -> None:
    _draw_quadruped(pen, long=0.76, leg=0.54, neck=0.82, thick=0.38, head=0.22)
    x, y = 0.76 * 0.36 + 0.06 + 0.82 * 0.35, 0.54 + 0.38 * 0.7 + 0.95
    for dx in (-0.03, 0.06):
        pen.draw_line([(x + dx, y), (x + dx, y + 0.12)], pen.style.second, 0.03)


def _draw_sheep(pen: Pen) -> None:
    _draw_legs(pen, (-0.2, 0.24), 0.3, 0.08, far=True)
    _draw_legs(pen, (-0.28, 0.16), 0.3, 0.08, far=False)
    wool = [(0.45 + 0.035 * (n % 2)) for n in range(26)]
    turns = [2 * math.pi * n / len(wool) for n in range(len(wool))]
    outline = [(r * math.cos(a), 0.5 + r * 0.72 * math.sin(a)) for r, a in zip(wool, turns, strict=True)]
    pen.fill(smooth(outline, 2))
    face = tuple(int(v * 0.35) for v in pen.style.base)
    pen.fill(ellipse(0.42, 0.66, 0.19, 0.15, -0.5), color=face)  # type: ignore[arg-type]
    pen.fill(ellipse(0.28, 0.75, 0.05, 0.12, 0.9), color=face)  # type: ignore[arg-type]
    pen.fill(smooth([(0.22, 0.78), (0.34, 0.9), (0.46, 0.82), (0.4, 0.74), (0.28, 0.72)]), color=pen.style.accent)
    _draw_eye(pen, 0.46, 0.7)
    _stamp_marker(pen, -0.1, 0.5, 0.36)


def _draw_duck(pen: Pen) -> None:
    b0 = pen.style.build[0]
    for number, x in enumerate((-0.06, 0.08)):
        swing = 0.09 * math.sin(pen.phase + math.pi * number)
        pen.draw_line([(x, 0.24), (x + swing, 0.04)], _BEAK, 0.045)
        pen.fill(smooth([(x + swing - 0.04, 0), (x + swing + 0.14, 0), (x + swing, 0.07)]), color=_BEAK)
    pen.fill(smooth([(-0.58, 0.62), (-0.42, 0.24), (0.1, 0.14), (0.42, 0.34), (0.3, 0.62), (-0.1, 0.56), (-0.3, 0.5)]))
    pen.fill(limb(0.22, 0.5, 0.26, 0.8 + 0.08 * b0, 0.24, 0.2))
    pen.draw_line([(0.12, 0.66), (0.36, 0.64)], pen.style.accent, 0.07)
    pen.fill(ellipse(0.28, 0.86 + 0.08 * b0, 0.19, 0.17))
    pen.fill(
        smooth([(0.42, 0.9 + 0.08 * b0), (0.68, 0.83 + 0.08 * b0), (0.62, 0.78 + 0.08 * b0), (0.42, 0.76 + 0.08 * b0)]),
        color=_BEAK,
    )
    flap = 0.05 * math.sin(pen.phase)
    pen.fill(smooth([(-0.4, 0.5 + flap), (0.12, 0.54), (0.16, 0.32), (-0.14, 0.24 + flap)]), color=pen.style.second)
    _draw_eye(pen, 0.32, 0.92 + 0.08 * b0)
    _stamp_marker(pen, -0.05, 0.4, 0.24)


def _draw_wheel(pen: Pen, x: float, radius: float, spokes: int, open_: bool) -> None:
    """A wheel on the ground; an open one is a thin ring with spokes, with holes in between."""
    if not open_:
        pen.fill(ellipse(x, radius, radius, radius), color=_TIRE)
        pen.fill(ellipse(x, radius, radius * 0.56, radius * 0.56), color=_METAL, edge=0.012)
    else:
        pen.fill(
            ellipse(x, radius, radius, radius), ellipse(x, radius, radius * 0.8, radius * 0.8), color=_TIRE, edge=0
        )
    for number in range(spokes):
        turn = -pen.phase + 2 * math.pi * number / spokes
        reach = radius * (0.86 if open_ else 0.5)
        end = (x + reach * math.cos(turn), radius + reach * math.sin(turn))
        pen.draw_line([(x, radius), end], pen.style.accent if open_ else _TIRE, 0.026 if open_ else 0.04)


def _draw_car(pen: Pen) -> None:
    b0 = 0.05 * pen.style.build[0]
    pen.fill(smooth([(-0.48, 0.44), (-0.34, 0.82 + b0), (0.22, 0.84 + b0), (0.44, 0.44)], 2))
    pen.cut(smooth([(-0.34, 0.5), (-0.26, 0.74 + b0), (-0.06, 0.75 + b0), (-0.06, 0.5)], 2))
    pen.cut(smooth([(0.02, 0.5), (0.02, 0.75 + b0), (0.17, 0.75 + b0), (0.32, 0.5)], 2))
    pen.fill(smooth([(-0.78, 0.16), (-0.8, 0.48), (-0.46, 0.52), (0.4, 0.52), (0.76, 0.44), (0.8, 0.16)], 2))
    pen.fill(box(-0.76, 0.17, 1.52, 0.07), color=pen.style.accent, edge=0.01)
    pen.fill(ellipse(0.7, 0.36, 0.06, 0.06), color=(255, 240, 170), edge=0.012)
    pen.fill(box(-0.78, 0.32, 0.07, 0.1, 0.02), color=(214, 60, 50), edge=0.01)
    for x in (-0.46, 0.46):
        _draw_wheel(pen, x, 0.19, 5, open_=False)
    _stamp_marker(pen, 0.0, 0.37, 0.26)


def _draw_bus(pen: Pen) -> None:
    pen.fill(box(-0.95, 0.16, 1.9, 0.86, 0.14))
    pen.fill(box(-0.95, 0.28, 1.9, 0.1, 0.02), color=pen.style.accent, edge=0.01)
    for number in range(4):
        x = -0.82 + 0.36 * number
        pen.fill(box(x - 0.02, 0.58, 0.31, 0.31, 0.05), color=_CREAM, edge=0)
        pen.cut(box(x, 0.6, 0.27, 0.27, 0.04))
    pen.fill(box(0.64, 0.22, 0.24, 0.66, 0.05), color=_GLASS)
    pen.fill(ellipse(0.9, 0.3, 0.045, 0.05), color=(255, 240, 170), edge=0.01)
    for x in (-0.55, 0.45):
        _draw_wheel(pen, x, 0.2, 6, open_=False)
    _stamp_marker(pen, -0.05, 0.42, 0.28)


def _draw_bicycle(pen: Pen) -> None:
    for x in (-0.42, 0.42):
        _draw_wheel(pen, x, 0.34, 8, open_=True)
    seat, crank, head = (-0.2, 0.74), (-0.04, 0.34), (0.32, 0.78)
    for start, end in (
        (seat, crank),
        (crank, head),
        (head, (-0.18, 0.68)),
        (crank, (-0.42, 0.34)),
        ((-0.42, 0.34), seat),
        ((0.42, 0.34), head),
    ):
        pen.draw_line([start, end], pen.style.base, 0.055)
    pen.fill(smooth([(-0.36, 0.84), (-0.04, 0.82), (-0.2, 0.74)]), color=_INK)
    pen.draw_line([(0.32, 0.78), (0.29, 0.94), (0.44, 0.98)], _METAL, 0.045)
    turn = -pen.phase
    reach = (0.13 * math.cos(turn), 0.13 * math.sin(turn))
    pen.draw_line([(crank[0] - reach[0], crank[1] - reach[1]), (crank[0] + reach[0], crank[1] + reach[1])], _INK, 0.035)
    pen.fill(ellipse(*crank, 0.075, 0.075), color=pen.style.second)
    pen.fill(box(0.34, 0.56, 0.28, 0.24, 0.05))
    _stamp_marker(pen, 0.48, 0.68, 0.2)


def _draw_robot(pen: Pen) -> None:
    swing = math.sin(pen.phase)
    for side in (-1, 1):
        lift = max(0.0, 0.07 * side * swing)
        pen.fill(box(side * 0.15 - 0.07, lift + 0.05, 0.14, 0.3, 0.04), color=_METAL)
        pen.fill(box(side * 0.16 - 0.12, lift, 0.24, 0.1, 0.05), color=pen.style.second)
        hand = (side * 0.46, 0.4 + 0.14 * side * swing)
        pen.fill(limb(side * 0.27, 0.74, hand[0], hand[1] + 0.1, 0.09, 0.09), color=_METAL)
        pen.fill(ellipse(*hand, 0.1, 0.1), ellipse(*hand, 0.05, 0.05), color=pen.style.accent)
    pen.fill(box(-0.28, 0.32, 0.56, 0.54, 0.09))
    pen.fill(box(-0.23, 0.9, 0.46, 0.34, 0.1))
    pen.fill(box(-0.17, 0.98, 0.34, 0.16, 0.07), color=_INK, edge=0)
    for side in (-1, 1):
        pen.fill(ellipse(side * 0.085, 1.06, 0.04, 0.05), color=(140, 240, 250), edge=0)
    pen.draw_line([(0, 1.24), (0.02 * swing, 1.38)], _METAL, 0.03)
    pen.fill(ellipse(0.02 * swing, 1.4, 0.05, 0.05), color=pen.style.accent)
    _stamp_marker(pen, 0, 0.59, 0.38)


def _draw_balloon(pen: Pen) -> None:
    for x, basket in ((-0.3, -0.12), (0.3, 0.12), (-0.1, -0.05), (0.1, 0.05)):
        pen.draw_line([(x, 0.62), (basket, 0.26)], (120, 92, 60), 0.022)
    pen.fill(smooth([(-0.1, 0.5), (-0.62, 1.02), (-0.5, 1.62), (0, 1.78), (0.5, 1.62), (0.62, 1.02), (0.1, 0.5)]))
    pen.fill(smooth([(-0.24, 0.62), (0.24, 0.62), (0.12, 0.48), (-0.12, 0.48)], 2), color=pen.style.accent)
    pen.fill(box(-0.15, 0.04, 0.3, 0.24, 0.04), color=(176, 128, 76))
    for y in (0.12, 0.2):
        pen.draw_line([(-0.15, y), (0.15, y)], (126, 88, 50), 0.018)
    _stamp_marker(pen, 0, 1.2, 0.5)


def _draw_kite(pen: Pen) -> None:
    tail = [(-0.04 * n - 0.05 * math.sin(pen.phase + 0.8 * n), 0.62 - 0.07 * n) for n in range(9)]
    pen.draw_line([(0, 0.62), *tail], _CREAM, 0.028)
    for number in (2, 5, 8):
        x, y = tail[number]
        pen.fill([(x, y), (x - 0.12, y + 0.07), (x - 0.12, y - 0.07)], color=pen.style.accent)
        pen.fill([(x, y), (x + 0.12, y + 0.07), (x + 0.12, y - 0.07)], color=pen.style.second)
    pen.fill([(0, 0.6), (-0.42, 1.12), (0, 1.5), (0.42, 1.12)])
    pen.draw_line([(0, 0.6), (0, 1.5)], _CREAM, 0.022)
    pen.draw_line([(-0.42, 1.12), (0.42, 1.12)], _CREAM, 0.022)
    _stamp_marker(pen, 0, 1.1, 0.34)


def _draw_ball(pen: Pen) -> None:
    pen.fill(ellipse(0, 0.4, 0.4, 0.4, corners=60))
    pen.fill(
        smooth([(-0.08, 0.8), (0.08, 0.8), (0.14, 0.4), (0.08, 0.0), (-0.08, 0.0), (-0.14, 0.4)], 2),
        color=pen.style.accent,
    )
    _stamp_marker(pen, 0, 0.4, 0.36)


def _draw_hoop(pen: Pen) -> None:
    pen.fill(ellipse(0, 0.5, 0.5, 0.5, corners=60), ellipse(0, 0.5, 0.36, 0.36, corners=60))
    for number in range(3):
        turn = 2 * math.pi * number / 3
        end = (0.4 * math.cos(turn), 0.5 + 0.4 * math.sin(turn))
        pen.draw_line([(0, 0.5), end], pen.style.second, 0.07)
        pen.fill(
            ellipse(0.43 * math.cos(turn + 1), 0.5 + 0.43 * math.sin(turn + 1), 0.06, 0.06), color=pen.style.accent
        )
    pen.fill(ellipse(0, 0.5, 0.17, 0.17), color=pen.style.second)
    _stamp_marker(pen, 0, 0.5, 0.3)


TOYS: dict[str, Toy] = {
    "ball": Toy(_draw_ball, 0.85, 0.46, 0.86, faces=False, rolls=0.4),
    "balloon": Toy(_draw_balloon, 1.0, 0.72, 1.85, flies=(0.5, 1.0), faces=False),
    "bicycle": Toy(_draw_bicycle, 1.0, 0.84, 1.06),
    "bus": Toy(_draw_bus, 1.15, 1.02, 1.1),
    "car": Toy(_draw_car, 1.0, 0.88, 0.95),
    "dog": Toy(_draw_dog, 0.95, 0.86, 1.12),
    "duck": Toy(_draw_duck, 0.75, 0.74, 1.16),
    "giraffe": Toy(_draw_giraffe, 1.0, 0.86, 2.0),
    "hoop": Toy(_draw_hoop, 0.9, 0.56, 1.06, faces=False, rolls=0.5),
    "kite": Toy(_draw_kite, 0.9, 0.62, 1.56, flies=(0.3, 1.0), faces=False),
    "llama": Toy(_draw_llama, 1.0, 0.9, 1.5),
    "robot": Toy(_draw_robot, 0.85, 0.66, 1.5, faces=False),
    "sheep": Toy(_draw_sheep, 0.9, 0.72, 1.06),
}
"""Categories by name."""
