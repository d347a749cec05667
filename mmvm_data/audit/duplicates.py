"""Duplicate frames: frames that two videos of one set share, or that two sets share."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmvm_data.audit import perceptual_hash

MAX_VIDEO_PAIRS = 100_000
"""Pairs of videos that are recorded. Beyond it, frames are still counted but no new pair is recorded."""


class FrameRef(NamedTuple):
    """One image of one case: number of the case, and 0-based number of the image in it."""

    case: int
    image: int


@dataclass
class FrameIndex:
    """The hashes of the frames of one or two sets, 53 bytes a frame, and the names they belong to.

    Attributes:
        cases, videos: names, by the numbers that frames carry.
        blank: number of frames without a hash, which are left out.
    """

    cases: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    blank: int = 0
    _hashes: bytearray = field(default_factory=bytearray)
    _sides: array[int] = field(default_factory=lambda: array("B"))
    _videos: array[int] = field(default_factory=lambda: array("I"))
    _cases: array[int] = field(default_factory=lambda: array("I"))
    _images: array[int] = field(default_factory=lambda: array("I"))
    _video_numbers: dict[tuple[int, str], int] = field(default_factory=dict)
    _video: int = 0
    _side: int = 0

    def begin_case(self, name: str, video: str, side: int) -> None:
        """Start a case of set number ``side`` (0 or 1); its frames follow with ``add_frame``."""
        self.cases.append(name)
        if (side, video) not in self._video_numbers:
            self._video_numbers[side, video] = len(self.videos)
            self.videos.append(video)
        self._video, self._side = self._video_numbers[side, video], side

    def add_frame(self, image: int, hashed: bytes | None) -> None:
        """Add a frame of the current case: 0-based number of the image, and its hashes (HASH_DTYPE) or None."""
        if hashed is None:
            self.blank += 1
            return
        self._hashes += hashed
        self._sides.append(self._side)
        self._videos.append(self._video)
        self._cases.append(len(self.cases) - 1)
        self._images.append(image)

    def __len__(self) -> int:
        return len(self._sides)

    def arrays(self) -> tuple[NDArray[np.void], NDArray[np.uint8], NDArray[np.uint32]]:
        """Hashes HASH_DTYPE [n], numbers of sets uint8 [n] and numbers of videos uint32 [n]."""
        hashes = np.frombuffer(bytes(self._hashes), perceptual_hash.HASH_DTYPE)
        return hashes, np.array(self._sides, np.uint8), np.array(self._videos, np.uint32)

    def frame_ref(self, position: int) -> FrameRef:
        """Which image of which case a frame is."""
        return FrameRef(self._cases[position], self._images[position])


@dataclass(frozen=True)
class VideoPair:
    """Two videos that share frames.

    Attributes:
        videos: their names.
        pairs: number of pairs of near frames between them; equal frames count once.
        bits: smallest distance of their 64-bit hashes.
        cases, images: the nearest pair: the cases, and the 1-based numbers of the images in them.
    """

    videos: tuple[str, str]
    pairs: int
    bits: int
    cases: tuple[str, str]
    images: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "videos": list(self.videos),
            "pairs": self.pairs,
            "bits": self.bits,
            "cases": list(self.cases),
            "images": list(self.images),
        }


@dataclass(frozen=True)
class DuplicateFrames:
    """The duplicate frames of one or two sets.

    Attributes:
        frames: number of frames that were compared.
        blank: number of frames left out, since a blank frame is like any other.
        videos: number of videos that share a frame with another video (of the other set, when there are two: of the
            first one).
        shared: number of frames of the first set that are in the other one; 0 for one set.
        pairs: pairs of videos, those with most pairs of frames first. A video that shares frames with many is paired
            with some of them.
    """

    frames: int
    blank: int
    videos: int
    shared: int
    pairs: tuple[VideoPair, ...]


def find_within_set(frames: FrameIndex) -> DuplicateFrames:
    """Find the videos of one set that share frames."""
    _, _, videos = frames.arrays()
    tally = _VideoPairTally()
    for a, b, bits in _iter_near_frames(frames):
        tally.add_pairs(videos, a, b, bits)
    return DuplicateFrames(len(frames), frames.blank, len(tally.paired_videos), 0, tally.list_pairs(frames))


def iter_near_videos(frames: FrameIndex) -> Iterator[tuple[str, str]]:
    """Yield the names of two videos of one set that share a frame; a pair may repeat.

    A video that shares frames with many is paired with some of them, which are paired with the others.
    """
    _, _, videos = frames.arrays()
    for a, b, _ in _iter_near_frames(frames):
        for i, j in np.unique(np.stack([videos[a], videos[b]], axis=1), axis=0).tolist() if len(a) else ():
            yield frames.videos[i], frames.videos[j]


def _iter_near_frames(
    frames: FrameIndex,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]]:
    """Yield positions of near frames of different videos of one set, and the distances of their hashes."""
    hashes, sides, videos = frames.arrays()
    groups = perceptual_hash.group_equal_hashes(hashes, sides)
    # frames of one hash are compared with their neighbor; between hashes, the first frame stands for its group
    order, starts = groups.order, set(groups.starts.tolist())
    followers = np.array([k for k in range(len(order)) if k not in starts], np.int64)
    a, b = order[followers - 1], order[followers]
    differs = (videos[a] != videos[b]) & perceptual_hash.is_confirmed(hashes["confirm"][a], hashes["confirm"][b])
    yield a[differs], b[differs], np.zeros(int(differs.sum()), np.uint8)
    representatives = order[groups.starts]
    for near in perceptual_hash.find_near_groups(hashes, groups):
        a, b = representatives[near.i], representatives[near.j]
        differs = videos[a] != videos[b]
        yield a[differs], b[differs], near.bits[differs]


def find_between_sets(frames: FrameIndex) -> DuplicateFrames:
    """Find the frames of set 0 that are in set 1 too."""
    hashes, sides, videos = frames.arrays()
    groups = perceptual_hash.group_equal_hashes(hashes, sides)
    representatives = groups.order[groups.starts]
    side = sides[representatives]
    tally = _VideoPairTally()
    is_shared = np.zeros(len(representatives), bool)
    for near in perceptual_hash.find_near_groups(hashes, groups):
        crosses = side[near.i] != side[near.j]
        i, j = near.i[crosses], near.j[crosses]
        i, j = np.where(side[i] == 0, i, j), np.where(side[i] == 0, j, i)
        is_shared[i] = True
        tally.add_pairs(videos, representatives[i], representatives[j], near.bits[crosses])
    members = [groups.members(k) for k in np.flatnonzero(is_shared).tolist()]
    shared = np.concatenate(members) if members else np.zeros(0, np.int64)
    return DuplicateFrames(
        frames=len(frames),
        blank=frames.blank,
        videos=len(np.unique(videos[shared])),
        shared=len(shared),
        pairs=tally.list_pairs(frames),
    )


class _VideoPairTally:
    """Counts near frames by pair of videos, and keeps the nearest two frames of each pair.

    Attributes:
        paired_videos: numbers of the videos that share a frame with another.
    """

    def __init__(self) -> None:
        self.paired_videos: set[int] = set()
        self._pairs: dict[tuple[int, int], list[int]] = {}

    def add_pairs(
        self,
        videos: NDArray[np.uint32],
        a: NDArray[np.int64],
        b: NDArray[np.int64],
        bits: NDArray[np.uint8],
    ) -> None:
        """Count pairs of frames: their positions ``a`` and ``b`` [n], and the distances of their hashes [n]."""
        for i, j, distance in zip(a.tolist(), b.tolist(), bits.tolist(), strict=True):
            low, high = int(videos[i]), int(videos[j])
            self.paired_videos |= {low, high}
            if low > high:
                low, high, i, j = high, low, j, i
            entry = self._pairs.get((low, high))
            if entry is None:
                if len(self._pairs) < MAX_VIDEO_PAIRS:
                    self._pairs[low, high] = [1, distance, i, j]
                continue
            entry[0] += 1
            if (distance, i, j) < (entry[1], entry[2], entry[3]):
                entry[1:] = [distance, i, j]

    def list_pairs(self, frames: FrameIndex) -> tuple[VideoPair, ...]:
        """The pairs of videos, those with most pairs of frames first."""
        ordered = sorted(self._pairs.items(), key=lambda item: (-item[1][0], item[1][1], item[0]))
        return tuple(
            VideoPair(
                videos=(frames.videos[low], frames.videos[high]),
                pairs=count,
                bits=bits,
                cases=(frames.cases[frames.frame_ref(i).case], frames.cases[frames.frame_ref(j).case]),
                images=(frames.frame_ref(i).image + 1, frames.frame_ref(j).image + 1),
            )
            for (low, high), (count, bits, i, j) in ordered
        )
