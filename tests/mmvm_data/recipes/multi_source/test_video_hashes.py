"""Copies of one video, or of one still image, are in one split also where their cases show other frames of it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from pycocotools import mask as coco

from mmvm_data.core.errors import UsageError
from mmvm_data.pipeline.options import BuildOptions
from mmvm_data.recipes.multi_source.build import build_recipe
from mmvm_data.recipes.multi_source.plan import make_plan
from mmvm_data.recipes.multi_source.recipe import read_recipe
from mmvm_data.recipes.multi_source.splits import VideoKey
from mmvm_data.recipes.multi_source.video_hashes import MAX_FRAMES, hash_videos
from tests.worlds import davis


def recompress(picture: Path, scale: float = 1) -> None:
    image = cv2.imread(str(picture))
    assert image is not None
    cv2.imwrite(str(picture), cv2.resize(image, None, fx=scale, fy=scale), [cv2.IMWRITE_JPEG_QUALITY, 70])


def write_videos(root: Path, name: str) -> Path:
    """Videos whose frames are not alike, as where the camera moves; equal for every name but for compression."""
    davis(root, videos=4, frames=20, objects=3, size=(80, 160))
    for folder in sorted((root / "JPEGImages/480p").iterdir()):
        for number, picture in enumerate(sorted(folder.iterdir())):
            rng = np.random.default_rng((int(folder.name[-3:]), number))
            ground = cv2.resize(rng.integers(0, 255, (5, 9, 3), dtype=np.uint8), (160, 80))
            image = cv2.imread(str(picture))
            assert image is not None
            cv2.imwrite(str(picture), cv2.addWeighted(ground, 0.7, image, 0.3, 0))
            recompress(picture)
    for kind in ("JPEGImages", "Annotations"):
        for folder in sorted((root / kind / "480p").iterdir()):
            folder.rename(folder.with_name(f"{name}{folder.name[-3:]}"))
    return root


def write_stills(root: Path, name: str) -> Path:
    """The same stills under names and numbers that differ."""
    first_id = 1000 if name == "first" else 2000
    images, annotations = [], []
    (root / "train2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    for number in range(5):
        rng = np.random.default_rng(number)
        picture = cv2.resize(rng.integers(0, 255, (9, 16, 3), dtype=np.uint8), (320, 200))
        file = f"{name}{number:03d}.jpg"
        for k in range(4):
            x, y = 20 + 70 * k, 60 + 5 * number
            picture[y : y + 40, x : x + 40] = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            bitmap = np.zeros((200, 320), np.uint8, order="F")
            bitmap[y : y + 40, x : x + 40] = 1
            rle = coco.encode(bitmap)
            record = {
                "id": len(annotations),
                "image_id": first_id + number,
                "category_id": 1,
                "iscrowd": 0,
                "area": 1600,
            }
            record |= {"bbox": [x, y, 40, 40], "segmentation": {"size": [200, 320], "counts": rle["counts"].decode()}}
            annotations.append(record)
        cv2.imwrite(str(root / "train2017" / file), picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
        images.append({"id": first_id + number, "file_name": file, "height": 200, "width": 320})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "box"}]}
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))
    return root


def write_recipe(folder: Path, reader: str, seed: int = 0) -> Path:
    sources = [{"name": name, "reader": reader, "root": name, "quota": 3} for name in ("first", "second")]
    sampling = {"cases_per_video": 1, "min_area": 50, "min_side": 5, "min_sharpness": 0, "none_share": 0.0}
    content = {"sources": sources, "sampling": sampling, "splits": {"train": 0.5, "test": 0.5}, "seed": seed}
    path = folder / f"recipe{seed}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copies")
    for name in ("first", "second"):
        write_videos(folder / "davis" / name, name)
        write_stills(folder / "coco" / name, name)
    for picture in folder.rglob("second/**/*.jpg"):
        recompress(picture)
    return folder


@pytest.mark.parametrize("reader", ["davis", "coco"])
def test_copies_are_in_one_split(reader: str, world: Path, tmp_path: Path) -> None:
    path = write_recipe(world / reader, reader, seed=1)
    build_recipe(read_recipe(path), world / reader, tmp_path / "out")
    splits: dict[str, set[str]] = {}
    shown: dict[str, list[int]] = {}
    for split in ("train", "test"):
        for line in (tmp_path / "out" / split / "cases.jsonl").read_text().splitlines():
            origin = json.loads(line)["provenance"]
            splits.setdefault(origin["video"][-3:], set()).add(split)
            shown.setdefault(origin["video"][-3:], []).extend(frame["index"] for frame in origin["frames"])
    assert any(len(set(frames)) == 4 for frames in shown.values()) or reader == "coco"  # no frame in common
    assert all(len(names) == 1 for names in splits.values()), splits


def test_one_case_an_image_also_where_cases_are_chosen(world: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(write_recipe(world / "coco", "coco").read_text())
    content |= {"balance": {"difficulty": {"hard": 1.0}, "pool_factor": 3}}
    del content["sampling"]["cases_per_video"], content["splits"]
    path = world / "coco/chosen.yaml"
    path.write_text(yaml.safe_dump(content))
    result = build_recipe(read_recipe(path), path.parent, tmp_path / "out")
    lines = (tmp_path / "out/cases.jsonl").read_text().splitlines()
    videos = [json.loads(line)["provenance"]["video"] for line in lines]
    assert result.build.cases == len(set(videos)) == 6


def test_frames_spread_over_each_video(world: Path) -> None:
    folder = world / "davis"
    broken = folder / "first/JPEGImages/480p/first000/00019.jpg"
    plan = make_plan(read_recipe(write_recipe(folder, "davis")), folder)
    videos = [VideoKey(source, "davis", f"{source}{k:03d}") for source in ("first", "second") for k in range(2)]
    alone = list(hash_videos(plan, videos, None, 1))
    assert [key for key, _ in alone] == videos
    assert all(len(set(hashes)) == MAX_FRAMES for _, hashes in alone)
    content = broken.read_bytes()
    broken.write_bytes(b"no image")
    try:
        (_, hashes), *rest = hash_videos(plan, videos, None, 1)
    finally:
        broken.write_bytes(content)
    assert hashes == alone[0].hashes[:-1] and rest == alone[1:]


@pytest.mark.slow
def test_equal_hashes_on_two_workers(world: Path) -> None:
    folder = world / "coco"
    plan = make_plan(read_recipe(write_recipe(folder, "coco")), folder)
    videos = [VideoKey("first", "coco", str(1000 + k)) for k in range(5)]
    alone = list(hash_videos(plan, videos, None, 1))
    assert all(len(hashes) == 1 for _, hashes in alone)
    assert list(hash_videos(plan, videos, None, 2)) == alone


@pytest.mark.parametrize("hook", ["progress", "choosing"])
def test_a_source_that_vanishes(hook: str, world: Path, tmp_path: Path) -> None:
    """While the other one is built, and before frames of its videos are hashed."""
    folder = world / "davis"
    path, done = write_recipe(folder, "davis"), []

    def vanish(state: object) -> None:
        if not done:
            done.append(state)
            (folder / "second").rename(folder / "gone")

    try:
        with pytest.raises(UsageError, match=r"^source 'second' of the recipe: .*second: cannot be read: No such file"):
            build_recipe(read_recipe(path), folder, tmp_path / "out", **{hook: vanish})
        assert done and not (tmp_path / "out").exists()
    finally:
        (folder / "gone").rename(folder / "second")
    result = build_recipe(read_recipe(path), folder, tmp_path / "out", BuildOptions(existing="resume"))
    assert result.build.cases == 6
