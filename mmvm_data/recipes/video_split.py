"""Splits a finished benchmark by video, such that videos that share pictures come to one part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmvm_data.audit.duplicates import FrameIndex, iter_near_videos
from mmvm_data.core.errors import InputError
from mmvm_data.formats.set_files import read_set
from mmvm_data.formats.set_operations import VideoName, check_shares, split_set, video_name
from mmvm_data.io.staging import check_free
from mmvm_data.recipes.inspected_pool import inspect_pool
from mmvm_data.recipes.multi_source.splits import VideoKey, group_videos


@dataclass(frozen=True)
class VideoSplit:
    """Result of a split by video.

    Attributes:
        cases: part -> its number of cases.
        tied: number of videos that stay with others, which they share pictures or an original with.
        groups: number of groups that these are.
    """

    cases: dict[str, int]
    tied: int
    groups: int


def split_videos(
    source: str | Path,
    out: str | Path,
    shares: Mapping[str, float] | None,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> VideoSplit:
    """Split a benchmark by video as ``split_set`` does; videos that share pictures, or an original, stay together.

    Pictures are compared by the hashes of an audit, and originals by names, as in recipes. Only the images of the
    cases are looked at, since the sources of a finished benchmark need not be at hand.

    Args:
        source, out, shares, seed: of ``split_set``.
        workers: processes that read images.
        progress: called with the number of cases that were read or written.

    Raises:
        InputError: a case's images cannot be read; and as ``split_set``.
        OptionError, UsageError, OutputError: as ``split_set``.
    """
    source = Path(source)
    check_shares(shares)
    check_free(Path(out))
    keys = {name: VideoKey(name[0], *name) for name in dict.fromkeys(video_name(c, source) for c in read_set(source))}
    frames = FrameIndex()
    try:
        for case in inspect_pool(source, workers, progress, with_baselines=False, with_hashes=True):
            frames.begin_case(case.id, keys[case.source, str(case.video)].text, 0)
            for image, hashed in case.hashes:
                frames.add_frame(image, hashed)
    except InputError as error:
        reason = f"{error.reason}; with `ignore_duplicates` no image is read"
        raise InputError(error.file, reason, error.field) from error
    groups = group_videos(keys.values(), iter_near_videos(frames))
    group_of: dict[VideoName, VideoName] = {name: (groups[key].reader, groups[key].video) for name, key in keys.items()}
    sizes = [size for size in Counter(group_of.values()).values() if size > 1]
    cases = split_set(source, out, "video", shares, seed, progress, group_of)
    return VideoSplit(cases, sum(sizes), len(sizes))
