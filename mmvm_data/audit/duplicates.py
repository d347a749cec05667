"""Frames that are there under two names: of two videos of one set, or of two sets."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from mmvm_data.audit import perceptual_hash

MOST_PAIRS = 100_000
"""Pairs of videos that are told apart; beyond, frames are counted and no new pair is kept."""


class Shot(NamedTuple):
    """One image of one case."""

    case: int
    image: int


@dataclass
class Frames:
    """The hashes of the frames of one or two sets, 53 bytes a frame, and the names they belong to.

    Attributes:
        cases, videos: names, by the numbers that frames carry.
        blank: frames without a hash, left out.
    """

    cases: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    blank: int = 0
    _hashes: bytearray = field(default_factory=bytearray)
    _sides: array[int] = field(default_factory=lambda: array("B"))
    _videos: array[int] = field(default_factory=lambda: array("I"))
    _cases: array[int] = field(default_factory=lambda: array("I"))
    _images: array[int] = field(default_factory=lambda: array("I"))
    _numbers: dict[tuple[int, str], int] = field(default_factory=dict)

    def add_case(self, name: str, video: str, side: int) -> None:
        """Begin a case; its frames follow."""
        self.cases.append(name)
        if (side, video) not in self._numbers:
            self._numbers[side, video] = len(self.videos)
            self.videos.append(video)
        self._video, self._side = self._numbers[side, video], side

    def add(self, image: int, hashed: bytes | None) -> None:
        """A frame of the case that was begun last: 0-based number of the image, and its hashes (DTYPE) or None."""
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

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Hashes DTYPE [n], sides uint8 [n] and numbers of videos uint32 [n]."""
        found = np.frombuffer(bytes(self._hashes), perceptual_hash.DTYPE)
        return found, np.array(self._sides, np.uint8), np.array(self._videos, np.uint32)

    def shot(self, position: int) -> Shot:
        """Which image of which case a frame is."""
        return Shot(self._cases[position], self._images[position])


@dataclass(frozen=True)
class Alike:
    """Two videos that share frames.

    Attributes:
        videos: their names.
        pairs: pairs of near frames that were found between them; equal frames count once.
        bits: smallest distance of their 64-bit hashes.
        cases, images: the nearest pair: the cases, and the 1-based numbers of the images in them.
    """

    videos: tuple[str, str]
    pairs: int
    bits: int
    cases: tuple[str, str]
    images: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "videos": list(self.videos),
            "pairs": self.pairs,
            "bits": self.bits,
            "cases": list(self.cases),
            "images": list(self.images),
        }


@dataclass(frozen=True)
class Likeness:
    """What was found.

    Attributes:
        frames: that were compared.
        blank: left out, since a blank frame is like any other.
        videos: that share a frame with another video (of the other set, when there are two: of the first one).
        shared: frames of the first set that are in the other one; 0 for one set.
        alike: pairs of videos, those with most pairs of frames first. A video that shares frames with many is paired
            with some of them.
    """

    frames: int
    blank: int
    videos: int
    shared: int
    alike: tuple[Alike, ...]


def within(frames: Frames) -> Likeness:
    """Videos of one set that share frames."""
    found, sides, videos = frames.arrays()
    groups = perceptual_hash.grouped(found, sides)
    tally = _Tally()
    # neighbours among frames of one hash; between hashes, the first frame stands for all
    order, starts = groups.order, set(groups.starts.tolist())
    behind = np.array([k for k in range(len(order)) if k not in starts], np.int64)
    a, b = order[behind - 1], order[behind]
    other = (videos[a] != videos[b]) & perceptual_hash.confirmed(found["confirm"][a], found["confirm"][b])
    tally.add(videos, a[other], b[other], np.zeros(int(other.sum()), np.uint8))
    stand = order[groups.starts]
    for pairs in perceptual_hash.near_groups(found, groups):
        a, b = stand[pairs.i], stand[pairs.j]
        other = videos[a] != videos[b]
        tally.add(videos, a[other], b[other], pairs.bits[other])
    return Likeness(len(frames), frames.blank, len(tally.seen), 0, tally.result(frames))


def between(frames: Frames) -> Likeness:
    """Frames of set 0 that are in set 1 too."""
    found, sides, videos = frames.arrays()
    groups = perceptual_hash.grouped(found, sides)
    stand = groups.order[groups.starts]
    side = sides[stand]
    tally = _Tally()
    hit = np.zeros(len(stand), bool)
    for pairs in perceptual_hash.near_groups(found, groups):
        cross = side[pairs.i] != side[pairs.j]
        i, j = pairs.i[cross], pairs.j[cross]
        i, j = np.where(side[i] == 0, i, j), np.where(side[i] == 0, j, i)
        hit[i] = True
        tally.add(videos, stand[i], stand[j], pairs.bits[cross])
    shared = [groups.members(k) for k in np.flatnonzero(hit).tolist()]
    leaked = np.concatenate(shared) if shared else np.zeros(0, np.int64)
    return Likeness(
        frames=len(frames),
        blank=frames.blank,
        videos=len(np.unique(videos[leaked])),
        shared=len(leaked),
        alike=tally.result(frames),
    )


class _Tally:
    """Pairs of videos with their nearest pair of frames."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self._pairs: dict[tuple[int, int], list[int]] = {}

    def add(self, videos: np.ndarray, a: np.ndarray, b: np.ndarray, bits: np.ndarray) -> None:
        for i, j, near in zip(a.tolist(), b.tolist(), bits.tolist(), strict=True):
            one, two = int(videos[i]), int(videos[j])
            self.seen |= {one, two}
            if one > two:
                one, two, i, j = two, one, j, i
            entry = self._pairs.get((one, two))
            if entry is None:
                if len(self._pairs) < MOST_PAIRS:
                    self._pairs[one, two] = [1, near, i, j]
                continue
            entry[0] += 1
            if (near, i, j) < (entry[1], entry[2], entry[3]):
                entry[1:] = [near, i, j]

    def result(self, frames: Frames) -> tuple[Alike, ...]:
        ordered = sorted(self._pairs.items(), key=lambda item: (-item[1][0], item[1][1], item[0]))
        return tuple(
            Alike(
                videos=(frames.videos[one], frames.videos[two]),
                pairs=count,
                bits=bits,
                cases=(frames.cases[frames.shot(i).case], frames.cases[frames.shot(j).case]),
                images=(frames.shot(i).image + 1, frames.shot(j).image + 1),
            )
            for (one, two), (count, bits, i, j) in ordered
        )
