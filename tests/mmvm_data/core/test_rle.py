"""Decoding of many masks at once, compared with pycocotools."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from mmvm_data.core import rle

FRAMES = st.tuples(st.integers(0, 6), st.integers(1, 40), st.integers(1, 40)).flatmap(
    lambda shape: hnp.arrays(np.uint8, shape, elements=st.integers(0, 1))
)


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    rle._cache.clear()
    yield
    rle._cache.clear()


def draw_spans(spans: rle.Spans, height: int, width: int) -> np.ndarray:
    flat = np.zeros(height * width, np.uint8)
    for start, end in zip(*spans, strict=True):
        assert end > start
        flat[start:end] = 1
    return flat.reshape(width, height).T


@given(FRAMES)
def test_prefetched_masks_of_a_frame(bitmaps: np.ndarray) -> None:
    rle._cache.clear()
    _, height, width = bitmaps.shape
    counts = [coco.encode(np.asfortranarray(b))["counts"] for b in bitmaps]
    rle.prefetch_spans(counts, height, width)
    assert len(rle._cache) == len(set(counts))
    for bitmap, text in zip(bitmaps, counts, strict=True):
        assert (draw_spans(rle.decode_spans(text.decode(), height, width), height, width) == bitmap).all()


def test_large_masks_with_long_runs() -> None:
    rng = np.random.default_rng(0)
    frame = np.repeat(np.repeat(rng.random((30, 40)) < 0.3, 70, axis=0), 90, axis=1).astype(np.uint8)
    encoded = coco.encode(np.asfortranarray(frame))["counts"]
    rle.prefetch_spans([encoded, encoded[::1]], *frame.shape)
    assert (draw_spans(rle.decode_spans(encoded.decode(), *frame.shape), *frame.shape) == frame).all()


@pytest.mark.parametrize("broken", [b"", b"\xff\xfe", b"o", b"abc\x01", b"P" * 40])
def test_broken_mask_is_reported_when_it_is_decoded(broken: bytes) -> None:
    valid = coco.encode(np.asfortranarray(np.eye(5, dtype=np.uint8)))["counts"]
    rle.prefetch_spans([valid, broken], 5, 5)
    assert (draw_spans(rle.decode_spans(valid.decode(), 5, 5), 5, 5) == np.eye(5)).all()
    with pytest.raises(ValueError, match=r"counts|runs cover"):
        rle.decode_spans(broken.decode("latin-1"), 5, 5)


def test_cache_is_bounded_and_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rle, "_CACHE_BYTES", 100_000)
    for side in range(1, 400):
        starts, _ = rle.decode_spans(coco.encode(np.ones((side, 1), np.uint8, order="F"))["counts"].decode(), side, 1)
    assert 100 < len(rle._cache) < 200
    assert rle._cache.num_bytes <= 100_000
    assert next(reversed(rle._cache))[1:] == (399, 1)
    with pytest.raises(ValueError, match="read-only"):
        starts[0] = 5
    striped = np.zeros((9000, 1), np.uint8, order="F")
    striped[::2] = 1
    rle.decode_spans(coco.encode(striped)["counts"].decode(), 9000, 1)
    assert len(rle._cache) < 100  # a mask of many runs takes the place of many small ones


def test_masks_of_a_crowded_frame_stay_in_the_cache() -> None:
    counts = [coco.encode(np.asfortranarray(np.arange(2000)[:, None] == k, np.uint8))["counts"] for k in range(1000)]
    rle.prefetch_spans(counts, 2000, 1)
    assert len(rle._cache) == 1000
