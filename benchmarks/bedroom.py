"""Reference masks for two children in the bedroom clip of SAM 2's repository, which has none of its own.

The clip is cut as `ingest` cuts it, into 16 pictures. In each of them a box was drawn by hand around each child, and
clicks where the mask of the box alone was wrong to the eye; MobileSAM drew the masks, which were looked at. So the
reference has the segmenter of what is measured, and nothing else of it: an IoU with it says how well an object is
found, not how exact its edge is. Where the boy is mostly hidden behind the girl there is no reference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvm_data.annotation.tracks.cut import CutOptions, cut_clips
from mmvm_data.annotation.tracks.layout import iter_shots
from mmvm_data.io import media

CLIP = "sam2_bedroom_video/bedroom.mp4"
VOID = 255
FRAMES = (0, 16, 24, 51, 60, 76, 84, 100, 108, 124, 132, 148, 156, 172, 180, 196)
Points = tuple[tuple[int, int], ...]
Mark = tuple[tuple[int, int, int, int], Points, Points]
"""A box (left, top, right, bottom), clicks on the child, and clicks beside it, in pixels of 960 x 540."""

GIRL: dict[int, Mark] = {
    0: ((312, 0, 517, 396), ((390, 100), (390, 230), (372, 350), (415, 330)), ((440, 350),)),
    1: (
        (187, 10, 497, 400),
        ((339, 145), (346, 244), (306, 356), (375, 350)),
        ((233, 330), (273, 224), (412, 330)),
    ),
    2: ((168, 98, 476, 462), ((320, 211), (320, 300), (315, 165), (205, 215)), ((238, 270), (224, 359), (270, 139))),
    3: ((243, 76, 465, 492), ((355, 260), (355, 330), (350, 460), (350, 150)), ((278, 405),)),
    4: ((176, 2, 455, 436), ((325, 150), (325, 250), (340, 360)), ((270, 237), (300, 340))),
    5: ((200, 0, 391, 436), ((270, 110), (260, 230), (235, 340), (285, 330)), ((345, 300), (318, 375))),
    6: ((140, 86, 325, 529), ((240, 240), (235, 340), (210, 450)), ((305, 350),)),
    7: ((48, 88, 304, 502), ((235, 240), (200, 330), (200, 450)), ((154, 165), (286, 360))),
    8: ((36, 0, 294, 419), ((231, 132), (218, 224), (244, 46), (224, 343)), ((145, 310),)),
    9: ((103, 28, 410, 505), (), ()),
    10: ((185, 8, 385, 520), (), ()),
    11: ((231, 17, 483, 469), (), ()),
    12: ((257, 107, 518, 520), (), ()),
    13: ((342, 117, 502, 505), (), ()),
    14: ((309, 12, 512, 370), (), ()),
    15: ((273, 32, 483, 399), (), ()),
}
BOY: dict[int, Mark] = {
    0: ((144, 132, 294, 407), (), ()),
    1: ((190, 195, 308, 434), (), ()),
    2: ((172, 114, 286, 384), ((237, 250), (215, 360), (272, 135)), ((204, 215),)),
    8: ((94, 273, 252, 475), ((165, 300), (150, 380), (145, 400)), ((237, 396), (195, 350))),
    9: ((20, 228, 178, 482), ((95, 330), (60, 280), (110, 390)), ()),
    10: ((0, 174, 195, 459), (), ()),
    11: ((0, 275, 118, 528), (), ()),
    12: ((0, 48, 164, 495), (), ()),
    13: ((0, 48, 190, 518), (), ()),
    14: ((46, 0, 213, 428), (), ()),
    15: ((83, 0, 241, 442), (), ()),
}
OBJECTS = {"bedroom-girl": GIRL, "bedroom-boy": BOY}


def read_shot(realdata: Path, folder: Path, name: str, segmenter: Any) -> tuple[list[Path], list[NDArray[np.uint8]]]:
    """The pictures of the clip, and in each 1 where the child is; all of it is void where there is no reference.

    Args:
        realdata: the folder of the clips.
        folder: where the pictures are written.
        name: one of ``OBJECTS``.
        segmenter: ``MobileSam``.
    """
    problems = cut_clips([realdata / CLIP], folder, CutOptions()).problems
    if problems:
        raise SystemExit(f"{realdata / CLIP}: {problems[0]}")
    ((_, shot),) = iter_shots(folder)
    if tuple(frame.index for frame in shot.frames) != FRAMES:
        raise SystemExit(f"{CLIP} is cut into other pictures than {FRAMES}; draw the boxes again")
    images: list[Path] = []
    truth: list[NDArray[np.uint8]] = []
    for position, frame in enumerate(shot.frames):
        images.append(folder / frame.path)
        values = np.full((frame.height, frame.width), VOID, np.uint8)
        if mark := OBJECTS[name].get(position):
            (left, top, right, bottom), clicks, others = mark
            image = segmenter.embed(media.read_frame_bgr(folder, frame))
            box = (float(left), float(top), float(right - left), float(bottom - top))
            drawn, scores, _ = segmenter.segment(image, box, clicks, others)
            values = drawn[int(np.argmax(scores))].astype(np.uint8)
        truth.append(values)
    return images, truth
