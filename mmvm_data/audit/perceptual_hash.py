"""Perceptual hashes of frames, and all pairs of near ones among millions.

Two hashes a frame. The 64-bit one finds: signs of the lowest 8 x 8 coefficients of the cosine transform against their
median (the "pHash" of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010). The 256-bit
one confirms: signs of horizontal differences on a grid of 16 x 16 (difference hash). Both outlive new compression,
another size, small changes of light and blur; neither outlives a mirror, a turn, or a crop of much.

All pairs within a distance come from multi-index hashing (Norouzi, Punjani, Fleet, CVPR 2012): of two hashes that
differ in at most 7 of 64 bits, at least one of four pieces of 16 bits differs in at most one bit. So each piece is a
key, and buckets are joined with themselves and with those one bit away; pairs are made in chunks, so that memory
follows the number of hashes and not that of pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

FIND_BITS = 7
"""Largest distance of the 64-bit hashes; four pieces that may differ in one bit each guarantee no more."""
CONFIRM_BITS = 40
"""Largest distance of the 256-bit hashes. Unrelated frames differ in about 128."""
FLAT = 4.0
"""Standard deviation of grey levels (0..255) under which a frame is blank: its hash is noise."""

DTYPE = np.dtype([("find", "<u8"), ("confirm", "<u8", (4,))])
"""The hashes of one frame."""

_CHUNK = 1 << 19  # pairs that are in memory at once


class Pairs(NamedTuple):
    """Near pairs: numbers of groups i < j, each int64 [n], and the distance of their 64-bit hashes, uint8 [n]."""

    i: np.ndarray
    j: np.ndarray
    bits: np.ndarray


def hashes(bgr: np.ndarray) -> np.ndarray | None:
    """The hashes of a frame, DTYPE []; None for a blank one.

    Args:
        bgr: uint8 [h, w, 3], of any size.
    """
    grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.std() < FLAT:
        return None
    waves = cv2.dct(small)
    low = np.array(waves[:8, :8], np.float32).ravel()
    low[0] = waves[0, 8]  # the first is the mean light, which says nothing
    signs = low > np.median(low)
    rows = cv2.resize(grey, (17, 16), interpolation=cv2.INTER_AREA).astype(np.int16)
    made = np.zeros((), DTYPE)
    made["find"] = np.packbits(signs).view("<u8")[0]
    made["confirm"] = np.packbits(rows[:, 1:] > rows[:, :-1]).view("<u8")
    return made


class Groups(NamedTuple):
    """Frames of one set with the same 64-bit hash.

    Attributes:
        order: positions of the frames, group after group, int64 [n].
        starts: where each group begins in ``order``, int64 [g].
    """

    order: np.ndarray
    starts: np.ndarray

    def members(self, group: int) -> np.ndarray:
        """Positions of the frames of a group, ascending."""
        end = self.starts[group + 1] if group + 1 < len(self.starts) else len(self.order)
        return self.order[self.starts[group] : end]


def grouped(found: np.ndarray, sides: np.ndarray) -> Groups:
    """Frames by set and 64-bit hash, so that a hundred thousand equal frames count as one.

    Args:
        found: DTYPE [n].
        sides: the set of each, integers [n].
    """
    order = np.lexsort((np.arange(len(found)), found["find"], sides))
    keys, side = found["find"][order], sides[order]
    new = (keys[1:] != keys[:-1]) | (side[1:] != side[:-1])
    return Groups(order, np.flatnonzero(np.concatenate(([True], new))) if len(keys) else np.zeros(0, np.int64))


def near_groups(found: np.ndarray, groups: Groups) -> Iterator[Pairs]:
    """All pairs of groups whose first frames lie within FIND_BITS and CONFIRM_BITS, in chunks, each pair once.

    Args:
        found: DTYPE [n].
        groups: of these.
    """
    stand = groups.order[groups.starts]
    keys, confirm = found["find"][stand], found["confirm"][stand]
    for a, b in _close(keys):
        near = confirmed(confirm[a], confirm[b])
        if near.any():
            i, j = np.minimum(a[near], b[near]), np.maximum(a[near], b[near])
            yield Pairs(i, j, distance(keys[i], keys[j]))


def confirmed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether 256-bit hashes, uint64 [n, 4] each, lie within CONFIRM_BITS: bool [n]."""
    return distance(a, b).sum(axis=1, dtype=np.int64) <= CONFIRM_BITS


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Number of bits in which 64-bit numbers differ, elementwise: uint8."""
    return np.bitwise_count(a ^ b)


def _close(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions of all pairs of ``keys`` (uint64) within FIND_BITS, each pair once."""
    for piece in range(4):
        mine = (keys >> np.uint64(16 * piece)).astype(np.uint16)
        order = np.argsort(mine, kind="stable")
        bounds = np.searchsorted(mine[order], np.arange(65537))
        for flip in (0, *(1 << bit for bit in range(16))):
            for a, b in _joined(mine, order, bounds, flip):
                near = distance(keys[a], keys[b]) <= FIND_BITS
                a, b = a[near], b[near]
                first = np.array([_first_piece(x) for x in (keys[a] ^ keys[b]).tolist()], np.int64) == piece
                yield a[first], b[first]


def _first_piece(difference: int) -> int:
    """The first of the four pieces in which a difference has at most one bit: where its pair is counted."""
    return next(piece for piece in range(4) if (difference >> 16 * piece & 0xFFFF).bit_count() <= 1)


def _joined(
    mine: np.ndarray, order: np.ndarray, bounds: np.ndarray, flip: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs whose pieces differ by exactly ``flip``, in chunks: each pair once."""
    values = mine[order].astype(np.int64)
    other = values ^ flip
    place = np.arange(len(order))
    # within a bucket, each with those behind it; between two buckets, from the one with the lower value only
    begin = place + 1 if flip == 0 else bounds[other]
    counts = np.where(other >= values, bounds[other + 1] - begin, 0)
    total = np.concatenate(([0], np.cumsum(counts)))
    left = 0
    while left < len(order):
        right = max(left + 1, int(np.searchsorted(total, total[left] + _CHUNK, side="right")) - 1)
        number = int(total[right] - total[left])
        for low in range(0, number, _CHUNK):  # one bucket alone may hold more than a chunk
            at = np.arange(low, min(low + _CHUNK, number)) + total[left]
            # several that fit together, or a part of one
            who = np.repeat(np.arange(left, right), counts[left:right] if right - left > 1 else len(at))
            yield order[who], order[begin[who] + at - total[who]]
        left = right
