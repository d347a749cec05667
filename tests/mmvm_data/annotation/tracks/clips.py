"""Clips that tests make for themselves."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np


def write_clip(path: Path, shots: tuple[int, ...] = (40, 40), still: bool = False, variable: bool = False) -> Path:
    """A clip of 160 x 120 pixels, 20 frames a second: in each shot a bright square moves over a ground of its own.

    Args:
        shots: frames of each.
        still: nothing moves.
        variable: every frame is shown 0.01 s longer than the one before, from 0.02 s on.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 160, 120, "yuv420p", 4_000_000
        stream.codec_context.time_base = Fraction(1, 1000)
        shown, number = 0, 0
        for k, frames in enumerate(shots):
            rng = np.random.default_rng(k)
            ground = cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), (160, 120))
            for f in range(frames):
                image = ground.copy()
                x = 10 if still else 10 + 90 * f // frames
                image[40:90, x : x + 50] = (255, 255, 255) if k % 2 == 0 else (0, 0, 0)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = shown, Fraction(1, 1000)
                number += 1
                shown += 20 + 10 * number if variable else 50
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
