"""Masks against pycocotools, shapely and the published reader's rule."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as coco
from pycocotools.coco import COCO
from shapely.geometry import Polygon

from mmvm_data.core import masks
from mmvm_data.core import rle as rle_codec
from mmvm_data.core.types import Region, Rle

BITMAPS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.integers(0, 1))


def published_reader(polygons: list[list[int]], height: int, width: int) -> np.ndarray:
    """The rule of the published evaluator, stated with pycocotools alone (DESIGN 3.1)."""
    outlines = [np.array(p) for p in polygons if len(p) % 2 == 0 and len(p) >= 6]
    if not outlines:
        return np.zeros((height, width), bool)
    layers = coco.decode(coco.frPyObjects(outlines, height, width)).sum(axis=2)
    return np.where(layers >= 2, 0, layers).astype(bool)


def check_polygons(bitmap: np.ndarray) -> list[list[int]]:
    height, width = bitmap.shape
    polygons = masks.to_polygons(masks.encode(bitmap))
    assert (published_reader(polygons, height, width) == (bitmap != 0)).all()
    if polygons:
        union = coco.decode(coco.merge(coco.frPyObjects([np.array(p) for p in polygons], height, width)))
        assert (union == (bitmap != 0)).all()
    assert all(len(p) >= 8 and all(isinstance(v, int) for v in p) for p in polygons)
    assert sum(abs(Polygon(np.reshape(p, (-1, 2))).area) for p in polygons) == np.count_nonzero(bitmap)
    return polygons


@given(BITMAPS)
def test_polygons_reproduce_any_bitmap_under_both_rules(bitmap: np.ndarray) -> None:
    check_polygons(bitmap)


@given(hnp.arrays(np.uint8, (24, 31), elements=st.sampled_from([0, 1, 1, 1])))
def test_many_holes(bitmap: np.ndarray) -> None:
    check_polygons(bitmap)


@pytest.mark.parametrize("seed", range(20))
def test_blobs_with_holes_and_components(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.random((12, 16)).repeat(9, 0).repeat(9, 1)
    bitmap = (noise > 0.45).astype(np.uint8)
    bitmap[::7, ::5] ^= 1
    check_polygons(bitmap)


def test_polygons_of_a_ring_are_valid_and_do_not_overlap() -> None:
    bitmap = np.zeros((40, 50), np.uint8)
    bitmap[5:35, 5:45] = 1
    bitmap[15:25, 20:30] = 0
    polygons = [Polygon(np.reshape(p, (-1, 2))) for p in check_polygons(bitmap)]
    assert len(polygons) == 2
    assert all(p.is_valid for p in polygons)
    assert polygons[0].intersection(polygons[1]).area == 0


def test_nested_rings_and_37_components() -> None:
    rings = np.zeros((61, 63), np.uint8)
    for k in range(0, 30, 2):
        rings[k : 61 - k, k : 63 - k] = 1
        rings[k + 1 : 60 - k, k + 1 : 62 - k] = 0
    assert len(check_polygons(rings)) == 30
    pieces = np.zeros((400, 500), np.uint8)
    for k in range(37):
        pieces[10 * k : 10 * k + 6, 53 * k % 480 : 53 * k % 480 + 9] = 1
    assert len(check_polygons(pieces)) == 37


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (480, 854)])
def test_full_frames_and_lines(shape: tuple[int, int]) -> None:
    (ring,) = check_polygons(np.ones(shape, np.uint8))
    assert sorted(zip(ring[::2], ring[1::2], strict=True)) == [(x, y) for x in (0, shape[1]) for y in (0, shape[0])]
    board = (np.indices(shape).sum(axis=0)[:40, :40] % 2).astype(np.uint8)
    check_polygons(board)


@pytest.mark.parametrize("shape", [(3, 32767), (3, 32768), (5, 70_000), (70_000, 5)])
def test_very_long_frames(shape: tuple[int, int]) -> None:
    bitmap = np.ones(shape, np.uint8)
    bitmap[1:3, 1:-1:5000] = 0
    bitmap[1:-1:5000, 1:3] = 0
    check_polygons(bitmap)


@given(BITMAPS)
def test_coco_reads_the_same_mask(bitmap: np.ndarray) -> None:
    dataset = COCO()
    dataset.imgs = {1: {"id": 1, "height": bitmap.shape[0], "width": bitmap.shape[1]}}
    polygons = masks.to_polygons(masks.encode(bitmap))
    if polygons:
        assert (dataset.annToMask({"image_id": 1, "segmentation": polygons}) == bitmap).all()


def test_diagonal_pixels_become_simple_rings() -> None:
    polygons = check_polygons(np.eye(6, dtype=np.uint8))
    assert len(polygons) == 6
    assert all(Polygon(np.reshape(p, (-1, 2))).is_valid for p in polygons)


def test_polygons_reproduce_real_masks(realdata) -> None:
    files = sorted((realdata / "davis2017_schoolgirls_240p/Annotations/240p/schoolgirls").glob("*.png"))[::20]
    files += sorted((realdata / "davis2016_val/DAVIS/Annotations/480p").glob("*/00000.png"))
    checked = 0
    for file in files:
        labels = np.array(Image.open(file))
        for label in np.unique(labels)[1:]:
            check_polygons((labels == label).astype(np.uint8))
            checked += 1
    assert checked > 20


@given(BITMAPS)
def test_area_bbox_and_iou_agree_with_numpy(bitmap: np.ndarray) -> None:
    rle = masks.encode(bitmap)
    assert (masks.decode(rle) == bitmap).all()
    assert masks.area(rle) == bitmap.sum()
    patch = masks.crop(rle)
    ys, xs = np.nonzero(bitmap)
    if len(ys):
        x, y, w, h = masks.bbox(rle)
        assert (x, y, w, h) == (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)
        assert (patch.x, patch.y) == (x, y)
        assert (patch.bitmap == bitmap[y : y + h, x : x + w]).all()
        assert patch.bitmap.flags.c_contiguous
    else:
        assert masks.bbox(rle) == (0, 0, 0, 0)
        assert patch.bitmap.size == 0


@given(BITMAPS)
def test_counts_agree_with_pycocotools(bitmap: np.ndarray) -> None:
    height, width = bitmap.shape
    flat = bitmap.T.ravel().tolist()
    runs, value = [0], 0
    for pixel in flat:
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    assert masks.from_counts(runs, (height, width)) == masks.encode(bitmap)
    assert masks.from_counts(masks.encode(bitmap).counts, (height, width)) == masks.encode(bitmap)


@given(st.lists(BITMAPS, min_size=1, max_size=4), st.data())
def test_overlaps_without_decoding(bitmaps: list[np.ndarray], data: st.DataObject) -> None:
    size = bitmaps[0].shape
    others = data.draw(st.lists(hnp.arrays(np.uint8, size, elements=st.integers(0, 1)), min_size=1, max_size=3))
    first = [bitmaps[0]]
    a, b = [masks.encode(m) for m in first], [masks.encode(m) for m in others]
    shared = np.array([[np.logical_and(x, y).sum() for y in others] for x in first])
    joined = np.array([[np.logical_or(x, y).sum() for y in others] for x in first])
    assert (masks.intersections(a, b) == shared).all()
    assert np.allclose(masks.iou(a, b), np.divide(shared, joined, out=np.zeros(shared.shape), where=joined > 0))


@given(hnp.arrays(np.uint8, (13, 17), elements=st.integers(0, 5)))
def test_encode_labels(labels: np.ndarray) -> None:
    found = masks.encode_labels(labels)
    assert list(found) == [v for v in np.unique(labels).tolist() if v]
    for label, rle in found.items():
        assert rle == masks.encode(labels == label)
    assert masks.encode_labels(labels, [3]).keys() <= {3}


@pytest.mark.parametrize(
    ("counts", "size"),
    [
        ("", (4, 4)),
        ("abc\x01", (4, 4)),
        ([3, 4], (4, 4)),
        ([20, -4], (4, 4)),
        ("0o", (1, 1)),
        ([16.0], (4, 4)),
        ([16], (0, 16)),
    ],
)
def test_broken_counts_are_rejected(counts: object, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError):
        masks.from_counts(counts, size)  # type: ignore[arg-type]


@given(st.text(alphabet=[chr(c) for c in range(40, 120)], max_size=30))
def test_any_text_is_a_mask_or_rejected(text: str) -> None:
    try:
        rle = masks.from_counts(text, (9, 7))
    except ValueError:
        return
    assert (masks.decode(rle).T.ravel().sum()) == masks.area(rle)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4)),
        ((-5, -5, 7.4, 6.6), (0, 0, 2, 2)),
        ((18.6, 8.7, 9, 9), (19, 9, 1, 1)),
        ((3.2, 3.2, 0.1, 0.1), (3, 3, 1, 1)),
        ((25, 3, 4, 4), (0, 0, 0, 0)),
        ((0, 0, 20, 10), (0, 0, 20, 10)),
    ],
)
def test_boxes_are_rounded_to_pixels(box: tuple[float, ...], expected: tuple[int, ...]) -> None:
    assert masks.bbox(masks.from_box(box, 10, 20)) == expected  # type: ignore[arg-type]
    assert masks.area(masks.from_box(box, 10, 20)) == expected[2] * expected[3]  # type: ignore[arg-type]


def test_original_rule_clears_overlaps() -> None:
    squares = [[0, 0, 4, 0, 4, 4, 0, 4], [2, 0, 6, 0, 6, 4, 2, 4], [1, 1, 2], [0, 0, 1, 1]]
    assert masks.area(masks.from_polygons(squares, 8, 8)) == 16
    assert masks.area(masks.from_polygons(squares, 8, 8, rule="union")) == 24
    assert masks.from_polygons([[1, 2, 3]], 4, 4) == Rle(size=(4, 4), counts=masks.encode(np.zeros((4, 4))).counts)


@given(
    st.lists(st.lists(st.integers(-6, 44).map(lambda v: v / 2), min_size=4, max_size=13), max_size=6),
    st.integers(1, 20),
    st.integers(1, 20),
)
def test_original_rule_agrees_with_the_published_reader(polygons: list[list[float]], height: int, width: int) -> None:
    seen = masks.from_polygons(polygons, height, width)
    assert seen == masks.encode(published_reader(polygons, height, width))  # type: ignore[arg-type]


def test_many_polygons_of_a_large_frame_need_little_memory() -> None:
    squares = [[x, y, x + 9, y, x + 9, y + 9, x, y + 9] for x in range(0, 3800, 100) for y in range(0, 2100, 100)]
    tracemalloc.start()
    seen = masks.from_polygons([*squares, squares[0]], 2160, 3840)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert masks.area(seen) == 81 * (len(squares) - 1)
    assert peak < 2160 * 3840  # one bitmap; all of them would be 800


@pytest.mark.parametrize("count", [10, 255, 256, 300, 5000])
def test_many_masks_equal_pycocotools_one_at_a_time(count: int) -> None:
    labels = np.zeros((260, 412), np.int32)
    rng = np.random.default_rng(count)
    for k in range(count):
        y, x = divmod(k, 100)
        labels[5 * y : 5 * y + rng.integers(2, 5), 4 * x : 4 * x + rng.integers(2, 4)] = k + 1
    by_label = masks.encode_labels(labels)
    assert list(by_label) == list(range(1, count + 1))
    rles = list(by_label.values())
    single = [coco.encode(np.asfortranarray(labels == k + 1, np.uint8)) for k in range(count)]
    assert [rle.counts.encode() for rle in rles] == [one["counts"] for one in single]
    assert [masks.has_pixels(rle) for rle in rles] == [int(coco.area(one)) > 0 for one in single]
    assert masks.areas(rles).tolist() == [int(coco.area(one)) for one in single]
    assert masks.bboxes(rles).tolist() == [coco.toBbox(one).tolist() for one in single]
    others = [masks.from_box((40.0 * k, 3, 60, 40), *labels.shape) for k in range(7)]
    theirs = [{"size": list(o.size), "counts": o.counts.encode()} for o in others]
    shared = [[int(coco.area(coco.merge([one, other], True))) for other in theirs] for one in single]
    assert masks.intersections(rles, others).tolist() == shared
    assert masks.intersections(others, rles).T.tolist() == shared
    assert masks.iou(rles, others).tolist() == [[coco.iou([a], [b], [0])[0, 0] for b in theirs] for a in single]


def test_a_mask_of_many_polygons() -> None:
    outlines = [[6 * k, 0, 6 * k + 4, 0, 6 * k + 4, 9, 6 * k, 9] for k in range(300)]
    union = masks.from_polygons(outlines, 10, 1800, rule="union")
    assert masks.area(union) == 300 * 36
    assert masks.from_polygons(outlines, 10, 1800) == union


@pytest.mark.parametrize(
    ("counts", "size", "message"),
    [
        ("0", (4,), "size (4,) must be two integers of at least 1, height and width"),
        ("0", (4, 0), "size (4, 0) must be two integers of at least 1, height and width"),
        ("0", (4, True), "size (4, True) must be two integers of at least 1, height and width"),
        ("0", (4.5, 4), "size (4.5, 4) must be two integers of at least 1, height and width"),
        ("é", (4, 4), "counts are not in COCO's run-length encoding"),
        (b"\xff", (4, 4), "counts are not in COCO's run-length encoding"),
        ("p", (4, 4), "counts are not in COCO's run-length encoding"),
        ("4", (4, 4), "runs cover 4 pixels, size (4, 4) has 16"),
        ([[16]], (4, 4), "counts must be a list of integers of at least 0"),
        ([16.0], (4, 4), "counts must be a list of integers of at least 0"),
        ([17, -1], (4, 4), "counts must be a list of integers of at least 0"),
        ([3, 4], (2, 8), "runs cover 7 pixels, size (2, 8) has 16"),
    ],
)
def test_message_about_broken_counts(counts: Any, size: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        masks.from_counts(counts, size)
    assert str(caught.value) == message


def test_counts_in_each_of_their_forms() -> None:
    bitmap = np.zeros((3, 1), np.uint8)
    bitmap[1:] = 1
    rle = masks.encode(bitmap)
    assert rle == Rle(size=(3, 1), counts="12")
    for counts in ("12", b"12", [1, 2], (1, 2), np.array([1, 2], np.uint32), [1, 2, 0]):
        assert masks.from_counts(counts, [3.0, 1]).size == (3, 1)  # type: ignore[list-item]
        assert (masks.decode(masks.from_counts(counts, (3, 1))) == bitmap).all()
    assert masks.decode(masks.from_counts([0, 1], (1, 1))).tolist() == [[1]]
    assert masks.decode(masks.from_counts([1], (1, 1))).tolist() == [[0]]


def test_counts_of_a_frame_are_prefetched() -> None:
    rle_codec._cache.clear()
    masks.prefetch_counts([b"12", b"3"], (3.0, 1))  # type: ignore[arg-type]
    assert list(rle_codec._cache) == [("12", 3, 1), ("3", 3, 1)]


def test_types_of_results() -> None:
    full, empty = masks.encode(np.full((4, 6), 7)), masks.encode(np.zeros((4, 6), bool))
    decoded, patch = masks.decode(full), masks.crop(full)
    assert (decoded.dtype, decoded.flags.c_contiguous, decoded.min(), decoded.max()) == (np.uint8, True, 1, 1)
    assert (patch.bitmap.dtype, patch.bitmap.tolist(), patch.x, patch.y) == (np.uint8, [[1] * 6] * 4, 0, 0)
    nothing = masks.crop(empty)
    assert (nothing.bitmap.dtype, nothing.bitmap.shape, nothing.x, nothing.y) == (np.uint8, (0, 0), 0, 0)
    assert masks.to_polygons(empty) == []
    for rles in ([], [full, empty]):
        n = len(rles)
        assert (masks.areas(rles).dtype, masks.areas(rles).tolist()) == (np.int64, [24, 0][:n])
        boxes = masks.bboxes(rles)
        assert (boxes.dtype, boxes.shape) == (np.float64, (n, 4))
        assert boxes.tolist() == [[0, 0, 6, 4], [0, 0, 0, 0]][:n]
        for a, b in ((rles, [full] * 3), ([full] * 3, rles)):
            for function, dtype, values in ((masks.iou, np.float64, [1, 0]), (masks.intersections, np.int64, [24, 0])):
                table = function(a, b)  # type: ignore[operator]
                assert (table.dtype, table.shape) == (dtype, (len(a), len(b)))
                assert (table if b is not rles else table.T).tolist() == [[value] * 3 for value in values[:n]]
    spans = masks.spans(full)
    assert [(side.dtype, side.tolist()) for side in spans] == [(np.int64, [0]), (np.int64, [24])]


def test_labels_that_are_named() -> None:
    labels = np.array([[0, 2, 2], [5, 0, 5]])
    assert list(masks.encode_labels(labels, [0, 5, 9])) == [0, 5]
    assert masks.encode_labels(labels, iter([2])) == {2: masks.encode(labels == 2)}
    assert masks.encode_labels(labels, [0])[0] == masks.encode(labels == 0)
    assert masks.encode_labels(np.full((2, 3), 4, np.uint16)) == {4: masks.encode(np.ones((2, 3)))}
    assert masks.encode_labels(np.zeros((2, 3), np.uint8)) == {}


@given(st.tuples(*[st.integers(-12, 60).map(lambda v: v / 4)] * 2, *[st.integers(1, 60).map(lambda v: v / 4)] * 2))
def test_boxes_against_the_rule_pixel_by_pixel(box: tuple[float, float, float, float]) -> None:
    height, width = 7, 9

    def edges(start: float, length: float, size: int) -> set[int]:
        low, high = Fraction(max(start, 0)), Fraction(min(start + length, size))
        if low >= high:
            return set()
        first = min(int(low + Fraction(1, 2)), size - 1)
        return set(range(first, max(int(high + Fraction(1, 2)), first + 1)))

    expected = np.zeros((height, width), np.uint8)
    for row in edges(box[1], box[3], height):
        for column in edges(box[0], box[2], width):
            expected[row, column] = 1
    assert masks.from_box(box, height, width) == masks.encode(expected)
    assert masks.region_mask(Region(id="1", box=box), height, width) == masks.encode(expected)


def test_mask_of_a_region_is_returned_as_it_is() -> None:
    rle = masks.encode(np.eye(5))
    assert masks.region_mask(Region(id="1", mask=rle), 9, 9) is rle
