"""Random orders and random numbers that are functions of their arguments alone: reproducible, without stored state."""

from __future__ import annotations

import hashlib
import random

_FEISTEL_ROUNDS = 4


def shuffle_position(position: int, count: int, seed: int, epoch: int = 0) -> int:
    """The item at a position of an epoch's random order; over all positions, each of `count` items comes once.

    A Feistel network over the next power of four, iterated until it lands below `count` (Black and Rogaway, "Ciphers
    with arbitrary finite domains", 2002). Any position costs a few microseconds and no memory, whatever the count, so
    that a run can start anywhere.

    Raises:
        ValueError: the position is not in 0..count-1.
    """
    if not 0 <= position < count:
        raise ValueError(f"position must be in [0, {count - 1}], got {position}")
    half_bits = max(1, ((count - 1).bit_length() + 1) // 2)
    mask = (1 << half_bits) - 1
    index = position
    while True:
        left, right = index >> half_bits, index & mask
        for number in range(_FEISTEL_ROUNDS):
            left, right = right, left ^ (_hash_round(right, number, seed, epoch) & mask)
        index = left << half_bits | right
        if index < count:
            return index


def keyed_rng(*key: int | str) -> random.Random:
    """A random number generator that is seeded by a key alone, equal on every machine."""
    digest = hashlib.blake2b("\0".join(map(str, key)).encode("utf-8", "surrogateescape"), digest_size=16).digest()
    return random.Random(int.from_bytes(digest, "big"))


def _hash_round(value: int, number: int, seed: int, epoch: int) -> int:
    """The round function of the Feistel network: 64 pseudorandom bits."""
    digest = hashlib.blake2b(f"{seed} {epoch} {number} {value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
