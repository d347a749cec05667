"""Views against the definition: counted by hand for one pixel at a time, and on real pictures with their masks."""

from __future__ import annotations

import math
import random
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmvm_data.core import augment, masks
from mmvm_data.core.augment import SIZE, ViewTransform


def _spots(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Coloured discs on grey, and the mask of each: uint8 [h, w, 3], uint8 [n, h, w]."""
    image = np.full((height, width, 3), 90, np.uint8)
    found = []
    for k, (x, y) in enumerate([(0.3, 0.3), (0.6, 0.35), (0.45, 0.7)]):
        mask = np.zeros((height, width), np.uint8)
        cv2.circle(mask, (round(x * width), round(y * height)), round(0.12 * height), 1, -1)
        image[mask == 1] = [(255, 0, 0), (0, 255, 0), (0, 0, 255)][k]
        found.append(mask)
    return image, np.stack(found)


@pytest.mark.parametrize("size", [(640, 480), (500, 900), (2250, 1500), (1024, 1024), (61, 47)])
def test_published_views_keep_to_the_published_numbers(size: tuple[int, int]) -> None:
    plain = cut = mirrored = 0
    for seed in range(60):
        first, second = augment.sample_views("published", *size, random.Random(seed))
        shared = [(v.resized, v.box, v.content, v.mirrored) for v in (first, second)]
        assert shared[0] == shared[1]
        assert first.degrees != second.degrees
        assert first.look == augment.PhotometricTransform()
        mirrored += first.mirrored
        x, y, w, h = first.box
        if first.resized == size and (w, h) == size:
            plain += 1
        else:
            cut += 1
            assert max(first.resized) <= 1024
            assert min(first.resized) in range(512, 865, 32) or max(first.resized) == 1024
            for side, whole in ((w, first.resized[0]), (h, first.resized[1])):
                assert min(480, whole) <= side <= min(864, whole)
            assert 0 <= x <= first.resized[0] - w
            assert 0 <= y <= first.resized[1] - h
        assert max(first.content) == 1024
        for view in (first, second):
            assert abs(view.degrees) <= 15
            assert all(0.4 <= c <= 0.6 for c in view.centre)
    assert min(plain, cut, mirrored, 60 - mirrored) > 15


def test_the_pixel_of_a_view_is_the_one_that_the_turn_brings_there() -> None:
    """One view, each step done by hand on a few points, in coordinates of pixel edges."""
    view = ViewTransform((200, 100), (400, 200), (40, 20, 300, 150), (1024, 512), True, 10.0, (0.45, 0.55))
    found = augment.map_view_pixels(view)
    angle, cx, cy = math.radians(10), 0.45 * 1024, 0.55 * 512
    for column, row in [(10, 20), (500, 250), (900, 400), (333, 77), (1023, 511)]:
        u, v = column + 0.5 - cx, row + 0.5 - cy
        # turned counter-clockwise on the screen, whose y points down; so back is clockwise
        x = math.cos(angle) * u - math.sin(angle) * v + cx
        y = math.sin(angle) * u + math.cos(angle) * v + cy
        if not (0 <= x < 1024 and 0 <= y < 512):
            assert found[row, column] == -1
            continue
        x = 1024 - x
        at_x, at_y = (x * 300 / 1024 + 40) / 2, (y * 150 / 512 + 20) / 2
        assert found[row, column] == math.floor(at_y) * 200 + math.floor(at_x)
    assert (found[512:] == -1).all()


@pytest.mark.parametrize("kind", ["published", "strong"])
@pytest.mark.parametrize("size", [(640, 480), (1500, 1000)])
def test_masks_follow_the_picture(kind: augment.ViewKind, size: tuple[int, int]) -> None:
    image, bitmaps = _spots(*size)
    for seed in range(6):
        for view in augment.sample_views(kind, *size, random.Random(seed)):
            plain = ViewTransform(
                view.image, view.resized, view.box, view.content, view.mirrored, view.degrees, view.centre
            )
            seen, moved = augment.render_view(plain, image), augment.warp_masks(augment.map_view_pixels(plain), bitmaps)
            for channel, mask in enumerate(moved):
                other = (channel + 1) % 3
                core = cv2.erode(mask, np.ones((5, 5), np.uint8)) == 1
                assert (seen[core][:, channel] > 200).all()
                assert (seen[core][:, other] < 60).all()
                away = cv2.dilate(mask, np.ones((5, 5), np.uint8)) == 0
                lone = (seen[..., channel] > 200) & (seen[..., other] < 60)
                assert not (lone & away).any()
    assert moved.shape == (3, SIZE, SIZE)


def test_what_is_hidden_is_in_no_mask() -> None:
    image, bitmaps = _spots(640, 480)
    hidden = 0
    for seed in range(30):
        for view in augment.sample_views("strong", 640, 480, random.Random(seed)):
            if not view.look.cover:
                continue
            cover = np.zeros((SIZE, SIZE), np.uint8)
            cv2.fillPoly(cover, [np.array(view.look.cover, np.int32)], 1)
            moved = augment.warp_masks(augment.map_view_pixels(view), bitmaps)
            assert not (moved.astype(bool) & cover.astype(bool)).any()
            inner = cover[: view.content[1], : view.content[0]].astype(bool)
            shown = augment.render_view(view, image)[: view.content[1], : view.content[0]]
            assert (shown[inner] == view.look.paint).all()
            bare = ViewTransform(
                view.image, view.resized, view.box, view.content, view.mirrored, view.degrees, view.centre
            )
            hidden += int((augment.warp_masks(augment.map_view_pixels(bare), bitmaps) != moved).any())
    assert hidden > 5


def test_run_lengths_follow_as_bitmaps_do() -> None:
    _, bitmaps = _spots(320, 200)
    (view,) = augment.sample_views("strong", 320, 200, random.Random(3), count=1)
    at = augment.map_view_pixels(view)
    for rle, bitmap in zip(
        augment.warp_rles(at, [masks.encode(b) for b in bitmaps]), augment.warp_masks(at, bitmaps), strict=True
    ):
        assert (masks.decode(rle) == bitmap).all()


def test_chance_comes_from_the_generator_alone() -> None:
    for kind in ("published", "strong"):
        drawn = [augment.sample_views(kind, 640, 480, random.Random(5), 3) for _ in range(2)]
        assert drawn[0] == drawn[1]
        assert drawn[0] != augment.sample_views(kind, 640, 480, random.Random(6), 3)
    strong = augment.sample_views("strong", 640, 480, random.Random(1), 2)
    assert strong[0].box != strong[1].box


def test_an_image_of_another_size_is_refused() -> None:
    (view,) = augment.sample_views("strong", 64, 48, random.Random(0), 1)
    with pytest.raises(ValueError, match="this one is 48 x 64"):
        augment.render_view(view, np.zeros((64, 48, 3), np.uint8))


def test_real_objects_keep_their_colours(realdata: Path) -> None:
    """The mean colour of an object of a COCO picture stays, when it stays in the view whole."""
    from pycocotools.coco import COCO

    coco = COCO(str(realdata / "coco/annotations/instances_train2017.json"))
    checked = 0
    for entry in coco.loadImgs(sorted(coco.getImgIds())[:12]):
        image = cv2.imread(str(realdata / "coco/train2017" / entry["file_name"]), cv2.IMREAD_COLOR)
        found = [a for a in coco.loadAnns(coco.getAnnIds([entry["id"]], iscrowd=False)) if a["area"] > 5000]
        for view in augment.sample_views("published", entry["width"], entry["height"], random.Random(entry["id"])):
            seen, at = augment.render_view(view, image), augment.map_view_pixels(view)
            scale = view.content[0] / view.box[2] * view.resized[0] / view.image[0]
            for annotation in found:
                bitmap = coco.annToMask(annotation)
                moved = augment.warp_masks(at, bitmap[None])[0]
                if abs(moved.sum() / (bitmap.sum() * scale**2) - 1) < 0.002:
                    assert np.abs(seen[moved == 1].mean(axis=0) - image[bitmap == 1].mean(axis=0)).max() < 2
                    checked += 1
    assert checked > 10
