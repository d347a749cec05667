"""Props that occlude toys but are not annotated: trees, bushes, rocks, posts."""

from __future__ import annotations

import math
from itertools import pairwise

from mmvm_data.synth.pen import Color, Pen, box, ellipse, limb, smooth
from mmvm_data.synth.toys import Toy

_TRUNK: Color = (126, 92, 64)


def _draw_tree(pen: Pen) -> None:
    pen.fill(limb(0, 0.04, 0, 1.1, 0.2, 0.12), color=_TRUNK)
    for x, y, r, color in (
        (-0.3, 1.3, 0.38, (70, 128, 66)),
        (0.3, 1.35, 0.36, (78, 138, 70)),
        (0, 1.65, 0.44, (94, 156, 80)),
    ):
        pen.fill(ellipse(x, y, r, r * 0.9), color=color, edge=0.012)


def _draw_fir(pen: Pen) -> None:
    pen.fill(limb(0, 0.04, 0, 0.5, 0.16, 0.12), color=_TRUNK)
    for y, r, color in ((0.3, 0.56, (48, 98, 80)), (0.8, 0.44, (56, 110, 88)), (1.26, 0.32, (66, 124, 98))):
        pen.fill(smooth([(-r, y), (r, y), (0.02, y + 0.85), (-0.02, y + 0.85)], 1), color=color, edge=0.012)


def _draw_palm(pen: Pen) -> None:
    pen.fill(smooth([(-0.1, 0), (0.1, 0), (0.14, 0.9), (0.32, 1.6), (0.2, 1.62), (0, 0.9)]), color=(158, 122, 84))
    for turn in (-0.5, 0.25, 1.1, 2.0, 2.8, 3.6):
        tip = (0.26 + 0.66 * math.cos(turn), 1.6 + 0.42 * math.sin(turn) - 0.1)
        middle = (0.26 + 0.36 * math.cos(turn), 1.66 + 0.36 * math.sin(turn))
        pen.fill(
            smooth([(0.26, 1.64), middle, tip, (middle[0], middle[1] - 0.16), (0.26, 1.54)], 2),
            color=(84, 150, 92),
            edge=0.012,
        )


def _draw_bush(pen: Pen) -> None:
    for x, y, r, color in (
        (-0.36, 0.22, 0.28, (74, 128, 68)),
        (0.36, 0.22, 0.28, (70, 122, 66)),
        (0, 0.32, 0.36, (90, 148, 76)),
    ):
        pen.fill(ellipse(x, y, r, r * 0.85), color=color, edge=0.012)


def _draw_rock(pen: Pen) -> None:
    pen.fill(
        smooth([(-0.5, 0.02), (0.5, 0.02), (0.46, 0.3), (0.16, 0.56), (-0.24, 0.5), (-0.46, 0.28)], 2),
        color=(150, 146, 144),
        edge=0.012,
    )
    pen.fill(smooth([(-0.2, 0.42), (0.14, 0.48), (0.3, 0.3), (0, 0.26)], 2), color=(172, 168, 164), edge=0)


def _draw_cactus(pen: Pen) -> None:
    green: Color = (92, 146, 96)
    for points in ([(0, 0.1), (0, 1.3)], [(0, 0.5), (-0.3, 0.55), (-0.32, 0.95)], [(0, 0.65), (0.3, 0.7), (0.32, 1.1)]):
        for (x0, y0), (x1, y1) in pairwise(points):
            pen.fill(limb(x0, y0, x1, y1, 0.2, 0.18), color=green, edge=0.012)
    pen.fill(limb(0, 0.1, 0, 1.3, 0.24, 0.22), color=green, edge=0)


def _draw_post(pen: Pen) -> None:
    pen.fill(box(-0.06, 0, 0.12, 1.7, 0.04), color=(112, 116, 128))
    pen.fill(box(-0.16, 0, 0.32, 0.1, 0.04), color=(90, 94, 106))
    pen.fill(ellipse(0, 1.78, 0.17, 0.17), color=(255, 240, 196), edge=0.014)


PROPS: dict[str, Toy] = {
    "bush": Toy(_draw_bush, 0.9, 0.72, 0.74),
    "cactus": Toy(_draw_cactus, 1.0, 0.5, 1.46),
    "fir": Toy(_draw_fir, 1.1, 0.62, 2.2),
    "palm": Toy(_draw_palm, 1.2, 1.05, 2.2),
    "post": Toy(_draw_post, 1.0, 0.3, 2.0),
    "rock": Toy(_draw_rock, 0.9, 0.56, 0.62),
    "tree": Toy(_draw_tree, 1.1, 0.74, 2.15),
}
"""Props by name; drawn like toys."""
