"""Views against their definition: single pixels computed by hand, and real images with their masks."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mmvm_data.core import augment, masks
from mmvm_data.core.augment import SIZE, ViewTransform


def _draw_discs(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Colored discs on gray, and the mask of each: uint8 [h, w, 3], uint8 [n, h, w]."""
    image = np.full((height, width, 3), 90, np.uint8)
    found = []
    for k, (x, y) in enumerate([(0.3, 0.3), (0.6, 0.35), (0.45, 0.7)]):
        mask = np.zeros((height, width), np.uint8)
        cv2.circle(mask, (round(x * width), round(y * height)), round(0.12 * height), 1, -1)
        image[mask == 1] = [(255, 0, 0), (0, 255, 0), (0, 0, 255)][k]
        found.append(mask)
    return image, np.stack(found)


@pytest.mark.parametrize("size", [(640, 480), (500, 900), (2250, 1500), (1024, 1024), (61, 47)])
def test_published_views_stay_in_the_published_ranges(size: tuple[int, int]) -> None:
    uncropped = cropped = flipped = 0
    for seed in range(60):
        first, second = augment.sample_views("published", *size, random.Random(seed))
        shared = [(v.resize_to, v.crop_box, v.content_size, v.hflip) for v in (first, second)]
        assert shared[0] == shared[1]
        assert first.degrees != second.degrees
        assert first.photometric == augment.PhotometricTransform()
        flipped += first.hflip
        x, y, w, h = first.crop_box
        if first.resize_to == size and (w, h) == size:
            uncropped += 1
        else:
            cropped += 1
            assert max(first.resize_to) <= 1024
            assert min(first.resize_to) in range(512, 865, 32) or max(first.resize_to) == 1024
            for side, length in ((w, first.resize_to[0]), (h, first.resize_to[1])):
                assert min(480, length) <= side <= min(864, length)
            assert 0 <= x <= first.resize_to[0] - w
            assert 0 <= y <= first.resize_to[1] - h
        assert max(first.content_size) == 1024
        for view in (first, second):
            assert abs(view.degrees) <= 15
            assert all(0.4 <= c <= 0.6 for c in view.center)
    assert min(uncropped, cropped, flipped, 60 - flipped) > 15


def test_map_view_pixels_matches_a_rotation_computed_by_hand() -> None:
    """One view, each step computed by hand for a few points, in coordinates of pixel edges."""
    view = ViewTransform((200, 100), (400, 200), (40, 20, 300, 150), (1024, 512), True, 10.0, (0.45, 0.55))
    pixel_map = augment.map_view_pixels(view)
    angle, cx, cy = math.radians(10), 0.45 * 1024, 0.55 * 512
    for column, row in [(10, 20), (500, 250), (900, 400), (333, 77), (1023, 511)]:
        u, v = column + 0.5 - cx, row + 0.5 - cy
        # rotated counter-clockwise on the screen, whose y points down; so back is clockwise
        x = math.cos(angle) * u - math.sin(angle) * v + cx
        y = math.sin(angle) * u + math.cos(angle) * v + cy
        if not (0 <= x < 1024 and 0 <= y < 512):
            assert pixel_map[row, column] == -1
            continue
        x = 1024 - x
        at_x, at_y = (x * 300 / 1024 + 40) / 2, (y * 150 / 512 + 20) / 2
        assert pixel_map[row, column] == math.floor(at_y) * 200 + math.floor(at_x)
    assert (pixel_map[512:] == -1).all()


@pytest.mark.parametrize("kind", ["published", "strong"])
@pytest.mark.parametrize("size", [(640, 480), (1500, 1000)])
def test_masks_follow_the_image(kind: augment.ViewKind, size: tuple[int, int]) -> None:
    image, bitmaps = _draw_discs(*size)
    for seed in range(6):
        for view in augment.sample_views(kind, *size, random.Random(seed)):
            geometric = ViewTransform(
                view.image_size, view.resize_to, view.crop_box, view.content_size, view.hflip, view.degrees, view.center
            )
            rendered, warped = (
                augment.render_view(geometric, image),
                augment.warp_masks(augment.map_view_pixels(geometric), bitmaps),
            )
            for channel, mask in enumerate(warped):
                other = (channel + 1) % 3
                core = cv2.erode(mask, np.ones((5, 5), np.uint8)) == 1
                assert (rendered[core][:, channel] > 200).all()
                assert (rendered[core][:, other] < 60).all()
                away = cv2.dilate(mask, np.ones((5, 5), np.uint8)) == 0
                lone = (rendered[..., channel] > 200) & (rendered[..., other] < 60)
                assert not (lone & away).any()
    assert warped.shape == (3, SIZE, SIZE)


def test_occluded_pixels_are_in_no_mask() -> None:
    image, bitmaps = _draw_discs(640, 480)
    hidden = 0
    for seed in range(30):
        for view in augment.sample_views("strong", 640, 480, random.Random(seed)):
            if not view.photometric.occluder:
                continue
            cover = np.zeros((SIZE, SIZE), np.uint8)
            cv2.fillPoly(cover, [np.array(view.photometric.occluder, np.int32)], 1)
            warped = augment.warp_masks(augment.map_view_pixels(view), bitmaps)
            assert not (warped.astype(bool) & cover.astype(bool)).any()
            inner = cover[: view.content_size[1], : view.content_size[0]].astype(bool)
            rendered = augment.render_view(view, image)[: view.content_size[1], : view.content_size[0]]
            assert (rendered[inner] == view.photometric.occluder_color).all()
            geometric = ViewTransform(
                view.image_size, view.resize_to, view.crop_box, view.content_size, view.hflip, view.degrees, view.center
            )
            hidden += int((augment.warp_masks(augment.map_view_pixels(geometric), bitmaps) != warped).any())
    assert hidden > 5


def test_warp_rles_equals_warp_masks() -> None:
    _, bitmaps = _draw_discs(320, 200)
    (view,) = augment.sample_views("strong", 320, 200, random.Random(3), count=1)
    pixel_map = augment.map_view_pixels(view)
    for rle, bitmap in zip(
        augment.warp_rles(pixel_map, [masks.encode(b) for b in bitmaps]),
        augment.warp_masks(pixel_map, bitmaps),
        strict=True,
    ):
        assert (masks.decode(rle) == bitmap).all()


@pytest.mark.parametrize("layers", [1, 2, 8])
def test_nested_masks_and_hidden_ones_are_warped_one_by_one(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "_MAX_LAYERS", layers)
    bitmaps = np.zeros((40, 200, 320), np.uint8)
    for k in range(40):
        if k % 10 < 6:  # nested squares
            bitmaps[k, 20 + k : 180 - k, 30 + k : 290 - k] = 1
        else:  # small ones beside each other
            bitmaps[k, 2:16, 8 * k : 8 * k + 6] = 1
    bitmaps[7] = 0
    bitmaps[8] = 1
    (view,) = augment.sample_views("strong", 320, 200, random.Random(5), count=1)
    pixel_map = augment.map_view_pixels(view)
    expected = [masks.encode(bitmap) for bitmap in augment.warp_masks(pixel_map, bitmaps)]
    assert augment.warp_rles(pixel_map, [masks.encode(bitmap) for bitmap in bitmaps]) == expected
    assert augment.warp_rles(pixel_map, []) == []


def test_views_depend_only_on_the_generator() -> None:
    for kind in ("published", "strong"):
        drawn = [augment.sample_views(kind, 640, 480, random.Random(5), 3) for _ in range(2)]
        assert drawn[0] == drawn[1]
        assert drawn[0] != augment.sample_views(kind, 640, 480, random.Random(6), 3)
    strong = augment.sample_views("strong", 640, 480, random.Random(1), 2)
    assert strong[0].crop_box != strong[1].crop_box


def test_image_of_another_size_is_rejected() -> None:
    (view,) = augment.sample_views("strong", 64, 48, random.Random(0), 1)
    with pytest.raises(ValueError, match="this one is 48 x 64"):
        augment.render_view(view, np.zeros((64, 48, 3), np.uint8))


def test_real_objects_keep_their_colors(realdata: Path) -> None:
    """The mean color of an object of a COCO image stays the same when the object lies completely in the view."""
    from pycocotools.coco import COCO

    coco = COCO(str(realdata / "coco/annotations/instances_train2017.json"))
    checked = 0
    for entry in coco.loadImgs(sorted(coco.getImgIds())[:12]):
        image = cv2.imread(str(realdata / "coco/train2017" / entry["file_name"]), cv2.IMREAD_COLOR)
        found = [a for a in coco.loadAnns(coco.getAnnIds([entry["id"]], iscrowd=False)) if a["area"] > 5000]
        for view in augment.sample_views("published", entry["width"], entry["height"], random.Random(entry["id"])):
            rendered, pixel_map = augment.render_view(view, image), augment.map_view_pixels(view)
            scale = view.content_size[0] / view.crop_box[2] * view.resize_to[0] / view.image_size[0]
            for annotation in found:
                bitmap = coco.annToMask(annotation)
                warped = augment.warp_masks(pixel_map, bitmap[None])[0]
                if abs(warped.sum() / (bitmap.sum() * scale**2) - 1) < 0.002:
                    assert np.abs(rendered[warped == 1].mean(axis=0) - image[bitmap == 1].mean(axis=0)).max() < 2
                    checked += 1
    assert checked > 10


def flatten(value: Any) -> Any:
    """Plain lists of rounded numbers, for a digest that no platform's last digit changes."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, (list, tuple)):
        return [flatten(item) for item in value]
    if dataclasses.is_dataclass(value):
        return [flatten(getattr(value, field.name)) for field in dataclasses.fields(value)]
    return value


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        ("strong", "97cb318f72e4e83be22728ea5a1981b7783c1540b667406d4b8ae676b61941ea"),
        ("published", "40a48ff6c13be51bdd17329da0f919ece4c5f12704fd7f92348b1153ef7d215c"),
    ],
)
def test_views_of_a_seed_never_change(kind: augment.ViewKind, digest: str) -> None:
    """Builds of still images have the same bytes from version to version only if these do not change."""
    views = [
        flatten(augment.sample_views(kind, width, height, random.Random(seed), 3))
        for seed in range(12)
        for width, height in ((640, 480), (300, 1200), (2000, 900))
    ]
    assert hashlib.sha256(repr(views).encode()).hexdigest() == digest
    assert views[0][0][0] == [640, 480]
