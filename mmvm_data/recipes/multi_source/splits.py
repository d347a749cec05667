"""Which split each video goes to: videos that share pictures, or an original, stay together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmvm_data.builders.originals import original_of
from mmvm_data.core.errors import UsageError
from mmvm_data.formats.set_operations import assign_videos


@dataclass(frozen=True, order=True)
class VideoKey:
    """A video of a recipe: its recipe's source, its reader, and its id."""

    source: str
    reader: str
    video: str

    @property
    def text(self) -> str:
        """The key as one string."""
        return f"{self.source}\0{self.reader}\0{self.video}"


def group_videos(videos: Iterable[VideoKey], near: Iterable[tuple[str, str]]) -> dict[VideoKey, VideoKey]:
    """The group of each video, named by its first member.

    Args:
        videos: all videos.
        near: pairs of ``VideoKey.text`` that share pictures.
    """
    parents = {video: video for video in sorted(videos)}
    by_text = {video.text: video for video in parents}

    def find(video: VideoKey) -> VideoKey:
        while parents[video] != video:
            parents[video] = parents[parents[video]]
            video = parents[video]
        return video

    def join(a: VideoKey, b: VideoKey) -> None:
        low, high = sorted((find(a), find(b)))
        parents[high] = low

    first_of: dict[tuple[str, str], VideoKey] = {}
    for video in parents:
        join(first_of.setdefault(original_of(video.reader, video.video), video), video)
    for a, b in near:
        if a in by_text and b in by_text:
            join(by_text[a], by_text[b])
    return {video: find(video) for video in parents}


def describe_few_groups(groups: int, splits: int, out: Path) -> str:
    """One sentence for a recipe whose cases come from fewer groups of videos than it has splits."""
    return (
        f"{out}: videos that share pictures stay together, which leaves cases for {groups} of the {splits} splits; the "
        "recipe needs fewer splits or more videos (with other `splits`, `existing='resume'` continues)"
    )


def assign_splits(
    groups: Mapping[VideoKey, VideoKey],
    cases: Mapping[VideoKey, int],
    shares: Mapping[str, float],
    seed: int,
    out: Path,
) -> dict[VideoKey, str]:
    """The split of each video.

    Args:
        groups: of ``group_videos``.
        cases: number of chosen cases of each video that has some.
        shares: of the splits.
        seed: of the draw.
        out: for the message.

    Raises:
        UsageError: there are fewer groups than splits, but some.
    """
    sizes: Counter[VideoKey] = Counter()
    for video, count in cases.items():
        sizes[groups[video]] += count
    if not sizes:  # no case came out, which the build says
        return {}
    if len(sizes) < len(shares):
        raise UsageError(describe_few_groups(len(sizes), len(shares), out))
    part_of = assign_videos(
        {(group.source, f"{group.reader}\0{group.video}"): range(size) for group, size in sizes.items()},
        shares,
        seed,
        out,
    )
    return {video: part_of[groups[video].source, f"{groups[video].reader}\0{groups[video].video}"] for video in cases}
