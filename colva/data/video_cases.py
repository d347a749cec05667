"""Cases drawn from videos while stage 2 trains: other ones in each epoch, and no files are written.

A case is a function of the video, the training seed, the epoch and its number in the epoch, so that order, workers and
restarts do not matter.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmvm_data import Source, open_source
from mmvm_data.cases.sampling import VideoSampler, make_case
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import Case, Frame, Region, Video
from mmvm_data.io import media

Draw = tuple[int, int, int]
"""Training seed, epoch and repetition, of which a drawn case is a function."""
FIXED_DRAW: Draw = (0, 0, 0)


@dataclass(frozen=True)
class VideoRecords:
    """The cases of a source of videos: `cases_per_video` consecutive numbers for each video.

    Attributes:
        file: folder or annotation file of the source.
        source: what was opened.
        sampling: rules for drawing cases; its seed is replaced.
        stamp: a hash of what decides which objects there are.
    """

    file: Path
    source: Source
    sampling: SamplingOptions
    stamp: str = field(default="")

    def __len__(self) -> int:
        return len(self.source.videos) * self.sampling.max_cases_per_video

    def draw_case(self, number: int, draw: Draw) -> Case:
        """A case of a video.

        Raises:
            InputError: the video cannot be read, or gives no case.
        """
        video_id, ordinal = self._locate(number)
        video = self._load(video_id)
        key = "\0".join(map(str, draw)).encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=6).digest(), "big")

        @lru_cache(maxsize=4)
        def read_frame(position: int) -> NDArray[np.uint8]:
            return media.load_frame(video.root, video.frames[position]).bgr

        sampler = VideoSampler(video, replace(self.sampling, seed=seed), read_frame)
        draft = sampler.draw_case(ordinal)
        if isinstance(draft, str):
            problem = next(iter(sampler.problems), None)
            raise problem or InputError(self.file, draft, f"video {video_id}")
        frames = (video.frames[draft.first_position], video.frames[draft.last_position])
        return make_case(draft, video, f"{video.id}-{ordinal}", frames)

    def list_objects(self, number: int) -> Iterator[tuple[Frame, tuple[Region, ...]]]:
        """The annotated frames of a video with their objects, each once over the numbers of the video.

        Raises:
            InputError: the video or one of its frames cannot be read.
        """
        video_id, ordinal = self._locate(number)
        video = self._load(video_id)
        for position in video.annotated[ordinal :: self.sampling.max_cases_per_video]:
            yield video.frames[position], tuple(video.regions(position))

    def _locate(self, number: int) -> tuple[str, int]:
        video, ordinal = divmod(number, self.sampling.max_cases_per_video)
        return self.source.videos[video], ordinal

    def _load(self, video_id: str) -> Video:
        video = self.source.load(video_id)
        if len(video.annotated) and video.render_frame(video.annotated[0]) is not None:
            reason = "its frames are not stored as files; use the output of `mmvm-data build`"
            raise InputError(self.file, reason, f"video {video_id}")
        return video


def open_video_records(
    name: str, key: str, kind: str, path: Path, sampling: SamplingOptions, cache_dir: Path | None
) -> VideoRecords:
    """Open a source of videos.

    Args:
        name: of the option that names the path, for messages.
        key: of the source among the options, for messages.
        kind: one that `mmvm-data sources` lists.
        path: its folder or annotation file.
        sampling: rules for drawing cases.
        cache_dir: folder for the index of a large annotation file; None caches nothing.

    Raises:
        UsageError: a source without videos, or rules that need a build.
        InputError: nothing of this kind is there.
    """
    if sampling.variants or sampling.embeddings is not None:
        raise UsageError(f"{key}.sampling: variants and embeddings need a build (`mmvm-data build`)")
    source = open_source(kind, path, cache_dir)
    if source.load_image is not None:
        raise UsageError(f"{key}.kind: {kind} has images instead of videos; use the output of `mmvm-data build`")
    if not source.videos:
        raise UsageError(f"{name}: {path} has no video that can be used")
    parts = [kind, str(path.absolute()), str(sampling.max_cases_per_video), *source.videos]
    stamp = hashlib.blake2b(os.fsencode("\0".join(parts)), digest_size=12).hexdigest()
    return VideoRecords(path, source, sampling, stamp)
