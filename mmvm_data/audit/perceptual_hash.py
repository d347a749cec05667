"""Perceptual hashes of frames, and all pairs of near hashes among millions.

Each frame has two hashes. The 64-bit one finds candidates: signs of the lowest 8 x 8 coefficients of the cosine
transform against their median (the "pHash" of Zauner, "Implementation and Benchmarking of Perceptual Image Hash
Functions", 2010). The 256-bit one confirms them: signs of horizontal differences on a grid of 16 x 16 (difference
hash). Both survive recompression, resizing, small changes of brightness, and blur; neither survives mirroring,
rotation or a large crop.

All pairs within a distance come from multi-index hashing (Norouzi, Punjani, Fleet, CVPR 2012): of two hashes that
differ in at most 7 of 64 bits, at least one of four pieces of 16 bits differs in at most one bit. So each piece is a
key, and buckets are joined with themselves and with those one bit away. Pairs come in chunks, so that memory grows with
the number of hashes and not of pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

FIND_BITS = 7
"""Largest distance of the 64-bit hashes; four pieces that may differ in one bit each guarantee no more."""
CONFIRM_BITS = 40
"""Largest distance of the 256-bit hashes. Unrelated frames differ in about 128."""
BLANK_DEVIATION = 4.0
"""Standard deviation of gray levels (0..255) below which a frame is blank: its hash would be noise."""

HASH_DTYPE = np.dtype([("find", "<u8"), ("confirm", "<u8", (4,))])
"""The hashes of one frame."""

_CHUNK = 1 << 19  # pairs that are in memory at a time


class NearPairs(NamedTuple):
    """Pairs of near groups: their numbers i < j, int64 [n] each, and the distance of their 64-bit hashes, uint8 [n]."""

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    bits: NDArray[np.uint8]


def compute_hashes(bgr: NDArray[np.uint8]) -> NDArray[np.void] | None:
    """The hashes of a frame, HASH_DTYPE []; None for a blank frame.

    Args:
        bgr: uint8 [h, w, 3], of any size.
    """
    gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(gray, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.std() < BLANK_DEVIATION:
        return None
    coefficients = cv2.dct(small)
    low = np.array(coefficients[:8, :8], np.float32).ravel()
    low[0] = coefficients[0, 8]  # the first one is the mean brightness, which does not tell frames apart
    signs = low > np.median(low)
    rows = cv2.resize(gray, (17, 16), interpolation=cv2.INTER_AREA).astype(np.int16)
    hashes = np.zeros((), HASH_DTYPE)
    hashes["find"] = np.packbits(signs).view("<u8")[0]
    hashes["confirm"] = np.packbits(rows[:, 1:] > rows[:, :-1]).view("<u8")
    return hashes


class HashGroups(NamedTuple):
    """Frames of one set with the same 64-bit hash.

    Attributes:
        order: positions of the frames, group after group, int64 [n].
        starts: where each group begins in ``order``, int64 [g].
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]

    def members(self, group: int) -> NDArray[np.int64]:
        """Positions of the frames of a group, ascending."""
        end = self.starts[group + 1] if group + 1 < len(self.starts) else len(self.order)
        return self.order[self.starts[group] : end]


def group_equal_hashes(hashes: NDArray[np.void], sides: NDArray[np.uint8]) -> HashGroups:
    """Group frames by set and 64-bit hash, so that a hundred thousand equal frames count as one.

    Args:
        hashes: HASH_DTYPE [n].
        sides: number of the set of each frame [n].
    """
    order = np.lexsort((np.arange(len(hashes)), hashes["find"], sides))
    keys, side = hashes["find"][order], sides[order]
    differs = (keys[1:] != keys[:-1]) | (side[1:] != side[:-1])
    return HashGroups(order, np.flatnonzero(np.concatenate(([True], differs))) if len(keys) else np.zeros(0, np.int64))


def find_near_groups(hashes: NDArray[np.void], groups: HashGroups) -> Iterator[NearPairs]:
    """All pairs of groups whose first frames lie within FIND_BITS and CONFIRM_BITS, in chunks, each pair once.

    Args:
        hashes: HASH_DTYPE [n].
        groups: groups of these hashes.
    """
    representatives = groups.order[groups.starts]
    keys, confirm = hashes["find"][representatives], hashes["confirm"][representatives]
    for a, b in _find_close_keys(keys):
        near = is_confirmed(confirm[a], confirm[b])
        if near.any():
            i, j = np.minimum(a[near], b[near]), np.maximum(a[near], b[near])
            yield NearPairs(i, j, hamming_distance(keys[i], keys[j]))


def is_confirmed(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether 256-bit hashes, uint64 [n, 4] each, lie within CONFIRM_BITS: bool [n]."""
    near: NDArray[np.bool_] = hamming_distance(a, b).sum(axis=1, dtype=np.int64) <= CONFIRM_BITS
    return near


def hamming_distance(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Number of bits in which 64-bit numbers differ, elementwise: uint8."""
    bits: NDArray[np.uint8] = np.bitwise_count(a ^ b)
    return bits


def _find_close_keys(keys: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions of all pairs of ``keys`` (uint64) within FIND_BITS, each pair once."""
    for piece in range(4):
        pieces = (keys >> np.uint64(16 * piece)).astype(np.uint16)
        order = np.argsort(pieces, kind="stable")
        bounds = np.searchsorted(pieces[order], np.arange(65537))
        for flip in (0, *(1 << bit for bit in range(16))):
            for a, b in _join_buckets(pieces, order, bounds, flip):
                near = hamming_distance(keys[a], keys[b]) <= FIND_BITS
                a, b = a[near], b[near]
                counted_in = np.array([_counting_piece(x) for x in (keys[a] ^ keys[b]).tolist()], np.int64)
                yield a[counted_in == piece], b[counted_in == piece]


def _counting_piece(difference: int) -> int:
    """The piece in which a pair is counted: the first of the four in which its difference has at most one bit."""
    return next(piece for piece in range(4) if (difference >> 16 * piece & 0xFFFF).bit_count() <= 1)


def _join_buckets(
    pieces: NDArray[np.uint16], order: NDArray[np.int64], bounds: NDArray[np.int64], flip: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs whose pieces differ by exactly ``flip``, in chunks: each pair once."""
    values = pieces[order].astype(np.int64)
    other = values ^ flip
    positions = np.arange(len(order))
    # within a bucket, each is paired with those after it; between two buckets, only from the one with the lower value
    begin = positions + 1 if flip == 0 else bounds[other]
    counts = np.where(other >= values, bounds[other + 1] - begin, 0)
    total = np.concatenate(([0], np.cumsum(counts)))
    left = 0
    while left < len(order):
        right = max(left + 1, int(np.searchsorted(total, total[left] + _CHUNK, side="right")) - 1)
        count = int(total[right] - total[left])
        for low in range(0, count, _CHUNK):  # one element alone may have more pairs than a chunk holds
            indices = np.arange(low, min(low + _CHUNK, count)) + total[left]
            # elements whose pairs fit into a chunk together, or a part of the pairs of one element
            owners = np.repeat(np.arange(left, right), counts[left:right] if right - left > 1 else len(indices))
            yield order[owners], order[begin[owners] + indices - total[owners]]
        left = right
