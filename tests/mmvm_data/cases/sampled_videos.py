"""Videos of squares, and the cases that are drawn from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mmvm_data.cases.sampling import CaseDraft, VideoSampler
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core import masks
from mmvm_data.core.types import Frame, Region, Rle, Video

HEIGHT, WIDTH = 90, 160
NOISE = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
LOOSE = SamplingOptions(min_area=50, min_side=6, none_share=0.0, cases_per_video=8)


def square(x: int, y: int, side: int = 20, height: int = 0) -> Rle:
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8)
    bitmap[y : y + (height or side), x : x + side] = 1
    return masks.encode(bitmap)


def video(
    regions: Callable[[int], list[Region]],
    frames: int = 10,
    name: str = "v",
    step: int = 1,
    annotated: tuple[int, ...] = (),
) -> Video:
    return Video.lazy(
        lambda p: tuple(regions(p)),
        id=name,
        source="test",
        frames=tuple(Frame(path=f"{i}.jpg", index=i * step, width=WIDTH, height=HEIGHT) for i in range(frames)),
        annotated=annotated or tuple(range(frames)),
    )


def row(count: int, category: str | None = None) -> Callable[[int], list[Region]]:
    return lambda p: [Region(id=str(k), mask=square(2 + 26 * k, 2 + p), category=category) for k in range(count)]


def drawn(v: Video, options: SamplingOptions = LOOSE, count: int = 8) -> list[CaseDraft | str]:
    sampler = VideoSampler(v, options, lambda p: NOISE)
    return [sampler.draw_case(k) for k in range(count)]


def drafts(v: Video, options: SamplingOptions = LOOSE, count: int = 8) -> list[CaseDraft]:
    return [d for d in drawn(v, options, count) if isinstance(d, CaseDraft)]
