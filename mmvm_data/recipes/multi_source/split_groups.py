"""Whether a recipe's videos can fill its splits, found out before they are built, from frames of as few as possible."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from mmvm_data.audit.duplicates import FrameIndex, iter_near_videos
from mmvm_data.builders import Source
from mmvm_data.builders.originals import original_of
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.plurals import pluralize
from mmvm_data.pipeline.build import shuffle_videos
from mmvm_data.recipes.multi_source.plan import Plan
from mmvm_data.recipes.multi_source.splits import VideoKey, group_videos
from mmvm_data.recipes.multi_source.video_hashes import iter_frame_hashes


def require_groups(plan: Plan) -> None:
    """Check that videos which share no pictures, and no original, are at least as many as the splits.

    Videos are hashed until as many are found that differ: all of them only where most are copies.

    Raises:
        UsageError: there are fewer.
    """
    if plan.recipe.splits is None:
        return
    wanted = len(plan.recipe.splits)
    frames = FrameIndex()
    keys: list[VideoKey] = []
    videos = _iter_originals(plan)
    groups, batch = 0, wanted
    while groups < wanted and (added := list(islice(videos, batch))):
        for source, key in added:
            if _add_frames(frames, source, key):
                keys.append(key)
        groups = len(set(group_videos(keys, iter_near_videos(frames)).values()))
        batch = len(keys) + wanted  # about doubled, so that few rounds compare all frames
    if groups < wanted:
        total = sum(source.videos for source in plan.sources)
        raise UsageError(
            f"splits: the sources have {pluralize(total, 'video')}, and those that share pictures or an original stay "
            f"together: {pluralize(groups, 'group')}, fewer than the {wanted} splits"
        )


def _iter_originals(plan: Plan) -> Iterator[tuple[Source, VideoKey]]:
    """One video of each original, in the order of the builds."""
    seen: set[tuple[str, str]] = set()
    for source, opened in zip(plan.sources, plan.opened, strict=True):
        for video in shuffle_videos(opened.videos, source.sampling.seed, source.reader):
            original = original_of(source.reader, video)
            if original not in seen:
                seen.add(original)
                yield opened, VideoKey(source.name, source.reader, video)


def _add_frames(frames: FrameIndex, source: Source, key: VideoKey) -> bool:
    """Add the hashes of a video; return whether it can be loaded at all."""
    frames.begin_case("", key.text, 0)
    try:
        for hashed in iter_frame_hashes(source, key.video):
            frames.add_frame(0, hashed)
    except InputError:  # the build lists it among its rejects
        return False
    return True
