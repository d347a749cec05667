"""Decoding of many masks at once, compared with pycocotools."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

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


def encode_runs(runs: list[int]) -> bytes:
    """COCO's compressed counts of any run lengths, from the definition in maskApi.c (``rleToString``)."""
    text = bytearray()
    for k, run in enumerate(runs):
        value = run - runs[k - 2] if k > 2 else run
        while True:
            bits, value = value & 31, value >> 5
            is_last = value == (-1 if bits & 16 else 0)
            text.append(48 + bits + (0 if is_last else 32))
            if is_last:
                break
    return bytes(text)


def list_spans(runs: list[int]) -> list[tuple[int, int]]:
    edges = [0, *accumulate(runs)]
    return [(start, end) for start, end in zip(edges[1::2], edges[2::2], strict=False) if end > start]


RUNS = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 700)), max_size=9)


@given(st.lists(RUNS, min_size=1, max_size=5))
def test_any_runs_of_several_masks_are_decoded_together(masks: list[list[int]]) -> None:
    total = max(1, *map(sum, masks))
    masks = [[*runs, total - sum(runs)] for runs in masks]
    decoded = rle.decode_all([encode_runs(runs) for runs in masks], total, 1)
    assert [list(zip(*map(np.ndarray.tolist, spans), strict=True)) for spans in decoded] == [*map(list_spans, masks)]
    assert all(array.dtype == np.int64 for spans in decoded for array in spans)
    lengths, firsts = rle._decode_lengths([encode_runs(runs) for runs in masks])
    assert lengths.tolist() == [run for runs in masks for run in runs]
    assert firsts == [0, *accumulate(map(len, masks))][:-1]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([5, 5, -1, 1], "counts contain a run below 0 or beyond any image"),
        ([2**40 + 1], "counts contain a run below 0 or beyond any image"),
        ([2**40], "runs cover 1099511627776 pixels, size (5, 2) has 10"),
        ([4, 5], "runs cover 9 pixels, size (5, 2) has 10"),
        ([], "runs cover 0 pixels, size (5, 2) has 10"),
    ],
)
def test_message_about_runs_that_do_not_fit(runs: list[int], message: str) -> None:
    valid = encode_runs([3, 7])
    for texts in ([encode_runs(runs)], [valid, encode_runs(runs)], [encode_runs(runs), valid]):
        with pytest.raises(ValueError) as caught:
            rle.decode_all(texts, 5, 2)
        assert str(caught.value) == message
    with pytest.raises(ValueError) as caught:
        rle.decode_spans(encode_runs(runs).decode(), 5, 2)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", [b"/", b"p", b"P", b"00P", b"P" * 12 + b"0"])
def test_message_about_text_in_another_encoding(text: bytes) -> None:
    for texts in ([text], [b"0", text], [text, b"0"]):
        with pytest.raises(ValueError) as caught:
            rle.decode_all(texts, 5, 2)
        assert str(caught.value) == "counts are not in COCO's run-length encoding"


def test_no_masks() -> None:
    assert rle.decode_all([], 5, 2) == []
    lengths, firsts = rle._decode_lengths([b"", b""])
    assert (lengths.dtype, lengths.size, firsts) == (np.int64, 0, [0, 0])
    rle.prefetch_spans([], 5, 2)
    assert not rle._cache


def test_least_recently_used_mask_leaves_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def spans(name: str) -> rle.Spans:
        return np.zeros(3, np.int64), np.zeros(len(name), np.int64)

    for name in "abc":
        rle.cache_spans(name, 4, 5, *spans(name))
    size = 512 + 1 + 8 * (3 + 1)
    assert rle._cache.num_bytes == 3 * size
    rle.cache_spans("a", 4, 5, *spans("a"))  # again: moves to the end, and is not counted twice
    assert rle._cache.num_bytes == 3 * size
    rle.decode_spans("b", 4, 5)  # a hit moves to the end, too
    assert [key[0] for key in rle._cache] == ["c", "a", "b"]
    monkeypatch.setattr(rle, "_CACHE_BYTES", 3 * size)
    rle.cache_spans("d", 4, 5, *spans("d"))
    assert [key[0] for key in rle._cache] == ["a", "b", "d"]
    assert rle._cache.num_bytes == 3 * size
    rle._cache.clear()
    assert (len(rle._cache), rle._cache.num_bytes) == (0, 0)


def test_masks_that_are_cached_already_are_not_decoded_again() -> None:
    first, second = encode_runs([3, 7]), encode_runs([1, 4, 5])
    kept = rle.decode_spans(first.decode(), 5, 2)
    rle.prefetch_spans([first, second], 5, 2)
    assert rle.decode_spans(first.decode(), 5, 2) is kept
    assert list(rle._cache) == [(second.decode(), 5, 2), (first.decode(), 5, 2)]
    rle.prefetch_spans([first, second], 2, 5)
    assert len(rle._cache) == 4
