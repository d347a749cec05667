"""The source ``frames`` on what annotation tools write: folders per video, RGB masks, label maps; and COCO's kin."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mmvm_data import cli
from mmvm_data.builders import open_source
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Video
from mmvm_data.pipeline.build import BuildOptions, build
from tests.ytvis_files import make_content, write_files

SIZE = (48, 36)
COLORS = {"dog": (250, 50, 83), "big cat": (255, 255, 255), "other": (36, 179, 83)}
SPLIT_BOXES = {"dog": (2, 2, 18, 16), "big cat": (24, 3, 20, 14), "other": (8, 20, 30, 14)}


def _draw(present: tuple[str, ...] = tuple(COLORS)) -> np.ndarray:
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    for name in present:
        x, y, w, h = SPLIT_BOXES[name]
        image[y : y + h, x : x + w] = COLORS[name]
    return image


def _write(root: Path, images: str, marks: str, pixels: list[np.ndarray]) -> Path:
    for f, mask in enumerate(pixels):
        for folder in (images, marks):
            (root / folder).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(f).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / images / f"{f:05d}.jpg")
        Image.fromarray(mask).save(root / marks / f"{f:05d}.png")
    return root


def _check(video: Video, position: int, names: dict[str, str], pixels: np.ndarray) -> None:
    found = {r.id: masks.decode(r.mask) for r in video.regions(position) if r.mask}
    assert set(found) == set(names.values())
    for color, name in names.items():
        assert (found[name] == (pixels == COLORS[color]).all(axis=2)).all()


def test_recorded_folders_per_video(cases: Path, tmp_path: Path) -> None:
    root = cases / "nested_video_folders"
    source = open_source("frames", root)
    assert list(source.videos) == ["a", "b"]
    for name in source.videos:
        video = source.load(name)
        assert len(video.annotated) == 4
        for position in video.annotated:
            stored = np.asarray(Image.open(root / name / f"Annotations/{position:05d}.png"))
            found = {int(r.id): masks.area(r.mask) for r in video.regions(position) if r.mask}
            assert found == {k: int((stored == k).sum()) for k in np.unique(stored).tolist() if k}
    assert list(open_source("frames", root / "a").videos) == ["a"]
    options = BuildOptions(sampling=SamplingOptions(min_sharpness=0, min_area=50, min_side=4))
    assert build("frames", root, tmp_path / "out", options).cases > 0
    with pytest.raises(InputError, match="there is no video 'c'"):
        source.load("c")


def test_folders_per_video_below_splits(tmp_path: Path) -> None:
    for name in ("train/x", "val/y"):
        _write(tmp_path, f"{name}/images", f"{name}/masks", [_draw()] * 2)
    assert list(open_source("frames", tmp_path).videos) == ["train/x", "val/y"]


def test_videos_of_splits(tmp_path: Path) -> None:
    for name in ("train/{}/x", "train/{}/y", "val/{}/x"):
        _write(tmp_path, name.format("JPEGImages"), name.format("Annotations"), [_draw()] * 2)
    (tmp_path / "val/JPEGImages/z").mkdir()
    _write(tmp_path, "one/images", "one/masks", [_draw()] * 2)
    source = open_source("frames", tmp_path)
    assert list(source.videos) == ["one", "train/x", "train/y", "val/x"]
    assert [(reject.video, reject.reason) for reject in source.rejects] == [("val/z", "frames without masks")]
    for name in source.videos:
        assert len(source.load(name).annotated) == 2


def test_rgb_masks_are_read_by_color(tmp_path: Path) -> None:
    pixels = [_draw(), _draw(("big cat",)), _draw(("other", "dog"))]
    root = _write(tmp_path, "images/v", "masks/v", pixels)
    video = open_source("frames", root).load("v")
    names = {"dog": "#fa3253", "big cat": "#ffffff", "other": "#24b353"}
    _check(video, 0, names, pixels[0])
    _check(video, 1, {"big cat": "#ffffff"}, pixels[1])
    _check(video, 2, {k: names[k] for k in ("dog", "other")}, pixels[2])
    assert {r.category for r in video.regions(0)} == {None}


@pytest.mark.parametrize("folder", ["", "SegmentationClass"])
def test_label_maps_name_colors(tmp_path: Path, folder: str) -> None:
    pixels = [_draw(), _draw(("big cat",)), _draw(("other", "dog"))]
    root = _write(tmp_path, "JPEGImages", "SegmentationClass", pixels)
    lines = [f"{name}:{','.join(map(str, color))}::" for name, color in COLORS.items()]
    head = "# label:color_rgb:parts:actions\nbackground:0,0,0::\n"
    (root / folder / "labelmap.txt").write_text(head + "\n".join(lines) + "\n")
    video = open_source("frames", root).load(root.name)
    for position, pixel in enumerate(pixels):
        present = {n: n for n, color in COLORS.items() if (pixel == color).all(axis=2).any()}
        _check(video, position, present, pixel)
        assert {r.category for r in video.regions(position)} == set(present)
    palette = Image.fromarray(pixels[0]).quantize(8)
    palette.save(root / "SegmentationClass/00000.png")
    _check(open_source("frames", root).load(root.name), 0, {n: n for n in COLORS}, pixels[0])
    (root / folder / "labelmap.txt").write_text(head + "\n".join(lines[:2]))
    with pytest.raises(InputError, match=r"00002\.png: color #24b353 is not in labelmap\.txt"):
        open_source("frames", root).load(root.name).regions(2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("dog:1,2", "line 1: name:red,green,blue with values from 0 to 255 is expected, found 'dog:1,2'"),
        ("#\ndog:1,2,256::", "line 2: name:red,green,blue"),
        ("dog:1,2,3::\ncat:1,2,3::", "line 2: the color of 'cat' has another name before"),
        ("dog:0,0,0::", "line 1: the color of 'dog' has another name before"),
    ],
)
def test_broken_label_maps(tmp_path: Path, text: str, reason: str) -> None:
    root = _write(tmp_path, "images/v", "masks/v", [_draw()] * 2)
    (root / "labelmap.txt").write_text(text)
    with pytest.raises(InputError) as caught:
        open_source("frames", root)
    assert f"labelmap.txt: {reason}" in str(caught.value)


def test_masks_without_frames_are_problems(tmp_path: Path) -> None:
    root = _write(tmp_path, "images/v", "masks/v", [_draw()] * 3)
    (root / "images/v/00001.jpg").unlink()
    (problem,) = open_source("frames", root).load("v").problems
    assert problem.reason == "1 PNG has the name of no frame: 00001.png"


def _coco(root: Path, image: dict[str, Any], path: str, side: float = 48) -> Path:
    _write(root, "x", "y", [_draw()])
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / "x/00000.jpg").rename(root / path)
    polygons = [[[x, y, x + w, y, x + w, y + h, x, y + h]] for x, y, w, h in SPLIT_BOXES.values()]
    annotations = [
        {"id": float(k), "image_id": 7, "category_id": 1.0, "segmentation": flat} for k, flat in enumerate(polygons)
    ]
    entry = {"id": 7, "width": side, "height": 36.0, **image}
    content = {"images": [entry], "categories": [{"id": 1, "name": "thing"}], "annotations": annotations}
    (root / "lvis_v1_train.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("folder", ["", "images/"])
def test_lvis_names_images_by_url_alone(tmp_path: Path, folder: str) -> None:
    url = "http://images.cocodataset.org/val2017/000000000007.jpg"
    root = _coco(tmp_path, {"coco_url": url}, f"{folder}val2017/000000000007.jpg")
    source = open_source("coco", root)
    video = source.load("7")
    assert (source.root / video.frames[0].path) == root / f"{folder}val2017/000000000007.jpg"
    assert {r.id for p in video.annotated for r in video.regions(p)} <= {"0", "1", "2"}
    assert any(video.regions(p) for p in video.annotated)


def test_sides_must_be_whole(tmp_path: Path) -> None:
    root = _coco(tmp_path, {"file_name": "a.jpg"}, "a.jpg", 48.5)
    with pytest.raises(InputError, match=r"image 7, width: an integer from 1 to 65535 is expected, found 48\.5"):
        open_source("coco", root).load("7")


def _boxes_ytvis(root: Path) -> Path:
    content = make_content()
    for annotation in content["annotations"]:
        annotation["bboxes"] = [[1, 2, 3, 4] for _ in annotation["segmentations"]]
        annotation["segmentations"] = [None for _ in annotation["segmentations"]]
    return write_files(root, content)


def _boxes_sa1b(root: Path) -> Path:
    _write(root, "x", "y", [_draw()])
    (root / "x/00000.jpg").rename(root / "sa_1.jpg")
    annotations = [{"id": 1, "bbox": [1, 2, 3, 4]}]
    image = {"width": 48, "height": 36, "file_name": "sa_1.jpg"}
    (root / "sa_1.json").write_text(json.dumps({"image": image, "annotations": annotations}))
    return root


@pytest.mark.parametrize(
    ("source", "write"), [("coco", lambda _: None), ("ytvis", _boxes_ytvis), ("sa1b", _boxes_sa1b)]
)
def test_boxes_without_masks_are_the_reason_that_is_printed(
    source: str, write: Callable[[Path], Path | None], tmp_path: Path, cases: Path
) -> None:
    root = write(tmp_path / "root") or cases / "coco_boxes_only"
    arguments = ["build", "--source", source, "--root", str(root), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli.cli, arguments)
    assert "annotations have boxes only" in done.output
    rejects = [json.loads(line) for line in (tmp_path / "out/rejects.jsonl").read_text().splitlines()]
    assert rejects
    assert all("annotations have boxes only" in reject["reason"] for reject in rejects)
    assert f"{len(rejects)} x annotations have boxes only" in done.output


def test_three_commonest_reasons_are_counted_without_their_numbers(tmp_path: Path) -> None:
    for k in range(6):
        _write(tmp_path, f"images/v{k}", f"masks/v{k}", [_draw()] * 2)
    for k in range(3):
        Image.new("L", (5 + k, 5)).save(tmp_path / f"masks/v{k}/00001.png")
    (tmp_path / "masks/v3/00001.png").unlink()
    (tmp_path / "images/alone").mkdir()
    result = build("frames", tmp_path, tmp_path / "out")
    assert len(result.common_reasons) == 3
    counts = dict(result.common_reasons)
    assert [n for reason, n in counts.items() if reason.startswith("mask is ")] == [3]
    again = build("frames", tmp_path, tmp_path / "out", BuildOptions(existing="resume"))
    assert again.common_reasons == result.common_reasons
