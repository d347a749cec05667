"""How many cases a source is likely to give, from a few of its videos; nothing is written."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from mmvm_data.builders import Source
from mmvm_data.cases.sampling import VideoSampler
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Video
from mmvm_data.io import media
from mmvm_data.pipeline.build import shuffle_videos
from mmvm_data.pipeline.source_defaults import with_frame_rate
from mmvm_data.recipes.multi_source.plan import PlannedSource, count_variants

_MAX_VIDEOS = 5
_CACHED_FRAMES = 4


def estimate_cases(source: PlannedSource, opened: Source) -> int:
    """The number of cases that a source is likely to give, from the first videos of the build's order.

    Embeddings, which only rank candidates, are left out; of variants the most that can be is assumed.
    """
    sampling = with_frame_rate(source.reader, replace(source.sampling, embeddings=None))
    videos = shuffle_videos(opened.videos, sampling.seed, source.reader)[:_MAX_VIDEOS]
    drawn = 0
    for video_id in videos:
        try:
            video = opened.load(video_id)
        except InputError:
            continue
        sampler = VideoSampler(video, sampling, lru_cache(_CACHED_FRAMES)(partial(_read_frame, video)))
        for ordinal in range(sampling.max_cases_per_video):
            if isinstance(sampler.draw_case(ordinal), str):
                break
            drawn += 1
    return round(drawn * count_variants(sampling) * len(opened.videos) / len(videos)) if videos else 0


def _read_frame(video: Video, position: int) -> NDArray[np.uint8]:
    """A frame, uint8 [h, w, 3], BGR."""
    rendered = video.render_frame(position)
    return media.load_frame(video.root, video.frames[position]).bgr if rendered is None else rendered
