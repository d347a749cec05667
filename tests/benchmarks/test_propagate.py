"""The harness of assisted drawing, with a segmenter that needs no weights: what it counts, not how good a model is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.benchmarks.harnesses import load_harness
from tests.mmvm_data.annotation.tracks.segmenters import ColorSegmenter


@pytest.fixture(scope="module")
def harness() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        yield load_harness("propagate", patch)


def write_pictures(root: Path, xs: list[int | None]) -> None:
    """A red square and a small one in DAVIS' layout; where x is None, the large one has changed its color and place."""
    images, truth = root / "davis2016_val/DAVIS/JPEGImages/480p/soapbox", root / "davis2016_val/DAVIS/Annotations"
    truth = truth / "480p/soapbox"
    images.mkdir(parents=True)
    truth.mkdir(parents=True)
    ground = np.random.default_rng(0).integers(60, 100, (12, 16, 3), dtype=np.uint8)
    for number, x in enumerate(xs):
        image = cv2.resize(ground, (160, 120))
        labels = np.zeros((120, 160), np.uint8)
        top, left, color = (40, x, (20, 20, 230)) if x is not None else (80, 110, (230, 200, 20))
        image[top : top + 30, left : left + 40] = color
        labels[top : top + 30, left : left + 40] = 1
        labels[:5, :5] = 2  # too small
        cv2.imwrite(str(images / f"{number:05d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
        Image.fromarray(labels).save(truth / f"{number:05d}.png")


def measure(harness: ModuleType, tmp_path: Path, pictures: int, corrections: int) -> dict[str, Any]:
    shot = harness.read_shot(tmp_path, "soapbox", pictures)
    assert list(shot.objects()) == [1]
    segmenter = harness.CachedSegmenter(ColorSegmenter())
    found: dict[str, Any] = harness.measure(tmp_path / "clips", "soapbox", shot, segmenter, corrections)
    return found


def test_one_box_is_enough_where_nothing_goes_wrong(harness: ModuleType, tmp_path: Path) -> None:
    write_pictures(tmp_path, [10, 15, 20, 25, 30, 35])
    found = measure(harness, tmp_path, 4, 2)
    assert (found["pictures"], found["size"]) == (4, [120, 160])
    (row,) = found["objects"]
    assert (row["pixels"], row["boxes_in_pictures"], row["actions"], row["within"]) == (1200, [0], 4, True)
    assert row["mean_iou"] == found["mean_iou"] > 0.95
    assert len(row["iou_by_picture"]) == 4


def test_the_worst_picture_is_corrected(harness: ModuleType, tmp_path: Path) -> None:
    write_pictures(tmp_path, [10, 15, 20, None, None, None])
    (row,) = measure(harness, tmp_path, 6, 2)["objects"]
    assert row["boxes_in_pictures"] == [0, 3]
    assert (row["actions"], row["within"]) == (6, True)
    assert row["mean_iou_after"][0] < 0.6 < 0.95 < row["mean_iou_after"][1]
    assert row["worst_iou_after"][0] == 0
    (row,) = measure(harness, tmp_path, 6, 0)["objects"]
    assert (row["boxes_in_pictures"], row["actions"], row["within"]) == ([0], 4, False)
