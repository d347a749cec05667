"""Compiled loops, compared to the bit with the array operations that they replace, which have tests of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TypeVar

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from mmvm_data.core import acceleration, masks, polygons, rle
from mmvm_data.core.types import Rle

T = TypeVar("T")
BITMAPS = st.tuples(
    st.integers(1, 14), st.integers(1, 14), st.sampled_from([(0, 1), (0, 1, 1, 1), (0, 0, 0, 1)])
).flatmap(lambda drawn: hnp.arrays(np.uint8, drawn[:2], elements=st.sampled_from(drawn[2])))
RUNS = st.lists(st.integers(0, 9), min_size=1, max_size=9)


@pytest.fixture(scope="module", autouse=True)
def loaded(kernels: ModuleType) -> Iterator[None]:
    acceleration.use_kernels(kernels)
    yield
    acceleration.use_kernels(None)


@contextmanager
def numpy_only() -> Iterator[None]:
    before = acceleration.use_kernels(None)
    assert before is not None
    try:
        yield
    finally:
        acceleration.use_kernels(before)


def both(compute: Callable[[], T]) -> tuple[T, T]:
    """What the compiled loops give, and what NumPy gives."""
    rle.clear_cached_spans()
    compiled = compute()
    with numpy_only():
        rle.clear_cached_spans()
        return compiled, compute()


def check_outlines(rles: list[Rle]) -> None:
    compiled, expected = both(lambda: masks.trace_outlines(rles))
    assert len(compiled) == len(expected) == len(rles)
    for ours, theirs in zip(compiled, expected, strict=True):
        assert ours.polygons == theirs.polygons
        assert {(c.dtype, c.shape[1:]) for c in ours.contours} <= {(np.dtype(np.int32), (1, 2))}
        assert [c.tolist() for c in ours.contours] == [c.tolist() for c in theirs.contours]


@given(st.lists(BITMAPS, max_size=4))
def test_outlines_of_masks_of_several_frames(bitmaps: list[np.ndarray]) -> None:
    check_outlines([masks.encode(bitmap) for bitmap in bitmaps])


@given(hnp.arrays(np.uint8, (31, 37), elements=st.sampled_from([0, 1, 1, 1, 1, 1, 1, 1])))
def test_outlines_of_components_inside_holes(bitmap: np.ndarray) -> None:
    check_outlines([masks.encode(bitmap)])


def test_outlines_of_large_masks() -> None:
    """With buffers that have to grow, holes of one width, objects in holes of others, and a comb without holes."""
    rng = np.random.default_rng(5)
    noise = cv2.GaussianBlur(rng.random((300, 400)).astype(np.float32), (0, 0), 3) > 0.5
    grid = np.ones((200, 300), bool)
    grid[5:190:7, 5:290:7] = False
    rings = np.zeros((401, 401), np.uint8)
    for radius in range(10, 200, 12):
        cv2.circle(rings, (200, 200), radius, 1, 3)
    comb = np.zeros((90, 1200), bool)
    comb[:, ::2], comb[-1] = True, True
    check_outlines([masks.encode(bitmap) for bitmap in (noise, grid, rings, comb, noise.T, rng.random((99, 98)) < 0.5)])


def test_run_over_the_end_of_a_column() -> None:
    check_outlines([masks.from_counts([3, 4, 2, 11], (5, 4)), masks.from_counts([0, 20], (5, 4))])


@given(st.lists(RUNS, max_size=5), st.integers(1, 8))
def test_runs_of_a_frame(lengths: list[list[int]], height: int) -> None:
    """Of any lengths, as of no mask that pycocotools encodes, but as a file may hold: empty runs too."""
    width = max((-(-sum(runs) // height) for runs in lengths), default=1) or 1
    filled = [[*runs, height * width - sum(runs)] for runs in lengths]
    counts = [coco.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"] for runs in filled]
    kernels = acceleration.loaded_kernels()
    assert kernels is not None
    status, *_ = kernels.decode(*rle.join_counts(counts), height * width)
    assert status == any(not all(runs[1:]) for runs in filled)  # and not -1, for which NumPy would do it
    compiled, expected = both(lambda: rle.decode_all(counts, height, width))
    assert [list(map(np.ndarray.tolist, spans)) for spans in compiled] == [
        list(map(np.ndarray.tolist, spans)) for spans in expected
    ]
    rles = [Rle(size=(height, width), counts=text.decode()) for text in counts]
    for ours, theirs in zip(*both(lambda: masks.measure_overlaps(rles)), strict=True):
        assert (ours.dtype, ours.shape, ours.tolist()) == (theirs.dtype, theirs.shape, theirs.tolist())


CODES = st.lists(st.integers(48, 111), max_size=8).map(bytes)


@given(st.lists(st.binary(max_size=16) | CODES, max_size=3))
def test_counts_that_are_broken_are_reported_alike(counts: list[bytes]) -> None:
    def decode() -> object:
        try:
            return [list(map(np.ndarray.tolist, spans)) for spans in rle.decode_all(counts, 3, 4)]
        except ValueError as error:
            return str(error)

    compiled, expected = both(decode)
    assert compiled == expected


@given(st.integers(2, 5).flatmap(lambda n: hnp.arrays(np.uint8, (n, 9, 11), elements=st.integers(0, 1))))
def test_areas_boxes_and_overlaps(bitmaps: np.ndarray) -> None:
    rles = [masks.encode(bitmap) for bitmap in bitmaps]
    areas, boxes, shared = masks.measure_overlaps(rles)
    assert areas.tolist() == bitmaps.sum((1, 2)).tolist()
    assert boxes.tolist() == [list(masks.bbox(mask)) for mask in rles]
    both_inside = np.einsum("ahw,bhw->ab", bitmaps.astype(int), bitmaps.astype(int))
    np.fill_diagonal(both_inside, 0)
    assert shared.tolist() == both_inside.max(axis=1).tolist()


@pytest.mark.parametrize("counts", [b"P" * 8 + b"1", b"P" * 9 + b"1", b"o" * 11 + b"0", b"o" * 12 + b"0", b"@", b"P"])
def test_runs_beyond_any_image(counts: bytes) -> None:
    with pytest.raises(ValueError) as compiled:
        rle.decode_all([counts], 2, 3)
    with numpy_only(), pytest.raises(ValueError) as expected:
        rle.decode_all([counts], 2, 3)
    assert str(compiled.value) == str(expected.value)


def test_outlines_equal_those_of_bitmaps() -> None:
    bitmap = np.random.default_rng(1).random((40, 30)) < 0.6
    mask = masks.encode(bitmap)
    ours, theirs = masks.trace_outlines([mask])[0], polygons.trace_outlines([masks.crop(mask)])[0]
    assert ours.polygons == theirs.polygons
    assert [c.tolist() for c in ours.contours] == [
        c.tolist() for c in cv2.findContours(bitmap.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
    ]
