"""Hashes of frames: what they outlive, and all near pairs."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvm_data.audit import perceptual_hash


def picture(seed: int, width: int = 320, height: int = 180) -> np.ndarray:
    """Coarse and fine structure, as photographs have."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32)
    for cells in (4, 9, 20):
        layer = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC) * 60 / np.sqrt(cells)
    return np.clip(image * 2 + 120, 0, 255).astype(np.uint8)


def recompressed(image: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "compressed again": recompressed,
    "half the size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "brighter": lambda image: cv2.convertScaleAbs(image, alpha=1.1, beta=12),
    "blurred": lambda image: cv2.GaussianBlur(image, (5, 5), 0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_copies_are_found_and_nothing_else(name: str) -> None:
    count = 60
    found = [perceptual_hash.compute_hashes(picture(seed)) for seed in range(count)]
    found += [perceptual_hash.compute_hashes(CHANGES[name](picture(seed))) for seed in range(count)]
    array = np.array(found, perceptual_hash.HASH_DTYPE)
    pairs = near(array)
    right = {(k, k + count) for k in range(count)}
    assert len(pairs & right) >= 0.95 * count
    assert pairs <= right


def near(array: np.ndarray) -> set[tuple[int, int]]:
    groups = perceptual_hash.group_equal_hashes(array, np.zeros(len(array), np.uint8))
    pairs = set()
    for found in perceptual_hash.find_near_groups(array, groups):
        for i, j in zip(found.i.tolist(), found.j.tolist(), strict=True):
            pairs |= {tuple(sorted((a, b))) for a in groups.members(i).tolist() for b in groups.members(j).tolist()}
    for k in range(len(groups.starts)):
        members = groups.members(k).tolist()
        pairs |= {(a, b) for a in members for b in members if a < b}
    return pairs


def test_blank_frames_have_no_hash() -> None:
    assert perceptual_hash.compute_hashes(np.full((90, 160, 3), 17, np.uint8)) is None
    assert perceptual_hash.compute_hashes(picture(0)) is not None


@settings(max_examples=20)
@given(st.data())
def test_all_near_pairs_and_each_once(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 2**64, 40, dtype=np.uint64)
    near_ones = keys[rng.integers(0, 40, 80)]
    for _ in range(int(rng.integers(1, 9))):  # up to eight bits away
        near_ones ^= np.uint64(1) << rng.integers(0, 64, 80).astype(np.uint64)
    array = np.zeros(120, perceptual_hash.HASH_DTYPE)
    array["find"] = np.concatenate((keys, near_ones))
    array["confirm"] = rng.integers(0, 2**64, (1, 4), dtype=np.uint64)
    array["confirm"][::5] = rng.integers(0, 2**64, (24, 4), dtype=np.uint64)
    groups = perceptual_hash.group_equal_hashes(array, np.zeros(120, np.uint8))
    stand = groups.order[groups.starts]
    expected = set()
    for i in range(len(stand)):
        for j in range(i + 1, len(stand)):
            a, b = array[stand[i]], array[stand[j]]
            apart = int(a["find"] ^ b["find"]).bit_count()
            confirm = sum(int(x ^ y).bit_count() for x, y in zip(a["confirm"], b["confirm"], strict=True))
            if apart <= perceptual_hash.FIND_BITS and confirm <= perceptual_hash.CONFIRM_BITS:
                expected.add((i, j, apart))
    found = [
        (i, j, bits)
        for pairs in perceptual_hash.find_near_groups(array, groups)
        for i, j, bits in zip(pairs.i.tolist(), pairs.j.tolist(), pairs.bits.tolist(), strict=True)
    ]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_a_crowded_bucket_is_worked_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual_hash, "_CHUNK", 50)
    array = np.zeros(64, perceptual_hash.HASH_DTYPE)
    array["find"] = np.uint64(1) << np.arange(64, dtype=np.uint64)  # each two bits from every other
    groups = perceptual_hash.group_equal_hashes(array, np.zeros(64, np.uint8))
    found = [
        pair for pairs in perceptual_hash.find_near_groups(array, groups) for pair in zip(pairs.i, pairs.j, strict=True)
    ]
    assert len(found) == len(set(found)) == 64 * 63 // 2


def test_equal_frames_of_two_sets_are_two_groups() -> None:
    array = np.zeros(5, perceptual_hash.HASH_DTYPE)
    groups = perceptual_hash.group_equal_hashes(array, np.array([0, 1, 0, 1, 1], np.uint8))
    assert [groups.members(k).tolist() for k in range(len(groups.starts))] == [[0, 2], [1, 3, 4]]


def test_nothing_has_no_pairs() -> None:
    empty = np.zeros(0, perceptual_hash.HASH_DTYPE)
    groups = perceptual_hash.group_equal_hashes(empty, np.zeros(0, np.uint8))
    assert list(perceptual_hash.find_near_groups(empty, groups)) == []
