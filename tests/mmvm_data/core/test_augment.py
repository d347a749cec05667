"""Views against their definition: single pixels computed by hand, and real images with their masks."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mmvm_data.core import augment, masks
from mmvm_data.core.augment import SIZE, PhotometricTransform, ViewTransform


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


@pytest.mark.parametrize("kind", ["published", "strong", "cropped"])
@pytest.mark.parametrize("size", [(640, 480), (1500, 1000)])
def test_masks_follow_the_image(kind: augment.ViewKind, size: tuple[int, int]) -> None:
    image, bitmaps = _draw_discs(*size)
    for seed in range(6):
        for view in augment.sample_views(kind, *size, random.Random(seed)):
            geometric = dataclasses.replace(view, photometric=PhotometricTransform())
            rendered, warped = (
                augment.render_view(geometric, image),
                augment.warp_masks(augment.map_view_pixels(geometric), bitmaps),
            )
            for channel, mask in enumerate(warped):
                other = (channel + 1) % 3
                core = cv2.erode(mask, np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0) == 1
                assert (rendered[core][:, channel] > 200).all()
                assert (rendered[core][:, other] < 60).all()
                away = cv2.dilate(mask, np.ones((5, 5), np.uint8)) == 0
                lone = (rendered[..., channel] > 200) & (rendered[..., other] < 60)
                assert not (lone & away)[3:-3, 3:-3].any()  # what lies outside is not known at the borders
    assert warped.shape == (3, *view.size[::-1])


@pytest.mark.parametrize("size", [(640, 480), (300, 900), (2250, 1500), (61, 47), (3, 2)])
def test_cropped_views_have_no_padding(size: tuple[int, int]) -> None:
    image = np.full((size[1], size[0], 3), (10, 200, 60), np.uint8)
    sizes = set()
    for seed in range(8):
        for view in augment.sample_views("cropped", *size, random.Random(seed)):
            plain = dataclasses.replace(view, photometric=PhotometricTransform())
            assert (augment.map_view_pixels(plain) >= 0).all()
            assert (augment.render_view(plain, image) == (10, 200, 60)).all()
            assert max(view.size) <= min(SIZE, 1.5 * max(size) + 2)
            assert view.degrees or min(size) < 10
            sizes.add(view.size)
    assert len(sizes) > 4 or min(size) < 10


def test_the_visible_share_of_an_object() -> None:
    """A view of the left half at twice the size, which cuts a square in two."""
    view = ViewTransform((40, 20), (40, 20), (0, 0, 20, 20), (40, 40), window=(0, 0, 40, 40))
    bitmap = np.zeros((20, 40), np.uint8)
    bitmap[5:15, 15:25] = 1
    rle = masks.encode(bitmap)
    (shown,) = augment.warp_rles(augment.map_view_pixels(view), [rle])
    assert masks.area(shown) == 200 and shown.size == (40, 40)
    assert augment.visible_share(view, rle, shown) == 0.5


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


@pytest.mark.parametrize("kind", ["published", "strong", "cropped"])
def test_views_rendered_together_equal_those_rendered_alone(kind: augment.ViewKind) -> None:
    image = np.random.default_rng(0).integers(0, 256, (180, 260, 3), dtype=np.uint8)
    before = image.copy()
    for seed in range(6):
        views = augment.sample_views(kind, 260, 180, random.Random(seed), 3)
        together = augment.render_views(views, image)
        for view, rendered in zip(views, together, strict=True):
            np.testing.assert_array_equal(rendered, augment.render_view(view, image))
        for rendered in together:  # each has memory of its own
            rendered[:] = 0
        np.testing.assert_array_equal(image, before)
    assert augment.render_views([], image) == []


def test_a_view_that_changes_nothing_is_a_copy() -> None:
    image = np.full((48, 64, 3), 7, np.uint8)
    view = ViewTransform((64, 48), (64, 48), (0, 0, 64, 48), (64, 48), window=(0, 0, 64, 48))
    rendered = augment.render_view(view, image)
    np.testing.assert_array_equal(rendered, image)
    rendered[:] = 0
    assert (image == 7).all()


def test_image_of_another_size_is_rejected() -> None:
    (view,) = augment.sample_views("strong", 64, 48, random.Random(0), 1)
    with pytest.raises(ValueError, match=r"^the view belongs to an image of \(64, 48\), this one is 48 x 64$"):
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
        values = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return [flatten(item) for name, item in values.items() if name != "window" or item is not None]
    return value


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        ("strong", "97cb318f72e4e83be22728ea5a1981b7783c1540b667406d4b8ae676b61941ea"),
        ("cropped", "b79513c5d32953d74f10b2e3a017199d141fddf56d2b999ed57fe9d6e6faedd4"),
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


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        ("strong", "10b5c5b6a5cd0e1fa4c1a277278da7399b46aa2818d3364a58e8a11caff1913f"),
        ("published", "8aecc21d2ecf215289a2477f47d8ebacb3343cc7ed629ed31d84c0ace6fe22ce"),
    ],
)
def test_views_of_tiny_and_thin_images(kind: augment.ViewKind, digest: str) -> None:
    views = [
        augment.sample_views(kind, width, height, random.Random(seed))
        for seed in range(40)
        for width, height in ((1, 1), (2, 3), (3, 2), (1, 4000), (4000, 1))
    ]
    assert {len(pair) for pair in views} == {2}
    for pair in views:
        for view in pair:
            x, y, w, h = view.crop_box
            assert min(w, h, *view.content_size, *view.resize_to) >= 1
            assert 0 <= x <= view.resize_to[0] - w
            assert 0 <= y <= view.resize_to[1] - h
    assert hashlib.sha256(repr(flatten(views)).encode()).hexdigest() == digest


UNTURNED = [
    ViewTransform((7, 5), (7, 5), (0, 0, 7, 5), (1024, 731)),
    ViewTransform((7, 5), (7, 5), (0, 0, 7, 5), (1024, 731), hflip=True),
    ViewTransform((40, 30), (20, 15), (3, 2, 16, 12), (400, 300)),
    ViewTransform((30, 40), (90, 120), (11, 100, 70, 20), (700, 200), hflip=True),
    ViewTransform((3000, 2), (1024, 1), (500, 0, 480, 1), (1024, 2)),
]


@pytest.mark.parametrize("view", UNTURNED)
def test_every_pixel_of_an_unturned_view_in_exact_arithmetic(view: ViewTransform) -> None:
    x, y, w, h = view.crop_box
    width, height = view.content_size
    half = Fraction(1, 2)
    columns = [
        math.floor(
            (Fraction(w, width) * (width - c - half if view.hflip else c + half) + x)
            * Fraction(view.image_size[0], view.resize_to[0])
        )
        for c in range(width)
    ]
    rows = [
        math.floor((Fraction(h, height) * (r + half) + y) * Fraction(view.image_size[1], view.resize_to[1]))
        for r in range(height)
    ]
    expected = np.full((SIZE, SIZE), -1)
    expected[:height, :width] = np.array(rows)[:, None] * view.image_size[0] + columns
    pixel_map = augment.map_view_pixels(view)
    assert pixel_map.dtype == np.int32
    assert (pixel_map == expected).all()


@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("degrees", [14.0, -9.0, 90.0, 180.0])
def test_every_pixel_of_a_turned_view(degrees: float, hflip: bool) -> None:
    """Pixels that lie clearly inside an image pixel, from the rotation of complex numbers."""
    view = ViewTransform((50, 40), (100, 80), (10, 6, 80, 64), (640, 512), hflip, degrees, (0.45, 0.6))
    rows, columns = np.arange(0, SIZE, 7), np.arange(3, SIZE, 5)
    center = complex(0.45 * 640, 0.6 * 512)
    turned = (columns + 0.5 + 1j * (rows[:, None] + 0.5) - center) * np.exp(1j * np.deg2rad(degrees)) + center
    x, y = turned.real, turned.imag
    is_content = (x >= 0) & (x < 640) & (y >= 0) & (y < 512) & (columns < 640) & (rows[:, None] < 512)
    x, y = ((640 - x if hflip else x) * 80 / 640 + 10) / 2, (y * 64 / 512 + 6) / 2
    expected = np.where(is_content, np.floor(y) * 50 + np.floor(x), -1)
    distance = np.minimum(np.abs(x - np.rint(x)), np.abs(y - np.rint(y)))
    is_clear = distance > 1e-9
    seen = augment.map_view_pixels(view, rows, columns)
    assert (seen == expected)[is_clear].all()
    assert is_clear.mean() > 0.95
    assert 0.05 < is_content.mean() < 0.4
    assert (seen == augment.map_view_pixels(view)[rows][:, columns]).all()


def test_occluder_hides_the_content_and_not_the_padding() -> None:
    hidden = PhotometricTransform(occluder=((-5, -5), (300, -5), (300, 2000), (-5, 2000)), occluder_color=(1, 2, 3))
    view = ViewTransform((64, 48), (64, 48), (0, 0, 64, 48), (640, 480), photometric=hidden)
    rendered = augment.render_view(view, np.full((48, 64, 3), 200, np.uint8))
    assert (rendered.dtype, rendered.shape) == (np.uint8, (SIZE, SIZE, 3))
    assert (rendered[:480, :301] == (1, 2, 3)).all()
    assert (rendered[:480, 301:640] == 200).all()
    assert (rendered[480:] == 128).all()
    assert (rendered[:, 640:] == 128).all()
    plain = augment.map_view_pixels(dataclasses.replace(view, photometric=PhotometricTransform()))
    pixel_map = augment.map_view_pixels(view)
    assert (pixel_map[:480, :301] == -1).all()
    assert (pixel_map[:, 301:] == plain[:, 301:]).all()
    rows, columns = np.array([0, 200, 479, 480]), np.array([300, 301, 302])
    assert (augment.map_view_pixels(view, rows, columns) == pixel_map[rows][:, columns]).all()
    warped = augment.warp_masks(pixel_map, np.ones((2, 48, 64), bool))
    assert warped.dtype == bool
    assert (warped == (pixel_map >= 0)).all()


def make_noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height + width).integers(0, 256, (height, width, 3), np.uint8)


def test_pixels_of_an_image_that_fills_the_view() -> None:
    image = make_noise(SIZE, SIZE)
    kept = image.copy()
    view = ViewTransform((SIZE, SIZE), (SIZE, SIZE), (0, 0, SIZE, SIZE), (SIZE, SIZE))
    for degrees, hflip, expected in (
        (0.0, False, kept),
        (0.0, True, kept[:, ::-1]),
        (90.0, False, np.rot90(kept)),  # counter-clockwise
        (180.0, True, kept[::-1]),
    ):
        rendered = augment.render_view(dataclasses.replace(view, degrees=degrees, hflip=hflip), image)
        assert (rendered == expected).all()
        assert not np.shares_memory(rendered, image)
    assert (image == kept).all()


def test_pixels_that_a_rotation_leaves_free_are_padding() -> None:
    view = ViewTransform((100, 50), (100, 50), (0, 0, 100, 50), (SIZE, 512), degrees=12.0, center=(0.5, 0.5))
    rendered = augment.render_view(view, np.full((50, 100, 3), 10, np.uint8))
    assert [tuple(rendered[y, x]) for y, x in ((0, 0), (511, 0), (0, 1023), (511, 1023))] == [(128,) * 3] * 4
    assert (rendered[200:300, 300:700] == 10).all()
    assert set(np.unique(rendered[512:])) == {128}


def test_an_image_is_reduced_by_the_mean_of_areas_and_enlarged_bilinearly() -> None:
    image = make_noise(96, 128)
    for factor in (2, 4):
        size = (128 // factor, 96 // factor)
        view = ViewTransform((128, 96), size, (0, 0, *size), size)
        means = image.reshape(size[1], factor, size[0], factor, 3).mean(axis=(1, 3))
        assert np.abs(augment.render_view(view, image)[: size[1], : size[0]] - means).max() <= 0.5
    view = ViewTransform((128, 96), (128, 96), (20, 30, 64, 48), (256, 192))

    def blend(values: np.ndarray, axis: int) -> np.ndarray:
        n = values.shape[axis]
        at = np.clip((np.arange(4 * n) + 0.5) / 4 - 0.5, 0, n - 1)
        low = np.minimum(np.floor(at).astype(int), n - 2)
        share = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        return values.take(low, axis) * (1 - share) + values.take(low + 1, axis) * share

    expected = blend(blend(image[30:78, 20:84].astype(float), 0), 1)
    assert np.abs(augment.render_view(view, image)[:192, :256] - expected).max() <= 1


def test_masks_that_do_not_overlap_share_a_label_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "_MAX_LAYERS", 2)
    bitmaps = np.zeros((5, 3, 4), np.uint8)
    for k, columns in enumerate(((0, 2), (2, 4), (1, 3), (1, 2), (3, 4))):
        bitmaps[k, 1:, slice(*columns)] = 1
    layers, leftover = augment._layer_masks([masks.encode(bitmap) for bitmap in bitmaps])
    assert [layer.tolist() for layer in layers] == [
        [[0] * 4, [1, 1, 2, 2], [1, 1, 2, 2]],
        [[0] * 4, [0, 3, 3, 5], [0, 3, 3, 5]],
    ]
    assert leftover == [4]
    assert {layer.dtype for layer in layers} == {np.dtype(np.uint16)}
