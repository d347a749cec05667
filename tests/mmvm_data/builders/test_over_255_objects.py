"""Frames of 300 objects, whose numbers do not fit into 8 bits, from the annotation to the written cases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from mmvm_data.builders import open_source
from mmvm_data.builders.proposals import add_proposals
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.cases.visibility import find_visible_objects
from mmvm_data.core import masks
from mmvm_data.core.types import Frame, Region
from mmvm_data.pipeline.build import BuildOptions, build
from tests.worlds import tree

COUNT, COLUMNS, CELL = 300, 20, 24
WIDTH, HEIGHT, FRAMES = COLUMNS * CELL, COUNT // COLUMNS * CELL, 3


def _labels(frame: int) -> np.ndarray:
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    for k in range(COUNT):
        y, x = CELL * (k // COLUMNS) + frame, CELL * (k % COLUMNS) + 1 + k % 3
        labels[y : y + 16 + k % 5, x : x + 15 + k % 4] = k + 1
    return labels


def _write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def _rle(labels: np.ndarray, label: int) -> dict[str, Any]:
    encoded = coco.encode(np.asfortranarray(labels == label, np.uint8))
    return {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}


def _frames(root: Path) -> Path:
    for f in range(FRAMES):
        _write_image(root / f"images/v/{f}.jpg", f)
        (root / "masks/v").mkdir(parents=True, exist_ok=True)
        Image.fromarray(_labels(f).astype(np.uint16)).save(root / f"masks/v/{f}.png")
    return root


def _ytvis(root: Path) -> Path:
    files = [f"v/{f}.jpg" for f in range(FRAMES)]
    for f, file in enumerate(files):
        _write_image(root / "train/JPEGImages" / file, f)
    annotations = [
        {
            "id": k,
            "video_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            "segmentations": [_rle(_labels(f), k) for f in range(FRAMES)],
        }
        for k in range(1, COUNT + 1)
    ]
    video = {"id": 1, "file_names": files, "width": WIDTH, "height": HEIGHT, "length": FRAMES}
    content = {"videos": [video], "categories": [{"id": 1, "name": "cell"}], "annotations": annotations}
    (root / "train.json").write_text(json.dumps(content))
    return root


def _mot20(root: Path) -> Path:
    lines = []
    for f in range(FRAMES):
        _write_image(root / f"train/MOT20-01/img1/{f + 1:06d}.jpg", f)
        for k in range(COUNT):
            x, y = CELL * (k % COLUMNS) + 2, CELL * (k // COLUMNS) + 1 + f
            lines.append(f"{f + 1},{k + 1},{x},{y},{15 + k % 4},{16 + k % 5},1,1,1")
    (root / "train/MOT20-01/gt").mkdir()
    (root / "train/MOT20-01/gt/gt.txt").write_text("\n".join(lines))
    return root


def _sa1b(root: Path) -> Path:
    _write_image(root / "sa_1.jpg", 0)
    annotations = [{"id": k, "segmentation": _rle(_labels(0), k)} for k in range(1, COUNT + 1)]
    image = {"image_id": 1, "width": WIDTH, "height": HEIGHT, "file_name": "sa_1.jpg"}
    (root / "sa_1.json").write_text(json.dumps({"image": image, "annotations": annotations}))
    return root


def _coco(root: Path) -> Path:
    _write_image(root / "train2017/1.jpg", 0)
    annotations = [
        {"id": k, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": _rle(_labels(0), k)}
        for k in range(1, COUNT + 1)
    ]
    image = {"id": 1, "width": WIDTH, "height": HEIGHT, "file_name": "1.jpg"}
    (root / "annotations").mkdir()
    content = {"images": [image], "categories": [{"id": 1, "name": "cell"}], "annotations": annotations}
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("source", "write"),
    [("frames", _frames), ("ytvis", _ytvis), ("mot20", _mot20), ("sa1b", _sa1b), ("coco", _coco)],
)
def test_builds_with_one_and_two_workers(source: str, write: Callable[[Path], Path], tmp_path: Path) -> None:
    root = write(tmp_path / "root")
    opened = open_source(source, root)
    (video,) = (opened.load(v) for v in opened.videos)
    regions = video.regions(0)
    if source not in ("sa1b", "coco"):  # a view may cut objects off
        assert {r.id for r in regions} == {str(k) for k in range(1, COUNT + 1)}
    if source in ("frames", "ytvis"):
        single = {str(k): int(np.count_nonzero(_labels(0) == k)) for k in range(1, COUNT + 1)}
        assert {r.id: masks.area(r.mask) for r in regions if r.mask} == single
    # the cells are small and of the same noise as the rest
    sampling = SamplingOptions(seed=1, cases_per_video=3, min_area=100, min_side=8, min_share=0.0, min_contrast=0.0)
    trees = []
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        result = build(source, root, out, BuildOptions(sampling=sampling, workers=workers))
        assert (result.cases, result.rejects) == (3, 0)
        trees.append(tree(out))
    assert trees[0] == trees[1]
    records = [json.loads(line) for line in (tmp_path / "out1/cases.jsonl").read_text().splitlines()]
    least = 100 if source in ("sa1b", "coco") else 256
    assert all(record["provenance"]["visible"] >= least for record in records)


def test_the_recorded_case_has_the_masks_of_its_pngs_and_is_built(cases: Path, tmp_path: Path) -> None:
    root = cases / "over_255_objects"
    source = open_source("frames", root)
    video = source.load("aa")
    for position in video.annotated:
        stored = np.asarray(Image.open(root / f"masks/aa/{Path(video.frames[position].path).stem}.png"))
        found = {int(r.id): masks.area(r.mask) for r in video.regions(position) if r.mask}
        assert found == {k: int(np.count_nonzero(stored == k)) for k in np.unique(stored).tolist() if k}
    sampling = SamplingOptions(min_area=1, min_side=1, min_sharpness=0)
    assert build("frames", root, tmp_path / "out", BuildOptions(sampling=sampling)).cases > 0


def test_occlusion_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = Frame(path="f.jpg", index=0, width=400, height=60)
    boxes = [(10.0 * k, 4.0 * (k % 3), 12.0 + k % 5, 20.0) for k in range(38)]
    regions = [Region(id=str(k), box=box) for k, box in enumerate(boxes)]
    options = SamplingOptions(min_area=1, min_side=1, max_occlusion=0.3)
    usable = find_visible_objects(regions, frame, options)
    assert 0 < len(usable[0]) < 38
    for rows in (1, 7, 38):
        monkeypatch.setattr("mmvm_data.core.masks._OVERLAP_ROWS", rows)
        assert find_visible_objects(regions, frame, options) == usable


def test_300_proposals(tmp_path: Path) -> None:
    root = _frames(tmp_path)
    images = tmp_path / "one"
    for f in range(FRAMES):
        _write_image(images / f"images/v/{f}.jpg", f)
        (images / "masks/v").mkdir(parents=True, exist_ok=True)
        Image.fromarray((_labels(f) == 300).astype(np.uint8)).save(images / f"masks/v/{f}.png")
    video = add_proposals(open_source("frames", images), root / "masks").load("v")
    assert len(video.regions(0)) == 1 + 299  # the proposal of the object itself is dropped
