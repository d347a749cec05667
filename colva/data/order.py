"""An order that is random, reproducible and kept nowhere."""

from __future__ import annotations

import hashlib
import random

_ROUNDS = 4


def shuffled(position: int, count: int, seed: int, epoch: int = 0) -> int:
    """The item at a position of one epoch's random order; each of `count` items is at one position.

    A Feistel network over the next power of four, walked until it lands below `count` (Black and Rogaway, "Ciphers
    with arbitrary finite domains", 2002): any position costs the same few microseconds and no memory, whatever the
    count, so that a run can begin anywhere.

    Raises:
        ValueError: the position is not in 0..count-1.
    """
    if not 0 <= position < count:
        raise ValueError(f"position {position} of {count} items")
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    at = position
    while True:
        left, right = at >> half, at & mask
        for turn in range(_ROUNDS):
            left, right = right, left ^ (_mixed(right, turn, seed, epoch) & mask)
        at = left << half | right
        if at < count:
            return at


def chance(*key: int | str) -> random.Random:
    """A source of chance that is the same for the same key, on any machine."""
    digest = hashlib.blake2b("\0".join(map(str, key)).encode("utf-8", "surrogateescape"), digest_size=16).digest()
    return random.Random(int.from_bytes(digest, "big"))


def _mixed(value: int, turn: int, seed: int, epoch: int) -> int:
    digest = hashlib.blake2b(f"{seed} {epoch} {turn} {value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
